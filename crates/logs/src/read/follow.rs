//! New lines as they are written, across rotation and compression.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mainstay_types::{ReplicaId, Timestamp};

use super::join::{Joiner, Overflow};
use super::lines::LineReader;
use super::segment::{Opened, SegmentState, Snapshot, first_at, next_file, open_closed};
use super::text::Source;
use super::{JOIN_LIMIT, Query, ReadError};
use crate::LogLine;
use crate::facts::Levels;
use crate::record::HEADER_BYTES;
use crate::store::{CURRENT, replica_dir};

/// Bytes of one file a poll reads at most (and the rest of the last line); the rest comes with the next poll.
const POLL_BYTES: u64 = 4 * 1024 * 1024;

/// Delivers lines from where it was begun, in the order of time within each poll. Holds no file open between polls.
/// New replicas of the selection are found as they appear.
#[derive(Debug)]
pub struct Follower {
    root: PathBuf,
    query: Query,
    replicas: BTreeMap<ReplicaId, Tracked>,
    /// Kept for the next poll, so that no lines are lost to an error.
    errors: Vec<ReadError>,
}

/// How far one replica was read.
#[derive(Debug)]
struct Tracked {
    dir: PathBuf,
    place: Option<Place>,
    /// The newest file read to its end.
    done: Option<Timestamp>,
    /// Length and time of the current file when it was last read to its end.
    seen: Option<(u64, SystemTime)>,
}

struct Place {
    first_at: Option<Timestamp>,
    /// Bytes read, always whole lines.
    offset: u64,
    joiner: Joiner,
    levels: Levels,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place")
            .field("first_at", &self.first_at)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

/// How reading a file ended.
enum Reached {
    /// No whole line is left; the tail behind the offset has no end.
    End { tail: Vec<u8> },
    /// There may be more.
    Allowance,
}

impl Follower {
    pub(super) fn new(root: &Path, query: &Query, snapshots: &[Snapshot]) -> Self {
        let query = Query { last: None, ..query.clone() };
        let replicas =
            snapshots.iter().map(|snapshot| (snapshot.replica.clone(), Tracked::after(snapshot))).collect();
        Self { root: root.to_owned(), query, replicas, errors: Vec::new() }
    }

    /// The wanted lines written since the last poll; none is an empty list. Does not wait: [`super::Watch`] tells when to
    /// poll. An error does not end following: poll again.
    ///
    /// A line comes when its end is there; one kept in parts comes whole.
    pub fn poll(&mut self) -> Result<Vec<LogLine>, ReadError> {
        if let Some(error) = self.errors.pop() {
            return Err(error);
        }
        for replica in self.query.replicas.replicas(&self.root)? {
            let dir = replica_dir(&self.root, &replica);
            self.replicas.entry(replica).or_insert_with(|| Tracked {
                dir,
                place: None,
                done: None,
                seen: None,
            });
        }
        let mut lines = Vec::new();
        for (replica, tracked) in &mut self.replicas {
            let mut emit = |line: LogLine| {
                if self.query.wants(&line) {
                    lines.push(line);
                }
            };
            tracked.poll(replica, &self.query, &mut emit, &mut self.errors);
        }
        if lines.is_empty()
            && let Some(error) = self.errors.pop()
        {
            return Err(error);
        }
        lines.sort_by_key(|line| line.at);
        Ok(lines)
    }
}

impl Place {
    fn new(replica: &ReplicaId, first_at: Option<Timestamp>, offset: u64) -> Self {
        let joiner = Joiner::new(
            replica.clone(),
            JOIN_LIMIT,
            Overflow::Split,
            first_at.unwrap_or(Timestamp::UNIX_EPOCH),
        );
        Self { first_at, offset, joiner, levels: Levels::default() }
    }

    /// Takes whole lines from the offset on.
    fn take(
        &mut self,
        from_offset: impl Read,
        query: &Query,
        emit: &mut impl FnMut(LogLine),
    ) -> io::Result<Reached> {
        let mut lines = LineReader::new(from_offset);
        let start = self.offset;
        while self.offset - start < POLL_BYTES {
            match lines.next_line()? {
                Some((line, ended)) if ended || line.len() > JOIN_LIMIT + HEADER_BYTES => {
                    self.offset += line.len() as u64 + u64::from(ended);
                    let levels = &mut self.levels;
                    self.joiner.push_line(
                        line,
                        |stream| query.wants_stream(stream),
                        |line| {
                            if query.wants_level(levels, &line) {
                                emit(line);
                            }
                        },
                    );
                }
                Some((tail, _)) => return Ok(Reached::End { tail: tail.to_vec() }),
                None => return Ok(Reached::End { tail: Vec::new() }),
            }
        }
        Ok(Reached::Allowance)
    }
}

impl Tracked {
    fn after(snapshot: &Snapshot) -> Self {
        let mut tracked = Self { dir: snapshot.dir.clone(), place: None, done: None, seen: None };
        for segment in &snapshot.segments {
            match segment.state {
                SegmentState::Closed { .. } => tracked.done = segment.first_at,
                SegmentState::Current { complete_bytes, shown_bytes } => {
                    // An empty file, or one whose first line is being written, has no identity yet.
                    if segment.first_at.is_some() || shown_bytes > 0 {
                        tracked.place = Some(Place::new(&snapshot.replica, segment.first_at, complete_bytes));
                    }
                }
            }
        }
        tracked
    }

