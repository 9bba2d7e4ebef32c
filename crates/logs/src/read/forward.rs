//! One replica's lines from the oldest to the newest.

use std::collections::VecDeque;
use std::io::Read;

use mainstay_types::Timestamp;

use super::join::{Joiner, Overflow};
use super::lines::LineReader;
use super::segment::{Segment, SegmentState, Snapshot};
use super::{JOIN_LIMIT, Query, ReadError};
use crate::LogLine;

/// Reads a replica's files one after the other.
pub(super) struct Forward {
    snapshot: Snapshot,
    /// The next segment to open.
    next: usize,
    open: Option<OpenSegment>,
    /// Lines read and wanted but not given out.
    ready: VecDeque<LogLine>,
}

/// A file being read.
pub(super) struct OpenSegment {
    segment: Segment,
    lines: LineReader<Box<dyn Read>>,
    joiner: Joiner,
}

impl Forward {
    pub(super) fn new(mut snapshot: Snapshot, query: &Query) -> Self {
        snapshot.segments = within(std::mem::take(&mut snapshot.segments), query);
        Self { snapshot, next: 0, open: None, ready: VecDeque::new() }
    }

    /// The next wanted line; `None` at the end.
    pub(super) fn next(&mut self, query: &Query) -> Option<Result<LogLine, ReadError>> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(Ok(line));
            }
            let Some(open) = &mut self.open else {
                let segment = self.snapshot.segments.get(self.next)?;
                self.next += 1;
                match OpenSegment::open(&self.snapshot, segment) {
                    Ok(open) => self.open = open,
                    Err(error) => return Some(Err(error)),
                }
                continue;
            };
            let ready = &mut self.ready;
            match open.step(query, |line| ready.push_back(line)) {
                Ok(true) => {}
                Ok(false) => self.open = None,
                Err(source) => {
                    let path = open.segment.path(&self.snapshot.dir);
                    self.open = None;
                    return Some(Err(ReadError::Read { path, source }));
                }
            }
        }
    }
}

/// The segments that can hold wanted times: each ends where the next begins.
pub(super) fn within(segments: Vec<Segment>, query: &Query) -> Vec<Segment> {
    let ends: Vec<Option<Timestamp>> =
        segments.iter().skip(1).map(|segment| segment.first_at).chain([None]).collect();
    segments
        .into_iter()
        .zip(ends)
        .filter(|(segment, end)| {
            let too_old = query.since.is_some_and(|since| end.is_some_and(|end| end < since));
            let too_new =
                query.until.is_some_and(|until| segment.first_at.is_some_and(|first| first > until));
            !too_old && !too_new
        })
        .map(|(segment, _)| segment)
        .collect()
}

impl OpenSegment {
    /// `None` when the file is gone meanwhile.
    pub(super) fn open(snapshot: &Snapshot, segment: &Segment) -> Result<Option<Self>, ReadError> {
        let Some(opened) = segment.open(&snapshot.dir)? else { return Ok(None) };
        let read = opened.into_read();
        let read: Box<dyn Read> = match segment.state {
            SegmentState::Current { shown_bytes, .. } => Box::new(read.take(shown_bytes)),
            SegmentState::Closed { .. } => read,
        };
        let first_at = segment.first_at.unwrap_or(Timestamp::UNIX_EPOCH);
        Ok(Some(Self {
            segment: segment.clone(),
            lines: LineReader::new(read),
            joiner: Joiner::new(snapshot.replica.clone(), JOIN_LIMIT, Overflow::Split, first_at),
        }))
    }

    /// Takes one line of the file; false at its end.
    pub(super) fn step(&mut self, query: &Query, mut emit: impl FnMut(LogLine)) -> std::io::Result<bool> {
        let mut wanted = |line: LogLine| {
            if query.wants(&line) {
                emit(line);
            }
        };
        match self.lines.next_line()? {
            Some((line, _)) => {
                self.joiner.push_line(line, |stream| query.wants_stream(stream), &mut wanted);
                Ok(true)
            }
            None => {
                self.joiner.finish(&mut wanted);
                Ok(false)
            }
        }
    }
}
