//! What is to be done. An effect leaves nothing to choose to whoever performs it.

use mainstay_types::{ProbeKind, ReplicaId, ServiceName, SpawnId, StopSignal};

use crate::Record;

/// One check of one outside gate. Never reused within one host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GateCheckId(pub u64);

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
