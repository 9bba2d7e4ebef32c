//! One entry of a stack's timeline, as `events --json` prints it and `GET /v1/events` answers.

use mainstay_types::{Exit, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One thing that happened. Which of the optional values are set depends on `event`; the others are null.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// Its number in the stack's record: growing, and never used twice.
    pub id: i64,
    /// The service concerned; null when it is the whole stack or the host.
    #[schema(required)]
    pub service: Option<String>,
    /// The replica concerned, counted from 0; null when it is the whole service.
    #[schema(required)]
    pub replica: Option<u32>,
    /// What kind of thing.
    pub event: EventKind,
    /// `state`: the state before.
    #[schema(required)]
    pub from: Option<String>,
    /// `state`: the state after.
    #[schema(required)]
    pub to: Option<String>,
    /// Why, or what, in words.
    #[schema(required)]
    pub reason: Option<String>,
    /// `spawned`, `exited`: the process.
    #[schema(required)]
    pub pid: Option<u32>,
    /// `exited`: how.
    #[schema(required)]
    pub exit: Option<ExitInfo>,
    /// `exited`: how long it ran, in milliseconds.
    #[schema(required)]
    pub ran_ms: Option<u64>,
    /// `exited`: whether it had been asked to end.
    #[schema(required)]
    pub requested: Option<bool>,
    /// Failures: the last lines of the replica concerned before it, oldest first; null where nothing was run.
    #[schema(required)]
    pub lines: Option<Vec<String>>,
    /// `probe`: `startup`, `readiness` or `liveness`.
    #[schema(required)]
    pub probe: Option<String>,
    /// `probe`, `gate`: whether it passes now.
    #[schema(required)]
    pub passed: Option<bool>,
    /// `gate`: the gate in words.
    #[schema(required)]
    pub gate: Option<String>,
    /// `probe`, `gate`: the answer that decided.
    #[schema(required)]
    pub answer: Option<String>,
    /// `gate`: checks so far in this wait.
    #[schema(required)]
    pub tries: Option<u32>,
    /// `command`: what was asked for, such as `restart`.
    #[schema(required)]
    pub command: Option<String>,
}

impl Event {
    /// An event of which only the kind and the time are known yet; its id is 0 until it is recorded.
    #[must_use]
    pub const fn new(event: EventKind, at: Timestamp) -> Self {
        Self {
            at,
            id: 0,
            service: None,
            replica: None,
            event,
            from: None,
            to: None,
            reason: None,
            pid: None,
            exit: None,
            ran_ms: None,
            requested: None,
            lines: None,
            probe: None,
            passed: None,
            gate: None,
            answer: None,
            tries: None,
            command: None,
        }
    }

    /// Whether it tells that something went wrong with a service or with the host: an exit that nobody asked for and
    /// that was no success, a back-off, a failed state, an incident.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        let is_bad_state = |state: &str| matches!(state, "failed" | "backoff");
        match self.event {
            EventKind::Incident => true,
            EventKind::State => self.to.as_deref().is_some_and(is_bad_state) && self.from != self.to,
            EventKind::Exited => {
                self.requested == Some(false) && self.exit.as_ref().is_some_and(|exit| exit.code != Some(0))
            }
            EventKind::Spawned
            | EventKind::Probe
            | EventKind::Gate
            | EventKind::Command
            | EventKind::Log
            | EventKind::Finding
            | EventKind::Release
            | EventKind::Settings => false,
        }
    }
}

/// The kinds of events.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A replica changed its state.
    State,
    /// A program runs.
    Spawned,
    /// A main process ended.
    Exited,
    /// The verdict of a probe changed.
    Probe,
    /// An outside gate opened, or what keeps it shut changed.
    Gate,
    /// Somebody asked for something.
    Command,
    /// A notice of the host, or about a log: output lost or held back, say.
    Log,
    /// The doctor found something.
    Finding,
    /// Something went wrong at run time, or was closed.
    Incident,
    /// A release was made current, or rolled back.
    Release,
    /// A setting changed.
    Settings,
}

impl EventKind {
    /// All kinds, in the contract's order.
    pub const ALL: [Self; 11] = [
        Self::State,
        Self::Spawned,
        Self::Exited,
        Self::Probe,
        Self::Gate,
        Self::Command,
        Self::Log,
        Self::Finding,
        Self::Incident,
        Self::Release,
        Self::Settings,
    ];

    /// The contract's word, as in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Spawned => "spawned",
            Self::Exited => "exited",
            Self::Probe => "probe",
            Self::Gate => "gate",
            Self::Command => "command",
            Self::Log => "log",
            Self::Finding => "finding",
            Self::Incident => "incident",
            Self::Release => "release",
            Self::Settings => "settings",
        }
    }
}

/// How a process ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ExitInfo {
    /// Its exit code; null when a signal ended it.
    #[schema(required)]
    pub code: Option<i32>,
    /// The signal that ended it, such as `SIGKILL`; null when it exited by itself.
    #[schema(required)]
    pub signal: Option<String>,
    /// In words, completing "it ...": `exited with code 1`.
    pub description: String,
}

impl From<Exit> for ExitInfo {
    fn from(exit: Exit) -> Self {
        Self { code: exit.code(), signal: exit.signal(), description: exit.to_string() }
    }
}
