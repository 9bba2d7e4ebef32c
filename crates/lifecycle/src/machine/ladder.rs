//! The ladder of a stop: its steps one after the other, each with a time of its own, within one grace.
//!
//! ```text
//!  BeforeStop ── told, however it ended ──► step 1 ── its wait is over, or its command failed ──► step 2 ──► ...
//!      └────────────────────────┬──────────────┴── a step of SIGKILL, or the grace is over ──────────┘
//!                               ▼
//!                             Killed
//! ```
//!
//! A step of a command is over, too, when its command has done its work and the main process has ended by then: what is
//! left of the tree was not what it was for. The last step has the rest of the grace. A policy of commands alone gets a last step of SIGTERM: when they all have
//! failed, nobody has asked the program to end, and it is to have the chance before the kill.

use std::time::Duration;

use mainstay_config::{Hook, StopAction, StopPolicy, StopStep};
use mainstay_types::{ProbeOutcome, StopSignal};

use super::{At, StackMachine};
use crate::replica::{Actual, Plan, Stage, Stopping};
use crate::{Effect, Purpose, Reason};

impl Plan {
    pub(super) fn new(policy: &StopPolicy, before: Option<Hook>) -> Self {
        let mut steps = policy.steps.clone();
        let signals = |step: &StopStep| matches!(step.action, StopAction::Signal(_));
        if !steps.iter().any(signals) {
            steps.push(StopStep { action: StopAction::Signal(StopSignal::Term), wait: None });
        }
        Self { before, steps, grace: policy.grace }
    }

    /// What comes after so many steps, in a few words.
    pub(crate) fn next_words(&self, done: usize) -> String {
        self.steps.get(done).map_or_else(|| "the kill".to_owned(), |step| action_words(&step.action))
    }
}

fn action_words(action: &StopAction) -> String {
    match action {
        StopAction::Signal(signal) => signal.to_string(),
        StopAction::Command(_) => "its stop command".to_owned(),
    }
}

impl StackMachine {
    /// Begins with a program that runs and is `Asked` in name only. Without any grace it is killed instead.
    pub(super) fn begin_ladder(&mut self, at: At) {
        let now = self.now;
        let Actual::Stopping(stopping) = &mut self.replica_mut(at).actual else { return };
        let Stage::Asked { kill_at, .. } = stopping.stage else { return };
        if kill_at <= now {
            self.kill(at, None);
            return;
        }
        let Some(Hook { command, timeout }) = stopping.plan.before.clone() else {
            self.next_step(at, None);
            return;
        };
        let timeout = timeout.min(kill_at - now);
        let task = self.new_task();
        if let Actual::Stopping(stopping) = &mut self.replica_mut(at).actual {
            stopping.stage = Stage::BeforeStop { kill_at, ends_at: now + timeout, task };
            stopping.tried.push(Purpose::BeforeStop.as_str().to_owned());
        }
        self.tell(at, Reason::HookRuns { purpose: Purpose::BeforeStop, timeout });
        self.run(at, task, Purpose::BeforeStop, command, timeout);
        self.reindex(at);
    }

