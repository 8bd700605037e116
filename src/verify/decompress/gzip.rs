//! gzip (RFC 1952): members one after the other, each a header, a deflate stream and a trailer.
//!
//! Headers and trailers are read here and only the deflate stream is left to the inflater, which can then be reset
//! from member to member instead of being made anew: a layer of a million empty members costs no more than its bytes
//! suggest. The trailer's CRC and length must hold, a header's CRC too, and reserved flags are an error (section
//! 2.3.1.2). Nothing of a header is kept, so that names and comments may have any length.

use flate2::{Decompress, FlushDecompress, Status};

use super::{DecodeError, Encoding};
use crate::verify::diff_id::Uncompressed;

const HEADER_CRC: u8 = 0b0_0010;
const EXTRA: u8 = 0b0_0100;
const NAME: u8 = 0b0_1000;
const COMMENT: u8 = 0b1_0000;
const RESERVED: u8 = 0b1110_0000;

/// Decodes one gzip stream.
#[derive(Debug)]
pub(super) struct Gzip {
    part: Part,
    /// The bytes of a part of fixed length, as far as they have come.
    held: [u8; 10],
    holding: usize,
    flags: u8,
    header_crc: crc32fast::Hasher,
    /// What is left of the extra field.
    extra: usize,
    inflate: Decompress,
    crc: crc32fast::Hasher,
    /// The member's uncompressed length.
    length: u64,
    /// Where the current member begins.
    member: u64,
    /// How many compressed bytes were taken in.
    position: u64,
}

/// What comes next. The optional parts of a header come in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Fixed,
    ExtraLength,
    Extra,
    Name,
    Comment,
    HeaderCrc,
    Deflate,
    Trailer,
}

impl Default for Gzip {
    fn default() -> Self {
        Self {
            part: Part::Fixed,
            held: [0; 10],
            holding: 0,
            flags: 0,
            header_crc: crc32fast::Hasher::new(),
            extra: 0,
            inflate: Decompress::new(false),
            crc: crc32fast::Hasher::new(),
            length: 0,
            member: 0,
            position: 0,
        }
    }
}

impl Gzip {
    /// Takes in all of `input`.
    pub(super) fn write(&mut self, mut input: &[u8], output: &mut Uncompressed) -> Result<(), DecodeError> {
        while !input.is_empty() {
            let used = match self.part {
                Part::Fixed => self.fixed(input)?,
                Part::ExtraLength => self.extra_length(input),
                Part::Extra => self.extra(input),
                Part::Name => self.text(input, Part::Comment),
                Part::Comment => self.text(input, Part::HeaderCrc),
                Part::HeaderCrc => self.check_header(input)?,
                Part::Deflate => self.inflate(input, output)?,
                Part::Trailer => self.trailer(input)?,
            };
            self.position += used as u64;
            input = &input[used..];
        }
        Ok(())
    }

    /// The end of the input.
    pub(super) fn finish(&self) -> Result<(), DecodeError> {
        if self.part == Part::Fixed && self.holding == 0 {
            return Ok(());
        }
        Err(DecodeError::Truncated { encoding: Encoding::Gzip, offset: self.member })
    }

    fn fixed(&mut self, input: &[u8]) -> Result<usize, DecodeError> {
        let (used, header) = self.hold::<10>(input);
        let known = header.as_ref().map_or(&self.held[..self.holding], |header| &header[..]);
        if !known.iter().zip([0x1f, 0x8b]).all(|(found, wanted)| *found == wanted) {
            return Err(DecodeError::Trailing { encoding: Encoding::Gzip, offset: self.member });
        }
        let Some(header) = header else { return Ok(used) };
        let [_, _, method, flags, ..] = header;
        if method != 8 {
            return Err(self.damaged(format!("unknown compression method {method}")));
        }
        if flags & RESERVED != 0 {
            return Err(self.damaged(format!("reserved header flags are set ({flags:#04x})")));
        }
        self.flags = flags;
        self.header_crc.reset();
        self.header_bytes(&header);
        self.enter(Part::ExtraLength);
        Ok(used)
    }

    fn extra_length(&mut self, input: &[u8]) -> usize {
        let (used, length) = self.hold::<2>(input);
        if let Some(length) = length {
            self.header_bytes(&length);
            self.extra = usize::from(u16::from_le_bytes(length));
            self.enter(if self.extra == 0 { Part::Name } else { Part::Extra });
        }
        used
    }

