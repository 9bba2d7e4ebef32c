//! The running host as others see it: the control API's requests become messages to the loop, and questions about
//! the past are answered from the event record and the logs without troubling it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use mainstay_api::{
    CommandOptions, CommandReply, ControlPlane, Event, EventKind, EventStream, EventsQuery, LogEntry,
    LogLevel, LogStream, LogsQuery, OutputStream, Problem, ProblemKind, ReloadOptions, ReloadReply,
    RotateOutcome, RotateReply, RotatedLog, Status, Verb,
};
use mainstay_config::Service;
use mainstay_logs::read::{FOLLOW_PACE, Follower, Query, ReadError, Selection, Watch};
use mainstay_logs::{Capture, LogLine, Rotated, Stream, facts};
use mainstay_os::ControlListener;
use mainstay_types::{ReplicaId, ServiceName, State, Timestamp};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::event_store::{EventFilter, EventStore};
use crate::forwards::Forwards;
use crate::message::Message;
use crate::own_log::LogControl;
use crate::process_news::capture_policy;
use crate::publish::Publisher;
use crate::reload::StackFile;
use crate::shared_stack::SharedStack;

/// With an end in time, lines are waited for that much longer: they are told a moment after their time.
const LATE_LINES: Duration = Duration::from_millis(250);
/// Lines one request for logs may give, the newest ones; more must be asked for by time.
const MAX_LOG_ENTRIES: usize = 100_000;

/// A replica that holds up a stop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StopBlocker {
    /// Which.
    pub replica: ReplicaId,
    /// Its main process, if it ever had one.
    pub pid: Option<u32>,
    /// Time since it was asked to end.
    pub waited: Duration,
    /// Time it has in all before `next` follows.
    pub allowed: Duration,
    /// What follows then: `SIGTERM`, `the kill`.
    pub next: String,
    /// What was tried so far, in order: `before_stop`, `SIGINT`.
    pub tried: Vec<String>,
    /// Whether it was killed already, and the kernel has not let it go yet.
    pub killed: bool,
}

/// The logs of the services: who writes them, where, and who sends them on.
pub(crate) struct Logs {
    pub(crate) capture: Capture,
    pub(crate) dir: PathBuf,
    pub(crate) forwards: Forwards,
}

/// What the process of the host was started with.
pub(crate) struct Started {
    pub(crate) unit: Option<String>,
    pub(crate) log: Option<LogControl>,
}

/// The way to ask a running host for something. Cheap to clone.
#[derive(Clone)]
pub struct HostHandle {
    inner: Arc<Inner>,
}

struct Inner {
    messages: mpsc::UnboundedSender<Message>,
    publisher: Publisher,
    store: EventStore,
    stack: SharedStack,
    file: Arc<StackFile>,
    capture: Capture,
    logs_dir: PathBuf,
    forwards: Forwards,
    unit: Option<String>,
    log: Option<LogControl>,
    started_at: Timestamp,
    /// Held from reading the file until the loop has what was read: of two who ask, the later one's file counts last.
    reading: tokio::sync::Mutex<()>,
    /// CPU time of each tree at the last look, by main process; entries of processes that are gone are dropped at
    /// each look.
    cpu_before: Mutex<BTreeMap<u32, (Instant, Duration)>>,
}

