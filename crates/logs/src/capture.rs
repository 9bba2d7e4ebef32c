//! Taking in what services write: the handle, its options, and what it tells the host.
//!
//! One thread, `logs`, runs a tokio runtime of its own. Tasks on it:
//!
//! | task | how many | ends |
//! |---|---|---|
//! | desk: takes the handle's commands, closes files that are old enough, has old ones removed | 1 | at `close`, or when the last handle is dropped |
//! | program: reads the two pipes of one start | one a running program | both pipes ended, or `detach` |
//! | retry: writes again after a failure | one a blocked replica | when it succeeds |
//!
//! Commands travel on one unbounded channel: the host sends at most a few a start and waits for their answers.
//! All programs share one buffer to read into and one to write from; a program that gives much has a turn of
//! `TURN_BYTES`, then the others have theirs.

mod batch;

mod counters;

mod gap;

mod mask;

mod splitter;

mod replica_log;

mod program;

mod desk;

mod retention;

mod tidy;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use mainstay_types::{Fsync, WhenBlocked};
use mainstay_types::{ReplicaId, SpawnId, Timestamp};
use tokio::io::AsyncRead;
use tokio::sync::{mpsc, oneshot};

use crate::record::{HEADER_BYTES, is_partial};
use crate::{LogLine, Stream};
pub use counters::Counts;
use counters::Registry;
use desk::Command;
pub use mask::{LEAST_VALUE_BYTES, MASK, MaskError, Masks, OVERLAP_BYTES, WINDOW_BYTES};

/// What becomes of one replica's output. The values of the newest `attach` or `set_policy` hold.
#[derive(Clone, Debug)]
pub struct CapturePolicy {
    /// A file is closed when it would pass this; a single longer line gets a file of its own.
    pub rotate_bytes: u64,
    /// A file is closed when its first line is this old; one without a line is not.
    pub rotate_age: Option<Duration>,
    /// Closed files kept; 0 keeps the current one only.
    pub keep: u32,
    /// Closed files go when they were last written this long ago. Holds for the service, the newest policy of a replica
    /// counts; here and below.
    pub keep_age: Option<Duration>,
    /// Bytes of all files of the service's replicas; beyond it the oldest closed files go.
    pub keep_total_bytes: u64,
    /// Whether closed files are compressed.
    pub compress: bool,
    /// Bytes of text in one record; a longer line is kept in parts. At least 1; 0 is taken as 1. Up to this much of
    /// an unfinished line is held in memory for each stream.
    pub max_line_bytes: usize,
    /// What happens while the file cannot be written.
    pub when_blocked: WhenBlocked,
    /// When what was written is put on the disk.
    pub fsync: Fsync,
    /// What is kept out of the log, the taps and the tail; `None` costs nothing.
    pub masks: Option<Masks>,
}

/// Tells the time of lines and files.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How a capture is set up.
#[derive(Clone)]
pub struct CaptureOptions {
    /// The folder of all logs; created with its parents.
    pub dir: PathBuf,
    /// Sees every line as it comes.
    pub tap: Option<Arc<dyn Tap>>,
    /// Told of trouble, and of what was removed, on the capture threads: must not block.
    pub notices: Arc<dyn Fn(Notice) + Send + Sync>,
    /// Bytes of the files of all services, those that are gone included; beyond it the oldest closed files go.
    pub max_total_bytes: u64,
    /// Called on each compressing thread before it works, to lower its priority in the way of the platform.
    pub lower_priority: fn(),
    /// The system's, but in tests.
    pub clock: Clock,
}

impl CaptureOptions {
    /// No tap, no bound on the total, no lower priority, the system's clock.
    #[must_use]
    pub fn new(dir: PathBuf, notices: Arc<dyn Fn(Notice) + Send + Sync>) -> Self {
        Self {
            dir,
            tap: None,
            notices,
            max_total_bytes: u64::MAX,
            lower_priority: || {},
            clock: Arc::new(Timestamp::now),
        }
    }
}

/// Sees lines as they come.
pub trait Tap: Send + Sync {
    /// Lines of one stream, all read at `at`. Called on the capture thread, before they are on disk: must not block.
    /// A part of a long or settled line comes as `partial`; the end of such a line may be empty.
    fn lines(&self, replica: &ReplicaId, stream: Stream, at: Timestamp, lines: Lines<'_>);
}

/// One line, or a part of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line<'a> {
    /// More of this line follows on the same stream.
    pub partial: bool,
    /// Without the newline.
    pub text: &'a [u8],
}

