//! A made-up host behind a real control socket, and the plainest of clients.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use mainstay_api::{
    Client, CommandOptions, CommandOutcome, CommandReply, ControlPlane, Event, EventKind, EventStream,
    EventsQuery, ExitInfo, FileStatus, ForwardStatus, HostStatus, LastExit, LimitStatus, ListenStatus,
    LogEntry, LogLevel, LogStream, LogsQuery, Notice, OutputStream, Plan, PlanAction, PlanKey, PlanService,
    Problem, ReloadOptions, ReloadReply, ReplicaStatus, RotateOutcome, RotateReply, RotatedLog, ServiceKind,
    ServiceStatus, Status, Verb, router, serve_with_notices,
};
use mainstay_os::{ControlListener, connect_control};
use mainstay_types::{Exit, Phase, State, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinHandle;

/// For what must happen; a test that waits for it to end has failed.
pub(crate) const AMPLE: Duration = Duration::from_secs(20);

/// What a control plane was asked for.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Asked {
    Command(String, Verb, CommandOptions),
    Reload(ReloadOptions),
    Events(EventsQuery),
    FollowEvents(EventsQuery),
    Logs(LogsQuery),
    FollowLogs(LogsQuery),
    RotateLogs(Vec<String>),
    SetLogLevel(String),
}

/// Answers as told, and remembers what it was asked.
#[derive(Clone)]
pub(crate) struct Plane(Arc<Inside>);

struct Inside {
    asked: Mutex<Vec<Asked>>,
    up: Mutex<bool>,
    events: broadcast::Sender<Event>,
    lines: broadcast::Sender<LogEntry>,
    following: AtomicUsize,
}

impl Plane {
    fn new() -> Self {
        Self(Arc::new(Inside {
            asked: Mutex::default(),
            up: Mutex::new(true),
            events: broadcast::channel(16).0,
            lines: broadcast::channel(16).0,
            following: AtomicUsize::new(0),
        }))
    }

    fn remember(&self, asked: Asked) {
        self.0.asked.lock().unwrap().push(asked);
    }

    /// What was asked since the last look.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.0.asked.lock().unwrap())
    }

    pub(crate) fn set_up(&self, up: bool) {
        *self.0.up.lock().unwrap() = up;
    }

    pub(crate) fn happens(&self, event: Event) {
        self.0.events.send(event).unwrap();
    }

    pub(crate) fn writes(&self, line: LogEntry) {
        self.0.lines.send(line).unwrap();
    }

    /// Streams that are open now.
    pub(crate) fn following(&self) -> usize {
        self.0.following.load(Ordering::SeqCst)
    }

    fn stream<T: Clone + Send + 'static>(
        &self,
        before: Vec<T>,
        receiver: broadcast::Receiver<T>,
    ) -> BoxStream<'static, T> {
        struct Open(Arc<Inside>);
        impl Drop for Open {
            fn drop(&mut self) {
                self.0.following.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.0.following.fetch_add(1, Ordering::SeqCst);
        let open = Open(Arc::clone(&self.0));
        let live = stream::unfold((receiver, open), |(mut receiver, open)| async move {
            receiver.recv().await.ok().map(|item| (item, (receiver, open)))
        });
        stream::iter(before).chain(live).boxed()
    }
}

pub(crate) fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn service_status() -> ServiceStatus {
    ServiceStatus {
        name: "web".to_owned(),
        kind: ServiceKind::LongRunning,
        phase: Phase::Running,
        state: State::Ready,
        reason: Some("readiness probe passed: HTTP 200".to_owned()),
        replicas: vec![ReplicaStatus {
            index: 0,
            pid: Some(4212),
            state: State::Ready,
            started_at: Some(time("2026-11-22T15:20:01Z")),
            restarts: 2,
            last_exit: Some(LastExit::new(
                Exit::Signal { signal: 9, core_dumped: false },
                time("2026-11-22T15:19:59.5Z"),
            )),
            cpu_percent: Some(1.5),
            memory_bytes: Some(8_388_608),
            status_text: Some("3 clients".to_owned()),
            last_lines: Some(vec!["out of memory".to_owned()]),
        }],
        stops_first: vec!["worker".to_owned()],
        limits: vec![LimitStatus {
            name: "memory".to_owned(),
            value: "512MiB".to_owned(),
            enforced_by: Some("cgroup".to_owned()),
            note: None,
        }],
        listen: vec![ListenStatus { name: "http".to_owned(), address: "0.0.0.0:80".to_owned(), open: true }],
    }
}

