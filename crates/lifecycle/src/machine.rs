//! The machine of a whole stack: takes events and the time, keeps what is wanted apart from what is, gives effects.
//!
//! ```text
//!            commands                         news of processes, probes, gates
//!               │                                        │
//!               ▼                                        ▼
//!   wanted (Up | Down, per service)          actual (per replica, see `replica.rs`)
//!               └───────────────► advance ◄──────────────┘
//!         Up:   start what waits when its gates hold
//!         Down: stop what runs when no dependent that is being stopped is left
//! ```
//!
//! | wanted | actual | meaning |
//! |---|---|---|
//! | Up | waiting, starting, backoff | on its way |
//! | Up | ready, unready | as it should be, or nearly |
//! | Up | stopping | restarting: a command, a probe, a gate that was lost, leftovers of an exit, or what runs after one |
//! | Up | stopped, completed, failed | its policy has ended it |
//! | Down | starting, ready, unready | waits for its dependents to end |
//! | Down | stopping | on its way |
//! | Down | stopped, completed, failed | as it should be |
//! | Down | waiting, backoff | never seen from outside: ends at once |
//!
//! A changed file (`apply.rs`) takes the place of the stack when what it takes away has ended; until then a replica beyond
//! a smaller number is wanted down although its service is wanted up.
//!
//! Work per event is in proportion to what the event changes: each service counts its shut gates and the dependents
//! that still hold up its stop, and a change pushes exactly the services it concerns to a queue.

mod apply;
mod commands;
#[cfg(test)]
mod consistency;
mod gates;
mod hooks;
mod keeping;
mod ladder;
mod left_behind;
mod probing;
mod processes;
mod rolling;
mod slot;
mod stopping;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mainstay_config::{Service, Stack};
use mainstay_types::{Moment, Phase, ProbeKind, ReplicaId, SpawnId, State};

use crate::graph::Graph;
use crate::replica::{Actual, Held, Outlook, Replica};
use crate::{Effect, Event, GateCheckId, Reason, Record, SplitMix64, TaskId, Wanted};
use apply::Pending;
pub(crate) use keeping::is_kept;
pub use rolling::ReloadId;
pub(crate) use slot::Slot;

/// How long after a kill the news of its end may take before the tree counts as left behind. A kill cannot be
/// refused, but a process in an uninterruptible wait (a dead network file system, say) ends only when that does; five
/// seconds are far more than a loaded machine needs to tear down a large process.
pub const KILL_WAIT: Duration = Duration::from_secs(5);

/// What a deadline is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DeadlineReason {
    /// The wait before a restart is over.
    Backoff,
    /// A check of this probe is due, or its time is up.
    Probe(ProbeKind),
    /// The next step of a stop is due.
    StopStep,
    /// The grace of a stop is over.
    Grace,
    /// The wait for the end of a killed tree or command is over.
    Kill,
    /// A service that gave up is tried again.
    Retry,
    /// Outside gates are checked again.
    GateCheck,
    /// The `within` of a gate is over.
    GateWithin,
    /// The budget for stopping the stack is over.
    StopBudget,
}

/// One replica by place: indices of service and replica.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct At {
    service: usize,
    index: usize,
}

/// Who has a deadline.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Key {
    Replica(At),
    Gates(usize),
    Keeping(usize),
    Stack,
}

/// The course of the whole stack, forward only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Course {
    /// No command yet.
    Idle,
    /// Started; `ran` once nothing wanted was on its way any more.
    Up { ran: bool },
    /// Being stopped for good. What is left at `budget_end` is killed.
    Down { asked_at: Moment, budget_end: Moment },
}

