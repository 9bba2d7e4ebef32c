//! The host: one loop that owns the stack's state. It tells the machine what happened, performs the effects it
//! answers with, and waits for the next thing to happen or the next deadline. Nothing here decides.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use mainstay_api::{CommandOutcome, Problem, ProblemKind, ReloadReply};
use mainstay_config::Stack;
use mainstay_lifecycle::{Command, Event, Reason, StackMachine};
use mainstay_logs::{Capture, CaptureOptions, Notice, Tap};
use mainstay_os::{
    ControlListener, FileLock, Output, ProcessEvent, ProcessTrees, Processes, ProcessesOptions, UseCgroups,
};
use mainstay_probes::ExecAnswer;
use mainstay_types::{Notification, Phase, ReplicaId, ServiceName, SpawnId, State};
use tokio::sync::{mpsc, oneshot};

use crate::control::{HostHandle, Logs, Server, Started, StopBlocker};
use crate::error::HostError;
use crate::event_store::EventStore;
use crate::forwards::Forwards;
use crate::launch_spec::Surroundings;
use crate::log_watch::LogWatch;
use crate::manager::{Manager, ReadyWhen};
use crate::message::Message;
use crate::own_log::LogControl;
use crate::paths::Paths;
use crate::publish::{Observer, Publisher};
use crate::reload::{Loader, StackFile};
use crate::runner::Runs;
use crate::said::{Said, Saying};
use crate::shared_stack::SharedStack;
use crate::sockets::Sockets;
use crate::waiters::{Request, Waiters};

/// Pieces of news handled before the effects of the batch are looked at together; bounds the time between two looks
/// at commands and deadlines.
const BATCH: usize = 256;
/// Time for the last events to reach the disk when the host ends.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// What a start told has reached the record and the terminal by then, and its memory is free.
const NEWS_PAUSE: Duration = Duration::from_millis(500);
/// Time for requests under way when the host ends: what waits for a command has been answered by then.
const SERVER_LIMIT: Duration = Duration::from_secs(3);

/// What a host is started with.
pub struct HostOptions {
    /// The stack.
    pub stack: Arc<Stack>,
    /// Where its state, socket and logs are.
    pub paths: Paths,
    /// The program that becomes the launcher: this binary.
    pub launcher_exe: PathBuf,
    /// Whether control groups may be used.
    pub cgroups: UseCgroups,
    /// Only these services and what they need; empty is the whole stack.
    pub only: Vec<ServiceName>,
    /// End by itself once every service has completed or failed and nothing will happen any more.
    pub end_when_settled: bool,
    /// The registration this host was started by, if any.
    pub unit: Option<String>,
    /// When the service manager is told that the host is ready.
    pub ready_when: ReadyWhen,
    /// Sees every event.
    pub observer: Option<Observer>,
    /// Sees every line of output.
    pub tap: Option<Arc<dyn Tap>>,
    /// Reads the stack's file anew; `None` when the stack came from no file.
    pub loader: Option<Loader>,
    /// Seed of back-off jitter.
    pub seed: u64,
    /// The host's own log, when this process writes one.
    pub log: Option<LogControl>,
}

/// How the host ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostOutcome {
    /// Services whose last state was `failed`, with the reason.
    pub failed: Vec<(ServiceName, String)>,
    /// Whether somebody asked the stack to stop.
    pub stopped: bool,
    /// Why the host could not go on, when that is why it ended.
    pub broken: Option<String>,
}

