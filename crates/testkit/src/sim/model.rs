//! The reference model: what was asked for and what was observed, kept as plainly as possible, and the rules that
//! must hold. It shares no code with the machine: closures are recursive, histories are kept whole and folded anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mainstay_config::{Condition, Gate, Kind, Service, Stack, StopAction};
use mainstay_lifecycle::{Command, Effect, Event, GateCheckId, KILL_WAIT, Reason, Record, TaskId};
use mainstay_types::{Exit, Moment, Phase, ProbeKind, ReplicaId, ServiceName, SpawnId, State};

use super::probe;
use change::Change;
use runs::{NewRun, Run};
use spawn::{Course, Spawn};

/// A rule and what broke it.
pub(crate) type Broken = (&'static str, String);

macro_rules! rule {
    ($holds:expr, $rule:literal, $($what:tt)+) => {
        if !$holds {
            return Err(($rule, format!($($what)+)));
        }
    };
}

mod change;
mod gist;
mod launch;
mod runs;
mod spawn;
mod standing;
mod told;

#[derive(Clone, Default, Debug)]
struct Replica {
    state: Option<State>,
    spawn: Option<SpawnId>,
    /// Failures ever, and those since a command last concerned this service.
    failures: Vec<Moment>,
    failures_since_command: Vec<Moment>,
    /// It has failed, and what follows has not been decided yet: its `after_exit` comes first.
    failed: bool,
    /// It came with a change: nobody relies on it before it has come up once.
    joining: bool,
    /// It was stopped by a rolling restart, and is not back yet.
    rolling: bool,
    /// It gave up, and is tried again then.
    retry_at: Option<Moment>,
    backoff_until: Option<Moment>,
    /// Its gates have changed since its start began.
    has_other_gates: bool,
    /// Its start has just begun before this wait was over.
    hurries: Option<Moment>,
    /// It failed because its gates stayed shut.
    watches_gates: bool,
}

#[derive(Clone, Debug)]
struct Check {
    service: ServiceName,
    need: usize,
    asked_at: Moment,
    passed: Option<bool>,
}

#[derive(Clone, Copy, Debug)]
struct End {
    budget_end: Moment,
}

#[derive(Clone)]
pub(crate) struct Model {
    stack: Arc<Stack>,
    late: Duration,
    up: BTreeSet<ServiceName>,
    end: Option<End>,
    spawns: BTreeMap<SpawnId, Spawn>,
    replicas: BTreeMap<ReplicaId, Replica>,
    checks: BTreeMap<GateCheckId, Check>,
    last_check: BTreeMap<(ServiceName, usize), GateCheckId>,
    change: Option<Change>,
    /// Services with a rolling restart since they were last started, stopped or restarted.
    rolls: BTreeSet<ServiceName>,
    /// All that ever ran, by id.
    runs: BTreeMap<TaskId, Run>,
    /// The event under way, as far as effects are judged by it.
    is_command: bool,
    gate_passed: Option<ServiceName>,
    was_settled: bool,
    left_behind: bool,
}

impl Model {
    pub(crate) fn new(stack: Arc<Stack>, late: Duration) -> Self {
        let ids = stack.services.iter().flat_map(|service| {
            (0..service.replicas).map(|index| ReplicaId { service: service.name.clone(), index })
        });
        Self {
            replicas: ids.map(|id| (id, Replica::default())).collect(),
            stack,
            late,
            up: BTreeSet::new(),
            end: None,
            spawns: BTreeMap::new(),
            checks: BTreeMap::new(),
            last_check: BTreeMap::new(),
            change: None,
            rolls: BTreeSet::new(),
            runs: BTreeMap::new(),
            is_command: false,
            gate_passed: None,
            was_settled: false,
            left_behind: false,
        }
    }

    /// Whether a tree was left behind since the last call.
    pub(crate) fn take_left_behind(&mut self) -> bool {
        std::mem::take(&mut self.left_behind)
    }

    // ---- what happened ----

    pub(crate) fn take_event(&mut self, event: &Event, now: Moment) -> Result<(), Broken> {
        self.is_command = false;
        self.gate_passed = None;
        match event {
            Event::Tick => {}
            Event::Notified { spawn, .. }
            | Event::MainChanged { spawn, .. }
            | Event::LogMatched { spawn, .. } => self.take_word(*spawn, event, now),
            Event::Apply(stack) => {
                self.is_command = true;
                self.take_change(stack);
            }
            Event::Command(command) => {
                self.is_command = true;
                self.take_command(command, now);
            }
            Event::Launched { spawn, .. } => {
                if let Some(it) = self.spawns.get_mut(spawn) {
                    it.course = Course::Running { since: now };
                    it.ran = true;
                }
                self.hear_early(*spawn, now);
            }
            Event::LaunchFailed { spawn, .. } => {
                let stopping = self.state_of_spawn(*spawn) == Some(State::Stopping);
                self.tree_gone(*spawn, !stopping, now);
            }
            Event::Exited { spawn, exit, leftovers } => {
                let Some(it) = self.spawns.get_mut(spawn) else { return Ok(()) };
                if !it.is_asked() {
                    it.ended_unasked = Some(*exit);
                }
                it.course = Course::Leftovers;
                if *leftovers == 0 {
                    let failed = it.has_failed();
                    self.tree_gone(*spawn, failed, now);
                }
            }
            Event::TreeEnded { spawn } => {
                let failed = self.spawns.get(spawn).is_some_and(Spawn::has_failed);
                self.tree_gone(*spawn, failed, now);
            }
            Event::ProbeAnswered { spawn, kind, outcome } => {
                if let Some(it) = self.spawns.get_mut(spawn) {
                    it.in_flight.remove(kind);
                    let service = self.stack.service(it.replica.service.as_str());
                    if let Some(service) = service {
                        it.take_answer(service, *kind, outcome.is_passed(), now);
                    }
                }
            }
            Event::RunEnded { task, outcome } => self.take_run_ended(*task, outcome.is_passed()),
            Event::GateAnswered { check, outcome } => {
                let Some(it) = self.checks.get_mut(check) else { return Ok(()) };
                rule!(it.passed.is_none(), "each check is answered once", "{check:?}");
                it.passed = Some(outcome.is_passed());
                self.gate_passed = outcome.is_passed().then(|| it.service.clone());
                let (service, need, asked_at) = (it.service.clone(), it.need, it.asked_at);
                self.take_kept_answer(&service, need, asked_at, outcome.is_passed());
            }
        }
        Ok(())
    }

    fn take_command(&mut self, command: &Command, now: Moment) {
        let mut touched = BTreeSet::new();
        match (command, self.end) {
            (Command::KillStack, _) => {
                self.up.clear();
                self.change = None;
                self.end = Some(End { budget_end: now });
            }
            (_, Some(_)) => {}
            (Command::StopStack, None) => {
                self.up.clear();
                self.change = None;
                let longest = || self.stack.services.iter().map(|it| self.chain(it)).max();
                let budget = self.stack.stop_budget.or_else(longest).unwrap_or_default();
                self.end = Some(End { budget_end: now + budget });
            }
            (Command::StartStack, None) => {
                let auto = self.stack.services.iter().filter(|it| it.autostart);
                auto.for_each(|it| self.needed(&it.name, &mut touched));
            }
            // Not there in this file, or waits for the next one.
            (
                Command::Start(name) | Command::Stop(name) | Command::Restart(name) | Command::Reload(name),
                None,
            ) if self.stack.service(name.as_str()).is_none() => {}
            (Command::Start(name) | Command::Restart(name) | Command::Reload(name), None)
                if self.is_changing(name) => {}
            (Command::Start(name), None) => self.needed(name, &mut touched),
            (Command::Restart(name), None) => {
                self.end_roll(name);
                let its = self.spawns.values_mut().filter(|it| it.replica.service == *name);
                its.for_each(|it| it.forgiven = true);
                let its = self.replicas.iter_mut().filter(|(id, _)| id.service == *name);
                its.for_each(|(_, replica)| replica.failed = false);
                touched.insert(name.clone());
                if !self.up.contains(name) {
                    touched.clear();
                    self.needed(name, &mut touched);
                }
            }
            (Command::Stop(name), None) => self.stop(name),
            (Command::Reload(name), None) => self.take_reload(name),
        }
        self.touch(&touched, now);
    }

    fn needed(&self, name: &ServiceName, found: &mut BTreeSet<ServiceName>) {
        if found.insert(name.clone()) {
            for (needed, _) in gates(self.config(name)) {
                self.needed(needed, found);
            }
        }
    }

    /// The grace of this service, what it does after that, and the longest chain of those that need it.
    fn chain(&self, service: &Service) -> Duration {
        let above = self
            .stack
            .services
            .iter()
            .filter(|other| gates(other).any(|(needed, _)| *needed == service.name))
            .map(|other| self.chain(other))
            .max();
        let after = service.hooks.after_exit.as_ref().map_or(Duration::ZERO, |hook| hook.timeout);
        service.stop.grace + after + above.unwrap_or_default()
    }

    fn tree_gone(&mut self, spawn: SpawnId, failed: bool, now: Moment) {
        let Some(it) = self.spawns.get_mut(&spawn) else { return };
        it.course = Course::Gone;
        let in_time = self.end.is_none_or(|end| now < end.budget_end);
        let hook =
            self.stack.service(it.replica.service.as_str()).and_then(|it| it.hooks.after_exit.as_ref());
        it.must_close = it.ran && in_time && hook.is_some();
        let Some(replica) = self.replicas.get_mut(&it.replica) else { return };
        // One that waits for a fresh start, or for none, has nothing to do with what its old tree did.
        let waits = matches!(replica.state, Some(State::Waiting | State::Stopped)) || replica.watches_gates;
        replica.failed |= failed && !waits;
    }

    /// A start begins, perhaps a fresh try of one that gave up.
    fn begin_again(&mut self, id: &ReplicaId, now: Moment) {
        self.settle(id, now);
        let Some(replica) = self.replicas.get_mut(id) else { return };
        if replica.retry_at.take_if(|at| *at <= now).is_some() {
            replica.failures_since_command.clear();
        }
    }

    /// What follows a failure is being decided: it counts from here on.
    fn settle(&mut self, id: &ReplicaId, now: Moment) {
        let Some(replica) = self.replicas.get_mut(id) else { return };
        if std::mem::take(&mut replica.failed) {
            replica.failures.push(now);
            replica.failures_since_command.push(now);
        }
    }

    // ---- what the machine does ----

    pub(crate) fn take_effect(&mut self, effect: &Effect, now: Moment) -> Result<(), Broken> {
        let quiet = matches!(effect, Effect::Record(_))
            || matches!(effect, Effect::Kill { spawn } if self.is_lost(*spawn, now));
        rule!(
            !self.was_settled || self.is_command || quiet,
            "settled means that nothing happens without a command",
            "{effect:?}"
        );
        match effect {
            Effect::Launch { replica, spawn } => self.take_launch(replica, *spawn, now),
            Effect::Signal { spawn, signal } => {
                let it = self.tree(*spawn)?;
                rule!(it.course != Course::Launching, "a signal goes to a program that runs", "{spawn}");
                let id = it.replica.clone();
                self.take_step(&id, &StopAction::Signal(*signal), now)
            }
            Effect::Kill { spawn } => {
                self.tree(*spawn)?.killed_at.get_or_insert(now);
                Ok(())
            }
            Effect::Probe { replica, spawn, kind } => self.take_probe(replica, *spawn, *kind),
            Effect::CheckGate { service, need, check } => {
                let outside = self.stack.service(service.as_str()).and_then(|it| it.needs.get(*need));
                let is_outside = outside.is_some_and(|need| matches!(need.gate, Gate::Outside(_)));
                rule!(is_outside, "only outside gates are asked", "{service}/{need}");
                rule!(self.up.contains(service), "only what is wanted is prepared", "check of {service}");
                let it = Check { service: service.clone(), need: *need, asked_at: now, passed: None };
                rule!(self.checks.insert(*check, it).is_none(), "ids are unique", "{check:?}");
                self.last_check.insert((service.clone(), *need), *check);
                Ok(())
            }
            Effect::Run { task, replica, purpose, command, timeout, .. } => {
                let new = NewRun { task: *task, replica, purpose: *purpose, command, timeout: *timeout };
                self.take_run(&new, now)
            }
            Effect::EndRun { task } => self.take_end_run(*task, now),
            Effect::SignalMain { spawn, signal } => self.take_signal_main(*spawn, *signal),
            Effect::Record(record) => self.take_record(record, now),
        }
    }

    fn take_probe(&mut self, id: &ReplicaId, spawn: SpawnId, kind: ProbeKind) -> Result<(), Broken> {
        let config = self.config(&id.service).clone();
        let told = probe(&config, kind).is_some_and(told::is_told);
        rule!(!told, "what a program says itself is never asked", "{id} {spawn} {kind}");
        let it = self.tree(spawn)?;
        let running = matches!(it.course, Course::Running { .. }) && !it.is_asked();
        rule!(running && it.replica == *id, "only what runs is probed", "{id} {spawn} {kind}");
        rule!(it.in_flight.insert(kind), "one check of a probe is in flight", "{id} {spawn} {kind}");
        rule!(
            (kind == ProbeKind::Startup) != it.has_started(&config),
            "startup comes first, and never again",
            "{id} {spawn} {kind}"
        );
        Ok(())
    }

    fn take_record(&mut self, record: &Record, now: Moment) -> Result<(), Broken> {
        let (id, from, to, reason) = match record {
            Record::State { replica, from, to, reason } => (replica, from, to, reason),
            Record::Applied { .. } => return self.take_applied(now),
            Record::GaveUp { replica, .. } => return self.take_gave_up(replica, now),
            Record::Run { replica, purpose, .. } => return self.take_told(replica, *purpose),
            Record::Spawned { .. }
            | Record::Exited { .. }
            | Record::Probe { .. }
            | Record::Gate { .. }
            | Record::Reloaded { .. }
            | Record::Command { .. } => return Ok(()),
        };
        match to {
            State::Stopping => {}
            State::Failed => self.settle(id, now),
            State::Waiting
            | State::Starting
            | State::Ready
            | State::Unready
            | State::Backoff
            | State::Stopped
            | State::Completed => self.begin_again(id, now),
        }
        if self.stack.service(id.service.as_str()).is_none() {
            return Err(("states chain", format!("there is no {id}")));
        }
        if *to == State::Stopping && from != to {
            self.take_stop_reason(id, reason)?;
        }
        if from != to {
            self.check_word(id, *to, reason, now)?;
        }
        let config = self.config(&id.service).clone();
        let ordered = matches!(reason, Reason::StopRequested | Reason::DependencyStops(_));
        if *to == State::Stopping && from != to && ordered && self.end.is_none_or(|end| now < end.budget_end)
        {
            let before = self.ends_before(&id.service);
            rule!(before.is_none(), "the stop order is the reverse of dependency", "{id} before {before:?}");
        }
        let Some(replica) = self.replicas.get_mut(id) else {
            return Err(("states chain", format!("there is no {id}")));
        };
        match replica.state {
            None => rule!(from == to, "states chain", "the first record of {id} is {from} -> {to}"),
            Some(state) => {
                rule!(*from == state, "states chain", "{id} is {state}, the record says {from} -> {to}");
                rule!(may_follow(*from, *to, reason), "phases follow the contract", "{id}: {from} -> {to}");
            }
        }
        let hurries = replica.hurries.take();
        let waits_anew =
            *to == State::Waiting && matches!(from, State::Backoff | State::Failed | State::Stopped);
        if self.rolls.contains(&id.service) && (waits_anew || *reason == Reason::RollingRestart) {
            // Its turn of a reload does not wait.
            (replica.retry_at, replica.backoff_until) = (None, None);
        } else {
            rule!(
                hurries.is_none(),
                "no restart before its wait is over",
                "{id} ({reason}), until {hurries:?}"
            );
        }
        if from != to && *from == State::Failed && *to != State::Stopped {
            let early = replica.retry_at.filter(|at| *at > now);
            rule!(early.is_none(), "no restart before its wait is over", "{id} is tried again {early:?}");
        }
        if *to != State::Failed {
            replica.retry_at = None;
        }
        Self::follow_roll(replica, *to, reason);
        replica.state = Some(*to);
        replica.watches_gates = matches!(reason, Reason::GateTimedOut { .. });
        if let Reason::Restarting { wait, .. } = reason {
            let backoff = &config.restart.backoff;
            let least = backoff.first.mul_f64(1.0 - backoff.jitter);
            // A nanosecond is lost to floating point.
            rule!(
                *wait <= backoff.max && *wait + Duration::from_nanos(2) >= least,
                "a wait keeps to its bounds",
                "{id}: {wait:?} with {backoff:?}"
            );
            replica.backoff_until = Some(now + *wait).filter(|_| *to == State::Backoff);
        }
        let spawn = replica.spawn;
        if let Some(it) = spawn.and_then(|spawn| self.spawns.get_mut(&spawn)) {
            if *to == State::Stopping && from != to {
                it.policy = Some(config.stop.clone());
            }
            it.condemned |= *to == State::Stopping && matches!(reason, Reason::ProbeFailed { .. });
            let there = it.course != Course::Gone;
            if to.phase() == Phase::Terminated && there {
                self.left_behind = true;
                it.lost = true;
                let lost = it.killed_at.is_some_and(|killed_at| now.since(killed_at) >= KILL_WAIT);
                rule!(
                    lost && matches!(reason, Reason::LeftBehind | Reason::GateTimedOut { .. }) || from == to,
                    "nothing runs after the end of a stop",
                    "{id} is {to} ({reason}), its tree is {it:?}"
                );
            }
        }
        Ok(())
    }

    fn take_gave_up(&mut self, id: &ReplicaId, now: Moment) -> Result<(), Broken> {
        self.settle(id, now);
        let limit = self.config(&id.service).restart.give_up;
        let Some(replica) = self.replicas.get_mut(id) else { return Ok(()) };
        let (Some(limit), Some(last)) = (limit, replica.failures.last()) else { return Ok(()) };
        let count = replica.failures.iter().filter(|it| last.since(**it) <= limit.within).count();
        rule!(count >= limit.failures as usize, "it gives up only at the limit", "{id} after {count}");
        replica.retry_at = limit.retry_after.map(|wait| now + wait);
        Ok(())
    }

    /// The tree of an effect: it must be there.
    fn tree(&mut self, spawn: SpawnId) -> Result<&mut Spawn, Broken> {
        match self.spawns.get_mut(&spawn) {
            Some(it) if it.course != Course::Gone => Ok(it),
            other => Err(("effects go to trees that are there", format!("{spawn}: {other:?}"))),
        }
    }

    // ---- what follows from what was observed ----

    fn holds(&self, name: &ServiceName, is: Condition) -> bool {
        let config = self.config(name);
        let ids = (0..config.replicas).map(|index| ReplicaId { service: name.clone(), index });
        ids.filter(|id| !self.is_retired(id) && !self.replicas[id].joining).all(|id| {
            let replica = &self.replicas[&id];
            let Some(it) = replica.spawn.and_then(|spawn| self.spawns.get(&spawn)) else { return false };
            // One that is done again is not done.
            let completed = config.kind == Kind::Oneshot
                && replica.state == Some(State::Completed)
                && it.course == Course::Gone
                && it.ended_unasked.is_some_and(Exit::is_success);
            let runs = matches!(it.course, Course::Running { .. }) && !it.is_asked();
            match is {
                Condition::Completed => completed,
                Condition::Started => completed || runs,
                Condition::Ready => completed || runs && it.expected_state(config) == State::Ready,
            }
        })
    }

    /// A service that is to be down before this one may be asked to stop.
    fn ends_before(&self, name: &ServiceName) -> Option<ServiceName> {
        self.stack.services.iter().find_map(|other| {
            let depends = gates(other).any(|(needed, _)| needed == name) && !self.up.contains(&other.name);
            let there = || {
                self.replicas.iter().any(|(id, it)| {
                    id.service == other.name
                        && it.state.is_some_and(|state| state.phase() != Phase::Terminated)
                })
            };
            (depends && there())
                .then(|| other.name.clone())
                .or_else(|| depends.then(|| self.ends_before(&other.name)).flatten())
        })
    }

    /// Killed, and not gone within the time a kill may take.
    fn is_lost(&self, spawn: SpawnId, now: Moment) -> bool {
        let Some(it) = self.spawns.get(&spawn) else { return false };
        it.course != Course::Gone
            && it.killed_at.is_some_and(|killed_at| now.since(killed_at) >= KILL_WAIT)
            && self.state_of_spawn(spawn) != Some(State::Stopping)
    }

    fn state_of_spawn(&self, spawn: SpawnId) -> Option<State> {
        self.replicas.get(&self.spawns.get(&spawn)?.replica)?.state
    }

    fn all_terminated(&self) -> bool {
        self.replicas.values().all(|it| it.state.is_some_and(|state| state.phase() == Phase::Terminated))
    }

    fn config(&self, name: &ServiceName) -> &Service {
        self.stack.service(name.as_str()).expect("names come from the stack")
    }
}

fn gates(service: &Service) -> impl Iterator<Item = (&ServiceName, Condition)> {
    service.needs.iter().filter_map(|need| match &need.gate {
        Gate::Service { service, is } => Some((service, *is)),
        Gate::Outside(_) => None,
    })
}

/// The contract's phases: forward, a restart begins anew; and within a phase what the states mean.
fn may_follow(from: State, to: State, reason: &Reason) -> bool {
    use State::{Backoff, Completed, Failed, Ready, Starting, Stopped, Stopping, Unready, Waiting};
    let begins_anew = matches!(to, Waiting | Starting | Backoff);
    match from {
        _ if from == to => true,
        Waiting => matches!(to, Starting | Stopped | Failed),
        Backoff => matches!(to, Waiting | Starting | Stopped),
        Starting => to != Unready,
        Ready | Unready => true,
        Stopping => begins_anew || matches!(to, Stopped | Completed | Failed),
        // The work that was done was another's.
        Completed if to == Stopped => *reason == Reason::ConfigChanged,
        Stopped | Completed => matches!(to, Waiting | Starting),
        // Gates that open late, and trees that end late, make something of it yet.
        Failed => begins_anew || matches!(to, Stopped | Completed),
    }
}
