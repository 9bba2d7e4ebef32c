//! One replica's lines from the oldest to the newest.

use std::collections::VecDeque;

use mainstay_types::Timestamp;

use super::backward::parts_before;
use super::join::{Joiner, Overflow};
use super::lines::LineReader;
use super::seek;
use super::segment::{Opened, Segment, Snapshot};
use super::text::Source;
use super::{JOIN_LIMIT, Query, ReadError};
use crate::LogLine;
use crate::facts::Levels;
use crate::record::parse;

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
    lines: LineReader<Source>,
    joiner: Joiner,
    levels: Levels,
    /// Where reading began, and the streams of which no record was met since: the line of the first one may have parts in
    /// front of that.
    begun_at: u64,
    unmet: [bool; 2],
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
                match OpenSegment::open(&self.snapshot, segment, query) {
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
    /// Opens it near the first line that can be wanted. `None` when the file is gone meanwhile.
    pub(super) fn open(
        snapshot: &Snapshot,
        segment: &Segment,
        query: &Query,
    ) -> Result<Option<Self>, ReadError> {
        let Some(opened) = segment.open(&snapshot.dir)? else { return Ok(None) };
        let mut begun_at = 0;
        let source = match opened {
            Opened::Stream(read) => Source::Stream(read),
            Opened::Text(mut text) => {
                let place = segment.end(&text).and_then(|end| {
                    let since = query.since.filter(|since| segment.first_at.is_none_or(|at| at < *since));
                    let offset = match since {
                        Some(since) => seek::near(&mut text, end, |at| at < since)?,
                        None => 0,
                    };
                    Ok((offset, end))
                });
                let path = || segment.path(&snapshot.dir);
                let (offset, end) = place.map_err(|source| ReadError::Read { path: path(), source })?;
                begun_at = offset;
                Source::Text { text, offset, end }
            }
        };
        let first_at = segment.first_at.unwrap_or(Timestamp::UNIX_EPOCH);
        Ok(Some(Self {
            segment: segment.clone(),
            lines: LineReader::new(source),
            joiner: Joiner::new(snapshot.replica.clone(), JOIN_LIMIT, Overflow::Split, first_at),
            levels: Levels::default(),
            begun_at,
            unmet: [begun_at > 0; 2],
        }))
    }

    /// Takes one line of the file; false at its end, and where no wanted line can follow.
    pub(super) fn step(&mut self, query: &Query, mut emit: impl FnMut(LogLine)) -> std::io::Result<bool> {
        let levels = &mut self.levels;
        let mut wanted = |line: LogLine| {
            if query.wants_level(levels, &line) && query.wants(&line) {
                emit(line);
            }
        };
        let Some((line, _)) = self.lines.next_line()? else {
            self.joiner.finish(&mut wanted);
            return Ok(false);
        };
        let first_met = if self.unmet == [false; 2] { None } else { parse(line).map(|record| record.stream) };
        match first_met.filter(|stream| std::mem::take(&mut self.unmet[stream.index()])) {
            Some(stream) if query.wants_stream(stream) => {
                let line = line.to_vec();
                if let Source::Text { text, .. } = self.lines.source_mut() {
                    for part in parts_before(text, self.begun_at, stream)? {
                        self.joiner.push_line(&part, |_| true, &mut wanted);
                    }
                }
                self.joiner.push_line(&line, |_| true, &mut wanted);
            }
            Some(_) | None => {
                self.joiner.push_line(line, |stream| query.wants_stream(stream), &mut wanted);
            }
        }
        let over = query.until.is_some_and(|until| self.joiner.last_at() > until);
        Ok(!over || self.joiner.is_open())
    }
}