/// A host that has taken its stack, and not started it yet.
pub struct Host {
    /// The stack that counts, for everybody but the machine, which has its own.
    pub(crate) shared: SharedStack,
    pub(crate) file: Arc<StackFile>,
    pub(crate) machine: StackMachine,
    pub(crate) processes: Processes,
    pub(crate) capture: Capture,
    store: EventStore,
    pub(crate) publisher: Publisher,
    publishing: tokio::task::JoinHandle<()>,
    messages: mpsc::UnboundedReceiver<Message>,
    pub(crate) handle: HostHandle,
    server: Server,
    pub(crate) runs: Runs,
    pub(crate) log_watch: Arc<LogWatch>,
    pub(crate) forwards: Forwards,
    pub(crate) sockets: Sockets,
    pub(crate) said: Said,
    pub(crate) sayings: mpsc::Receiver<Saying>,
    waiters: Waiters,
    /// The service manager that wants to be told.
    pub(crate) manager: Option<Manager>,
    pub(crate) replica_of: BTreeMap<SpawnId, ReplicaId>,
    pub(crate) surroundings: Surroundings,
    clock: Instant,
    only: Vec<ServiceName>,
    end_when_settled: bool,
    stop_requested: bool,
    broken: Option<String>,
    /// Whether the memory that reading a file and starting services took is still held.
    holds_spare_memory: bool,
    _lock: FileLock,
}

impl Host {
    /// Takes the stack: folders, lock, event record, log capture, process trees, control socket, in this order. Ends
    /// what an earlier host of this stack left running. Must be called within a current-thread tokio runtime, before the
    /// program has other threads that must not see SIGCHLD.
    pub fn open(options: HostOptions) -> Result<Self, HostError> {
        let HostOptions {
            stack,
            paths,
            launcher_exe,
            cgroups,
            only,
            end_when_settled,
            unit,
            ready_when,
            observer,
            tap,
            loader,
            seed,
            log,
        } = options;
        crate::error::create_dir(&paths.state_dir)?;
        let lock = mainstay_os::lock_file(&paths.lock_path())
            .map_err(|error| HostError::from_lock(error, &stack.name, &paths))?;
        std::fs::write(paths.holder_path(), format!("{}\n", stack.name))
            .map_err(|source| HostError::StateDir { path: paths.state_dir.clone(), source })?;
        let listener = ControlListener::bind(&paths.socket_path).map_err(HostError::Socket)?;
        let process_options = ProcessesOptions {
            stack: stack.name.clone(),
            state_dir: paths.state_dir.clone(),
            launcher_exe,
            cgroups,
        };
        // Raising the limit before the launcher starts lets it know what services are to be given back.
        mainstay_os::raise_open_files_limit().map_err(HostError::OpenFiles)?;
        let leftovers =
            mainstay_os::end_leftovers_of_earlier_host(&process_options).map_err(HostError::Leftovers)?;
        let processes = Processes::start(process_options).map_err(HostError::Processes)?;
        let panics = crate::panics::of_earlier_hosts(&paths);
        let (store, newest, put_aside) = EventStore::open(&paths.events_path()).map_err(HostError::Events)?;

        let (sender, messages) = mpsc::unbounded_channel();
        let log_watch = Arc::new(LogWatch::new(tap, sender.clone()));
        let (notices, mut notice_inbox) = mpsc::unbounded_channel::<Notice>();
        let tell = Arc::new(move |notice| {
            // After the host's end nobody listens.
            let _ = notices.send(notice);
        });
        let capture = Capture::start(CaptureOptions {
            tap: Some(Arc::clone(&log_watch) as Arc<dyn Tap>),
            max_total_bytes: stack.log_max_total_bytes,
            lower_priority: mainstay_os::lower_thread_priority,
            ..CaptureOptions::new(paths.logs_dir(), tell)
        })
        .map_err(HostError::Logs)?;
        let (observer, no_system_log) = crate::system_log::beside(observer, &stack.name);
        let (publisher, publishing) = Publisher::start(store.clone(), newest, capture.clone(), observer);
        if let Some(why) = no_system_log {
            publisher.notice(None, why);
        }
        let for_notices = publisher.clone();
        tokio::spawn(async move {
            while let Some(notice) = notice_inbox.recv().await {
                if let Some((replica, words)) = crate::notice::words(&notice) {
                    for_notices.notice(Some(replica), words);
                }
            }
        });
        if let Some(aside) = put_aside {
            let text = format!(
                "the event record was damaged; it is kept as {} and a new one begun",
                aside.display()
            );
            publisher.notice(None, text);
        }
        for words in panics {
            publisher.incident(words);
        }
        let reports = crate::panics::listen();
        tokio::spawn(crate::panics::record(reports, publisher.clone(), capture.clone(), sender.clone()));
        for leftover in leftovers {
            publisher.notice(
                None,
                format!("ended {} (pid {}), left by an earlier host", leftover.name, leftover.pid),
            );
        }

        // Before anything writes: what is written from here on is sent.
        let forwards = Forwards::start(&stack, &paths, publisher.clone(), seed);
        let shared = SharedStack::new(Arc::clone(&stack));
        let file = Arc::new(StackFile::new(stack.file.clone(), loader));
        let handle = HostHandle::new(
            sender.clone(),
            publisher.clone(),
            store.clone(),
            shared.clone(),
            Arc::clone(&file),
            Logs { capture: capture.clone(), dir: paths.logs_dir(), forwards: forwards.clone() },
            Started { unit, log },
        );
        let server = Server::start(listener, handle.clone());
        let (said, sayings) = Said::new();
        Ok(Self {
            surroundings: Surroundings::of(&stack.name),
            machine: StackMachine::new(stack, seed),
            shared,
            file,
            log_watch,
            forwards,
            sockets: Sockets::default(),
            said,
            sayings,
            processes,
            capture,
            store,
            publisher,
            publishing,
            messages,
            handle,
            server,
            runs: Runs::new(sender),
            waiters: Waiters::default(),
            manager: Manager::of_this_process(ready_when),
            replica_of: BTreeMap::new(),
            clock: Instant::now(),
            only,
            end_when_settled,
            stop_requested: false,
            broken: None,
            holds_spare_memory: true,
            _lock: lock,
        })
    }

