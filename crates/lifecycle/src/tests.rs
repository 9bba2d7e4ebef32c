//! A bench for the machine: builds small stacks, plays events at given times, and says what came out in one line.

mod applying;
mod exits;
mod gating;
mod giving_up;
mod hooks;
mod keeping;
mod ladder;
mod probes;
mod properties;
mod reloads;
mod scale;
mod stops;
mod told;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mainstay_config::{
    Backoff, Check, Condition, Fsync, Gate, GiveUp, Hook, Hooks, Kind, Limits, LogPolicy, Need, Probe,
    ReloadPolicy, RestartPolicy, RestartWhen, Rotation, Service, Stack, StopAction, StopPolicy, StopStep,
    WhenBlocked,
};
use mainstay_types::{
    CommandLine, Exit, HostPort, LaunchFailure, LaunchStep, Moment, Notification, ProbeAction, ProbeFailure,
    ProbeKind, ProbeOutcome, ServiceName, SpawnId, StackName, State, StopSignal, format_duration,
};

use crate::{Command, Effect, Event, GateCheckId, Reason, Record, StackMachine, TaskId};

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn name(text: &str) -> ServiceName {
    ServiceName::parse(text).unwrap()
}

pub(crate) fn tcp() -> ProbeAction {
    ProbeAction::Tcp(HostPort { host: "127.0.0.1".into(), port: 1 })
}

/// A long-running service that restarts at once, for ever, and has 1 s of grace.
pub(crate) fn service(text: &str) -> Service {
    Service {
        name: name(text),
        line: 1,
        description: None,
        kind: Kind::LongRunning,
        command: CommandLine { program: "/bin/true".into(), args: vec![] },
        workdir: "/".into(),
        env: BTreeMap::new(),
        inherit_env: false,
        env_files: vec![],
        user: None,
        group: None,
        replicas: 1,
        autostart: true,
        needs: vec![],
        startup: None,
        readiness: None,
        liveness: None,
        restart: RestartPolicy {
            when: RestartWhen::Always,
            backoff: Backoff {
                first: Duration::ZERO,
                factor: 2.0,
                max: Duration::from_secs(30),
                jitter: 0.0,
                reset_after: Duration::from_secs(60),
            },
            give_up: None,
        },
        stop: StopPolicy::signal(StopSignal::Term, Duration::from_secs(1)),
        log: LogPolicy {
            rotate: Rotation {
                size_bytes: 1 << 20,
                age: None,
                keep: 1,
                keep_age: None,
                keep_total_bytes: 1 << 30,
                compress: false,
            },
            max_line_bytes: 1 << 16,
            when_blocked: WhenBlocked::Wait,
            fsync: Fsync::Never,
            redact: Vec::new(),
        },
        limits: Limits::default(),
        reload: ReloadPolicy::Rolling,
        hooks: Hooks::default(),
        listen: Vec::new(),
    }
}

pub(crate) fn oneshot(text: &str) -> Service {
    let mut it = service(text);
    it.kind = Kind::Oneshot;
    it.restart.when = RestartWhen::OnFailure;
    it
}

pub(crate) fn needs(mut it: Service, other: &str, is: Condition) -> Service {
    it.needs.push(Need::new(Gate::Service { service: name(other), is }, None));
    it
}

pub(crate) fn needs_outside(mut it: Service, within: Option<Duration>) -> Service {
    it.needs.push(Need::new(Gate::Outside(tcp()), within));
    it
}

pub(crate) fn backoff(mut it: Service, first: u64, give_up: Option<(u32, u64)>) -> Service {
    it.restart.backoff.first = ms(first);
    it.restart.give_up =
        give_up.map(|(failures, within)| GiveUp { failures, within: ms(within), retry_after: None });
    it
}

pub(crate) fn probe(period: u64, failures: u32) -> Box<Probe> {
    Box::new(Probe {
        check: Check::Ask(tcp()),
        initial_delay: Duration::ZERO,
        period: ms(period),
        timeout: ms(1000),
        success_threshold: 1,
        failure_threshold: failures,
    })
}

pub(crate) fn stack(services: Vec<Service>) -> Stack {
    let name = StackName::parse("test").unwrap();
    Stack {
        name,
        file: "/x".into(),
        dir: "/".into(),
        stop_budget: None,
        log_max_total_bytes: 1 << 30,
        services,
        forwards: vec![],
    }
}

pub(crate) fn command(text: &str) -> CommandLine {
    CommandLine { program: text.into(), args: vec![] }
}

