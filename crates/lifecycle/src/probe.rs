//! One probe of one running program: when to ask next, and what the answers in a row amount to.
//!
//! Thresholds are Kubernetes': so many answers in a row make a verdict. While the program is not ready yet, startup
//! and readiness are asked more often than `period`, first after [`EARLY`] and then at doubling distances, so that a
//! fast program is known to be ready fast (Kubernetes allows a kubelet to do the same for readiness:
//! <https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/>). Because early checks
//! come faster than the file says, failures before the first pass are counted by time: the verdict is bad only when
//! `initial_delay + failure_threshold * period` have passed since the launch, as if asked once a period.

use std::time::Duration;

use mainstay_config::Probe;
use mainstay_types::{Moment, ProbeFailure, ProbeKind, ProbeOutcome};

/// Distance of the first two checks of a program that is not ready yet: short against what a person notices, long
/// against what a check costs.
const EARLY: Duration = Duration::from_millis(20);

/// The course of one probe.
#[derive(Clone, Debug)]
pub(crate) struct Track {
    pub(crate) kind: ProbeKind,
    asking: Asking,
    /// Distance to the next check, from the start of the last one.
    interval: Duration,
    /// Answers of the same kind in a row.
    passes: u32,
    failures: u32,
    /// `None` before the first verdict.
    pub(crate) verdict: Option<bool>,
    /// When failures before the first pass become a verdict.
    budget_end: Moment,
    last_failure: Option<ProbeFailure>,
}

#[derive(Clone, Copy, Debug)]
enum Asking {
    /// The next check is due then.
    Due(Moment),
    /// A check is in flight.
    InFlight { since: Moment },
}

/// What an answer changed.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Change {
    /// Nothing yet: thresholds are not reached, or it stays what it was.
    None,
    /// The verdict is good from here on.
    Passed,
    /// The verdict is bad from here on.
    Failed { failures: u32, answer: ProbeFailure },
}

impl Track {
    pub(crate) fn new(kind: ProbeKind, probe: &Probe, launched_at: Moment) -> Self {
        let interval = match kind {
            ProbeKind::Startup | ProbeKind::Readiness => EARLY.min(probe.period),
            ProbeKind::Liveness => probe.period,
        };
        let budget = probe.period.saturating_mul(probe.failure_threshold);
        Self {
            kind,
            asking: Asking::Due(launched_at + probe.initial_delay),
            interval,
            passes: 0,
            failures: 0,
            verdict: None,
            budget_end: launched_at + probe.initial_delay + budget,
            last_failure: None,
        }
    }

    /// Lets a probe begin that was held back: its time counts from here.
    pub(crate) fn begin(&mut self, probe: &Probe, now: Moment) {
        if let Asking::Due(next) = self.asking {
            let first = next.max(now);
            self.asking = Asking::Due(first);
            self.budget_end = first + probe.period.saturating_mul(probe.failure_threshold);
        }
    }

    /// When there is something to do: the next check, or the end of the budget of a startup that never passed.
    /// `None` while an answer is awaited (a probe's timeout bounds that).
    pub(crate) fn deadline(&self) -> Option<Moment> {
        match self.asking {
            Asking::InFlight { .. } => None,
            Asking::Due(next) if self.counts_by_time() && self.failures > 0 => {
                Some(next.min(self.budget_end))
            }
            Asking::Due(next) => Some(next),
        }
    }

    /// Whether a check is due; if so it counts as in flight from here on.
    pub(crate) fn ask(&mut self, now: Moment) -> bool {
        match self.asking {
            Asking::Due(next) if next <= now => {
                self.asking = Asking::InFlight { since: now };
                true
            }
            Asking::Due(_) | Asking::InFlight { .. } => false,
        }
    }

    /// A startup probe whose time is up between two checks.
    pub(crate) fn expire(&mut self, now: Moment) -> Change {
        match self.asking {
            Asking::Due(_) if self.counts_by_time() && self.failures > 0 && now >= self.budget_end => {
                self.decide_failed()
            }
            Asking::Due(_) | Asking::InFlight { .. } => Change::None,
        }
    }

    /// Takes an answer; one that nobody waits for changes nothing.
    pub(crate) fn answer(&mut self, probe: &Probe, outcome: ProbeOutcome, now: Moment) -> Change {
        let Asking::InFlight { since } = self.asking else { return Change::None };
        let change = match outcome {
            ProbeOutcome::Passed(_) => {
                self.failures = 0;
                self.passes = self.passes.saturating_add(1);
                if self.passes >= probe.success_threshold && self.verdict != Some(true) {
                    self.verdict = Some(true);
                    Change::Passed
                } else {
                    Change::None
                }
            }
            ProbeOutcome::Failed(failure) => {
                self.passes = 0;
                self.failures = self.failures.saturating_add(1);
                self.last_failure = Some(failure);
                let enough = if self.asked_early() {
                    now >= self.budget_end
                } else {
                    self.failures >= probe.failure_threshold
                };
                if enough && self.verdict != Some(false) { self.decide_failed() } else { Change::None }
            }
        };
        // The next distance: early ones double until the first good verdict or the period.
        let distance = if self.asked_early() { self.interval } else { probe.period };
        self.interval = self.interval.saturating_mul(2).min(probe.period);
        self.asking = Asking::Due((since + distance).max(now));
        change
    }

    /// The last failure and how many there were in a row, while it fails.
    pub(crate) fn failing(&self) -> Option<(u32, &ProbeFailure)> {
        self.last_failure.as_ref().filter(|_| self.failures > 0).map(|failure| (self.failures, failure))
    }

    fn decide_failed(&mut self) -> Change {
        self.verdict = Some(false);
        match &self.last_failure {
            Some(answer) => Change::Failed { failures: self.failures, answer: answer.clone() },
            None => Change::None,
        }
    }

    /// Startup until it passes; its end of budget is a deadline of its own.
    fn counts_by_time(&self) -> bool {
        self.kind == ProbeKind::Startup && self.verdict.is_none()
    }

    /// Asked at doubling distances: startup and readiness that have no verdict yet.
    fn asked_early(&self) -> bool {
        match self.kind {
            ProbeKind::Startup | ProbeKind::Readiness => self.verdict.is_none(),
            ProbeKind::Liveness => false,
        }
    }
}
