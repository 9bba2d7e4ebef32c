//! One replica's lines from the newest to the oldest, reading plain files from their ends.
//!
//! A plain file is read in batches. The records of a batch are put in order and joined; parts that belong to the batch's
//! first lines are looked for in front of it, at most [`JOIN_LIMIT`] bytes back, and passed over when the next batch
//! meets them. A compressed file can only be read forward; of it the newest lines are kept.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use mainstay_types::Timestamp;

use super::forward::{OpenSegment, within};
use super::join::{Joiner, Overflow};
use super::segment::{Opened, Segment, SegmentState, Snapshot};
use super::{Depth, JOIN_LIMIT, Query, ReadError, TAIL_TEXT_BYTES};
use crate::record::{HEADER_BYTES, parse};
use crate::{LogLine, Stream};

/// Bytes read at once.
const BLOCK_BYTES: u64 = 16 * 1024;

/// Lines of the first batch of a file; doubled for each further one up to the second number.
const BATCH_FIRST: usize = 64;
const BATCH_MAX: usize = 4096;

/// The offset behind the last newline within the first `size_bytes` of a file; 0 without one.
pub(super) fn last_newline(file: &mut File, size_bytes: u64) -> io::Result<u64> {
    let mut end = size_bytes;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK_BYTES);
        read_range(file, start, end, &mut block)?;
        if let Some(found) = memchr::memrchr(b'\n', &block) {
            return Ok(start + found as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

fn read_range(file: &mut File, start: u64, end: u64, into: &mut Vec<u8>) -> io::Result<()> {
    into.clear();
    file.seek(SeekFrom::Start(start))?;
    file.take(end - start).read_to_end(into)?;
    // Shorter than it was: cut by a foreign hand. What is missing reads as empty lines nobody sees.
    Ok(())
}

/// The lines of a plain file, last first.
struct BackwardLines {
    file: File,
    /// The file's bytes from `from`; those up to `until` are not given out yet.
    block: Vec<u8>,
    from: u64,
    until: usize,
}

impl BackwardLines {
    const fn new(file: File, end: u64) -> Self {
        Self { file, block: Vec::new(), from: end, until: 0 }
    }

    /// Where the lines given out begin.
    fn offset(&self) -> u64 {
        self.from + self.until as u64
    }

    /// Goes back to an earlier answer of `offset`.
    fn rewind(&mut self, offset: u64) {
        let inside = offset.checked_sub(self.from).and_then(|inside| usize::try_from(inside).ok());
        match inside.filter(|inside| *inside <= self.block.len()) {
            Some(inside) => self.until = inside,
            None => {
                self.block.clear();
                self.from = offset;
                self.until = 0;
            }
        }
    }

    fn next_back(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            let unread = &self.block[..self.until];
            let text_end = unread.len() - usize::from(unread.last() == Some(&b'\n'));
            let found = memchr::memrchr(b'\n', &unread[..text_end]);
            let start = match found {
                Some(newline) => newline + 1,
                None if self.from > 0 && self.until <= JOIN_LIMIT + HEADER_BYTES => {
                    self.load()?;
                    continue;
                }
                None if self.until == 0 => return Ok(None),
                None => 0,
            };
            self.until = start;
            return Ok(Some(&self.block[start..text_end]));
        }
    }

    /// Puts the bytes before the block in front of what is left of it.
    fn load(&mut self) -> io::Result<()> {
        // Doubling keeps the copying for a long line in proportion to its length.
        let step = BLOCK_BYTES.max(self.until as u64).min(self.from);
        let mut block = Vec::new();
        read_range(&mut self.file, self.from - step, self.from, &mut block)?;
        self.from -= step;
        let left = self.until;
        self.until += block.len();
        block.extend_from_slice(&self.block[..left]);
        self.block = block;
        Ok(())
    }
}

/// Reads a replica's files from the newest to the oldest.
pub(super) struct Backward {
    snapshot: Snapshot,
    depth: Depth,
    limit: usize,
    overflow: Overflow,
    plain: Option<PlainFile>,
    /// Wanted lines not given out, oldest first.
    ready: Vec<LogLine>,
    /// A compressed file was met that may not be opened.
    stopped_early: bool,
}

struct PlainFile {
    segment: Segment,
    lines: BackwardLines,
    batch: usize,
    /// The end of a line of this stream was given out: parts in front of it belong to it.
    taken: [bool; 2],
}

impl Backward {
    pub(super) fn new(mut snapshot: Snapshot, query: &Query) -> Self {
        snapshot.segments = within(std::mem::take(&mut snapshot.segments), query);
        Self {
            snapshot,
            depth: Depth::All,
            limit: JOIN_LIMIT,
            overflow: Overflow::Split,
            plain: None,
            ready: Vec::new(),
            stopped_early: false,
        }
    }

    /// The wanted line before the last one given out; `None` when there is none. No more than `most` are asked for.
    pub(super) fn next_back(&mut self, query: &Query, most: usize) -> Option<Result<LogLine, ReadError>> {
        loop {
            if let Some(line) = self.ready.pop() {
                return Some(Ok(line));
            }
            if let Some(mut plain) = self.plain.take() {
                match self.batch(&mut plain, query) {
                    Ok(true) => self.plain = Some(plain),
                    Ok(false) => {}
                    Err(source) => {
                        let path = plain.segment.path(&self.snapshot.dir);
                        return Some(Err(ReadError::Read { path, source }));
                    }
                }
                continue;
            }
            let segment = self.snapshot.segments.pop()?;
            if let Err(error) = self.open(segment, query, most) {
                return Some(Err(error));
            }
        }
    }

    fn open(&mut self, segment: Segment, query: &Query, most: usize) -> Result<(), ReadError> {
        let Some(opened) = segment.open(&self.snapshot.dir)? else { return Ok(()) };
        match opened {
            Opened::Plain(file) => {
                let end = match segment.state {
                    SegmentState::Current { shown_bytes, .. } => Ok(shown_bytes),
                    SegmentState::Closed { .. } => file.metadata().map(|metadata| metadata.len()),
                };
                let path = segment.path(&self.snapshot.dir);
                let end = end.map_err(|source| ReadError::Read { path, source })?;
                let lines = BackwardLines::new(file, end);
                self.plain = Some(PlainFile { segment, lines, batch: BATCH_FIRST, taken: [false; 2] });
                Ok(())
            }
            Opened::Packed(_) if self.depth == Depth::Plain => {
                self.stopped_early = true;
                self.snapshot.segments.clear();
                Ok(())
            }
            Opened::Packed(_) => self.unpack(&segment, query, most),
        }
    }

    /// Reads a compressed file and keeps its newest wanted lines.
    fn unpack(&mut self, segment: &Segment, query: &Query, most: usize) -> Result<(), ReadError> {
        let Some(mut open) = OpenSegment::open(&self.snapshot, segment)? else { return Ok(()) };
        let mut newest = VecDeque::new();
        let outcome = loop {
            let keep = |mut line: LogLine| {
                if self.overflow == Overflow::Cut && line.text.len() > self.limit {
                    line.text.truncate(self.limit);
                    line.text.shrink_to_fit();
                    line.partial = true;
                }
                newest.push_back(line);
                if newest.len() > most {
                    newest.pop_front();
                }
            };
            match open.step(query, keep) {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(source) => {
                    let path = segment.path(&self.snapshot.dir);
                    break Err(ReadError::Read { path, source });
                }
            }
        };
        self.ready = newest.into();
        outcome
    }

    /// Reads a batch in front of the last one; false when nothing older is wanted.
    fn batch(&mut self, plain: &mut PlainFile, query: &Query) -> io::Result<bool> {
        let mut raw: Vec<Vec<u8>> = Vec::new();
        // What an overlong text is cut to: one byte more than wanted, so that the cut shows.
        let keep = match self.overflow {
            Overflow::Cut => HEADER_BYTES + self.limit + 1,
            Overflow::Split => usize::MAX,
        };
        let kept = |line: &[u8]| line[..line.len().min(keep)].to_vec();
        let (mut ends, mut at_start, mut oldest) = (0, false, None);
        let mut seen = [false; 2];
        loop {
            let Some(line) = plain.lines.next_back()? else {
                at_start = true;
                break;
            };
            let Some(record) = parse(line) else {
                if query.wants_stream(Stream::Stdout) {
                    raw.push(kept(line));
                }
                ends += 1;
                // Not to end in front of it keeps its time known; only a file full of such lines is cut short.
                if ends >= 2 * BATCH_MAX {
                    break;
                }
                continue;
            };
            oldest = Some(record.at);
            if !query.wants_stream(record.stream) {
                continue;
            }
            let index = record.stream.index();
            if record.partial && plain.taken[index] && !seen[index] {
                // Given out with the batch behind.
                continue;
            }
            raw.push(kept(line));
            seen[index] = true;
            if !record.partial {
                ends += 1;
                if ends >= plain.batch {
                    break;
                }
            }
        }
        if !at_start {
            look_back(&mut plain.lines, seen, &mut raw, kept)?;
        }
        for (taken, seen) in plain.taken.iter_mut().zip(seen) {
            *taken |= seen;
        }
        plain.batch = (plain.batch * 2).min(BATCH_MAX);
        let first_at = plain.segment.first_at.unwrap_or(Timestamp::UNIX_EPOCH);
        let mut joiner = Joiner::new(self.snapshot.replica.clone(), self.limit, self.overflow, first_at);
        let ready = &mut self.ready;
        let mut emit = |line: LogLine| {
            if query.wants(&line) {
                ready.push(line);
            }
        };
        for line in raw.iter().rev() {
            joiner.push_line(line, |stream| query.wants_stream(stream), &mut emit);
        }
        joiner.finish(&mut emit);
        if oldest.zip(query.since).is_some_and(|(oldest, since)| oldest < since) {
            self.snapshot.segments.clear();
            return Ok(false);
        }
        Ok(!at_start)
    }
}

/// Adds the parts, in front of a batch, of the first line of each stream seen in it; leaves the position as it was.
fn look_back(
    lines: &mut BackwardLines,
    mut looking: [bool; 2],
    raw: &mut Vec<Vec<u8>>,
    kept: impl Fn(&[u8]) -> Vec<u8>,
) -> io::Result<()> {
    let mark = lines.offset();
    while looking != [false; 2] && mark - lines.offset() <= JOIN_LIMIT as u64 {
        let Some(line) = lines.next_back()? else { break };
        let Some(record) = parse(line) else { continue };
        let index = record.stream.index();
        if looking[index] {
            if record.partial {
                raw.push(kept(line));
            } else {
                looking[index] = false;
            }
        }
    }
    lines.rewind(mark);
    Ok(())
}

/// See [`super::tail`].
pub(super) fn tail(snapshot: Snapshot, n: usize, depth: Depth) -> (Vec<LogLine>, bool) {
    let query = Query::default();
    let mut backward = Backward::new(snapshot, &query);
    backward.depth = depth;
    backward.limit = TAIL_TEXT_BYTES;
    backward.overflow = Overflow::Cut;
    let mut lines = Vec::new();
    while lines.len() < n {
        match backward.next_back(&query, n) {
            Some(Ok(line)) => lines.push(line),
            Some(Err(_)) => {}
            None => break,
        }
    }
    lines.reverse();
    (lines, !backward.stopped_early)
}
