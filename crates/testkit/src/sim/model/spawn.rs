//! One start as it was observed, and what follows from its history alone.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_config::{Kind, Need, Service, StopPolicy};
use mainstay_types::{Exit, Moment, ProbeKind, ReplicaId, State};

use super::super::probe;
use super::told::{Told, is_told};

/// What was observed of one start.
#[derive(Clone, Debug)]
pub(super) struct Spawn {
    pub(super) replica: ReplicaId,
    pub(super) course: Course,
    /// Its program ran.
    pub(super) ran: bool,
    /// When its stop began, and when it has to be killed for it.
    pub(super) asked_at: Option<Moment>,
    pub(super) kill_by: Option<Moment>,
    /// As the file was when its stop was decided.
    pub(super) policy: Option<StopPolicy>,
    /// Steps of its stop so far, and when the next one is due.
    pub(super) steps: usize,
    pub(super) next_step_at: Option<Moment>,
    pub(super) killed_at: Option<Moment>,
    /// It is gone, and its `after_exit` has to run.
    pub(super) must_close: bool,
    pub(super) launched_at: Moment,
    /// Its gates when it was launched, and how often in a row kept ones outside did not pass since.
    pub(super) needs: Vec<Need>,
    pub(super) lost_gates: BTreeMap<usize, u32>,
    /// Its replica went on without waiting for its end.
    pub(super) lost: bool,
    /// `after_ready` was run.
    pub(super) greeted: bool,
    /// Its file has changed since: it may have been ready before there was an `after_ready`.
    pub(super) excused: bool,
    /// `after_exit` was run.
    pub(super) closed: bool,
    /// Set when it ended by itself: neither asked nor killed before.
    pub(super) ended_unasked: Option<Exit>,
    /// A probe condemned it.
    pub(super) condemned: bool,
    /// A restart was asked for after that: its end is no failure any more.
    pub(super) forgiven: bool,
    /// All answers, oldest first.
    pub(super) answers: Vec<(ProbeKind, bool)>,
    pub(super) in_flight: BTreeSet<ProbeKind>,
    /// What it said beside that.
    pub(super) told: Told,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Course {
    Launching,
    Running { since: Moment },
    Leftovers,
    Gone,
}

impl Spawn {
    pub(super) fn has_failed(&self) -> bool {
        (self.ended_unasked.is_some() || self.condemned) && !self.forgiven
    }

    pub(super) fn is_asked(&self) -> bool {
        self.asked_at.is_some() || self.killed_at.is_some()
    }

    pub(super) fn begin_asking(&mut self, now: Moment, policy: &StopPolicy) {
        if self.asked_at.is_none() {
            let policy = self.policy.get_or_insert_with(|| policy.clone());
            self.asked_at = Some(now);
            self.kill_by = Some(now + policy.grace);
        }
    }

    pub(super) fn has_started(&self, service: &Service) -> bool {
        probe(service, ProbeKind::Startup)
            .is_none_or(|probe| self.longest_row(ProbeKind::Startup, true) >= passes(probe))
    }

    /// The state of a program that runs and is not asked to stop.
    pub(super) fn expected_state(&self, service: &Service) -> State {
        if !self.has_started(service) {
            return State::Starting;
        }
        let Some(readiness) = probe(service, ProbeKind::Readiness) else {
            return match service.kind {
                Kind::LongRunning => State::Ready,
                Kind::Oneshot => State::Starting,
            };
        };
        let failures = if is_told(readiness) { 1 } else { readiness.failure_threshold };
        let (mut state, mut row) = (State::Starting, (false, 0));
        let (mut starts, mut started) = (0, probe(service, ProbeKind::Startup).is_none());
        for (kind, passed) in &self.answers {
            if *kind == ProbeKind::Startup && !started {
                starts = if *passed { starts + 1 } else { 0 };
                started = probe(service, *kind).is_some_and(|startup| starts >= passes(startup));
            }
            if *kind != ProbeKind::Readiness {
                continue;
            }
            row = if row.0 == *passed { (*passed, row.1 + 1) } else { (*passed, 1) };
            if row.0 && row.1 >= passes(readiness) {
                state = State::Ready;
            } else if !row.0 && row.1 >= failures && state == State::Ready {
                // What was said, and taken back, before the startup had passed was never seen.
                state = if started { State::Unready } else { State::Starting };
            }
        }
        state
    }

    pub(super) fn is_not_alive(&self, service: &Service) -> bool {
        probe(service, ProbeKind::Liveness)
            .is_some_and(|probe| self.longest_row(ProbeKind::Liveness, false) >= probe.failure_threshold)
    }

    fn longest_row(&self, wanted: ProbeKind, passes: bool) -> u32 {
        let (mut longest, mut row) = (0, 0);
        for (_, passed) in self.answers.iter().filter(|(kind, _)| *kind == wanted) {
            row = if *passed == passes { row + 1 } else { 0 };
            longest = longest.max(row);
        }
        longest
    }
}

/// How many answers in a row make it pass; a program says it once.
fn passes(probe: &mainstay_config::Probe) -> u32 {
    if is_told(probe) { 1 } else { probe.success_threshold }
}