    /// Takes the next step; `failed` says what failed, if that is why. Bounded: a step without any wait is followed by
    /// the next one here, and there are so many.
    pub(super) fn next_step(&mut self, at: At, failed: Option<String>) {
        let now = self.now;
        let Actual::Stopping(stopping) = &mut self.replica_mut(at).actual else { return };
        let Stopping { spawn, asked_at, .. } = **stopping;
        let stage = stopping.stage;
        let (kill_at, done) = match stage {
            Stage::BeforeStop { kill_at, .. } => (kill_at, 0),
            Stage::Asked { kill_at, done, .. } => (kill_at, done),
            Stage::NotLaunched { .. } | Stage::Killed { .. } => return,
        };
        if kill_at <= now {
            self.kill(at, Some(now - asked_at));
            return;
        }
        let step = stopping.plan.steps.get(done).cloned();
        let is_last = done + 1 >= stopping.plan.steps.len();
        let next_at = match &step {
            Some(StopStep { wait: Some(wait), .. }) if !is_last => kill_at.min(now + *wait),
            Some(_) | None => kill_at,
        };
        let wait = next_at - now;
        let escalates = !stopping.tried.is_empty();
        let mut task = None;
        match &step {
            Some(StopStep { action: StopAction::Signal(StopSignal::Kill), .. }) => {
                let after = (done > 0).then(|| now - asked_at);
                self.kill(at, after);
                return;
            }
            Some(StopStep { action: StopAction::Signal(signal), .. }) => {
                stopping.tried.push(signal.to_string());
                self.out.push(Effect::Signal { spawn, signal: *signal });
            }
            Some(StopStep { action: action @ StopAction::Command(command), .. }) => {
                stopping.tried.push(action_words(action));
                let id = self.new_task();
                self.run(at, id, Purpose::Stop, command.clone(), wait);
                task = Some(id);
            }
            // The rest of the grace.
            None => {}
        }
        if let Actual::Stopping(stopping) = &mut self.replica_mut(at).actual {
            stopping.stage =
                Stage::Asked { kill_at, next_at, done: done + usize::from(step.is_some()), task };
        }
        // A command whose time is up ends by itself, but the news of it may come later.
        self.end_stage(stage);
        let reason = Reason::Asked { failed, step: step.map(|step| step.action), wait };
        if escalates {
            self.note(at, reason);
        } else {
            // Why it is being stopped says more than that it was asked in the usual way.
            self.tell(at, reason);
        }
        if next_at <= now {
            self.next_step(at, None);
        }
        self.reindex(at);
    }

    pub(super) fn on_stop_command_ended(&mut self, at: At, purpose: Purpose, outcome: ProbeOutcome) {
        let failed = match outcome {
            ProbeOutcome::Passed(_) => None,
            ProbeOutcome::Failed(failure) if purpose == Purpose::Stop => {
                Some(format!("stop command failed: {failure}"))
            }
            ProbeOutcome::Failed(failure) => Some(format!("{} failed: {failure}", purpose.as_str())),
        };
        let Actual::Stopping(stopping) = &mut self.replica_mut(at).actual else { return };
        match &mut stopping.stage {
            Stage::BeforeStop { .. } => self.next_step(at, failed),
            Stage::Asked { task, .. } => {
                *task = None;
                if failed.is_some() {
                    self.next_step(at, failed);
                } else {
                    self.end_command_step(at);
                }
            }
            Stage::NotLaunched { .. } | Stage::Killed { .. } => {}
        }
    }

    /// The command of a step has done its work, or the main process has ended: nothing more comes of it when both have.
    pub(super) fn end_command_step(&mut self, at: At) {
        let Actual::Stopping(stopping) = &self.replica(at).actual else { return };
        let Stage::Asked { done, task: None, .. } = stopping.stage else { return };
        let begun = done.checked_sub(1).and_then(|last| stopping.plan.steps.get(last));
        let by_command = begun.is_some_and(|step| matches!(step.action, StopAction::Command(_)));
        if by_command && stopping.exit.is_some() && done < stopping.plan.steps.len() {
            self.next_step(at, None);
        }
    }

    pub(super) fn tick_stopping(&mut self, at: At) {
        let Actual::Stopping(stopping) = &self.replica(at).actual else { return };
        match stopping.stage {
            Stage::NotLaunched { kill_at }
            | Stage::BeforeStop { kill_at, .. }
            | Stage::Asked { kill_at, .. }
                if kill_at <= self.now =>
            {
                let after: Duration = self.now.since(stopping.asked_at);
                self.kill(at, Some(after));
            }
            Stage::Asked { next_at, .. } if next_at <= self.now => self.next_step(at, None),
            Stage::Killed { lost_at, .. } if lost_at <= self.now => self.leave_behind(at),
            Stage::NotLaunched { .. }
            | Stage::BeforeStop { .. }
            | Stage::Asked { .. }
            | Stage::Killed { .. } => {}
        }
    }
}
