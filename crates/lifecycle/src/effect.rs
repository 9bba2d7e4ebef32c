//! What is to be done. An effect leaves nothing to choose to whoever performs it.

use std::time::Duration;

use mainstay_types::{CommandLine, ProbeKind, ReplicaId, ServiceName, SpawnId, StopSignal};

use crate::Record;

/// One check of one outside gate. Never reused within one host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GateCheckId(pub u64);

/// One run of a command around a service's life. Never reused within one host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TaskId(pub u64);

/// What a command around a service's life is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Purpose {
    /// Before a start.
    BeforeStart,
    /// Once ready.
    AfterReady,
    /// Before it is asked to stop.
    BeforeStop,
    /// After its tree has ended.
    AfterExit,
    /// A step of its stop.
    Stop,
    /// To make it read its configuration again.
    Reload,
}

impl Purpose {
    /// The key in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BeforeStart => "before_start",
            Self::AfterReady => "after_ready",
            Self::BeforeStop => "before_stop",
            Self::AfterExit => "after_exit",
            Self::Stop => "stop",
            Self::Reload => "reload",
        }
    }
}

/// One thing to do.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// Start the program of this replica. Answered by `Launched` or `LaunchFailed`; after `Launched`, one `Exited` follows.
    Launch {
        /// Which replica.
        replica: ReplicaId,
        /// The id of this start.
        spawn: SpawnId,
    },
    /// Send this to every process of the tree. Answered by the `Exited` and `TreeEnded` that may follow, or by nothing.
    Signal {
        /// Which start.
        spawn: SpawnId,
        /// What to send.
        signal: StopSignal,
    },
    /// Send this to the main process alone. Answered by nothing.
    SignalMain {
        /// Which start.
        spawn: SpawnId,
        /// What to send.
        signal: StopSignal,
    },
    /// Run a command as the service would, in a tree of its own. Answered by one `RunEnded`, within the timeout.
    Run {
        /// The id of this run.
        task: TaskId,
        /// For which replica.
        replica: ReplicaId,
        /// What for.
        purpose: Purpose,
        /// What.
        command: CommandLine,
        /// After this time it is killed.
        timeout: Duration,
        /// Added to its environment: names and values.
        facts: Vec<(&'static str, String)>,
    },
    /// Kill this run; its `RunEnded` follows.
    EndRun {
        /// Which.
        task: TaskId,
    },
    /// Kill the whole tree, and go on until nothing of it is left. Answered by `Exited` (unless it came before)
    /// and, where there were leftovers, `TreeEnded`.
    Kill {
        /// Which start.
        spawn: SpawnId,
    },
    /// Perform this probe of this start once. Answered by one `ProbeAnswered` within the probe's timeout.
    Probe {
        /// Which replica.
        replica: ReplicaId,
        /// Which start.
        spawn: SpawnId,
        /// Which probe.
        kind: ProbeKind,
    },
    /// Check an outside gate once. Answered by one `GateAnswered`.
    CheckGate {
        /// Whose gate.
        service: ServiceName,
        /// Its place in `needs`.
        need: usize,
        /// The id of this check.
        check: GateCheckId,
    },
    /// Write down and show.
    Record(Record),
}
