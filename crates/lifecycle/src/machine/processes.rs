//! News of processes: what a launch, an exit and the end of a tree make of a replica.

use std::time::Duration;

use mainstay_config::Kind;
use mainstay_types::{Exit, LaunchFailure, ProbeKind, SpawnId};

use super::hooks::Remains;
use super::{At, KILL_WAIT, StackMachine, probe_of, replica_id};
use crate::probe::Track;
use crate::replica::{Actual, Ending, Health, Outlook, Plan, Running, Stage, Stopping, Then};
use crate::retry::{Tries, Verdict};
use crate::{Effect, Reason, Record, Wanted};

impl StackMachine {
    pub(super) fn on_launched(&mut self, spawn: SpawnId, pid: u32) {
        let Some(&at) = self.spawns.get(&spawn) else { return self.on_orphan_launched(spawn, pid) };
        let now = self.now;
        // One that is being stopped has its whole grace from here on.
        let kill_at = match &self.replica(at).actual {
            Actual::Stopping(stopping) => self.kill_at(stopping.plan.grace),
            Actual::Closing(_)
            | Actual::Preparing { .. }
            | Actual::Launching { .. }
            | Actual::Running(_)
            | Actual::Waiting
            | Actual::Backoff { .. }
            | Actual::Stopped
            | Actual::Completed
            | Actual::Failed(_) => now,
        };
        let replica = self.replica_mut(at);
        if let Some(held) = replica.held.as_mut().filter(|held| held.spawn == spawn) {
            // It came up after all, long after it was given up: it must not stay.
            held.launched = Some((pid, now));
            self.record_spawned(at, spawn, pid);
            self.out.push(Effect::Kill { spawn });
            return;
        }
        match &mut replica.actual {
            Actual::Launching { .. } => {
                self.record_spawned(at, spawn, pid);
                self.begin_running(at, spawn, pid);
            }
            Actual::Stopping(stopping) if stopping.launched.is_none() => {
                stopping.launched = Some((pid, now));
                let killed = match stopping.stage {
                    Stage::NotLaunched { .. } | Stage::BeforeStop { .. } | Stage::Asked { .. } => {
                        stopping.stage = Stage::Asked { kill_at, next_at: kill_at, done: 0, task: None };
                        false
                    }
                    Stage::Killed { .. } => true,
                };
                self.record_spawned(at, spawn, pid);
                if killed {
                    self.out.push(Effect::Kill { spawn });
                } else {
                    self.begin_ladder(at);
                }
                self.reindex(at);
            }
            // A second report of the same launch.
            Actual::Stopping(_)
            | Actual::Closing(_)
            | Actual::Preparing { .. }
            | Actual::Running(_)
            | Actual::Waiting
            | Actual::Backoff { .. }
            | Actual::Stopped
            | Actual::Completed
            | Actual::Failed(_) => {}
        }
    }

    /// A program without startup and readiness probe is ready as soon as it runs; a oneshot without them is starting
    /// until it has completed, because whoever waits for it to be ready waits for its work.
    fn begin_running(&mut self, at: At, spawn: SpawnId, pid: u32) {
        let now = self.now;
        let service = self.config(at);
        let tracks: Vec<Track> = ProbeKind::ALL
            .into_iter()
            .filter_map(|kind| Some(Track::new(kind, probe_of(service, kind)?, now)))
            .collect();
        let at_once =
            service.startup.is_none() && service.readiness.is_none() && service.kind == Kind::LongRunning;
        let health = if at_once { Health::Ready } else { Health::Starting };
        let mut running = Running {
            spawn,
            pid,
            launched_at: now,
            health,
            reloading: false,
            tracks,
            orphans: Vec::new(),
            was_ready: false,
            after_ready: None,
        };
        running.pace_watchdog(now);
        let reason = running.awaits().unwrap_or(Reason::Running);
        self.shift(at, Actual::Running(running), reason);
        self.tick_probes(at);
        self.hear_early(at);
    }

