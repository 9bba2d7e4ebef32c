//! The rules that hold after every event, whatever it was.

use std::collections::BTreeSet;

use mainstay_config::{Gate, Service};
use mainstay_lifecycle::{KILL_WAIT, Purpose};
use mainstay_types::{Moment, Phase, ProbeKind, ReplicaId, State};

use super::super::{Subject, probe};
use super::spawn::{Course, Spawn};
use super::{Broken, Model, gates};

impl Model {
    pub(crate) fn check(
        &mut self,
        machine: &impl Subject,
        live: &dyn Fn(&ReplicaId) -> usize,
        tick: bool,
        now: Moment,
    ) -> Result<(), Broken> {
        let decided: Vec<ReplicaId> = self.replicas.keys().cloned().collect();
        for id in decided {
            if self.awaited(&id, now, self.late).next().is_none() {
                self.settle(&id, now);
            }
        }
        let deadline = machine.next_deadline();
        rule!(
            !tick || deadline.is_none_or(|moment| moment > now),
            "after a tick the next deadline lies in the future",
            "{deadline:?} at {now:?}"
        );
        let declared: BTreeSet<&str> = self.stack.services.iter().map(|it| it.name.as_str()).collect();
        let names = machine.names();
        let there: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        rule!(there == declared, "the services are those of the file", "they are {there:?}");
        for service in &self.stack.services {
            let states = machine.states(service.name.as_str());
            let count = states.len();
            rule!(
                count == service.replicas as usize,
                "never more live replicas than wanted",
                "{}: {count} replicas",
                service.name
            );
            for (state, index) in states.into_iter().zip(0..) {
                let id = ReplicaId { service: service.name.clone(), index };
                self.check_replica(&id, state, service, live, deadline.is_some(), now)?;
            }
        }
        let over = self.end.is_some() && self.all_terminated();
        rule!(machine.is_over() == over, "over is told truthfully", "{} is told", machine.is_over());
        if let Some(end) = self.end {
            let bound = end.budget_end + self.late + KILL_WAIT + self.late;
            rule!(
                over || now <= bound,
                "every stop ends within its budget",
                "the stack's ended at {bound:?}"
            );
        }
        self.check_runs(now)?;
        let asking = self.checks.values().any(|check| check.passed.is_none());
        let asking =
            asking || self.replicas.keys().any(|id| self.awaited(id, now, self.late).next().is_some());
        let lost = self.spawns.values().any(|it| it.course != Course::Gone);
        let settled = machine.is_settled();
        rule!(
            !settled || self.all_terminated() && deadline.is_none(),
            "settled is told truthfully",
            "it is not: {deadline:?}"
        );
        rule!(
            settled || !self.all_terminated() || deadline.is_some() || asking || lost,
            "settled is told truthfully",
            "it is, and was not told"
        );
        self.was_settled = settled;
        Ok(())
    }

