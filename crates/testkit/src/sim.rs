//! The simulation of the lifecycle: random stacks, commands, programs and answers in virtual time, with a reference
//! model that checks every rule after every event. The same seed replays exactly.
//!
//! A run is a row of episodes; each has a stack of its own, lives for some hundred events, and is stopped or killed.
//! What is wrong is a [`Violation`]: the rule, the seed, the number of the event and the last events before it.
//!
//! ```text
//!  stacks.rs ──► stack          world (here): fake processes, answers, commands ──► event
//!                  │                  ▲                                              │
//!                  ▼                  └──────────────── effects ◄── StackMachine ◄───┤
//!              model.rs ◄─────────────────────────────────┴──────────────────────────┘
//! ```

pub(crate) mod model;
mod stacks;
#[cfg(test)]
pub(crate) mod tests;
mod words;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use mainstay_config::{Check, Service, Stack};
use mainstay_lifecycle::{Command, Effect, Event, Record, StackMachine, TaskId};
use mainstay_os::fake::{Behaviour, FakeProcesses, Random};
use mainstay_os::{Launch, ProcessEvent, ProcessTrees};
use mainstay_types::{
    HostPort, Moment, Notification, ProbeFailure, ProbeKind, ProbeOutcome, ReplicaId, ServiceName, SpawnId,
    State,
};

use model::Model;

/// How many events a violation shows.
const SHOWN: usize = 50;
/// A tick comes at most this long after its deadline, as on a busy host.
const LATEST_TICK: Duration = Duration::from_millis(20);

/// What to simulate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// The run ends with the episode that reaches this number of events.
    pub events: u64,
    /// Prints every event and effect to standard output.
    pub trace: bool,
}

/// What was simulated: enough to see that a run was not empty.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Summary {
    /// Events that were handled.
    pub events: u64,
    /// Stacks that were run from start to end.
    pub episodes: u64,
    /// Programs that were launched.
    pub launches: u64,
    /// Programs that were asked to stop.
    pub signals: u64,
    /// Trees that were killed.
    pub kills: u64,
    /// Probes that were asked.
    pub probes: u64,
    /// Outside gates that were asked.
    pub gate_checks: u64,
    /// Commands around services that were run.
    pub runs: u64,
    /// Changed files that came to count.
    pub changes: u64,
    /// Replicas that were reloaded.
    pub reloads: u64,
    /// Facts that programs told about themselves, in time or not.
    pub words: u64,
    /// Services that were given up.
    pub failures: u64,
    /// Trees that outlived their kill.
    pub left_behind: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} events in {} episodes: {} launches, {} signals, {} kills, {} probes, {} gate checks, {} commands, {} changes, {} reloads, {} words, {} failures, {} left behind",
            self.events,
            self.episodes,
            self.launches,
            self.signals,
            self.kills,
            self.probes,
            self.gate_checks,
            self.runs,
            self.changes,
            self.reloads,
            self.words,
            self.failures,
            self.left_behind
        )
    }
}

/// A broken rule.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{rule}: {what}\nseed {seed}, event {event}; the last events:\n{}", .last.join("\n"))]
pub struct Violation {
    /// The rule, in a few words; each stands in `model.rs` once.
    pub rule: &'static str,
    /// What broke it.
    pub what: String,
    /// Of the run: replays it.
    pub seed: u64,
    /// Number of the event, from 1.
    pub event: u64,
    /// The last events and their effects, oldest first.
    pub last: Vec<String>,
}

/// Runs a simulation.
///
/// # Errors
/// The first rule that is broken.
pub fn run(options: Options) -> Result<Summary, Violation> {
    run_with(options, StackMachine::new)
}

/// What is simulated: the machine, or in tests one that is broken on purpose.
pub(crate) trait Subject {
    fn handle(&mut self, event: Event, now: Moment) -> Vec<Effect>;
    fn next_deadline(&self) -> Option<Moment>;
    fn is_over(&self) -> bool;
    fn is_settled(&self) -> bool;
    /// The names of all services.
    fn names(&self) -> Vec<String>;
    /// The states of a service's replicas, by index.
    fn states(&self, service: &str) -> Vec<State>;
}

impl Subject for StackMachine {
    fn handle(&mut self, event: Event, now: Moment) -> Vec<Effect> {
        self.handle(event, now)
    }

    fn next_deadline(&self) -> Option<Moment> {
        self.next_deadline().map(|(moment, _)| moment)
    }

    fn is_over(&self) -> bool {
        self.is_over()
    }

    fn is_settled(&self) -> bool {
        self.is_settled()
    }

    fn names(&self) -> Vec<String> {
        self.services().map(|view| view.name.to_string()).collect()
    }

