//! Which part of a blob a `Range` header asks for (RFC 9110, section 14).
//!
//! One range of bytes is served. Several at once, another unit, and what cannot be read are answered with the whole
//! blob, as the RFC allows and clients of registries expect.

use std::ops::Range;

use http_range_header::{EndPosition, RangeUnsatisfiableError, StartPosition, parse_range_header};

/// What to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// All of it.
    Whole,
    /// These bytes; never none.
    Part(Range<u64>),
    /// The range has no byte of it.
    Unsatisfiable,
}

/// What the header asks for of a blob of `size` bytes.
pub(super) fn asked(header: Option<&str>, size: u64) -> Asked {
    let Some(header) = header else { return Asked::Whole };
    let ranges = match parse_range_header(header.trim()) {
        Ok(parsed) => parsed.ranges,
        Err(RangeUnsatisfiableError::ZeroSuffix) => return Asked::Unsatisfiable,
        Err(_) => return Asked::Whole,
    };
    let [range] = ranges.as_slice() else { return Asked::Whole };
    let start = match range.start {
        StartPosition::Index(start) => start,
        StartPosition::FromLast(length) => size.saturating_sub(length),
    };
    let end = match range.end {
        EndPosition::Index(last) => last.saturating_add(1).min(size),
        EndPosition::LastByte => size,
    };
    if start < end { Asked::Part(start..end) } else { Asked::Unsatisfiable }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every form of a single range, at and beyond the blob's ends.
    #[test]
    fn ranges_are_cut_to_the_blob() {
        let cases = [
            ("bytes=0-", 10, Asked::Part(0..10)),
            ("bytes=0-0", 10, Asked::Part(0..1)),
            ("bytes=3-6", 10, Asked::Part(3..7)),
            ("bytes=9-", 10, Asked::Part(9..10)),
            ("bytes=9-99", 10, Asked::Part(9..10)),
            ("bytes=0-18446744073709551615", 10, Asked::Part(0..10)),
            ("bytes=10-", 10, Asked::Unsatisfiable),
            ("bytes=10-12", 10, Asked::Unsatisfiable),
            ("bytes=6-3", 10, Asked::Unsatisfiable),
            ("bytes=-3", 10, Asked::Part(7..10)),
            ("bytes=-10", 10, Asked::Part(0..10)),
            ("bytes=-99", 10, Asked::Part(0..10)),
            ("bytes=-0", 10, Asked::Unsatisfiable),
            ("bytes=0-", 0, Asked::Unsatisfiable),
            ("bytes=0-0", 0, Asked::Unsatisfiable),
            ("bytes=-1", 0, Asked::Unsatisfiable),
            ("bytes=0-1,3-4", 10, Asked::Whole),
            ("bytes=a-b", 10, Asked::Whole),
            ("bytes=", 10, Asked::Whole),
            ("bytes=18446744073709551616-", 10, Asked::Whole),
            ("items=0-1", 10, Asked::Whole),
            ("0-1", 10, Asked::Whole),
            ("", 10, Asked::Whole),
        ];
        for (header, size, wanted) in cases {
            assert_eq!(asked(Some(header), size), wanted, "{header:?} of {size}");
        }
        assert_eq!(asked(None, 10), Asked::Whole);
    }
}