    /// The way to ask the running host for something.
    #[must_use]
    pub fn handle(&self) -> HostHandle {
        self.handle.clone()
    }

    /// Starts the stack and runs it until it is told to stop, or has nothing left to do. Everything has ended and been
    /// written down when this returns.
    pub async fn run(mut self) -> HostOutcome {
        crate::own_log::tell_start(self.machine.stack());
        let first = if self.only.is_empty() {
            vec![Command::StartStack]
        } else {
            self.only.drain(..).map(Command::Start).collect()
        };
        for command in first {
            self.tell(Event::Command(command));
        }
        loop {
            self.waiters.answer(&self.machine, self.now());
            if self.machine.is_over() || (self.end_when_settled && self.is_finished()) {
                break;
            }
            self.tell_manager();
            self.give_back_memory();
            self.wait().await;
        }
        self.finish().await
    }

    /// Once a start, or the change to another file, is over: the file's text and syntax tree and the news of the start
    /// take about as much as everything that stays.
    fn give_back_memory(&mut self) {
        if self.holds_spare_memory && self.machine.phase() == Phase::Running {
            self.holds_spare_memory = false;
            tokio::spawn(async {
                tokio::time::sleep(NEWS_PAUSE).await;
                mainstay_os::give_back_memory();
            });
        }
    }

    /// Every service is at its end by itself: waiting for a command would be waiting for ever. A service somebody
    /// stopped may be started again, so the host stays.
    fn is_finished(&self) -> bool {
        self.machine.is_settled()
            && self.machine.services().all(|service| match service.state {
                State::Completed | State::Failed => true,
                State::Stopped => matches!(service.reason, Reason::NotWanted | Reason::NotRestarted(_)),
                State::Waiting
                | State::Starting
                | State::Ready
                | State::Unready
                | State::Backoff
                | State::Stopping => false,
            })
    }

