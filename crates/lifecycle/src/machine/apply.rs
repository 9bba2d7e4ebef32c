//! A changed file: what it takes away is brought down, then the machine goes on with the new stack.
//!
//! ```text
//!  Apply ──► what is removed, or changed so that it must restart, is wanted down, in reverse order of the OLD gates
//!    ▲  │    and under the old policy; replicas beyond a smaller number are stopped
//!    │  ▼
//!    │ pending ── all of that has ended ──► swap ──► what was up comes up again, and what is new, in order of the
//!    └── a newer one takes its place        gates and probes count from here     NEW gates
//! ```
//!
//! A service that did not change is not touched: its starts, tries, waits and probes go on. Its own kept gates are its
//! own matter: with `lose = "stop"` it stops while what it needs is restarted for the change. `StopStack` and `KillStack`
//! end a pending change; a `Stop` of one of its services keeps that one down. Of what a kill has left behind, the next
//! replica of that name and index waits for the end, however many files later (`left_behind.rs`).
//!
//! | key | counts |
//! |---|---|
//! | `startup`, `readiness`, `liveness` | from the swap; what the service is stays until they say otherwise |
//! | `needs` | at the next start; what is kept while it runs, from the swap |
//! | `replicas` | from the swap; new ones are not counted on by others before they have come up |
//! | `stop`, `restart`, `hooks`, `reload` | at their next use; a stop under way goes on as it began |

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use mainstay_config::{ChangeEffect, Kind, Service, Stack, StackDiff, diff};
use mainstay_types::{Phase, ProbeKind, ReplicaId, ServiceName, State};

use super::{At, Course, Slot, StackMachine, probe_of, replica_id};
use crate::graph::Graph;
use crate::probe::Track;
use crate::replica::{Actual, Health, Replica, Running, Then};
use crate::{Effect, Reason, Record, Wanted};

/// A change under way, until the swap. Indices are those of the old stack.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    stack: Arc<Stack>,
    /// Services that are down, or on their way down, at the swap.
    changing: BTreeSet<usize>,
    /// Those of them that were wanted up, and are so again afterwards.
    again: BTreeSet<ServiceName>,
}

impl StackMachine {
    /// The stack as it counts now; while a change is pending, the old one.
    #[must_use]
    pub const fn stack(&self) -> &Arc<Stack> {
        &self.stack
    }