    fn states(&self, service: &str) -> Vec<State> {
        self.service(service)
            .map(|view| view.replicas.iter().map(|replica| replica.state).collect())
            .unwrap_or_default()
    }
}

pub(crate) fn run_with<S: Subject>(
    options: Options,
    subject: impl Fn(Arc<Stack>, u64) -> S,
) -> Result<Summary, Violation> {
    let mut random = Random::new(options.seed);
    let mut summary = Summary::default();
    while summary.events < options.events {
        let stack = Arc::new(stacks::random(&mut random));
        let machine = subject(stack.clone(), random.next_u64());
        let mut episode = Episode::new(options, stack, machine, random.next_u64());
        episode.summary = summary;
        episode.run()?;
        summary = episode.summary;
        summary.episodes += 1;
    }
    Ok(summary)
}

/// One stack from its start to its end.
struct Episode<S> {
    options: Options,
    stack: Arc<Stack>,
    /// The file that was applied last and does not count yet.
    next_stack: Option<Arc<Stack>>,
    machine: S,
    model: Model,
    random: Random,
    processes: FakeProcesses,
    /// Answers under way, by the time they come and then by the order of the questions.
    answers: BTreeMap<(Moment, u64), Event>,
    questions: u64,
    /// Where in `answers` the end of each command stands.
    runs: BTreeMap<TaskId, (Moment, u64)>,
    /// Whether a gate is open: it opens and shuts now and then.
    gates: BTreeMap<(ServiceName, usize), bool>,
    /// How well a program answers its probes: passes so many times in eight.
    healths: BTreeMap<SpawnId, u64>,
    /// Programs that feed their watchdog, each time within this time.
    feeders: BTreeMap<SpawnId, Duration>,
    now: Moment,
    next_command: Moment,
    /// How late the next tick comes.
    lateness: Duration,
    /// Events until the stack is stopped.
    left: u64,
    ending: bool,
    summary: Summary,
    last: VecDeque<String>,
}

impl<S: Subject> Episode<S> {
    fn new(options: Options, stack: Arc<Stack>, machine: S, seed: u64) -> Self {
        let mut random = Random::new(seed);
        Self {
            options,
            model: Model::new(stack.clone(), LATEST_TICK),
            stack,
            next_stack: None,
            machine,
            processes: FakeProcesses::new(random.next_u64()),
            answers: BTreeMap::new(),
            questions: 0,
            runs: BTreeMap::new(),
            gates: BTreeMap::new(),
            healths: BTreeMap::new(),
            feeders: BTreeMap::new(),
            now: Moment::START,
            next_command: Moment::START,
            lateness: Duration::ZERO,
            left: 50 + random.below(600),
            ending: false,
            summary: Summary::default(),
            last: VecDeque::new(),
            random,
        }
    }

    fn run(&mut self) -> Result<(), Violation> {
        self.step(Event::Command(Command::StartStack))?;
        // Bounded: the model's rules about the end of a stop and about ticks make every episode end.
        while !self.machine.is_over() {
            let event = self.next_event();
            self.step(event)?;
        }
        // Commands of people who do not know yet, and news of trees that outlived their kill.
        for _ in 0..20 {
            let event = self.next_event();
            self.step(event)?;
        }
        Ok(())
    }

    /// The next thing that happens. Things due at one moment come in any order.
    fn next_event(&mut self) -> Event {
        loop {
            if let Some(event) = self.poll_processes() {
                return event;
            }
            let tick = self.machine.next_deadline().map(|moment| (moment + self.lateness).max(self.now));
            let answer = self.answers.keys().next().map(|(moment, _)| *moment);
            let process = self.processes.next_event_at();
            let sources = [Some(self.next_command), tick, answer, process];
            let soonest = sources.iter().flatten().min().copied().unwrap_or(self.now);
            let due: Vec<usize> = (0..sources.len())
                .filter(|source| sources[*source].is_some_and(|moment| moment <= soonest))
                .collect();
            self.now = self.now.max(soonest);
            match due[self.random.below(due.len() as u64) as usize] {
                0 if self.random.one_in(8) && !self.ending => {
                    let now = self.next_stack.as_ref().unwrap_or(&self.stack);
                    let next = Arc::new(stacks::changed(&mut self.random, now));
                    self.next_command =
                        self.now + self.random.duration(Duration::ZERO, Duration::from_secs(20));
                    self.next_stack = Some(next.clone());
                    return Event::Apply(next);
                }
                0 => return Event::Command(self.random_command()),
                1 => {
                    let late = self.random.one_in(4);
                    self.lateness =
                        if late { self.random.duration(Duration::ZERO, LATEST_TICK) } else { Duration::ZERO };
                    return Event::Tick;
                }
                2 => {
                    if let Some((_, event)) = self.answers.pop_first() {
                        if let Event::Notified { spawn, what: Notification::Watchdog } = event {
                            self.feed(spawn);
                        }
                        return event;
                    }
                }
                _ => self.processes.advance(self.now),
            }
        }
    }

