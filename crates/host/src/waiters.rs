//! Who waits for a command to be done: each answer is sent once, when the service has come to an end of it.

use std::time::Duration;

use mainstay_api::{CommandOutcome, CommandReply, Problem, ProblemKind, ReloadReply, Verb};
use mainstay_config::{ChangeEffect, Stack, StackDiff};
use mainstay_lifecycle::{Command, Reason, ReloadId, ServiceView, StackMachine};
use mainstay_types::{Moment, Phase, ServiceName, State, format_duration};
use tokio::sync::oneshot;

use crate::status::{WallClock, service_status};

/// How long a service without probes must have stayed up before a start counts as done. Such a service is ready as
/// soon as its program runs, also when it is about to find that its settings are wrong; most that fail at once do so
/// within a few hundred milliseconds.
const SETTLE: Duration = Duration::from_millis(500);

type Reply = oneshot::Sender<Result<CommandReply, Problem>>;

/// What must be so for a command to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Goal {
    /// Ready, or completed.
    Up,
    /// The same, by processes started since then.
    UpAgain { since: Moment },
    /// Terminated.
    Down,
    /// A reload after this one has come to its end.
    Reloaded { after: Option<ReloadId> },
}

struct Waiter {
    service: ServiceName,
    verb: Verb,
    goal: Goal,
    /// Whether it was so before it was asked for.
    already: bool,
    begun: Moment,
    deadline: Option<Moment>,
    /// Until when it must stay up; set while it is up and has no probe that says more.
    settled_at: Option<Moment>,
    wait: bool,
    reply: Reply,
}

/// Somebody who waits for a changed file to be applied.
struct FileWaiter {
    file: String,
    diff: StackDiff,
    /// What must be up in the end, where it is wanted.
    services: Vec<ServiceName>,
    begun: Moment,
    deadline: Option<Moment>,
    settled_at: Option<Moment>,
    reply: oneshot::Sender<Result<ReloadReply, Problem>>,
}

/// All who wait. As many as there are connections to the API at most.
#[derive(Default)]
pub(crate) struct Waiters {
    waiting: Vec<Waiter>,
    for_files: Vec<FileWaiter>,
}

impl Waiters {
    /// Whether this may be asked now, and of whom.
    pub(crate) fn accept(
        &self,
        machine: &StackMachine,
        service: &str,
        verb: Verb,
    ) -> Result<ServiceName, Problem> {
        let stack = machine.stack();
        let Some(declared) = stack.service(service) else {
            let known = stack.services.iter().map(|service| service.name.as_str());
            return Err(Problem::no_such_service(service, known));
        };
        let ending = matches!(machine.phase(), Phase::ShuttingDown | Phase::Terminated);
        if ending && verb != Verb::Stop {
            let detail = format!("the stack is being stopped: {service} cannot be started any more");
            return Err(Problem::new(ProblemKind::Conflict, detail));
        }
        if machine.is_changing(service) && verb != Verb::Stop {
            let detail = format!("a changed file is being applied to {service}: {verb} it when that is done");
            return Err(Problem::new(ProblemKind::Conflict, detail));
        }
        Ok(declared.name.clone())
    }

    /// Takes note of who waits for a changed file, after the machine was told.
    pub(crate) fn begin_file(
        &mut self,
        file: String,
        diff: StackDiff,
        timeout: Option<Duration>,
        now: Moment,
        reply: oneshot::Sender<Result<ReloadReply, Problem>>,
    ) {
        let restarted = diff.changed.iter().filter(|change| change.effect != ChangeEffect::InPlace);
        let services = diff.added.iter().chain(restarted.map(|change| &change.name)).cloned().collect();
        self.for_files.push(FileWaiter {
            file,
            services,
            begun: now,
            deadline: timeout.map(|timeout| now + timeout),
            settled_at: None,
            diff,
            reply,
        });
    }