    /// Waits for the next thing to happen, and handles all that has happened by then.
    async fn wait(&mut self) {
        let deadline = [self.machine.next_deadline().map(|(at, _)| at), self.waiters.next_deadline()]
            .into_iter()
            .flatten()
            .min()
            .map(|at| self.clock + at.since_start())
            .into_iter()
            .chain(self.manager.as_ref().and_then(Manager::next_deadline))
            .min()
            .map(tokio::time::Instant::from_std);
        let mut news = Vec::new();
        let mut asked = Vec::new();
        let mut said = Vec::new();
        tokio::select! {
            biased;
            () = next_processes(&mut self.processes, &mut news) => {}
            count = self.messages.recv_many(&mut asked, BATCH) => debug_assert!(count > 0, "the host holds a sender"),
            count = self.sayings.recv_many(&mut said, BATCH) => debug_assert!(count > 0, "the host holds a sender"),
            () = sleep_until(deadline) => {
                if self.machine.next_deadline().is_some_and(|(at, _)| at <= self.now()) {
                    self.tell(Event::Tick);
                }
            }
        }
        for event in news {
            self.on_process(event);
        }
        self.tell_notices();
        for message in asked {
            self.on_message(message);
        }
        for (spawn, message) in said {
            self.on_saying(spawn, message);
        }
    }

    pub(crate) fn tell_notices(&mut self) {
        for notice in self.processes.take_notices() {
            self.publisher.notice(None, notice);
        }
    }

    pub(crate) fn now(&self) -> mainstay_types::Moment {
        mainstay_types::Moment::after_start(self.clock.elapsed())
    }