    fn poll_processes(&mut self) -> Option<Event> {
        self.processes.advance(self.now);
        match self.processes.poll_event(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => None,
            Poll::Ready(event) => Some(match event {
                ProcessEvent::Launched { spawn, pid, output: () } => {
                    self.feed(spawn);
                    Event::Launched { spawn, pid }
                }
                ProcessEvent::LaunchFailed { spawn, failure } => Event::LaunchFailed { spawn, failure },
                ProcessEvent::Exited { spawn, exit, leftovers } => {
                    self.feeders.remove(&spawn);
                    Event::Exited { spawn, exit, leftovers }
                }
                ProcessEvent::TreeEnded { spawn } => Event::TreeEnded { spawn },
            }),
        }
    }

    fn random_command(&mut self) -> Command {
        let pause = match self.random.below(10) {
            0..2 => Duration::ZERO,
            2..7 => Duration::from_secs(5),
            _ => Duration::from_secs(90),
        };
        self.next_command = self.now + self.random.duration(Duration::ZERO, pause);
        let services = &self.stack.services;
        let name = services[self.random.below(services.len() as u64) as usize].name.clone();
        if self.left == 0 && !self.ending {
            self.ending = true;
            return if self.random.one_in(5) { Command::KillStack } else { Command::StopStack };
        }
        match self.random.below(12) {
            0 if self.random.one_in(4) => Command::StartStack,
            0 => Command::Reload(name),
            1..6 => Command::Start(name),
            6..8 => Command::Stop(name),
            8..11 => Command::Restart(name),
            _ if !self.ending => Command::Start(name),
            _ if self.random.one_in(2) => Command::KillStack,
            _ => Command::StopStack,
        }
    }

    fn step(&mut self, event: Event) -> Result<(), Violation> {
        self.summary.events += 1;
        self.left = self.left.saturating_sub(1);
        self.say(|now| format!("{now:?} {event:?}"));
        let tick = event == Event::Tick;
        let is_word =
            matches!(event, Event::Notified { .. } | Event::MainChanged { .. } | Event::LogMatched { .. });
        self.summary.words += u64::from(is_word);
        let before = self.model.take_event(&event, self.now);
        let effects = self.machine.handle(event, self.now);
        for effect in &effects {
            self.say(|_| format!("        {effect:?}"));
        }
        before.map_err(|broken| self.violation(broken))?;
        for effect in effects {
            self.model.take_effect(&effect, self.now).map_err(|broken| self.violation(broken))?;
            self.perform(effect);
        }
        self.model
            .check(&self.machine, &|replica| self.processes.live(replica), tick, self.now)
            .map_err(|broken| self.violation(broken))
    }

