#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ocipull_fuzz::registries_conf(data));
