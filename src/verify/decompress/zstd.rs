//! Zstandard (RFC 8878): frames one after the other, skippable ones anywhere among them.
//!
//! A frame's header is read here (section 3.1.1.1) before any decoder sees it, so that nothing is allocated for a
//! window that is refused, and so that a layer can wait for its window with all the bytes after the header still in
//! the caller's hands. The rest of the frame, its checksum included, is libzstd's. Skippable frames are skipped here.

use std::fmt;

use ::zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation as _, OutBuffer};

use super::window::{Permit, WindowBudget};
use super::{DecodeError, Encoding};
use crate::verify::Accepted;
use crate::verify::diff_id::Uncompressed;

/// The largest window that is accepted: `zstd --long=27`, which is also what zstd itself takes without being told.
const LARGEST_WINDOW: u64 = 1 << LARGEST_WINDOW_LOG;
const LARGEST_WINDOW_LOG: u32 = 27;

/// The smallest window that a decoder works with.
const SMALLEST_WINDOW: u64 = 1 << 10;

/// A decoder whose window is no larger than this is kept for frames that need less: giving it up would free little
/// and cost an allocation a frame.
const KEPT_WINDOW: u64 = 1 << 20;

/// How often a layer may exchange its decoder for a smaller one. Beyond that it keeps what it has: a hostile one that
/// goes up and down with every frame of nine bytes would spend its time on allocations.
const MOST_REDUCTIONS: u32 = 64;

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Magic number, descriptor, window, dictionary and content size, the last two at their longest.
const LONGEST_HEADER: usize = 4 + 1 + 1 + 4 + 8;

/// Decodes one zstd stream.
pub(super) struct Zstd {
    part: Part,
    /// A frame's header, as far as it has come.
    header: [u8; LONGEST_HEADER],
    known: usize,
    live: Option<Live>,
    reductions: u32,
    budget: WindowBudget,
    /// Where the current frame begins.
    frame: u64,
    /// How many compressed bytes were taken in.
    position: u64,
}

/// What comes next.
#[derive(Debug, Clone, Copy)]
enum Part {
    Header,
    /// The content of a skippable frame, with its bytes left.
    Skipped(u64),
    /// The blocks of a frame that has no decoder yet, with the memory that its window takes.
    Waiting(u64),
    Blocks,
}

/// A decoder and the permit for its window.
struct Live {
    // Dropped before the permit, so that the memory is free when the budget says so.
    decoder: Decoder<'static>,
    permit: Permit,
}