/// Decides for all services of one stack. See the module header.
#[derive(Clone, Debug)]
pub struct StackMachine {
    pub(crate) stack: Arc<Stack>,
    graph: Graph,
    pub(crate) slots: Vec<Slot>,
    /// Every start whose end has not been reported, by id.
    spawns: BTreeMap<SpawnId, At>,
    /// Trees that were left behind by replicas which a changed file has taken away.
    orphans: BTreeMap<ReplicaId, Held>,
    /// Checks of outside gates in flight: the service and the place in its `outside` list.
    checks: BTreeMap<GateCheckId, (usize, usize)>,
    /// Checks of kept gates in flight, by service.
    kept_checks: BTreeMap<GateCheckId, usize>,
    /// Commands around a service's life that were not answered yet.
    tasks: BTreeMap<TaskId, hooks::Task>,
    deadlines: BTreeSet<(Moment, Key)>,
    queue: VecDeque<usize>,
    random: SplitMix64,
    next_spawn: u64,
    next_check: u64,
    next_reload: u64,
    next_task: u64,
    /// A changed file that does not count yet.
    pending: Option<Pending>,
    course: Course,
    /// Replicas that are not terminated.
    active: usize,
    /// Replicas in the initializing phase.
    initializing: usize,
    /// Whether the timeline has heard of every replica.
    announced: bool,
    pub(crate) now: Moment,
    out: Vec<Effect>,
}

impl StackMachine {
    /// Nothing is wanted and nothing runs until the first command. The seed spreads waits.
    #[must_use]
    pub fn new(stack: Arc<Stack>, seed: u64) -> Self {
        let graph = Graph::new(&stack);
        let slots = stack
            .services
            .iter()
            .zip(&graph.nodes)
            .map(|(service, node)| Slot::new(service.replicas, node.service_gates))
            .collect();
        Self {
            stack,
            graph,
            slots,
            spawns: BTreeMap::new(),
            orphans: BTreeMap::new(),
            checks: BTreeMap::new(),
            kept_checks: BTreeMap::new(),
            tasks: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            queue: VecDeque::new(),
            random: SplitMix64::new(seed),
            next_spawn: 1,
            next_check: 1,
            next_reload: 1,
            next_task: 1,
            pending: None,
            course: Course::Idle,
            active: 0,
            initializing: 0,
            announced: false,
            now: Moment::START,
            out: Vec::new(),
        }
    }

    /// Takes one event that happened at `now`; gives what is to be done, in this order. A `now` before that of the
    /// last event counts as that one.
    #[must_use]
    pub fn handle(&mut self, event: Event, now: Moment) -> Vec<Effect> {
        self.now = self.now.max(now);
        match event {
            Event::Tick => {
                // What one deadline sets off may have one of its own that is due at once: a stop without grace, say.
                let mut handled = BTreeSet::new();
                while self.on_tick(&mut handled) {
                    self.advance();
                }
            }
            Event::Command(command) => self.on_command(command),
            Event::Launched { spawn, pid } => self.on_launched(spawn, pid),
            Event::LaunchFailed { spawn, failure } => self.on_launch_failed(spawn, failure),
            Event::Exited { spawn, exit, leftovers } => self.on_exited(spawn, exit, leftovers),
            Event::TreeEnded { spawn } => self.on_tree_ended(spawn),
            Event::ProbeAnswered { spawn, kind, outcome } => self.on_probe_answered(spawn, kind, outcome),
            Event::GateAnswered { check, outcome } => self.on_gate_answered(check, outcome),
            Event::Notified { spawn, what } => self.on_notified(spawn, what),
            Event::MainChanged { spawn, pid } => self.on_main_changed(spawn, pid),
            Event::LogMatched { spawn, kind, line } => self.on_log_matched(spawn, kind, line),
            Event::RunEnded { task, outcome } => self.on_run_ended(task, outcome),
            Event::Apply(stack) => self.on_apply(stack),
        }
        self.advance();
        std::mem::take(&mut self.out)
    }

    /// Whatever follows from what has just changed.
    fn advance(&mut self) {
        self.advance_queued();
        self.advance_change();
        self.advance_queued();
        self.advance_course();
    }

    /// When [`Event::Tick`] is due next, and what for. Later than the last event's time once `Tick` was handled.
    #[must_use]
    pub fn next_deadline(&self) -> Option<(Moment, DeadlineReason)> {
        let (moment, key) = self.deadlines.first()?;
        let reason = match key {
            Key::Replica(at) => self.replica(*at).deadline.map(|(_, reason)| reason)?,
            Key::Gates(service) => self.slots[*service].wait_deadline.map(|(_, reason)| reason)?,
            Key::Keeping(service) => self.slots[*service].keeping.as_ref()?.next_deadline()?.1,
            Key::Stack => DeadlineReason::StopBudget,
        };
        Some((*moment, reason))
    }