    pub(super) fn on_launch_failed(&mut self, spawn: SpawnId, failure: LaunchFailure) {
        let Some(&at) = self.spawns.get(&spawn) else { return self.forget_orphan(spawn) };
        if self.replica(at).held.as_ref().is_some_and(|held| held.spawn == spawn) {
            self.release(at);
            return;
        }
        match &self.replica(at).actual {
            Actual::Launching { .. } => {
                self.spawns.remove(&spawn);
                let ending =
                    Ending { cause: Reason::LaunchFailed(failure), success: false, ran: Duration::ZERO };
                self.ended(at, Then::Policy(ending), None, None);
            }
            Actual::Stopping(stopping) if stopping.launched.is_none() => self.finish_stopping(at),
            // A report that contradicts `Launched`.
            Actual::Stopping(_)
            | Actual::Closing(_)
            | Actual::Preparing { .. }
            | Actual::Running(_)
            | Actual::Waiting
            | Actual::Backoff { .. }
            | Actual::Stopped
            | Actual::Completed
            | Actual::Failed(_) => {}
        }
    }

    pub(super) fn on_exited(&mut self, spawn: SpawnId, exit: Exit, leftovers: u32) {
        let Some(&at) = self.spawns.get(&spawn) else { return self.on_orphan_exited(spawn, exit, leftovers) };
        let now = self.now;
        let oneshot = self.config(at).kind == Kind::Oneshot;
        let replica = self.replica_mut(at);
        if let Some(held) = replica.held.as_mut().filter(|held| held.spawn == spawn) {
            if held.exit.replace(exit).is_none() {
                let ran = held.launched.map_or(Duration::ZERO, |(_, launched_at)| now.since(launched_at));
                self.record_exited(at, spawn, exit, ran, true);
            }
            if leftovers == 0 {
                self.release(at);
            }
            return;
        }
        match &mut replica.actual {
            Actual::Running(running) => {
                let ran = now.since(running.launched_at);
                let launched = Some((running.pid, running.launched_at));
                let cause = Reason::Exited { exit, ran, leftovers };
                // A program that should run on and instead put itself into the background has not done its work.
                let success = exit.is_success() && (oneshot || leftovers == 0);
                let ending = Ending { cause: cause.clone(), success, ran };
                self.record_exited(at, spawn, exit, ran, false);
                if leftovers == 0 {
                    self.spawns.remove(&spawn);
                    let (exit, then) = (Some(exit), Then::Policy(ending));
                    self.close(at, cause, Remains { launched: true, exit, killed: None, then });
                } else {
                    self.out.push(Effect::Kill { spawn });
                    let stopping = Stopping {
                        spawn,
                        launched,
                        exit: Some(exit),
                        asked_at: now,
                        stage: Stage::Killed { lost_at: now + KILL_WAIT, after: None },
                        plan: Plan::default(),
                        tried: Vec::new(),
                        then: Then::Policy(ending),
                    };
                    self.shift(at, Actual::Stopping(Box::new(stopping)), cause);
                }
            }
            Actual::Stopping(stopping) if stopping.exit.is_none() => {
                stopping.exit = Some(exit);
                let ran = stopping.launched.map_or(Duration::ZERO, |(_, launched_at)| now.since(launched_at));
                if let Then::Policy(ending) = &mut stopping.then {
                    ending.ran = ran;
                }
                self.record_exited(at, spawn, exit, ran, true);
                if leftovers == 0 {
                    self.finish_stopping(at);
                } else {
                    self.end_command_step(at);
                }
            }
            // A second report of the same exit, or one before its launch.
            Actual::Stopping(_)
            | Actual::Closing(_)
            | Actual::Preparing { .. }
            | Actual::Launching { .. }
            | Actual::Waiting
            | Actual::Backoff { .. }
            | Actual::Stopped
            | Actual::Completed
            | Actual::Failed(_) => {}
        }
    }

    pub(super) fn on_tree_ended(&mut self, spawn: SpawnId) {
        let Some(&at) = self.spawns.get(&spawn) else { return self.on_orphan_tree_ended(spawn) };
        let replica = self.replica(at);
        if let Some(held) = replica.held.as_ref().filter(|held| held.spawn == spawn) {
            if held.exit.is_some() {
                self.release(at);
            }
            return;
        }
        match &replica.actual {
            Actual::Stopping(stopping) if stopping.exit.is_some() => self.finish_stopping(at),
            // The end of a tree comes after the end of its main process.
            Actual::Stopping(_)
            | Actual::Closing(_)
            | Actual::Preparing { .. }
            | Actual::Launching { .. }
            | Actual::Running(_)
            | Actual::Waiting
            | Actual::Backoff { .. }
            | Actual::Stopped
            | Actual::Completed
            | Actual::Failed(_) => {}
        }
    }

