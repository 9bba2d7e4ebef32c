//! Commands around a service's life: running them, the facts they are told, and what their ends lead to.
//!
//! | command | runs | holds up | its failure |
//! |---|---|---|---|
//! | `before_start` | when the gates hold, before each launch | the launch | is a launch that failed |
//! | `after_ready` | when a start is ready for the first time; never for a oneshot | nothing | is told |
//! | `before_stop` | first of an orderly stop of a running program | the first step of the stop | is told |
//! | `after_exit` | when the tree of a program that ran is gone | whatever comes next | is told |
//!
//! Each run is told in one [`Record::Run`], whatever became of its replica. A run whose replica has moved on is ended.
//! Once the stack is killed, or its stop budget is over, no `after_exit` is begun.
//!
//! Facts in the environment of each, beside `MAINSTAY_STACK`, `MAINSTAY_SERVICE` and `MAINSTAY_REPLICA`, which whoever
//! performs the run adds:
//!
//! | name | value |
//! |---|---|
//! | `MAINSTAY_HOOK` | the key in the file: `before_start` ..., and `stop` for a step of a stop |
//! | `MAINSTAY_STATE` | the replica's state as `status` shows it |
//! | `MAINSTAY_RESTARTS` | how often the restart policy started it, this start included |
//! | `MAINSTAY_PID` | its main process, while there is one |
//! | `MAINSTAY_EXIT_CODE` | after an exit with a code: the code |
//! | `MAINSTAY_EXIT_SIGNAL` | after an end by a signal: its name, `SIGKILL` |
//! | `MAINSTAY_EXIT_REASON` | after an end: why, in words |

use std::time::Duration;

use mainstay_config::Hook;
use mainstay_types::{
    CommandLine, Exit, LaunchFailure, LaunchStep, Moment, ProbeFailure, ProbeOutcome, ReplicaId,
};

use super::{At, Course, KILL_WAIT, StackMachine, replica_id};
use crate::replica::{Actual, Closing, Ending, Running, Stage, Stopping, Then};
use crate::{Effect, Purpose, Reason, Record, TaskId};

/// A run that was not answered yet.
#[derive(Clone, Debug)]
pub(super) struct Task {
    replica: ReplicaId,
    /// `None` once a changed file has taken the replica away.
    pub(super) at: Option<At>,
    pub(super) purpose: Purpose,
    begun_at: Moment,
    /// Whether it was told to end.
    ended: bool,
}

/// What is left to say and do of a program whose tree has ended.
pub(super) struct Remains {
    pub(super) launched: bool,
    pub(super) exit: Option<Exit>,
    /// The kill it took.
    pub(super) killed: Option<Reason>,
    pub(super) then: Then,
}

impl StackMachine {
    // ---- running ----

    pub(super) fn new_task(&mut self) -> TaskId {
        let task = TaskId(self.next_task);
        self.next_task += 1;
        task
    }

    /// Runs a command for this replica, which is in the state the command is told already.
    pub(super) fn run(
        &mut self,
        at: At,
        task: TaskId,
        purpose: Purpose,
        command: CommandLine,
        timeout: Duration,
    ) {
        let replica = replica_id(&self.stack, at);
        let it = Task { replica: replica.clone(), at: Some(at), purpose, begun_at: self.now, ended: false };
        self.tasks.insert(task, it);
        let facts = self.facts(at, purpose);
        self.out.push(Effect::Run { task, replica, purpose, command, timeout, facts });
    }

    /// Ends a run, unless it was ended before.
    pub(super) fn end_run(&mut self, task: TaskId) {
        if let Some(it) = self.tasks.get_mut(&task).filter(|it| !it.ended) {
            it.ended = true;
            self.out.push(Effect::EndRun { task });
        }
    }

