//! Reading logs back: merged over replicas, across closed, compressed and current files, with or without a running
//! host. Everything here is plain blocking file access.
//!
//! - A line kept in parts comes out whole, up to [`JOIN_LIMIT`]; a longer one in pieces marked `partial`. Its time is
//!   that of its last part.
//! - Bytes in a file that are no record (a foreign hand, a torn line) come out as they are, as standard output, with
//!   the time of the record before them.
//! - A file that cannot be read gives one error, and reading goes on with the next.
//! - A time is found by bisection: times never go back within a replica, files are named by their first, and within one
//!   any place can be read, compressed or not. Files that an older version compressed as one frame are read through.

mod lines;

mod join;

mod segment;

mod text;

mod seek;

mod forward;

mod backward;

mod merge;

mod follow;

mod resume;

mod watch;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use mainstay_types::{Level, ReplicaId, ServiceName, Timestamp};
use regex::bytes::Regex;

use crate::facts::Levels;
use crate::{LogLine, Stream, store};

pub use follow::Follower;
pub use merge::Reader;
pub use resume::{FilePlace, Missing, PassedLine, Place, Tail, Wanted, replicas};
pub use watch::{FOLLOW_PACE, Watch};

use segment::Snapshot;

/// Longest line put together from its parts, in bytes.
pub const JOIN_LIMIT: usize = 16 * 1024 * 1024;

/// What `tail` keeps of a line's text.
pub(crate) const TAIL_TEXT_BYTES: usize = 4 * 1024;

/// Which lines are wanted.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Not before this time.
    pub since: Option<Timestamp>,
    /// Not after this time.
    pub until: Option<Timestamp>,
    /// Whose text matches.
    pub grep: Option<Regex>,
    /// Of this stream only.
    pub stream: Option<Stream>,
    /// At least this serious, by what the lines say of themselves ([`crate::facts()`]). A line that does not say it, such
    /// as one of a stack trace, counts as the message it goes with; a line that goes with none is not wanted.
    pub level: Option<Level>,
    /// The newest this many of all that is left.
    pub last: Option<usize>,
    /// Whose.
    pub replicas: Selection,
}

/// Whose lines are wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Selection {
    /// Everyone's who has a folder.
    #[default]
    All,
    /// These services', all replicas of each. A service without a folder has no lines; that is no error.
    Services(Vec<ServiceName>),
}

impl Selection {
    fn includes(&self, replica: &ReplicaId) -> bool {
        match self {
            Self::All => true,
            Self::Services(names) => names.contains(&replica.service),
        }
    }

    /// The selected replicas that have a folder.
    fn replicas(&self, root: &Path) -> Result<Vec<ReplicaId>, ReadError> {
        let mut replicas =
            store::replicas(root).map_err(|source| ReadError::List { path: root.to_owned(), source })?;
        replicas.retain(|replica| self.includes(replica));
        Ok(replicas)
    }
}

/// The services that have a log folder below `root`, by name. A folder that is not there holds none.
pub fn services(root: &Path) -> Result<Vec<ServiceName>, ReadError> {
    let mut services: Vec<ServiceName> =
        Selection::All.replicas(root)?.into_iter().map(|replica| replica.service).collect();
    services.sort();
    services.dedup();
    Ok(services)
}

impl Query {
    /// Whether a line is serious enough; asked for all lines of a file, in order.
    fn wants_level(&self, levels: &mut Levels, line: &LogLine) -> bool {
        self.level.is_none_or(|wanted| levels.next(line.stream, &line.text) >= Some(wanted))
    }

    /// Whether a joined line is wanted for all else; the stream is looked at before joining.
    fn wants(&self, line: &LogLine) -> bool {
        self.since.is_none_or(|since| line.at >= since)
            && self.until.is_none_or(|until| line.at <= until)
            && self.grep.as_ref().is_none_or(|grep| grep.is_match(&line.text))
    }

    fn wants_stream(&self, stream: Stream) -> bool {
        self.stream.is_none_or(|wanted| wanted == stream)
    }
}

/// Why lines could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A folder cannot be listed.
    #[error("cannot list the log folder {}", path.display())]
    List {
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file cannot be opened.
    #[error("cannot open the log file {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file cannot be read, or is no zstd where it should be; the rest of it is left out.
    #[error("cannot read the log file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file was removed before it was read to its end: too few files are kept for the speed of the program.
    #[error("lines of {replica} were removed before they could be read: keep more or larger files")]
    Outrun {
        /// Whose.
        replica: ReplicaId,
    },
}

/// The wanted lines below `root` (the folder given to `Capture::start`), oldest first, merged by time over replicas;
/// of lines with the same time, those of one replica keep their order.
///
/// With `last`, files are read from their ends, as far as needed. Lines written after the call are not seen.
#[must_use]
pub fn read(root: &Path, query: &Query) -> Reader {
    let (snapshots, errors) = Snapshot::take_all(root, &query.replicas);
    Reader::new(snapshots, errors, query)
}

/// The wanted lines so far, and a follower that goes on exactly where they end. `last: Some(0)` follows from now.
/// The follower goes on until the caller has enough; with `until`, it tells nothing later than that.
#[must_use]
pub fn follow(root: &Path, query: &Query) -> (Reader, Follower) {
    let (snapshots, errors) = Snapshot::take_all(root, &query.replicas);
    let follower = Follower::new(root, query, &snapshots);
    // A last line without its end is left to the follower.
    let snapshots = snapshots.into_iter().map(Snapshot::without_tail).collect();
    (Reader::new(snapshots, errors, query), follower)
}

/// Which files `tail` may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Depth {
    /// Those that can be read from their ends.
    Plain,
    /// All, however long it takes to unpack them.
    All,
}

/// The last lines of one replica, each cut to [`TAIL_TEXT_BYTES`]; and whether there are no older ones. What cannot be
/// read is left out: this serves reports of other trouble.
pub(crate) fn tail(root: &Path, replica: &ReplicaId, n: usize, depth: Depth) -> (Vec<LogLine>, bool) {
    let Ok(snapshot) = Snapshot::take(root, replica) else { return (Vec::new(), true) };
    backward::tail(snapshot, n, depth)
}
