//! Any bytes as a log file.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

/// Of this process; in memory where there is such a folder.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let place = if memory.is_dir() { memory } else { std::env::temp_dir() };
    place.join(format!("mainstay-fuzz-log_file-{}", std::process::id()))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| mainstay_fuzz::log_file(data, &FOLDER));
