//! What `status` prints and `GET /v1/status` answers, and the answer to a command.

use mainstay_types::{Exit, Phase, State, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::words;

/// The state of a host and of everything it supervises.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The stack's name.
    pub stack: String,
    /// The host itself.
    pub host: HostStatus,
    /// The services in the order of the file.
    pub services: Vec<ServiceStatus>,
    /// The targets that output is sent to, by name.
    #[serde(default)]
    #[schema(required)]
    pub forwards: Vec<ForwardStatus>,
}

/// One target that output is sent to; numbers are those since the host began.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ForwardStatus {
    /// Its name in the file.
    pub name: String,
    /// What it is: `journald`, `syslog`, `otlp`, `loki`.
    pub to: String,
    /// Where it is.
    pub url: String,
    /// Lines it has taken.
    pub sent: u64,
    /// Lines it will never have: removed or skipped before they were sent, or refused.
    pub lost: u64,
    /// Whether there are more lost ones, which could not be counted.
    pub lost_more: bool,
    /// Attempts that failed.
    pub failures: u64,
    /// Bytes of log files it has not taken yet.
    pub behind_bytes: u64,
    /// Why it takes nothing at present; null when it does.
    #[schema(required)]
    pub failing: Option<String>,
    /// Since when it takes nothing; null when it does.
    #[schema(required)]
    pub failing_since: Option<Timestamp>,
    /// When it last took something; null when it has not yet.
    #[schema(required)]
    pub sent_at: Option<Timestamp>,
}

/// The host process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct HostStatus {
    /// Its process id.
    pub pid: u32,
    /// Its version, as `mainstay --version` prints it.
    pub version: String,
    /// How far it has come.
    #[serde(with = "words::phase")]
    #[schema(schema_with = words::phase::schema)]
    pub phase: Phase,
    /// When it started.
    pub started_at: Timestamp,
    /// The system's service it runs as; null when it runs in the foreground.
    #[schema(required)]
    pub unit: Option<String>,
    /// The file the stack came from; null when it came from none.
    #[serde(default)]
    #[schema(required)]
    pub file: Option<FileStatus>,
    /// Whether a changed file is being applied: services are still going down for it.
    #[serde(default)]
    #[schema(required)]
    pub applying: bool,
}

/// The file a host runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct FileStatus {
    /// Where it is.
    pub path: String,
    /// When the host read what it runs.
    pub loaded_at: Timestamp,
    /// Whether the file holds something else now; null when it cannot be read.
    #[schema(required)]
    pub changed: Option<bool>,
}

/// One resource limit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct LimitStatus {
    /// The key: `memory`, `pids`, `cpu`, `open_files`.
    pub name: String,
    /// Its value as written.
    pub value: String,
    /// What enforces it: `cgroup`, `rlimit`, on Windows `job`; null when it is not in force.
    #[schema(required)]
    pub enforced_by: Option<String>,
    /// What to know about it: for what it counts, or why it is not in force.
    #[schema(required)]
    pub note: Option<String>,
}

/// One socket the host keeps open for a service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ListenStatus {
    /// Its name in `LISTEN_FDNAMES`.
    pub name: String,
    /// Where.
    pub address: String,
    /// Whether it is open now.
    pub open: bool,
}

/// One service.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// Meant to run on, or to finish.
    pub kind: ServiceKind,
    /// The phase its state belongs to.
    #[serde(with = "words::phase")]
    #[schema(schema_with = words::phase::schema)]
    pub phase: Phase,
    /// The state of the replica that is furthest from what is wanted.
    #[serde(with = "words::state")]
    #[schema(schema_with = words::state::schema)]
    pub state: State,
    /// Why it is in that state, in words.
    #[schema(required)]
    pub reason: Option<String>,
    /// Its replicas in the order of their index.
    pub replicas: Vec<ReplicaStatus>,
    /// The services that a stop of this one stops first, in their order.
    #[serde(default)]
    #[schema(required)]
    pub stops_first: Vec<String>,
    /// Its resource limits, and what enforces each.
    #[serde(default)]
    #[schema(required)]
    pub limits: Vec<LimitStatus>,
    /// The sockets it is handed.
    #[serde(default)]
    #[schema(required)]
    pub listen: Vec<ListenStatus>,
}