/// Iterates lines without copying them.
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    records: &'a [u8],
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        let text = self.records.get(HEADER_BYTES..)?;
        let end = memchr::memchr(b'\n', text)?;
        let line = Line { partial: is_partial(self.records), text: &text[..end] };
        self.records = &text[end + 1..];
        Some(line)
    }
}

/// Something the operator should hear of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// The file cannot be written. Said once, until it can be.
    WriteFailed {
        /// Whose.
        replica: ReplicaId,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        error: String,
        /// What happens to the output meanwhile.
        when_blocked: WhenBlocked,
    },
    /// It can be written again, and nothing was lost but what `LinesLost` and `LinesDropped` said.
    WriteRecovered {
        /// Whose.
        replica: ReplicaId,
        /// The file.
        path: PathBuf,
    },
    /// Output that could be neither written nor kept.
    LinesLost {
        /// Whose.
        replica: ReplicaId,
        /// Lines; parts of long lines count one each.
        lines: u64,
        /// Bytes of their texts.
        bytes: u64,
    },
    /// Output that was left out while the file could not be written, as the policy asks for; the file says so, too.
    LinesDropped {
        /// Whose.
        replica: ReplicaId,
        /// Lines, those cut short included.
        lines: u64,
        /// Bytes of their texts.
        bytes: u64,
    },
    /// The disk does not confirm what was written. Said once, until it does.
    SyncFailed {
        /// Whose.
        replica: ReplicaId,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        error: String,
    },
    /// A full file could not be closed and named; it goes on growing, and is tried again. Said once.
    RotationFailed {
        /// Whose.
        replica: ReplicaId,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        error: String,
    },
    /// A closed file could not be compressed or removed. It stays; tried again after the next rotation. Said once.
    CompressionFailed {
        /// Whose.
        replica: ReplicaId,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        error: String,
    },
    /// Closed files went, because of a bound on what stays. No trouble.
    FilesRemoved {
        /// Whose.
        replica: ReplicaId,
        /// How many.
        files: u64,
        /// What they took on the disk.
        bytes: u64,
        /// Which bound it was.
        bound: Bound,
    },
    /// A pipe cannot be read; what comes through it from now on is lost.
    PipeFailed {
        /// Whose.
        replica: ReplicaId,
        /// Which pipe; `None` when neither could be opened.
        stream: Option<Stream>,
        /// The system's answer.
        error: String,
    },
}

/// A bound on closed files.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Bound {
    /// The number of each replica.
    Count,
    /// The age of each service.
    Age,
    /// The bytes of each service.
    ServiceTotal,
    /// The bytes of the stack.
    StackTotal,
}

/// What became of a request to close a replica's current file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rotated {
    /// It is closed under this name, and may be compressed by now.
    Closed {
        /// Without its folder.
        name: String,
    },
    /// It has no line, and stays.
    Empty,
    /// In the middle of a line: it is closed as soon as that ends.
    Waits,
    /// It could not be closed.
    Failed {
        /// Why.
        error: String,
    },
}

/// Why no capture could be started.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The folder is not there and cannot be made.
    #[error("cannot create the log folder {}: choose another place with MAINSTAY_STATE_DIR", path.display())]
    CreateDir {
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// No file can be made in it.
    #[error("cannot write to the log folder {}: check its owner, its mode and the space on its disk", path.display())]
    NotWritable {
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// No thread or no runtime.
    #[error("cannot start the log thread")]
    Thread {
        /// The system's answer.
        source: io::Error,
    },
}

/// A running capture. Cheap to clone; the thread ends after [`Capture::close`], or when the last clone is dropped.
#[derive(Clone)]
pub struct Capture {
    commands: mpsc::UnboundedSender<Command>,
    counters: Registry,
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capture").finish_non_exhaustive()
    }
}

