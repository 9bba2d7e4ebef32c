//! Captures, rotates, compresses, keeps and reads back the output of services.
//!
//! Role: everything between a service's pipes and its log files. `capture` owns the one thread that reads all pipes
//! and writes the files; `line_file` is for what the host writes about itself; `read` and `parse_when` work on the files alone, with or without a running host.
//! May use: `types`. May be used by: `host`, `mainstay`.
//!
//! Files, below the folder given to [`Capture::start`] (one folder a replica, named as [`mainstay_types::ReplicaId`]
//! prints):
//!
//! | file | what |
//! |---|---|
//! | `current.log` | being written, in the CRI format |
//! | `2026-11-22T15-20-01.123456789Z.log` | closed; named by the time of its first line |
//! | `2026-11-22T15-20-01.123456789Z.log.zst` | closed and compressed, in frames that are read from anywhere: see `packed` |
//! | `*.log.zst.tmp` | being compressed; removed at the next start if a crash leaves it |
//!
//! Threads: `logs` reads and writes (a tokio runtime of its own, one small task a running program), `logs-tidy`
//! compresses and prunes, and exists only while there is something to do. While the services are silent nothing runs, and
//! no timer is set but for the next file that has to be closed or removed because of its age.
//!
//! What the format means here:
//! - The time of a line is the time its end was read. One clock reading serves all lines of one read; times never go
//!   back within a replica, not even when the wall clock does: until it has caught up, the last time is repeated.
//! - Both streams share one file. A line longer than `max_line_bytes` is kept in `P` parts closed by an `F`; between
//!   the parts of one stream there may be lines of the other, as in every CRI log.
//! - Bytes are kept exactly. Only whether the very last line of a program ended with a newline is not recorded: it is
//!   closed like any other.
//! - Files are rotated between lines, never inside one, unless a line outgrows [`read::JOIN_LIMIT`].

mod stamp;

mod record;

mod store;

mod packed;

mod capture;

mod line_file;

pub mod read;

mod when;

mod facts;

pub use capture::{
    Bound, Capture, CaptureError, CaptureOptions, CapturePolicy, Clock, Counts, Fsync, LEAST_VALUE_BYTES,
    Line, Lines, MASK, MaskError, Masks, Notice, OVERLAP_BYTES, Rotated, Tap, WINDOW_BYTES, WhenBlocked,
};
pub use facts::{Facts, facts};
pub use line_file::LineFile;
pub use packed::pack;
pub use when::{WhenError, parse_when};

use mainstay_types::{ReplicaId, Timestamp};

/// Which output of a program.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Stdout, Self::Stderr];

    /// The word in log files and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Stdout => 0,
            Self::Stderr => 1,
        }
    }
}

impl std::fmt::Display for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Stream {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|stream| stream.as_str() == text).ok_or(())
    }
}

/// One line of a program's output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogLine {
    /// When its end was read.
    pub at: Timestamp,
    /// Who wrote it.
    pub replica: ReplicaId,
    /// Where to.
    pub stream: Stream,
    /// Not the whole line: its end is not there (yet), or it is longer than the bound on joining.
    pub partial: bool,
    /// The bytes as written, without the newline.
    pub text: Vec<u8>,
}
