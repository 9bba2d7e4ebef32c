//! Gates that are kept while a service runs (`lose`): asked again, lost, and back.
//!
//! ```text
//!             holds, or passes              three failures in a row, or no longer holds
//!  NotYet ───────────────────► Held ──────────────────────────────────────► Lost
//!                               ▲ ▲                          lose = "stop":  │ the service stops and waits
//!                               │ └── holds, or passes once ────────────────┤
//!                               └──── lose = "restart": every replica that ran through the loss is restarted
//! ```
//!
//! A start has passed all gates, so they are `Held`; one that came with a changed file is `NotYet`, and what never held
//! cannot be lost; one that the file had before is what it was. A service that stops for a lost gate waits like one that
//! never ran: nothing is kept meanwhile.

use mainstay_config::{Condition, Gate, Lose, Need};
use mainstay_types::{Moment, ProbeOutcome, State};

use super::gates::gate_words;
use super::{At, DeadlineReason, Key, Slot, StackMachine};
use crate::replica::{Actual, Replica, Then};
use crate::{Effect, GateCheckId, Reason, Record, Wanted};

/// Failures in a row that lose an outside gate, as Kubernetes' `failureThreshold` has it:
/// <https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/>.
const LOST_AFTER: u32 = 3;

/// The kept gates of one service, while it is wanted up and a program of it runs or is being started.
#[derive(Clone, Debug)]
pub(crate) struct Keeping {
    gates: Vec<KeptGate>,
    /// As it stands in the index of deadlines.
    deadline: Option<Moment>,
}

#[derive(Clone, Debug)]
struct KeptGate {
    /// Its place in `needs`.
    need: usize,
    /// When an outside gate is asked next; `None` for a gate on a service, which is known, and while it is being asked.
    due: Option<Moment>,
    check: Option<GateCheckId>,
    asked_at: Moment,
    failures: u32,
    tries: u32,
    standing: Standing,
}

#[derive(Clone, PartialEq, Debug)]
enum Standing {
    NotYet,
    Held,
    Lost { since: Moment, answer: String },
}

/// Whether a gate of this kind is kept. Work that is done cannot be lost.
pub(crate) fn is_kept(need: &Need) -> bool {
    match (need.lose, &need.gate) {
        (Lose::Ignore, _) | (_, Gate::Service { is: Condition::Completed, .. }) => false,
        (
            Lose::Stop | Lose::Restart,
            Gate::Service { is: Condition::Ready | Condition::Started, .. } | Gate::Outside(_),
        ) => true,
    }
}

impl StackMachine {
    /// Begins to keep the gates of a service when it runs, and ends that when it no longer does.
    pub(super) fn refresh_keeping(&mut self, service: usize) {
        if !self.graph.nodes[service].keeps {
            return;
        }
        match (self.slots[service].runs(), self.slots[service].keeping.is_some()) {
            (true, false) => self.begin_keeping(service, &Standing::Held),
            (false, true) => self.end_keeping(service),
            (true, true) | (false, false) => {}
        }
    }

    fn begin_keeping(&mut self, service: usize, standing: &Standing) {
        let now = self.now;
        let needs = self.stack.services[service].needs.iter().enumerate();
        let gates = needs
            .filter(|(_, need)| is_kept(need))
            .map(|(place, need)| KeptGate {
                need: place,
                due: matches!(need.gate, Gate::Outside(_)).then(|| now + need.period),
                check: None,
                asked_at: now,
                failures: 0,
                tries: 0,
                standing: standing.clone(),
            })
            .collect();
        self.slots[service].keeping = Some(Keeping { gates, deadline: None });
        self.reindex_keeping(service);
        // A service may have left between the start's decision and now.
        self.enqueue(service);
    }

