//! One service in the machine: what is wanted of it, its replicas, and what is counted of them.

use mainstay_config::Condition;
use mainstay_types::{Moment, State};

use super::DeadlineReason;
use super::gates::GateWait;
use super::keeping::Keeping;
use super::rolling::Reloading;
use crate::replica::{Actual, Replica};
use crate::{Reason, Wanted};

/// One service.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) wanted: Wanted,
    /// Why it is wanted down.
    pub(super) down_reason: Reason,
    pub(crate) replicas: Vec<Replica>,
    /// Replicas by state, in the order of [`State::ALL`].
    pub(super) counts: [u32; State::ALL.len()],
    /// Those of the starting ones that are prepared or whose launch is in flight.
    pub(super) launching: u32,
    /// Which conditions of others this service fulfils.
    pub(super) holds: Holds,
    /// Its gates on services that do not hold.
    pub(crate) shut_gates: u32,
    /// Dependents that are wanted down, and are not down yet or blocked themselves.
    pub(super) blockers: u32,
    /// Whether it counts among the blockers of what it needs.
    pub(super) blocks: bool,
    /// While a replica waits for gates.
    pub(crate) wait: Option<GateWait>,
    /// As it stands in the index of deadlines.
    pub(super) wait_deadline: Option<(Moment, DeadlineReason)>,
    /// While it runs and has gates that are kept.
    pub(super) keeping: Option<Keeping>,
    /// Its last reload.
    pub(crate) reload: Option<Reloading>,
    /// So many of its replicas, the last ones, are stopped for good because a changed file has fewer.
    pub(super) retired: usize,
    /// Its replicas that are joining.
    pub(super) joining: u32,
    /// Whether it is in the queue.
    pub(super) queued: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Holds {
    pub(super) ready: bool,
    pub(super) started: bool,
    pub(super) completed: bool,
}

impl Slot {
    /// Nothing was ever asked of it.
    pub(super) fn new(replicas: u32, shut_gates: u32) -> Self {
        let mut counts = [0; State::ALL.len()];
        counts[State::Stopped as usize] = replicas;
        Self {
            wanted: Wanted::Down,
            down_reason: Reason::NotWanted,
            replicas: (0..replicas).map(|_| Replica::new()).collect(),
            counts,
            launching: 0,
            holds: Holds::default(),
            shut_gates,
            blockers: 0,
            blocks: false,
            wait: None,
            wait_deadline: None,
            keeping: None,
            reload: None,
            retired: 0,
            joining: 0,
            queued: false,
        }
    }

    /// So many of its replicas are there to stay.
    pub(super) fn kept(&self) -> usize {
        self.replicas.len() - self.retired
    }

    pub(super) fn count(&self, state: State) -> u32 {
        self.counts[state as usize]
    }

    /// Replicas that are not terminated.
    pub(super) fn active(&self) -> u32 {
        let terminated = [State::Stopped, State::Completed, State::Failed];
        self.counts.iter().sum::<u32>() - terminated.iter().map(|state| self.count(*state)).sum::<u32>()
    }

    /// From nothing, what every change of a replica keeps in step otherwise.
    pub(super) fn recount(&mut self) {
        (self.counts, self.launching) = count_replicas(self.replicas.iter());
        self.joining = self.replicas.iter().map(|replica| u32::from(replica.joining)).sum();
        self.holds = self.compute_holds();
    }

    pub(super) fn compute_holds(&self) -> Holds {
        if self.retired == 0 && self.joining == 0 {
            return Holds::new(self.counts, self.launching);
        }
        // Those that go are not missed by anybody, and those that come are not counted on yet.
        let (counts, launching) =
            count_replicas(self.replicas[..self.kept()].iter().filter(|replica| !replica.joining));
        Holds::new(counts, launching)
    }

    /// The state of the service: stopping if any replica is, failed if any has, then the least advanced of those
    /// that are up; stopped or completed when none is.
    pub(crate) fn state(&self) -> State {
        const ORDER: [State; 9] = [
            State::Stopping,
            State::Failed,
            State::Backoff,
            State::Waiting,
            State::Starting,
            State::Unready,
            State::Ready,
            State::Stopped,
            State::Completed,
        ];
        ORDER.into_iter().find(|state| self.count(*state) > 0).unwrap_or(State::Stopped)
    }
}

/// The replicas by state, and those whose launch is in flight or being prepared.
pub(super) fn count_replicas<'a>(
    replicas: impl Iterator<Item = &'a Replica>,
) -> ([u32; State::ALL.len()], u32) {
    let mut counts = [0; State::ALL.len()];
    let mut launching = 0;
    for replica in replicas {
        counts[replica.actual.state() as usize] += 1;
        let launches = matches!(replica.actual, Actual::Preparing { .. } | Actual::Launching { .. });
        launching += u32::from(launches);
    }
    (counts, launching)
}

impl Holds {
    pub(super) fn new(counts: [u32; State::ALL.len()], launching: u32) -> Self {
        let count = |state: State| counts[state as usize];
        let all: u32 = counts.iter().sum();
        let completed = count(State::Completed);
        let ready = count(State::Ready) + completed;
        let running = count(State::Starting) - launching + count(State::Unready);
        Self { ready: ready == all, started: ready + running == all, completed: completed == all }
    }

    pub(super) fn of(self, condition: Condition) -> bool {
        match condition {
            Condition::Ready => self.ready,
            Condition::Started => self.started,
            Condition::Completed => self.completed,
        }
    }
}
