//! The file of one replica: opened at the first byte, closed and renamed when it is full, and patient when the disk
//! is not there.
//!
//! ```text
//!             write fails                      a retry succeeds
//!   flowing ───────────────▶ blocked ─────────────────────────────▶ flowing
//!    reads pipes, writes      pipes are not read (the program waits), the records in
//!                             hand are kept; tried again after 100 ms, doubling to 5 s
//! ```
//!
//! `rotation` closes and names files; `inspect` looks at what a crash left in one.
//!
//! Writing blocks the capture thread for as long as the file system takes; the host has other threads.

mod inspect;
mod rotation;

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use mainstay_types::{ReplicaId, Timestamp};

use super::batch::{Batch, Start};
use super::counters::Counters;
use super::desk::Desk;
use super::gap::{Gap, rest_of_line};
use super::{CapturePolicy, Fsync, Notice, WhenBlocked};
use crate::Stream;
use crate::record::{HEADER_BYTES, header};
use crate::stamp::{STAMP_BYTES, parse_stamp};
use crate::store::{CURRENT, replica_dir};
use inspect::{first_line_at, inspect};

/// First wait before a failed write is tried again, and the longest.
pub(super) const RETRY_FIRST: Duration = Duration::from_millis(100);
pub(super) const RETRY_MAX: Duration = Duration::from_secs(5);

/// What a detached program's output may take in memory while its file cannot be written. A pipe holds 64 KiB unless
/// enlarged (pipe(7)); the rest is lost and counted.
const BACKLOG_BYTES: usize = 512 * 1024;

/// Whether the file was removed under us is looked up at most this often, and only when there is something to write.
const CHECK_PRESENT: Duration = Duration::from_secs(1);

/// One replica's current file. Lives as long as the capture; a few hundred bytes while silent.
pub(super) struct ReplicaLog {
    desk: Rc<Desk>,
    pub(super) replica: ReplicaId,
    dir: PathBuf,
    pub(super) policy: CapturePolicy,
    /// Programs attached; the file is closed when there is none.
    pub(super) attached: u32,
    file: Option<File>,
    /// What a crash left in an earlier file has been looked at.
    inspected: bool,
    /// Bytes in the current file, those of the backlog included.
    size_bytes: u64,
    /// The time of the current file's first line, its name once closed.
    first_at: Option<Timestamp>,
    /// The latest time given to a record.
    last_at: Timestamp,
    /// Of which streams the file holds a part of a line but not its end.
    open: [bool; 2],
    /// Streams in the middle of a line that is being left out.
    mid_gap: [bool; 2],
    pub(super) counters: Arc<Counters>,
    /// The disk refused to confirm; said once.
    sync_failed: bool,
    checked_at: Timestamp,
    /// Set after a failed rotation: when to try again.
    rotate_after: Option<Timestamp>,
    /// It is to be closed as soon as the line that is being written ends.
    waits: bool,
    blocked: Option<Box<Blocked>>,
}

/// Records that could not be written.
struct Blocked {
    bytes: Vec<u8>,
    cuts: VecDeque<usize>,
    /// What was left out since, as the policy says.
    gap: Option<Gap>,
    retrying: bool,
    waiting: Vec<Waker>,
}

/// Whether records that cannot be written are kept without bound (reading stops, so it is one read's worth).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Backlog {
    /// Keep them all.
    Keep,
    /// Keep up to the bound and count the rest as lost: the pipe is about to be closed.
    Bound,
}

impl ReplicaLog {
    pub(super) fn new(desk: Rc<Desk>, replica: ReplicaId, policy: CapturePolicy) -> Self {
        let dir = replica_dir(&desk.root, &replica);
        let counters = super::counters::of(&desk.counters, &replica);
        let mut log = Self {
            desk,
            replica,
            dir,
            policy,
            attached: 0,
            file: None,
            inspected: false,
            size_bytes: 0,
            first_at: None,
            last_at: Timestamp::UNIX_EPOCH,
            open: [false; 2],
            mid_gap: [false; 2],
            counters,
            sync_failed: false,
            checked_at: Timestamp::UNIX_EPOCH,
            rotate_after: None,
            waits: false,
            blocked: None,
        };
        // A file of an earlier host becomes old enough whether or not something is written.
        log.first_at = first_line_at(&log.current_path());
        log
    }

