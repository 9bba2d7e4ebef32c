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

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use mainstay_types::{Level, ReplicaId, Timestamp};

use super::backward::last_newline;
use super::follow::open_if;
use super::join::{Joiner, Overflow};
use super::lines::LineReader;
use super::segment::{Opened, first_at, open_closed};
use super::text::{Source, Text};
use super::{JOIN_LIMIT, ReadError, Selection};
use crate::facts::Levels;
use crate::record::{HEADER_BYTES, parse};
use crate::store::{CURRENT, closed_files, replica_dir};
use crate::{LogLine, Stream};

/// Bytes of one file that one look counts; the rest comes with the next look.
const LOOK_BYTES: u64 = 4 * 1024 * 1024;

/// Text of one line that is put together from its parts; what is longer comes in pieces marked `partial`.
const PASSED_LINE_BYTES: usize = 256 * 1024;

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
        let mut walk = Walk {
            dir: replica_dir(root, replica),
            replica: replica.clone(),
            wanted,
            done: place.done,
            open: place.file.map(|file| Box::new(OpenFile::new(replica, file.first_at, file.offset))),
            totals: Vec::new(),
        };
        if let Some(mut open) = walk.open.take() {
            // Now, before more is written. What hinders it is told at the first look.
            let _ = walk.heal(&mut open);
            walk.open = Some(open);
        }
        Self { scan: walk.clone(), walk, missing: Missing::default() }
    }

    /// Begins behind everything that is there now.
    pub fn from_end(root: &Path, replica: &ReplicaId, wanted: Wanted) -> Result<Self, ReadError> {
        let snapshot = super::segment::Snapshot::take(root, replica)?;
        let mut place = Place::default();
        for segment in &snapshot.segments {
            match segment.state {
                super::segment::SegmentState::Closed { .. } => place.done = segment.first_at,
                super::segment::SegmentState::Current { complete_bytes, shown_bytes } => {
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

    /// Counts what has been written since the last look. False when more is there than one look counts.
    pub fn look(&mut self) -> Result<bool, ReadError> {
        if self.walk.position() >= self.scan.position() {
            self.scan = self.walk.clone();
        }
        let by_level = self.scan.wanted.level.is_some();
        let mut left = LOOK_BYTES;
        loop {
            let before = self.scan.bytes();
            match self.scan.step(u64::MAX, left, by_level, &mut |_| {})? {
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
                Step::Gone => self.gone(),
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
                Step::Gone => self.gone(),
            }
            if !self.missing.is_nothing() {
                // To be told in its place, in front of what follows.
                return Ok(true);
            }
        }
    }

    fn gone(&mut self) {
        if !self.scan.knows(self.walk.done) {
            self.missing.more = true;
        }
        self.settle();
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

/// What was met of one file since the walk began.
#[derive(Clone, Copy, Debug)]
struct Total {
    first_at: Option<Timestamp>,
    lines: u64,
    bytes: u64,
}

/// A way over a replica's files, oldest first.
#[derive(Clone, Debug)]
struct Walk {
    replica: ReplicaId,
    dir: PathBuf,
    wanted: Wanted,
    done: Option<Timestamp>,
    open: Option<Box<OpenFile>>,
    /// Of files not settled yet, oldest first; the last one is the one being read. As many as are kept of a replica.
    totals: Vec<Total>,
}

#[derive(Clone)]
struct OpenFile {
    first_at: Option<Timestamp>,
    /// Bytes taken, always whole lines.
    offset: u64,
    joiner: Joiner,
    levels: Levels,
    /// Where the unfinished line of each stream begins.
    part_at: [Option<u64>; 2],
}

impl std::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenFile")
            .field("first_at", &self.first_at)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

/// How a step ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// No whole line is left.
    End,
    /// There may be more of this file.
    More,
    /// A file was finished, or the next one begun.
    Next,
    /// The file is there no more.
    Gone,
}

impl OpenFile {
    fn new(replica: &ReplicaId, first_at: Option<Timestamp>, offset: u64) -> Self {
        let begins = first_at.unwrap_or(Timestamp::UNIX_EPOCH);
        let joiner = Joiner::new(replica.clone(), PASSED_LINE_BYTES, Overflow::Split, begins);
        Self { first_at, offset, joiner, levels: Levels::default(), part_at: [None; 2] }
    }

    /// Takes one line of the file.
    fn push(&mut self, line: &[u8], wanted: Wanted, with_levels: bool, take: &mut impl FnMut(PassedLine)) {
        if let Some(record) = parse(line) {
            let part_at = &mut self.part_at[record.stream.index()];
            *part_at = record.partial.then(|| part_at.unwrap_or(self.offset));
        }
        let levels = &mut self.levels;
        self.joiner.push_line(
            line,
            |stream| wanted.stream(stream),
            |line| give(line, levels, wanted, with_levels, take),
        );
    }

    fn finish(&mut self, wanted: Wanted, with_levels: bool, take: &mut impl FnMut(PassedLine)) {
        let levels = &mut self.levels;
        self.joiner.finish(|line| give(line, levels, wanted, with_levels, take));
    }
}

fn give(
    line: LogLine,
    levels: &mut Levels,
    wanted: Wanted,
    with_levels: bool,
    take: &mut impl FnMut(PassedLine),
) {
    let level = if with_levels { levels.next(line.stream, &line.text) } else { None };
    if wanted.level.is_none_or(|least| level >= Some(least)) {
        take(PassedLine { line, level });
    }
}

impl Walk {
    /// For telling which of two walks over the same files is further.
    fn position(&self) -> impl Ord + use<> {
        match &self.open {
            Some(open) if open.first_at.is_none() => (self.done, 3, open.offset),
            Some(open) => (open.first_at, 1, open.offset),
            None => (self.done, 2, 0),
        }
    }

    fn place(&self) -> Place {
        let file = self.open.as_ref().map(|open| FilePlace {
            first_at: open.first_at,
            offset: open.part_at.iter().flatten().copied().min().unwrap_or(open.offset),
        });
        Place { done: self.done, file }
    }

    fn bytes(&self) -> u64 {
        self.totals.iter().map(|total| total.bytes).sum()
    }

    /// Whether that file was counted.
    fn knows(&self, first_at: Option<Timestamp>) -> bool {
        self.totals.iter().any(|total| total.first_at == first_at) || self.done >= first_at
    }

    fn total(&mut self, first_at: Option<Timestamp>) -> &mut Total {
        let found = self.totals.iter().position(|total| total.first_at == first_at);
        let index = found.unwrap_or_else(|| {
            self.totals.push(Total { first_at, lines: 0, bytes: 0 });
            self.totals.len() - 1
        });
        &mut self.totals[index]
    }

    /// Reads on in one file, or begins the next one.
    fn step(
        &mut self,
        max_lines: u64,
        max_bytes: u64,
        with_levels: bool,
        take: &mut impl FnMut(PassedLine),
    ) -> Result<Step, ReadError> {
        let Some(mut open) = self.open.take() else {
            let Some(first_at) = self.next_file()? else { return Ok(Step::End) };
            self.open = Some(Box::new(OpenFile::new(&self.replica, first_at, 0)));
            self.total(first_at);
            return Ok(Step::Next);
        };
        if let Err(error) = self.heal(&mut open) {
            self.open = Some(open);
            return Err(error);
        }
        let mut lines = 0;
        let begun = open.offset;
        let outcome = self.read_open(&mut open, max_lines, max_bytes, with_levels, &mut |line| {
            lines += 1;
            take(line);
        });
        let total = self.total(open.first_at);
        total.lines += lines;
        total.bytes += open.offset - begun;
        match outcome {
            Ok(step @ (Step::Next | Step::Gone)) => {
                self.done = self.done.max(open.first_at);
                Ok(step)
            }
            Ok(step @ (Step::End | Step::More)) => {
                self.open = Some(open);
                Ok(step)
            }
            Err(error) => {
                self.open = Some(open);
                Err(error)
            }
        }
    }

    /// A machine that stopped may have lost the end of a file that was read already: what is written in its place is new.
    fn heal(&self, open: &mut OpenFile) -> Result<(), ReadError> {
        let path = self.dir.join(CURRENT);
        let read = |source| ReadError::Read { path: path.clone(), source };
        let Some(file) = open_if(&path, open.first_at, 0).map_err(read)? else { return Ok(()) };
        let size_bytes = file.metadata().map_err(read)?.len();
        if size_bytes < open.offset {
            let complete = last_newline(&mut Text::Plain(file), size_bytes).map_err(read)?;
            *open = OpenFile::new(&self.replica, open.first_at, complete);
        }
        Ok(())
    }

    fn read_open(
        &self,
        open: &mut OpenFile,
        max_lines: u64,
        max_bytes: u64,
        with_levels: bool,
        take: &mut impl FnMut(PassedLine),
    ) -> Result<Step, ReadError> {
        let path = self.dir.join(CURRENT);
        let read = |source| ReadError::Read { path: path.clone(), source };
        let (wanted, offset) = (self.wanted, open.offset);
        if let Some(mut file) = open_if(&path, open.first_at, offset).map_err(read)? {
            file.seek(SeekFrom::Start(offset)).map_err(read)?;
            let ended = pass(file, open, wanted, max_lines, max_bytes, with_levels, take).map_err(read)?;
            return Ok(if ended.is_some() { Step::End } else { Step::More });
        }
        let closed = match open.first_at {
            Some(first_at) => open_closed(&self.dir, first_at)?,
            None => None,
        };
        let Some(opened) = closed else {
            // What there is of its last line is all there will be.
            open.finish(wanted, with_levels, take);
            return Ok(Step::Gone);
        };
        let read = |source| ReadError::Read { path: self.dir.clone(), source };
        let ended = match opened {
            Opened::Text(text) => {
                let end = text.size_bytes().map_err(read)?;
                let source = Source::Text { text, offset, end };
                pass(source, open, wanted, max_lines, max_bytes, with_levels, take)
            }
            Opened::Stream(mut stream) => io::copy(&mut stream.by_ref().take(offset), &mut io::sink())
                .and_then(|_| pass(stream, open, wanted, max_lines, max_bytes, with_levels, take)),
        };
        let Some(tail) = ended.map_err(read)? else { return Ok(Step::More) };
        if !tail.is_empty() {
            open.push(&tail, wanted, with_levels, take);
            open.offset += tail.len() as u64;
        }
        open.finish(wanted, with_levels, take);
        Ok(Step::Next)
    }

    /// The file after the last one: `None` when there is none yet, else the time of its first line.
    fn next_file(&self) -> Result<Option<Option<Timestamp>>, ReadError> {
        let path = self.dir.join(CURRENT);
        let open = |source| ReadError::Open { path: path.clone(), source };
        // The current file first: one that is closed between the two looks is then found as closed.
        let current = match File::open(&path) {
            Ok(mut file) => {
                let size_bytes = file.metadata().map_err(open)?.len();
                let first_at = first_at(&mut file).map_err(open)?;
                (first_at.is_some() || size_bytes > HEADER_BYTES as u64).then_some(first_at)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(open(error)),
        };
        let closed =
            closed_files(&self.dir).map_err(|source| ReadError::List { path: self.dir.clone(), source })?;
        let next = closed.into_iter().map(|file| file.first_at).find(|first| Some(*first) > self.done);
        if let Some(next) = next
            && current.flatten().is_none_or(|current| next.cmp(&current) == Ordering::Less)
        {
            return Ok(Some(Some(next)));
        }
        Ok(current.filter(|first_at| first_at.is_none() || *first_at > self.done))
    }
}

/// Takes whole lines up to the bounds. `Some` when no whole line is left, with the tail that has no end.
fn pass(
    from_offset: impl Read,
    open: &mut OpenFile,
    wanted: Wanted,
    max_lines: u64,
    max_bytes: u64,
    with_levels: bool,
    take: &mut impl FnMut(PassedLine),
) -> io::Result<Option<Vec<u8>>> {
    let mut reader = LineReader::new(from_offset);
    let begun = open.offset;
    let mut given = 0;
    while given < max_lines && open.offset - begun < max_bytes {
        match reader.next_line()? {
            Some((line, ended)) if ended || line.len() > JOIN_LIMIT + HEADER_BYTES => {
                let length = line.len() as u64 + u64::from(ended);
                open.push(line, wanted, with_levels, &mut |line| {
                    given += 1;
                    take(line);
                });
                open.offset += length;
            }
            Some((tail, _)) => return Ok(Some(tail.to_vec())),
            None => return Ok(Some(Vec::new())),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
