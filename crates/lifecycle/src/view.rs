//! What status shows: the machine's state in the contract's words.

use mainstay_config::Kind;
use mainstay_types::{Exit, Moment, ReplicaId, ServiceName, SpawnId, State};

use crate::Reason;
use crate::machine::{ReloadId, Slot, StackMachine};
use crate::replica::{Actual, Health, Replica, Stage};

/// What was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Wanted {
    /// It should run (or, for a oneshot, have run).
    Up,
    /// It should not.
    Down,
}

/// One service.
#[derive(Clone, PartialEq, Debug)]
pub struct ServiceView<'a> {
    /// Its name.
    pub name: &'a ServiceName,
    /// Meant to run on, or to finish.
    pub kind: Kind,
    /// Stopping if any replica is, failed if any has, then the least advanced of those that are up (backoff, waiting,
    /// starting, unready, ready); stopped or completed when none is.
    pub state: State,
    /// The reason of the first replica in that state.
    pub reason: Reason,
    /// What was asked for.
    pub wanted: Wanted,
    /// Its last reload, under way or done.
    pub reload: Option<ReloadView>,
    /// By index.
    pub replicas: Vec<ReplicaView>,
}

/// A reload of a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReloadView {
    /// Which; a later one is greater. After `Command::Reload` was taken, this is that one.
    pub id: ReloadId,
    /// Replicas that have reloaded.
    pub done: u32,
    /// Replicas that run, or ran, and are to; 0 when the service was not running.
    pub of: u32,
    /// How it went, with the reason of a failure; `None` while it is under way.
    pub outcome: Option<Result<(), String>>,
}

/// One replica.
#[derive(Clone, PartialEq, Debug)]
pub struct ReplicaView {
    /// Counted from 0.
    pub index: u32,
    /// The current start, from the launch until the last process of its tree is gone.
    pub spawn: Option<SpawnId>,
    /// Its process id, while its main process runs.
    pub pid: Option<u32>,
    /// What it is.
    pub state: State,
    /// Since when.
    pub since: Moment,
    /// When its program began to run, while it does.
    pub started_at: Option<Moment>,
    /// Starts that the restart policy made since the host's start.
    pub restarts: u64,
    /// How its last program ended, and when.
    pub last_exit: Option<(Exit, Moment)>,
    /// Why it is what it is.
    pub reason: Reason,
    /// What its program last said about itself (sd_notify's `STATUS=`).
    pub status_text: Option<String>,
}

/// A replica whose end a stop waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Blocker {
    /// Which.
    pub replica: ReplicaId,
    /// Its process id, once it has one; its main process may be gone already.
    pub pid: Option<u32>,
    /// When it was asked to stop.
    pub asked_since: Moment,
    /// When `next` follows.
    pub deadline: Moment,
    /// What follows then if it has not ended: `SIGTERM`, `its stop command`, `the kill`, and after a kill `the end of
    /// the waiting`.
    pub next: String,
    /// What was done so far, in order: `before_stop`, `SIGINT`, `its stop command`; `after_exit` when its program is
    /// gone and this runs.
    pub tried: Vec<String>,
    /// Whether it was killed already.
    pub killed: bool,
}