    fn poll(
        &mut self,
        replica: &ReplicaId,
        query: &Query,
        emit: &mut impl FnMut(LogLine),
        errors: &mut Vec<ReadError>,
    ) {
        let path = self.dir.join(CURRENT);
        let found = std::fs::metadata(&path)
            .ok()
            .and_then(|metadata| Some((metadata.len(), metadata.modified().ok()?)));
        if found.is_some() && found == self.seen {
            return;
        }
        self.seen = None;
        match self.advance(replica, query, emit, errors) {
            Ok(true) => self.seen = found,
            Ok(false) => {}
            Err(error) => errors.push(error),
        }
    }

    /// Reads on, file after file. True when the current file was read to its end.
    fn advance(
        &mut self,
        replica: &ReplicaId,
        query: &Query,
        emit: &mut impl FnMut(LogLine),
        errors: &mut Vec<ReadError>,
    ) -> Result<bool, ReadError> {
        loop {
            let Some(place) = &mut self.place else {
                let Some(first_at) = self.next_file()? else { return Ok(false) };
                self.place = Some(Place::new(replica, first_at, 0));
                continue;
            };
            let path = self.dir.join(CURRENT);
            let read = |source| ReadError::Read { path: path.clone(), source };
            if let Some(mut file) = open_if(&path, place.first_at, place.offset).map_err(read)? {
                file.seek(SeekFrom::Start(place.offset)).map_err(read)?;
                let reached = place.take(file, query, emit).map_err(read)?;
                return Ok(matches!(reached, Reached::End { .. }));
            }
            let closed = match place.first_at {
                Some(first_at) => open_closed(&self.dir, first_at)?,
                None => None,
            };
            match closed.map(|opened| place.read_closed(opened, query, emit)) {
                Some(Ok(Reached::Allowance)) => return Ok(false),
                Some(Ok(Reached::End { tail })) => {
                    if !tail.is_empty() {
                        let levels = &mut place.levels;
                        place.joiner.push_line(
                            &tail,
                            |stream| query.wants_stream(stream),
                            |line| {
                                if query.wants_level(levels, &line) {
                                    emit(line);
                                }
                            },
                        );
                    }
                }
                Some(Err(source)) => errors.push(ReadError::Read { path: self.dir.clone(), source }),
                None => errors.push(ReadError::Outrun { replica: replica.clone() }),
            }
            let levels = &mut place.levels;
            place.joiner.finish(|line| {
                if query.wants_level(levels, &line) {
                    emit(line);
                }
            });
            self.done = self.done.max(place.first_at);
            self.place = None;
        }
    }

    /// The file after the last one read: `None` when there is none yet, else the time of its first line.
    fn next_file(&self) -> Result<Option<Option<Timestamp>>, ReadError> {
        // What began before may be a new beginning: the files were removed, and the clock was set back.
        Ok(next_file(&self.dir, self.done)?.filter(|first_at| first_at.is_none() || *first_at != self.done))
    }
}

impl Place {
    fn read_closed(
        &mut self,
        opened: Opened,
        query: &Query,
        emit: &mut impl FnMut(LogLine),
    ) -> io::Result<Reached> {
        match opened {
            Opened::Text(text) => {
                let end = text.size_bytes()?;
                self.take(Source::Text { text, offset: self.offset, end }, query, emit)
            }
            Opened::Stream(mut read) => {
                io::copy(&mut read.by_ref().take(self.offset), &mut io::sink())?;
                self.take(read, query, emit)
            }
        }
    }
}

/// Opens the current file if it is the one that begins with this time and is as long as was read of it.
pub(super) fn open_if(path: &Path, begins: Option<Timestamp>, offset: u64) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(mut file) => {
            let same = first_at(&mut file)? == begins && file.metadata()?.len() >= offset;
            Ok(same.then_some(file))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
