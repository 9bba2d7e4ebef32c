//! Waiting for gates: services of the stack are known, things outside are asked.
//!
//! Outside gates are asked in rounds: every one of the service at once, the next round after a wait that is wholly
//! random below a ceiling, which doubles with each failed round from [`FIRST_WAIT`] to [`LONGEST_WAIT`] ("full jitter":
//! many services that wait for the same database do not ask in step; with the measurements that speak for it:
//! <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>). A start needs all gates in one round,
//! and the services at its end:
//!
//! ```text
//!  begin ──► Asking ── all passed, services too ──► start
//!              ▲ │ └── all passed, a service is missing ──► Open ── the service comes ──┐
//!     until    │ └ some failed ──► Resting                                              │
//!              └──────────────────────┴───────────────────────────── ask again ◄────────┘
//! ```

use std::time::Duration;

use mainstay_config::{Condition, Gate};
use mainstay_types::{Moment, ProbeFailure, ProbeOutcome};

use super::{At, DeadlineReason, Key, StackMachine};
use crate::reason::state_words;
use crate::replica::{Actual, Outlook};
use crate::{Effect, GateCheckId, Reason, Record};

/// The wait between the first two rounds is random below this.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// And below this in the end: who fixes the database sees its services start within this time.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// But never less than this, so that an unlucky draw asks nobody twice at the same moment.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// One service's waiting, from the first replica that waits until none does.
#[derive(Clone, Debug)]
pub(crate) struct GateWait {
    pub(crate) since: Moment,
    /// A `within` has passed: replicas have failed, and start nevertheless when the gates open.
    expired: bool,
    round: Round,
    /// Rounds that failed.
    failed_rounds: u32,
    /// One for each outside gate, in the order of `needs`.
    asked: Vec<Asked>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Round {
    /// None was asked yet.
    First,
    /// So many answers are awaited.
    Asking { left: usize },
    /// The last one failed.
    Resting { until: Moment },
    /// All passed, but services were missing.
    Open,
}

#[derive(Clone, Debug)]
struct Asked {
    /// Its place in `needs`.
    need: usize,
    check: Option<GateCheckId>,
    last: Option<ProbeOutcome>,
    tries: u32,
}

impl StackMachine {
    /// Looks at everything a waiting service waits for, and starts it if all is there.
    pub(super) fn advance_gates(&mut self, service: usize) {
        let waits =
            |actual: &Actual| matches!(actual, Actual::Waiting | Actual::Failed(Outlook::WatchesGates));
        let slot = &mut self.slots[service];
        if !slot.replicas.iter().any(|replica| waits(&replica.actual)) {
            self.end_wait(service);
            return;
        }
        let startable = slot.replicas.iter().any(crate::replica::Replica::waits_for_gates);
        let services_hold = slot.shut_gates == 0;
        let outside = &self.graph.nodes[service].outside;
        let now = self.now;
        let wait = slot.wait.get_or_insert_with(|| GateWait {
            since: now,
            expired: false,
            round: Round::First,
            failed_rounds: 0,
            asked: outside
                .iter()
                .map(|need| Asked { need: *need, check: None, last: None, tries: 0 })
                .collect(),
        });
        if outside.is_empty() {
            if services_hold && startable {
                self.start_waiting(service);
                return;
            }
        } else {
            match wait.round {
                Round::First => self.ask_round(service),
                Round::Open if services_hold && startable => self.ask_round(service),
                Round::Resting { until } if until <= now => self.ask_round(service),
                Round::Open | Round::Resting { .. } | Round::Asking { .. } => {}
            }
        }
        self.expire_gates(service);
        self.reindex_wait(service);
    }

    /// All gates hold: starts every replica that waits and may.
    fn start_waiting(&mut self, service: usize) {
        for index in 0..self.slots[service].replicas.len() {
            if self.slots[service].replicas[index].waits_for_gates() {
                self.begin_start(At { service, index }, Reason::GatesOpen);
            }
        }
        // The wait is over, or goes on for those whose old tree is still there.
        self.end_wait(service);
        self.enqueue(service);
    }

    /// Forgets the waiting; answers to its checks are news of the past from here on.
    pub(super) fn end_wait(&mut self, service: usize) {
        if let Some(wait) = self.slots[service].wait.take() {
            for check in wait.asked.iter().filter_map(|asked| asked.check) {
                self.checks.remove(&check);
            }
            self.reindex_wait(service);
        }
    }

