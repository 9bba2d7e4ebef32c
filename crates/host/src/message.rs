//! What reaches the host loop from its other tasks: one closed list.

use std::time::Duration;

use mainstay_api::{CommandReply, Problem, Status, Verb};
use mainstay_lifecycle::GateCheckId;
use mainstay_types::{CommandLine, ProbeKind, ProbeOutcome, ServiceName, SpawnId};
use tokio::sync::oneshot;

use crate::control::StopBlocker;

/// Who is asked to run a command: an exec probe or gate runs as its service does.
#[derive(Clone, Debug)]
pub(crate) struct RunAs {
    pub(crate) service: ServiceName,
    pub(crate) index: u32,
}

pub(crate) enum Message {
    /// `start`, `stop`, `restart` of one service.
    Command {
        service: String,
        verb: Verb,
        wait: bool,
        timeout: Option<Duration>,
        reply: oneshot::Sender<Result<CommandReply, Problem>>,
    },
    /// The state of everything, with the pids whose use of CPU and memory the asker looks up.
    Status(oneshot::Sender<Status>),
    /// Who holds up the stop.
    StopProgress(oneshot::Sender<Vec<StopBlocker>>),
    /// Stop everything in order; the host ends after it.
    StopStack,
    /// Kill everything now; the host ends after it.
    KillStack,
    ProbeAnswered {
        spawn: SpawnId,
        kind: ProbeKind,
        outcome: ProbeOutcome,
    },
    GateAnswered {
        check: GateCheckId,
        outcome: ProbeOutcome,
    },
    /// Run this command in a tree of its own and say how it ended.
    RunCommand {
        run_as: RunAs,
        command: CommandLine,
        timeout: Duration,
        reply: oneshot::Sender<mainstay_probes::ExecAnswer>,
    },
    /// The time of a command ran out.
    RunTimedOut(SpawnId),
}
