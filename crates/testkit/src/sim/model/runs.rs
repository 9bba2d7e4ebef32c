//! The rules of commands around a service's life and of the steps of a stop.

use std::time::Duration;

use mainstay_config::{Hook, Kind, ReloadPolicy, Service, StopAction, StopStep};
use mainstay_lifecycle::{KILL_WAIT, Purpose, TaskId};
use mainstay_types::{CommandLine, Moment, ReplicaId, SpawnId, State, StopSignal};

use super::spawn::Course;
use super::{Broken, Model};

/// One run of a command.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) replica: ReplicaId,
    pub(super) purpose: Purpose,
    /// The start it belongs to; for `before_start` the one before, if any.
    pub(super) spawn: Option<SpawnId>,
    pub(super) begun_at: Moment,
    timeout: Duration,
    pub(super) ended_at: Option<Moment>,
    pub(super) passed: Option<bool>,
    told: bool,
}

impl Run {
    /// Neither answered, nor told to end and given up, at `now`; whoever gives it up may be so late.
    pub(super) fn is_awaited(&self, now: Moment, late: Duration) -> bool {
        self.passed.is_none() && self.ended_at.is_none_or(|ended_at| now < ended_at + KILL_WAIT + late)
    }

    /// Whether its command may be running, as far as anybody meant it to.
    fn is_under_way(&self, now: Moment) -> bool {
        self.passed.is_none() && self.ended_at.is_none() && now < self.begun_at + self.timeout
    }
}

/// An effect that runs a command.
pub(super) struct NewRun<'a> {
    pub(super) task: TaskId,
    pub(super) replica: &'a ReplicaId,
    pub(super) purpose: Purpose,
    pub(super) command: &'a CommandLine,
    pub(super) timeout: Duration,
}

impl Model {
    pub(super) fn take_run(&mut self, new: &NewRun<'_>, now: Moment) -> Result<(), Broken> {
        let NewRun { task, replica: id, purpose, .. } = *new;
        rule!(!self.runs.contains_key(&task), "ids are unique", "{task:?}");
        let config = self.config(&id.service).clone();
        let Some(replica) = self.replicas.get(id) else {
            return Err(("never more live replicas than wanted", format!("there is no {id}")));
        };
        let spawn = replica.spawn;
        check_command(new, &config)?;
        match purpose {
            Purpose::BeforeStart => {
                self.check_start(id, now)?;
                self.begin_again(id, now);
            }
            Purpose::AfterReady => {
                let it = self.tree_of(id)?;
                let ready = matches!(it.course, Course::Running { .. })
                    && !it.is_asked()
                    && it.expected_state(&config) == State::Ready;
                let first = !std::mem::replace(&mut it.greeted, true);
                rule!(ready && first, "after_ready runs once, when it is ready", "{id}: {it:?}");
            }
            Purpose::BeforeStop => {
                let it = self.tree_of(id)?;
                let runs = matches!(it.course, Course::Running { .. }) && !it.is_asked();
                rule!(runs, "before_stop comes before every step", "{id}: {it:?}");
                it.begin_asking(now, &config.stop);
            }
            Purpose::Stop => self.take_step(id, &StopAction::Command(new.command.clone()), now)?,
            Purpose::AfterExit => {
                let out_of_time = self.end.is_some_and(|end| end.budget_end <= now);
                rule!(!out_of_time, "no after_exit out of time", "{id}");
                let it = spawn.and_then(|spawn| self.spawns.get_mut(&spawn));
                let due = it.as_ref().is_some_and(|it| it.course == Course::Gone && it.ran && !it.closed);
                rule!(due, "after_exit runs once, when the tree is gone", "{id}: {it:?}");
                it.into_iter().for_each(|it| it.closed = true);
            }
            Purpose::Reload => {
                let it = self.tree_of(id)?;
                let runs = matches!(it.course, Course::Running { .. }) && !it.is_asked();
                rule!(runs, "a reload asks what runs, as the file says", "{id}: {it:?}");
            }
        }
        let run = Run {
            replica: id.clone(),
            purpose,
            spawn,
            begun_at: now,
            timeout: new.timeout,
            ended_at: None,
            passed: None,
            told: false,
        };
        self.runs.insert(task, run);
        Ok(())
    }

