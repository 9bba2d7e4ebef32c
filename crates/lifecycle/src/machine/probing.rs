//! Probes of running programs: asking when due, hearing what a program says itself, and what verdicts change.

use mainstay_config::{Check, Kind};
use mainstay_types::{Notification, ProbeFailure, ProbeKind, ProbeOutcome, SpawnId};

use super::{At, StackMachine, probe_of, replica_id};
use crate::probe::{Change, Track};
use crate::replica::{Actual, EARLY_NEWS, Ending, Health, Running, Then};
use crate::{Effect, Event, Reason, Record};

impl StackMachine {
    /// Sends every check that is due, and ends a startup whose time is up.
    pub(super) fn tick_probes(&mut self, at: At) {
        let now = self.now;
        let id = replica_id(&self.stack, at);
        let Actual::Running(running) = &mut self.slots[at.service].replicas[at.index].actual else { return };
        let spawn = running.spawn;
        let mut condemned = None;
        for track in running.active_tracks_mut() {
            match track.expire(now) {
                Change::Failed { failures, answer } => condemned = Some((track.kind, failures, answer)),
                Change::None | Change::Passed => {
                    if track.ask(now) {
                        let (replica, kind) = (id.clone(), track.kind);
                        self.out.push(Effect::Probe { replica, spawn, kind });
                    }
                }
            }
        }
        if let Some((kind, failures, answer)) = condemned {
            self.on_verdict_bad(at, kind, failures, answer);
        } else {
            self.reindex(at);
        }
    }

    pub(super) fn on_probe_answered(&mut self, spawn: SpawnId, kind: ProbeKind, outcome: ProbeOutcome) {
        let Some(&at) = self.spawns.get(&spawn) else { return };
        let now = self.now;
        let probe = probe_of(&self.stack.services[at.service], kind);
        let replica = &mut self.slots[at.service].replicas[at.index];
        let Actual::Running(running) = &mut replica.actual else { return };
        if running.spawn != spawn {
            return;
        }
        let starting = running.health == Health::Starting;
        let track = running.tracks.iter_mut().find(|track| track.kind == kind);
        let (Some(probe), Some(track)) = (probe, track) else {
            running.orphans.retain(|orphan| *orphan != kind);
            return;
        };
        let evidence = match &outcome {
            ProbeOutcome::Passed(evidence) => Some(evidence.clone()),
            ProbeOutcome::Failed(_) => None,
        };
        match track.answer(probe, outcome, now) {
            Change::None => {
                // While it is not ready yet, its reason is whatever keeps it so.
                if starting
                    && kind != ProbeKind::Liveness
                    && let Some((failures, answer)) = track.failing()
                {
                    replica.reason = Reason::ProbeFailed { kind, failures, answer: answer.clone() };
                }
                self.reindex(at);
            }
            Change::Passed => self.on_verdict_good(at, kind, evidence.unwrap_or_default()),
            Change::Failed { failures, answer } => self.on_verdict_bad(at, kind, failures, answer),
        }
    }

    // ---- what a program says itself ----

    pub(super) fn on_notified(&mut self, spawn: SpawnId, what: Notification) {
        let Some(at) = self.current(spawn) else { return };
        let now = self.now;
        let replica = self.replica_mut(at);
        let running = match &mut replica.actual {
            Actual::Running(running) => running,
            Actual::Launching { .. } => return self.keep_early(at, Event::Notified { spawn, what }),
            Actual::Stopping(_) => {
                if let Notification::Status(text) = what {
                    replica.status_text = Some(text);
                } else if let Notification::ExtendTimeout(more) = what {
                    self.extend_stop(at, more);
                }
                return;
            }
            // Without a spawn nobody speaks.
            Actual::Waiting
            | Actual::Preparing { .. }
            | Actual::Closing(_)
            | Actual::Backoff { .. }
            | Actual::Stopped
            | Actual::Completed
            | Actual::Failed(_) => return,
        };
        match what {
            Notification::Status(text) => replica.status_text = Some(text),
            Notification::Ready => self.on_said_ready(at),
            Notification::Reloading => {
                running.reloading = true;
                self.take_readiness_back(at, "it reloads its configuration");
            }
            Notification::Stopping => self.take_readiness_back(at, "it says that it is stopping"),
            Notification::Watchdog => {
                if let Some(track) = watchdog(running)
                    && track.tell(now) == Change::Passed
                {
                    self.on_verdict_good(at, ProbeKind::Liveness, "WATCHDOG=1".to_owned());
                }
                self.reindex(at);
            }
            Notification::WatchdogTrigger => {
                if running.startup_holds_back() {
                    return;
                }
                let change =
                    watchdog(running).map(|track| track.fail_told("it sent WATCHDOG=trigger".to_owned()));
                if let Some(Change::Failed { failures, answer }) = change {
                    self.on_verdict_bad(at, ProbeKind::Liveness, failures, answer);
                }
            }
            Notification::WatchdogInterval(interval) => {
                if let Some(track) = watchdog(running) {
                    track.set_interval(interval, now);
                }
                self.reindex(at);
            }
            Notification::ExtendTimeout(more) => {
                running.tracks.iter_mut().for_each(|track| track.extend(now + more));
                self.reindex(at);
            }
        }
    }

