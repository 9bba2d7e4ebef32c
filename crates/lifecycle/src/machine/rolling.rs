//! A service reads its configuration again: by a signal, by a command, or by a rolling restart.
//!
//! A rolling restart takes one replica after the other, and the next only when the one before is ready (or, of a oneshot,
//! has completed). One that fails on its way ends it: the rest runs on as it was. So do a stop or restart by command, a
//! newer reload, and a changed configuration.
//!
//! It never makes two replicas be missed at once. The next one is, in this order:
//!
//! | which | what its turn is |
//! |---|---|
//! | the one an older reload took down, if it has not come up since | a fresh start, or the end of the start under way |
//! | one that is down or not ready anyhow | the same; if a program of it runs, that is restarted |
//! | one that is ready, once no other is on its way | its restart |
//!
//! One that has ended for good by itself is left as it is.

use std::collections::BTreeSet;

use mainstay_config::{Hook, ReloadPolicy};
use mainstay_types::{Phase, ProbeOutcome, SpawnId, StopSignal};

use super::{At, StackMachine, replica_id};
use crate::replica::{Actual, Health, Outlook, Replica, Then};
use crate::retry::Tries;
use crate::{Effect, Purpose, Reason, TaskId, Wanted};

/// One reload of one service. Grows with every reload of the stack's services, so that who waits can tell its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReloadId(pub u64);

/// The last reload of a service, under way or done.
#[derive(Clone, Debug)]
pub(crate) struct Reloading {
    pub(crate) id: ReloadId,
    /// Replicas that have reloaded.
    pub(crate) done: u32,
    /// Replicas that are to.
    pub(crate) of: u32,
    /// How it went; `None` while it is under way.
    pub(crate) outcome: Option<Result<(), String>>,
    /// The replica that this reload, or one before it, has taken down last, until it is up again.
    down: Option<usize>,
    left: Left,
}

/// What is left to do of a reload.
#[derive(Clone, Debug)]
enum Left {
    /// The replica on its turn, and those whose turn is still to come.
    Replicas { turn: Option<Turn>, queue: BTreeSet<usize> },
    /// Commands whose end was not told, and the first that failed.
    Commands { open: BTreeSet<TaskId>, failed: Option<String> },
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    index: usize,
    /// The start it had before.
    before: Option<SpawnId>,
    /// Its restarts by policy, up to the start that is awaited: one more means that this one has failed.
    restarts: u64,
}

/// How far the replica on its turn has come.
enum Step {
    Awaited,
    Done,
    Failed,
}

impl StackMachine {
    pub(super) fn reload(&mut self, service: usize) {
        self.end_roll(service, Err("a newer reload took its place".to_owned()));
        let slot = &self.slots[service];
        let up = slot.wanted == Wanted::Up;
        let policy = self.stack.services[service].reload.clone();
        let down = slot.reload.as_ref().and_then(|older| older.down).filter(|index| *index < slot.kept());
        let runs = |index: usize| match (&slot.replicas[index].actual, &policy) {
            (Actual::Running(_), _) => true,
            (
                Actual::Preparing { .. }
                | Actual::Launching { .. }
                | Actual::Stopping(_)
                | Actual::Closing(_),
                ReloadPolicy::Rolling,
            ) => true,
            (
                Actual::Preparing { .. }
                | Actual::Launching { .. }
                | Actual::Stopping(_)
                | Actual::Closing(_)
                | Actual::Waiting
                | Actual::Backoff { .. }
                | Actual::Stopped
                | Actual::Completed
                | Actual::Failed(_),
                _,
            ) => false,
        };
        let is_awaited = |index: usize| {
            let waits = matches!(slot.replicas[index].actual, Actual::Waiting | Actual::Backoff { .. });
            policy == ReloadPolicy::Rolling && (waits || down == Some(index))
        };
        let all = 0..slot.kept();
        let is_running = up && (down.is_some() || all.clone().any(runs));
        let running: Vec<usize> =
            all.filter(|index| is_running && (runs(*index) || is_awaited(*index))).collect();
        let id = ReloadId(self.next_reload);
        self.next_reload += 1;
        let of = u32::try_from(running.len()).unwrap_or(u32::MAX);
        let left = Left::Commands { open: BTreeSet::new(), failed: None };
        let outcome = running.is_empty().then(|| Err("it is not running".to_owned()));
        let nothing = running.is_empty();
        self.slots[service].reload = Some(Reloading { id, done: 0, of, outcome, down, left });
        if nothing {
            return;
        }
        match policy {
            ReloadPolicy::Signal(signal) => self.reload_by_signal(service, &running, signal),
            ReloadPolicy::Command(hook) => self.reload_by_command(service, &running, &hook),
            ReloadPolicy::Rolling => {
                if let Some(reload) = &mut self.slots[service].reload {
                    reload.left = Left::Replicas { turn: None, queue: running.into_iter().collect() };
                }
                self.enqueue(service);
            }
        }
    }