    /// A step of a stop: the next one, in its time, of a tree that is there and not killed.
    pub(super) fn take_step(
        &mut self,
        id: &ReplicaId,
        action: &StopAction,
        now: Moment,
    ) -> Result<(), Broken> {
        let policy = self.config(&id.service).stop.clone();
        let before_stop = self
            .runs
            .values()
            .find(|run| run.replica == *id && run.purpose == Purpose::BeforeStop && run.is_under_way(now));
        rule!(
            before_stop.is_none(),
            "steps of a stop come in their order",
            "{id}: {before_stop:?} still runs"
        );
        let other = self
            .runs
            .values()
            .find(|run| run.replica == *id && run.purpose == Purpose::Stop && run.is_under_way(now));
        rule!(other.is_none(), "one command of a stop runs at a time", "{id}: {other:?} still runs");
        let last = self.runs.values().rfind(|run| run.replica == *id && run.purpose == Purpose::Stop);
        let failed = last.is_some_and(|run| run.passed == Some(false));
        let done = last.is_some_and(|run| run.passed == Some(true));
        let it = self.tree_of(id)?;
        rule!(it.killed_at.is_none(), "no step follows the kill", "{id}: {action:?}, {it:?}");
        it.begin_asking(now, &policy);
        let steps = steps(&it.policy.as_ref().unwrap_or(&policy).steps);
        let next = steps.get(it.steps).filter(|step| step.action == *action);
        rule!(
            next.is_some(),
            "steps of a stop come in their order",
            "{id}: {action:?} after {} steps",
            it.steps
        );
        let early = it.next_step_at.is_some_and(|at| now < at)
            && !failed
            && !(done && it.course == Course::Leftovers);
        rule!(!early, "a step has its time", "{id}: the next one is due {:?}", it.next_step_at);
        it.steps += 1;
        it.next_step_at = next.and_then(|step| step.wait).map(|wait| now + wait).or(it.kill_by);
        Ok(())
    }

    pub(super) fn take_end_run(&mut self, task: TaskId, now: Moment) -> Result<(), Broken> {
        let run = self.runs.get_mut(&task).filter(|run| run.passed.is_none() && run.ended_at.is_none());
        rule!(run.is_some(), "only what runs is ended, once", "{task:?}");
        run.into_iter().for_each(|run| run.ended_at = Some(now));
        Ok(())
    }

    /// The answer to a run. A `before_start` that failed is a failure of its replica.
    pub(super) fn take_run_ended(&mut self, task: TaskId, passed: bool) {
        let Some(run) = self.runs.get_mut(&task) else { return };
        run.passed = Some(passed);
        if run.purpose == Purpose::BeforeStart && !passed && run.ended_at.is_none() {
            let id = run.replica.clone();
            self.replicas.entry(id).and_modify(|replica| replica.failed = true);
        }
    }

    pub(super) fn take_told(&mut self, id: &ReplicaId, purpose: Purpose) -> Result<(), Broken> {
        let run = self
            .runs
            .values_mut()
            .find(|run| run.replica == *id && run.purpose == purpose && run.passed.is_some() && !run.told);
        rule!(run.is_some(), "each run is told once, when it has ended", "{purpose:?} of {id}");
        run.into_iter().for_each(|run| run.told = true);
        Ok(())
    }

    /// What a launch has to have behind it, beside its gates.
    pub(super) fn check_before_launch(&self, id: &ReplicaId, config: &Service) -> Result<(), Broken> {
        if config.hooks.before_start.is_some() {
            let last = self.runs.values().rfind(|run| run.replica == *id);
            let prepared = last.is_some_and(|run| {
                run.purpose == Purpose::BeforeStart && run.passed == Some(true) && run.ended_at.is_none()
            });
            rule!(prepared, "before_start is done before each launch", "{id}: {last:?}");
        }
        Ok(())
    }

    /// Nothing of the last start is to be waited for.
    pub(super) fn check_closed(&self, id: &ReplicaId, now: Moment) -> Result<(), Broken> {
        let spawn = self.replicas.get(id).and_then(|replica| replica.spawn);
        let Some(it) = spawn.and_then(|spawn| self.spawns.get(&spawn)) else { return Ok(()) };
        let due = it.must_close && !it.lost;
        rule!(!due || it.closed, "after_exit comes before everything else", "{id}: {it:?}");
        let awaited = self.awaited(id, now, Duration::ZERO).find(|run| run.purpose == Purpose::AfterExit);
        rule!(awaited.is_none(), "after_exit comes before everything else", "{id}: {awaited:?}");
        Ok(())
    }

