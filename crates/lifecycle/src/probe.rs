//! One probe of one running program: when to ask next, and what the answers in a row amount to.
//!
//! Thresholds are Kubernetes': so many answers in a row make a verdict. While the program is not ready yet, startup
//! and readiness are asked more often than `period`: at the launch, again after [`EARLY`], and then at doubling
//! distances, so that a fast program is known to be ready fast (Kubernetes allows a kubelet to do the same for readiness:
//! <https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/>). Because early checks
//! come faster than the file says, failures before the first pass are counted by time: the verdict is bad only when
//! `initial_delay + failure_threshold * period` have passed since the launch, as if asked once a period.
//!
//! A probe that goes by what the program says (`log`, `notify`, a readiness descriptor) is never asked. Startup has the
//! same budget to say so, readiness has no limit, and a `notify` liveness is a watchdog: heard again and again, each
//! time within `failure_threshold * period` or the interval the program has set itself. It counts from the launch; with a
//! startup probe from when that has passed; and where readiness goes by what the program says too, from the first time it
//! says either (systemd starts its watchdog when the start is done, systemd.service(5), `WatchdogSec=`).

use std::time::Duration;

use mainstay_config::{Check, Probe};
use mainstay_types::{Moment, ProbeFailure, ProbeKind, ProbeOutcome, format_duration};

/// Distance of the first two checks of a program that is not ready yet: short against what a person notices, long
/// against what a check costs.
const EARLY: Duration = Duration::from_millis(20);

/// The course of one probe.
#[derive(Clone, Debug)]
pub(crate) struct Track {
    pub(crate) kind: ProbeKind,
    check: Check,
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
    /// A check is in flight; the answer to a stale one, asked as an older file said, does not count.
    InFlight { since: Moment, stale: bool },
    /// Never asked: the program says it, by `until` if there is one, counted from `since`. A watchdog is heard anew
    /// every `interval`.
    Told { since: Moment, until: Option<Moment>, interval: Option<Duration> },
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
        let first = launched_at + probe.initial_delay;
        let asking = match (&probe.check, kind) {
            (Check::Ask(_), _) => Asking::Due(first),
            (Check::Log(_) | Check::Notify | Check::NotifyFd(_), ProbeKind::Startup) => {
                Asking::Told { since: launched_at, until: Some(first + budget), interval: None }
            }
            (Check::Log(_) | Check::Notify | Check::NotifyFd(_), ProbeKind::Readiness)
            | (Check::Log(_) | Check::NotifyFd(_), ProbeKind::Liveness) => {
                Asking::Told { since: launched_at, until: None, interval: None }
            }
            (Check::Notify, ProbeKind::Liveness) => {
                Asking::Told { since: first, until: Some(first + budget), interval: Some(budget) }
            }
        };
        Self {
            kind,
            check: probe.check.clone(),
            asking,
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
        match &mut self.asking {
            Asking::Due(next) => {
                let first = (*next).max(now);
                *next = first;
                self.budget_end = first + probe.period.saturating_mul(probe.failure_threshold);
            }
            Asking::Told { since, until, interval: Some(interval) } => {
                *since = (*since).max(now);
                *until = Some(*since + *interval);
            }
            Asking::Told { interval: None, .. } | Asking::InFlight { .. } => {}
        }
    }

    /// Goes on as a newer file says, from here on: an asked probe begins anew (what is in flight does not count), one
    /// that the program answers keeps what it said.
    pub(crate) fn replace(&mut self, probe: &Probe, now: Moment) {
        let mut fresh = Self::new(self.kind, &Probe { initial_delay: Duration::ZERO, ..probe.clone() }, now);
        match (&self.asking, &mut fresh.asking) {
            (Asking::InFlight { .. }, Asking::Due(_)) => {
                fresh.asking = Asking::InFlight { since: now, stale: true };
            }
            (Asking::Told { .. }, Asking::Told { until, .. }) => {
                fresh.verdict = self.verdict;
                fresh.last_failure = self.last_failure.take();
                if self.kind == ProbeKind::Startup && self.verdict == Some(true) {
                    *until = None;
                }
            }
            (Asking::Due(_), _)
            | (Asking::Told { .. }, Asking::Due(_) | Asking::InFlight { .. })
            | (Asking::InFlight { .. }, Asking::Told { .. } | Asking::InFlight { .. }) => {}
        }
        *self = fresh;
    }

    /// When there is something to do: the next check, or the end of the budget of a startup that never passed, or of a
    /// watchdog. `None` while an answer is awaited (a probe's timeout bounds that).
    pub(crate) fn deadline(&self) -> Option<Moment> {
        match self.asking {
            Asking::InFlight { .. } => None,
            Asking::Due(next) if self.counts_by_time() && self.failures > 0 => {
                Some(next.min(self.budget_end))
            }
            Asking::Due(next) => Some(next),
            Asking::Told { until, .. } => until,
        }
    }

    /// Whether a check is due; if so it counts as in flight from here on.
    pub(crate) fn ask(&mut self, now: Moment) -> bool {
        match self.asking {
            Asking::Due(next) if next <= now => {
                self.asking = Asking::InFlight { since: now, stale: false };
                true
            }
            Asking::Due(_) | Asking::InFlight { .. } | Asking::Told { .. } => false,
        }
    }

