//! What happened, as the stack's machine is told it.

use std::sync::Arc;

use mainstay_config::Stack;
use mainstay_types::{Exit, LaunchFailure, Notification, ProbeKind, ProbeOutcome, ServiceName, SpawnId};

use crate::{GateCheckId, TaskId};

/// One thing that happened. An event that carries a [`SpawnId`] or [`GateCheckId`] which is no longer current is dropped.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// Time has passed; looks at every deadline that is due.
    Tick,
    /// Somebody asked for something.
    Command(Command),
    /// Answers [`crate::Effect::Launch`]: the program runs.
    Launched {
        /// Which start.
        spawn: SpawnId,
        /// Its process id, for people.
        pid: u32,
    },
    /// Answers [`crate::Effect::Launch`]: it does not.
    LaunchFailed {
        /// Which start.
        spawn: SpawnId,
        /// Why.
        failure: LaunchFailure,
    },
    /// The main process ended.
    Exited {
        /// Which start.
        spawn: SpawnId,
        /// How.
        exit: Exit,
        /// Processes of its tree that are still there. Zero means the tree is gone and no `TreeEnded` follows.
        leftovers: u32,
    },
    /// The last process of a tree with leftovers is gone. Comes once, after `Exited { leftovers > 0 }`.
    TreeEnded {
        /// Which start.
        spawn: SpawnId,
    },
    /// Answers [`crate::Effect::Probe`].
    ProbeAnswered {
        /// Which start.
        spawn: SpawnId,
        /// Which probe.
        kind: ProbeKind,
        /// The answer.
        outcome: ProbeOutcome,
    },
    /// Answers [`crate::Effect::Run`].
    RunEnded {
        /// Which run.
        task: TaskId,
        /// Passed with exit code 0.
        outcome: ProbeOutcome,
    },
    /// The program said something about itself.
    Notified {
        /// Which start.
        spawn: SpawnId,
        /// What.
        what: Notification,
    },
    /// Another process of the tree is its main one from here on (`MAINPID=`).
    MainChanged {
        /// Which start.
        spawn: SpawnId,
        /// Its process id, for people.
        pid: u32,
    },
    /// A line of the output matched the pattern of a `log` probe; told once for each start and probe.
    LogMatched {
        /// Which start.
        spawn: SpawnId,
        /// Which probe.
        kind: ProbeKind,
        /// The line, at most 200 characters, made printable.
        line: String,
    },
    /// The file has changed and is valid: this is the stack from here on. Services are started, stopped and restarted as
    /// [`mainstay_config::diff`] says, in the order of the gates. Until what is taken away has ended the old one counts;
    /// one that comes meanwhile takes its place. Ignored once the stack is stopped for good.
    Apply(Arc<Stack>),
    /// Answers [`crate::Effect::CheckGate`].
    GateAnswered {
        /// Which check.
        check: GateCheckId,
        /// The answer.
        outcome: ProbeOutcome,
    },
}

/// What was asked for. Commands change what is wanted; only observations change what is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Start everything with `autostart`, and all it needs. The host's first event.
    StartStack,
    /// Start this service and all it needs. A failed one gets a fresh set of tries.
    Start(ServiceName),
    /// Stop this service, and first, in order, all that depend on its running.
    Stop(ServiceName),
    /// Stop and start this service alone. One that is not running is started.
    Restart(ServiceName),
    /// Make this service read its configuration again, as its `reload` says. One that is not running stays so; the
    /// service's view tells how it goes.
    Reload(ServiceName),
    /// Stop everything in reverse order of dependency, within the stop budget. Final: nothing is started after it.
    StopStack,
    /// Kill everything now. Final.
    KillStack,
}
