//! Probes of running programs: asking when due, and what verdicts change.

use mainstay_config::Kind;
use mainstay_types::{ProbeFailure, ProbeKind, ProbeOutcome, SpawnId};

use super::{At, StackMachine, probe_of, replica_id};
use crate::probe::Change;
use crate::replica::{Actual, Ending, Health, Then};
use crate::{Effect, Reason, Record};

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
        let Some(probe) = probe_of(&self.stack.services[at.service], kind) else { return };
        let replica = &mut self.slots[at.service].replicas[at.index];
        let Actual::Running(running) = &mut replica.actual else { return };
        if running.spawn != spawn {
            return;
        }
        let starting = running.health == Health::Starting;
        let Some(track) = running.tracks.iter_mut().find(|track| track.kind == kind) else { return };
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

    fn on_verdict_good(&mut self, at: At, kind: ProbeKind, answer: String) {
        self.record_probe(at, kind, true, answer.clone());
        let now = self.now;
        let service = &self.stack.services[at.service];
        let (has_readiness, oneshot) = (service.readiness.is_some(), service.kind == Kind::Oneshot);
        let Actual::Running(running) = &mut self.slots[at.service].replicas[at.index].actual else { return };
        let ready = match kind {
            ProbeKind::Startup => {
                for track in &mut running.tracks {
                    if let Some(probe) = probe_of(service, track.kind).filter(|_| track.kind != kind) {
                        track.begin(probe, now);
                    }
                }
                !has_readiness && !oneshot
            }
            ProbeKind::Readiness => true,
            ProbeKind::Liveness => false,
        };
        let reason = Reason::ProbePassed { kind, answer };
        if ready {
            let mut running = running.clone();
            running.health = Health::Ready;
            self.shift(at, Actual::Running(running), reason);
        } else if kind == ProbeKind::Startup {
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

    fn record_probe(&mut self, at: At, kind: ProbeKind, passed: bool, answer: String) {
        let replica = replica_id(&self.stack, at);
        self.out.push(Effect::Record(Record::Probe { replica, kind, passed, answer }));
    }
}
