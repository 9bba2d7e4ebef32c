//! The way down of one replica: its begin, the kill, and its end. The steps between are in `ladder.rs`, what even a kill
//! does not end in `left_behind.rs`.

use std::time::Duration;

use mainstay_types::Moment;

use super::hooks::Remains;
use super::{At, Course, KILL_WAIT, StackMachine};
use crate::replica::{Actual, Plan, Stage, Stopping, Then};
use crate::{Effect, Reason};

impl StackMachine {
    /// A service that is wanted down: stops what runs, once every dependent that is being stopped too has ended.
    pub(super) fn advance_stop(&mut self, service: usize) {
        let slot = &self.slots[service];
        if slot.blockers > 0 || slot.active() == 0 {
            return;
        }
        let reason = slot.down_reason.clone();
        for index in 0..slot.replicas.len() {
            self.begin_stop(At { service, index }, reason.clone(), Then::Stop);
        }
    }

    /// Asks the program of this replica to end. One that has no program, or is on its way down, stays as it is.
    pub(super) fn begin_stop(&mut self, at: At, reason: Reason, then: Then) {
        let now = self.now;
        let service = self.config(at);
        let kill_at = self.kill_at(service.stop.grace);
        let (spawn, launched, stage, before) = match &self.replica(at).actual {
            Actual::Preparing { .. } => {
                self.cancel_start(at, reason, then);
                return;
            }
            Actual::Launching { spawn } => (*spawn, None, Stage::NotLaunched { kill_at }, None),
            Actual::Running(running) => {
                let stage = Stage::Asked { kill_at, next_at: kill_at, done: 0, task: None };
                let launched = Some((running.pid, running.launched_at));
                (running.spawn, launched, stage, service.hooks.before_stop.clone())
            }
            Actual::Stopping(_)
            | Actual::Closing(_)
            | Actual::Waiting
            | Actual::Backoff { .. }
            | Actual::Stopped
            | Actual::Completed
            | Actual::Failed(_) => return,
        };
        let plan = Plan::new(&service.stop, before);
        let tried = Vec::new();
        let stopping = Stopping { spawn, launched, exit: None, asked_at: now, stage, plan, tried, then };
        self.shift(at, Actual::Stopping(Box::new(stopping)), reason);
        if launched.is_some() {
            self.begin_ladder(at);
        }
    }

    /// Kills the tree of this replica, if there is or may be one that was not killed before, and whatever command it
    /// waits for. `after` is the time it was given and did not keep to.
    pub(super) fn kill(&mut self, at: At, after: Option<Duration>) {
        self.begin_kill_of_unasked(at);
        self.hurry_closing(at);
        let lost_at = self.now + KILL_WAIT;
        let Actual::Stopping(stopping) = &mut self.replica_mut(at).actual else { return };
        let stage = stopping.stage;
        match stage {
            Stage::NotLaunched { .. } | Stage::BeforeStop { .. } | Stage::Asked { .. } => {
                stopping.stage = Stage::Killed { lost_at, after };
                let (spawn, tried) = (stopping.spawn, stopping.tried.clone());
                self.out.push(Effect::Kill { spawn });
                self.end_stage(stage);
                if let Some(after) = after {
                    self.note(at, Reason::Killed { after, tried });
                }
                self.reindex(at);
            }
            Stage::Killed { .. } => {}
        }
    }

    /// One that runs and was not asked yet: its way down begins with the kill.
    fn begin_kill_of_unasked(&mut self, at: At) {
        let now = self.now;
        let (spawn, launched) = match &self.replica(at).actual {
            Actual::Preparing { .. } => {
                let reason = self.slots[at.service].down_reason.clone();
                self.cancel_start(at, reason, Then::Stop);
                return;
            }
            Actual::Launching { spawn } => (*spawn, None),
            Actual::Running(running) => (running.spawn, Some((running.pid, running.launched_at))),
            Actual::Stopping(_)
            | Actual::Closing(_)
            | Actual::Waiting
            | Actual::Backoff { .. }
            | Actual::Stopped
            | Actual::Completed
            | Actual::Failed(_) => return,
        };
        let stage = Stage::NotLaunched { kill_at: now };
        let (plan, tried, then) = (Plan::default(), Vec::new(), Then::Stop);
        let stopping = Stopping { spawn, launched, exit: None, asked_at: now, stage, plan, tried, then };
        let reason = self.slots[at.service].down_reason.clone();
        self.shift(at, Actual::Stopping(Box::new(stopping)), reason);
    }

    pub(super) fn kill_everything(&mut self, after: Option<Duration>) {
        for service in 0..self.slots.len() {
            for index in 0..self.slots[service].replicas.len() {
                self.kill(At { service, index }, after);
            }
        }
    }

    /// When a grace that begins now is over: never later than the stack's own budget.
    pub(super) fn kill_at(&self, grace: Duration) -> Moment {
        let own = self.now + grace;
        match self.course {
            Course::Down { budget_end, .. } => own.min(budget_end),
            Course::Idle | Course::Up { .. } => own,
        }
    }

    /// A program that asks for more time to stop gets it, from now, within what stopping the whole stack may take: until
    /// then no more force is used.
    pub(super) fn extend_stop(&mut self, at: At, more: Duration) {
        let budget = self.stack.stop_budget.unwrap_or(self.graph.longest_stop);
        let wanted = self.now + more;
        let course = self.course;
        let Actual::Stopping(stopping) = &mut self.replica_mut(at).actual else { return };
        let latest = match course {
            Course::Down { budget_end, .. } => budget_end,
            Course::Idle | Course::Up { .. } => stopping.asked_at + budget,
        };
        stopping.stage.extend(wanted.min(latest));
        self.reindex(at);
    }

    /// The last process of a stopping tree is gone.
    pub(super) fn finish_stopping(&mut self, at: At) {
        let Actual::Stopping(stopping) = &self.replica(at).actual else { return };
        let Stopping { spawn, launched, exit, stage, then, tried, .. } = (**stopping).clone();
        self.spawns.remove(&spawn);
        let killed = match stage {
            Stage::Killed { after, .. } => after.map(|after| Reason::Killed { after, tried }),
            Stage::NotLaunched { .. } | Stage::BeforeStop { .. } | Stage::Asked { .. } => None,
        };
        let reason = self.replica(at).reason.clone();
        self.close(at, reason, Remains { launched: launched.is_some(), exit, killed, then });
    }
}
