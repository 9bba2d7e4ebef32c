//! One way over a replica's files, oldest first: which file comes next, and how far it was read.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use mainstay_types::{ReplicaId, Timestamp};

use super::super::backward::last_newline;
use super::super::follow::open_if;
use super::super::join::{Joiner, Overflow};
use super::super::lines::LineReader;
use super::super::segment::{Opened, next_file, open_closed};
use super::super::text::{Source, Text};
use super::super::{JOIN_LIMIT, ReadError};
use super::{FilePlace, PassedLine, Place, Wanted};
use crate::LogLine;
use crate::facts::Levels;
use crate::record::{HEADER_BYTES, parse};
use crate::store::{CURRENT, PACKED, PLAIN, closed_path, replica_dir};

/// Text of one line that is put together from its parts; what is longer comes in pieces marked `partial`.
const PASSED_LINE_BYTES: usize = 256 * 1024;

/// What was met of one file since the walk began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Total {
    pub(super) first_at: Option<Timestamp>,
    pub(super) lines: u64,
    pub(super) bytes: u64,
}

/// A way over a replica's files, oldest first.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    replica: ReplicaId,
    dir: PathBuf,
    pub(super) wanted: Wanted,
    pub(super) done: Option<Timestamp>,
    pub(super) open: Option<Box<OpenFile>>,
    /// Of files not settled yet, oldest first; the last one is the one being read. As many as are kept of a replica.
    pub(super) totals: Vec<Total>,
}

#[derive(Clone)]
pub(super) struct OpenFile {
    pub(super) first_at: Option<Timestamp>,
    /// Bytes taken, always whole lines.
    offset: u64,
    joiner: Joiner,
    levels: Levels,
    /// Where the unfinished line of each stream begins.
    part_at: [Option<u64>; 2],
    /// It was closed, and cannot be read.
    broken: bool,
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
pub(super) enum Step {
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
        Self { first_at, offset, joiner, levels: Levels::default(), part_at: [None; 2], broken: false }
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
    pub(super) fn from(root: &Path, replica: &ReplicaId, wanted: Wanted, place: Place) -> Self {
        let mut walk = Self {
            dir: replica_dir(root, replica),
            replica: replica.clone(),
            wanted,
            done: place.done,
            open: None,
            totals: Vec::new(),
        };
        if let Some(file) = place.file {
            let mut open = Box::new(OpenFile::new(replica, file.first_at, file.offset));
            // Now, before more is written. What hinders it is told at the first look.
            let _ = walk.heal(&mut open);
            walk.open = Some(open);
        }
        walk
    }

    /// For telling which of two walks over the same files is further.
    pub(super) fn position(&self) -> impl Ord + use<> {
        match &self.open {
            Some(open) if open.first_at.is_none() => (self.done, 3, open.offset),
            Some(open) => (open.first_at, 1, open.offset),
            None => (self.done, 2, 0),
        }
    }

    pub(super) fn first_at(&self) -> Option<Option<Timestamp>> {
        self.open.as_ref().map(|open| open.first_at)
    }

    /// Whether the file that begins with this time is there in some form.
    pub(super) fn holds(&self, begins: Option<Timestamp>) -> Result<bool, ReadError> {
        let path = self.dir.join(CURRENT);
        if open_if(&path, begins, 0).map_err(|source| ReadError::Open { path, source })?.is_some() {
            return Ok(true);
        }
        Ok(begins.is_some_and(|begins| {
            [PLAIN, PACKED].into_iter().any(|extension| closed_path(&self.dir, begins, extension).exists())
        }))
    }

    pub(super) fn place(&self) -> Place {
        let file = self.open.as_ref().map(|open| FilePlace {
            first_at: open.first_at,
            offset: open.part_at.iter().flatten().copied().min().unwrap_or(open.offset),
        });
        Place { done: self.done, file }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.totals.iter().map(|total| total.bytes).sum()
    }

    /// Whether that file was counted.
    pub(super) fn knows(&self, first_at: Option<Timestamp>) -> bool {
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
    pub(super) fn step(
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
            Err(error) if open.broken => {
                // It will not get better: reading goes on with the next one.
                self.done = self.done.max(open.first_at);
                Err(error)
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
        // Until its end says otherwise.
        open.broken = true;
        let ended = match opened {
            Opened::Text(text) => text.size_bytes().and_then(|end| {
                let source = Source::Text { text, offset, end };
                pass(source, open, wanted, max_lines, max_bytes, with_levels, take)
            }),
            Opened::Stream(mut stream) => io::copy(&mut stream.by_ref().take(offset), &mut io::sink())
                .and_then(|_| pass(stream, open, wanted, max_lines, max_bytes, with_levels, take)),
        };
        let ended = ended.map_err(read)?;
        open.broken = false;
        let Some(tail) = ended else { return Ok(Step::More) };
        if !tail.is_empty() {
            open.push(&tail, wanted, with_levels, take);
            open.offset += tail.len() as u64;
        }
        open.finish(wanted, with_levels, take);
        Ok(Step::Next)
    }

    /// The file after the last one: `None` when there is none yet, else the time of its first line.
    fn next_file(&self) -> Result<Option<Option<Timestamp>>, ReadError> {
        Ok(next_file(&self.dir, self.done)?.filter(|first_at| first_at.is_none() || *first_at > self.done))
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