    fn reload_by_signal(&mut self, service: usize, running: &[usize], signal: StopSignal) {
        for &index in running {
            let at = At { service, index };
            let Actual::Running(running) = &self.replica(at).actual else { continue };
            let spawn = running.spawn;
            self.out.push(Effect::SignalMain { spawn, signal });
            self.record_reloaded(at, format!("{signal} sent"));
            self.count_reloaded(service);
        }
        self.end_roll(service, Ok(()));
    }

    fn reload_by_command(&mut self, service: usize, running: &[usize], hook: &Hook) {
        for &index in running {
            let task = self.new_task();
            if let Some(Reloading { left: Left::Commands { open, .. }, .. }) = &mut self.slots[service].reload
            {
                open.insert(task);
            }
            let at = At { service, index };
            self.run(at, task, Purpose::Reload, hook.command.clone(), hook.timeout);
        }
    }

    /// The command of one replica has ended.
    pub(super) fn on_reload_command_ended(&mut self, at: At, task: TaskId, outcome: &ProbeOutcome) {
        let id = replica_id(&self.stack, at);
        let Some(reload) = &mut self.slots[at.service].reload else { return };
        let Left::Commands { open, failed } = &mut reload.left else { return };
        if !open.remove(&task) {
            return;
        }
        match outcome {
            ProbeOutcome::Passed(_) => reload.done += 1,
            ProbeOutcome::Failed(failure) => {
                failed.get_or_insert_with(|| format!("{id}: {failure}"));
            }
        }
        if open.is_empty() {
            let outcome = failed.take().map_or(Ok(()), Err);
            self.end_roll(at.service, outcome);
        }
    }

    /// This replica does not run any more: nobody is left to be asked.
    pub(super) fn end_reload_command(&mut self, at: At) {
        let Some(Reloading { left: Left::Commands { open, .. }, .. }) = &self.slots[at.service].reload else {
            return;
        };
        let of_it = |task: &TaskId| self.tasks.get(task).is_some_and(|it| it.at == Some(at));
        let tasks: Vec<TaskId> = open.iter().copied().filter(of_it).collect();
        for task in tasks {
            self.end_run(task);
        }
    }

    fn count_reloaded(&mut self, service: usize) {
        if let Some(reload) = &mut self.slots[service].reload {
            reload.done += 1;
        }
    }

    /// Ends a reload that is under way; what was restarted stays so.
    pub(super) fn end_roll(&mut self, service: usize, outcome: Result<(), String>) {
        let Some(reload) = &mut self.slots[service].reload else { return };
        if reload.outcome.is_some() {
            return;
        }
        reload.outcome = Some(outcome);
        let left = Left::Commands { open: BTreeSet::new(), failed: None };
        match std::mem::replace(&mut reload.left, left) {
            Left::Commands { open, .. } => {
                for task in open {
                    self.end_run(task);
                }
            }
            Left::Replicas { .. } => {}
        }
    }

    /// Looks at the replica on its turn, and takes the next one when it is done.
    pub(super) fn advance_roll(&mut self, service: usize) {
        loop {
            let Some(reload) = &mut self.slots[service].reload else { return };
            if reload.outcome.is_some() {
                return;
            }
            let Left::Replicas { turn, queue } = &mut reload.left else { return };
            let Some(current) = *turn else {
                if queue.is_empty() {
                    self.end_roll(service, Ok(()));
                    return;
                }
                let Some(index) = self.next_turn(service) else { return };
                self.begin_turn(At { service, index });
                continue;
            };
            let at = At { service, index: current.index };
            match self.step(at, current) {
                Step::Awaited => return,
                Step::Done => {
                    if let Some(Reloading { left: Left::Replicas { turn, .. }, .. }) =
                        &mut self.slots[service].reload
                    {
                        *turn = None;
                    }
                    self.count_reloaded(service);
                    self.record_reloaded(at, "restarted, and ready".to_owned());
                }
                Step::Failed => {
                    let id = replica_id(&self.stack, at);
                    let reason = self.replica(at).reason.clone();
                    let how =
                        format!("the rolling restart ended here, and left the others as they were: {reason}");
                    self.record_reloaded(at, how);
                    self.end_roll(service, Err(format!("{id} did not come up again: {reason}")));
                    return;
                }
            }
        }
    }