impl fmt::Debug for Zstd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let window = self.live.as_ref().map(|live| live.permit.bytes());
        f.debug_struct("Zstd")
            .field("part", &self.part)
            .field("window", &window)
            .field("frame", &self.frame)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl Zstd {
    pub(super) fn new(budget: WindowBudget) -> Self {
        Self {
            part: Part::Header,
            header: [0; LONGEST_HEADER],
            known: 0,
            live: None,
            reductions: 0,
            budget,
            frame: 0,
            position: 0,
        }
    }

    /// Takes in all of `input`, or as much as goes without a window that is not free.
    pub(super) fn write(&mut self, input: &[u8], output: &mut Uncompressed) -> Result<Accepted, DecodeError> {
        let mut rest = input;
        while !rest.is_empty() {
            let used = match self.part {
                Part::Header => self.header(rest)?,
                Part::Skipped(left) => self.skip(rest, left),
                Part::Waiting(window) => {
                    if !self.begin(window, output)? {
                        let consumed = input.len() - rest.len();
                        return Ok(Accepted { consumed, blocked: Some(window) });
                    }
                    0
                }
                Part::Blocks => self.blocks(rest, output)?,
            };
            self.position += used as u64;
            rest = &rest[used..];
        }
        Ok(Accepted::all(input.len()))
    }

    /// The end of the input.
    pub(super) fn finish(&self) -> Result<(), DecodeError> {
        match self.part {
            Part::Header if self.known == 0 => Ok(()),
            _ => Err(DecodeError::Truncated { encoding: Encoding::Zstd, offset: self.frame }),
        }
    }

    fn header(&mut self, input: &[u8]) -> Result<usize, DecodeError> {
        let mut used = 0;
        loop {
            let known = &self.header[..self.known];
            match parse(known).map_err(|refusal| refusal.at(self.frame))? {
                Header::Longer if used == input.len() => return Ok(used),
                Header::Longer => {
                    self.header[self.known] = input[used];
                    self.known += 1;
                    used += 1;
                }
                Header::Skippable { length } => {
                    self.part = Part::Skipped(length);
                    if length == 0 {
                        self.end_frame(used);
                    }
                    return Ok(used);
                }
                Header::Frame { memory } => {
                    self.part = Part::Waiting(memory);
                    return Ok(used);
                }
            }
        }
    }

    fn skip(&mut self, input: &[u8], left: u64) -> usize {
        let used = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
        self.part = Part::Skipped(left - used as u64);
        if left == used as u64 {
            self.end_frame(used);
        }
        used
    }

    /// Sees to a decoder with a window of `window` bytes and shows it the header. False when there is none to be had.
    fn begin(&mut self, window: u64, output: &mut Uncompressed) -> Result<bool, DecodeError> {
        let held = self.live.as_ref().map_or(0, |live| live.permit.bytes());
        let kept = held <= KEPT_WINDOW || self.reductions == MOST_REDUCTIONS;
        if held < window || (held > window && !kept) {
            self.reductions += u32::from(held > window);
            // First of all given back: waiting for a window with another in hand could wait for ever.
            self.live = None;
            let Some(permit) = self.budget.acquire(window) else { return Ok(false) };
            let decoder = decoder().map_err(|error| self.damaged(&error))?;
            self.live = Some(Live { decoder, permit });
        }
        self.part = Part::Blocks;
        // By itself: seen together with the blocks, a small frame would be decoded by another, laxer way.
        let header = self.header;
        self.blocks(&header[..self.known], output)?;
        Ok(true)
    }

    fn blocks(&mut self, input: &[u8], output: &mut Uncompressed) -> Result<usize, DecodeError> {
        let mut input = InBuffer::around(input);
        loop {
            let Some(live) = &mut self.live else { return Err(self.damaged(&"there is no decoder")) };
            let room = output.room()?;
            let size = room.len();
            let mut window = OutBuffer::around(room);
            let before = input.pos();
            let outcome = live.decoder.run(&mut input, &mut window);
            let produced = window.pos();
            let left = outcome.map_err(|error| self.damaged(&error))?;
            output.advance(produced)?;
            if left == 0 {
                self.end_frame(input.pos());
                return Ok(input.pos());
            }
            if produced == size {
                // There may be more output without more input.
                continue;
            }
            if input.pos() == input.src.len() {
                return Ok(input.pos());
            }
            if input.pos() == before && produced == 0 {
                return Err(self.damaged(&"the frame cannot be continued"));
            }
        }
    }

    /// The current frame ends `used` bytes after the current position.
    fn end_frame(&mut self, used: usize) {
        self.part = Part::Header;
        self.known = 0;
        self.frame = self.position + used as u64;
    }

    fn damaged(&self, reason: &dyn fmt::Display) -> DecodeError {
        let reason = reason.to_string();
        DecodeError::Damaged { encoding: Encoding::Zstd, offset: self.frame, reason }
    }
}

fn decoder() -> std::io::Result<Decoder<'static>> {
    let mut decoder = Decoder::new()?;
    decoder.set_parameter(DParameter::WindowLogMax(LARGEST_WINDOW_LOG))?;
    Ok(decoder)
}

/// What the first bytes of a frame say.
#[derive(Debug, PartialEq, Eq)]
enum Header {
    /// There is more of it to come.
    Longer,
    Skippable {
        /// The content's length.
        length: u64,
    },
    Frame {
        /// What a decoder keeps of the output: the window, or the whole content where that is less.
        memory: u64,
    },
}

/// Why a frame is refused by its header.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    Magic,
    Reserved,
    Window(u64),
    Dictionary(u32),
}

impl Refusal {
    fn at(self, offset: u64) -> DecodeError {
        let encoding = Encoding::Zstd;
        match self {
            Self::Magic => DecodeError::Trailing { encoding, offset },
            Self::Reserved => {
                DecodeError::Damaged { encoding, offset, reason: "a reserved header bit is set".into() }
            }
            Self::Window(window) => DecodeError::WindowTooLarge { offset, window, limit: LARGEST_WINDOW },
            Self::Dictionary(dictionary) => DecodeError::Dictionary { offset, dictionary },
        }
    }
}

/// Reads a frame's header from its first bytes: RFC 8878, sections 3.1.1.1 and 3.1.2.
fn parse(bytes: &[u8]) -> Result<Header, Refusal> {
    if bytes.iter().zip(MAGIC).all(|(found, wanted)| *found == wanted) {
        return if bytes.len() < 5 { Ok(Header::Longer) } else { parse_frame(bytes[4], &bytes[5..]) };
    }
    let skippable = [0x50, 0x2a, 0x4d, 0x18];
    let masks = [0xf0, 0xff, 0xff, 0xff];
    if !bytes.iter().zip(skippable).zip(masks).all(|((found, wanted), mask)| found & mask == wanted) {
        return Err(Refusal::Magic);
    }
    Ok(match bytes.get(4..8) {
        None => Header::Longer,
        Some(length) => Header::Skippable { length: little_endian(length) },
    })
}

