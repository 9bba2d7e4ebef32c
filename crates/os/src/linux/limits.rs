//! The limit of open files (getrlimit(2)): the host needs many descriptors, its services get what was there before.

use std::io;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit};

/// What the host was started with, before it raised its own.
static ORIGINAL: OnceLock<(u64, u64)> = OnceLock::new();

fn current() -> (u64, u64) {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    // Linux has no unlimited number of files; the kernel's own maximum then answers for it.
    (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX))
}

/// Soft and hard limit as they were first seen: at the latest when the first process trees are begun.
pub(crate) fn original_open_files_limit() -> (u64, u64) {
    *ORIGINAL.get_or_init(current)
}

/// Raises this process's soft limit of open files to the hard one. Services are started with the old one. Answers the
/// soft limit before and now.
///
/// # Errors
/// The system's refusal; the old limit stays.
pub fn raise_open_files_limit() -> io::Result<(u64, u64)> {
    let (soft, hard) = original_open_files_limit();
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok((soft, hard))
}

/// Gives memory that was freed back to the system, wherever in the heap it lies: for moments after which much less is
/// needed than before. Takes about a millisecond for each 10 MB of heap. malloc_trim(3); without effect where the C library is
/// not glibc.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim only releases pages that no allocation lies on.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Tells the allocator to keep one heap for all threads and to give free memory back early: a host has a few threads
/// that allocate little each, and lives for months. mallopt(3); without effect where the C library is not glibc.
pub fn keep_memory_small() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [(libc::M_ARENA_MAX, 1), (libc::M_TRIM_THRESHOLD, 64 * 1024)] {
        // SAFETY: mallopt only sets numbers of the allocator; a value it does not take changes nothing.
        unsafe { libc::mallopt(parameter, value) };
    }
}
