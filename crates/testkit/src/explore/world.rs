//! What surrounds the machine: programs, questions under way, and every answer that may come to each.

use std::collections::BTreeMap;
use std::time::Duration;

use mainstay_config::Stack;
use mainstay_lifecycle::{Effect, Event, GateCheckId, TaskId};
use mainstay_types::{
    Exit, HostPort, LaunchFailure, LaunchStep, Moment, ProbeFailure, ProbeKind, ProbeOutcome, ReplicaId,
    SpawnId,
};

use crate::sim::probe;

/// An outside gate answers within this time.
const GATE_TIMEOUT: Duration = Duration::from_secs(1);

/// One answer that may come, and how many of the bounded faults it uses up.
pub(super) struct Answer {
    pub(super) event: Event,
    pub(super) faults: u8,
}

/// Everything outside the machine.
#[derive(Clone, Default, Debug)]
pub(super) struct World {
    processes: BTreeMap<SpawnId, Process>,
    /// When the answer is due at the latest.
    probes: BTreeMap<(SpawnId, ProbeKind), Moment>,
    checks: BTreeMap<GateCheckId, Moment>,
    runs: BTreeMap<TaskId, Run>,
}

#[derive(Clone, Debug)]
struct Run {
    due: Moment,
    ended: bool,
}

#[derive(Clone, Debug)]
struct Process {
    replica: ReplicaId,
    oneshot: bool,
    course: Course,
    asked: bool,
    killed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Course {
    Launching,
    Running,
    Leftovers,
}

impl World {
    /// Trees of this replica that are there.
    pub(super) fn live(&self, replica: &ReplicaId) -> usize {
        self.processes.values().filter(|process| process.replica == *replica).count()
    }

    /// Does what the machine asks for.
    pub(super) fn perform(&mut self, effect: &Effect, stack: &Stack, now: Moment) {
        match effect {
            Effect::Launch { replica, spawn } => {
                let service = stack.service(replica.service.as_str());
                let process = Process {
                    replica: replica.clone(),
                    oneshot: service.is_some_and(|it| it.kind == mainstay_config::Kind::Oneshot),
                    course: Course::Launching,
                    asked: false,
                    killed: false,
                };
                self.processes.insert(*spawn, process);
            }
            Effect::Signal { spawn, .. } => {
                self.processes.entry(*spawn).and_modify(|process| process.asked = true);
            }
            Effect::Kill { spawn } => {
                self.processes.entry(*spawn).and_modify(|process| process.killed = true);
            }
            Effect::Probe { replica, spawn, kind } => {
                let service = stack.service(replica.service.as_str());
                let timeout = service.and_then(|it| probe(it, *kind)).map_or(Duration::ZERO, |it| it.timeout);
                self.probes.insert((*spawn, *kind), now + timeout);
            }
            Effect::CheckGate { check, .. } => {
                self.checks.insert(*check, now + GATE_TIMEOUT);
            }
            Effect::Run { task, timeout, .. } => {
                self.runs.insert(*task, Run { due: now + *timeout, ended: false });
            }
            // Its time is up: the news of it may come whenever it likes.
            Effect::EndRun { task } => {
                self.runs.entry(*task).and_modify(|run| run.ended = true);
            }
            Effect::SignalMain { .. } | Effect::Record(_) => {}
        }
    }

    /// Takes note that this has happened.
    pub(super) fn happened(&mut self, event: &Event) {
        match event {
            Event::Launched { spawn, .. } => {
                self.processes.entry(*spawn).and_modify(|process| process.course = Course::Running);
            }
            Event::LaunchFailed { spawn, .. }
            | Event::Exited { spawn, leftovers: 0, .. }
            | Event::TreeEnded { spawn } => {
                self.processes.remove(spawn);
            }
            Event::Exited { spawn, .. } => {
                self.processes.entry(*spawn).and_modify(|process| process.course = Course::Leftovers);
            }
            Event::ProbeAnswered { spawn, kind, .. } => {
                self.probes.remove(&(*spawn, *kind));
            }
            Event::GateAnswered { check, .. } => {
                self.checks.remove(check);
            }
            Event::RunEnded { task, .. } => {
                self.runs.remove(task);
            }
            Event::Notified { .. }
            | Event::MainChanged { .. }
            | Event::LogMatched { .. }
            | Event::Apply(_)
            | Event::Tick
            | Event::Command(_) => {}
        }
    }

