//! Machines that break one rule each: every check of the model must be able to fail.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each fault concerns one place, all others leave it as it is"
)]

use std::sync::Arc;
use std::time::Duration;

use mainstay_config::{Check, Condition, Gate, Lose, Probe, Stack, StackDiff};
use mainstay_lifecycle::{
    Command, Effect, Event, GateCheckId, Purpose, Reason, Record, StackMachine, TaskId,
};
use mainstay_types::{Moment, Notification, ProbeAction, ProbeKind, ReplicaId, SpawnId, State, StopSignal};

use super::super::{Options, Subject, run_with};

/// What is wrong with a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    // It works from another file than the model.
    NoLimit,
    LowerLimit,
    NoServiceGates,
    NoOutsideGates,
    GatesNeverHold,
    OneReplicaMore,
    LongerGrace,
    NoBackoff,
    PatientLiveness,
    PatientStartup,
    EagerReadiness,
    AsksWhatIsTold,
    WaitsForNoWord,
    HastyStartup,
    HastyWatchdog,
    StartsAll,
    NoRetry,
    NoBeforeStart,
    NoAfterReady,
    NoAfterExit,
    HastySteps,
    IgnoresLoss,
    // It does not listen.
    NoMoreTime,
    // It does something else than it decided.
    OtherSignal,
    OtherReloadSignal,
    OtherCommand,
    NoTime,
    DropEndRun,
    EndRunTwice,
    BeforeStopTwice,
    StopCommandTwice,
    StepAfterKill,
    LateAfterExit,
    LaunchBeforeClosed,
    AppliedAtOnce,
    RollTwo,
    DropLaunch,
    DoubleLaunch,
    ReuseSpawn,
    LaunchAfterEnd,
    LaunchUnwanted,
    LaunchInBackoff,
    DropSignal,
    DropKill,
    SignalBeforeLaunch,
    KillGone,
    ProbeStopping,
    ProbeTwice,
    StartupAgain,
    CheckUnwanted,
    CheckService,
    StopOutOfOrder,
    IgnoreStop,
    ActWhenSettled,
    // It tells something else than is so.
    DropTold,
    BlamesChange,
    BlamesRoll,
    OtherNames,
    BreakChain,
    WrongPhase,
    StoppedTooEarly,
    DeadlineInThePast,
    OverTooEarly,
    NeverOver,
    AlwaysSettled,
    NeverSettled,
    OtherStates,
}

