//! The rules of probes that go by what the program says: log lines, sd_notify, a readiness descriptor, the watchdog.

use std::time::Duration;

use mainstay_config::{Check, Probe, Service};
use mainstay_lifecycle::{Event, Reason};
use mainstay_types::{Moment, Notification, ProbeKind, ReplicaId, SpawnId, State};

use super::super::probe;
use super::spawn::{Course, Spawn};
use super::{Broken, Model};

/// What one start has said, beside what counts as the answer to a probe.
#[derive(Clone, Default, Debug)]
pub(super) struct Told {
    /// Said before the news of its launch.
    early: Vec<Event>,
    /// Its start-up takes until then at least.
    start_by: Option<Moment>,
    pub(super) watchdog: Option<Watchdog>,
}

/// How a watchdog stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watchdog {
    /// What it counts from, and for how long; `None` while it is turned off.
    fed_at: Moment,
    interval: Option<Duration>,
    /// Not before the program has said that it is ready, where it is to say that.
    counts: bool,
    /// The program asked to be treated as if it had run out.
    triggered: bool,
}

impl Watchdog {
    fn runs_out_at(&self) -> Option<Moment> {
        self.interval.filter(|_| self.counts).map(|interval| self.fed_at + interval)
    }
}

/// Whether the program answers this probe itself.
pub(super) fn is_told(probe: &Probe) -> bool {
    match probe.check {
        Check::Ask(_) => false,
        Check::Log(_) | Check::Notify | Check::NotifyFd(_) => true,
    }
}

fn goes_by(service: &Service, kind: ProbeKind, way: impl Fn(&Check) -> bool) -> bool {
    probe(service, kind).is_some_and(|probe| way(&probe.check))
}

fn has_watchdog(service: &Service) -> bool {
    goes_by(service, ProbeKind::Liveness, |check| matches!(check, Check::Notify))
}

impl Spawn {
    /// An answer of a probe, asked for or not.
    pub(super) fn take_answer(&mut self, service: &Service, kind: ProbeKind, passed: bool, now: Moment) {
        let had_started = self.has_started(service);
        self.answers.push((kind, passed));
        let (starts, is_ready) = (!had_started && self.has_started(service), self.has_said_ready(service));
        if let Some(watchdog) = &mut self.told.watchdog {
            if starts {
                watchdog.fed_at = watchdog.fed_at.max(now);
            }
            if is_ready && !watchdog.counts {
                watchdog.counts = true;
                watchdog.fed_at = watchdog.fed_at.max(now);
            }
        }
    }

    /// Whether it has said that it is ready, where it is to.
    fn has_said_ready(&self, service: &Service) -> bool {
        probe(service, ProbeKind::Readiness).is_none_or(|readiness| {
            !is_told(readiness) || self.answers.contains(&(ProbeKind::Readiness, true))
        })
    }

    /// When a startup that is told is over for want of a word.
    fn startup_ends_at(&self, startup: &Probe, since: Moment) -> Moment {
        let end = since + startup.initial_delay + startup.period * startup.failure_threshold;
        self.told.start_by.map_or(end, |start_by| end.max(start_by))
    }

    /// No start-up is over for want of time before this.
    pub(super) fn start_by(&self) -> Moment {
        self.told.start_by.unwrap_or(Moment::START)
    }

    fn hear(&mut self, service: &Service, event: &Event, now: Moment) {
        let notify = |check: &Check| matches!(check, Check::Notify);
        match event {
            Event::LogMatched { kind, .. }
                if goes_by(service, *kind, |check| matches!(check, Check::Log(_))) =>
            {
                self.take_answer(service, *kind, true, now);
            }
            Event::Notified { what: Notification::Ready, .. } => {
                let by_word = |check: &Check| matches!(check, Check::Notify | Check::NotifyFd(_));
                for kind in [ProbeKind::Startup, ProbeKind::Readiness] {
                    if goes_by(service, kind, by_word) {
                        self.take_answer(service, kind, true, now);
                    }
                }
            }
            Event::Notified { what: Notification::Reloading | Notification::Stopping, .. } => {
                let said = self.answers.contains(&(ProbeKind::Readiness, true));
                if said && goes_by(service, ProbeKind::Readiness, notify) {
                    self.answers.push((ProbeKind::Readiness, false));
                }
            }
            Event::Notified { what: Notification::ExtendTimeout(more), .. } => {
                self.told.start_by = self.told.start_by.max(Some(now + *more));
            }
            Event::Notified { what, .. } => self.feed(service, what, now),
            // Not said by a program, or nothing that a probe goes by.
            Event::LogMatched { .. }
            | Event::MainChanged { .. }
            | Event::Tick
            | Event::Command(_)
            | Event::Launched { .. }
            | Event::LaunchFailed { .. }
            | Event::Exited { .. }
            | Event::TreeEnded { .. }
            | Event::ProbeAnswered { .. }
            | Event::RunEnded { .. }
            | Event::Apply(_)
            | Event::GateAnswered { .. } => {}
        }
    }

