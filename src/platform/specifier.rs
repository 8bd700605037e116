//! A platform's text form: `OS[(VERSION[+FEATURE]…)]/ARCHITECTURE[/VARIANT]`, or one of the first two alone.
//!
//! This is containerd's specifier syntax. In a version or a feature `%XX` stands for a byte that the syntax has no
//! place for.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use crate::failure::{Failure, Kind};
use crate::text::{escape, printable};

use super::{Platform, normalize_architecture, normalize_os};

/// The operating systems that may stand alone: those that Go knows.
const KNOWN_OS: [&str; 17] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];

/// The architectures that may stand alone: those that Go knows.
const KNOWN_ARCHITECTURES: [&str; 24] = [
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "arm64",
    "arm64be",
    "armbe",
    "loong64",
    "mips",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "mipsle",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

impl FromStr for Platform {
    type Err = PlatformError;

    /// Parses a specifier: `linux/arm/v7`, `windows(10.0.20348+win32k)/amd64`, `linux`, `arm64`.
    ///
    /// Names are normalised as by [`Platform::normalize`], except that `linux/arm` stays without a variant and
    /// `linux/arm64/v8` keeps its own, as in containerd: both are shown as they were asked for. Of an operating system
    /// alone the architecture is the host's; of an architecture alone the operating system is that of
    /// [`Platform::default_for_fetch`].
    ///
    /// # Errors
    /// Any [`PlatformError`].
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        if text.is_empty() {
            return Err(PlatformError::Empty);
        }
        let parts: Vec<&str> = text.splitn(4, '/').collect();
        let os = parse_os(parts[0])?;
        for part in &parts[1..] {
            if !is_made_of(part, ".") || part.is_empty() {
                return Err(PlatformError::BadComponent { component: printable(part) });
            }
        }
        match parts.as_slice() {
            [alone] => complete(alone, os),
            [_, architecture] => {
                let (architecture, variant) = shown_architecture(architecture);
                Ok(Self { architecture, variant, ..os })
            }
            [_, architecture, variant] => {
                let (architecture, variant) = normalize_architecture(architecture, variant);
                let variant =
                    if architecture == "arm64" { variant.or(Some("v8".to_owned())) } else { variant };
                Ok(Self { architecture, variant, ..os })
            }
            _ => Err(PlatformError::TooManyComponents { text: printable(text) }),
        }
    }
}

/// An architecture that was written without a variant: what that implies is not shown, except for `armel`.
fn shown_architecture(text: &str) -> (String, Option<String>) {
    let (architecture, variant) = normalize_architecture(text, "");
    let variant = variant.filter(|variant| architecture != "arm" || variant != "v7");
    (architecture, variant)
}

fn complete(alone: &str, os: Platform) -> Result<Platform, PlatformError> {
    let host = Platform::default_for_fetch();
    if KNOWN_OS.contains(&os.os.as_str()) {
        // A level of the CPU is no part of what was asked for; a version of arm decides what runs at all.
        let variant = host.variant.filter(|variant| host.architecture == "arm" && variant != "v7");
        return Ok(Platform { architecture: host.architecture, variant, ..os });
    }
    let (architecture, variant) = shown_architecture(alone);
    if KNOWN_ARCHITECTURES.contains(&architecture.as_str()) {
        return Ok(Platform { variant, ..Platform::new(host.os, architecture) });
    }
    Err(PlatformError::Unknown { text: printable(alone) })
}

