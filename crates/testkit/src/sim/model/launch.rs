//! The rules of a start: what must be so when it begins, and when its program is launched.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_config::{Gate, Service};
use mainstay_types::{Moment, ReplicaId, SpawnId};

use super::spawn::{Course, Spawn};
use super::{Broken, Model, gates};

impl Model {
    pub(super) fn take_launch(&mut self, id: &ReplicaId, spawn: SpawnId, now: Moment) -> Result<(), Broken> {
        self.check_start(id, now)?;
        rule!(!self.spawns.contains_key(&spawn), "ids are unique", "spawn {spawn}");
        self.begin_again(id, now);
        let config = self.config(&id.service).clone();
        self.check_before_launch(id, &config)?;
        let failures = &self.replicas[id].failures_since_command;
        let rolls = self.rolls.contains(&id.service);
        if let (Some(limit), Some(last)) = (config.restart.give_up.filter(|_| !rolls), failures.last()) {
            let count = failures.iter().filter(|it| last.since(**it) <= limit.within).count();
            rule!(
                count < limit.failures as usize,
                "restarts never exceed the limit",
                "{id} has failed {count} times within {:?}, the limit is {}",
                limit.within,
                limit.failures
            );
        }
        let it = Spawn {
            replica: id.clone(),
            course: Course::Launching,
            ran: false,
            asked_at: None,
            kill_by: None,
            policy: None,
            steps: 0,
            next_step_at: None,
            killed_at: None,
            must_close: false,
            lost_gates: BTreeMap::new(),
            launched_at: now,
            // What came with a change while it was prepared may never have held, and what never held cannot be lost.
            needs: if self.replicas[id].has_other_gates { Vec::new() } else { config.needs.clone() },
            lost: false,
            greeted: false,
            excused: false,
            closed: false,
            ended_unasked: None,
            condemned: false,
            forgiven: false,
            answers: Vec::new(),
            in_flight: BTreeSet::new(),
            told: super::told::Told::default(),
        };
        self.spawns.insert(spawn, it);
        if let Some(replica) = self.replicas.get_mut(id) {
            replica.spawn = Some(spawn);
            replica.backoff_until = None;
        }
        Ok(())
    }

    /// What must be so when a start begins: with its `before_start`, or with the launch.
    pub(super) fn check_start(&mut self, id: &ReplicaId, now: Moment) -> Result<(), Broken> {
        rule!(self.end.is_none(), "nothing is launched after the stop of the stack", "{id}");
        let config = self.config(&id.service);
        let last = self.replicas.get(id).and_then(|replica| replica.spawn);
        let prepared = self.runs.values().rfind(|run| run.replica == *id).is_some_and(|run| {
            let before_start = run.purpose == mainstay_lifecycle::Purpose::BeforeStart;
            before_start && run.passed == Some(true) && run.spawn == last
        });
        let wanted = self.up.contains(&id.service) && !self.is_retired(id);
        rule!(wanted, "only what is wanted is launched", "{id}");
        let Some(replica) = self.replicas.get(id) else {
            return Err(("never more live replicas than wanted", format!("there is no {id}")));
        };
        let still_there = replica.spawn.and_then(|old| self.spawns.get(&old));
        rule!(
            still_there.is_none_or(|old| old.course == Course::Gone),
            "never more live replicas than wanted",
            "{id} is there already: {still_there:?}"
        );
        for (needed, is) in gates(config) {
            rule!(self.holds(needed, is), "no start before its gates hold", "{id} needs {needed} {is:?}");
        }
        if !prepared {
            self.check_outside_gates(id, config)?;
        }
        let early =
            [replica.backoff_until, replica.retry_at].into_iter().flatten().find(|until| *until > now);
        // A rolling restart does not wait; whether it is one is told right after.
        let may_hurry = self.rolls.contains(&id.service);
        rule!(
            early.is_none() || may_hurry,
            "no restart before its wait is over",
            "{id} has to wait until {early:?}"
        );
        self.check_closed(id, now)?;
        self.replicas.entry(id.clone()).and_modify(|replica| {
            replica.hurries = early;
            replica.has_other_gates &= prepared;
        });
        Ok(())
    }

    /// A start with outside gates comes with the last good answer of a round in which all were asked and passed.
    pub(super) fn check_outside_gates(&self, id: &ReplicaId, config: &Service) -> Result<(), Broken> {
        let outside: Vec<usize> = (0..config.needs.len())
            .filter(|place| matches!(config.needs[*place].gate, Gate::Outside(_)))
            .collect();
        let asked = |place: usize| {
            self.checks.values().rev().filter(move |it| it.service == id.service && it.need == place)
        };
        let passed_at = |place: usize, round: Moment| {
            asked(place).any(|it| it.asked_at == round && it.passed == Some(true))
        };
        let rounds = |place: usize| asked(place).map(|it| it.asked_at).take(8);
        let fresh = outside.first().is_none_or(|first| {
            self.gate_passed.as_ref() == Some(&id.service)
                && rounds(*first).any(|round| outside.iter().all(|place| passed_at(*place, round)))
        });
        rule!(fresh, "no start before its gates hold", "{id}, gates {outside:?}");
        Ok(())
    }
}