pub(crate) const FAULTS: [(Fault, &str); 69] = [
    (Fault::NoLimit, "restarts never exceed the limit"),
    (Fault::LowerLimit, "it gives up only at the limit"),
    (Fault::NoServiceGates, "no start before its gates hold"),
    (Fault::NoOutsideGates, "no start before its gates hold"),
    (Fault::GatesNeverHold, "what may start is started"),
    (Fault::OneReplicaMore, "never more live replicas than wanted"),
    (Fault::LongerGrace, "every stop ends within its budget"),
    (Fault::NoBackoff, "a wait keeps to its bounds"),
    (Fault::PatientLiveness, "a lost liveness ends the program"),
    (Fault::PatientStartup, "a startup ends in time"),
    (Fault::EagerReadiness, "a state is what was observed"),
    (Fault::AsksWhatIsTold, "what a program says itself is never asked"),
    (Fault::WaitsForNoWord, "nothing is ready before it says so"),
    (Fault::HastyStartup, "a start has its whole time to say so"),
    (Fault::NoMoreTime, "a start has its whole time to say so"),
    (Fault::PatientStartup, "a start that says nothing ends in time"),
    (Fault::HastyWatchdog, "a watchdog that is fed is quiet"),
    (Fault::PatientLiveness, "a starved watchdog ends its program"),
    (Fault::StartsAll, "only what is wanted is launched"),
    (Fault::DropLaunch, "a state is what was observed"),
    (Fault::DoubleLaunch, "never more live replicas than wanted"),
    (Fault::ReuseSpawn, "ids are unique"),
    (Fault::LaunchAfterEnd, "nothing is launched after the stop of the stack"),
    (Fault::LaunchUnwanted, "only what is wanted is launched"),
    (Fault::LaunchInBackoff, "no restart before its wait is over"),
    (Fault::DropSignal, "a state is what was observed"),
    (Fault::DropKill, "every stop ends within its budget"),
    (Fault::SignalBeforeLaunch, "a signal goes to a program that runs"),
    (Fault::KillGone, "effects go to trees that are there"),
    (Fault::ProbeStopping, "only what runs is probed"),
    (Fault::ProbeTwice, "one check of a probe is in flight"),
    (Fault::StartupAgain, "startup comes first, and never again"),
    (Fault::CheckUnwanted, "only what is wanted is prepared"),
    (Fault::CheckService, "only outside gates are asked"),
    (Fault::StopOutOfOrder, "the stop order is the reverse of dependency"),
    (Fault::IgnoreStop, "what is to stop is asked in its turn"),
    (Fault::ActWhenSettled, "settled means that nothing happens without a command"),
    (Fault::BreakChain, "states chain"),
    (Fault::WrongPhase, "phases follow the contract"),
    (Fault::StoppedTooEarly, "nothing runs after the end of a stop"),
    (Fault::DeadlineInThePast, "after a tick the next deadline lies in the future"),
    (Fault::OverTooEarly, "over is told truthfully"),
    (Fault::NeverOver, "over is told truthfully"),
    (Fault::AlwaysSettled, "settled is told truthfully"),
    (Fault::NeverSettled, "settled is told truthfully"),
    (Fault::NoRetry, "a service that gave up is tried again in time"),
    (Fault::NoBeforeStart, "before_start is done before each launch"),
    (Fault::NoAfterReady, "after_ready runs once, when it is ready"),
    (Fault::NoAfterExit, "after_exit runs once, when the tree is gone"),
    (Fault::HastySteps, "a step has its time"),
    (Fault::IgnoresLoss, "a lost gate stops its service"),
    (Fault::OtherSignal, "steps of a stop come in their order"),
    (Fault::OtherReloadSignal, "a reload asks what runs, as the file says"),
    (Fault::OtherCommand, "what runs is what the file says"),
    (Fault::NoTime, "a command has time"),
    (Fault::DropEndRun, "a run ends with what it is for"),
    (Fault::EndRunTwice, "only what runs is ended, once"),
    (Fault::BeforeStopTwice, "before_stop comes before every step"),
    (Fault::StopCommandTwice, "one command of a stop runs at a time"),
    (Fault::StepAfterKill, "no step follows the kill"),
    (Fault::LateAfterExit, "no after_exit out of time"),
    (Fault::LaunchBeforeClosed, "after_exit comes before everything else"),
    (Fault::AppliedAtOnce, "a change counts when what it takes away has ended"),
    (Fault::RollTwo, "a rolling restart takes one replica at a time"),
    (Fault::DropTold, "each run is told once, when it has ended"),
    (Fault::BlamesChange, "a change leaves alone what it does not change"),
    (Fault::BlamesRoll, "nothing rolls without a reload"),
    (Fault::OtherNames, "the services are those of the file"),
    (Fault::OtherStates, "the view is the last record"),
];