    /// Whose turn is next, as the module header has it; `None` while another is on its way.
    fn next_turn(&self, service: usize) -> Option<usize> {
        let slot = &self.slots[service];
        let Some(Reloading { left: Left::Replicas { queue, .. }, down, .. }) = &slot.reload else {
            return None;
        };
        let is_ready = |replica: &Replica| match &replica.actual {
            Actual::Running(running) => running.health == Health::Ready,
            Actual::Waiting
            | Actual::Preparing { .. }
            | Actual::Launching { .. }
            | Actual::Backoff { .. }
            | Actual::Stopping(_)
            | Actual::Closing(_)
            | Actual::Stopped
            | Actual::Completed
            | Actual::Failed(_) => false,
        };
        let is_on_its_way =
            |replica: &Replica| replica.actual.state().phase() != Phase::Terminated && !is_ready(replica);
        down.filter(|index| queue.contains(index))
            .or_else(|| queue.iter().copied().find(|index| !is_ready(&slot.replicas[*index])))
            .or_else(|| {
                queue.first().copied().filter(|_| !slot.replicas[..slot.kept()].iter().any(is_on_its_way))
            })
    }

    /// Restarts this replica. One that waits for its start starts with what is new, and one that has ended for good
    /// since the reload began has nothing to reload.
    fn begin_turn(&mut self, at: At) {
        let before = self.replica(at).spawn();
        let Some(reload) = &mut self.slots[at.service].reload else { return };
        if let Left::Replicas { queue, .. } = &mut reload.left {
            queue.remove(&at.index);
        }
        let is_down_for_reload = reload.down == Some(at.index);
        let replica = self.replica_mut(at);
        match &mut replica.actual {
            Actual::Preparing { .. } | Actual::Launching { .. } | Actual::Running(_) => {
                replica.tries = Tries::default();
                self.begin_stop(at, Reason::RollingRestart, Then::Restart);
            }
            Actual::Stopping(stopping) => stopping.then = Then::Restart,
            Actual::Closing(closing) => closing.then = Then::Restart,
            Actual::Waiting => {}
            Actual::Backoff { .. } => self.start_fresh(at, Reason::RollingRestart),
            Actual::Failed(Outlook::WatchesGates) if is_down_for_reload => {
                // Its time of waiting begins anew.
                self.end_wait(at.service);
                self.start_fresh(at, Reason::RollingRestart);
            }
            Actual::Stopped | Actual::Failed(_) if is_down_for_reload => {
                self.start_fresh(at, Reason::RollingRestart);
            }
            Actual::Stopped | Actual::Completed | Actual::Failed(_) => {
                self.count_reloaded(at.service);
                return;
            }
        }
        let replica = self.replica(at);
        let restarts = replica.restarts + u64::from(replica.again);
        if let Some(reload) = &mut self.slots[at.service].reload
            && let Left::Replicas { turn, .. } = &mut reload.left
        {
            *turn = Some(Turn { index: at.index, before, restarts });
            reload.down = Some(at.index);
        }
    }

    /// A replica is ready, or its work is done: no reload has it down any more.
    pub(super) fn came_up(&mut self, at: At) {
        if let Some(reload) = self.slots[at.service].reload.as_mut().filter(|it| it.down == Some(at.index)) {
            reload.down = None;
        }
    }

    fn step(&self, at: At, turn: Turn) -> Step {
        let replica = self.replica(at);
        if replica.restarts + u64::from(replica.again) > turn.restarts {
            return Step::Failed;
        }
        match &replica.actual {
            Actual::Completed => Step::Done,
            Actual::Running(running)
                if running.health == Health::Ready && Some(running.spawn) != turn.before =>
            {
                Step::Done
            }
            Actual::Running(_)
            | Actual::Waiting
            | Actual::Backoff { .. }
            | Actual::Preparing { .. }
            | Actual::Launching { .. }
            | Actual::Stopping(_)
            | Actual::Closing(_) => Step::Awaited,
            Actual::Stopped | Actual::Failed(_) => Step::Failed,
        }
    }
}