    fn facts(&self, at: At, purpose: Purpose) -> Vec<(&'static str, String)> {
        let replica = self.replica(at);
        let mut facts = vec![
            ("MAINSTAY_HOOK", purpose.as_str().to_owned()),
            ("MAINSTAY_STATE", replica.actual.state().to_string()),
            ("MAINSTAY_RESTARTS", replica.restarts.to_string()),
        ];
        let ended = match &replica.actual {
            Actual::Closing(Closing { exit, killed, then, .. }) => Some((*exit, killed.as_ref(), then)),
            Actual::Running(Running { pid, .. }) => {
                facts.push(("MAINSTAY_PID", pid.to_string()));
                None
            }
            Actual::Stopping(stopping) => {
                if let Stopping { launched: Some((pid, _)), exit: None, .. } = **stopping {
                    facts.push(("MAINSTAY_PID", pid.to_string()));
                }
                None
            }
            Actual::Waiting
            | Actual::Failed(_)
            | Actual::Preparing { .. }
            | Actual::Launching { .. }
            | Actual::Backoff { .. }
            | Actual::Stopped
            | Actual::Completed => None,
        };
        let held = replica.held.as_ref().map(|held| (held.exit, None, &held.then));
        if let (Purpose::AfterExit, Some((exit, killed, then))) = (purpose, ended.or(held)) {
            if let Some(code) = exit.and_then(Exit::code) {
                facts.push(("MAINSTAY_EXIT_CODE", code.to_string()));
            }
            if let Some(signal) = exit.and_then(Exit::signal) {
                facts.push(("MAINSTAY_EXIT_SIGNAL", signal));
            }
            let words = match (then, killed) {
                (Then::Policy(ending), _) => ending.cause.to_string(),
                (Then::Stop | Then::Restart | Then::Gates, Some(killed)) => killed.to_string(),
                (Then::Stop | Then::Restart | Then::Gates, None) => Reason::Stopped(exit).to_string(),
            };
            facts.push(("MAINSTAY_EXIT_REASON", words));
        }
        facts
    }

    // ---- the answers ----

    pub(super) fn on_run_ended(&mut self, task: TaskId, outcome: ProbeOutcome) {
        let Some(Task { replica, at, purpose, begun_at, .. }) = self.tasks.remove(&task) else { return };
        let took = self.now.since(begun_at);
        let outcome = match outcome {
            // It is to do its work, not to answer.
            ProbeOutcome::Failed(ProbeFailure::TimedOut(limit)) => {
                ProbeOutcome::Failed(ProbeFailure::DidNotEnd(limit))
            }
            ProbeOutcome::Passed(_) | ProbeOutcome::Failed(_) => outcome,
        };
        self.out.push(Effect::Record(Record::Run { replica, purpose, outcome: outcome.clone(), took }));
        let Some(at) = at else { return };
        if purpose == Purpose::Reload {
            self.on_reload_command_ended(at, task, &outcome);
            return;
        }
        if self.replica(at).held.as_ref().is_some_and(|held| held.after_exit == Some(task)) {
            self.let_go(at);
            return;
        }
        if self.replica(at).actual.task() != Some(task) {
            // Its replica has moved on.
            return;
        }
        match &mut self.replica_mut(at).actual {
            Actual::Preparing { .. } => self.on_prepared(at, outcome),
            Actual::Running(running) => running.after_ready = None,
            Actual::Stopping(_) => self.on_stop_command_ended(at, purpose, outcome),
            Actual::Closing(_) => self.finish_closing(at),
            // Those await no command.
            Actual::Waiting
            | Actual::Launching { .. }
            | Actual::Backoff { .. }
            | Actual::Stopped
            | Actual::Completed
            | Actual::Failed(_) => {}
        }
    }

    // ---- before_start ----

    /// The gates hold: runs what comes before the launch, or launches.
    pub(super) fn begin_start(&mut self, at: At, reason: Reason) {
        let replica = self.replica_mut(at);
        if std::mem::take(&mut replica.again) {
            replica.restarts += 1;
        }
        let Some(Hook { command, timeout }) = self.config(at).hooks.before_start.clone() else {
            self.launch(at, reason);
            return;
        };
        let task = self.new_task();
        self.shift(at, Actual::Preparing { task, reason: reason.clone() }, reason);
        self.replica_mut(at).reason = Reason::HookRuns { purpose: Purpose::BeforeStart, timeout };
        self.run(at, task, Purpose::BeforeStart, command, timeout);
    }

