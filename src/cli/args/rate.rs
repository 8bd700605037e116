//! Rates, as `--max-rate` takes them.

use std::num::NonZeroU64;

/// Bytes a second: a size with an optional `/s` behind it.
pub(super) fn rate(text: &str) -> Result<NonZeroU64, String> {
    let size = text.strip_suffix("/s").unwrap_or(text);
    let letters = size.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
    if letters.contains('b') {
        return Err("a small `b` is a bit, and rates are in bytes: write `MB` or `MiB`".to_owned());
    }
    let rate = parse_size::parse_size(size).map_err(|error| match error {
        parse_size::Error::Empty => "there is no number".to_owned(),
        parse_size::Error::PosOverflow => "it is too large".to_owned(),
        _ => "a rate is a number and a unit of bytes a second, such as 10MiB/s or 500KB".to_owned(),
    })?;
    NonZeroU64::new(rate).ok_or_else(|| "nothing can be pulled at a rate of 0".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Units of ten and of two, with the second or without; bits, nothing and nonsense are refused.
    #[test]
    fn rates() {
        for (text, wanted) in [
            ("10MiB/s", 10 << 20),
            ("10MiB", 10 << 20),
            ("10MB", 10_000_000),
            ("10 MB/s", 10_000_000),
            ("1.5KB/s", 1500),
            ("500KB/s", 500_000),
            ("2GiB/s", 2 << 30),
            ("4M", 4_000_000),
            ("4Ki/s", 4096),
            ("1500", 1500),
            ("1500B/s", 1500),
        ] {
            assert_eq!(rate(text).map(NonZeroU64::get), Ok(wanted), "{text}");
        }
        let refused = [
            "",
            "/s",
            "0",
            "0MB/s",
            "0.1B",
            "-1MB",
            "80Mbit",
            "80Mbit/s",
            "80Mb",
            "80mbps",
            "10MBps",
            "10MB/S",
            "10MB/m",
            "10MB/s/s",
            "10MB /h",
            "MB",
            "ten",
            "1e99",
            "99999999999TB",
            "10MX",
            "inf",
            "NaN",
        ];
        for text in refused {
            assert!(rate(text).is_err(), "{text}: {:?}", rate(text));
        }
    }
}