    /// Takes note of who asked, before the machine is told; gives the command to tell it.
    pub(crate) fn begin(&mut self, machine: &StackMachine, request: Request) -> Command {
        let Request { service, verb, wait, timeout, now, reply } = request;
        let (goal, command) = match verb {
            Verb::Start => (Goal::Up, Command::Start(service.clone())),
            Verb::Reload => {
                let before = machine.service(service.as_str()).and_then(|view| view.reload);
                let goal = Goal::Reloaded { after: before.map(|reload| reload.id) };
                (goal, Command::Reload(service.clone()))
            }
            Verb::Stop => (Goal::Down, Command::Stop(service.clone())),
            Verb::Restart => (Goal::UpAgain { since: now }, Command::Restart(service.clone())),
        };
        let deadline = timeout.map(|timeout| now + timeout);
        let already = machine.service(service.as_str()).is_some_and(|view| match (goal, view.state) {
            (Goal::Up, State::Ready | State::Completed) => true,
            (Goal::Down, state) => state.phase() == Phase::Terminated,
            (Goal::Up | Goal::UpAgain { .. } | Goal::Reloaded { .. }, _) => false,
        });
        self.waiting.push(Waiter {
            service,
            verb,
            goal,
            already,
            begun: now,
            deadline,
            settled_at: None,
            wait,
            reply,
        });
        command
    }

    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        let commands = self.waiting.iter().flat_map(|waiter| [waiter.deadline, waiter.settled_at]);
        let files = self.for_files.iter().flat_map(|waiter| [waiter.deadline, waiter.settled_at]);
        commands.chain(files).flatten().min()
    }

    /// Answers all whose command has come to an end, whose time is up, or who did not want to wait.
    pub(crate) fn answer(&mut self, machine: &StackMachine, now: Moment) {
        self.answer_files(machine, now);
        let stack = machine.stack();
        let mut index = 0;
        while let Some(waiter) = self.waiting.get_mut(index) {
            let Some(view) = machine.service(waiter.service.as_str()) else {
                let waiter = self.waiting.swap_remove(index);
                let detail = format!("{} is no longer in the file", waiter.service);
                let _ = waiter.reply.send(Err(Problem::new(ProblemKind::NoSuchService, detail)));
                continue;
            };
            let outcome = if waiter.wait {
                let time_is_up = waiter.deadline.is_some_and(|deadline| deadline <= now);
                let outcome = outcome(&view, waiter.goal, time_is_up);
                waiter.settled_at = match outcome {
                    Some(CommandOutcome::Done) if waiter.goal.is_up() => settles_at(&view, stack),
                    Some(_) | None => None,
                };
                outcome.filter(|_| time_is_up || waiter.settled_at.is_none_or(|at| at <= now))
            } else {
                Some(CommandOutcome::Accepted)
            };
            if let Some(outcome) = outcome {
                let waiter = self.waiting.swap_remove(index);
                let message = if waiter.already && outcome == CommandOutcome::Done {
                    already(&view, waiter.goal)
                } else {
                    message(&view, waiter.verb, outcome, now - waiter.begun)
                };
                let status = service_status(&view, stack, &WallClock::at(now));
                // Whoever asked may have gone.
                let _ = waiter.reply.send(Ok(CommandReply::new(outcome, message, vec![status])));
            } else {
                index += 1;
            }
        }
    }
}

impl Waiters {
    fn answer_files(&mut self, machine: &StackMachine, now: Moment) {
        let mut index = 0;
        while let Some(waiter) = self.for_files.get_mut(index) {
            let time_is_up = waiter.deadline.is_some_and(|deadline| deadline <= now);
            let progress = if machine.is_applying() {
                Progress::Waiting("services still stop for it".to_owned())
            } else {
                progress(machine, &waiter.services)
            };
            let (outcome, words) = match progress {
                Progress::Up { settled_at } => {
                    waiter.settled_at = settled_at;
                    if settled_at.is_some_and(|at| at > now) && !time_is_up {
                        index += 1;
                        continue;
                    }
                    (CommandOutcome::Done, None)
                }
                Progress::Failed(words) => (CommandOutcome::Failed, Some(words)),
                Progress::Waiting(words) if time_is_up => (CommandOutcome::TimedOut, Some(words)),
                Progress::Waiting(_) => {
                    waiter.settled_at = None;
                    index += 1;
                    continue;
                }
            };
            let waiter = self.for_files.swap_remove(index);
            let took = format_duration(now - waiter.begun);
            let mut message = format!("applied after {took}: {}", crate::plan::summary(&waiter.diff));
            if let Some(words) = words {
                message = match outcome {
                    CommandOutcome::TimedOut => format!("not applied yet after {took}: {words}"),
                    CommandOutcome::Done | CommandOutcome::Failed | CommandOutcome::Accepted => {
                        format!("the file counts, but {words}")
                    }
                };
            }
            let reply = crate::reload::reply(&waiter.file, &waiter.diff, outcome, message, false);
            // Whoever asked may have gone.
            let _ = waiter.reply.send(Ok(reply));
        }
    }
}

/// How far the services of a changed file have come.
enum Progress {
    /// All are what they are wanted to be; to be believed from then on.
    Up {
        settled_at: Option<Moment>,
    },
    Failed(String),
    Waiting(String),
}

fn progress(machine: &StackMachine, services: &[ServiceName]) -> Progress {
    let (mut settled, mut waiting) = (None, None);
    for view in services.iter().filter_map(|name| machine.service(name.as_str())) {
        match view.state {
            State::Failed => return Progress::Failed(format!("{} is failed: {}", view.name, view.reason)),
            State::Ready => settled = settled.max(settles_at(&view, machine.stack())),
            State::Completed | State::Stopped => {}
            State::Waiting | State::Starting | State::Unready | State::Backoff | State::Stopping => {
                waiting.get_or_insert(format!("{} is {}: {}", view.name, view.state, view.reason));
            }
        }
    }
    waiting.map_or(Progress::Up { settled_at: settled }, Progress::Waiting)
}