    pub(super) fn on_log_matched(&mut self, spawn: SpawnId, kind: ProbeKind, line: String) {
        let Some(at) = self.current(spawn) else { return };
        match &self.replica(at).actual {
            Actual::Running(_) => self.tell_probe(at, kind, |check| matches!(check, Check::Log(_)), &line),
            Actual::Launching { .. } => self.keep_early(at, Event::LogMatched { spawn, kind, line }),
            // What it writes on its way down, or after, opens nothing any more.
            Actual::Stopping(_)
            | Actual::Closing(_)
            | Actual::Preparing { .. }
            | Actual::Waiting
            | Actual::Backoff { .. }
            | Actual::Stopped
            | Actual::Completed
            | Actual::Failed(_) => {}
        }
    }

    pub(super) fn on_main_changed(&mut self, spawn: SpawnId, new_pid: u32) {
        let Some(at) = self.current(spawn) else { return };
        match &mut self.replica_mut(at).actual {
            Actual::Running(running) => running.pid = new_pid,
            Actual::Stopping(stopping) => {
                if let Some((pid, _)) = &mut stopping.launched {
                    *pid = new_pid;
                }
            }
            Actual::Launching { .. } => self.keep_early(at, Event::MainChanged { spawn, pid: new_pid }),
            // Without a spawn there is no main process.
            Actual::Waiting
            | Actual::Preparing { .. }
            | Actual::Closing(_)
            | Actual::Backoff { .. }
            | Actual::Stopped
            | Actual::Completed
            | Actual::Failed(_) => {}
        }
    }

    /// Whose current start this is; a tree that was left behind is nobody's any more.
    fn current(&self, spawn: SpawnId) -> Option<At> {
        self.spawns.get(&spawn).copied().filter(|at| self.replica(*at).spawn() == Some(spawn))
    }

    fn keep_early(&mut self, at: At, event: Event) {
        let early = &mut self.replica_mut(at).early;
        if early.len() < EARLY_NEWS {
            early.push(event);
        }
    }

    /// The launch is known: what the program said before counts now.
    pub(super) fn hear_early(&mut self, at: At) {
        for event in std::mem::take(&mut self.replica_mut(at).early) {
            if let Event::Notified { spawn, what } = event {
                self.on_notified(spawn, what);
            } else if let Event::LogMatched { spawn, kind, line } = event {
                self.on_log_matched(spawn, kind, line);
            } else if let Event::MainChanged { spawn, pid } = event {
                self.on_main_changed(spawn, pid);
            }
        }
    }

    fn on_said_ready(&mut self, at: At) {
        let replica = self.replica_mut(at);
        let Actual::Running(running) = &mut replica.actual else { return };
        if std::mem::take(&mut running.reloading) {
            let how = format!("reloaded: {}", replica.status_text.as_deref().unwrap_or("READY=1"));
            self.record_reloaded(at, how);
        }
        for kind in [ProbeKind::Startup, ProbeKind::Readiness] {
            self.tell_probe(at, kind, |check| matches!(check, Check::Notify | Check::NotifyFd(_)), "READY=1");
        }
    }