    fn current_path(&self) -> PathBuf {
        self.dir.join(CURRENT)
    }

    /// From now on this holds.
    pub(super) fn set_policy(&mut self, policy: CapturePolicy) {
        self.policy = CapturePolicy { max_line_bytes: policy.max_line_bytes.max(1), ..policy };
        // Whoever waited may not have to any more.
        if !self.holds_back()
            && let Some(blocked) = &mut self.blocked
        {
            for waker in blocked.waiting.drain(..) {
                waker.wake();
            }
        }
    }

    /// Has closed files pruned and compressed as the policy says.
    pub(super) fn tidy(&self) {
        self.desk.tidy(&self.replica, &self.policy);
    }

    /// Whether reading has to wait.
    pub(super) fn holds_back(&self) -> bool {
        self.blocked.is_some() && self.policy.when_blocked == WhenBlocked::Wait
    }

    /// Records that could not be written yet.
    pub(super) fn backlog(&self) -> &[u8] {
        self.blocked.as_ref().map_or(&[], |blocked| &blocked.bytes)
    }

    /// Wakes this task once the file can be written again.
    pub(super) fn wake_when_flowing(&mut self, waker: &Waker) {
        if let Some(blocked) = &mut self.blocked
            && !blocked.waiting.iter().any(|known| known.will_wake(waker))
        {
            blocked.waiting.push(waker.clone());
        }
    }

    /// Whether the caller must start the task that retries.
    pub(super) fn claim_retry(&mut self) -> bool {
        self.blocked.as_mut().is_some_and(|blocked| !std::mem::replace(&mut blocked.retrying, true))
    }

    /// Readies the file and says how a batch of records read at `now` begins.
    pub(super) fn begin(&mut self, now: Timestamp, stream: Stream) -> Start {
        if self.blocked.is_none() {
            self.notice_removal(now);
            self.rotate_if_due(now);
            if let Err(error) = self.open() {
                self.block(Vec::new(), VecDeque::new(), &error);
            }
        }
        Start {
            at: now.max(self.last_at),
            stream,
            size_bytes: self.size_bytes,
            rotate_bytes: if self.rotate_after.is_some_and(|after| now < after) {
                u64::MAX
            } else {
                self.policy.rotate_bytes
            },
            open: self.open,
        }
    }

    /// Writes the batch, or keeps it for later, or leaves it out and counts it.
    pub(super) fn submit(&mut self, batch: &Batch, backlog: Backlog) {
        if batch.bytes.is_empty() {
            return;
        }
        self.last_at = batch.at();
        let stream = batch.stream();
        let (lines, text_bytes) = batch.counts();
        self.counters.took(stream, lines, text_bytes);
        let when_blocked = self.policy.when_blocked;
        if let Some(blocked) = &mut self.blocked {
            // What was on its way when the trouble began is kept: the trouble may be over in a moment.
            if when_blocked == WhenBlocked::Drop && (blocked.gap.is_some() || !blocked.bytes.is_empty()) {
                let gap = blocked.gap.get_or_insert(Gap::new(batch.at()));
                let before = (gap.lines, gap.bytes);
                gap.count(&batch.bytes, stream, batch.at(), &mut self.mid_gap[stream.index()]);
                self.counters.dropped(gap.lines - before.0, gap.bytes - before.1);
                return;
            }
            let held = blocked.bytes.len();
            if backlog == Backlog::Bound && held + batch.bytes.len() > BACKLOG_BYTES {
                self.counters.dropped(lines, text_bytes);
                self.desk.notice(Notice::LinesLost {
                    replica: self.replica.clone(),
                    lines,
                    bytes: text_bytes,
                });
                return;
            }
            blocked.bytes.extend_from_slice(&batch.bytes);
            blocked.cuts.extend(batch.cuts.iter().map(|cut| cut + held));
            self.open = batch.open();
            self.size_bytes = batch.size_bytes();
            return;
        }
        let rest = rest_of_line(&batch.bytes, &mut self.mid_gap[stream.index()]);
        let bytes = &batch.bytes[rest..];
        if bytes.is_empty() {
            return;
        }
        let was_open = self.open != [false; 2];
        self.open = batch.open();
        let first_cut = batch.cuts.partition_point(|cut| *cut < rest);
        let shifted: Vec<usize>;
        let cuts = if rest == 0 {
            &batch.cuts
        } else {
            shifted = batch.cuts[first_cut..].iter().map(|cut| cut - rest).collect();
            &shifted
        };
        if let Err((written, cuts_done, error)) = self.write(bytes, cuts) {
            let rest = bytes[written..].to_vec();
            let cuts = cuts[cuts_done..].iter().map(|cut| cut - written).collect();
            self.block(rest, cuts, &error);
            self.size_bytes = batch.size_bytes();
        } else if was_open {
            self.catch_up();
        }
    }