/// Whether a service is meant to run on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceKind {
    /// It runs until it is stopped.
    LongRunning,
    /// It is meant to finish.
    Oneshot,
}

/// One running place of a service.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ReplicaStatus {
    /// Counted from 0.
    pub index: u32,
    /// Its main process; null when none runs.
    #[schema(required)]
    pub pid: Option<u32>,
    /// What it is doing.
    #[serde(with = "words::state")]
    #[schema(schema_with = words::state::schema)]
    pub state: State,
    /// When its present process was started; null when none runs.
    #[schema(required)]
    pub started_at: Option<Timestamp>,
    /// Starts that the restart policy made since the host began; those that were asked for do not count.
    pub restarts: u32,
    /// How its last process ended; null when none has.
    #[schema(required)]
    pub last_exit: Option<LastExit>,
    /// Use of CPU of the whole process tree, 100 being one core; null when it is not known.
    #[schema(required)]
    pub cpu_percent: Option<f64>,
    /// Resident memory of the whole process tree, in bytes; null when it is not known.
    #[schema(required)]
    pub memory_bytes: Option<u64>,
    /// What the program last said about itself (`STATUS=` of sd_notify); null when it said nothing.
    #[serde(default)]
    #[schema(required)]
    pub status_text: Option<String>,
    /// What it wrote last before its last failure, oldest first, until it has recovered; null when there is nothing.
    #[serde(default)]
    #[schema(required)]
    pub last_lines: Option<Vec<String>>,
}

/// How a process ended, and when.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct LastExit {
    /// Its exit code; null when a signal ended it.
    #[schema(required)]
    pub code: Option<i32>,
    /// The signal that ended it, such as `SIGKILL`; null when it exited by itself.
    #[schema(required)]
    pub signal: Option<String>,
    /// In words, completing "it ...": `exited with code 1`.
    pub description: String,
    /// When.
    pub at: Timestamp,
}

impl LastExit {
    /// The JSON shape of `exit`, which happened `at`.
    #[must_use]
    pub fn new(exit: Exit, at: Timestamp) -> Self {
        Self { code: exit.code(), signal: exit.signal(), description: exit.to_string(), at }
    }
}

/// The answer to `start`, `stop`, `restart` or `reload`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct CommandReply {
    /// Whether what was asked for is so now. True exactly when `outcome` is `done`.
    pub done: bool,
    /// How it ended; decides the exit code of the command line.
    pub outcome: CommandOutcome,
    /// What happened, for people.
    pub message: String,
    /// The services concerned, as they are now.
    pub services: Vec<ServiceStatus>,
}

impl CommandReply {
    /// A reply whose `done` agrees with its outcome.
    #[must_use]
    pub fn new(outcome: CommandOutcome, message: String, services: Vec<ServiceStatus>) -> Self {
        Self { done: outcome == CommandOutcome::Done, outcome, message, services }
    }
}

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CommandOutcome {
    /// What was asked for is so.
    Done,
    /// It came to an end, and not to what was asked for: the service gave up, say.
    Failed,
    /// The time allowed ran out; the host goes on with it.
    TimedOut,
    /// Taken; nobody waited for the end of it.
    Accepted,
}

impl CommandOutcome {
    /// The exit code of the command line after this outcome.
    #[must_use]
    pub const fn exit_code(self) -> mainstay_types::ExitCode {
        match self {
            Self::Done | Self::Accepted => mainstay_types::ExitCode::Done,
            Self::Failed => mainstay_types::ExitCode::Failed,
            Self::TimedOut => mainstay_types::ExitCode::TimedOut,
        }
    }
}