#[test]
fn every_broken_rule_is_noticed() {
    let mut missed = Vec::new();
    for (fault, rule) in FAULTS {
        // Another rule may notice first; within a few seeds its own must.
        let found: Vec<&str> = (0..12)
            .filter_map(|seed| {
                let options = Options { seed, events: 3000, trace: false };
                run_with(options, |stack, seed| Broken::new(fault, stack, seed)).err()
            })
            .map(|violation| violation.rule)
            .collect();
        if !found.contains(&rule) {
            missed.push(format!("{fault:?}: expected {rule:?}, found {found:?}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn every_rule_has_a_machine_that_breaks_it() {
    // In the model's text a rule is the first literal after the macro's name.
    let source = [
        include_str!("../model.rs"),
        include_str!("../model/standing.rs"),
        include_str!("../model/launch.rs"),
        include_str!("../model/runs.rs"),
        include_str!("../model/change.rs"),
        include_str!("../model/told.rs"),
    ]
    .concat();
    let rules = source.split("rule!(").skip(1).filter_map(|call| {
        let literal = call.split('"').nth(1)?;
        (!literal.is_empty()).then_some(literal)
    });
    for rule in rules {
        // This one is about the simulation's own world.
        let exempt = rule == "each check is answered once";
        assert!(exempt || FAULTS.iter().any(|(_, broken)| *broken == rule), "nothing breaks {rule:?}");
    }
}

/// The machine with one fault.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    fault: Fault,
    machine: StackMachine,
    stack: Arc<Stack>,
    next_stack: Option<Arc<Stack>>,
    now: Moment,
    ending: bool,
}

impl Broken {
    pub(crate) fn new(fault: Fault, stack: Arc<Stack>, seed: u64) -> Self {
        let machine = StackMachine::new(Arc::new(misread(fault, &stack)), seed);
        Self { fault, machine, stack, next_stack: None, now: Moment::START, ending: false }
    }

    fn replicas(&self) -> impl Iterator<Item = (ReplicaId, State)> {
        self.machine.services().flat_map(|service| {
            let name = service.name.clone();
            let ids = service.replicas.into_iter();
            ids.map(move |replica| (ReplicaId { service: name.clone(), index: replica.index }, replica.state))
        })
    }

    /// What else it does, after this effect.
    fn afterthoughts(&self, effect: &Effect) -> Vec<Effect> {
        let far = |spawn: &SpawnId| SpawnId(spawn.0 + 1_000_000);
        match (self.fault, effect) {
            (Fault::DoubleLaunch, Effect::Launch { replica, spawn }) => {
                vec![Effect::Launch { replica: replica.clone(), spawn: far(spawn) }]
            }
            (Fault::SignalBeforeLaunch, Effect::Launch { spawn, .. }) => {
                vec![Effect::Signal { spawn: *spawn, signal: StopSignal::Term }]
            }
            (Fault::ProbeTwice, Effect::Probe { .. }) => vec![effect.clone()],
            (Fault::ProbeStopping, Effect::Signal { spawn, .. }) => {
                let stopping = self.replicas().find(|(_, state)| *state == State::Stopping);
                let probe = |replica| Effect::Probe { replica, spawn: *spawn, kind: ProbeKind::Liveness };
                stopping.map(|(replica, _)| probe(replica)).into_iter().collect()
            }
            (Fault::LaunchInBackoff, Effect::Record(Record::State { replica, to: State::Backoff, .. })) => {
                let free = self.stack.service(replica.service.as_str()).is_some_and(|it| it.needs.is_empty());
                let launch = Effect::Launch { replica: replica.clone(), spawn: SpawnId(u64::MAX) };
                free.then_some(launch).into_iter().collect()
            }
            (Fault::WrongPhase, Effect::Record(Record::State { replica, to: State::Stopped, .. })) => {
                vec![state_record(replica, State::Stopped, State::Ready)]
            }
            (Fault::StoppedTooEarly, Effect::Record(Record::State { replica, to: State::Stopping, .. })) => {
                vec![state_record(replica, State::Stopping, State::Stopped)]
            }
            (
                Fault::EndRunTwice
                | Fault::BeforeStopTwice
                | Fault::StopCommandTwice
                | Fault::StepAfterKill
                | Fault::LaunchBeforeClosed
                | Fault::RollTwo,
                effect,
            ) => self.afterthoughts_about_runs(effect),
            _ => vec![],
        }
    }

    fn afterthoughts_about_runs(&self, effect: &Effect) -> Vec<Effect> {
        match (self.fault, effect) {
            (Fault::EndRunTwice, Effect::EndRun { .. }) => vec![effect.clone()],
            (Fault::BeforeStopTwice, Effect::Run { purpose: Purpose::BeforeStop, .. })
            | (Fault::StopCommandTwice, Effect::Run { purpose: Purpose::Stop, .. }) => {
                let mut again = effect.clone();
                if let Effect::Run { task, .. } = &mut again {
                    *task = TaskId(task.0 + 1_000_000);
                }
                vec![again]
            }
            (Fault::StepAfterKill, Effect::Kill { spawn }) => {
                vec![Effect::Signal { spawn: *spawn, signal: StopSignal::Term }]
            }
            (Fault::LaunchBeforeClosed, Effect::Run { replica, purpose: Purpose::AfterExit, .. }) => {
                let free = self.stack.service(replica.service.as_str()).is_some_and(|it| it.needs.is_empty());
                let launch = Effect::Launch { replica: replica.clone(), spawn: SpawnId(u64::MAX) };
                free.then_some(launch).into_iter().collect()
            }
            (
                Fault::RollTwo,
                Effect::Record(Record::State {
                    replica,
                    to: State::Stopping,
                    reason: Reason::RollingRestart,
                    ..
                }),
            ) => {
                let other = ReplicaId { service: replica.service.clone(), index: replica.index + 1 };
                let (from, to, reason) = (State::Ready, State::Stopping, Reason::RollingRestart);
                let ready = self.replicas().any(|(id, state)| id == other && state == from);
                let record = Effect::Record(Record::State { replica: other, from, to, reason });
                ready.then_some(record).into_iter().collect()
            }
            _ => vec![],
        }
    }

    /// What it does on this event on top of everything.
    fn inventions(&self, event: &Event, was_settled: bool) -> Vec<Effect> {
        let first = |name: &mainstay_types::ServiceName| ReplicaId { service: name.clone(), index: 0 };
        let check = GateCheckId(u64::MAX);
        match (self.fault, event) {
            (Fault::LaunchAfterEnd, Event::Command(Command::StopStack)) => {
                let replica = first(&self.stack.services[0].name);
                vec![Effect::Launch { replica, spawn: SpawnId(u64::MAX) }]
            }
            (Fault::LaunchUnwanted, Event::Command(Command::Stop(name))) if !self.ending => {
                vec![Effect::Launch { replica: first(name), spawn: SpawnId(u64::MAX) }]
            }
            (Fault::CheckUnwanted, Event::Command(Command::Stop(name))) => {
                let needs = self.stack.service(name.as_str()).map_or(&[][..], |it| &it.needs);
                let outside = needs.iter().position(|need| matches!(need.gate, Gate::Outside(_)));
                let ask = |need| Effect::CheckGate { service: name.clone(), need, check };
                outside.map(ask).into_iter().collect()
            }
            (Fault::KillGone, Event::Exited { spawn, leftovers: 0, .. }) => {
                vec![Effect::Kill { spawn: *spawn }]
            }
            (Fault::StopOutOfOrder, Event::Command(Command::StopStack)) => self
                .replicas()
                .filter(|(_, state)| *state == State::Ready)
                .map(|(replica, _)| state_record(&replica, State::Ready, State::Stopping))
                .collect(),
            (Fault::LateAfterExit, Event::Command(Command::KillStack)) => {
                let runs = self.stack.services.iter().filter_map(|service| {
                    let hook = service.hooks.after_exit.clone()?;
                    Some(Effect::Run {
                        task: TaskId(u64::MAX),
                        replica: first(&service.name),
                        purpose: Purpose::AfterExit,
                        command: hook.command,
                        timeout: hook.timeout,
                        facts: vec![],
                    })
                });
                runs.take(1).collect()
            }
            (Fault::AppliedAtOnce, Event::Apply(_)) if self.next_stack.is_some() => {
                vec![Effect::Record(Record::Applied { diff: StackDiff::default() })]
            }
            (Fault::ActWhenSettled, event) if was_settled && !matches!(event, Event::Command(_)) => {
                vec![Effect::Launch {
                    replica: first(&self.stack.services[0].name),
                    spawn: SpawnId(u64::MAX),
                }]
            }
            _ => vec![],
        }
    }

    fn keeps(&self, effect: &Effect) -> bool {
        !matches!(
            (self.fault, effect),
            (Fault::DropLaunch, Effect::Launch { .. })
                | (Fault::DropSignal, Effect::Signal { .. })
                | (Fault::DropKill, Effect::Kill { .. })
                | (Fault::DropEndRun, Effect::EndRun { .. })
                | (Fault::DropTold, Effect::Record(Record::Run { .. }))
        )
    }

    fn alter(&self, effect: &mut Effect) {
        match (self.fault, effect) {
            (Fault::ReuseSpawn, Effect::Launch { spawn, .. }) => *spawn = SpawnId(1),
            (Fault::CheckService, Effect::CheckGate { need, .. }) => *need = usize::MAX,
            (Fault::StartupAgain, Effect::Probe { replica, kind, .. }) => {
                let service = self.stack.service(replica.service.as_str());
                if service.is_some_and(|it| it.startup.is_some()) {
                    *kind = ProbeKind::Startup;
                }
            }
            (Fault::OtherSignal, Effect::Signal { signal, .. }) => *signal = StopSignal::Usr1,
            (Fault::OtherReloadSignal, Effect::SignalMain { signal, .. }) => *signal = StopSignal::Usr1,
            (Fault::OtherCommand, Effect::Run { command, .. }) => command.program.push('x'),
            (Fault::NoTime, Effect::Run { purpose: Purpose::Stop, timeout, .. }) => *timeout = Duration::ZERO,
            (Fault::BlamesChange, Effect::Record(Record::State { to: State::Stopping, reason, .. })) => {
                *reason = Reason::ConfigChanged;
            }
            (Fault::BlamesRoll, Effect::Record(Record::State { to: State::Stopping, reason, .. })) => {
                *reason = Reason::RollingRestart;
            }
            (Fault::BreakChain, Effect::Record(Record::State { from, to: State::Stopping, .. })) => {
                *from = State::Waiting;
            }
            _ => {}
        }
    }
}

impl Subject for Broken {
    fn handle(&mut self, event: Event, now: Moment) -> Vec<Effect> {
        self.now = now;
        self.ending |= matches!(event, Event::Command(Command::StopStack | Command::KillStack));
        if self.fault == Fault::IgnoreStop && matches!(event, Event::Command(Command::Stop(_))) {
            return vec![];
        }
        if self.fault == Fault::NoMoreTime
            && matches!(event, Event::Notified { what: Notification::ExtendTimeout(_), .. })
        {
            return vec![];
        }
        let was_settled = self.machine.is_settled();
        let misread_event = match &event {
            Event::Apply(stack) if !self.ending => {
                self.next_stack = Some(stack.clone());
                Event::Apply(Arc::new(misread(self.fault, stack)))
            }
            _ => event.clone(),
        };
        let effects = self.machine.handle(misread_event, now);
        let mut changed = Vec::new();
        for mut effect in effects {
            if matches!(effect, Effect::Record(Record::Applied { .. }))
                && let Some(stack) = self.next_stack.take()
            {
                self.stack = stack;
            }
            self.alter(&mut effect);
            let more = self.afterthoughts(&effect);
            if self.keeps(&effect) {
                changed.push(effect);
            }
            changed.extend(more);
        }
        changed.extend(self.inventions(&event, was_settled));
        changed
    }

    fn next_deadline(&self) -> Option<Moment> {
        if self.fault == Fault::DeadlineInThePast {
            return Some(self.now);
        }
        Subject::next_deadline(&self.machine)
    }

    fn is_over(&self) -> bool {
        match self.fault {
            Fault::OverTooEarly => self.ending,
            Fault::NeverOver => false,
            _ => self.machine.is_over(),
        }
    }

    fn is_settled(&self) -> bool {
        match self.fault {
            Fault::AlwaysSettled => true,
            Fault::NeverSettled => false,
            _ => self.machine.is_settled(),
        }
    }

    fn names(&self) -> Vec<String> {
        let mut names = Subject::names(&self.machine);
        if self.fault == Fault::OtherNames {
            names.pop();
        }
        names
    }

    fn states(&self, service: &str) -> Vec<State> {
        let mut states = Subject::states(&self.machine, service);
        match self.fault {
            Fault::OtherStates => states.fill(State::Ready),
            // The model looks at replicas that the file declares.
            Fault::OneReplicaMore => drop(states.pop()),
            _ => {}
        }
        states
    }
}

fn state_record(replica: &ReplicaId, from: State, to: State) -> Effect {
    Effect::Record(Record::State { replica: replica.clone(), from, to, reason: Reason::StopRequested })
}

fn is_told(probe: &Probe) -> bool {
    !matches!(probe.check, Check::Ask(_))
}

/// The stack as a machine with this fault understands it.
fn misread(fault: Fault, stack: &Stack) -> Stack {
    let mut stack = stack.clone();
    if fault == Fault::LongerGrace {
        stack.stop_budget = None;
    }
    for service in &mut stack.services {
        match fault {
            Fault::NoLimit => service.restart.give_up = None,
            Fault::LowerLimit => service.restart.give_up.iter_mut().for_each(|limit| limit.failures = 1),
            Fault::NoServiceGates => service.needs.retain(|need| matches!(need.gate, Gate::Outside(_))),
            Fault::NoOutsideGates => {
                service.needs.retain(|need| matches!(need.gate, Gate::Service { .. }));
            }
            Fault::GatesNeverHold => {
                for need in &mut service.needs {
                    need.within = None;
                    if let Gate::Service { is, .. } = &mut need.gate {
                        *is = Condition::Completed;
                    }
                }
            }
            Fault::OneReplicaMore => service.replicas += 1,
            Fault::LongerGrace => service.stop.grace += Duration::from_secs(600),
            Fault::NoRetry => service.restart.give_up.iter_mut().for_each(|limit| limit.retry_after = None),
            Fault::NoBeforeStart => service.hooks.before_start = None,
            Fault::NoAfterReady => service.hooks.after_ready = None,
            Fault::NoAfterExit => service.hooks.after_exit = None,
            Fault::HastySteps => {
                service.stop.steps.iter_mut().for_each(|step| step.wait = Some(Duration::ZERO));
            }
            Fault::IgnoresLoss => service.needs.iter_mut().for_each(|need| need.lose = Lose::Ignore),
            Fault::NoBackoff => service.restart.backoff.first = Duration::ZERO,
            Fault::PatientLiveness => {
                service.liveness.iter_mut().for_each(|probe| probe.failure_threshold *= 10);
            }
            Fault::PatientStartup => {
                service.startup.iter_mut().for_each(|probe| probe.failure_threshold *= 10);
            }
            Fault::EagerReadiness => {
                service.readiness.iter_mut().for_each(|probe| probe.success_threshold = 1);
            }
            Fault::AsksWhatIsTold => {
                let asked = ProbeAction::File("/up".into());
                for probe in [&mut service.startup, &mut service.readiness, &mut service.liveness] {
                    probe.iter_mut().for_each(|probe| probe.check = Check::Ask(asked.clone()));
                }
            }
            Fault::WaitsForNoWord => drop(service.readiness.take_if(|it| is_told(it))),
            Fault::HastyStartup => {
                let told = service.startup.iter_mut().filter(|it| is_told(it));
                told.for_each(|probe| probe.period /= 8);
            }
            Fault::HastyWatchdog => {
                let told = service.liveness.iter_mut().filter(|it| is_told(it));
                told.for_each(|probe| probe.period /= 8);
            }
            Fault::StartsAll => service.autostart = true,
            _ => {}
        }
    }
    stack
}