    /// Nothing of the replica's tree is left, and nothing is to be done about it. `killed` is the kill it took.
    pub(super) fn ended(&mut self, at: At, then: Then, exit: Option<Exit>, killed: Option<Reason>) {
        let oneshot = self.config(at).kind == Kind::Oneshot;
        let wanted = self.wanted_of(at);
        match (then, wanted) {
            (Then::Policy(ending), _) if oneshot && ending.success => {
                self.shift(at, Actual::Completed, Reason::Completed);
            }
            (Then::Stop | Then::Restart | Then::Gates | Then::Policy(_), Wanted::Down) => {
                let reason = killed.unwrap_or(Reason::Stopped(exit));
                self.shift(at, Actual::Stopped, reason);
            }
            (Then::Stop, Wanted::Up) => self.start_fresh(at, Reason::Requested),
            (Then::Restart, Wanted::Up) => self.start_fresh(at, Reason::RestartRequested),
            (Then::Gates, Wanted::Up) => self.enter_waiting(at, Reason::GatesOpen),
            (Then::Policy(ending), Wanted::Up) => self.apply_policy(at, ending),
        }
    }

    fn apply_policy(&mut self, at: At, ending: Ending) {
        use mainstay_config::RestartWhen::{Always, Never, OnFailure};
        let Self { stack, slots, random, now, .. } = self;
        let policy = &stack.services[at.service].restart;
        let replica = &mut slots[at.service].replicas[at.index];
        match (policy.when, ending.success) {
            (Never | OnFailure, true) => {
                self.shift(at, Actual::Stopped, Reason::NotRestarted(Box::new(ending.cause)));
            }
            (Never, false) => {
                let reason = Reason::NotRestarted(Box::new(ending.cause));
                self.shift(at, Actual::Failed(Outlook::Final), reason);
            }
            (Always, _) | (OnFailure, false) => {
                let cause = Box::new(ending.cause);
                match replica.tries.fail(policy, &cause, ending.ran, *now, random) {
                    Verdict::GiveUp { first, failures, within, again, retry_after } => {
                        let outlook =
                            retry_after.map_or(Outlook::Final, |wait| Outlook::Retries { at: *now + wait });
                        let first = Box::new(first);
                        let reason = Reason::GaveUp { first, cause, failures, within, again, retry_after };
                        self.shift(at, Actual::Failed(outlook), reason.clone());
                        let replica = replica_id(&self.stack, at);
                        self.out.push(Effect::Record(Record::GaveUp { replica, reason }));
                    }
                    Verdict::Again { wait, failures } => {
                        replica.again = true;
                        let until = *now + wait;
                        let reason = Reason::Restarting { cause, wait, failures };
                        if wait.is_zero() {
                            self.enter_waiting(at, reason);
                        } else {
                            self.shift(at, Actual::Backoff { until }, reason);
                        }
                    }
                }
            }
        }
    }

    /// A start that somebody asked for: what failed before does not count any more.
    pub(super) fn start_fresh(&mut self, at: At, reason: Reason) {
        let replica = self.replica_mut(at);
        replica.tries = Tries::default();
        replica.again = false;
        self.enter_waiting(at, reason);
    }

    /// The wait after giving up is over: a fresh set of tries, and what it was is not forgotten.
    pub(super) fn retry(&mut self, at: At) {
        let give_up = self.config(at).restart.give_up;
        let after = give_up.and_then(|limit| limit.retry_after).unwrap_or_default();
        let replica = self.replica_mut(at);
        replica.tries = Tries::after_giving_up();
        replica.again = true;
        self.enter_waiting(at, Reason::Retried { after });
    }

    fn record_spawned(&mut self, at: At, spawn: SpawnId, pid: u32) {
        let replica = replica_id(&self.stack, at);
        self.out.push(Effect::Record(Record::Spawned { replica, spawn, pid }));
    }

    fn record_exited(&mut self, at: At, spawn: SpawnId, exit: Exit, ran: Duration, requested: bool) {
        let now = self.now;
        self.replica_mut(at).last_exit = Some((exit, now));
        let replica = replica_id(&self.stack, at);
        self.out.push(Effect::Record(Record::Exited { replica, spawn, exit, ran, requested }));
    }
}