    fn say(&mut self, line: impl FnOnce(Duration) -> String) {
        let line = line(self.now.since_start());
        if self.options.trace {
            println!("{line}");
        }
        if self.last.len() == SHOWN * 4 {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    fn violation(&self, (rule, what): (&'static str, String)) -> Violation {
        // The last events, each with its effects, which are indented.
        let events = self.last.iter().enumerate().rev().filter(|(_, line)| !line.starts_with(' '));
        let from = events.take(SHOWN).last().map_or(0, |(place, _)| place);
        Violation {
            rule,
            what,
            seed: self.options.seed,
            event: self.summary.events,
            last: self.last.iter().skip(from).cloned().collect(),
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Launch { replica, spawn } => {
                self.summary.launches += 1;
                self.launch(&replica, spawn);
            }
            Effect::Signal { spawn, signal } => {
                self.summary.signals += 1;
                self.processes.signal(spawn, signal);
            }
            Effect::Kill { spawn } => {
                self.summary.kills += 1;
                self.processes.kill(spawn);
            }
            Effect::Probe { replica, spawn, kind } => {
                self.summary.probes += 1;
                self.ask_probe(&replica, spawn, kind);
            }
            Effect::CheckGate { service, need, check } => {
                self.summary.gate_checks += 1;
                let open = self.gates.entry((service, need)).or_insert(false);
                *open ^= self.random.one_in(4);
                let outcome = outcome(*open);
                self.answer_within(Duration::from_millis(200), Event::GateAnswered { check, outcome });
            }
            Effect::Run { task, timeout, .. } => {
                self.summary.runs += 1;
                self.run_command(task, timeout);
            }
            Effect::EndRun { task } => self.end_run(task),
            Effect::Record(Record::Applied { .. }) => {
                self.summary.changes += 1;
                if let Some(stack) = self.next_stack.take() {
                    self.stack = stack;
                }
            }
            Effect::Record(Record::Reloaded { .. }) => self.summary.reloads += 1,
            Effect::Record(Record::State { to: State::Failed, .. }) => self.summary.failures += 1,
            Effect::Record(
                Record::State { .. }
                | Record::Spawned { .. }
                | Record::Exited { .. }
                | Record::Probe { .. }
                | Record::Gate { .. }
                | Record::Run { .. }
                | Record::GaveUp { .. }
                | Record::Command { .. },
            )
            | Effect::SignalMain { .. } => {}
        }
        self.summary.left_behind += u64::from(self.model.take_left_behind());
    }

    fn launch(&mut self, replica: &ReplicaId, spawn: SpawnId) {
        match self.random.below(24) {
            // Trees that outlive their kill for longer than anybody waits.
            0 => {
                let mut behaviour = Behaviour::random(&mut self.random);
                behaviour.leftovers = 1;
                behaviour.leftovers_outlive_kill =
                    self.random.duration(Duration::from_secs(4), Duration::from_secs(30));
                self.processes.set_behaviour(replica, behaviour);
            }
            1..10 => self.processes.set_behaviour(replica, Behaviour::good()),
            _ => self.processes.clear_behaviour(replica),
        }
        self.healths.insert(spawn, [8, 8, 7, 4, 0][self.random.below(5) as usize]);
        self.plan_words(replica, spawn);
        let launch = Launch {
            program: "x".into(),
            args: vec![],
            env: vec![],
            workdir: "/".into(),
            identity: None,
            limits: mainstay_os::ResourceLimits::default(),
            handed: Vec::new(),
            listen_names: Vec::new(),
        };
        self.processes.launch(replica, spawn, launch);
    }

    fn ask_probe(&mut self, replica: &ReplicaId, spawn: SpawnId, kind: ProbeKind) {
        let service = self.stack.service(replica.service.as_str());
        let timeout =
            service.and_then(|service| probe(service, kind)).map_or(Duration::ZERO, |probe| probe.timeout);
        let passes = self.random.below(8) < self.healths.get(&spawn).copied().unwrap_or(0);
        self.answer_within(timeout, Event::ProbeAnswered { spawn, kind, outcome: outcome(passes) });
    }

    /// Ends by itself, well or badly, or is killed when its time is up: then the news of it may come a little later.
    fn run_command(&mut self, task: TaskId, timeout: Duration) {
        self.questions += 1;
        let (takes, passes) = match self.random.below(6) {
            0 => (timeout + self.random.duration(Duration::ZERO, LATEST_TICK), false),
            1 => (self.random.duration(Duration::ZERO, timeout), true),
            2 => (self.random.duration(Duration::ZERO, timeout), false),
            it => (self.random.duration(Duration::ZERO, timeout.min(Duration::from_millis(20))), it > 3),
        };
        let at = (self.now + takes, self.questions);
        self.answers.insert(at, Event::RunEnded { task, outcome: outcome(passes) });
        self.runs.insert(task, at);
    }

    /// Its end comes sooner: at once, as a rule, but what hangs in the kernel may take longer than anybody waits.
    fn end_run(&mut self, task: TaskId) {
        let Some(at) = self.runs.remove(&task) else { return };
        if self.answers.remove(&at).is_none() {
            return;
        }
        let takes = if self.random.one_in(10) { Duration::from_secs(9) } else { Duration::from_millis(50) };
        self.questions += 1;
        let at = (self.now + self.random.duration(Duration::ZERO, takes), self.questions);
        self.answers.insert(at, Event::RunEnded { task, outcome: outcome(false) });
    }

    fn answer_within(&mut self, longest: Duration, event: Event) {
        self.questions += 1;
        let longest = if self.random.one_in(3) { longest } else { Duration::from_millis(2) };
        let moment = self.now + self.random.duration(Duration::ZERO, longest);
        self.answers.insert((moment, self.questions), event);
    }
}

pub(crate) fn probe(service: &Service, kind: ProbeKind) -> Option<&mainstay_config::Probe> {
    match kind {
        ProbeKind::Startup => service.startup.as_deref(),
        ProbeKind::Readiness => service.readiness.as_deref(),
        ProbeKind::Liveness => service.liveness.as_deref(),
    }
}

fn outcome(passes: bool) -> ProbeOutcome {
    if passes {
        ProbeOutcome::Passed("connected".to_owned())
    } else {
        ProbeOutcome::Failed(ProbeFailure::Refused(HostPort { host: "127.0.0.1".to_owned(), port: 1 }))
    }
}
