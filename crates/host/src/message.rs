//! What reaches the host loop from its other tasks: one closed list.

use std::sync::Arc;
use std::time::Duration;

use mainstay_api::{CommandReply, Problem, ReloadReply, Status, Verb};
use mainstay_config::Stack;
use mainstay_lifecycle::{GateCheckId, TaskId};
use mainstay_types::{CommandLine, ProbeKind, ProbeOutcome, ServiceName, SpawnId};
use tokio::sync::oneshot;

use crate::control::StopBlocker;

/// Who is asked to run a command: an exec probe or gate runs as its service does.
#[derive(Clone, Debug)]
pub(crate) struct RunAs {
    pub(crate) service: ServiceName,
    pub(crate) index: u32,
    /// The start that a probe asks about: the command ends with it.
    pub(crate) about: Option<SpawnId>,
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
    /// The program wrote a newline to its readiness descriptor.
    SaidReady(SpawnId),
    /// A line of the output matched the pattern of a `log` probe.
    LogMatched {
        spawn: SpawnId,
        kind: ProbeKind,
        line: String,
    },
    /// A command of a hook, stop or reload ended.
    RunEnded {
        task: TaskId,
        outcome: ProbeOutcome,
    },
    /// This is the stack from here on. The answer comes when it has been applied, or at once when nobody waits.
    Apply {
        stack: Arc<Stack>,
        dry_run: bool,
        wait: bool,
        timeout: Option<Duration>,
        reply: oneshot::Sender<Result<ReloadReply, Problem>>,
    },
    /// The time of a command ran out.
    RunTimedOut(SpawnId),
    /// The host cannot do its work any more, for this reason: it stops everything and ends as failed.
    Broken(String),
}