pub(crate) fn status() -> Status {
    let oneshot = ServiceStatus {
        name: "db-migrate".to_owned(),
        kind: ServiceKind::Oneshot,
        phase: Phase::Initializing,
        state: State::Waiting,
        reason: None,
        replicas: vec![ReplicaStatus {
            index: 0,
            pid: None,
            state: State::Waiting,
            started_at: None,
            restarts: 0,
            last_exit: None,
            cpu_percent: None,
            memory_bytes: None,
            status_text: None,
            last_lines: None,
        }],
        stops_first: vec![],
        limits: vec![],
        listen: vec![],
    };
    Status {
        stack: "shop".to_owned(),
        host: HostStatus {
            pid: 17,
            version: "0.1.0".to_owned(),
            phase: Phase::ShuttingDown,
            started_at: time("2026-11-22T15:20:00Z"),
            unit: None,
            file: Some(FileStatus {
                path: "/srv/shop/mainstay.toml".to_owned(),
                loaded_at: time("2026-11-22T15:20:00Z"),
                changed: Some(true),
            }),
            applying: false,
        },
        services: vec![oneshot, service_status()],
        forwards: vec![ForwardStatus {
            name: "central".to_owned(),
            to: "loki".to_owned(),
            url: "http://127.0.0.1:3100/loki/api/v1/push".to_owned(),
            sent: 7,
            lost: 1,
            lost_more: false,
            failures: 2,
            behind_bytes: 4096,
            failing: Some("it answered HTTP 503".to_owned()),
            failing_since: Some(time("2026-11-22T15:20:00Z")),
            sent_at: None,
        }],
    }
}

pub(crate) fn reload_reply(dry_run: bool) -> ReloadReply {
    let outcome = if dry_run { CommandOutcome::Done } else { CommandOutcome::Accepted };
    ReloadReply {
        done: dry_run,
        outcome,
        dry_run,
        message: "1 service changes".to_owned(),
        file: "/srv/shop/mainstay.toml".to_owned(),
        plan: Plan {
            stack: vec![],
            services: vec![PlanService {
                name: "web".to_owned(),
                action: PlanAction::InPlace,
                keys: vec![PlanKey {
                    key: "stop.grace".to_owned(),
                    from: "15s".to_owned(),
                    to: "30s".to_owned(),
                }],
            }],
        },
    }
}

pub(crate) fn event(id: i64) -> Event {
    Event {
        id,
        service: Some("web".to_owned()),
        replica: Some(0),
        reason: Some("it exited with code 1 after 2s".to_owned()),
        pid: Some(4212),
        exit: Some(ExitInfo::from(Exit::Code(1))),
        ran_ms: Some(2000),
        requested: Some(false),
        lines: Some(vec!["cannot bind".to_owned()]),
        ..Event::new(EventKind::Exited, time("2026-11-22T15:20:01.123456789Z"))
    }
}

pub(crate) fn line(text: &str) -> LogEntry {
    LogEntry {
        at: time("2026-11-22T15:20:01.123456789Z"),
        service: "web".to_owned(),
        replica: 1,
        stream: OutputStream::Stderr,
        partial: false,
        level: Some(mainstay_types::Level::Error),
        time: None,
        line: text.to_owned(),
    }
}

impl ControlPlane for Plane {
    async fn status(&self) -> Result<Status, Problem> {
        Ok(status())
    }

    async fn command(
        &self,
        service: String,
        verb: Verb,
        options: CommandOptions,
    ) -> Result<CommandReply, Problem> {
        self.remember(Asked::Command(service.clone(), verb, options));
        if service != "web" {
            return Err(Problem::no_such_service(&service, ["web", "db-migrate"]));
        }
        let outcome = match (options.wait, options.timeout) {
            (false, _) => CommandOutcome::Accepted,
            (true, None) => CommandOutcome::Done,
            (true, Some(limit)) if limit < Duration::from_secs(1) => CommandOutcome::TimedOut,
            (true, Some(_)) => CommandOutcome::Failed,
        };
        Ok(CommandReply::new(outcome, format!("web: {verb}"), vec![service_status()]))
    }

    async fn reload(&self, options: ReloadOptions) -> Result<ReloadReply, Problem> {
        self.remember(Asked::Reload(options));
        if options.command.timeout == Some(Duration::from_secs(2)) {
            let detail = "/srv/shop/mainstay.toml:3: unknown key `comand`";
            return Err(Problem::new(mainstay_api::ProblemKind::InvalidFile, detail));
        }
        Ok(reload_reply(options.dry_run))
    }

    async fn events(&self, query: EventsQuery) -> Result<Vec<Event>, Problem> {
        let count = i64::from(query.limit.unwrap_or(2));
        self.remember(Asked::Events(query));
        Ok((1..=count).map(event).collect())
    }

    async fn follow_events(&self, query: EventsQuery) -> Result<EventStream, Problem> {
        let after = query.after_id;
        self.remember(Asked::FollowEvents(query));
        let before = after.map_or_else(Vec::new, |after| vec![event(after + 1)]);
        Ok(self.stream(before, self.0.events.subscribe()))
    }