    /// The gates are others from here on, while the service runs on; `before` is what it needed so far. One that was
    /// there before is what it was, with the check in flight and the failures so far.
    pub(super) fn renew_keeping(&mut self, service: usize, before: &[Need]) {
        let mut old =
            self.slots[service].keeping.as_ref().map_or(Vec::new(), |keeping| keeping.gates.clone());
        self.end_keeping(service);
        if !self.graph.nodes[service].keeps || !self.slots[service].runs() {
            return;
        }
        self.begin_keeping(service, &Standing::NotYet);
        let now = self.now;
        let needs = &self.stack.services[service].needs;
        let Some(keeping) = &mut self.slots[service].keeping else { return };
        for gate in &mut keeping.gates {
            let need = &needs[gate.need];
            let is_same = |old: &KeptGate| {
                let old = &before[old.need];
                (&old.gate, old.lose) == (&need.gate, need.lose)
            };
            if let Some(place) = old.iter().position(is_same) {
                let was = old.swap_remove(place);
                let due = was.due.map(|due| due.min(now + need.period));
                *gate = KeptGate { need: gate.need, due, ..was };
                self.kept_checks.extend(gate.check.map(|check| (check, service)));
            }
        }
        self.reindex_keeping(service);
    }

    /// Answers to its checks are news of the past from here on.
    fn end_keeping(&mut self, service: usize) {
        let Some(keeping) = self.slots[service].keeping.take() else { return };
        for check in keeping.gates.iter().filter_map(|gate| gate.check) {
            self.kept_checks.remove(&check);
        }
        if let Some(moment) = keeping.deadline {
            self.deadlines.remove(&(moment, Key::Keeping(service)));
        }
    }

    /// Asks what is due.
    pub(super) fn tick_keeping(&mut self, service: usize) {
        let now = self.now;
        let name = self.stack.services[service].name.clone();
        let Some(keeping) = &mut self.slots[service].keeping else { return };
        for gate in keeping.gates.iter_mut().filter(|gate| gate.due.is_some_and(|due| due <= now)) {
            let check = GateCheckId(self.next_check);
            self.next_check += 1;
            gate.due = None;
            gate.check = Some(check);
            gate.asked_at = now;
            gate.tries = gate.tries.saturating_add(1);
            self.kept_checks.insert(check, service);
            self.out.push(Effect::CheckGate { service: name.clone(), need: gate.need, check });
        }
        self.reindex_keeping(service);
    }

    /// Whether the check was one of a kept gate.
    pub(super) fn on_kept_gate_answered(&mut self, check: GateCheckId, outcome: &ProbeOutcome) -> bool {
        let Some(service) = self.kept_checks.remove(&check) else { return false };
        let now = self.now;
        let Some(keeping) = &mut self.slots[service].keeping else { return true };
        let Some(place) = keeping.gates.iter().position(|gate| gate.check == Some(check)) else {
            return true;
        };
        let gate = &mut keeping.gates[place];
        gate.check = None;
        let period = self.stack.services[service].needs[gate.need].period;
        gate.due = Some((gate.asked_at + period).max(now));
        gate.failures = if outcome.is_passed() { 0 } else { gate.failures.saturating_add(1) };
        let lost = gate.failures >= LOST_AFTER;
        self.reindex_keeping(service);
        if outcome.is_passed() || lost {
            self.settle_kept_gate(service, place, !lost, outcome.to_string());
        }
        true
    }

    /// Looks at the kept gates on services.
    pub(super) fn advance_keeping(&mut self, service: usize) {
        let count = self.slots[service].keeping.as_ref().map_or(0, |keeping| keeping.gates.len());
        for place in 0..count {
            // What a lost gate led to may have ended the keeping.
            let Some(keeping) = &self.slots[service].keeping else { return };
            let need = &self.stack.services[service].needs[keeping.gates[place].need];
            let Gate::Service { service: needed, is } = &need.gate else { continue };
            if self.is_being_removed(needed) {
                // Its gate goes with it.
                continue;
            }
            let Some(needed) = self.index(needed.as_str()) else { continue };
            let other = &self.slots[needed];
            let (holds, answer) = (other.holds.of(*is), format!("it is {}", other.state()));
            self.settle_kept_gate(service, place, holds, answer);
        }
    }