    fn extra(&mut self, input: &[u8]) -> usize {
        let used = input.len().min(self.extra);
        self.header_bytes(&input[..used]);
        self.extra -= used;
        if self.extra == 0 {
            self.enter(Part::Name);
        }
        used
    }

    /// A name or a comment, which ends with a zero byte.
    fn text(&mut self, input: &[u8], next: Part) -> usize {
        let end = input.iter().position(|byte| *byte == 0);
        let used = end.map_or(input.len(), |end| end + 1);
        self.header_bytes(&input[..used]);
        if end.is_some() {
            self.enter(next);
        }
        used
    }

    fn check_header(&mut self, input: &[u8]) -> Result<usize, DecodeError> {
        let (used, crc) = self.hold::<2>(input);
        if let Some([low, high]) = crc {
            let [found_low, found_high, ..] = self.header_crc.clone().finalize().to_le_bytes();
            if [low, high] != [found_low, found_high] {
                return Err(self.damaged("the header's checksum does not hold"));
            }
            self.enter(Part::Deflate);
        }
        Ok(used)
    }

    fn inflate(&mut self, input: &[u8], output: &mut Uncompressed) -> Result<usize, DecodeError> {
        let mut used = 0;
        loop {
            let room = output.room()?;
            let (consumed, produced) = (self.inflate.total_in(), self.inflate.total_out());
            let outcome = self.inflate.decompress(&input[used..], room, FlushDecompress::None);
            // Not the inflater's own message, which depends on where a chunk ended.
            let status = outcome.map_err(|_| self.damaged("the deflate data is not valid"))?;
            // Differences of two counters that grew by no more than a slice's length.
            let consumed = usize::try_from(self.inflate.total_in() - consumed).unwrap_or(usize::MAX);
            let produced = usize::try_from(self.inflate.total_out() - produced).unwrap_or(usize::MAX);
            let full = produced == room.len();
            self.crc.update(&room[..produced]);
            self.length += produced as u64;
            output.advance(produced)?;
            used += consumed;
            if status == Status::StreamEnd {
                self.enter(Part::Trailer);
                return Ok(used);
            }
            if full {
                // There may be more output without more input.
                continue;
            }
            if used == input.len() {
                return Ok(used);
            }
            if consumed == 0 && produced == 0 {
                return Err(self.damaged("the deflate data cannot be continued"));
            }
        }
    }

    fn trailer(&mut self, input: &[u8]) -> Result<usize, DecodeError> {
        let (used, trailer) = self.hold::<8>(input);
        if let Some([a, b, c, d, length @ ..]) = trailer {
            if u32::from_le_bytes([a, b, c, d]) != self.crc.clone().finalize() {
                return Err(self.damaged("the checksum does not hold"));
            }
            // Modulo 2^32 (section 2.3.1).
            if u64::from(u32::from_le_bytes(length)) != self.length & u64::from(u32::MAX) {
                return Err(self.damaged("the length does not hold"));
            }
            self.member = self.position + used as u64;
            self.enter(Part::Fixed);
        }
        Ok(used)
    }

    /// Goes on to `part`, or to the next one that this member's header has.
    fn enter(&mut self, part: Part) {
        let has = |flag| self.flags & flag != 0;
        self.part = match part {
            Part::ExtraLength if !has(EXTRA) => return self.enter(Part::Name),
            Part::Name if !has(NAME) => return self.enter(Part::Comment),
            Part::Comment if !has(COMMENT) => return self.enter(Part::HeaderCrc),
            Part::HeaderCrc if !has(HEADER_CRC) => return self.enter(Part::Deflate),
            part => part,
        };
        if self.part == Part::Deflate {
            self.inflate.reset(false);
            self.crc.reset();
            self.length = 0;
        }
    }

    /// Collects `N` bytes over as many chunks as it takes; says how many of `input` it took.
    fn hold<const N: usize>(&mut self, input: &[u8]) -> (usize, Option<[u8; N]>) {
        let used = input.len().min(N - self.holding);
        self.held[self.holding..self.holding + used].copy_from_slice(&input[..used]);
        self.holding += used;
        let whole = self.held.first_chunk::<N>().copied().filter(|_| self.holding == N);
        if whole.is_some() {
            self.holding = 0;
        }
        (used, whole)
    }

    fn header_bytes(&mut self, bytes: &[u8]) {
        if self.flags & HEADER_CRC != 0 {
            self.header_crc.update(bytes);
        }
    }

    fn damaged(&self, reason: impl Into<String>) -> DecodeError {
        DecodeError::Damaged { encoding: Encoding::Gzip, offset: self.member, reason: reason.into() }
    }
}
