//! The files of one replica as they were at one moment, and how each is found again although it may be renamed and
//! compressed meanwhile.
//!
//! A file is known by the time of its first line: while it is written that is the first thing in it, afterwards it is
//! its name. No two files of a folder share it, on no platform is a file number needed, and no handle has to stay open.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mainstay_types::{ReplicaId, Timestamp};

use super::backward::last_newline;
use super::text::Text;
use super::{ReadError, Selection};
use crate::packed::Packed;
use crate::record::HEADER_BYTES;
use crate::stamp::{STAMP_BYTES, parse_stamp};
use crate::store::{CURRENT, Closed, PACKED, PLAIN, closed_files, closed_path, replica_dir};

/// A last line without its end is shown when its file has not grown for this long: nobody is about to complete it.
const TORN_AGE: Duration = Duration::from_secs(1);

/// One replica's files.
pub(super) struct Snapshot {
    pub(super) replica: ReplicaId,
    pub(super) dir: PathBuf,
    /// Oldest first; the current file, if there is one, last.
    pub(super) segments: Vec<Segment>,
}

/// One file.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// The time of its first line; `None` only for a current file that begins with no record.
    pub(super) first_at: Option<Timestamp>,
    pub(super) state: SegmentState,
}

/// Where a file was in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SegmentState {
    /// Closed.
    Closed {
        /// Not compressed yet.
        plain: bool,
    },
    /// Being written.
    Current {
        /// Bytes of whole lines.
        complete_bytes: u64,
        /// Bytes that are there; what exceeds `complete_bytes` has no newline.
        shown_bytes: u64,
    },
}

impl Snapshot {
    /// The selected replicas' files, and what went wrong.
    pub(super) fn take_all(root: &Path, selection: &Selection) -> (Vec<Self>, Vec<ReadError>) {
        let mut errors = Vec::new();
        let replicas = selection.replicas(root).unwrap_or_else(|error| {
            errors.push(error);
            Vec::new()
        });
        let mut snapshots = Vec::new();
        for replica in replicas {
            match Self::take(root, &replica) {
                Ok(snapshot) => snapshots.push(snapshot),
                Err(error) => errors.push(error),
            }
        }
        (snapshots, errors)
    }

    pub(super) fn take(root: &Path, replica: &ReplicaId) -> Result<Self, ReadError> {
        let dir = replica_dir(root, replica);
        // The current file first: what is rotated between the two looks is then known twice, and told apart by time;
        // the other way round it would be missed.
        let current_path = dir.join(CURRENT);
        let current =
            current(&current_path).map_err(|source| ReadError::Open { path: current_path, source })?;
        let closed = closed_files(&dir).map_err(|source| ReadError::List { path: dir.clone(), source })?;
        let before = current.as_ref().and_then(|current| current.first_at);
        let mut segments: Vec<Segment> = closed
            .into_iter()
            .filter(|file| before.is_none_or(|before| file.first_at < before))
            .map(Segment::from)
            .collect();
        segments.extend(current);
        Ok(Self { replica: replica.clone(), dir, segments })
    }

    /// Without a last line that has no end.
    pub(super) fn without_tail(mut self) -> Self {
        if let Some(Segment { state: SegmentState::Current { complete_bytes, shown_bytes }, .. }) =
            self.segments.last_mut()
        {
            *shown_bytes = *complete_bytes;
        }
        self
    }
}

impl From<Closed> for Segment {
    fn from(file: Closed) -> Self {
        Self { first_at: Some(file.first_at), state: SegmentState::Closed { plain: file.plain } }
    }
}

fn current(path: &Path) -> io::Result<Option<Segment>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    let size_bytes = metadata.len();
    let first_at = first_at(&mut file)?;
    let complete_bytes = last_newline(&mut Text::Plain(file), size_bytes)?;
    let settled = metadata
        .modified()
        .ok()
        .and_then(|time| SystemTime::now().duration_since(time).ok())
        .is_some_and(|age| age >= TORN_AGE);
    Ok(Some(Segment {
        first_at,
        state: SegmentState::Current {
            complete_bytes,
            shown_bytes: if settled { size_bytes } else { complete_bytes },
        },
    }))
}

