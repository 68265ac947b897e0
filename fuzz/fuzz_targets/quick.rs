#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| plakar::format::fuzzing::quick_index(data));