    fn ask_round(&mut self, service: usize) {
        let name = self.stack.services[service].name.clone();
        let Some(wait) = &mut self.slots[service].wait else { return };
        wait.round = Round::Asking { left: wait.asked.len() };
        for (place, asked) in wait.asked.iter_mut().enumerate() {
            let check = GateCheckId(self.next_check);
            self.next_check += 1;
            asked.check = Some(check);
            asked.tries = asked.tries.saturating_add(1);
            self.checks.insert(check, (service, place));
            self.out.push(Effect::CheckGate { service: name.clone(), need: asked.need, check });
        }
    }

    pub(super) fn on_gate_answered(&mut self, check: GateCheckId, outcome: ProbeOutcome) {
        if self.on_kept_gate_answered(check, &outcome) {
            return;
        }
        let Some((service, place)) = self.checks.remove(&check) else { return };
        let Some(wait) = &mut self.slots[service].wait else { return };
        let asked = &mut wait.asked[place];
        asked.check = None;
        if asked.last.as_ref().is_none_or(|last| !same_answer(last, &outcome)) {
            let config = &self.stack.services[service];
            self.out.push(Effect::Record(Record::Gate {
                service: config.name.clone(),
                gate: gate_words(&config.needs[asked.need].gate),
                open: outcome.is_passed(),
                answer: outcome.to_string(),
                tries: asked.tries,
            }));
        }
        asked.last = Some(outcome);
        let Round::Asking { left } = &mut wait.round else { return };
        *left -= 1;
        if *left > 0 {
            return;
        }
        let passed = |asked: &Asked| asked.last.as_ref().is_some_and(ProbeOutcome::is_passed);
        if wait.asked.iter().all(passed) {
            wait.round = Round::Open;
            let slot = &self.slots[service];
            let startable = slot.replicas.iter().any(crate::replica::Replica::waits_for_gates);
            if slot.shut_gates == 0 && startable {
                self.start_waiting(service);
                return;
            }
        } else {
            let ceiling = FIRST_WAIT
                .saturating_mul(1u32.checked_shl(wait.failed_rounds).unwrap_or(u32::MAX))
                .min(LONGEST_WAIT);
            wait.failed_rounds = (wait.failed_rounds + 1).min(u32::BITS);
            let rest = self.random.duration_below(ceiling).max(SHORTEST_WAIT);
            wait.round = Round::Resting { until: self.now + rest };
        }
        self.expire_gates(service);
        self.reindex_wait(service);
    }

    /// Fails the waiting replicas when a gate is shut whose `within` has passed. The gates stay watched.
    fn expire_gates(&mut self, service: usize) {
        let Some(wait) = self.slots[service].wait.as_ref() else { return };
        if !wait.expired {
            let waited = self.now.since(wait.since);
            let shut = self.stack.services[service].needs.iter().enumerate().find(|(place, need)| {
                need.within.is_some_and(|within| within <= waited) && !self.gate_holds(service, *place)
            });
            let Some((place, _)) = shut else { return };
            let reason = self.timed_out_reason(service, place);
            let Some(wait) = &mut self.slots[service].wait else { return };
            wait.expired = true;
            self.fail_waiting(service, &reason);
        } else if let Some(reason) = self.slots[service].replicas.iter().find_map(|replica| {
            matches!(replica.actual, Actual::Failed(Outlook::WatchesGates)).then(|| replica.reason.clone())
        }) {
            // A replica that came to wait later waits for the same gates.
            self.fail_waiting(service, &reason);
        }
    }

    fn fail_waiting(&mut self, service: usize, reason: &Reason) {
        for index in 0..self.slots[service].replicas.len() {
            let at = At { service, index };
            if matches!(self.replica(at).actual, Actual::Waiting) {
                self.shift(at, Actual::Failed(Outlook::WatchesGates), reason.clone());
            }
        }
    }

    fn gate_holds(&self, service: usize, place: usize) -> bool {
        match &self.stack.services[service].needs[place].gate {
            Gate::Service { service: needed, is } => {
                self.index(needed.as_str()).is_none_or(|needed| self.slots[needed].holds.of(*is))
            }
            Gate::Outside(_) => self.slots[service]
                .wait
                .as_ref()
                .and_then(|wait| wait.asked.iter().find(|asked| asked.need == place))
                .and_then(|asked| asked.last.as_ref())
                .is_some_and(ProbeOutcome::is_passed),
        }
    }

    fn timed_out_reason(&self, service: usize, place: usize) -> Reason {
        let need = &self.stack.services[service].needs[place];
        let answer = match &need.gate {
            Gate::Service { service: needed, .. } => {
                let state = |needed: usize| state_words(self.slots[needed].state());
                self.index(needed.as_str()).map(|needed| format!("it {}", state(needed)))
            }
            Gate::Outside(_) => self.slots[service].wait.as_ref().and_then(|wait| {
                let asked = wait.asked.iter().find(|asked| asked.need == place)?;
                asked.last.as_ref().map(ToString::to_string)
            }),
        };
        Reason::GateTimedOut { gate: gate_words(&need.gate), within: need.within.unwrap_or_default(), answer }
    }

