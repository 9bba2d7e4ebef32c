//! One replica's lines from a place that outlives the process: for whoever passes lines on, and goes on tomorrow where he
//! ended today.
//!
//! A [`Tail`] walks over a replica's files twice. The first walk looks ahead and only counts: it knows how many bytes and
//! wanted lines each file has before retention takes the file away. The second one gives the lines out, as fast as whoever
//! takes them can. What the second one finds gone, the first one has counted:
//!
//! ```text
//!  files   |  A  |  B  |  C  |  D  |  current  |
//!             ^ walk: given out so far   ^ scan: counted so far      A and B are removed: the rest of A and all of B are lost
//! ```
//!
//! A file is known by the time of its first line, as in `segment`, so that renaming and compressing it changes nothing.

mod walk;

use std::path::Path;

use mainstay_types::{Level, ReplicaId, Timestamp};

use super::segment::{SegmentState, Snapshot};
use super::{ReadError, Selection};
use crate::{LogLine, Stream};
use walk::{Step, Total, Walk};

/// Bytes of one file that one look counts; the rest comes with the next look.
const LOOK_BYTES: u64 = 4 * 1024 * 1024;

/// How far a replica's files were read; always a boundary of lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Place {
    /// The newest file read to its end, by the time of its first line.
    pub done: Option<Timestamp>,
    /// The file being read, behind that one.
    pub file: Option<FilePlace>,
}

/// A place within one file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FilePlace {
    /// The time of its first line; `None` for one that begins with no record.
    pub first_at: Option<Timestamp>,
    /// Bytes of its text that were read.
    pub offset: u64,
}

/// Which lines are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Whether those of standard output, and of standard error.
    pub streams: [bool; 2],
    /// At least this serious, as [`super::Query::level`].
    pub level: Option<Level>,
}

impl Wanted {
    /// Every line.
    pub const ALL: Self = Self { streams: [true; 2], level: None };

    const fn stream(self, stream: Stream) -> bool {
        self.streams[stream.index()]
    }
}

/// A line, and how serious it is: by itself, or by the message it goes with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PassedLine {
    /// The line.
    pub line: LogLine,
    /// How serious it is.
    pub level: Option<Level>,
}

/// What was removed before it was given out, or skipped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Missing {
    /// Wanted lines.
    pub lines: u64,
    /// Bytes of log files.
    pub bytes: u64,
    /// There may be more: a file was removed before it was counted.
    pub more: bool,
}

impl Missing {
    /// Whether nothing is missing.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Adds another loss.
    pub const fn add(&mut self, other: Self) {
        self.lines += other.lines;
        self.bytes += other.bytes;
        self.more |= other.more;
    }
}

/// Every replica of a selection that has a folder, sorted.
pub fn replicas(root: &Path, selection: &Selection) -> Result<Vec<ReplicaId>, ReadError> {
    selection.replicas(root)
}

/// Gives out a replica's lines from a place on. Holds no file open between two calls.
#[derive(Clone, Debug)]
pub struct Tail {
    scan: Walk,
    walk: Walk,
    /// Found missing, and not told yet.
    missing: Missing,
}

impl Tail {
    /// Goes on at a place; the default one is the beginning of everything that is kept.
    #[must_use]
    pub fn from(root: &Path, replica: &ReplicaId, wanted: Wanted, place: Place) -> Self {
        let walk = Walk::from(root, replica, wanted, place);
        Self { scan: walk.clone(), walk, missing: Missing::default() }
    }

    /// Begins behind everything that is there now.
    pub fn from_end(root: &Path, replica: &ReplicaId, wanted: Wanted) -> Result<Self, ReadError> {
        let snapshot = Snapshot::take(root, replica)?;
        let mut place = Place::default();
        for segment in &snapshot.segments {
            match segment.state {
                SegmentState::Closed { .. } => place.done = segment.first_at,
                SegmentState::Current { complete_bytes, shown_bytes } => {
                    if segment.first_at.is_some() || shown_bytes > 0 {
                        place.file = Some(FilePlace { first_at: segment.first_at, offset: complete_bytes });
                    }
                }
            }
        }
        Ok(Self::from(root, replica, wanted, place))
    }

    /// Where to go on with all that was not given out; a line of which only parts were met is given out again.
    #[must_use]
    pub fn place(&self) -> Place {
        self.walk.place()
    }

    /// Counts what has been written since the last look, and what is gone. False when more is there than one look counts.
    pub fn look(&mut self) -> Result<bool, ReadError> {
        if self.walk.position() >= self.scan.position() {
            self.scan = self.walk.clone();
        }
        let all = self.scan_on()?;
        if self.walk.first_at() != self.scan.first_at() || self.walk.open.is_none() {
            self.pass_gone()?;
        }
        Ok(all)
    }

    fn scan_on(&mut self) -> Result<bool, ReadError> {
        let by_level = self.scan.wanted.level.is_some();
        let mut left = LOOK_BYTES;
        loop {
            let before = self.scan.bytes();
            let was_open = self.scan.open.is_some();
            let step = self.scan.step(u64::MAX, left, by_level, &mut |_| {});
            if step.is_err() && was_open && self.scan.open.is_none() {
                // The rest of a file that cannot be read.
                self.missing.more = true;
            }
            match step? {
                Step::End => return Ok(true),
                Step::More => return Ok(false),
                Step::Next => {}
                Step::Gone => self.missing.more = true,
            }
            left = left.saturating_sub(self.scan.bytes().saturating_sub(before));
            if left == 0 {
                return Ok(false);
            }
        }
    }