impl HostHandle {
    pub(crate) fn new(
        messages: mpsc::UnboundedSender<Message>,
        publisher: Publisher,
        store: EventStore,
        stack: SharedStack,
        file: Arc<StackFile>,
        Logs { capture, dir: logs_dir, forwards }: Logs,
        Started { unit, log }: Started,
    ) -> Self {
        let inner = Inner {
            messages,
            publisher,
            store,
            stack,
            file,
            capture,
            logs_dir,
            forwards,
            unit,
            log,
            started_at: Timestamp::now(),
            reading: tokio::sync::Mutex::default(),
            cpu_before: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn messages(&self) -> mpsc::UnboundedSender<Message> {
        self.inner.messages.clone()
    }

    pub(crate) fn started_at(&self) -> Timestamp {
        self.inner.started_at
    }

    pub(crate) fn unit(&self) -> Option<String> {
        self.inner.unit.clone()
    }

    /// Asks for an orderly stop of everything; the host ends after it. Asking again changes nothing.
    pub fn stop(&self) {
        // A loop that has ended has stopped already; here and below.
        let _ = self.inner.messages.send(Message::StopStack);
    }

    /// Kills everything now; the host ends after it.
    pub fn kill(&self) {
        let _ = self.inner.messages.send(Message::KillStack);
    }

    /// Who still holds up the stop, and until when; empty when nobody does or the host has ended.
    pub async fn stop_progress(&self) -> Vec<StopBlocker> {
        let (reply, answer) = oneshot::channel();
        let _ = self.inner.messages.send(Message::StopProgress(reply));
        answer.await.unwrap_or_default()
    }

    fn ending() -> Problem {
        Problem::new(ProblemKind::Unavailable, "the host is ending")
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T, Problem> {
        let (reply, answer) = oneshot::channel();
        self.inner.messages.send(message(reply)).map_err(|_| Self::ending())?;
        answer.await.map_err(|_| Self::ending())
    }

    fn own_log(&self) -> Result<&LogControl, Problem> {
        self.inner.log.as_ref().ok_or_else(|| {
            Problem::new(
                ProblemKind::Conflict,
                "this host writes no log of its own: it runs inside another program",
            )
        })
    }

    fn check_service(&self, name: &str) -> Result<(), Problem> {
        let stack = self.inner.stack.get();
        if stack.service(name).is_some() {
            return Ok(());
        }
        let known = stack.services.iter().map(|service| service.name.as_str());
        Err(Problem::no_such_service(name, known))
    }

    /// Tells of a log file that was to be closed, and gives the answer.
    fn rotated(&self, replica: &ReplicaId, done: Rotated) -> RotatedLog {
        let (outcome, file, reason) = match done {
            Rotated::Closed { name } => (RotateOutcome::Rotated, Some(name), None),
            Rotated::Empty => (RotateOutcome::Empty, None, Some("it has no line".to_owned())),
            Rotated::Waits => {
                let reason = "in the middle of a line: it is closed as soon as that ends";
                (RotateOutcome::Waiting, None, Some(reason.to_owned()))
            }
            Rotated::Failed { error } => (RotateOutcome::Failed, None, Some(error)),
        };
        if let Some(file) = &file {
            self.inner.publisher.notice(Some(replica), format!("its log was closed on request, as {file}"));
        }
        RotatedLog { service: replica.service.to_string(), replica: replica.index, outcome, file, reason }
    }

    fn log_query(&self, query: &LogsQuery) -> Result<Query, Problem> {
        let mut services = Vec::new();
        for service in &query.service {
            self.check_service(service)?;
            services.extend(self.inner.stack.get().service(service).map(|service| service.name.clone()));
        }
        let grep = query.grep.as_deref().map(|pattern| {
            regex::bytes::RegexBuilder::new(pattern).case_insensitive(query.ignore_case).build()
        });
        Ok(Query {
            since: query.since,
            until: query.until,
            grep: grep
                .transpose()
                .map_err(|error| Problem::new(ProblemKind::BadRequest, format!("grep: {error}")))?,
            stream: query.stream.map(|stream| match stream {
                OutputStream::Stdout => Stream::Stdout,
                OutputStream::Stderr => Stream::Stderr,
            }),
            level: query.level,
            last: query.last.map(|last| usize::try_from(last).unwrap_or(usize::MAX)),
            replicas: if services.is_empty() { Selection::All } else { Selection::Services(services) },
        })
    }
}

/// The API's server, in the background.
pub(crate) struct Server {
    shutdown: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Answers until [`Server::end`].
    pub(crate) fn start(listener: ControlListener, handle: HostHandle) -> Self {
        let publisher = handle.inner.publisher.clone();
        let router = mainstay_api::router(handle);
        let (shutdown, asked) = oneshot::channel();
        let task = tokio::spawn(mainstay_api::serve_with_notices(
            listener,
            router,
            async move {
                // A host that is dropped instead of ended ends the server, too.
                let _ = asked.await;
            },
            move |notice| publisher.notice(None, notice.to_string()),
        ));
        Self { shutdown, task }
    }

    /// Lets followers end in order and requests under way finish, `limit` at most.
    pub(crate) async fn end(self, limit: Duration) {
        // A server that has ended by itself needs no telling.
        let _ = self.shutdown.send(());
        let _ = tokio::time::timeout(limit, self.task).await;
    }
}

impl ControlPlane for HostHandle {
    async fn status(&self) -> Result<Status, Problem> {
        let mut status = self.ask(Message::Status).await?;
        status.forwards = crate::forwards::status(self.inner.forwards.counts());
        let (file, stack) = (Arc::clone(&self.inner.file), self.inner.stack.clone());
        status.host.file = tokio::task::spawn_blocking(move || file.status(&stack)).await.unwrap_or_default();
        let pids: Vec<u32> = status
            .services
            .iter()
            .flat_map(|service| &service.replicas)
            .filter_map(|replica| replica.pid)
            .collect();
        let looked_up = pids.clone();
        let usage = tokio::task::spawn_blocking(move || mainstay_os::tree_usage(&looked_up))
            .await
            .unwrap_or_default();
        let now = Instant::now();
        let mut use_of = BTreeMap::new();
        {
            // Held only for this look-up; a poisoned map is still a map of earlier readings.
            let mut before = self.inner.cpu_before.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            for (pid, usage) in pids.iter().zip(usage) {
                let Some(usage) = usage else { continue };
                let percent = before.get(pid).and_then(|(then, cpu)| percent(usage.cpu, *cpu, now - *then));
                use_of.insert(*pid, (usage, percent));
            }
            *before = use_of.iter().map(|(pid, (usage, _))| (*pid, (now, usage.cpu))).collect();
        }
        let wall = Timestamp::now();
        let last_lines = self.inner.publisher.last_lines();
        let replicas = status.services.iter_mut().flat_map(|service| {
            let name = ServiceName::parse(&service.name).ok();
            service.replicas.iter_mut().map(move |replica| (name.clone(), replica))
        });
        for (service, replica) in replicas {
            replica.last_lines =
                service.and_then(|service| last_lines.shown(&ReplicaId { service, index: replica.index }));
            if let Some((usage, since_last)) = replica.pid.and_then(|pid| use_of.get(&pid)) {
                let since_start =
                    replica.started_at.and_then(|at| Duration::try_from(wall.duration_since(at)).ok());
                replica.memory_bytes = Some(usage.memory_bytes);
                replica.cpu_percent = since_last.or_else(|| percent(usage.cpu, Duration::ZERO, since_start?));
            }
        }
        Ok(status)
    }

    async fn command(
        &self,
        service: String,
        verb: Verb,
        options: CommandOptions,
    ) -> Result<CommandReply, Problem> {
        let CommandOptions { wait, timeout } = options;
        self.ask(|reply| Message::Command { service, verb, wait, timeout, reply }).await?
    }

    async fn reload(&self, options: ReloadOptions) -> Result<ReloadReply, Problem> {
        let ReloadOptions { dry_run, command: CommandOptions { wait, timeout } } = options;
        let (reply, answer) = oneshot::channel();
        {
            let _reading = self.inner.reading.lock().await;
            let (file, running) = (Arc::clone(&self.inner.file), self.inner.stack.get());
            let stack = tokio::task::spawn_blocking(move || file.read(&running))
                .await
                .map_err(|_| Self::ending())??;
            let message = Message::Apply { stack: Arc::new(stack), dry_run, wait, timeout, reply };
            self.inner.messages.send(message).map_err(|_| Self::ending())?;
        }
        answer.await.map_err(|_| Self::ending())?
    }

    async fn events(&self, query: EventsQuery) -> Result<Vec<Event>, Problem> {
        if let Some(service) = &query.service {
            self.check_service(service)?;
        }
        let filter = EventFilter { after_id: query.after_id, last: query.limit, service: query.service };
        self.inner
            .store
            .read(filter)
            .await
            .map_err(|error| Problem::new(ProblemKind::Internal, crate::error::chain(&error)))
    }

    async fn follow_events(&self, query: EventsQuery) -> Result<EventStream, Problem> {
        // Subscribed before the record is read: what happens in between is in both, and told once.
        let live = self.inner.publisher.follow();
        let service = query.service.clone();
        let (past, newest) = if query.after_id.is_none() && query.limit.is_none() {
            (Vec::new(), self.inner.publisher.newest_id())
        } else {
            let past = self.events(query.clone()).await?;
            let newest = past.last().map_or(query.after_id.unwrap_or(0), |event| event.id);
            (past, newest)
        };
        let following =
            Following { live, newest, service, store: self.inner.store.clone(), ready: Vec::new() };
        let live = stream::unfold(following, |mut following| async move {
            let event = following.next().await?;
            Some((event, following))
        });
        Ok(stream::iter(past).chain(live).boxed())
    }

    async fn logs(&self, query: LogsQuery) -> Result<Vec<LogEntry>, Problem> {
        let mut query = self.log_query(&query)?;
        query.last = Some(query.last.unwrap_or(MAX_LOG_ENTRIES).min(MAX_LOG_ENTRIES));
        let dir = self.inner.logs_dir.clone();
        let read = move || -> Result<Vec<LogEntry>, ReadError> {
            mainstay_logs::read::read(&dir, &query).map(|line| line.map(|line| log_entry(&line))).collect()
        };
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|_| Self::ending())?
            .map_err(|error| Problem::new(ProblemKind::Internal, crate::error::chain(&error)))
    }

    async fn follow_logs(&self, query: LogsQuery) -> Result<LogStream, Problem> {
        let from_now = query.since.is_none() && query.last.is_none();
        let mut query = self.log_query(&query)?;
        query.last =
            Some(if from_now { 0 } else { query.last.unwrap_or(MAX_LOG_ENTRIES).min(MAX_LOG_ENTRIES) });
        let until = query.until;
        let dir = self.inner.logs_dir.clone();
        let woken = Arc::new(tokio::sync::Notify::new());
        let wake = woken.clone();
        let begin = move || {
            let mut watch = Watch::new(&dir, &query.replicas, move || wake.notify_one());
            let pause = watch.renew();
            let (backlog, follower) = mainstay_logs::read::follow(&dir, &query);
            let backlog: Result<Vec<LogEntry>, _> =
                backlog.map(|line| line.map(|line| log_entry(&line))).collect();
            backlog.map(|backlog| {
                (backlog, LogFollowing { follower, watch, pause, woken, until, looked: None, over: false })
            })
        };
        let (backlog, following) = tokio::task::spawn_blocking(begin)
            .await
            .map_err(|_| Self::ending())?
            .map_err(|error| Problem::new(ProblemKind::Internal, crate::error::chain(&error)))?;
        let lines: BoxStream<'static, Vec<LogEntry>> =
            stream::unfold(following, |following| async move { following.next().await }).boxed();
        Ok(stream::iter(backlog).chain(lines.flat_map(stream::iter)).boxed())
    }

    async fn rotate_logs(&self, services: Vec<String>) -> Result<RotateReply, Problem> {
        for service in &services {
            self.check_service(service)?;
        }
        let stack = self.inner.stack.get();
        let asked = |service: &&Service| {
            services.is_empty() || services.iter().any(|name| service.name.as_str() == name)
        };
        let replicas = stack.services.iter().filter(asked).flat_map(|service| {
            let policy = capture_policy(service);
            (0..service.replicas)
                .map(move |index| (ReplicaId { service: service.name.clone(), index }, policy.clone()))
        });
        let outcomes = self.inner.capture.rotate(replicas.collect()).await;
        Ok(RotateReply {
            replicas: outcomes.into_iter().map(|(replica, done)| self.rotated(&replica, done)).collect(),
        })
    }

    async fn log_level(&self) -> Result<LogLevel, Problem> {
        Ok(LogLevel { level: self.own_log()?.level(), before: None })
    }

    async fn set_log_level(&self, level: String) -> Result<LogLevel, Problem> {
        let log = self.own_log()?;
        let before =
            log.set(&level).map_err(|error| Problem::new(ProblemKind::BadRequest, error.to_string()))?;
        let level = log.level();
        self.inner.publisher.event(Event {
            command: Some("log-level".to_owned()),
            reason: Some(format!("the level of the host's own log is {level}; it was {before}")),
            ..Event::new(EventKind::Command, Timestamp::now())
        });
        Ok(LogLevel { level, before: Some(before) })
    }

    async fn healthy(&self) -> bool {
        self.ask(Message::Status).await.is_ok()
    }

    async fn ready(&self) -> bool {
        let stack = self.inner.stack.get();
        self.ask(Message::Status).await.is_ok_and(|status| {
            status.services.iter().all(|service| {
                let declared = stack.service(&service.name);
                !declared.is_some_and(|declared| declared.autostart)
                    || matches!(service.state, State::Ready | State::Completed)
            })
        })
    }

    async fn metrics(&self) -> Result<String, Problem> {
        let mut page = crate::metrics::Page::default();
        let stack = self.inner.stack.get();
        crate::metrics::logs(&mut page, &stack.name, &self.inner.capture.counts());
        crate::forwards::metrics(&mut page, &stack.name, &self.inner.forwards.counts());
        Ok(page.into_text())
    }
}

/// CPU use over a span, 100 being one core, to one decimal.
fn percent(now: Duration, before: Duration, span: Duration) -> Option<f64> {
    let used = now.checked_sub(before)?;
    (span >= Duration::from_millis(10))
        .then(|| (used.as_secs_f64() / span.as_secs_f64() * 1000.0).round() / 10.0)
}

/// Lines as they are written.
struct LogFollowing {
    follower: Follower,
    watch: Watch,
    /// When to look again at the latest, where changes are not told.
    pause: Option<Duration>,
    woken: Arc<tokio::sync::Notify>,
    until: Option<Timestamp>,
    looked: Option<Instant>,
    /// The end in time is reached.
    over: bool,
}

impl LogFollowing {
    /// Waits for the next lines.
    async fn next(mut self) -> Option<(Vec<LogEntry>, Self)> {
        loop {
            if let Some(looked) = self.looked.replace(Instant::now()) {
                tokio::time::sleep(FOLLOW_PACE.saturating_sub(looked.elapsed())).await;
            }
            let (following, lines) = tokio::task::spawn_blocking(move || {
                self.pause = self.watch.renew();
                let lines = self.follower.poll();
                (self, lines)
            })
            .await
            .ok()?;
            self = following;
            let lines = match lines {
                Ok(lines) => lines,
                // Said where the files are read; here the stream goes on with what there is.
                Err(ReadError::Outrun { .. }) => continue,
                Err(_) => return None,
            };
            if !lines.is_empty() {
                return Some((lines.iter().map(log_entry).collect(), self));
            }
            if self.over {
                return None;
            }
            let left = self.until.map(|until| {
                let left = Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default();
                left + LATE_LINES
            });
            let limit = self.pause.into_iter().chain(left).min();
            match limit {
                None => self.woken.notified().await,
                Some(limit) => {
                    // Woken or not, it looks.
                    let _ = tokio::time::timeout(limit, self.woken.notified()).await;
                }
            }
            self.over = self.until.is_some_and(|until| Timestamp::now() > until + LATE_LINES);
        }
    }
}

/// A captured line in the API's shape.
#[must_use]
pub fn log_entry(line: &LogLine) -> LogEntry {
    let facts = facts(&line.text);
    LogEntry {
        at: line.at,
        service: line.replica.service.to_string(),
        replica: line.replica.index,
        stream: match line.stream {
            Stream::Stdout => OutputStream::Stdout,
            Stream::Stderr => OutputStream::Stderr,
        },
        partial: line.partial,
        level: facts.level,
        time: facts.at,
        line: String::from_utf8_lossy(&line.text).into_owned(),
    }
}

/// Events as they happen, and from the record those a slow follower missed.
struct Following {
    live: broadcast::Receiver<Arc<Event>>,
    newest: i64,
    service: Option<String>,
    store: EventStore,
    ready: Vec<Event>,
}

impl Following {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop() {
                self.newest = event.id;
                return Some(event);
            }
            match self.live.recv().await {
                Ok(event) => {
                    let wanted = self.service.is_none() || event.service == self.service;
                    if event.id > self.newest && wanted {
                        self.ready.push(Event::clone(&event));
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    let filter = EventFilter {
                        after_id: Some(self.newest),
                        last: None,
                        service: self.service.clone(),
                    };
                    self.ready = self.store.read(filter).await.ok()?;
                    self.ready.reverse();
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
