//! Closing the current file: when it is due, and giving it its name.
//!
//! | asked by | where it is cut |
//! |---|---|
//! | size | before the record that would pass it: the batch has the place, see `batch` |
//! | age, a request | where the file ends now; in the middle of a line, where that line ends |
//!
//! A file without a line is never closed. One that cannot be renamed stays current and grows, and is tried again.

use std::io;
use std::time::Duration;

use mainstay_types::Timestamp;

use super::ReplicaLog;
use crate::capture::{Fsync, Notice, Rotated};
use crate::store::{PACKED, PLAIN, closed_path};

/// After a failed rotation the next is tried this much later; the file grows meanwhile.
const ROTATE_AGAIN: Duration = Duration::from_secs(5);

impl ReplicaLog {
    /// When it has to be closed, because of its age or of a request that waits: `None` while nothing asks for that, and while
    /// something else has to happen first.
    pub(in crate::capture) fn next_due(&self) -> Option<Timestamp> {
        if self.blocked.is_some() || self.open != [false; 2] {
            return None;
        }
        let due = if self.waits {
            Timestamp::MIN
        } else {
            self.first_at?.checked_add(self.policy.rotate_age?).unwrap_or(Timestamp::MAX)
        };
        Some(self.rotate_after.map_or(due, |after| due.max(after)))
    }

    /// Has the desk wake in time for the rotation by age.
    pub(super) fn tell_due(&self) {
        if let Some(due) = self.next_due() {
            self.desk.due(due);
        }
    }

    /// Closes the file when that is due. What fails is told, and tried again.
    pub(in crate::capture) fn rotate_if_due(&mut self, now: Timestamp) {
        if self.next_due().is_some_and(|due| due <= now) {
            let waits = self.waits;
            match self.close_current() {
                Rotated::Failed { .. } => self.waits = waits,
                Rotated::Closed { .. } | Rotated::Empty | Rotated::Waits => {}
            }
        }
    }

    /// Something that a rotation may have waited for is over: a line, or that the file could not be written.
    pub(super) fn catch_up(&mut self) {
        self.rotate_if_due((self.desk.clock)());
        self.tell_due();
    }

    /// Closes the file now, or at the end of the line that is being written; a request that fails is not kept.
    pub(in crate::capture) fn close_current(&mut self) -> Rotated {
        self.waits = false;
        if !self.retry() {
            return Rotated::Failed { error: "the log cannot be written now".to_owned() };
        }
        let outcome = self.close_between_lines();
        if self.attached == 0 {
            self.close_file();
        }
        outcome
    }

    fn close_between_lines(&mut self) -> Rotated {
        match std::fs::metadata(self.current_path()) {
            Ok(metadata) if metadata.len() > 0 => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => return self.rotation_failed(&error),
            Ok(_) | Err(_) => {
                // Somebody may have removed or emptied it: the next line is its first.
                self.file = None;
                self.first_at = None;
                return Rotated::Empty;
            }
        }
        // What a crash left in it is healed before it gets its name.
        if let Err(error) = self.open() {
            return self.rotation_failed(&error);
        }
        if self.open != [false; 2] {
            self.waits = true;
            return Rotated::Waits;
        }
        let outcome = self.rotate();
        if matches!(outcome, Rotated::Closed { .. }) {
            // One nanosecond apart, so that no two files begin with the same time, which is their name.
            let next = Timestamp::from_nanosecond(self.last_at.as_nanosecond() + 1);
            self.last_at = next.unwrap_or(self.last_at);
        }
        outcome
    }

    /// Gives the current file its name. When that fails, it stays current and grows.
    pub(super) fn rotate(&mut self) -> Rotated {
        if self.policy.fsync != Fsync::Never {
            self.sync();
        }
        self.file = None;
        let first_at = self.first_at.unwrap_or(self.last_at);
        match self.rename(first_at) {
            Ok(name) => {
                self.first_at = None;
                self.size_bytes = 0;
                self.rotate_after = None;
                self.waits = false;
                self.counters.rotated();
                self.tidy();
                Rotated::Closed { name }
            }
            Err(error) => self.rotation_failed(&error),
        }
    }

    fn rotation_failed(&mut self, error: &io::Error) -> Rotated {
        let error = error.to_string();
        let again = (self.desk.clock)().checked_add(ROTATE_AGAIN).unwrap_or(Timestamp::MAX);
        if self.rotate_after.replace(again).is_none() {
            self.desk.notice(Notice::RotationFailed {
                replica: self.replica.clone(),
                path: self.current_path(),
                error: error.clone(),
            });
        }
        Rotated::Failed { error }
    }

    fn rename(&self, mut first_at: Timestamp) -> io::Result<String> {
        // A rename replaces: a name that is taken (the clock was set back between two hosts) is moved on.
        while closed_path(&self.dir, first_at, PLAIN).try_exists()?
            || closed_path(&self.dir, first_at, PACKED).try_exists()?
        {
            first_at = Timestamp::from_nanosecond(first_at.as_nanosecond() + 1)
                .map_err(|error| io::Error::other(error.to_string()))?;
        }
        let path = closed_path(&self.dir, first_at, PLAIN);
        std::fs::rename(self.current_path(), &path)?;
        let name = path.file_name().unwrap_or_default();
        Ok(name.to_string_lossy().into_owned())
    }
}