    /// Whether the file of a place is there, so that reading can begin in it.
    pub fn holds(&self, place: &Place) -> Result<bool, ReadError> {
        place.file.map_or(Ok(true), |file| self.walk.holds(file.first_at))
    }

    /// Leaves files that are gone, and stands in the first one that is there.
    fn pass_gone(&mut self) -> Result<(), ReadError> {
        if let Some(open) = &self.walk.open {
            let first_at = open.first_at;
            if self.walk.holds(first_at)? {
                return Ok(());
            }
            // What there was of an unfinished line goes with the file.
            self.missing.more |= !self.scan.knows(first_at);
            self.walk.done = self.walk.done.max(first_at);
            self.walk.open = None;
        }
        match self.walk.step(0, 0, false, &mut |_| {})? {
            Step::End => self.settle_all(),
            Step::Next | Step::More | Step::Gone => self.settle(),
        }
        Ok(())
    }

    /// Bytes of the files that are counted and were not given out.
    #[must_use]
    pub fn behind_bytes(&self) -> u64 {
        self.scan.bytes().saturating_sub(self.walk.bytes())
    }

    /// Gives out at most about so many lines and bytes of files, and stops where lines are missing. False when no whole line is
    /// left.
    pub fn read(
        &mut self,
        max_lines: u64,
        max_bytes: u64,
        mut take: impl FnMut(PassedLine),
    ) -> Result<bool, ReadError> {
        self.walk_on(max_lines, max_bytes, true, &mut take)
    }

    /// Passes over the oldest lines until at most so many bytes are left, and counts them as missing.
    pub fn skip_to(&mut self, behind_bytes: u64) -> Result<(), ReadError> {
        let by_level = self.walk.wanted.level.is_some();
        loop {
            let excess = self.behind_bytes().saturating_sub(behind_bytes);
            if excess == 0 {
                return Ok(());
            }
            let (before, mut lines) = (self.walk.bytes(), 0);
            let step = self.walk.step(u64::MAX, excess, by_level, &mut |_| lines += 1)?;
            let bytes = self.walk.bytes().saturating_sub(before);
            self.missing.add(Missing { lines, bytes, more: false });
            match step {
                Step::End => {
                    self.settle_all();
                    return Ok(());
                }
                Step::More => {}
                Step::Next => self.settle(),
                // What follows tells how much is gone.
                Step::Gone => self.missing.more |= !self.scan.knows(self.walk.done),
            }
        }
    }

    /// What was found missing since this was asked the last time.
    pub fn take_missing(&mut self) -> Missing {
        std::mem::take(&mut self.missing)
    }

    fn walk_on(
        &mut self,
        max_lines: u64,
        max_bytes: u64,
        with_levels: bool,
        take: &mut impl FnMut(PassedLine),
    ) -> Result<bool, ReadError> {
        let (mut lines, mut left) = (max_lines, max_bytes);
        loop {
            if lines == 0 || left == 0 {
                return Ok(true);
            }
            let (before, mut given) = (self.walk.bytes(), 0);
            let step = self.walk.step(lines, left, with_levels, &mut |line| {
                given += 1;
                take(line);
            })?;
            left = left.saturating_sub(self.walk.bytes().saturating_sub(before));
            lines = lines.saturating_sub(given);
            match step {
                Step::End => {
                    self.settle_all();
                    return Ok(false);
                }
                Step::More => return Ok(true),
                Step::Next => self.settle(),
                // What follows tells how much is gone.
                Step::Gone => self.missing.more |= !self.scan.knows(self.walk.done),
            }
            if !self.missing.is_nothing() {
                // To be told in its place, in front of what follows.
                return Ok(true);
            }
        }
    }

    /// Files in front of the one being read are done: what was counted of them and not given out is missing.
    fn settle(&mut self) {
        let (reading, done) = (self.walk.open.as_ref().map(|open| open.first_at), self.walk.done);
        self.settle_in_front(reading, done);
    }

    /// No file is left behind the last one: whatever else was counted is gone.
    fn settle_all(&mut self) {
        if self.walk.open.is_none() {
            let newest = self.scan.totals.iter().filter_map(|total| total.first_at).max();
            self.walk.done = self.walk.done.max(newest);
            self.settle_in_front(None, self.walk.done);
        }
    }

    fn settle_in_front(&mut self, reading: Option<Option<Timestamp>>, done: Option<Timestamp>) {
        let in_front = |total: &Total| match reading {
            Some(reading) => total.first_at < reading,
            None => total.first_at <= done,
        };
        for counted in self.scan.totals.iter().filter(|total| in_front(total)) {
            let given = self.walk.totals.iter().find(|total| total.first_at == counted.first_at);
            let (lines, bytes) = given.map_or((0, 0), |total| (total.lines, total.bytes));
            let lines = counted.lines.saturating_sub(lines);
            let bytes = counted.bytes.saturating_sub(bytes);
            self.missing.add(Missing { lines, bytes, more: false });
        }
        if self.scan.position() < self.walk.position() {
            self.scan = self.walk.clone();
        }
        self.scan.totals.retain(|total| !in_front(total));
        self.walk.totals.retain(|total| !in_front(total));
    }
}

#[cfg(test)]
mod tests;