/// A hook with this program, and this many milliseconds.
pub(crate) fn hook(text: &str, timeout: u64) -> Option<Hook> {
    Some(Hook { command: command(text), timeout: ms(timeout) })
}

/// A stop of these steps, each with its wait in milliseconds: a signal or a command.
pub(crate) fn ladder(mut it: Service, grace: u64, steps: &[(&str, Option<u64>)]) -> Service {
    let step = |(action, wait): &(&str, Option<u64>)| StopStep {
        action: StopSignal::ALL
            .into_iter()
            .find(|signal| signal.to_string() == *action)
            .map_or_else(|| StopAction::Command(command(action)), StopAction::Signal),
        wait: wait.map(ms),
    };
    it.stop = StopPolicy { steps: steps.iter().map(step).collect(), grace: ms(grace) };
    it
}

pub(crate) struct Bench {
    pub(crate) machine: StackMachine,
    pub(crate) now: u64,
    pub(crate) last: Vec<Effect>,
}

impl Bench {
    pub(crate) fn new(services: Vec<Service>) -> Self {
        Self::with_budget(services, None)
    }

    pub(crate) fn with_budget(services: Vec<Service>, stop_budget: Option<Duration>) -> Self {
        let stack = Stack { stop_budget, ..stack(services) };
        Self { machine: StackMachine::new(Arc::new(stack), 7), now: 0, last: vec![] }
    }

    pub(crate) fn started(services: Vec<Service>) -> Self {
        let mut bench = Self::new(services);
        bench.command(Command::StartStack);
        bench
    }

    /// What the event led to, save for records: `launch web#1`, `signal #1 SIGTERM`, `kill #1`, `probe #1 readiness`,
    /// `check web/0 @1`.
    pub(crate) fn event(&mut self, event: Event) -> Vec<String> {
        self.last = self.machine.handle(event, Moment::after_start(ms(self.now)));
        self.machine.assert_consistent();
        self.last.iter().filter_map(words).collect()
    }

    pub(crate) fn command(&mut self, command: Command) -> Vec<String> {
        self.event(Event::Command(command))
    }

    pub(crate) fn apply(&mut self, services: Vec<Service>) -> Vec<String> {
        self.event(Event::Apply(Arc::new(stack(services))))
    }

    pub(crate) fn says(&mut self, spawn: u64, what: Notification) -> Vec<String> {
        self.event(Event::Notified { spawn: SpawnId(spawn), what })
    }

    /// The spawns of a service's replicas, 0 for none.
    pub(crate) fn spawns(&self, service: &str) -> Vec<u64> {
        let view = self.machine.service(service).unwrap();
        view.replicas.iter().map(|replica| replica.spawn.map_or(0, |spawn| spawn.0)).collect()
    }

    pub(crate) fn launched(&mut self, spawn: u64) -> Vec<String> {
        self.event(Event::Launched { spawn: SpawnId(spawn), pid: 1000 + u32::try_from(spawn).unwrap() })
    }

    pub(crate) fn exited(&mut self, spawn: u64, code: i32) -> Vec<String> {
        self.exited_leaving(spawn, code, 0)
    }

    pub(crate) fn exited_leaving(&mut self, spawn: u64, code: i32, leftovers: u32) -> Vec<String> {
        self.event(Event::Exited { spawn: SpawnId(spawn), exit: Exit::Code(code), leftovers })
    }

    pub(crate) fn tree_ended(&mut self, spawn: u64) -> Vec<String> {
        self.event(Event::TreeEnded { spawn: SpawnId(spawn) })
    }

    pub(crate) fn probe(&mut self, spawn: u64, kind: ProbeKind, passes: bool) -> Vec<String> {
        self.event(Event::ProbeAnswered { spawn: SpawnId(spawn), kind, outcome: outcome(passes) })
    }

    pub(crate) fn gate(&mut self, check: u64, passes: bool) -> Vec<String> {
        self.event(Event::GateAnswered { check: GateCheckId(check), outcome: outcome(passes) })
    }

    pub(crate) fn run_ended(&mut self, task: u64, passes: bool) -> Vec<String> {
        let outcome = if passes {
            ProbeOutcome::Passed("exit code 0".into())
        } else {
            ProbeOutcome::Failed(ProbeFailure::Exit { exit: Exit::Code(7), last_line: "no".into() })
        };
        self.event(Event::RunEnded { task: TaskId(task), outcome })
    }