/// Parses `OS[(VERSION[+FEATURE]…)]`; the architecture stays empty.
fn parse_os(text: &str) -> Result<Platform, PlatformError> {
    let bad = || PlatformError::BadOs { os: printable(text) };
    let (name, options) = match text.split_once('(') {
        Some((name, rest)) => (name, rest.strip_suffix(')').ok_or_else(bad)?),
        None => (text, ""),
    };
    if name.is_empty() || !is_made_of(name, "") || !is_made_of(options, ".%+") {
        return Err(bad());
    }
    let mut options = options.split('+');
    let version = decode(options.next().unwrap_or_default())?;
    let mut os_features = Vec::new();
    for feature in options {
        if feature.is_empty() {
            return Err(bad());
        }
        os_features.push(decode(feature)?);
    }
    let os_version = Some(version).filter(|version| !version.is_empty());
    Ok(Platform { os: normalize_os(name), os_version, os_features, ..Platform::default() })
}

fn is_made_of(text: &str, also: &str) -> bool {
    text.bytes().all(|byte| is_plain(byte) || also.as_bytes().contains(&byte))
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

fn decode(option: &str) -> Result<String, PlatformError> {
    let bad = || PlatformError::BadOption { option: printable(option) };
    let mut pieces = option.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (hex, rest) = piece.split_at_checked(2).ok_or_else(bad)?;
        if !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(bad());
        }
        bytes.push(u8::from_str_radix(hex, 16).map_err(|_| bad())?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

fn encode(option: &str) -> String {
    let mut encoded = String::with_capacity(option.len());
    for byte in option.bytes() {
        if is_plain(byte) || byte == b'.' {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

impl Platform {
    /// The full text form, version and features of the operating system included:
    /// `windows(10.0.20348.587+win32k)/amd64`. It parses back.
    pub fn specifier(&self) -> String {
        let mut features: Vec<&String> =
            self.os_features.iter().filter(|feature| !feature.is_empty()).collect();
        features.sort_unstable();
        let mut options = encode(self.os_version.as_deref().unwrap_or_default());
        for feature in features {
            options.push('+');
            options.push_str(&encode(feature));
        }
        if options.is_empty() { self.to_string() } else { self.joined(&format!("({options})")) }
    }

    fn joined(&self, options: &str) -> String {
        if self.os.is_empty() {
            return "unknown".to_owned();
        }
        let mut text = escape(&self.os) + options;
        for part in [&self.architecture, self.variant.as_ref().unwrap_or(&String::new())] {
            if !part.is_empty() {
                text.push('/');
                text.push_str(&escape(part));
            }
        }
        text
    }
}

impl fmt::Display for Platform {
    /// Writes the short text form, `linux/arm/v7`: version and features of the operating system are left out.
    /// Without an operating system it is `unknown`. Control characters are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.joined(""))
    }
}

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlatformError {
    /// There is no text.
    #[error("the platform is empty")]
    Empty,
    /// The first component is not an operating system's name with a version and features in parentheses, or without.
    #[error("\"{os}\" is not an operating system (NAME, NAME(VERSION) or NAME(VERSION+FEATURE))")]
    BadOs {
        /// The first component.
        os: String,
    },
    /// A later component is empty or has characters outside letters, digits, `_`, `.` and `-`.
    #[error("\"{component}\" is not an architecture or a variant (letters, digits, \"_\", \".\" and \"-\")")]
    BadComponent {
        /// The component.
        component: String,
    },
    /// A `%` in a version or a feature is not followed by two hex digits, or what they spell is not UTF-8.
    #[error("\"{option}\" has a percent sign that is not followed by the hex digits of a character")]
    BadOption {
        /// The version or the feature.
        option: String,
    },
    /// There are more than three components.
    #[error("\"{text}\" has more components than OS/ARCHITECTURE/VARIANT")]
    TooManyComponents {
        /// The whole text.
        text: String,
    },
    /// A word alone is neither a known operating system nor a known architecture.
    #[error("\"{text}\" is neither an operating system nor an architecture that is known")]
    Unknown {
        /// The whole text.
        text: String,
    },
}

impl Failure for PlatformError {
    fn kind(&self) -> Kind {
        Kind::Usage
    }

    fn hint(&self) -> Option<String> {
        Some("write it as \"linux/amd64\" or \"linux/arm/v7\"".to_owned())
    }
}