impl Capture {
    /// Makes the folder, checks that files can be made in it, and starts the thread. Leftovers of a crash are put in
    /// order in the background.
    pub fn start(options: CaptureOptions) -> Result<Self, CaptureError> {
        let path = options.dir.clone();
        std::fs::create_dir_all(&path)
            .map_err(|source| CaptureError::CreateDir { path: path.clone(), source })?;
        let probe_path = path.join(".writable");
        std::fs::write(&probe_path, b"")
            .and_then(|()| std::fs::remove_file(&probe_path))
            .map_err(|source| CaptureError::NotWritable { path, source })?;
        let counters = Registry::default();
        let commands =
            desk::start(options, counters.clone()).map_err(|source| CaptureError::Thread { source })?;
        Ok(Self { commands, counters })
    }

    /// What became of each replica's output since the capture began, as it is now. Asks nobody, waits for nothing.
    #[must_use]
    pub fn counts(&self) -> Vec<(ReplicaId, Counts)> {
        counters::read(&self.counters)
    }

    /// Reads a started program's pipes until they end or [`Capture::detach`] is called; every attach needs a detach.
    ///
    /// `open` gives standard output and standard error. It runs on the capture thread, inside its runtime, so that the
    /// pipes are registered there; when it fails, [`Notice::PipeFailed`] says so.
    pub fn attach<R, F>(&self, replica: ReplicaId, spawn: SpawnId, policy: CapturePolicy, open: F)
    where
        R: AsyncRead + Unpin + 'static,
        F: FnOnce() -> io::Result<(R, R)> + Send + 'static,
    {
        let open = move || {
            let (stdout, stderr) = open()?;
            Ok([Box::new(stdout) as desk::Reader, Box::new(stderr)])
        };
        self.send(Command::Attach { replica, spawn, policy, open: Box::new(open) });
    }

    /// A changed file: from now on this policy holds for the replica, running or not. Nothing happens for one that was never
    /// attached.
    pub fn set_policy(&self, replica: ReplicaId, policy: CapturePolicy) {
        self.send(Command::SetPolicy { replica, policy });
    }

    /// A changed file: from now on this bounds the files of all services together.
    pub fn set_max_total(&self, bytes: u64) {
        self.send(Command::SetMaxTotal { bytes });
    }

    /// Closes the current file of each of these replicas between two lines, and says what came of it, in their order.
    /// The policy counts for one that was never attached.
    pub async fn rotate(&self, replicas: Vec<(ReplicaId, CapturePolicy)>) -> Vec<(ReplicaId, Rotated)> {
        self.ask(|reply| Command::Rotate { replicas, reply }).await
    }

    /// Reads what the pipes hold now, without waiting for their end (a grandchild may hold them), writes it, and
    /// returns the replica's last `n` lines, as [`Capture::tail`] does. Call it after the main process has ended.
    ///
    /// An unfinished last line is written as a part (`P`); more of it may come. While the file cannot be written, one
    /// attempt is made, and the pipes stay as they are when it fails.
    pub async fn settle(&self, spawn: SpawnId, n: usize) -> Vec<LogLine> {
        self.ask(|reply| Command::Settle { spawn, n, reply }).await
    }

    /// The program and all it started are gone: reads what the pipes hold now, ends an unfinished last line (`F`), and
    /// closes the pipes, even without their end.
    ///
    /// While the file cannot be written, up to 512 KiB of records are kept for when it can; the rest is reported as
    /// [`Notice::LinesLost`].
    pub async fn detach(&self, spawn: SpawnId) {
        self.ask(|reply| Command::Detach { spawn, reply }).await;
    }

    /// The replica's last `n` lines as they were written so far, oldest first; each cut to its first 4 KiB (and
    /// marked as partial). Read back from the files, so that a silent replica costs no memory.
    pub async fn tail(&self, replica: &ReplicaId, n: usize) -> Vec<LogLine> {
        self.ask(|reply| Command::Tail { replica: replica.clone(), n, reply }).await
    }

    /// Takes in what all pipes hold now, closes them, lets compression go on for up to 5 s and ends the thread. Calls
    /// through other clones do nothing from then on.
    pub async fn close(self) {
        self.ask(|reply| Command::Close { reply }).await;
    }

    /// Whether output is still taken in: false after [`Capture::close`], and when its thread has died.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.commands.is_closed()
    }

    fn send(&self, command: Command) {
        // A closed channel means that the capture was closed: there is nothing left to do.
        let _ = self.commands.send(command);
    }

    async fn ask<T: Default>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> T {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply));
        answer.await.unwrap_or_default()
    }
}
