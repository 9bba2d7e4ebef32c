//! Who waits for a command to be done: each answer is sent once, when the service has come to an end of it.

use std::sync::Arc;
use std::time::Duration;

use mainstay_api::{CommandOutcome, CommandReply, Problem, ProblemKind, Verb};
use mainstay_config::Stack;
use mainstay_lifecycle::{Command, ServiceView, StackMachine};
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
}

struct Waiter {
    service: ServiceName,
    verb: Verb,
    goal: Goal,
    begun: Moment,
    deadline: Option<Moment>,
    /// Until when it must stay up; set while it is up and has no probe that says more.
    settled_at: Option<Moment>,
    wait: bool,
    reply: Reply,
}

/// All who wait. As many as there are connections to the API at most.
pub(crate) struct Waiters {
    stack: Arc<Stack>,
    waiting: Vec<Waiter>,
}

impl Waiters {
    pub(crate) fn new(stack: Arc<Stack>) -> Self {
        Self { stack, waiting: Vec::new() }
    }

    /// Whether this may be asked now, and of whom.
    pub(crate) fn accept(
        &self,
        machine: &StackMachine,
        service: &str,
        verb: Verb,
    ) -> Result<ServiceName, Problem> {
        if verb == Verb::Reload {
            return Err(Problem::not_supported("reload"));
        }
        let Some(declared) = self.stack.service(service) else {
            let known = self.stack.services.iter().map(|service| service.name.as_str());
            return Err(Problem::no_such_service(service, known));
        };
        let ending = matches!(machine.phase(), Phase::ShuttingDown | Phase::Terminated);
        if ending && verb != Verb::Stop {
            let detail = format!("the stack is being stopped: {service} cannot be started any more");
            return Err(Problem::new(ProblemKind::Conflict, detail));
        }
        Ok(declared.name.clone())
    }

    /// Takes note of who asked, before the machine is told; gives the command to tell it.
    pub(crate) fn begin(&mut self, request: Request) -> Command {
        let Request { service, verb, wait, timeout, now, reply } = request;
        let (goal, command) = match verb {
            Verb::Start | Verb::Reload => (Goal::Up, Command::Start(service.clone())),
            Verb::Stop => (Goal::Down, Command::Stop(service.clone())),
            Verb::Restart => (Goal::UpAgain { since: now }, Command::Restart(service.clone())),
        };
        let deadline = timeout.map(|timeout| now + timeout);
        self.waiting.push(Waiter {
            service,
            verb,
            goal,
            begun: now,
            deadline,
            settled_at: None,
            wait,
            reply,
        });
        command
    }

    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        self.waiting.iter().flat_map(|waiter| [waiter.deadline, waiter.settled_at]).flatten().min()
    }

    /// Answers all whose command has come to an end, whose time is up, or who did not want to wait.
    pub(crate) fn answer(&mut self, machine: &StackMachine, now: Moment) {
        let mut index = 0;
        while let Some(waiter) = self.waiting.get_mut(index) {
            let Some(view) = machine.service(waiter.service.as_str()) else {
                unreachable!("only declared services are waited for");
            };
            let outcome = if waiter.wait {
                let time_is_up = waiter.deadline.is_some_and(|deadline| deadline <= now);
                let outcome = outcome(&view, waiter.goal, time_is_up);
                waiter.settled_at = match outcome {
                    Some(CommandOutcome::Done) if waiter.goal != Goal::Down => settles_at(&view, &self.stack),
                    Some(_) | None => None,
                };
                outcome.filter(|_| time_is_up || waiter.settled_at.is_none_or(|at| at <= now))
            } else {
                Some(CommandOutcome::Accepted)
            };
            if let Some(outcome) = outcome {
                let waiter = self.waiting.swap_remove(index);
                let message = message(&view, waiter.verb, outcome, now - waiter.begun);
                let status = service_status(&view, &self.stack, &WallClock::at(now));
                // Whoever asked may have gone.
                let _ = waiter.reply.send(Ok(CommandReply::new(outcome, message, vec![status])));
            } else {
                index += 1;
            }
        }
    }
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

fn outcome(view: &ServiceView<'_>, goal: Goal, time_is_up: bool) -> Option<CommandOutcome> {
    let reached = match (goal, view.state) {
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

fn message(view: &ServiceView<'_>, verb: Verb, outcome: CommandOutcome, took: Duration) -> String {
    let (name, state, reason) = (view.name, view.state, &view.reason);
    match outcome {
        CommandOutcome::Done => format!("{name} is {state} after {}", format_duration(took)),
        CommandOutcome::Failed => format!("{name} is {state}: {reason}"),
        CommandOutcome::TimedOut => {
            format!("{name} is still {state} after {}: {reason}", format_duration(took))
        }
        CommandOutcome::Accepted => format!("{verb} of {name} requested; it is {state}"),
    }
}