    async fn logs(&self, query: LogsQuery) -> Result<Vec<LogEntry>, Problem> {
        let count = query.last.unwrap_or(1);
        if query.grep.as_deref() == Some("(") {
            return Err(Problem::new(mainstay_api::ProblemKind::BadRequest, "grep: unclosed group"));
        }
        self.remember(Asked::Logs(query));
        Ok((0..count).map(|number| line(&format!("line {number} é\t\"x\""))).collect())
    }

    async fn follow_logs(&self, query: LogsQuery) -> Result<LogStream, Problem> {
        self.remember(Asked::FollowLogs(query));
        Ok(self.stream(vec![line("before")], self.0.lines.subscribe()))
    }

    async fn rotate_logs(&self, services: Vec<String>) -> Result<RotateReply, Problem> {
        self.remember(Asked::RotateLogs(services));
        Ok(RotateReply { replicas: rotated() })
    }

    async fn log_level(&self) -> Result<LogLevel, Problem> {
        Ok(LogLevel { level: "info".to_owned(), before: None })
    }

    async fn set_log_level(&self, level: String) -> Result<LogLevel, Problem> {
        self.remember(Asked::SetLogLevel(level.clone()));
        Ok(LogLevel { level, before: Some("info".to_owned()) })
    }

    async fn healthy(&self) -> bool {
        *self.0.up.lock().unwrap()
    }

    async fn ready(&self) -> bool {
        *self.0.up.lock().unwrap()
    }

    async fn metrics(&self) -> Result<String, Problem> {
        if self.healthy().await {
            Ok("mainstay_up 1\n".to_owned())
        } else {
            Err(Problem::not_supported("metrics"))
        }
    }
}

/// A server on a socket of its own.
pub(crate) struct Host {
    pub(crate) plane: Plane,
    pub(crate) socket_path: PathBuf,
    pub(crate) notices: Arc<Mutex<Vec<Notice>>>,
    stop: Option<oneshot::Sender<()>>,
    pub(crate) served: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Host {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket_path = dir.path().join("shop.sock");
        let listener = ControlListener::bind(&socket_path).unwrap();
        let plane = Plane::new();
        let notices = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn({
            let (router, notices) = (router(plane.clone()), Arc::clone(&notices));
            async move {
                let stopped = async { drop(stopped.await) };
                let notice = move |notice| notices.lock().unwrap().push(notice);
                serve_with_notices(listener, router, stopped, notice).await;
            }
        });
        Self { plane, socket_path, notices, stop: Some(stop), served, _dir: dir }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.socket_path)
    }

    /// Asks the server to close.
    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// One request as it stands, over a connection of its own, and everything that is answered.
    pub(crate) async fn raw(&self, request: &str) -> Answer {
        raw(&self.socket_path, request).await
    }

    /// A request without a body.
    pub(crate) async fn ask(&self, method: &str, target: &str) -> Answer {
        self.raw(&format!("{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
    }
}

pub(crate) async fn raw(socket_path: &Path, request: &str) -> Answer {
    let mut stream = connect_control(socket_path).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    if let Err(error) = tokio::time::timeout(AMPLE, stream.read_to_end(&mut answer)).await.unwrap() {
        // A server that closes before it has read everything resets the connection after its answer.
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    Answer::read(&String::from_utf8(answer).unwrap())
}

/// An answer, taken apart.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: String,
}

impl Answer {
    fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let (first, headers) = head.split_once("\r\n").unwrap();
        let headers = format!("{}\r\n", headers.to_ascii_lowercase());
        let body =
            if headers.contains("transfer-encoding: chunked\r\n") { dechunk(body) } else { body.to_owned() };
        Self { status: first.split(' ').nth(1).unwrap().parse().unwrap(), headers, body }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        assert!(self.headers.contains("content-type: application/json\r\n"), "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }

    /// The problem it holds, the media type and the repeated status checked.
    pub(crate) fn problem(&self) -> serde_json::Value {
        assert!(self.headers.contains("content-type: application/problem+json\r\n"), "{self:?}");
        let problem: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem["status"], self.status);
        problem
    }
}

fn dechunk(mut body: &str) -> String {
    let mut whole = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return whole;
        }
        whole.push_str(&rest[..size]);
        body = rest[size..].strip_prefix("\r\n").unwrap();
    }
}

/// Waits until `condition` holds.
pub(crate) async fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let limit = tokio::time::Instant::now() + AMPLE;
    while !condition() {
        assert!(tokio::time::Instant::now() < limit, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One file that was closed, and one that was not.
pub(crate) fn rotated() -> Vec<RotatedLog> {
    let log = |replica, outcome, file: Option<&str>, reason: Option<&str>| RotatedLog {
        service: "web".to_owned(),
        replica,
        outcome,
        file: file.map(str::to_owned),
        reason: reason.map(str::to_owned),
    };
    vec![
        log(0, RotateOutcome::Rotated, Some("2026-11-22T15-20-01.000000000Z.log"), None),
        log(1, RotateOutcome::Waiting, None, Some("in the middle of a line")),
    ]
}