    /// Tries to write what is kept, and tells of what was left out. True when nothing is left.
    pub(super) fn retry(&mut self) -> bool {
        let Some(mut blocked) = self.blocked.take() else { return true };
        let size_bytes = self.size_bytes;
        let mut outcome = {
            blocked.cuts.make_contiguous();
            self.write(&blocked.bytes, blocked.cuts.as_slices().0)
        };
        if outcome.is_ok()
            && let Some(gap) = blocked.gap.take()
        {
            // From here on it is told by these records, whether or not they can be written now.
            blocked.bytes = gap.records(&mut self.open, self.last_at);
            blocked.cuts.clear();
            self.desk.notice(Notice::LinesDropped {
                replica: self.replica.clone(),
                lines: gap.lines,
                bytes: gap.bytes,
            });
            outcome = self.write(&blocked.bytes, &[]);
        }
        match outcome {
            Ok(()) => {
                self.counters.flows();
                self.desk.notice(Notice::WriteRecovered {
                    replica: self.replica.clone(),
                    path: self.current_path(),
                });
                for waker in blocked.waiting {
                    waker.wake();
                }
                self.catch_up();
                true
            }
            Err((written, cuts_done, _)) => {
                // Whatever took the file's place in the meantime is tried the next time.
                self.file = None;
                blocked.bytes.drain(..written);
                blocked.cuts.drain(..cuts_done);
                for cut in &mut blocked.cuts {
                    *cut -= written;
                }
                self.size_bytes = size_bytes;
                self.blocked = Some(blocked);
                false
            }
        }
    }

    /// The capture ends: a last attempt, then what is left is lost and said so.
    pub(super) fn give_up(&mut self) {
        if self.retry() {
            return;
        }
        if let Some(blocked) = self.blocked.take() {
            let (lines, bytes) = count(&blocked.bytes);
            self.counters.dropped(lines, bytes);
            let dropped = blocked.gap.map_or((0, 0), |gap| (gap.lines, gap.bytes));
            let (lines, bytes) = (lines + dropped.0, bytes + dropped.1);
            if lines > 0 {
                self.desk.notice(Notice::LinesLost { replica: self.replica.clone(), lines, bytes });
            }
        }
    }

    /// The last program went away: no file stays open for it.
    pub(super) fn close_file(&mut self) {
        self.file = None;
    }

    fn block(&mut self, bytes: Vec<u8>, cuts: VecDeque<usize>, error: &io::Error) {
        self.counters.blocked();
        self.desk.notice(Notice::WriteFailed {
            replica: self.replica.clone(),
            path: self.current_path(),
            error: error.to_string(),
            when_blocked: self.policy.when_blocked,
        });
        // Opened again for the next attempt: something else may stand in its place by then.
        self.file = None;
        self.blocked =
            Some(Box::new(Blocked { bytes, cuts, gap: None, retrying: false, waiting: Vec::new() }));
    }