    fn tell_probe(&mut self, at: At, kind: ProbeKind, way: impl Fn(&Check) -> bool, evidence: &str) {
        let now = self.now;
        let Actual::Running(running) = &mut self.replica_mut(at).actual else { return };
        let track = running.tracks.iter_mut().find(|track| track.kind == kind && track.goes_by(&way));
        if track.is_some_and(|track| track.tell(now) == Change::Passed) {
            self.on_verdict_good(at, kind, evidence.to_owned());
        }
    }

    /// Only where readiness goes by sd_notify; and only what was said can be taken back.
    fn take_readiness_back(&mut self, at: At, why: &str) {
        let Actual::Running(running) = &mut self.replica_mut(at).actual else { return };
        let Some(track) = running.tracks.iter_mut().find(|track| {
            track.kind == ProbeKind::Readiness
                && track.verdict == Some(true)
                && track.goes_by(|check| matches!(check, Check::Notify))
        }) else {
            return;
        };
        if let Change::Failed { failures, answer } = track.fail_told(why.to_owned()) {
            self.on_verdict_bad(at, ProbeKind::Readiness, failures, answer);
        }
    }

    // ---- verdicts ----

    fn on_verdict_good(&mut self, at: At, kind: ProbeKind, answer: String) {
        self.record_probe(at, kind, true, answer.clone());
        let now = self.now;
        let service = &self.stack.services[at.service];
        let oneshot = service.kind == Kind::Oneshot;
        let Actual::Running(running) = &mut self.slots[at.service].replicas[at.index].actual else { return };
        let ready = match kind {
            ProbeKind::Startup => {
                for track in &mut running.tracks {
                    if let Some(probe) = probe_of(service, track.kind).filter(|_| track.kind != kind) {
                        track.begin(probe, now);
                    }
                }
                // A program may have said that it is ready before its startup probe had passed.
                running
                    .tracks
                    .iter()
                    .find(|track| track.kind == ProbeKind::Readiness)
                    .map_or(!oneshot, |readiness| readiness.verdict == Some(true))
            }
            ProbeKind::Readiness => !running.startup_holds_back(),
            ProbeKind::Liveness => false,
        };
        running.pace_watchdog(now);
        let reason = Reason::ProbePassed { kind, answer };
        if ready {
            let mut running = running.clone();
            running.health = Health::Ready;
            self.shift(at, Actual::Running(running), reason);
        } else if kind == ProbeKind::Startup {
            let reason = running.awaits().unwrap_or(reason);
            self.replica_mut(at).reason = reason;
        }
        self.tick_probes(at);
    }

    fn on_verdict_bad(&mut self, at: At, kind: ProbeKind, failures: u32, answer: ProbeFailure) {
        self.record_probe(at, kind, false, answer.to_string());
        let now = self.now;
        let replica = self.replica_mut(at);
        let Actual::Running(running) = &replica.actual else { return };
        let reason = Reason::ProbeFailed { kind, failures, answer };
        match kind {
            ProbeKind::Startup | ProbeKind::Liveness => {
                let ran = now.since(running.launched_at);
                let ending = Ending { cause: reason.clone(), success: false, ran };
                self.begin_stop(at, reason, Then::Policy(ending));
            }
            ProbeKind::Readiness => {
                if running.health == Health::Ready {
                    let mut running = running.clone();
                    running.health = Health::Unready;
                    self.shift(at, Actual::Running(running), reason);
                } else {
                    replica.reason = reason;
                }
                self.reindex(at);
            }
        }
    }

    pub(super) fn record_reloaded(&mut self, at: At, how: String) {
        let replica = replica_id(&self.stack, at);
        self.out.push(Effect::Record(Record::Reloaded { replica, how }));
    }

    fn record_probe(&mut self, at: At, kind: ProbeKind, passed: bool, answer: String) {
        let replica = replica_id(&self.stack, at);
        self.out.push(Effect::Record(Record::Probe { replica, kind, passed, answer }));
    }
}

fn watchdog(running: &mut Running) -> Option<&mut Track> {
    running.tracks.iter_mut().find(|track| {
        track.kind == ProbeKind::Liveness && track.goes_by(|check| matches!(check, Check::Notify))
    })
}