/// The closed file that follows `done`, or the current one, whatever it begins with: `None` when there is none yet, else the time of
/// its first line.
pub(super) fn next_file(dir: &Path, done: Option<Timestamp>) -> Result<Option<Option<Timestamp>>, ReadError> {
    let path = dir.join(CURRENT);
    let open = |source| ReadError::Open { path: path.clone(), source };
    // The current file first: one that is closed between the two looks is then found as closed.
    let current = match File::open(&path) {
        Ok(mut file) => {
            let size_bytes = file.metadata().map_err(open)?.len();
            let first_at = first_at(&mut file).map_err(open)?;
            // Shorter than a header and no record: its first line is just being written.
            (first_at.is_some() || size_bytes > HEADER_BYTES as u64).then_some(first_at)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(open(error)),
    };
    let closed = closed_files(dir).map_err(|source| ReadError::List { path: dir.to_owned(), source })?;
    let next = closed.into_iter().map(|file| file.first_at).find(|first| Some(*first) > done);
    Ok(match next {
        Some(next) if current.flatten().is_none_or(|current| next < current) => Some(Some(next)),
        Some(_) | None => current,
    })
}

/// The time of a file's first line. Leaves the position anywhere.
pub(super) fn first_at(file: &mut File) -> io::Result<Option<Timestamp>> {
    let mut head = Vec::with_capacity(STAMP_BYTES);
    file.seek(SeekFrom::Start(0))?;
    file.by_ref().take(STAMP_BYTES as u64).read_to_end(&mut head)?;
    Ok(parse_stamp(&head))
}

/// An opened segment.
pub(super) enum Opened {
    /// May be read from anywhere.
    Text(Text),
    /// Compressed as one frame: may be read from its beginning.
    Stream(Box<dyn Read>),
}

impl Segment {
    /// The path it has now, for messages.
    pub(super) fn path(&self, dir: &Path) -> PathBuf {
        match (self.first_at, self.state) {
            (Some(first_at), SegmentState::Closed { plain }) => {
                closed_path(dir, first_at, if plain { PLAIN } else { PACKED })
            }
            (_, SegmentState::Current { .. }) | (None, SegmentState::Closed { .. }) => dir.join(CURRENT),
        }
    }

    /// The end of what is read of it.
    pub(super) fn end(&self, text: &Text) -> io::Result<u64> {
        match self.state {
            SegmentState::Current { shown_bytes, .. } => Ok(shown_bytes),
            SegmentState::Closed { .. } => text.size_bytes(),
        }
    }

    /// Opens it wherever it is by now. `None` when it is gone: too old to be kept.
    pub(super) fn open(&self, dir: &Path) -> Result<Option<Opened>, ReadError> {
        if let SegmentState::Current { .. } = self.state {
            let path = dir.join(CURRENT);
            let opened = open(&path).and_then(|file| {
                let Some(mut file) = file else { return Ok(None) };
                let same = first_at(&mut file)? == self.first_at;
                Ok(same.then_some(Opened::Text(Text::Plain(file))))
            });
            if let Some(opened) = opened.map_err(|source| ReadError::Open { path, source })? {
                return Ok(Some(opened));
            }
        }
        self.first_at.map_or(Ok(None), |first_at| open_closed(dir, first_at))
    }
}

/// Opens a closed file in whichever form it is there.
pub(super) fn open_closed(dir: &Path, first_at: Timestamp) -> Result<Option<Opened>, ReadError> {
    let path = closed_path(dir, first_at, PLAIN);
    if let Some(file) = open(&path).map_err(|source| ReadError::Open { path, source })? {
        return Ok(Some(Opened::Text(Text::Plain(file))));
    }
    let path = closed_path(dir, first_at, PACKED);
    let Some(file) = open(&path).map_err(|source| ReadError::Open { path: path.clone(), source })? else {
        return Ok(None);
    };
    let opened = Packed::open(file).and_then(|opened| {
        Ok(match opened {
            Ok(packed) => Opened::Text(Text::Packed(packed)),
            Err(file) => Opened::Stream(Box::new(zstd::Decoder::new(file)?)),
        })
    });
    opened.map(Some).map_err(|source| ReadError::Read { path, source })
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