impl StackMachine {
    /// One service, as of the last event.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<ServiceView<'_>> {
        self.index(name).map(|index| self.service_view(index, self.now))
    }

    /// All services, in the order of the file, as of the last event.
    pub fn services(&self) -> impl Iterator<Item = ServiceView<'_>> {
        self.services_at(self.now)
    }

    /// As [`Self::services`], with times to come counted from `now`. A `now` before the last event counts as that one.
    pub fn services_at(&self, now: Moment) -> impl Iterator<Item = ServiceView<'_>> {
        let now = now.max(self.now);
        (0..self.slots.len()).map(move |index| self.service_view(index, now))
    }

    /// Whom the stop under way waits for, in the order of the file. Empty when nothing is stopping.
    #[must_use]
    pub fn stop_progress(&self) -> Vec<Blocker> {
        let mut blockers = Vec::new();
        for (slot, service) in self.slots.iter().zip(&self.stack.services) {
            for (replica, index) in slot.replicas.iter().zip(0..) {
                let replica_id = ReplicaId { service: service.name.clone(), index };
                blockers.extend(blocker(replica_id, &replica.actual));
            }
        }
        blockers
    }

    fn service_view(&self, index: usize, now: Moment) -> ServiceView<'_> {
        let (slot, config) = (&self.slots[index], &self.stack.services[index]);
        let state = slot.state();
        let decider = slot.replicas.iter().find(|replica| replica.actual.state() == state);
        ServiceView {
            name: &config.name,
            kind: config.kind,
            state,
            reason: decider.map_or(Reason::NotWanted, |replica| self.reason_now(index, replica, now)),
            wanted: slot.wanted,
            reload: slot.reload.as_ref().map(|reload| ReloadView {
                id: reload.id,
                done: reload.done,
                of: reload.of,
                outcome: reload.outcome.clone(),
            }),
            replicas: self.replica_views(index, slot, now),
        }
    }

    fn replica_views(&self, service: usize, slot: &Slot, now: Moment) -> Vec<ReplicaView> {
        slot.replicas
            .iter()
            .zip(0..)
            .map(|(replica, index)| {
                let running = match &replica.actual {
                    Actual::Running(running) => Some((running.pid, running.launched_at)),
                    Actual::Stopping(stopping) if stopping.exit.is_none() => stopping.launched,
                    Actual::Stopping(_)
                    | Actual::Closing(_)
                    | Actual::Preparing { .. }
                    | Actual::Waiting
                    | Actual::Launching { .. }
                    | Actual::Backoff { .. }
                    | Actual::Stopped
                    | Actual::Completed
                    | Actual::Failed(_) => None,
                };
                ReplicaView {
                    index,
                    spawn: replica.spawn(),
                    pid: running.map(|(pid, _)| pid),
                    state: replica.actual.state(),
                    since: replica.since,
                    started_at: running.map(|(_, launched_at)| launched_at),
                    restarts: replica.restarts,
                    last_exit: replica.last_exit,
                    reason: self.reason_now(service, replica, now),
                    status_text: replica.status_text.clone(),
                }
            })
            .collect()
    }

    /// What a waiting replica waits for changes without it; so it is looked up when asked for.
    fn reason_now(&self, service: usize, replica: &Replica, now: Moment) -> Reason {
        match replica.actual {
            Actual::Waiting => self.waiting_reason(service, replica.held.is_some(), now),
            Actual::Running(ref running) if running.health == Health::Ready => {
                self.lost_reason(service).unwrap_or_else(|| replica.reason.clone())
            }
            Actual::Preparing { .. }
            | Actual::Launching { .. }
            | Actual::Running(_)
            | Actual::Backoff { .. }
            | Actual::Stopping(_)
            | Actual::Closing(_)
            | Actual::Stopped
            | Actual::Completed
            | Actual::Failed(_) => replica.reason.clone(),
        }
    }
}

fn blocker(replica: ReplicaId, actual: &Actual) -> Option<Blocker> {
    match actual {
        Actual::Stopping(stopping) => {
            let end_of_wait = || "the end of the waiting".to_owned();
            let (deadline, next, killed) = match stopping.stage {
                Stage::NotLaunched { kill_at } => (kill_at, "the kill".to_owned(), false),
                Stage::BeforeStop { ends_at, .. } => (ends_at, stopping.plan.next_words(0), false),
                Stage::Asked { kill_at, next_at, .. } if kill_at <= next_at => {
                    (kill_at, "the kill".to_owned(), false)
                }
                Stage::Asked { next_at, done, .. } => (next_at, stopping.plan.next_words(done), false),
                Stage::Killed { lost_at, .. } => (lost_at, end_of_wait(), true),
            };
            Some(Blocker {
                replica,
                pid: stopping.launched.map(|(pid, _)| pid),
                asked_since: stopping.asked_at,
                deadline,
                next,
                tried: stopping.tried.clone(),
                killed,
            })
        }
        Actual::Closing(closing) => Some(Blocker {
            replica,
            pid: None,
            asked_since: closing.begun_at,
            deadline: closing.lost_at.unwrap_or(closing.ends_at),
            next: "the end of the waiting".to_owned(),
            tried: vec![closing.purpose.as_str().to_owned()],
            killed: closing.lost_at.is_some(),
        }),
        Actual::Waiting
        | Actual::Preparing { .. }
        | Actual::Launching { .. }
        | Actual::Running(_)
        | Actual::Backoff { .. }
        | Actual::Stopped
        | Actual::Completed
        | Actual::Failed(_) => None,
    }
}
