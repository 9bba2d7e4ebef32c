//! What of the model's histories still counts: two histories with the same gist are judged alike from here on.

use std::collections::BTreeMap;

use mainstay_config::Service;
use mainstay_lifecycle::{Purpose, TaskId};
use mainstay_types::{Exit, Moment, ProbeKind, ReplicaId, ServiceName, SpawnId, State};

use super::super::probe;
use super::Model;
use super::spawn::{Course, Spawn};
use super::told::Told;

/// See the module header.
#[derive(Debug)]
#[expect(dead_code, reason = "its debug text is what it is for")]
pub(crate) struct Gist {
    up: Vec<ServiceName>,
    budget_end: Option<Moment>,
    replicas: BTreeMap<ReplicaId, ReplicaGist>,
    /// The last check of each gate: when it was asked, relative to the others, and its answer.
    checks: BTreeMap<(ServiceName, usize), (Moment, Option<bool>)>,
    rolls: Vec<ServiceName>,
    /// What is changing, and what comes up with it.
    change: Option<(Vec<ServiceName>, Vec<ServiceName>)>,
    was_settled: bool,
}

#[derive(Debug)]
#[expect(dead_code, reason = "its debug text is what it is for")]
struct ReplicaGist {
    state: Option<State>,
    spawn: Option<SpawnGist>,
    /// Those within the window of the last one.
    failures: Vec<Moment>,
    failures_since_command: Vec<Moment>,
    failed: bool,
    rolling: bool,
    joining: bool,
    retry_at: Option<Moment>,
    backoff_until: Option<Moment>,
    watches_gates: bool,
    has_other_gates: bool,
    /// The last run of each purpose.
    runs: BTreeMap<Purpose, (TaskId, Moment, Option<Moment>, Option<bool>)>,
}

#[derive(Debug)]
#[expect(dead_code, reason = "its debug text is what it is for")]
struct SpawnGist {
    spawn: SpawnId,
    course: Course,
    ran: bool,
    kill_by: Option<Moment>,
    steps: usize,
    next_step_at: Option<Moment>,
    killed_at: Option<Moment>,
    lost: bool,
    greeted: bool,
    excused: bool,
    closed: bool,
    must_close: bool,
    lost_gates: BTreeMap<usize, u32>,
    ended_unasked: Option<Exit>,
    condemned: bool,
    forgiven: bool,
    in_flight: Vec<ProbeKind>,
    told: Told,
    /// Of each probe, while it runs: the last answers as far as thresholds look back.
    rows: Vec<Vec<bool>>,
    has_started: bool,
    expected: State,
}

impl Model {
    /// What is left of everything that was observed.
    pub(crate) fn gist(&self) -> Gist {
        let replicas = self.replicas.iter().map(|(id, replica)| {
            let config = self.config(&id.service);
            let window = config.restart.give_up.map(|limit| limit.within);
            let recent = |failures: &[Moment]| {
                let last = failures.last().copied();
                let counts =
                    |it: &&Moment| last.zip(window).is_some_and(|(last, window)| last.since(**it) <= window);
                failures.iter().filter(counts).copied().collect()
            };
            let spawn = replica.spawn.map(|spawn| self.spawns[&spawn].gist(spawn, config));
            let gist = ReplicaGist {
                state: replica.state,
                spawn,
                failures: recent(&replica.failures),
                failures_since_command: recent(&replica.failures_since_command),
                failed: replica.failed,
                rolling: replica.rolling,
                joining: replica.joining,
                retry_at: replica.retry_at,
                backoff_until: replica.backoff_until,
                watches_gates: replica.watches_gates,
                has_other_gates: replica.has_other_gates && replica.state == Some(State::Starting),
                runs: self
                    .runs
                    .iter()
                    .filter(|(_, run)| run.replica == *id)
                    .map(|(task, run)| (run.purpose, (*task, run.begun_at, run.ended_at, run.passed)))
                    .collect(),
            };
            (id.clone(), gist)
        });
        let checks = self.last_check.iter().map(|(gate, check)| {
            let check = &self.checks[check];
            (gate.clone(), (check.asked_at, check.passed))
        });
        Gist {
            up: self.up.iter().cloned().collect(),
            budget_end: self.end.map(|end| end.budget_end),
            replicas: replicas.collect(),
            checks: checks.collect(),
            rolls: self.rolls.iter().cloned().collect(),
            change: self.change.as_ref().map(|change| {
                (change.changing.iter().cloned().collect(), change.again.iter().cloned().collect())
            }),
            was_settled: self.was_settled,
        }
    }
}

impl Spawn {
    fn gist(&self, spawn: SpawnId, config: &Service) -> SpawnGist {
        let gone = self.course == Course::Gone;
        let row = |kind: ProbeKind| {
            let longest = probe(config, kind).map_or(0, |it| it.success_threshold.max(it.failure_threshold));
            let answers = self.answers.iter().rev().filter(|(it, _)| *it == kind && !gone);
            answers.map(|(_, passed)| *passed).take(longest as usize).collect()
        };
        SpawnGist {
            spawn,
            course: self.course,
            ran: self.ran,
            kill_by: self.kill_by.filter(|_| !gone),
            steps: if gone { 0 } else { self.steps },
            next_step_at: self.next_step_at.filter(|_| !gone),
            killed_at: self.killed_at.filter(|_| !gone),
            lost: self.lost,
            greeted: self.greeted,
            excused: self.excused,
            closed: self.closed,
            must_close: self.must_close,
            lost_gates: if gone { BTreeMap::new() } else { self.lost_gates.clone() },
            ended_unasked: self.ended_unasked,
            condemned: self.condemned,
            forgiven: self.forgiven,
            told: if gone { Told::default() } else { self.told.clone() },
            in_flight: self.in_flight.iter().copied().filter(|_| !gone).collect(),
            rows: ProbeKind::ALL.map(row).into(),
            has_started: self.has_started(config),
            expected: self.expected_state(config),
        }
    }
}