/// One command, with who asked for it.
pub(crate) struct Request {
    pub(crate) service: ServiceName,
    pub(crate) verb: Verb,
    pub(crate) wait: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) now: Moment,
    pub(crate) reply: Reply,
}

/// When a service that is ready by running alone may be believed; `None` when a probe has spoken, or it has completed.
fn settles_at(view: &ServiceView<'_>, stack: &Stack) -> Option<Moment> {
    let declared = stack.service(view.name.as_str())?;
    if view.state != State::Ready || declared.readiness.is_some() || declared.startup.is_some() {
        return None;
    }
    view.replicas.iter().filter_map(|replica| replica.started_at).max().map(|at| at + SETTLE)
}

impl Goal {
    /// Whether the service is to be up in the end.
    const fn is_up(self) -> bool {
        match self {
            Self::Up | Self::UpAgain { .. } => true,
            Self::Down | Self::Reloaded { .. } => false,
        }
    }
}

fn outcome(view: &ServiceView<'_>, goal: Goal, time_is_up: bool) -> Option<CommandOutcome> {
    let reached = match (goal, view.state) {
        (Goal::Reloaded { after }, _) => view
            .reload
            .as_ref()
            .filter(|reload| after.is_none_or(|after| reload.id > after))
            .and_then(|reload| reload.outcome.as_ref())
            .map(|outcome| if outcome.is_ok() { CommandOutcome::Done } else { CommandOutcome::Failed }),
        (Goal::Up, State::Ready | State::Completed) => Some(CommandOutcome::Done),
        (Goal::UpAgain { since }, State::Ready) => view
            .replicas
            .iter()
            .all(|replica| replica.started_at.is_some_and(|at| at >= since))
            .then_some(CommandOutcome::Done),
        (Goal::UpAgain { since }, State::Completed) => view
            .replicas
            .iter()
            .all(|replica| replica.last_exit.is_some_and(|(_, at)| at >= since))
            .then_some(CommandOutcome::Done),
        (Goal::Up | Goal::UpAgain { .. }, State::Failed | State::Stopped) => Some(CommandOutcome::Failed),
        (Goal::Down, state) if state.phase() == Phase::Terminated => Some(CommandOutcome::Done),
        (
            Goal::Up | Goal::UpAgain { .. } | Goal::Down,
            State::Waiting | State::Starting | State::Unready | State::Backoff | State::Stopping,
        )
        | (Goal::Down, State::Ready | State::Stopped | State::Completed | State::Failed) => None,
    };
    reached.or(time_is_up.then_some(CommandOutcome::TimedOut))
}

/// Nothing was to be done.
fn already(view: &ServiceView<'_>, goal: Goal) -> String {
    let (name, state) = (view.name, view.state);
    match (goal, state) {
        (Goal::Down, State::Stopped) => format!("{name} is stopped already"),
        (Goal::Down, _) => format!("{name} does not run: it is {state}"),
        (Goal::Up | Goal::UpAgain { .. } | Goal::Reloaded { .. }, _) => format!("{name} is {state} already"),
    }
}

fn message(view: &ServiceView<'_>, verb: Verb, outcome: CommandOutcome, took: Duration) -> String {
    let (name, state, reason) = (view.name, view.state, &view.reason);
    if verb == Verb::Reload
        && outcome != CommandOutcome::Accepted
        && let Some(reload) = &view.reload
    {
        let took = format_duration(took);
        let replicas = if reload.of == 1 { "replica" } else { "replicas" };
        return match &reload.outcome {
            Some(Ok(())) => format!("{name} has reloaded after {took}: {} {replicas}", reload.of),
            Some(Err(why)) if reload.of == 0 => format!("{name} has not reloaded: {why}"),
            Some(Err(why)) => {
                format!("{name} has not reloaded: {why} ({} of {} {replicas} done)", reload.done, reload.of)
            }
            None => {
                format!("{name} still reloads after {took}: {} of {} {replicas} done", reload.done, reload.of)
            }
        };
    }
    match outcome {
        // That it had to be killed is part of how it stopped.
        CommandOutcome::Done if matches!(reason, Reason::Killed { .. } | Reason::LeftBehind) => {
            format!("{name} is {state} after {}: {reason}", format_duration(took))
        }
        CommandOutcome::Done => format!("{name} is {state} after {}", format_duration(took)),
        CommandOutcome::Failed => format!("{name} is {state}: {reason}"),
        CommandOutcome::TimedOut => {
            format!("{name} is still {state} after {}: {reason}", format_duration(took))
        }
        CommandOutcome::Accepted => format!("{verb} of {name} requested; it is {state}"),
    }
}
