//! The rules of a changed file, of reloads and of kept gates.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mainstay_config::{ChangeEffect, Condition, Gate, Lose, Need, ReloadPolicy, Service, Stack, diff};
use mainstay_lifecycle::Reason;
use mainstay_types::{Moment, Phase, ReplicaId, ServiceName, SpawnId, State, StopSignal};

use super::spawn::{Course, Spawn};
use super::{Broken, Model, Replica, gates};

/// Failures in a row that lose a kept gate outside.
const LOST_AFTER: u32 = 3;

/// A changed file that does not count yet: what it takes away is on its way down.
#[derive(Clone)]
pub(super) struct Change {
    pub(super) stack: Arc<Stack>,
    /// Services that have to be down before.
    pub(super) changing: BTreeSet<ServiceName>,
    /// Those of them, and others, that are wanted up afterwards.
    pub(super) again: BTreeSet<ServiceName>,
}

impl Model {
    pub(super) fn take_change(&mut self, stack: &Arc<Stack>) {
        if self.end.is_some() {
            return;
        }
        let (mut changing, mut again) =
            self.change.take().map_or_else(Default::default, |change| (change.changing, change.again));
        let diff = diff(&self.stack, stack);
        let restarts = diff.changed.into_iter().filter(|change| change.effect == ChangeEffect::Restart);
        for name in diff.removed.into_iter().chain(restarts.map(|change| change.name)) {
            self.forget_gates(&name);
            if self.up.remove(&name) {
                again.insert(name.clone());
            }
            changing.insert(name);
        }
        self.change = Some(Change { stack: stack.clone(), changing, again });
    }

    /// Whether commands about this service have to wait for the change.
    pub(super) fn is_changing(&self, name: &ServiceName) -> bool {
        self.change.as_ref().is_some_and(|change| change.changing.contains(name))
    }

    /// Whether this replica is one too many for the file to come.
    pub(super) fn is_retired(&self, id: &ReplicaId) -> bool {
        self.change.as_ref().is_some_and(|change| {
            let after = change.stack.service(id.service.as_str());
            !change.changing.contains(&id.service) && after.is_some_and(|after| id.index >= after.replicas)
        })
    }

