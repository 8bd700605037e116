//! What this machine is, in the terms of the image spec.
//!
//! Nothing here fails: what cannot be found out is left unsaid, and matches as the lowest variant does.

use super::Platform;

pub(super) fn detect() -> Platform {
    let architecture = architecture(std::env::consts::ARCH, cfg!(target_endian = "little"));
    Platform {
        os: os(std::env::consts::OS).to_owned(),
        variant: variant().map(str::to_owned),
        os_version: os_version(),
        os_features: os_features(),
        ..Platform::new("", architecture)
    }
}

/// Go's name of an operating system that Rust names.
fn os(name: &str) -> &str {
    if name == "macos" { "darwin" } else { name }
}

/// Go's name of an architecture that Rust names. Rust has one name for both byte orders of some.
fn architecture(name: &str, little_endian: bool) -> &str {
    match (name, little_endian) {
        ("x86", _) => "386",
        ("x86_64", _) => "amd64",
        ("aarch64", true) => "arm64",
        ("aarch64", false) => "arm64be",
        ("arm", false) => "armbe",
        ("mips" | "mips32r6", true) => "mipsle",
        ("mips" | "mips32r6", false) => "mips",
        ("mips64" | "mips64r6", true) => "mips64le",
        ("mips64" | "mips64r6", false) => "mips64",
        ("powerpc", _) => "ppc",
        ("powerpc64", true) => "ppc64le",
        ("powerpc64", false) => "ppc64",
        ("riscv32", _) => "riscv",
        ("loongarch64", _) => "loong64",
        ("wasm32", _) => "wasm",
        (same, _) => same,
    }
}

/// The highest micro-architecture level, by the x86-64 psABI, of which this CPU has all features and the operating
/// system saves all registers. `LAHF`, the one feature of level 2 that cannot be asked for here, came before `CMPXCHG16B`
/// and SSE 4 in every CPU.
#[cfg(target_arch = "x86_64")]
fn variant() -> Option<&'static str> {
    macro_rules! has {
        ($($feature:tt)*) => { $(std::arch::is_x86_feature_detected!($feature))&&* };
    }
    let v2 = has!("cmpxchg16b" "popcnt" "sse3" "ssse3" "sse4.1" "sse4.2");
    let v3 = v2 && has!("avx" "avx2" "bmi1" "bmi2" "f16c" "fma" "lzcnt" "movbe" "xsave");
    let v4 = v3 && has!("avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl");
    match (v4, v3, v2) {
        (true, ..) => Some("v4"),
        (_, true, _) => Some("v3"),
        (.., true) => Some("v2"),
        _ => None,
    }
}

#[cfg(all(unix, target_arch = "arm"))]
fn variant() -> Option<&'static str> {
    arm_variant(rustix::system::uname().machine().to_str().unwrap_or_default())
}

/// Windows on 32-bit arm never ran on less.
#[cfg(all(windows, target_arch = "arm"))]
fn variant() -> Option<&'static str> {
    Some("v7")
}

#[cfg(not(any(target_arch = "x86_64", all(any(unix, windows), target_arch = "arm"))))]
fn variant() -> Option<&'static str> {
    None
}

/// The variant of a 32-bit arm by the kernel's name of the machine: `armv6l`, `armv7l`, or `aarch64` where a 64-bit
/// kernel runs this program in its 32-bit mode.
#[cfg(any(test, all(unix, target_arch = "arm")))]
fn arm_variant(machine: &str) -> Option<&'static str> {
    let machine = machine.to_ascii_lowercase();
    if matches!(machine.as_str(), "aarch64" | "arm64") {
        return Some("v8");
    }
    match machine.strip_prefix("armv")?.bytes().next()? {
        b'8' => Some("v8"),
        b'7' => Some("v7"),
        b'6' => Some("v6"),
        b'5' => Some("v5"),
        b'4' => Some("v4"),
        b'3' => Some("v3"),
        _ => None,
    }
}

#[cfg(windows)]
fn os_version() -> Option<String> {
    let version = windows_version::OsVersion::current();
    Some(format!("{}.{}.{}", version.major, version.minor, version.build))
}

#[cfg(not(windows))]
fn os_version() -> Option<String> {
    None
}

/// `win32k`, the one feature that the image spec defines: it is everywhere but in Nano Server.
#[cfg(windows)]
fn os_features() -> Vec<String> {
    let root = std::env::var_os("SystemRoot").unwrap_or_else(|| "C:\\Windows".into());
    let driver = std::path::Path::new(&root).join("System32").join("win32k.sys");
    if driver.exists() { vec!["win32k".to_owned()] } else { Vec::new() }
}

#[cfg(not(windows))]
fn os_features() -> Vec<String> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rust's names and Go's differ, and images use Go's.
    #[test]
    fn names_are_those_of_go() {
        let cases = [
            ("x86", true, "386"),
            ("x86_64", true, "amd64"),
            ("aarch64", true, "arm64"),
            ("arm", true, "arm"),
            ("powerpc64", true, "ppc64le"),
            ("powerpc64", false, "ppc64"),
            ("mips", true, "mipsle"),
            ("mips64", false, "mips64"),
            ("riscv64", true, "riscv64"),
            ("s390x", false, "s390x"),
            ("loongarch64", true, "loong64"),
            ("wasm32", true, "wasm"),
        ];
        for (rust, little_endian, go) in cases {
            assert_eq!(architecture(rust, little_endian), go);
        }
        assert_eq!((os("macos"), os("linux"), os("windows")), ("darwin", "linux", "windows"));
    }

    /// The kernel names the machine, and the first digit behind `armv` is its version.
    #[test]
    fn arm_variants_come_from_the_machine_name() {
        let cases = [
            ("armv5tel", Some("v5")),
            ("armv5tejl", Some("v5")),
            ("armv6l", Some("v6")),
            ("armv7l", Some("v7")),
            ("armv7b", Some("v7")),
            ("armv8l", Some("v8")),
            ("aarch64", Some("v8")),
            ("armv4tl", Some("v4")),
            ("armv10l", None),
            ("arm", None),
            ("armv", None),
            ("x86_64", None),
            ("", None),
        ];
        for (machine, variant) in cases {
            assert_eq!(arm_variant(machine), variant, "{machine}");
        }
    }

    /// What is detected agrees with what the kernel lists of the same CPU.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    #[test]
    fn the_level_agrees_with_the_kernel() {
        let listing = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let flags: Vec<&str> = listing
            .lines()
            .find_map(|line| line.strip_prefix("flags"))
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let has = |wanted: &str| wanted.split(' ').all(|flag| flags.contains(&flag));
        let v2 = has("cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3");
        let v3 = v2 && has("avx avx2 bmi1 bmi2 f16c fma abm movbe xsave");
        let v4 = v3 && has("avx512f avx512bw avx512cd avx512dq avx512vl");
        let wanted =
            [(v4, "v4"), (v3, "v3"), (v2, "v2")].into_iter().find(|(has, _)| *has).map(|(_, name)| name);
        assert_eq!(detect().variant.as_deref(), wanted);
        assert_eq!(detect().os, "linux");
    }
}