    /// Writes records, beginning a new file at each cut. On failure: bytes written, cuts done, why.
    fn write(&mut self, bytes: &[u8], cuts: &[usize]) -> Result<(), (usize, usize, io::Error)> {
        // At a cut the size is only a forecast until the file before it is complete.
        let mut written = 0;
        for (done, end) in cuts.iter().copied().chain([bytes.len()]).enumerate() {
            if end > written
                && let Err(error) = self.write_to_current(bytes, &mut written, end)
            {
                return Err((written, done, error));
            }
            if done < cuts.len() {
                self.rotate();
            }
        }
        Ok(())
    }

    fn write_to_current(&mut self, bytes: &[u8], written: &mut usize, end: usize) -> io::Result<()> {
        self.open()?;
        let Some(file) = &mut self.file else { return Ok(()) };
        let begun = *written;
        let begins_at = || bytes.get(begun..begun + STAMP_BYTES).and_then(parse_stamp);
        let is_first = self.first_at.is_none();
        if is_first {
            self.first_at = begins_at();
        }
        while *written < end {
            match file.write(&bytes[*written..end]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => *written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.policy.fsync == Fsync::Line {
            self.sync();
        }
        let Some(file) = &self.file else { return Ok(()) };
        // Asked for rather than counted: a write that failed half-way, or a foreign hand, may have changed it.
        self.size_bytes = file.metadata().map_or(self.size_bytes, |metadata| metadata.len());
        if self.size_bytes == (*written - begun) as u64 {
            // Nothing was in it: it is new, or somebody emptied it.
            self.first_at = begins_at().or(self.first_at);
        }
        if is_first {
            self.tell_due();
        }
        Ok(())
    }

    /// Has what was written put on the disk. That this fails is said once: the lines are in the file, and writing them again
    /// would double them.
    fn sync(&mut self) {
        let Some(file) = &self.file else { return };
        match file.sync_data() {
            Ok(()) => self.sync_failed = false,
            Err(error) if self.sync_failed => drop(error),
            Err(error) => {
                self.sync_failed = true;
                self.desk.notice(Notice::SyncFailed {
                    replica: self.replica.clone(),
                    path: self.current_path(),
                    error: error.to_string(),
                });
            }
        }
    }

    /// Opens the current file if it is not open, and the first time heals what a crash left in it.
    fn open(&mut self) -> io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        std::fs::create_dir_all(&self.dir)?;
        let path = self.current_path();
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let mut size_bytes = file.metadata()?.len();
        if !self.inspected {
            if size_bytes > 0 {
                let found = inspect(&mut file, size_bytes)?;
                self.first_at = Some(found.first_at);
                self.last_at = self.last_at.max(found.last_at);
                let mut healing = Vec::new();
                if found.torn {
                    healing.push(b'\n');
                }
                for stream in Stream::ALL {
                    if found.open[stream.index()] {
                        healing.extend_from_slice(&header(self.last_at, stream, false));
                        healing.push(b'\n');
                    }
                }
                file.write_all(&healing)?;
                size_bytes += healing.len() as u64;
            }
            self.inspected = true;
        } else if size_bytes == 0 {
            self.first_at = None;
        } else if self.first_at.is_none() {
            // One that had gone has come back.
            self.first_at = first_line_at(&self.current_path());
        }
        self.size_bytes = size_bytes;
        self.file = Some(file);
        Ok(())
    }

    /// Someone may remove the current file: the bytes would go nowhere, without an error.
    fn notice_removal(&mut self, now: Timestamp) {
        if self.file.is_none() || now.duration_since(self.checked_at).unsigned_abs() < CHECK_PRESENT {
            return;
        }
        self.checked_at = now;
        if !self.current_path().exists() {
            self.file = None;
            self.first_at = None;
        }
    }
}

/// Records and bytes of their texts.
fn count(records: &[u8]) -> (u64, u64) {
    let lines = memchr::memchr_iter(b'\n', records).count();
    let bytes = records.len().saturating_sub(lines * (HEADER_BYTES + 1));
    (lines as u64, bytes as u64)
}
