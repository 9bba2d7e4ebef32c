//! What the API asks of the host: one trait, its requests.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use futures_util::stream::BoxStream;
use mainstay_types::{Level, Timestamp};

use crate::{
    CommandReply, Event, LogEntry, LogLevel, OutputStream, Problem, ReloadReply, RotateReply, Status,
};

/// Events as they happen. It ends when the host does.
pub type EventStream = BoxStream<'static, Event>;
/// Lines as they are written. It ends when the host does.
pub type LogStream = BoxStream<'static, LogEntry>;

/// The host, as the API sees it. Cloned once for each connection, so cheap to clone.
///
/// Dropping the future of a call or a stream gives it up; a command that was taken goes on.
pub trait ControlPlane: Clone + Send + Sync + 'static {
    /// The state of everything.
    fn status(&self) -> impl Future<Output = Result<Status, Problem>> + Send;

    /// Takes a command for one service. Without `wait` the answer comes as soon as it is taken.
    fn command(
        &self,
        service: String,
        verb: Verb,
        options: CommandOptions,
    ) -> impl Future<Output = Result<CommandReply, Problem>> + Send;

    /// Reads the file again and applies what changed, or only tells what it would do.
    fn reload(&self, options: ReloadOptions) -> impl Future<Output = Result<ReloadReply, Problem>> + Send;

    /// Events of the record, oldest first.
    fn events(&self, query: EventsQuery) -> impl Future<Output = Result<Vec<Event>, Problem>> + Send;

    /// The events `query` asks for, then those that happen, without a gap or a repetition between the two. Without
    /// `after_id` and `limit`, only those that happen from now on.
    fn follow_events(&self, query: EventsQuery) -> impl Future<Output = Result<EventStream, Problem>> + Send;

    /// Lines of the logs, merged by time, oldest first.
    fn logs(&self, query: LogsQuery) -> impl Future<Output = Result<Vec<LogEntry>, Problem>> + Send;

    /// The lines `query` asks for, then those that are written. Without `since` and `last`, only those written from
    /// now on.
    fn follow_logs(&self, query: LogsQuery) -> impl Future<Output = Result<LogStream, Problem>> + Send;

    /// Closes the current log file of each replica of these services, of all without one.
    fn rotate_logs(&self, services: Vec<String>)
    -> impl Future<Output = Result<RotateReply, Problem>> + Send;

    /// What the host's own log tells.
    fn log_level(&self) -> impl Future<Output = Result<LogLevel, Problem>> + Send;

    /// Changes what the host's own log tells.
    fn set_log_level(&self, level: String) -> impl Future<Output = Result<LogLevel, Problem>> + Send;

    /// Whether the host works: its loop answers.
    fn healthy(&self) -> impl Future<Output = bool> + Send;

    /// Whether the stack is up: every service with `autostart` is ready or completed.
    fn ready(&self) -> impl Future<Output = bool> + Send;

    /// The metrics in the Prometheus text format, version 0.0.4.
    fn metrics(&self) -> impl Future<Output = Result<String, Problem>> + Send;
}

/// What may be asked of a service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Verb {
    /// Start it and all it needs.
    Start,
    /// Stop it, and first all that depend on it.
    Stop,
    /// Stop and start it.
    Restart,
    /// Have it read its configuration again.
    Reload,
}

impl Verb {
    /// All verbs.
    pub const ALL: [Self; 4] = [Self::Start, Self::Stop, Self::Restart, Self::Reload];

    /// The word in the path and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Reload => "reload",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that is no verb.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is none of start, stop, restart, reload")]
pub struct ParseVerbError(pub String);

impl FromStr for Verb {
    type Err = ParseVerbError;

    fn from_str(text: &str) -> Result<Self, ParseVerbError> {
        Self::ALL
            .into_iter()
            .find(|verb| verb.as_str() == text)
            .ok_or_else(|| ParseVerbError(text.to_owned()))
    }
}

/// How a command is to be carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CommandOptions {
    /// Whether the answer waits for the end of it.
    pub wait: bool,
    /// With `wait`: after this time the answer is `timed_out`; `None` waits for as long as it takes.
    pub timeout: Option<Duration>,
}

/// How a changed file is to be applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReloadOptions {
    /// Only tell what would be done.
    pub dry_run: bool,
    /// How to wait for it.
    pub command: CommandOptions,
}

/// Which events.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EventsQuery {
    /// Only events after this id.
    pub after_id: Option<i64>,
    /// Only the last so many of those that match; `None` is all.
    pub limit: Option<u32>,
    /// Only of this service.
    pub service: Option<String>,
}

/// Which lines. Every condition that is there must hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogsQuery {
    /// Only of these services; none means all.
    pub service: Vec<String>,
    /// Only lines of this time or later.
    pub since: Option<Timestamp>,
    /// Only lines up to this time.
    pub until: Option<Timestamp>,
    /// Only the last so many of those that match; `None` is all.
    pub last: Option<u32>,
    /// Only lines this regular expression finds something in.
    pub grep: Option<String>,
    /// Whether `grep` takes upper and lower case for the same.
    pub ignore_case: bool,
    /// Only lines at least this serious; a line of a stack trace counts as the error it belongs to.
    pub level: Option<Level>,
    /// Only of this stream.
    pub stream: Option<OutputStream>,
}