    /// Tells the machine and performs what it answers. An effect that fails at once becomes the next event.
    pub(crate) fn tell(&mut self, event: Event) {
        if let Some(manager) = &mut self.manager {
            manager.stir(Instant::now());
        }
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let now = self.now();
            for effect in self.machine.handle(event, now) {
                if let Some(answer) = self.perform(effect) {
                    events.push_back(answer);
                }
            }
        }
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Command { service, verb, wait, timeout, reply } => {
                let name = match self.waiters.accept(&self.machine, &service, verb) {
                    Ok(name) => name,
                    Err(problem) => {
                        // Whoever asked may have gone; here and below.
                        let _ = reply.send(Err(problem));
                        return;
                    }
                };
                let request = Request { service: name, verb, wait, timeout, now: self.now(), reply };
                let command = self.waiters.begin(&self.machine, request);
                self.tell(Event::Command(command));
            }
            Message::Status(reply) => {
                let _ = reply.send(self.status());
            }
            Message::StopProgress(reply) => {
                let now = self.now();
                let blockers = self.machine.stop_progress().into_iter().map(|blocker| StopBlocker {
                    waited: now - blocker.asked_since,
                    allowed: blocker.deadline - blocker.asked_since,
                    replica: blocker.replica,
                    pid: blocker.pid,
                    next: blocker.next,
                    tried: blocker.tried,
                    killed: blocker.killed,
                });
                let _ = reply.send(blockers.collect());
            }
            Message::StopStack => {
                self.stop_requested = true;
                self.tell(Event::Command(Command::StopStack));
            }
            Message::KillStack => {
                self.stop_requested = true;
                self.tell(Event::Command(Command::KillStack));
            }
            Message::ProbeAnswered { spawn, kind, outcome } => {
                self.tell(Event::ProbeAnswered { spawn, kind, outcome });
            }
            Message::GateAnswered { check, outcome } => self.tell(Event::GateAnswered { check, outcome }),
            Message::SaidReady(spawn) => self.tell(Event::Notified { spawn, what: Notification::Ready }),
            Message::LogMatched { spawn, kind, line } => self.tell(Event::LogMatched { spawn, kind, line }),
            Message::RunEnded { task, outcome } => self.tell(Event::RunEnded { task, outcome }),
            Message::Apply { stack, dry_run, wait, timeout, reply } => {
                self.apply(stack, dry_run, wait.then_some(timeout), reply);
            }
            Message::RunCommand { run_as, command, timeout, reply } => {
                let prepared = self
                    .machine
                    .stack()
                    .service(run_as.service.as_str())
                    .map(|service| self.surroundings.prepare_command(service, run_as.index, &command));
                match prepared {
                    Some(Ok(launch)) => {
                        let spawn = self.runs.begin(timeout, run_as.about, reply);
                        let replica = ReplicaId { service: run_as.service, index: run_as.index };
                        self.processes.launch(&replica, spawn, launch);
                    }
                    Some(Err(error)) => {
                        let _ = reply.send(ExecAnswer::NotStarted(error.to_string()));
                    }
                    None => {
                        let _ = reply.send(ExecAnswer::NotStarted("its service is gone".to_owned()));
                    }
                }
            }
            Message::Broken(reason) => {
                tracing::error!(reason, "the host cannot go on and stops everything");
                self.broken.get_or_insert(reason);
                self.tell(Event::Command(Command::StopStack));
            }
            Message::RunTimedOut(spawn) => {
                if self.runs.timed_out(spawn) {
                    self.processes.kill(spawn);
                }
            }
        }
    }

    /// Takes a changed file. `wait` holds the time limit of whoever waits for the end of it.
    fn apply(
        &mut self,
        stack: Arc<Stack>,
        dry_run: bool,
        wait: Option<Option<Duration>>,
        reply: oneshot::Sender<Result<ReloadReply, Problem>>,
    ) {
        let diff = mainstay_config::diff(self.machine.stack(), &stack);
        let file = stack.file.display().to_string();
        if dry_run {
            // Whoever asked may have gone; here and below.
            let _ = reply.send(Ok(crate::reload::told(&file, &diff, true)));
            return;
        }
        if matches!(self.machine.phase(), Phase::ShuttingDown | Phase::Terminated) {
            let detail = "the stack is being stopped: nothing is applied any more";
            let _ = reply.send(Err(Problem::new(ProblemKind::Conflict, detail)));
            return;
        }
        self.tell(Event::Apply(stack));
        self.holds_spare_memory = true;
        match wait {
            Some(timeout) if !diff.is_empty() => {
                let now = self.now();
                self.waiters.begin_file(file, diff, timeout, now, reply);
            }
            Some(_) => {
                let _ = reply.send(Ok(crate::reload::told(&file, &diff, false)));
            }
            None => {
                let message = format!("taken: {}", crate::plan::summary(&diff));
                let outcome = CommandOutcome::Accepted;
                let _ = reply.send(Ok(crate::reload::reply(&file, &diff, outcome, message, false)));
            }
        }
    }

    async fn finish(mut self) -> HostOutcome {
        let failed: Vec<(ServiceName, String)> = self
            .machine
            .services()
            .filter(|service| service.state == State::Failed)
            .map(|service| (service.name.clone(), service.reason.to_string()))
            .collect();
        let told: Vec<String> =
            failed.iter().map(|(service, reason)| format!("{service} failed: {reason}")).collect();
        self.tell_manager_the_end(&told);
        self.waiters.answer(&self.machine, self.now());
        self.end_commands().await;
        self.processes.shutdown().await;
        self.tell_notices();
        let Self {
            capture,
            forwards,
            store,
            publisher,
            publishing,
            server,
            stop_requested,
            broken,
            messages,
            waiters,
            ..
        } = self;
        // Whoever still asks is told that the host is ending.
        drop((messages, waiters));
        publisher.close();
        // A log that cannot be written holds each exit back for a while; the host's end is not held back for long.
        let _ = tokio::time::timeout(CLOSE_LIMIT, publishing).await;
        server.end(SERVER_LIMIT).await;
        capture.close().await;
        forwards.end().await;
        store.close(CLOSE_LIMIT);
        tracing::info!(stopped = stop_requested, "host ended");
        HostOutcome { failed, stopped: stop_requested, broken }
    }
}

/// All process news there is now, at most a batch; waits for the first.
pub(crate) async fn next_processes(processes: &mut Processes, news: &mut Vec<ProcessEvent<Output>>) {
    poll_fn(|cx| {
        while news.len() < BATCH {
            match processes.poll_event(cx) {
                Poll::Ready(event) => news.push(event),
                Poll::Pending => break,
            }
        }
        if news.is_empty() && !processes.has_notices() { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
