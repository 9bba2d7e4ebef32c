//! What is worth telling: the timeline of a stack, as data.

use std::time::Duration;

use mainstay_config::StackDiff;
use mainstay_types::{Exit, ProbeKind, ProbeOutcome, ReplicaId, ServiceName, SpawnId, State};

use crate::{Command, Purpose, Reason};

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
    /// An outside gate opened, or what keeps it shut changed; or a gate that is kept was lost, or is back.
    Gate {
        /// Whose gate.
        service: ServiceName,
        /// The gate in words.
        gate: String,
        /// Whether it is open now.
        open: bool,
        /// The answer that decided.
        answer: String,
        /// Checks so far in this wait or, of a kept gate, of this run; 0 for a gate on a service.
        tries: u32,
    },
    /// A command around the service's life ended.
    Run {
        /// For which replica.
        replica: ReplicaId,
        /// What for.
        purpose: Purpose,
        /// How.
        outcome: ProbeOutcome,
        /// How long it ran.
        took: Duration,
    },
    /// A replica gave up: something for a person to look at.
    GaveUp {
        /// Which replica.
        replica: ReplicaId,
        /// Why, and whether it is tried again.
        reason: Reason,
    },
    /// The program was asked to read its configuration again, or said that it has.
    Reloaded {
        /// Which replica.
        replica: ReplicaId,
        /// What was done, or what it said.
        how: String,
    },
    /// A changed file counts from here on.
    Applied {
        /// What was different.
        diff: StackDiff,
    },
    /// A command was taken.
    Command {
        /// What was asked for.
        command: Command,
    },
}