    fn on_prepared(&mut self, at: At, outcome: ProbeOutcome) {
        let Actual::Preparing { reason, .. } = &self.replica(at).actual else { return };
        let reason = reason.clone();
        let slot = &self.slots[at.service];
        match (outcome, self.wanted_of(at)) {
            // Its turn to stop had not come; now there is nothing to stop.
            (_, crate::Wanted::Down) => self.ended(at, Then::Stop, None, None),
            (ProbeOutcome::Failed(failure), crate::Wanted::Up) => {
                let failure = LaunchFailure {
                    step: LaunchStep::BeforeStart,
                    path: None,
                    errno: 0,
                    message: failure.to_string(),
                    hint: None,
                };
                let ending =
                    Ending { cause: Reason::LaunchFailed(failure), success: false, ran: Duration::ZERO };
                self.ended(at, Then::Policy(ending), None, None);
            }
            // Something it needs was lost meanwhile.
            (ProbeOutcome::Passed(_), crate::Wanted::Up) if slot.shut_gates > 0 => {
                self.enter_waiting(at, reason);
            }
            (ProbeOutcome::Passed(_), crate::Wanted::Up) => self.launch(at, reason),
        }
    }

    /// Ends the command before a start that is not wanted any more; nothing else happens before its end is told.
    pub(super) fn cancel_start(&mut self, at: At, reason: Reason, then: Then) {
        let now = self.now;
        let Actual::Preparing { task, .. } = &self.replica(at).actual else { return };
        let closing = Closing {
            task: *task,
            purpose: Purpose::BeforeStart,
            begun_at: now,
            ends_at: now + KILL_WAIT,
            lost_at: Some(now + KILL_WAIT),
            exit: None,
            killed: None,
            then,
        };
        self.end_run(closing.task);
        self.shift(at, Actual::Closing(closing), reason);
    }

    // ---- after_ready ----

    /// Called with every change of state: the first time a start is ready is the moment for `after_ready`.
    pub(super) fn greet_ready(&mut self, at: At) {
        let oneshot = self.config(at).kind == mainstay_config::Kind::Oneshot;
        let hook = self.config(at).hooks.after_ready.clone();
        let Actual::Running(running) = &mut self.replica_mut(at).actual else { return };
        if std::mem::replace(&mut running.was_ready, true) || oneshot {
            return;
        }
        let Some(Hook { command, timeout }) = hook else { return };
        let task = self.new_task();
        if let Actual::Running(running) = &mut self.replica_mut(at).actual {
            running.after_ready = Some(task);
        }
        self.run(at, task, Purpose::AfterReady, command, timeout);
    }

    // ---- after_exit ----

    /// Nothing of the replica's tree is left: runs what comes after that, if the program ever ran.
    pub(super) fn close(&mut self, at: At, reason: Reason, remains: Remains) {
        let Remains { launched, exit, killed, then } = remains;
        let hook = self.config(at).hooks.after_exit.clone().filter(|_| launched && !self.is_out_of_time());
        let Some(Hook { command, timeout }) = hook else {
            self.ended(at, then, exit, killed);
            return;
        };
        let task = self.new_task();
        let closing = Closing {
            task,
            purpose: Purpose::AfterExit,
            begun_at: self.now,
            ends_at: self.now + timeout,
            lost_at: None,
            exit,
            killed,
            then,
        };
        self.shift(at, Actual::Closing(closing), reason);
        self.run(at, task, Purpose::AfterExit, command, timeout);
    }

    /// Whether the stack was killed, or the budget of its stop is over: then only what must be done is done.
    pub(super) fn is_out_of_time(&self) -> bool {
        match self.course {
            Course::Down { budget_end, .. } => budget_end <= self.now,
            Course::Idle | Course::Up { .. } => false,
        }
    }

    /// Ends the command this replica is closing with.
    pub(super) fn hurry_closing(&mut self, at: At) {
        let lost_at = self.now + KILL_WAIT;
        let Actual::Closing(closing) = &mut self.replica_mut(at).actual else { return };
        closing.lost_at.get_or_insert(lost_at);
        let task = closing.task;
        self.end_run(task);
        self.reindex(at);
    }

    pub(super) fn tick_closing(&mut self, at: At) {
        let Actual::Closing(closing) = &self.replica(at).actual else { return };
        if closing.lost_at.is_some_and(|lost_at| lost_at <= self.now) {
            self.finish_closing(at);
        }
    }

    fn finish_closing(&mut self, at: At) {
        let Actual::Closing(closing) = &self.replica(at).actual else { return };
        let Closing { exit, killed, then, .. } = closing.clone();
        self.ended(at, then, exit, killed);
    }

    /// The command a stage of a stop runs, if it does, ends with the stage.
    pub(super) fn end_stage(&mut self, stage: Stage) {
        if let Some(task) = stage.task() {
            self.end_run(task);
        }
    }
}