    /// Runs that hold this replica up: before its start, and after its end.
    pub(super) fn awaited<'a>(
        &'a self,
        id: &'a ReplicaId,
        now: Moment,
        late: Duration,
    ) -> impl Iterator<Item = &'a Run> {
        self.runs.values().filter(move |run| {
            let holds_up = match run.purpose {
                Purpose::BeforeStart | Purpose::AfterExit => true,
                Purpose::AfterReady | Purpose::BeforeStop | Purpose::Stop | Purpose::Reload => false,
            };
            holds_up && run.replica == *id && run.is_awaited(now, late)
        })
    }

    /// After every event: what has to be under way by now.
    pub(super) fn check_runs(&self, now: Moment) -> Result<(), Broken> {
        let untold = self.runs.iter().find(|(_, run)| run.passed.is_some() && !run.told);
        rule!(untold.is_none(), "each run is told once, when it has ended", "{untold:?}");
        for (id, replica) in &self.replicas {
            let config = self.config(&id.service);
            let Some(it) = replica.spawn.and_then(|spawn| self.spawns.get(&spawn)) else { continue };
            let greets = config.hooks.after_ready.is_some() && config.kind == Kind::LongRunning;
            let greeted = it.greeted || it.excused || !greets || replica.state != Some(State::Ready);
            rule!(greeted, "after_ready runs once, when it is ready", "{id} is ready: {it:?}");
            let closes = it.must_close && !it.lost;
            rule!(!closes || it.closed, "after_exit runs once, when the tree is gone", "{id}: {it:?}");
            let over = |run: &&Run| {
                run.spawn == replica.spawn
                    && run.ended_at.is_none()
                    && run.passed.is_none()
                    && match run.purpose {
                        Purpose::AfterReady => it.course != Course::Launching && it.is_asked(),
                        Purpose::BeforeStop | Purpose::Stop => {
                            it.killed_at.is_some() && now < run.begun_at + run.timeout
                        }
                        Purpose::BeforeStart | Purpose::AfterExit | Purpose::Reload => false,
                    }
            };
            let outlived = self.runs.values().filter(|run| run.replica == *id).find(over);
            rule!(outlived.is_none(), "a run ends with what it is for", "{id}: {outlived:?}");
        }
        Ok(())
    }

    fn tree_of(&mut self, id: &ReplicaId) -> Result<&mut super::spawn::Spawn, Broken> {
        let spawn = self.replicas.get(id).and_then(|replica| replica.spawn);
        match spawn {
            Some(spawn) => self.tree(spawn),
            None => Err(("effects go to trees that are there", format!("{id} was never started"))),
        }
    }
}

/// What runs is what the file says.
fn check_command(new: &NewRun<'_>, config: &Service) -> Result<(), Broken> {
    let hooks = &config.hooks;
    let hook = match new.purpose {
        Purpose::BeforeStart => hooks.before_start.as_ref(),
        Purpose::AfterReady => hooks.after_ready.as_ref(),
        Purpose::BeforeStop => hooks.before_stop.as_ref(),
        Purpose::AfterExit => hooks.after_exit.as_ref(),
        Purpose::Reload => match &config.reload {
            ReloadPolicy::Command(hook) => Some(hook),
            ReloadPolicy::Rolling | ReloadPolicy::Signal(_) => None,
        },
        Purpose::Stop => {
            rule!(!new.timeout.is_zero(), "a command has time", "{:?}", new.replica);
            return Ok(());
        }
    };
    let fits = |hook: &Hook| {
        // What comes before a stop has no more time than the stop.
        let longest = if new.purpose == Purpose::BeforeStop { config.stop.grace } else { Duration::MAX };
        hook.command == *new.command
            && new.timeout <= hook.timeout
            && (new.timeout == hook.timeout || new.timeout <= longest)
    };
    rule!(hook.is_some_and(fits), "what runs is what the file says", "{:?} of {}", new.purpose, new.replica);
    Ok(())
}

/// The steps of a policy: with a last word to the program where there are only commands.
fn steps(declared: &[StopStep]) -> Vec<StopStep> {
    let mut steps = declared.to_vec();
    if steps.iter().all(|step| matches!(step.action, StopAction::Command(_))) {
        steps.push(StopStep { action: StopAction::Signal(StopSignal::Term), wait: None });
    }
    steps
}