    /// A startup probe whose time is up between two checks, or a program that has not said in time what it should.
    pub(crate) fn expire(&mut self, now: Moment) -> Change {
        match self.asking {
            Asking::Told { since, until: Some(until), .. } if until <= now => {
                let within = format_duration(until.since(since));
                self.fail_told(match (&self.check, self.kind) {
                    (Check::Notify, ProbeKind::Liveness) => format!("no WATCHDOG=1 within {within}"),
                    (Check::Notify, _) => format!("no READY=1 (sd_notify) within {within}"),
                    (Check::NotifyFd(number), _) => {
                        format!("no newline on its descriptor {number} within {within}")
                    }
                    (Check::Log(pattern), _) => format!("no line that matches /{pattern}/ within {within}"),
                    (Check::Ask(_), _) => format!("no answer within {within}"),
                })
            }
            Asking::Due(_) if self.counts_by_time() && self.failures > 0 && now >= self.budget_end => {
                self.decide_failed()
            }
            Asking::Due(_) | Asking::InFlight { .. } | Asking::Told { .. } => Change::None,
        }
    }

    /// Whether the program answers this probe itself, in this way.
    pub(crate) fn goes_by(&self, way: impl Fn(&Check) -> bool) -> bool {
        way(&self.check)
    }

    /// The program has said it.
    pub(crate) fn tell(&mut self, now: Moment) -> Change {
        let Asking::Told { since, until, interval } = &mut self.asking else { return Change::None };
        match interval {
            Some(interval) => {
                *since = now;
                *until = Some(now + *interval);
            }
            // What it has said once cannot run out any more; a watchdog that was turned off stays so.
            None => *until = None,
        }
        if self.verdict.replace(true) == Some(true) { Change::None } else { Change::Passed }
    }

    /// The program has taken it back, or asks to be condemned.
    pub(crate) fn fail_told(&mut self, why: String) -> Change {
        let Asking::Told { until, .. } = &mut self.asking else { return Change::None };
        *until = None;
        self.verdict = Some(false);
        self.last_failure = Some(ProbeFailure::NotSaid(why));
        self.decide_failed()
    }

    /// A watchdog does not count before the start is done.
    pub(crate) fn hold(&mut self) {
        if let (Asking::Told { until, interval: Some(_), .. }, None) = (&mut self.asking, self.verdict) {
            *until = None;
        }
    }

    /// The start is done: one that was held counts from here, or from the end of its initial delay.
    pub(crate) fn let_count(&mut self, now: Moment) {
        if let (Asking::Told { since, until: until @ None, interval: Some(interval) }, None) =
            (&mut self.asking, self.verdict)
        {
            *since = (*since).max(now);
            *until = Some(*since + *interval);
        }
    }

    /// The program sets its own watchdog interval, counted from here unless it is held; zero turns the watchdog off.
    pub(crate) fn set_interval(&mut self, wanted: Duration, now: Moment) {
        let Asking::Told { since, until, interval } = &mut self.asking else { return };
        let is_held = until.is_none() && interval.is_some() && self.verdict.is_none();
        *interval = Some(wanted).filter(|wanted| !wanted.is_zero());
        *since = now;
        *until = interval.filter(|_| !is_held).map(|interval| now + interval);
    }

    /// A start-up takes until then at least.
    pub(crate) fn extend(&mut self, until_least: Moment) {
        if self.kind == ProbeKind::Startup {
            self.budget_end = self.budget_end.max(until_least);
            if let Asking::Told { until: Some(until), .. } = &mut self.asking {
                *until = (*until).max(until_least);
            }
        }
    }

    /// Whether a check is in flight.
    pub(crate) const fn is_asked(&self) -> bool {
        matches!(self.asking, Asking::InFlight { .. })
    }

    /// The answer to a check of an older file is still to come, and the next check with it.
    pub(crate) const fn await_stale(&mut self, now: Moment) {
        if matches!(self.asking, Asking::Due(_)) {
            self.asking = Asking::InFlight { since: now, stale: true };
        }
    }

    /// It has passed, and is not looked at again.
    pub(crate) const fn settle(&mut self) {
        self.verdict = Some(true);
    }

    /// What a start waits to be told, in words.
    pub(crate) fn awaited(&self) -> Option<String> {
        let Asking::Told { .. } = self.asking else { return None };
        if self.verdict.is_some() || self.kind == ProbeKind::Liveness {
            return None;
        }
        Some(match &self.check {
            Check::Notify => "its READY=1 (sd_notify)".to_owned(),
            Check::NotifyFd(number) => format!("a newline on its descriptor {number}"),
            Check::Log(pattern) => format!("a line that matches /{pattern}/"),
            Check::Ask(_) => return None,
        })
    }

    /// Takes an answer; one that nobody waits for changes nothing.
    pub(crate) fn answer(&mut self, probe: &Probe, outcome: ProbeOutcome, now: Moment) -> Change {
        let Asking::InFlight { since, stale } = self.asking else { return Change::None };
        if stale {
            self.asking = Asking::Due(now);
            return Change::None;
        }
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
