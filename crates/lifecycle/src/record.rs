//! What is worth telling: the timeline of a stack, as data.

use std::time::Duration;

use mainstay_types::{Exit, ProbeKind, ReplicaId, ServiceName, SpawnId, State};

use crate::{Command, Reason};

/// One entry of the timeline. The host adds the wall-clock time.
#[derive(Clone, PartialEq, Debug)]
pub enum Record {
    /// A replica changed its state. The first record of a replica has `from` equal to `to`.
    State {
        /// Which replica.
        replica: ReplicaId,
        /// Before.
        from: State,
        /// After.
        to: State,
        /// Why.
        reason: Reason,
    },
    /// A program runs.
    Spawned {
        /// Which replica.
        replica: ReplicaId,
        /// Which start.
        spawn: SpawnId,
        /// Its process id.
        pid: u32,
    },
    /// A main process ended.
    Exited {
        /// Which replica.
        replica: ReplicaId,
        /// Which start.
        spawn: SpawnId,
        /// How.
        exit: Exit,
        /// How long it ran.
        ran: Duration,
        /// Whether it was being stopped.
        requested: bool,
    },
    /// The verdict of a probe changed (not every answer is recorded).
    Probe {
        /// Which replica.
        replica: ReplicaId,
        /// Which probe.
        kind: ProbeKind,
        /// The new verdict.
        passed: bool,
        /// The answer that decided.
        answer: String,
    },
    /// An outside gate opened, or what keeps it shut changed.
    Gate {
        /// Whose gate.
        service: ServiceName,
        /// The gate in words.
        gate: String,
        /// Whether it is open now.
        open: bool,
        /// The answer that decided.
        answer: String,
        /// Checks so far in this wait.
        tries: u32,
    },
    /// A command was taken.
    Command {
        /// What was asked for.
        command: Command,
    },
}