    /// Whether a changed file is being applied: services are being brought down for it.
    #[must_use]
    pub const fn is_applying(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether this service is down, or on its way down, for a changed file. It is not started, restarted or reloaded
    /// before that counts; a stop keeps it down afterwards.
    #[must_use]
    pub fn is_changing(&self, name: &str) -> bool {
        self.index(name).is_some_and(|service| self.is_held_for_change(service))
    }

    pub(super) fn is_held_for_change(&self, service: usize) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.changing.contains(&service))
    }

    pub(super) fn is_being_removed(&self, name: &ServiceName) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.stack.service(name.as_str()).is_none())
    }

    /// One that comes up with the change, because it or what needs it was asked for meanwhile.
    pub(super) fn start_after_change(&mut self, service: usize) {
        let name = self.stack.services[service].name.clone();
        if let Some(pending) = &mut self.pending {
            pending.again.insert(name);
        }
    }

    /// One that was stopped meanwhile.
    pub(super) fn keep_down_after_change(&mut self, service: usize) {
        let name = &self.stack.services[service].name;
        if let Some(pending) = &mut self.pending {
            pending.again.remove(name);
        }
    }

    pub(super) fn on_apply(&mut self, stack: Arc<Stack>) {
        match self.course {
            Course::Idle | Course::Up { .. } => {}
            // Everything ends under the stack it was started with.
            Course::Down { .. } => return,
        }
        let (changing, again) =
            self.pending.take().map_or_else(Default::default, |pending| (pending.changing, pending.again));
        self.pending = Some(Pending { stack, changing, again });
        self.bring_down_for_change();
    }

    /// Called when services have ended: swaps once nothing is in the way any more.
    pub(super) fn advance_change(&mut self) {
        let Some(pending) = &self.pending else { return };
        let ended = |service: &usize| self.slots[*service].active() == 0;
        let retired = |slot: &Slot| {
            slot.replicas.iter().skip(slot.kept()).all(|replica| is_terminated(&replica.actual))
        };
        if pending.changing.iter().all(ended) && self.slots.iter().all(retired) {
            self.swap();
        }
    }

    /// Wants everything down that the pending stack takes away or changes. What an older change has brought down
    /// already stays down until the swap.
    fn bring_down_for_change(&mut self) {
        let Some(pending) = &mut self.pending else { return };
        let diff = diff(&self.stack, &pending.stack);
        let index = |name: &ServiceName| self.graph.index(name.as_str());
        let mut down = Vec::new();
        let restarts = diff.changed.iter().filter(|change| change.effect == ChangeEffect::Restart);
        let removed = diff.removed.iter().map(|name| (name, Reason::Removed));
        for (name, reason) in removed.chain(restarts.map(|change| (&change.name, Reason::ConfigChanged))) {
            let Some(service) = index(name) else { continue };
            if self.slots[service].wanted == Wanted::Up {
                // One that is removed too: a newer file may have it again before this one counts.
                pending.again.insert(name.clone());
            }
            down.push((service, reason));
        }
        pending.changing.extend(down.iter().map(|(service, _)| *service));
        let stack = pending.stack.clone();
        for (service, _) in &down {
            self.end_roll(*service, Err("its configuration has changed".to_owned()));
        }
        // One that the user stops already keeps its reason.
        down.retain(|(service, _)| self.slots[*service].wanted == Wanted::Up);
        self.set_down(down);
        for service in 0..self.slots.len() {
            let wanted = stack.service(self.stack.services[service].name.as_str());
            let wanted = wanted.map_or(u32::MAX, |wanted| wanted.replicas);
            self.retire(service, wanted as usize);
        }
    }

    /// Stops the replicas beyond `keep`, although their service is wanted up. They do not count for those that need
    /// the service any more.
    fn retire(&mut self, service: usize, keep: usize) {
        let slot = &mut self.slots[service];
        let count = slot.replicas.len();
        let kept_before = slot.kept();
        let keep = if self.pending.as_ref().is_some_and(|pending| pending.changing.contains(&service)) {
            count
        } else {
            keep.min(count)
        };
        slot.retired = count - keep;
        if keep == kept_before {
            return;
        }
        self.refresh(service);
        for index in keep..count {
            let at = At { service, index };
            match &self.replica(at).actual {
                Actual::Waiting | Actual::Backoff { .. } | Actual::Failed(_) => {
                    self.put_down(at, Reason::Retired);
                }
                Actual::Preparing { .. } | Actual::Launching { .. } | Actual::Running(_) => {
                    self.begin_stop(at, Reason::Retired, Then::Stop);
                }
                // Those end, or have ended.
                Actual::Stopping(_) | Actual::Closing(_) | Actual::Stopped | Actual::Completed => {}
            }
        }
        // A newer file wants those after all.
        for index in kept_before..keep {
            let at = At { service, index };
            if matches!(self.replica(at).actual, Actual::Stopped) && self.slots[service].wanted == Wanted::Up
            {
                self.start_fresh(at, Reason::Requested);
            }
        }
        self.enqueue(service);
    }

    // ---- the swap ----

    fn swap(&mut self) {
        let Some(Pending { stack, again, .. }) = self.pending.take() else { return };
        let difference = diff(&self.stack, &stack);
        let old = std::mem::replace(&mut self.stack, stack);
        let old_graph = std::mem::replace(&mut self.graph, Graph::new(&self.stack));
        let undone = self.move_slots(&old, &old_graph);
        self.recount();
        for change in &difference.changed {
            if let Some(service) = self.index(change.name.as_str()) {
                self.end_roll(service, Err("its configuration has changed".to_owned()));
            }
        }
        self.take_in_place(&old, &old_graph);
        self.reindex_all();
        self.out.push(Effect::Record(Record::Applied { diff: difference.clone() }));
        for at in undone {
            let (replica, reason) = (replica_id(&self.stack, at), Reason::ConfigChanged);
            let (from, to) = (State::Completed, State::Stopped);
            self.out.push(Effect::Record(Record::State { replica, from, to, reason }));
        }
        self.come_up(&old_graph, &again, &difference);
        for service in 0..self.slots.len() {
            self.enqueue(service);
        }
        if self.announced {
            self.announced = false;
            self.announce_rest();
        }
    }

    /// Puts each replica that stays at its new place; gives those whose work is not done any more. Checks of what is
    /// gone are news of the past.
    fn move_slots(&mut self, old: &Stack, old_graph: &Graph) -> Vec<At> {
        let now = self.now;
        let (mut undone, mut gone) = (Vec::new(), Vec::new());
        let mut old_slots: Vec<Option<Slot>> =
            std::mem::take(&mut self.slots).into_iter().map(Some).collect();
        let places: Vec<Option<usize>> =
            old.services.iter().map(|service| self.graph.index(service.name.as_str())).collect();
        for (place, service) in self.stack.services.iter().enumerate() {
            let slot = old_graph.index(service.name.as_str()).and_then(|place| old_slots[place].take());
            let mut slot = slot.unwrap_or_else(|| Slot::new(0, 0));
            let before = old.service(service.name.as_str());
            if before.is_some_and(|before| before.kind != service.kind) {
                // The work that was done was another's.
                for (index, replica) in slot.replicas.iter_mut().enumerate() {
                    if matches!(replica.actual, Actual::Completed) && index < service.replicas as usize {
                        replica.actual = Actual::Stopped;
                        (replica.since, replica.reason) = (now, Reason::ConfigChanged);
                        undone.push(At { service: place, index });
                    }
                }
            }
            let beyond = slot.replicas.split_off(slot.replicas.len().min(service.replicas as usize));
            gone.extend(ids(&service.name, service.replicas).zip(beyond));
            let joining = slot.wanted == Wanted::Up && slot.holds.ready && !slot.replicas.is_empty();
            slot.replicas.resize_with(service.replicas as usize, || Replica { joining, ..Replica::new() });
            slot.retired = 0;
            self.slots.push(slot);
        }
        for (slot, service) in old_slots.into_iter().zip(&old.services) {
            gone.extend(slot.into_iter().flat_map(|slot| ids(&service.name, 0).zip(slot.replicas)));
        }
        let move_at = |at: At| {
            let service = places.get(at.service).copied().flatten()?;
            (at.index < self.slots[service].replicas.len()).then_some(At { service, index: at.index })
        };
        self.spawns = std::mem::take(&mut self.spawns)
            .into_iter()
            .filter_map(|(spawn, at)| Some((spawn, move_at(at)?)))
            .collect();
        let mut gone_tasks = Vec::new();
        for (task, it) in &mut self.tasks {
            if let Some(at) = it.at {
                it.at = move_at(at);
                if it.at.is_none() {
                    gone_tasks.push(*task);
                }
            }
        }
        self.checks = std::mem::take(&mut self.checks)
            .into_iter()
            .filter_map(|(check, (service, place))| Some((check, (places[service]?, place))))
            .collect();
        self.kept_checks = std::mem::take(&mut self.kept_checks)
            .into_iter()
            .filter_map(|(check, service)| Some((check, places[service]?)))
            .collect();
        for task in gone_tasks {
            self.end_run(task);
        }
        for (id, replica) in gone {
            self.disown(id, replica);
        }
        self.adopt_orphans();
        undone
    }

    /// Everything that is derived from replicas and gates, from nothing.
    fn recount(&mut self) {
        self.queue = VecDeque::new();
        (self.active, self.initializing) = (0, 0);
        for slot in &mut self.slots {
            slot.recount();
            slot.queued = false;
            slot.blocks = false;
            slot.blockers = 0;
            self.active += slot.active() as usize;
            let phases = slot.replicas.iter().map(|replica| replica.actual.state().phase());
            self.initializing += phases.filter(|phase| *phase == Phase::Initializing).count();
        }
        let mut shut = vec![0; self.slots.len()];
        for (node, slot) in self.graph.nodes.iter().zip(&self.slots) {
            for dependent in node.dependents.iter().filter(|dependent| !slot.holds.of(dependent.is)) {
                shut[dependent.service] += 1;
            }
        }
        for (slot, shut) in self.slots.iter_mut().zip(shut) {
            slot.shut_gates = shut;
        }
        for service in 0..self.slots.len() {
            self.refresh_blocks(service);
        }
    }

    /// What a running program need not be restarted for.
    fn take_in_place(&mut self, old: &Stack, old_graph: &Graph) {
        let stack = self.stack.clone();
        for (place, service) in stack.services.iter().enumerate() {
            let before = old_graph.index(service.name.as_str()).map(|before| &old.services[before]);
            let Some(before) = before else { continue };
            if before.needs != service.needs {
                self.end_wait(place);
                self.renew_keeping(place, &before.needs);
            }
            let same = |kind| probe_of(before, kind) == probe_of(service, kind);
            if !ProbeKind::ALL.into_iter().all(same) {
                for index in 0..self.slots[place].replicas.len() {
                    self.renew_probes(At { service: place, index }, before, service);
                }
            }
        }
    }

    /// Probes as the new file has them, from here on. What the replica is stays until one of them says otherwise.
    fn renew_probes(&mut self, at: At, before: &Service, service: &Service) {
        let now = self.now;
        let Actual::Running(running) = &self.replica(at).actual else { return };
        let mut running: Running = running.clone();
        let started = !running.startup_holds_back();
        let mut old: BTreeMap<ProbeKind, Track> =
            running.tracks.into_iter().map(|track| (track.kind, track)).collect();
        running.tracks = ProbeKind::ALL
            .into_iter()
            .filter_map(|kind| {
                let probe = probe_of(service, kind)?;
                let track = match old.remove(&kind) {
                    Some(track) if probe_of(before, kind) == Some(probe) => track,
                    Some(mut track) => {
                        track.replace(probe, now);
                        track
                    }
                    None => {
                        let mut track = Track::new(kind, probe, now);
                        if running.orphans.contains(&kind) {
                            track.await_stale(now);
                        }
                        track
                    }
                };
                Some(track)
            })
            .collect();
        running.orphans.retain(|kind| probe_of(service, *kind).is_none());
        running.orphans.extend(old.into_values().filter(Track::is_asked).map(|track| track.kind));
        if started {
            // It has started once, and that does not happen again.
            running
                .tracks
                .iter_mut()
                .filter(|track| track.kind == ProbeKind::Startup)
                .for_each(Track::settle);
        } else if !running.startup_holds_back() {
            for track in &mut running.tracks {
                if let Some(probe) = probe_of(service, track.kind) {
                    track.begin(probe, now);
                }
            }
        }
        running.pace_watchdog(now);
        let readiness = running.tracks.iter().find(|track| track.kind == ProbeKind::Readiness);
        let ready = !running.startup_holds_back()
            && readiness.map_or(service.kind == Kind::LongRunning, |track| track.verdict == Some(true));
        if ready && running.health != Health::Ready {
            running.health = Health::Ready;
            self.shift(at, Actual::Running(running), Reason::Running);
        } else {
            self.replica_mut(at).actual = Actual::Running(running);
        }
    }

    /// Deadlines name places, and places are others now.
    fn reindex_all(&mut self) {
        self.deadlines.clear();
        for service in 0..self.slots.len() {
            self.slots[service].wait_deadline = None;
            self.reindex_wait(service);
            self.forget_keeping_deadline(service);
            self.reindex_keeping(service);
            for index in 0..self.slots[service].replicas.len() {
                let at = At { service, index };
                self.replica_mut(at).deadline = None;
                self.reindex(at);
            }
        }
    }

    /// Wants up what was up, what is new with autostart, and what those need now; and starts it.
    fn come_up(&mut self, old_graph: &Graph, again: &BTreeSet<ServiceName>, diff: &StackDiff) {
        if self.course == Course::Idle {
            return;
        }
        let index = |name: &ServiceName| self.graph.index(name.as_str());
        let mut roots: BTreeSet<usize> = again.iter().filter_map(index).collect();
        let new = |service: &usize| old_graph.index(self.stack.services[*service].name.as_str()).is_none();
        let added: Vec<usize> = (0..self.slots.len()).filter(new).collect();
        roots.extend(added.iter().filter(|service| self.stack.services[**service].autostart));
        // One whose gates are others needs these from here on, as if it were started.
        let needs_more =
            diff.changed.iter().filter(|change| change.keys.iter().any(|key| key.key == "needs"));
        let needs_more = needs_more
            .filter_map(|change| index(&change.name))
            .filter(|service| self.slots[*service].wanted == Wanted::Up);
        let seeds: Vec<usize> = roots.iter().copied().chain(needs_more).collect();
        let mut start: Vec<usize> = self.with_dependencies(&seeds);
        start.retain(|service| roots.contains(service) || self.slots[*service].wanted == Wanted::Down);
        for &service in &start {
            self.slots[service].wanted = Wanted::Up;
            self.refresh(service);
        }
        for &service in &start {
            self.start_service(service, roots.contains(&service));
        }
        // More replicas of what is up already.
        for change in &diff.changed {
            let ChangeEffect::Scale { from, to } = change.effect else { continue };
            let Some(service) = self.index(change.name.as_str()) else { continue };
            for place in from..to {
                let at = At { service, index: place as usize };
                if self.slots[service].wanted == Wanted::Up
                    && matches!(self.replica(at).actual, Actual::Stopped)
                {
                    self.start_fresh(at, Reason::Requested);
                }
            }
        }
    }
}

/// The replicas of a service from this index on, without end.
fn ids(service: &ServiceName, from: u32) -> impl Iterator<Item = ReplicaId> {
    (from..).map(|index| ReplicaId { service: service.clone(), index })
}

fn is_terminated(actual: &Actual) -> bool {
    actual.state().phase() == Phase::Terminated
}