    /// Every answer that may come now.
    pub(super) fn answers(&self) -> Vec<Answer> {
        let mut answers = Vec::new();
        for (spawn, process) in &self.processes {
            process.answers(*spawn, &mut answers);
        }
        for (spawn, kind) in self.probes.keys() {
            for (passes, faults) in [(true, 0), (false, 1)] {
                let event = Event::ProbeAnswered { spawn: *spawn, kind: *kind, outcome: outcome(passes) };
                answers.push(Answer { event, faults });
            }
        }
        for (task, run) in &self.runs {
            for (passes, faults) in [(true, 0), (false, u8::from(!run.ended))] {
                if !passes || !run.ended {
                    let event = Event::RunEnded { task: *task, outcome: outcome(passes) };
                    answers.push(Answer { event, faults });
                }
            }
        }
        for check in self.checks.keys() {
            for (passes, faults) in [(true, 0), (false, 1)] {
                answers.push(Answer {
                    event: Event::GateAnswered { check: *check, outcome: outcome(passes) },
                    faults,
                });
            }
        }
        answers
    }

    /// The first answer that has to come, because its time is up then, and when: nobody has answered.
    pub(super) fn first_due(&self) -> Option<(Moment, Event)> {
        let timed_out = || ProbeOutcome::Failed(ProbeFailure::TimedOut(GATE_TIMEOUT));
        let probes = self.probes.iter().map(|((spawn, kind), due)| {
            (*due, Event::ProbeAnswered { spawn: *spawn, kind: *kind, outcome: timed_out() })
        });
        let checks = self
            .checks
            .iter()
            .map(|(check, due)| (*due, Event::GateAnswered { check: *check, outcome: timed_out() }));
        let runs = self.runs.iter().filter(|(_, run)| !run.ended);
        let runs = runs.map(|(task, run)| (run.due, Event::RunEnded { task: *task, outcome: timed_out() }));
        probes.chain(checks).chain(runs).min_by_key(|(due, _)| *due)
    }
}

impl Process {
    fn answers(&self, spawn: SpawnId, answers: &mut Vec<Answer>) {
        let mut exits = |code: Exit, leftovers: u32, faults: u8| {
            answers.push(Answer { event: Event::Exited { spawn, exit: code, leftovers }, faults });
        };
        match self.course {
            Course::Running if self.killed => exits(Exit::Signal { signal: 9, core_dumped: false }, 0, 0),
            Course::Running => {
                let code =
                    if self.asked { Exit::Signal { signal: 15, core_dumped: false } } else { Exit::Code(1) };
                let free = u8::from(!self.asked);
                exits(code, 0, free);
                exits(code, 1, 1);
                if !self.asked {
                    exits(Exit::Code(0), 0, u8::from(!self.oneshot));
                }
            }
            Course::Launching => {
                answers.push(Answer { event: Event::Launched { spawn, pid: 1 }, faults: 0 });
                let failure = LaunchFailure {
                    step: LaunchStep::Exec,
                    path: None,
                    errno: 2,
                    message: "no such file".to_owned(),
                    hint: None,
                };
                answers.push(Answer { event: Event::LaunchFailed { spawn, failure }, faults: 1 });
            }
            Course::Leftovers => {
                if self.killed {
                    answers.push(Answer { event: Event::TreeEnded { spawn }, faults: 0 });
                }
            }
        }
    }
}

fn outcome(passes: bool) -> ProbeOutcome {
    if passes {
        ProbeOutcome::Passed("connected".to_owned())
    } else {
        ProbeOutcome::Failed(ProbeFailure::Refused(HostPort { host: "127.0.0.1".to_owned(), port: 1 }))
    }
}