    /// The change counts from here on.
    pub(super) fn take_applied(&mut self, now: Moment) -> Result<(), Broken> {
        let Some(change) = self.change.take() else {
            return Err(("a change counts once", "nothing was to be applied".to_owned()));
        };
        let stays = |id: &ReplicaId| {
            change.stack.service(id.service.as_str()).is_some_and(|it| id.index < it.replicas)
        };
        for (id, replica) in &self.replicas {
            let down = replica.state.is_none_or(|state| state.phase() == Phase::Terminated);
            let has_to = !stays(id) || change.changing.contains(&id.service);
            rule!(down || !has_to, "a change counts when what it takes away has ended", "{id} is there");
        }
        let names = self.stack.services.iter().map(|it| it.name.clone());
        let ready_before: BTreeSet<ServiceName> =
            names.filter(|name| self.holds(name, Condition::Ready)).collect();
        let old = std::mem::replace(&mut self.stack, change.stack.clone());
        self.replicas.retain(|id, _| stays(id));
        let grows =
            |it: &&Service| old.service(it.name.as_str()).is_some_and(|old| old.replicas < it.replicas);
        let growing: Vec<&Service> = change.stack.services.iter().filter(grows).collect();
        let relied_on: BTreeSet<ServiceName> = growing
            .into_iter()
            .filter(|it| self.up.contains(&it.name) && ready_before.contains(&it.name))
            .map(|it| it.name.clone())
            .collect();
        for service in &change.stack.services {
            for index in 0..service.replicas {
                let id = ReplicaId { service: service.name.clone(), index };
                // A tree that was left behind under its name is its own again.
                let its = |it: &Spawn| it.replica == id && it.course != Course::Gone;
                let spawn = self.spawns.iter().rfind(|(_, it)| its(it)).map(|(spawn, _)| *spawn);
                self.replicas.entry(id.clone()).or_insert_with(|| Replica {
                    spawn,
                    joining: relied_on.contains(&service.name),
                    ..Replica::default()
                });
            }
        }
        let differs = |name: &ServiceName| old.service(name.as_str()) != change.stack.service(name.as_str());
        let needs =
            |stack: &Stack, name: &ServiceName| stack.service(name.as_str()).map(|it| it.needs.clone());
        self.last_check.retain(|(name, _), _| needs(&old, name) == needs(&change.stack, name));
        for it in self.spawns.values_mut().filter(|it| differs(&it.replica.service)) {
            // What comes with the change does not concern starts that came before.
            it.excused = true;
            it.must_close &= it.course == Course::Gone;
            it.lost_gates = BTreeMap::new();
            if needs(&old, &it.replica.service) != needs(&change.stack, &it.replica.service) {
                // New gates may never have held, and what never held cannot be lost; those on services keep their
                // standing. Those outside are all alike here.
                let after = self.stack.service(it.replica.service.as_str());
                let stays = |old: &Need| {
                    let is_same = |new: &Need| (&new.gate, new.lose) == (&old.gate, old.lose);
                    matches!(old.gate, Gate::Service { .. })
                        && after.is_some_and(|after| after.needs.iter().any(is_same))
                };
                it.needs.retain(stays);
            }
        }
        for (id, replica) in self.replicas.iter_mut().filter(|(id, _)| differs(&id.service)) {
            replica.has_other_gates |= needs(&old, &id.service) != needs(&change.stack, &id.service);
            let restart = |stack: &Stack| stack.service(id.service.as_str()).map(|it| it.restart.clone());
            if restart(&old) != restart(&change.stack) {
                // They were within the limit of their time.
                replica.failures_since_command.clear();
            }
        }
        self.up.retain(|name| change.stack.service(name.as_str()).is_some());
        let mut roots: BTreeSet<ServiceName> = change.again.iter().cloned().collect();
        let added = |it: &&Service| old.service(it.name.as_str()).is_none() && it.autostart;
        roots.extend(change.stack.services.iter().filter(added).map(|it| it.name.clone()));
        roots.retain(|name| change.stack.service(name.as_str()).is_some());
        let needs_others = |name: &&ServiceName| {
            let before = old.service(name.as_str()).map(|it| &it.needs);
            before.is_some_and(|before| *before != self.config(name).needs)
        };
        let seeds: Vec<ServiceName> =
            roots.iter().chain(self.up.iter().filter(needs_others)).cloned().collect();
        let mut started = BTreeSet::new();
        seeds.iter().for_each(|name| self.needed(name, &mut started));
        started.retain(|name| roots.contains(name) || !self.up.contains(name));
        self.touch(&started, now);
        Ok(())
    }

    /// The reasons that only a change has, or only a rolling restart, or only a lost gate.
    pub(super) fn take_stop_reason(&mut self, id: &ReplicaId, reason: &Reason) -> Result<(), Broken> {
        let changes = matches!(reason, Reason::ConfigChanged | Reason::Removed | Reason::Retired);
        let concerned = self.is_changing(&id.service) || self.is_retired(id);
        rule!(!changes || concerned, "a change leaves alone what it does not change", "{id}: {reason}");
        if let Reason::RollingRestart = reason {
            let others =
                self.replicas.iter().filter(|(other, _)| other.service == id.service && *other != id);
            let down = others.clone().find(|(_, it)| it.rolling);
            rule!(down.is_none(), "a rolling restart takes one replica at a time", "{id}: {down:?}");
            rule!(self.rolls.contains(&id.service), "nothing rolls without a reload", "{id}");
            self.replicas.entry(id.clone()).and_modify(|replica| replica.rolling = true);
        }
        Ok(())
    }

    /// How far a rolling restart has come with this replica.
    pub(super) fn follow_roll(replica: &mut Replica, to: State, reason: &Reason) {
        match to {
            State::Ready | State::Completed => replica.rolling = false,
            State::Waiting
            | State::Starting
            | State::Unready
            | State::Backoff
            | State::Stopping
            | State::Failed
            | State::Stopped => replica.rolling &= *reason != Reason::Retired,
        }
        replica.joining &= matches!(to, State::Waiting | State::Starting);
    }

    pub(super) fn take_reload(&mut self, name: &ServiceName) {
        if self.up.contains(name) && self.config(name).reload == ReloadPolicy::Rolling {
            self.rolls.insert(name.clone());
        }
    }

    /// A command about the whole service: what is down is so for it, and for no reload any more.
    pub(super) fn end_roll(&mut self, name: &ServiceName) {
        self.rolls.remove(name);
        let its = self.replicas.iter_mut().filter(|(id, _)| id.service == *name);
        its.for_each(|(_, replica)| replica.rolling = false);
    }

