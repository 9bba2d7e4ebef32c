//! The way down of one replica: signal, grace, kill, and what the kernel would not let go of.

use std::time::Duration;

use mainstay_config::StopAction;
use mainstay_types::{Moment, StopSignal};

use super::{At, Course, KILL_WAIT, StackMachine};
use crate::replica::{Actual, Held, Outlook, Stage, Stopping, Then};
use crate::{Effect, Reason, Wanted};

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
        let policy = self.config(at).stop.clone();
        let kill_at = self.kill_at(policy.grace);
        let (spawn, launched, stage) = match &self.replica(at).actual {
            Actual::Launching { spawn } => (*spawn, None, Stage::NotLaunched { kill_at }),
            Actual::Running(running) => {
                (running.spawn, Some((running.pid, running.launched_at)), Stage::Asked { kill_at })
            }
            Actual::Stopping(_)
            | Actual::Waiting
            | Actual::Backoff { .. }
            | Actual::Stopped
            | Actual::Completed
            | Actual::Failed(_) => return,
        };
        let stopping = Stopping { spawn, launched, exit: None, asked_at: now, stage, then };
        self.shift(at, Actual::Stopping(stopping), reason);
        if launched.is_some() {
            self.send_stop(at);
        }
    }

    /// Sends the signal to a launched program that is `Asked` to stop. Without any grace it is killed instead, and so
    /// it is where the signal is SIGKILL: a kill goes on until nothing is left.
    pub(super) fn send_stop(&mut self, at: At) {
        let policy = self.config(at).stop.clone();
        let Actual::Stopping(stopping) = &self.replica(at).actual else { return };
        let Stage::Asked { kill_at } = stopping.stage else { return };
        let signal = match policy.steps.first().map(|step| &step.action) {
            Some(StopAction::Signal(signal)) => *signal,
            Some(StopAction::Command(_)) | None => StopSignal::Term,
        };
        if signal == StopSignal::Kill || kill_at <= self.now {
            self.kill(at, None);
        } else {
            let spawn = stopping.spawn;
            self.out.push(Effect::Signal { spawn, signal });
        }
    }

    /// Kills the tree of this replica, if there is or may be one that was not killed before. `after` is the time it
    /// was given and did not keep to.
    pub(super) fn kill(&mut self, at: At, after: Option<Duration>) {
        self.begin_kill_of_unasked(at);
        let lost_at = self.now + KILL_WAIT;
        let Actual::Stopping(stopping) = &mut self.replica_mut(at).actual else { return };
        match stopping.stage {
            Stage::NotLaunched { .. } | Stage::Asked { .. } => {
                stopping.stage = Stage::Killed { lost_at, after };
                let spawn = stopping.spawn;
                self.out.push(Effect::Kill { spawn });
                if let Some(after) = after {
                    self.note(at, Reason::Killed { after });
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
            Actual::Launching { spawn } => (*spawn, None),
            Actual::Running(running) => (running.spawn, Some((running.pid, running.launched_at))),
            Actual::Stopping(_)
            | Actual::Waiting
            | Actual::Backoff { .. }
            | Actual::Stopped
            | Actual::Completed
            | Actual::Failed(_) => return,
        };
        let stage = Stage::NotLaunched { kill_at: now };
        let stopping = Stopping { spawn, launched, exit: None, asked_at: now, stage, then: Then::Stop };
        let reason = self.slots[at.service].down_reason.clone();
        self.shift(at, Actual::Stopping(stopping), reason);
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

    pub(super) fn tick_stopping(&mut self, at: At) {
        let Actual::Stopping(stopping) = &self.replica(at).actual else { return };
        match stopping.stage {
            Stage::NotLaunched { kill_at } | Stage::Asked { kill_at } if kill_at <= self.now => {
                let after = self.now.since(stopping.asked_at);
                self.kill(at, Some(after));
            }
            Stage::Killed { lost_at, .. } if lost_at <= self.now => self.leave_behind(at),
            Stage::NotLaunched { .. } | Stage::Asked { .. } | Stage::Killed { .. } => {}
        }
    }

    /// The kernel still holds some of its processes. The replica ends here, and no other of its processes is started
    /// before the end of these is reported.
    fn leave_behind(&mut self, at: At) {
        let wanted = self.wanted_of(at);
        let replica = self.replica_mut(at);
        let Actual::Stopping(stopping) = &replica.actual else { return };
        let Stopping { spawn, launched, exit, then, .. } = stopping.clone();
        replica.held = Some(Held { spawn, launched, exit, then });
        let actual = match wanted {
            Wanted::Up => Actual::Failed(Outlook::AwaitsTree),
            Wanted::Down => Actual::Stopped,
        };
        self.shift(at, actual, Reason::LeftBehind);
    }

    /// What was left behind has ended after all.
    pub(super) fn release(&mut self, at: At) {
        let Some(held) = self.replica_mut(at).held.take() else { return };
        self.spawns.remove(&held.spawn);
        match &self.replica(at).actual {
            Actual::Failed(Outlook::AwaitsTree) => self.ended(at, held.then, held.exit, None),
            Actual::Waiting | Actual::Failed(Outlook::WatchesGates) => self.enqueue(at.service),
            // Nothing was to follow.
            Actual::Stopped
            | Actual::Completed
            | Actual::Failed(Outlook::Final)
            | Actual::Launching { .. }
            | Actual::Running(_)
            | Actual::Backoff { .. }
            | Actual::Stopping(_) => {}
        }
    }

    /// The last process of a stopping tree is gone.
    pub(super) fn finish_stopping(&mut self, at: At) {
        let Actual::Stopping(stopping) = &self.replica(at).actual else { return };
        let Stopping { spawn, exit, stage, then, .. } = stopping.clone();
        self.spawns.remove(&spawn);
        let killed_after = match stage {
            Stage::Killed { after, .. } => after,
            Stage::NotLaunched { .. } | Stage::Asked { .. } => None,
        };
        self.ended(at, then, exit, killed_after);
    }
}