/// The part of the header that comes after magic number and `descriptor`.
fn parse_frame(descriptor: u8, fields: &[u8]) -> Result<Header, Refusal> {
    if descriptor & 0b1000 != 0 {
        return Err(Refusal::Reserved);
    }
    let single_segment = descriptor & 0b10_0000 != 0;
    let window_length = usize::from(!single_segment);
    let dictionary_length = [0, 1, 2, 4][usize::from(descriptor & 0b11)];
    let content_length = match (descriptor >> 6, single_segment) {
        (0, false) => 0,
        (0, true) => 1,
        (1, _) => 2,
        (2, _) => 4,
        (_, _) => 8,
    };
    if fields.len() < window_length + dictionary_length + content_length {
        return Ok(Header::Longer);
    }
    let (window, fields) = fields.split_at(window_length);
    let (dictionary, fields) = fields.split_at(dictionary_length);
    // A length of two bytes counts from 256 (section 3.1.1.1.4).
    let content = match content_length {
        0 => u64::MAX,
        2 => little_endian(&fields[..2]) + 256,
        length => little_endian(&fields[..length]),
    };
    let window = window.first().map_or(content, |byte| {
        let base = 1_u64 << (10 + (byte >> 3));
        base + (base / 8) * u64::from(byte & 0b111)
    });
    let dictionary = little_endian(dictionary);
    if let Ok(dictionary @ 1..) = u32::try_from(dictionary) {
        return Err(Refusal::Dictionary(dictionary));
    }
    if window > LARGEST_WINDOW {
        return Err(Refusal::Window(window));
    }
    Ok(Header::Frame { memory: window.min(content).max(SMALLEST_WINDOW) })
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(bytes: &[u8]) -> Result<Header, Refusal> {
        let frame = [&MAGIC, bytes].concat();
        for length in 0..frame.len() {
            let outcome = parse(&frame[..length]);
            assert!(
                outcome == Ok(Header::Longer) || length == 5,
                "{length} bytes of {frame:02x?}: {outcome:?}"
            );
        }
        parse(&frame)
    }

    /// The window is known from the header alone, in all of its shapes.
    #[test]
    fn header_tells_the_window() {
        let cases: [(&[u8], Result<Header, Refusal>); 16] = [
            // A window descriptor and no content size.
            (&[0x00, 0x00], Ok(Header::Frame { memory: 1024 })),
            (&[0x00, 0x07], Ok(Header::Frame { memory: 1024 + 7 * 128 })),
            (&[0x00, 0x58], Ok(Header::Frame { memory: 2 << 20 })),
            (&[0x00, 17 << 3], Ok(Header::Frame { memory: 1 << 27 })),
            (&[0x00, (17 << 3) | 1], Err(Refusal::Window((1 << 27) + (1 << 24)))),
            (&[0x00, 18 << 3], Err(Refusal::Window(1 << 28))),
            (&[0x00, 0xff], Err(Refusal::Window((1 << 41) + 7 * (1 << 38)))),
            // The content is less than the window.
            (&[0x80, 0x58, 0, 0, 1, 0], Ok(Header::Frame { memory: 1 << 16 })),
            // A single segment's window is its content.
            (&[0x20, 0], Ok(Header::Frame { memory: 1024 })),
            (&[0x60, 0xff, 0xff], Ok(Header::Frame { memory: 65_535 + 256 })),
            (&[0xa0, 0, 0, 0, 8], Ok(Header::Frame { memory: 1 << 27 })),
            (&[0xa0, 1, 0, 0, 8], Err(Refusal::Window((1 << 27) + 1))),
            (&[0xe0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Err(Refusal::Window(u64::MAX))),
            // Dictionaries; number 0 means that there is none.
            (&[0x01, 0x00, 0x00], Ok(Header::Frame { memory: 1024 })),
            (&[0x03, 0x00, 1, 2, 3, 4], Err(Refusal::Dictionary(0x0403_0201))),
            (&[0x08], Err(Refusal::Reserved)),
        ];
        for (bytes, outcome) in cases {
            assert_eq!(header(bytes), outcome, "{bytes:02x?}");
        }
    }

    /// Any of the sixteen numbers makes a skippable frame; what is nearly one of them does not.
    #[test]
    fn skippable_frames_are_told() {
        for low in 0x50..=0x5f {
            let frame = [low, 0x2a, 0x4d, 0x18, 1, 2, 0, 0x80];
            assert_eq!(parse(&frame), Ok(Header::Skippable { length: 0x8000_0201 }));
            assert_eq!(parse(&frame[..7]), Ok(Header::Longer));
        }
        for bytes in [[0x60, 0x2a, 0x4d, 0x18], [0x50, 0x2a, 0x4d, 0x19], [0x28, 0xb5, 0x2f, 0xfc]] {
            assert_eq!(parse(&bytes), Err(Refusal::Magic));
        }
    }
}