    /// The first thing that is not there, as told at `now`.
    pub(crate) fn waiting_reason(&self, at_service: usize, held: bool, now: Moment) -> Reason {
        let slot = &self.slots[at_service];
        let config = &self.stack.services[at_service];
        if slot.shut_gates > 0 {
            for need in &config.needs {
                let Gate::Service { service: needed, is } = &need.gate else { continue };
                let Some(other) = self.index(needed.as_str()).map(|index| &self.slots[index]) else {
                    continue;
                };
                if !other.holds.of(*is) {
                    let (service, needed) = (needed.clone(), condition_word(*is));
                    return Reason::WaitingForService { service, needed, is: other.state() };
                }
            }
        }
        if held {
            return Reason::LeftBehind;
        }
        for (place, need) in config.needs.iter().enumerate() {
            let Gate::Outside(action) = &need.gate else { continue };
            let asked =
                slot.wait.as_ref().and_then(|wait| wait.asked.iter().find(|asked| asked.need == place));
            let (answer, tries) = match asked {
                Some(Asked { last: Some(ProbeOutcome::Passed(_)), .. }) => continue,
                Some(Asked { last: Some(ProbeOutcome::Failed(failure)), tries, .. }) => {
                    (Some(failure.clone()), *tries)
                }
                Some(Asked { last: None, tries, .. }) => (None, *tries),
                None => (None, 0),
            };
            let next = slot.wait.as_ref().and_then(|wait| match wait.round {
                Round::Resting { until } => Some(until.since(now)),
                Round::First | Round::Asking { .. } | Round::Open => None,
            });
            return Reason::WaitingForGate { gate: action.to_string(), answer, tries, next };
        }
        Reason::Requested
    }

    /// Brings the index of deadlines up to date with one service's waiting.
    pub(super) fn reindex_wait(&mut self, service: usize) {
        let slot = &mut self.slots[service];
        let next = slot.wait.as_ref().and_then(|wait| {
            let round = match wait.round {
                Round::Resting { until } => Some((until, DeadlineReason::GateCheck)),
                Round::First | Round::Asking { .. } | Round::Open => None,
            };
            // Those that have passed were looked at; from then on every change is looked at.
            let within = self.stack.services[service]
                .needs
                .iter()
                .filter_map(|need| Some(wait.since + need.within?))
                .filter(|end| !wait.expired && *end > self.now)
                .min()
                .map(|end| (end, DeadlineReason::GateWithin));
            round.into_iter().chain(within).min()
        });
        let before = std::mem::replace(&mut slot.wait_deadline, next);
        if before.map(|(moment, _)| moment) != next.map(|(moment, _)| moment) {
            if let Some((moment, _)) = before {
                self.deadlines.remove(&(moment, Key::Gates(service)));
            }
            if let Some((moment, _)) = next {
                self.deadlines.insert((moment, Key::Gates(service)));
            }
        }
    }
}

fn condition_word(condition: Condition) -> &'static str {
    match condition {
        Condition::Ready => "ready",
        Condition::Started => "started",
        Condition::Completed => "completed",
    }
}

pub(super) fn gate_words(gate: &Gate) -> String {
    match gate {
        Gate::Service { service, is } => format!("service {service} ({})", condition_word(*is)),
        Gate::Outside(action) => action.to_string(),
    }
}

/// Whether an answer tells nothing new. Texts that vary by themselves (a body with a time in it) are not compared.
fn same_answer(one: &ProbeOutcome, other: &ProbeOutcome) -> bool {
    match (one, other) {
        (ProbeOutcome::Passed(_), ProbeOutcome::Passed(_)) => true,
        (ProbeOutcome::Failed(one), ProbeOutcome::Failed(other)) => match (one, other) {
            (ProbeFailure::HttpStatus { status: a, .. }, ProbeFailure::HttpStatus { status: b, .. }) => {
                a == b
            }
            (ProbeFailure::Exit { exit: a, .. }, ProbeFailure::Exit { exit: b, .. }) => a == b,
            (one, other) => std::mem::discriminant(one) == std::mem::discriminant(other),
        },
        (ProbeOutcome::Passed(_), ProbeOutcome::Failed(_))
        | (ProbeOutcome::Failed(_), ProbeOutcome::Passed(_)) => false,
    }
}