    fn feed(&mut self, service: &Service, what: &Notification, now: Moment) {
        let has_started = self.has_started(service);
        let Some(watchdog) = &mut self.told.watchdog else { return };
        match what {
            Notification::Watchdog => (watchdog.counts, watchdog.fed_at) = (true, now),
            Notification::WatchdogTrigger => watchdog.triggered |= has_started,
            Notification::WatchdogInterval(interval) => {
                watchdog.interval = Some(*interval).filter(|interval| !interval.is_zero());
                watchdog.fed_at = now;
            }
            Notification::Ready
            | Notification::Reloading
            | Notification::Stopping
            | Notification::Status(_)
            | Notification::ExtendTimeout(_) => {}
        }
    }
}

impl Model {
    /// Something that a program said.
    pub(super) fn take_word(&mut self, spawn: SpawnId, event: &Event, now: Moment) {
        let state = self.state_of_spawn(spawn);
        let Some(it) = self.spawns.get(&spawn) else { return };
        let Some(service) = self.stack.service(it.replica.service.as_str()).cloned() else { return };
        let longest = || self.stack.services.iter().map(|it| self.chain(it)).max();
        let budget = self.stack.stop_budget.or_else(longest).unwrap_or_default();
        let end = self.end.map(|end| end.budget_end);
        let Some(it) = self.spawns.get_mut(&spawn) else { return };
        match it.course {
            Course::Launching if state == Some(State::Starting) => it.told.early.push(event.clone()),
            Course::Running { .. } if state != Some(State::Stopping) => it.hear(&service, event, now),
            Course::Running { .. } | Course::Leftovers => {
                // More time to stop, within what stopping the whole stack may take.
                if let Event::Notified { what: Notification::ExtendTimeout(more), .. } = event
                    && let (Some(asked_at), None) = (it.asked_at, it.killed_at)
                {
                    let latest = end.unwrap_or(asked_at + budget);
                    it.kill_by = it.kill_by.map(|kill_by| kill_by.max((now + *more).min(latest)));
                }
            }
            Course::Launching | Course::Gone => {}
        }
    }

    /// The launch is known: what the program said before counts from here on.
    pub(super) fn hear_early(&mut self, spawn: SpawnId, now: Moment) {
        let starts = self.state_of_spawn(spawn) == Some(State::Starting);
        let Some(it) = self.spawns.get_mut(&spawn).filter(|_| starts) else { return };
        let Some(service) = self.stack.service(it.replica.service.as_str()) else { return };
        let counts = it.has_said_ready(service);
        it.told.watchdog =
            service.liveness.as_ref().filter(|_| has_watchdog(service)).map(|liveness| Watchdog {
                fed_at: now + liveness.initial_delay,
                interval: Some(liveness.period * liveness.failure_threshold),
                counts,
                triggered: false,
            });
        for event in std::mem::take(&mut it.told.early) {
            it.hear(service, &event, now);
        }
    }

    /// A state that follows from what was said, or was not.
    pub(super) fn check_word(
        &mut self,
        id: &ReplicaId,
        to: State,
        reason: &Reason,
        now: Moment,
    ) -> Result<(), Broken> {
        let service = self.config(&id.service);
        let spawn = self.replicas.get(id).and_then(|replica| replica.spawn);
        let Some(it) = spawn.and_then(|spawn| self.spawns.get(&spawn)) else { return Ok(()) };
        let told = |kind: ProbeKind| probe(service, kind).filter(|probe| is_told(probe));
        if to == State::Ready {
            let silent = [ProbeKind::Startup, ProbeKind::Readiness]
                .into_iter()
                .find(|kind| told(*kind).is_some() && !it.answers.contains(&(*kind, true)));
            rule!(silent.is_none(), "nothing is ready before it says so", "{id}: {silent:?}");
        }
        let (Reason::ProbeFailed { kind, .. }, State::Stopping, Course::Running { since }) =
            (reason, to, it.course)
        else {
            return Ok(());
        };
        if let (ProbeKind::Startup, Some(startup)) = (*kind, told(*kind)) {
            let end = it.startup_ends_at(startup, since);
            rule!(now >= end, "a start has its whole time to say so", "{id} had until {end:?}");
        }
        if let (ProbeKind::Liveness, Some(watchdog)) = (*kind, it.told.watchdog) {
            let starved = watchdog.runs_out_at().is_some_and(|end| now >= end);
            rule!(starved || watchdog.triggered, "a watchdog that is fed is quiet", "{id}: {watchdog:?}");
        }
        Ok(())
    }

    /// A program that runs although it should have said something by now.
    pub(super) fn check_silence(
        &self,
        id: &ReplicaId,
        service: &Service,
        it: &Spawn,
        now: Moment,
    ) -> Result<(), Broken> {
        let Course::Running { since } = it.course else { return Ok(()) };
        if !it.has_started(service) {
            let startup = service.startup.as_ref().filter(|startup| is_told(startup));
            let end = startup.map(|startup| it.startup_ends_at(startup, since) + self.late);
            rule!(
                end.is_none_or(|end| now <= end),
                "a start that says nothing ends in time",
                "{id}: until {end:?}"
            );
            return Ok(());
        }
        let Some(watchdog) = it.told.watchdog else { return Ok(()) };
        let starved = watchdog.runs_out_at().is_some_and(|end| now > end + self.late);
        rule!(!starved && !watchdog.triggered, "a starved watchdog ends its program", "{id}: {watchdog:?}");
        Ok(())
    }
}
