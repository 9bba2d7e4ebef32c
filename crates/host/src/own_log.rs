//! The host's own log: what the host says about itself, as fields, at levels that can be changed while it runs.
//!
//! Whoever has something to say uses `tracing`. [`feed`] turns each event into an entry and puts it into a queue of at
//! most [`MAX_QUEUED`]; [`writer`], a thread of its own, takes them to the file in the state folder, to the journal when
//! standard error goes there, and to standard error when that was asked for. Nobody waits for it: what finds the queue
//! full, or cannot be written, is counted, and the count is told as soon as it can be.

mod feed;
mod tell;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mainstay_os::Journal;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use feed::{Entry, Feed};
pub(crate) use tell::{tell, tell_start};
use writer::Writer;

/// Entries waiting to be written, at most. One is about 300 bytes.
const MAX_QUEUED: usize = 4096;
/// Size at which the file is closed, and closed ones that are kept: 5 MiB at most.
const ROTATE_BYTES: u64 = 1024 * 1024;
const KEPT_FILES: usize = 4;
/// The levels, from the least to the most that is told.
pub const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// What is told: a level, or levels by part of the host, in the syntax of `EnvFilter`.
#[derive(Debug)]
pub struct LogFilter(EnvFilter);

impl LogFilter {
    /// Reads `info`, `warn,mainstay_host=debug` and the like.
    pub fn parse(text: &str) -> Result<Self, LogFilterError> {
        let bad = |why: String| LogFilterError { text: text.to_owned(), why };
        // To EnvFilter any word is the name of a part, all of which is told: a misspelt level would go unnoticed.
        let stray = text.split(',').map(str::trim).find(|part| {
            let is_level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(part));
            !is_level && !part.contains(['=', '[']) && !part.starts_with("mainstay")
        });
        if let Some(part) = stray {
            return Err(bad(format!("{part:?} is no level")));
        }
        EnvFilter::builder().parse(text).map(Self).map_err(|error| bad(error.to_string()))
    }
}

/// Why a text is no filter.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{text:?} is no level of the log: {why}\n  next: off, error, warn, info, debug or trace; or by part, as in warn,mainstay_host=debug"
)]
pub struct LogFilterError {
    text: String,
    why: String,
}

/// Where the host's own log goes and what is told.
#[derive(Debug)]
pub struct OwnLogOptions {
    /// The folder of the file; [`crate::Paths::own_log_dir`].
    pub dir: PathBuf,
    /// What is told.
    pub filter: LogFilter,
    /// Also to standard error, as text.
    pub stderr: bool,
    /// The value of `JOURNAL_STREAM`: whether standard error goes to the journal.
    pub journal_stream: Option<String>,
}

/// The host's own log, while it is written.
pub struct OwnLog {
    control: LogControl,
    queue: SyncSender<Message>,
    thread: JoinHandle<()>,
}

enum Message {
    Entry(Box<Entry>),
    /// The last one.
    End,
}

impl OwnLog {
    /// Begins to write. From then on everything in the process that uses `tracing` is told here; so there is one such
    /// log in a process, and a second one is an error.
    pub fn start(options: OwnLogOptions) -> std::io::Result<Self> {
        let OwnLogOptions { dir, filter, stderr, journal_stream } = options;
        let (queue, inbox) = sync_channel(MAX_QUEUED);
        let lost = Arc::new(AtomicUsize::new(0));
        let journal = Journal::of_stderr(journal_stream.as_deref());
        let writer = Writer::new(&dir, journal, stderr, Arc::clone(&lost));
        let thread = std::thread::Builder::new()
            .name("host-log".into())
            .stack_size(256 * 1024)
            .spawn(move || writer.run(&inbox))?;
        let (filter, handle) = reload::Layer::new(filter.0);
        let subscriber = tracing_subscriber::registry().with(filter).with(Feed::new(queue.clone(), lost));
        tracing::subscriber::set_global_default(subscriber).map_err(std::io::Error::other)?;
        Ok(Self { control: LogControl { handle }, queue, thread })
    }

    /// The way to change what is told.
    #[must_use]
    pub fn control(&self) -> LogControl {
        self.control.clone()
    }

    /// Writes what is waiting, for `limit` at most. What is said afterwards is not written.
    pub fn end(self, limit: Duration) {
        let until = Instant::now() + limit;
        // A writer that is stuck has a full queue; it is left to itself.
        while self.queue.try_send(Message::End).is_err() {
            if self.thread.is_finished() || Instant::now() >= until {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        while !self.thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Changes what is told. Cheap to clone.
#[derive(Clone)]
pub struct LogControl {
    handle: reload::Handle<EnvFilter, Registry>,
}

impl LogControl {
    /// What is told now.
    #[must_use]
    pub fn level(&self) -> String {
        self.handle.with_current(ToString::to_string).unwrap_or_default()
    }

    /// From now on this is told; gives back what was told before.
    pub(crate) fn set(&self, text: &str) -> Result<String, LogFilterError> {
        let filter = LogFilter::parse(text)?;
        let before = self.level();
        // It fails only when the subscriber is gone, and that is the process's own for good.
        let _ = self.handle.reload(filter.0);
        Ok(before)
    }
}

/// The name of the host's own log among logs: its folder, and the name in front of its lines.
const NAME: &str = "host";

/// Writes one line to the host's own log without anything of the host running: for failures before there is one. Only
/// into a state folder that is there already.
pub fn log_start_failure(state_dir: &Path, dir: &Path, words: &str) {
    if state_dir.is_dir() {
        // Standard error has been told already; there is nobody else to tell that this fails.
        let words = format!("ERROR mainstay: the start failed: {words}");
        let _ = writer::file(dir).append([(mainstay_types::Timestamp::now(), words.as_str())]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_and_misspelt_levels_refused() {
        for good in
            ["info", "INFO", "off", "warn,mainstay_host=debug", "mainstay_host=trace", "mainstay", "h2=off"]
        {
            assert!(LogFilter::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "verbose", "info,debgu", "mainstay_host=loud", "=", "info;debug"] {
            let error = LogFilter::parse(bad).expect_err(bad).to_string();
            assert!(error.starts_with(&format!("{bad:?} is no level of the log: ")), "{error}");
            assert!(error.contains("next: off, error, warn, info, debug or trace"), "{error}");
        }
    }
}
