//! One replica's lines from the newest to the oldest, reading files from their ends.
//!
//! A file is read in batches. The records of a batch are put in order and joined; parts that belong to the batch's
//! first lines are looked for in front of it, at most [`JOIN_LIMIT`] bytes back, and passed over when the next batch
//! meets them. With a level wanted, lines whose message lies in front of the batch wait for the next one. A file that was
//! compressed as one frame can only be read forward; of it the newest lines are kept.

use std::collections::VecDeque;
use std::io;

use mainstay_types::Timestamp;

use super::forward::{OpenSegment, within};
use super::join::{Joiner, Overflow};
use super::lines::LineReader;
use super::seek;
use super::segment::{Opened, Segment, Snapshot};
use super::text::Text;
use super::{Depth, JOIN_LIMIT, Query, ReadError, TAIL_TEXT_BYTES};
use crate::facts::{Levels, MOST_LINES_OF_A_MESSAGE, is_message};
use crate::record::{HEADER_BYTES, parse};
use crate::{LogLine, Stream};

/// Bytes read at once.
const BLOCK_BYTES: u64 = 16 * 1024;

/// Lines of the first batch of a file; doubled for each further one up to the second number.
const BATCH_FIRST: usize = 64;
const BATCH_MAX: usize = 4096;

/// The offset behind the last newline within the first `size_bytes` of a file; 0 without one.
pub(super) fn last_newline(text: &mut Text, size_bytes: u64) -> io::Result<u64> {
    let mut end = size_bytes;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK_BYTES);
        text.read_range(start, end, &mut block)?;
        if let Some(found) = memchr::memrchr(b'\n', &block) {
            return Ok(start + found as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// The lines of a file, last first.
struct BackwardLines {
    /// The file's bytes from `from`; those up to `until` are not given out yet.
    block: Vec<u8>,
    from: u64,
    until: usize,
}

impl BackwardLines {
    const fn new(end: u64) -> Self {
        Self { block: Vec::new(), from: end, until: 0 }
    }

    /// Where the lines given out begin.
    fn offset(&self) -> u64 {
        self.from + self.until as u64
    }

    fn next_back(&mut self, text: &mut Text) -> io::Result<Option<&[u8]>> {
        loop {
            let unread = &self.block[..self.until];
            let text_end = unread.len() - usize::from(unread.last() == Some(&b'\n'));
            let found = memchr::memrchr(b'\n', &unread[..text_end]);
            let start = match found {
                Some(newline) => newline + 1,
                None if self.from > 0 && self.until <= JOIN_LIMIT + HEADER_BYTES => {
                    self.load(text)?;
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
    fn load(&mut self, text: &mut Text) -> io::Result<()> {
        // Doubling keeps the copying for a long line in proportion to its length.
        let step = BLOCK_BYTES.max(self.until as u64).min(self.from);
        let mut block = Vec::new();
        text.read_range(self.from - step, self.from, &mut block)?;
        self.from -= step;
        let left = self.until;
        self.until += block.len();
        block.extend_from_slice(&self.block[..left]);
        self.block = block;
        Ok(())
    }
}

/// The parts, in order, that the first line of a stream at or behind `offset` has in front of it.
pub(super) fn parts_before(text: &mut Text, offset: u64, stream: Stream) -> io::Result<Vec<Vec<u8>>> {
    let mut looking = [false; 2];
    looking[stream.index()] = true;
    let mut parts = Vec::new();
    look_back(text, offset, looking, &mut parts, <[u8]>::to_vec)?;
    let lines = parts.into_iter().rev().filter_map(|part| match part {
        Raw::Line(line) => Some(line),
        Raw::Time(_) => None,
    });
    Ok(lines.collect())
}

/// Adds the parts, in front of `offset`, of the first line of each wanted stream behind it; the last first.
fn look_back(
    text: &mut Text,
    offset: u64,
    mut looking: [bool; 2],
    raw: &mut Vec<Raw>,
    kept: impl Fn(&[u8]) -> Vec<u8>,
) -> io::Result<()> {
    let mut lines = BackwardLines::new(offset);
    while looking != [false; 2] && offset - lines.offset() <= JOIN_LIMIT as u64 {
        let Some(line) = lines.next_back(text)? else { break };
        let Some(record) = parse(line) else { continue };
        let index = record.stream.index();
        if looking[index] {
            if record.partial {
                raw.push(Raw::Line(kept(line)));
            } else {
                looking[index] = false;
            }
        }
    }
    Ok(())
}

/// A range of a text, borrowed.
struct Range<'a> {
    text: &'a mut Text,
    from: u64,
    to: u64,
}

impl io::Read for Range<'_> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.to.saturating_sub(self.from)).unwrap_or(usize::MAX);
        let room = space.len().min(left);
        let count = if room == 0 { 0 } else { self.text.read_at(self.from, &mut space[..room])? };
        self.from += count as u64;
        Ok(count)
    }
}

/// Whether a record of the stream begins between the two offsets.
fn goes_on(text: &mut Text, from: u64, to: u64, stream: Stream) -> io::Result<bool> {
    let mut lines = LineReader::new(Range { text, from, to });
    while let Some((line, _)) = lines.next_line()? {
        if parse(line).is_some_and(|record| record.stream == stream) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads a replica's files from the newest to the oldest.
pub(super) struct Backward {
    snapshot: Snapshot,
    depth: Depth,
    limit: usize,
    overflow: Overflow,
    open: Option<OpenFile>,
    /// Wanted lines not given out, oldest first.
    ready: Vec<LogLine>,
    /// A compressed file was met that may not be opened.
    stopped_early: bool,
}

/// What is kept of a line of the file until the batch is whole.
enum Raw {
    Line(Vec<u8>),
    /// Of a line that is not wanted: the time that the bytes behind it take.
    Time(Timestamp),
}

/// A file being read from its end.
struct OpenFile {
    segment: Segment,
    text: Text,
    lines: BackwardLines,
    batch: usize,
    /// The end of a line of this stream was given out: parts in front of it belong to it.
    taken: [bool; 2],
    /// What lies between is too new. A line of it may have parts in front of it, of the streams that were not met yet.
    too_new: (u64, u64),
    unmet: [bool; 2],
    /// With a level wanted: lines whose message was not met yet, oldest first.
    held: Vec<LogLine>,
}

impl Backward {
    pub(super) fn new(mut snapshot: Snapshot, query: &Query) -> Self {
        snapshot.segments = within(std::mem::take(&mut snapshot.segments), query);
        Self {
            snapshot,
            depth: Depth::All,
            limit: JOIN_LIMIT,
            overflow: Overflow::Split,
            open: None,
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
            if let Some(mut open) = self.open.take() {
                match self.batch(&mut open, query) {
                    Ok(true) => self.open = Some(open),
                    Ok(false) => {}
                    Err(source) => {
                        let path = open.segment.path(&self.snapshot.dir);
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
            Opened::Text(Text::Packed(_)) | Opened::Stream(_) if self.depth == Depth::Plain => {
                self.stopped_early = true;
                self.snapshot.segments.clear();
                Ok(())
            }
            Opened::Stream(_) => self.unpack(&segment, query, most),
            Opened::Text(mut text) => {
                let bounds = segment.end(&text).and_then(|end| {
                    let wanted_end = match query.until {
                        Some(until) => seek::first_not(&mut text, end, |at| at <= until)?,
                        None => end,
                    };
                    Ok((wanted_end, end))
                });
                let path = || segment.path(&self.snapshot.dir);
                let too_new = bounds.map_err(|source| ReadError::Read { path: path(), source })?;
                self.open = Some(OpenFile {
                    segment,
                    text,
                    lines: BackwardLines::new(too_new.0),
                    batch: BATCH_FIRST,
                    taken: [false; 2],
                    too_new,
                    unmet: [too_new.0 < too_new.1; 2],
                    held: Vec::new(),
                });
                Ok(())
            }
        }
    }

    /// Reads a file from its beginning and keeps its newest wanted lines.
    fn unpack(&mut self, segment: &Segment, query: &Query, most: usize) -> Result<(), ReadError> {
        let Some(mut open) = OpenSegment::open(&self.snapshot, segment, query)? else { return Ok(()) };
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
    fn batch(&mut self, open: &mut OpenFile, query: &Query) -> io::Result<bool> {
        let mut raw: Vec<Raw> = Vec::new();
        // Bytes that are no record wait for the time of the record in front of them.
        let mut timeless = false;
        // What an overlong text is cut to: one byte more than wanted, so that the cut shows.
        let keep = match self.overflow {
            Overflow::Cut => HEADER_BYTES + self.limit + 1,
            Overflow::Split => usize::MAX,
        };
        let kept = |line: &[u8]| line[..line.len().min(keep)].to_vec();
        let (mut ends, mut at_start, mut oldest) = (0, false, None);
        let mut seen = [false; 2];
        loop {
            let Some(line) = open.lines.next_back(&mut open.text)? else {
                at_start = true;
                break;
            };
            let Some(record) = parse(line) else {
                if query.wants_stream(Stream::Stdout) {
                    raw.push(Raw::Line(kept(line)));
                    timeless = true;
                }
                ends += 1;
                // Not to end in front of it keeps its time known; only a file full of such lines is cut short.
                if ends >= 2 * BATCH_MAX {
                    break;
                }
                continue;
            };
            oldest = Some(record.at);
            if std::mem::take(&mut timeless) {
                // Whatever becomes of the record itself.
                raw.push(Raw::Time(record.at));
            }
            if !query.wants_stream(record.stream) {
                continue;
            }
            let index = record.stream.index();
            if std::mem::take(&mut open.unmet[index]) && record.partial {
                let (line, (from, to)) = (line.to_vec(), open.too_new);
                if goes_on(&mut open.text, from, to, record.stream)? {
                    open.taken[index] = true;
                } else {
                    raw.push(Raw::Line(kept(&line)));
                    seen[index] = true;
                }
                continue;
            }
            if record.partial && open.taken[index] && !seen[index] {
                // Given out with the batch behind, or not wanted.
                continue;
            }
            raw.push(Raw::Line(kept(line)));
            seen[index] = true;
            if !record.partial {
                ends += 1;
                if ends >= open.batch {
                    break;
                }
            }
        }
        if !at_start {
            look_back(&mut open.text, open.lines.offset(), seen, &mut raw, kept)?;
        }
        for (taken, seen) in open.taken.iter_mut().zip(seen) {
            *taken |= seen;
        }
        open.batch = (open.batch * 2).min(BATCH_MAX);
        let first_at = open.segment.first_at.unwrap_or(Timestamp::UNIX_EPOCH);
        let mut joiner = Joiner::new(self.snapshot.replica.clone(), self.limit, self.overflow, first_at);
        let mut lines = Vec::new();
        for raw in raw.iter().rev() {
            match raw {
                Raw::Line(line) => {
                    joiner.push_line(line, |stream| query.wants_stream(stream), |line| lines.push(line));
                }
                Raw::Time(at) => joiner.pass(*at),
            }
        }
        joiner.finish(|line| lines.push(line));
        self.ready = match query.level {
            Some(_) => judged(lines, &mut open.held, at_start, query),
            None => lines,
        };
        self.ready.retain(|line| query.wants(line));
        let too_old = |at: Timestamp| query.since.is_some_and(|since| at < since);
        if oldest.is_some_and(too_old) && open.held.last().is_none_or(|line| too_old(line.at)) {
            self.snapshot.segments.clear();
            return Ok(false);
        }
        Ok(!at_start)
    }
}

/// The lines that are serious enough, of a batch and those that were held. Holds those of the front whose message may be
/// in the batch before.
fn judged(lines: Vec<LogLine>, held: &mut Vec<LogLine>, at_start: bool, query: &Query) -> Vec<LogLine> {
    let mut lines = lines;
    lines.append(held);
    let mut levels = Levels::default();
    let mut met = [false; 2];
    let mut undecided = 0;
    let mut wanted = Vec::with_capacity(lines.len());
    for (place, line) in lines.iter().enumerate() {
        wanted.push(query.wants_level(&mut levels, line));
        let met = &mut met[line.stream.index()];
        *met |= is_message(&line.text);
        if !*met {
            undecided = place + 1;
        }
    }
    // More than can go with one message go with none.
    if at_start || undecided > 2 * MOST_LINES_OF_A_MESSAGE {
        undecided = 0;
    }
    let judged = lines.split_off(undecided);
    *held = lines;
    judged
        .into_iter()
        .zip(wanted.into_iter().skip(undecided))
        .filter_map(|(line, wanted)| wanted.then_some(line))
        .collect()
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