    pub(super) fn take_signal_main(&mut self, spawn: SpawnId, signal: StopSignal) -> Result<(), Broken> {
        let it = self.tree(spawn)?;
        let (runs, service) =
            (matches!(it.course, Course::Running { .. }) && !it.is_asked(), it.replica.service.clone());
        let fits = self.config(&service).reload == ReloadPolicy::Signal(signal);
        rule!(runs && fits, "a reload asks what runs, as the file says", "{spawn} of {service}");
        Ok(())
    }

    /// Counts the answers of a gate while its service runs. Only where there is one replica is it clear which are meant.
    pub(super) fn take_kept_answer(
        &mut self,
        name: &ServiceName,
        need: usize,
        asked_at: Moment,
        passed: bool,
    ) {
        let Some(config) = self.stack.service(name.as_str()).filter(|it| it.replicas == 1) else { return };
        if config.needs.get(need).is_none_or(|need| need.lose != Lose::Stop) {
            return;
        }
        let id = ReplicaId { service: name.clone(), index: 0 };
        let spawn = self.replicas.get(&id).and_then(|replica| replica.spawn);
        let Some(it) = spawn.and_then(|spawn| self.spawns.get_mut(&spawn)) else { return };
        if self.up.contains(name) && matches!(it.course, Course::Running { .. }) && asked_at > it.launched_at
        {
            let failures = it.lost_gates.entry(need).or_default();
            *failures = if passed { 0 } else { *failures + 1 };
        }
    }

    /// Gates are kept while a service is wanted.
    fn forget_gates(&mut self, name: &ServiceName) {
        let its = self.spawns.values_mut().filter(|it| it.replica.service == *name);
        its.for_each(|it| it.lost_gates = BTreeMap::new());
    }

    /// A program that runs on although a gate with `lose = "stop"` does not hold any more.
    pub(super) fn check_kept_gates(
        &self,
        id: &ReplicaId,
        service: &Service,
        it: &Spawn,
    ) -> Result<(), Broken> {
        if self.is_retired(id) || !self.up.contains(&service.name) {
            return Ok(());
        }
        let has_held =
            |need: &Need| it.needs.iter().any(|held| (&held.gate, held.lose) == (&need.gate, need.lose));
        for (place, need) in service.needs.iter().enumerate().filter(|(_, need)| need.lose == Lose::Stop) {
            if !has_held(need) {
                continue;
            }
            let lost = match &need.gate {
                Gate::Service { is: Condition::Completed, .. } => false,
                Gate::Service { service: needed, is } => {
                    let removed = self
                        .change
                        .as_ref()
                        .is_some_and(|change| change.stack.service(needed.as_str()).is_none());
                    !removed && !self.holds(needed, *is)
                }
                Gate::Outside(_) => it.lost_gates.get(&place).is_some_and(|failures| *failures >= LOST_AFTER),
            };
            rule!(!lost, "a lost gate stops its service", "{id} runs on without {:?}", need.gate);
        }
        Ok(())
    }

    /// Wanted up by a command or a change: earlier failures do not count any more.
    pub(super) fn touch(&mut self, names: &BTreeSet<ServiceName>, now: Moment) {
        let held: Vec<ServiceName> = names.iter().filter(|name| self.is_changing(name)).cloned().collect();
        if let Some(change) = &mut self.change {
            change.again.extend(held.iter().cloned());
        }
        let names: BTreeSet<ServiceName> =
            names.iter().filter(|name| !held.contains(name)).cloned().collect();
        for (id, replica) in &mut self.replicas {
            if names.contains(&id.service) {
                let down = replica.state.is_none_or(|state| state.phase() == Phase::Terminated);
                replica.failed &= !down;
                replica.failures_since_command.clear();
                replica.retry_at = None;
                replica.backoff_until = replica.backoff_until.filter(|until| *until <= now);
            }
        }
        self.up.extend(names);
    }

    /// Those that go down with this one.
    pub(super) fn stop(&mut self, name: &ServiceName) {
        self.up.remove(name);
        self.end_roll(name);
        self.forget_gates(name);
        if let Some(change) = &mut self.change {
            change.again.remove(name);
        }
        let stack = self.stack.clone();
        for other in &stack.services {
            let follows = gates(other).any(|(needed, is)| needed == name && is != Condition::Completed);
            if follows {
                self.stop(&other.name);
            }
        }
    }
}