    /// The runs the last event told of, `web before_stop 500ms: exit code 0`.
    pub(crate) fn runs(&self) -> Vec<String> {
        let told = |effect: &Effect| {
            let Effect::Record(Record::Run { replica, purpose, outcome, took }) = effect else { return None };
            Some(format!("{replica} {} {}: {outcome}", purpose.as_str(), format_duration(*took)))
        };
        self.last.iter().filter_map(told).collect()
    }

    /// The facts of the one run the last event began, `MAINSTAY_HOOK=stop` each.
    pub(crate) fn facts(&self) -> Vec<String> {
        let facts = |effect: &Effect| {
            let Effect::Run { facts, .. } = effect else { return None };
            Some(facts.iter().map(|(name, value)| format!("{name}={value}")).collect())
        };
        self.last.iter().find_map(facts).unwrap()
    }

    /// The timeout of the one run the last event began, in milliseconds.
    pub(crate) fn timeout(&self) -> u128 {
        let timeout = |effect: &Effect| {
            let Effect::Run { timeout, .. } = effect else { return None };
            Some(timeout.as_millis())
        };
        self.last.iter().find_map(timeout).unwrap()
    }

    /// Lets time pass up to `until`, with a tick at every deadline on the way.
    pub(crate) fn until(&mut self, until: u64) -> Vec<String> {
        let mut all = vec![];
        let limit = Moment::after_start(ms(until));
        for _ in 0..100_000 {
            let Some((moment, _)) = self.machine.next_deadline().filter(|(moment, _)| *moment <= limit)
            else {
                self.now = until;
                return all;
            };
            let effects = self.machine.handle(Event::Tick, moment);
            self.machine.assert_consistent();
            self.now = u64::try_from(moment.since_start().as_millis()).unwrap();
            all.extend(effects.iter().filter_map(words));
            self.last = effects;
        }
        panic!("the machine asks for ticks without end");
    }

    pub(crate) fn state(&self, service: &str) -> State {
        self.machine.service(service).unwrap().state
    }

    pub(crate) fn reason(&self, service: &str) -> Reason {
        self.machine.service(service).unwrap().reason
    }

    /// The state records of the last event, `web: ready -> stopping (stop requested)`.
    pub(crate) fn records(&self) -> Vec<String> {
        self.last
            .iter()
            .filter_map(|effect| match effect {
                Effect::Record(Record::State { replica, from, to, reason }) => {
                    Some(format!("{replica}: {from} -> {to} ({reason})"))
                }
                Effect::Record(
                    Record::Spawned { .. }
                    | Record::Exited { .. }
                    | Record::Probe { .. }
                    | Record::Gate { .. }
                    | Record::Run { .. }
                    | Record::GaveUp { .. }
                    | Record::Reloaded { .. }
                    | Record::Applied { .. }
                    | Record::Command { .. },
                )
                | Effect::SignalMain { .. }
                | Effect::Run { .. }
                | Effect::EndRun { .. }
                | Effect::Launch { .. }
                | Effect::Signal { .. }
                | Effect::Kill { .. }
                | Effect::Probe { .. }
                | Effect::CheckGate { .. } => None,
            })
            .collect()
    }
}

pub(crate) fn outcome(passes: bool) -> ProbeOutcome {
    if passes {
        ProbeOutcome::Passed("connected".into())
    } else {
        ProbeOutcome::Failed(ProbeFailure::Refused(HostPort { host: "127.0.0.1".into(), port: 1 }))
    }
}

pub(crate) fn failure() -> LaunchFailure {
    LaunchFailure { step: LaunchStep::Exec, path: None, errno: 2, message: "No such file".into(), hint: None }
}

fn words(effect: &Effect) -> Option<String> {
    match effect {
        Effect::Launch { replica, spawn } => Some(format!("launch {replica}#{spawn}")),
        Effect::Signal { spawn, signal } => Some(format!("signal #{spawn} {signal}")),
        Effect::Kill { spawn } => Some(format!("kill #{spawn}")),
        Effect::Probe { spawn, kind, .. } => Some(format!("probe #{spawn} {kind}")),
        Effect::CheckGate { service, need, check } => Some(format!("check {service}/{need} @{}", check.0)),
        Effect::SignalMain { spawn, signal } => Some(format!("signal main #{spawn} {signal}")),
        Effect::Run { task, replica, purpose, command, .. } => {
            Some(format!("run {} {replica} {command} ~{}", purpose.as_str(), task.0))
        }
        Effect::EndRun { task } => Some(format!("end run ~{}", task.0)),
        Effect::Record(_) => None,
    }
}

pub(crate) const NOTHING: [&str; 0] = [];