    /// Whether the stack was stopped or killed for good, nothing runs, and nothing will. Trees the kernel would not
    /// let go of may remain; their replicas say so.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.course, Course::Down { .. }) && self.active == 0
    }

    /// Whether every service is terminated and nothing will happen without a command.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let awaits_tree = |replica: &Replica| match replica.actual {
            Actual::Failed(Outlook::AwaitsTree) => true,
            Actual::Failed(Outlook::WatchesGates) => {
                replica.held.as_ref().is_some_and(|held| held.after_exit.is_some())
            }
            Actual::Failed(Outlook::Final | Outlook::Retries { .. })
            | Actual::Waiting
            | Actual::Preparing { .. }
            | Actual::Launching { .. }
            | Actual::Running(_)
            | Actual::Backoff { .. }
            | Actual::Stopping(_)
            | Actual::Closing(_)
            | Actual::Stopped
            | Actual::Completed => false,
        };
        self.course != Course::Idle
            && self.active == 0
            && self.deadlines.is_empty()
            && self.checks.is_empty()
            && !self.slots.iter().any(|slot| slot.replicas.iter().any(awaits_tree))
    }

    /// The stack's own phase: initializing until nothing wanted is on its way for the first time.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.course {
            Course::Idle | Course::Up { ran: false } => Phase::Initializing,
            Course::Up { ran: true } => Phase::Running,
            Course::Down { .. } if self.active == 0 => Phase::Terminated,
            Course::Down { .. } => Phase::ShuttingDown,
        }
    }

    fn advance_course(&mut self) {
        match self.course {
            Course::Up { ran: false } if self.initializing == 0 => self.course = Course::Up { ran: true },
            Course::Down { budget_end, .. } if self.active == 0 => {
                self.deadlines.remove(&(budget_end, Key::Stack));
            }
            Course::Idle | Course::Up { .. } | Course::Down { .. } => {}
        }
    }

    // ---- deadlines ----

    /// Handles the keys that are due and were not handled in this tick; whether there were any. Bounded: handling a key
    /// moves its deadline past `now` or takes it away, and each key comes up once.
    fn on_tick(&mut self, handled: &mut BTreeSet<Key>) -> bool {
        let due: Vec<Key> = self
            .deadlines
            .iter()
            .take_while(|(moment, _)| *moment <= self.now)
            .map(|(_, key)| *key)
            .filter(|key| !handled.contains(key))
            .collect();
        for key in &due {
            handled.insert(*key);
            match *key {
                Key::Replica(at) => self.tick_replica(at),
                Key::Gates(service) => self.enqueue(service),
                Key::Keeping(service) => self.tick_keeping(service),
                Key::Stack => self.end_budget(),
            }
        }
        !due.is_empty()
    }

    fn tick_replica(&mut self, at: At) {
        match &self.replica(at).actual {
            Actual::Backoff { until } if *until <= self.now => self.enter_waiting(at, Reason::GatesOpen),
            Actual::Running(_) => self.tick_probes(at),
            Actual::Stopping(_) => self.tick_stopping(at),
            Actual::Closing(_) => self.tick_closing(at),
            Actual::Failed(Outlook::Retries { at: due }) if *due <= self.now => self.retry(at),
            // A key before this one may have moved it on.
            Actual::Backoff { .. }
            | Actual::Preparing { .. }
            | Actual::Waiting
            | Actual::Launching { .. }
            | Actual::Stopped
            | Actual::Completed
            | Actual::Failed(_) => {}
        }
    }

    /// Brings the index of deadlines up to date with one replica.
    fn reindex(&mut self, at: At) {
        let replica = &mut self.slots[at.service].replicas[at.index];
        let next = replica.next_deadline();
        if next == replica.deadline {
            return;
        }
        let before = std::mem::replace(&mut replica.deadline, next);
        if let Some((moment, _)) = before {
            self.deadlines.remove(&(moment, Key::Replica(at)));
        }
        if let Some((moment, _)) = next {
            self.deadlines.insert((moment, Key::Replica(at)));
        }
    }

    // ---- the queue: services whose gates or blockers changed ----

    fn enqueue(&mut self, service: usize) {
        let slot = &mut self.slots[service];
        if !slot.queued {
            slot.queued = true;
            self.queue.push_back(service);
        }
    }

    /// Bounded: a service comes back only when something it depends on changed, and gates form no circle.
    fn advance_queued(&mut self) {
        while let Some(service) = self.queue.pop_front() {
            self.slots[service].queued = false;
            match self.slots[service].wanted {
                Wanted::Up => {
                    self.advance_gates(service);
                    self.advance_keeping(service);
                    self.advance_roll(service);
                }
                Wanted::Down => {
                    self.end_roll(service, Err("it is being stopped".to_owned()));
                    self.advance_stop(service);
                }
            }
        }
    }

    // ---- changes of what is ----

    /// The one place where a replica changes: keeps counts, records, deadlines and neighbours in step.
    fn shift(&mut self, at: At, actual: Actual, reason: Reason) {
        let slot = &mut self.slots[at.service];
        let replica = &mut slot.replicas[at.index];
        let (from, to) = (replica.actual.state(), actual.state());
        // Its tree has ended after all, and its policy says what it is from here on.
        let is_news = matches!(replica.actual, Actual::Failed(Outlook::AwaitsTree));
        let launching = |actual: &Actual| {
            u32::from(matches!(actual, Actual::Preparing { .. } | Actual::Launching { .. }))
        };
        slot.launching += launching(&actual);
        slot.launching -= launching(&replica.actual);
        let left_task = replica.actual.task().filter(|task| actual.task() != Some(*task));
        slot.counts[from as usize] -= 1;
        slot.counts[to as usize] += 1;
        let active = |state: State| usize::from(state.phase() != Phase::Terminated);
        let initializing = |state: State| usize::from(state.phase() == Phase::Initializing);
        self.active = self.active + active(to) - active(from);
        self.initializing = self.initializing + initializing(to) - initializing(from);
        replica.actual = actual;
        if replica.joining && !matches!(to, State::Waiting | State::Starting) {
            replica.joining = false;
            slot.joining -= 1;
        }
        let announced = std::mem::replace(&mut replica.announced, true);
        if from != to {
            replica.since = self.now;
        }
        if from != to || !announced || is_news {
            let from = if announced { from } else { to };
            let id = replica_id(&self.stack, at);
            self.out.push(Effect::Record(Record::State { replica: id, from, to, reason: reason.clone() }));
        }
        self.replica_mut(at).reason = reason;
        if let Some(task) = left_task {
            self.end_run(task);
        }
        if to == State::Ready {
            self.greet_ready(at);
        }
        if matches!(to, State::Ready | State::Completed) {
            self.came_up(at);
        }
        self.reindex(at);
        self.refresh(at.service);
        if self.slots[at.service].reload.as_ref().is_some_and(|reload| reload.outcome.is_none()) {
            if !matches!(self.replica(at).actual, Actual::Running(_)) {
                self.end_reload_command(at);
            }
            self.enqueue(at.service);
        }
    }

    /// Tells the timeline of something new that leaves the state as it is, and is the reason for it from here on.
    fn note(&mut self, at: At, reason: Reason) {
        self.tell(at, reason.clone());
        self.replica_mut(at).reason = reason;
    }

    /// Tells the timeline of something new that leaves the state and its reason as they are.
    fn tell(&mut self, at: At, reason: Reason) {
        let state = self.replica(at).actual.state();
        let replica = replica_id(&self.stack, at);
        self.out.push(Effect::Record(Record::State { replica, from: state, to: state, reason }));
    }

    /// Recomputes what this service means to others, and tells those for whom it changed.
    fn refresh(&mut self, service: usize) {
        let slot = &mut self.slots[service];
        let holds = slot.compute_holds();
        let before = std::mem::replace(&mut slot.holds, holds);
        if before != holds {
            for number in 0..self.graph.nodes[service].dependents.len() {
                let dependent = self.graph.nodes[service].dependents[number];
                let other = &mut self.slots[dependent.service];
                match (before.of(dependent.is), holds.of(dependent.is)) {
                    (false, true) => other.shut_gates -= 1,
                    (true, false) => other.shut_gates += 1,
                    (false, false) | (true, true) => continue,
                }
                if other.wait.is_some() || other.keeping.is_some() {
                    self.enqueue(dependent.service);
                }
            }
        }
        self.refresh_blocks(service);
        self.refresh_keeping(service);
    }

    /// Counts this service among the blockers of what it needs, or no longer. One that is down itself blocks as long
    /// as it is blocked: were it not there, its own dependents would lose what they need through it.
    fn refresh_blocks(&mut self, service: usize) {
        // Bounded: follows the gates, which form no circle, and only where a count came to zero or left it.
        let mut open = vec![service];
        while let Some(service) = open.pop() {
            let slot = &mut self.slots[service];
            let blocks = slot.wanted == Wanted::Down && (slot.active() > 0 || slot.blockers > 0);
            if std::mem::replace(&mut slot.blocks, blocks) == blocks {
                continue;
            }
            for &needed in &self.graph.nodes[service].dependencies {
                let other = &mut self.slots[needed];
                if blocks {
                    other.blockers += 1;
                } else {
                    other.blockers -= 1;
                    if other.blockers == 0 && other.wanted == Wanted::Down && !other.queued {
                        other.queued = true;
                        self.queue.push_back(needed);
                    }
                }
                open.push(needed);
            }
        }
    }

    /// From here on the replica starts as soon as its gates hold; `reason` is why, should that be at once.
    fn enter_waiting(&mut self, at: At, reason: Reason) {
        let slot = &self.slots[at.service];
        let nothing_to_check = self.graph.nodes[at.service].outside.is_empty();
        if slot.shut_gates == 0 && nothing_to_check && slot.replicas[at.index].held.is_none() {
            self.begin_start(at, reason);
        } else {
            let reason = self.waiting_reason(at.service, self.replica(at).held.is_some(), self.now);
            self.shift(at, Actual::Waiting, reason);
            self.enqueue(at.service);
        }
    }

    fn launch(&mut self, at: At, reason: Reason) {
        let spawn = SpawnId(self.next_spawn);
        self.next_spawn += 1;
        let replica = self.replica_mut(at);
        replica.status_text = None;
        replica.early.clear();
        self.spawns.insert(spawn, at);
        let replica = replica_id(&self.stack, at);
        self.out.push(Effect::Launch { replica, spawn });
        self.shift(at, Actual::Launching { spawn }, reason);
    }

    // ---- small things ----

    /// What is wanted of this replica: it may be stopped for good although its service is wanted up.
    fn wanted_of(&self, at: At) -> Wanted {
        let slot = &self.slots[at.service];
        if at.index < slot.kept() { slot.wanted } else { Wanted::Down }
    }

    fn replica(&self, at: At) -> &Replica {
        &self.slots[at.service].replicas[at.index]
    }

    fn replica_mut(&mut self, at: At) -> &mut Replica {
        &mut self.slots[at.service].replicas[at.index]
    }

    fn config(&self, at: At) -> &Service {
        &self.stack.services[at.service]
    }

    pub(crate) fn index(&self, name: &str) -> Option<usize> {
        self.graph.index(name)
    }
}

fn replica_id(stack: &Stack, at: At) -> ReplicaId {
    let index = u32::try_from(at.index).unwrap_or(u32::MAX);
    ReplicaId { service: stack.services[at.service].name.clone(), index }
}

fn probe_of(service: &Service, kind: ProbeKind) -> Option<&mainstay_config::Probe> {
    match kind {
        ProbeKind::Startup => service.startup.as_deref(),
        ProbeKind::Readiness => service.readiness.as_deref(),
        ProbeKind::Liveness => service.liveness.as_deref(),
    }
}