    /// One gate holds, or no longer does.
    fn settle_kept_gate(&mut self, service: usize, place: usize, holds: bool, answer: String) {
        let now = self.now;
        let config = &self.stack.services[service];
        let Some(keeping) = &mut self.slots[service].keeping else { return };
        let gate = &mut keeping.gates[place];
        let need = &config.needs[gate.need];
        let (words, tries) = (gate_words(&need.gate), gate.tries);
        let record = |open: bool, answer: String| {
            let (service, gate) = (config.name.clone(), words.clone());
            Effect::Record(Record::Gate { service, gate, open, answer, tries })
        };
        match (&gate.standing, holds) {
            (Standing::NotYet, true) => gate.standing = Standing::Held,
            (Standing::Held, false) => {
                gate.standing = Standing::Lost { since: now, answer: answer.clone() };
                self.out.push(record(false, answer.clone()));
                match need.lose {
                    Lose::Stop => {
                        let reason = Reason::GateLost { gate: words, answer, lose: Lose::Stop };
                        self.stop_running(service, &reason, |_| true);
                    }
                    Lose::Restart | Lose::Ignore => {}
                }
            }
            (Standing::Lost { since, .. }, true) => {
                let since = *since;
                gate.standing = Standing::Held;
                self.out.push(record(true, answer));
                // The last one that comes back restarts, not each of them.
                if keeping.gates.iter().all(|gate| !matches!(gate.standing, Standing::Lost { .. })) {
                    let reason = Reason::GateBack { gate: words };
                    self.stop_running(service, &reason, |replica| match &replica.actual {
                        Actual::Running(running) => running.launched_at <= since,
                        Actual::Preparing { .. } | Actual::Launching { .. } => replica.since <= since,
                        // Nothing of it runs.
                        Actual::Waiting
                        | Actual::Closing(_)
                        | Actual::Backoff { .. }
                        | Actual::Stopping(_)
                        | Actual::Stopped
                        | Actual::Completed
                        | Actual::Failed(_) => false,
                    });
                }
            }
            (Standing::NotYet | Standing::Lost { .. }, false) | (Standing::Held, true) => {}
        }
    }

    /// Stops what runs in order to start it again when its gates hold.
    fn stop_running(&mut self, service: usize, reason: &Reason, concerns: impl Fn(&Replica) -> bool) {
        for index in 0..self.slots[service].replicas.len() {
            let at = At { service, index };
            if concerns(self.replica(at)) {
                self.begin_stop(at, reason.clone(), Then::Gates);
            }
        }
    }

    /// Why a service that is as it should be will be restarted nevertheless.
    pub(crate) fn lost_reason(&self, service: usize) -> Option<Reason> {
        let keeping = self.slots[service].keeping.as_ref()?;
        keeping.gates.iter().find_map(|gate| {
            let Standing::Lost { answer, .. } = &gate.standing else { return None };
            let need = &self.stack.services[service].needs[gate.need];
            let (gate, answer) = (gate_words(&need.gate), answer.clone());
            Some(Reason::GateLost { gate, answer, lose: need.lose })
        })
    }

    /// The index of deadlines was cleared.
    pub(super) fn forget_keeping_deadline(&mut self, service: usize) {
        if let Some(keeping) = &mut self.slots[service].keeping {
            keeping.deadline = None;
        }
    }

    pub(super) fn reindex_keeping(&mut self, service: usize) {
        let Some(keeping) = &mut self.slots[service].keeping else { return };
        let next = keeping.gates.iter().filter_map(|gate| gate.due).min();
        let before = std::mem::replace(&mut keeping.deadline, next);
        if before != next {
            if let Some(moment) = before {
                self.deadlines.remove(&(moment, Key::Keeping(service)));
            }
            if let Some(moment) = next {
                self.deadlines.insert((moment, Key::Keeping(service)));
            }
        }
    }
}

impl Slot {
    /// Whether it is wanted up, and a program of it runs or is being started.
    fn runs(&self) -> bool {
        let running = [State::Starting, State::Ready, State::Unready];
        self.wanted == Wanted::Up && running.into_iter().any(|state| self.count(state) > 0)
    }
}

impl Keeping {
    /// For the index of deadlines.
    pub(super) fn next_deadline(&self) -> Option<(Moment, DeadlineReason)> {
        self.deadline.map(|moment| (moment, DeadlineReason::GateCheck))
    }
}
