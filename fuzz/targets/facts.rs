//! Any bytes as a line whose level and time are looked for.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mainstay_fuzz::recognise(data));
