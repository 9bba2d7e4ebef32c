//! What became of each replica's output, in numbers that anybody may read at any time without asking the capture thread.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mainstay_types::ReplicaId;

use crate::Stream;

/// One replica's numbers since the capture began; they only grow, but for `blocked`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Records taken in, of standard output and of standard error: lines, and parts of long ones.
    pub lines: [u64; 2],
    /// Bytes of their texts.
    pub bytes: [u64; 2],
    /// Lines that are in no file: dropped as the policy says, or lost.
    pub dropped_lines: u64,
    /// Bytes of their texts.
    pub dropped_bytes: u64,
    /// Places masked.
    pub masked: u64,
    /// Times the file began to refuse what was written.
    pub write_failures: u64,
    /// Files closed.
    pub rotations: u64,
    /// Closed files removed, because of a bound on what stays.
    pub removed_files: u64,
    /// What they took on the disk.
    pub removed_bytes: u64,
    /// Whether the file cannot be written now.
    pub blocked: bool,
}

#[derive(Default, Debug)]
pub(super) struct Counters {
    lines: [AtomicU64; 2],
    bytes: [AtomicU64; 2],
    dropped_lines: AtomicU64,
    dropped_bytes: AtomicU64,
    masked: AtomicU64,
    write_failures: AtomicU64,
    rotations: AtomicU64,
    removed_files: AtomicU64,
    removed_bytes: AtomicU64,
    blocked: AtomicBool,
}

/// Every replica's counters. The lock is held for a look-up only, never while a file is written.
pub(super) type Registry = Arc<Mutex<BTreeMap<ReplicaId, Arc<Counters>>>>;

/// The counters of one replica, made at the first call.
pub(super) fn of(registry: &Registry, replica: &ReplicaId) -> Arc<Counters> {
    let mut all = registry.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(all.entry(replica.clone()).or_default())
}

/// All numbers as they are now, by replica.
pub(super) fn read(registry: &Registry) -> Vec<(ReplicaId, Counts)> {
    let all = registry.lock().unwrap_or_else(PoisonError::into_inner);
    all.iter().map(|(replica, counters)| (replica.clone(), counters.read())).collect()
}

impl Counters {
    pub(super) fn took(&self, stream: Stream, lines: u64, bytes: u64) {
        self.lines[stream.index()].fetch_add(lines, Ordering::Relaxed);
        self.bytes[stream.index()].fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn dropped(&self, lines: u64, bytes: u64) {
        self.dropped_lines.fetch_add(lines, Ordering::Relaxed);
        self.dropped_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn masked(&self, places: u64) {
        if places > 0 {
            self.masked.fetch_add(places, Ordering::Relaxed);
        }
    }

    pub(super) fn blocked(&self) {
        self.write_failures.fetch_add(1, Ordering::Relaxed);
        self.blocked.store(true, Ordering::Relaxed);
    }

    pub(super) fn flows(&self) {
        self.blocked.store(false, Ordering::Relaxed);
    }

    pub(super) fn rotated(&self) {
        self.rotations.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn removed(&self, files: u64, bytes: u64) {
        self.removed_files.fetch_add(files, Ordering::Relaxed);
        self.removed_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn read(&self) -> Counts {
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Counts {
            lines: [load(&self.lines[0]), load(&self.lines[1])],
            bytes: [load(&self.bytes[0]), load(&self.bytes[1])],
            dropped_lines: load(&self.dropped_lines),
            dropped_bytes: load(&self.dropped_bytes),
            masked: load(&self.masked),
            write_failures: load(&self.write_failures),
            rotations: load(&self.rotations),
            removed_files: load(&self.removed_files),
            removed_bytes: load(&self.removed_bytes),
            blocked: self.blocked.load(Ordering::Relaxed),
        }
    }
}