    fn check_replica(
        &self,
        id: &ReplicaId,
        state: State,
        service: &Service,
        live: &dyn Fn(&ReplicaId) -> usize,
        has_deadline: bool,
        now: Moment,
    ) -> Result<(), Broken> {
        let replica = &self.replicas[id];
        rule!(
            replica.state == Some(state),
            "the view is the last record",
            "{id}: {state}, {:?}",
            replica.state
        );
        let live = live(id);
        rule!(live <= 1, "never more live replicas than wanted", "{id}: {live} trees");
        let spawn = replica.spawn.filter(|spawn| self.spawns[spawn].course != Course::Gone);
        let lost = spawn.is_some_and(|spawn| self.is_lost(spawn, now));
        rule!(
            live == 0 || lost || state.phase() != Phase::Terminated,
            "nothing runs after the end of a stop",
            "{id} is {state}"
        );
        let wanted = self.up.contains(&service.name) && !self.is_retired(id);
        match (spawn.map(|spawn| &self.spawns[&spawn]), lost) {
            (Some(it), false) => self.check_tree(id, state, service, it, now)?,
            (None, _) | (Some(_), true) => {
                let fits = match state {
                    State::Waiting | State::Backoff => wanted,
                    State::Stopping => lost || self.awaited(id, now, self.late).next().is_some(),
                    State::Stopped | State::Completed | State::Failed => true,
                    // Its before_start runs; one that is to stop may have to wait for its turn.
                    State::Starting => {
                        let mut runs = self.awaited(id, now, self.late);
                        runs.any(|run| run.purpose == Purpose::BeforeStart && run.ended_at.is_none())
                            && (wanted || self.ends_before(&service.name).is_some())
                    }
                    State::Ready | State::Unready => false,
                };
                rule!(fits, "a state is what was observed", "{id} is {state}, and has no tree");
            }
        }
        let overdue = replica.retry_at.filter(|at| state == State::Failed && now > *at + self.late);
        rule!(overdue.is_none(), "a service that gave up is tried again in time", "{id}: {overdue:?}");
        let waits = spawn.is_none()
            && wanted
            && (state == State::Waiting || replica.watches_gates)
            && self.awaited(id, now, self.late).next().is_none();
        if waits && gates(service).all(|(needed, is)| self.holds(needed, is)) {
            let mut outside =
                (0..service.needs.len()).filter(|need| matches!(service.needs[*need].gate, Gate::Outside(_)));
            let asked = outside.clone().any(|need| {
                let mut checks = self.checks.values().rev();
                checks.any(|it| it.service == service.name && it.need == need && it.passed.is_none())
            });
            rule!(
                outside.next().is_some() && (asked || has_deadline),
                "what may start is started",
                "{id} is {state}, and its gates hold"
            );
        }
        Ok(())
    }

    /// A tree that is there, and not given up.
    fn check_tree(
        &self,
        id: &ReplicaId,
        state: State,
        service: &Service,
        it: &Spawn,
        now: Moment,
    ) -> Result<(), Broken> {
        let wanted = self.up.contains(&service.name) && !self.is_retired(id);
        let expected = match it.course {
            Course::Running { .. } if !it.is_asked() => it.expected_state(service),
            Course::Launching if state == State::Starting => State::Starting,
            Course::Launching | Course::Running { .. } | Course::Leftovers | Course::Gone => State::Stopping,
        };
        rule!(state == expected, "a state is what was observed", "{id} is {state}, it should be {expected}");
        if let Course::Running { since } = it.course
            && !it.is_asked()
        {
            rule!(
                wanted || self.ends_before(&service.name).is_some(),
                "what is to stop is asked in its turn",
                "{id} runs, and nothing holds it"
            );
            self.check_kept_gates(id, service, it)?;
            self.check_silence(id, service, it, now)?;
            let lost_liveness = it.is_not_alive(service);
            rule!(!lost_liveness, "a lost liveness ends the program", "{id}");
            if let Some(probe) = probe(service, ProbeKind::Startup).filter(|_| !it.has_started(service)) {
                let budget = probe.period * probe.failure_threshold;
                let slack = probe.period + probe.timeout * 2 + self.late * 2;
                let bound = (since + probe.initial_delay + budget).max(it.start_by()) + slack;
                rule!(now <= bound, "a startup ends in time", "{id} should have been up at {bound:?}");
            }
        }
        let grace_end = it.kill_by;
        let budget_end = self.end.map(|end| end.budget_end);
        let kill_by = match (grace_end, budget_end) {
            (Some(grace), Some(budget)) => Some(grace.min(budget.max(it.asked_at.unwrap_or(budget)))),
            (Some(moment), None) | (None, Some(moment)) => Some(moment),
            (None, None) => None,
        };
        let overdue = kill_by.filter(|moment| it.killed_at.is_none() && now > *moment + self.late);
        rule!(overdue.is_none(), "every stop ends within its budget", "{id}: no kill since {overdue:?}");
        let lost_by = it.killed_at.map(|moment| moment + KILL_WAIT + self.late);
        rule!(
            lost_by.is_none_or(|moment| now <= moment),
            "every stop ends within its budget",
            "{id}: killed, and waited for beyond {lost_by:?}"
        );
        Ok(())
    }
}
