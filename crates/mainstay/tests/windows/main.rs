//! `mainstay.exe` whole, on Windows or under Wine: a stack runs, is asked over its pipe, is stopped by Ctrl-C on its console,
//! and leaves nothing behind however its host ends.
//!
//! `cargo xtask suite windows` runs these; elsewhere they are ignored, for they start programs of Windows. The host under test is
//! itself a child of the tests in a console of its own, so that Ctrl-C can be pressed there.

use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mainstay_os::{
    Launch, ProcessEvent, ProcessTrees, Processes, ProcessesOptions, ResourceLimits, UseCgroups,
};
use mainstay_testkit::child::misbehave_path;
use mainstay_types::{Exit, ReplicaId, ServiceName, SpawnId, StackName, StopSignal};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Generous for a machine busy with other things.
const LIMIT: Duration = Duration::from_secs(60);
/// Distance of two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const SPAWN: SpawnId = SpawnId(1);
/// What Windows calls the end of a process from outside.
const KILLED: Exit = Exit::Code(0x4001_0004);

/// The program under test, beside the child that misbehaves: the path cargo names is one of the system it was built on.
fn mainstay_path() -> PathBuf {
    misbehave_path().with_file_name(format!("mainstay{}", std::env::consts::EXE_SUFFIX))
}

/// A folder with a `mainstay.toml`, its state and its pipe.
struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    /// `@misbehave` in the file is the program that misbehaves on request.
    fn new(toml: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let misbehave = misbehave_path();
        std::fs::write(
            dir.path().join("mainstay.toml"),
            toml.replace("@misbehave", misbehave.to_str().unwrap()),
        )
        .unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn places(&self) -> [(&'static str, PathBuf); 2] {
        [("MAINSTAY_STATE_DIR", self.path("state")), ("MAINSTAY_RUNTIME_DIR", self.path("run"))]
    }

    /// Runs a command about this stack to its end.
    fn mainstay(&self, args: &[&str]) -> Output {
        Command::new(mainstay_path())
            .args(args)
            .current_dir(self.dir.path())
            .envs(self.places())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// What a command that must succeed writes.
    #[track_caller]
    fn said(&self, args: &[&str]) -> String {
        let output = self.mainstay(args);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{args:?}: {:?}\n{out}{err}", output.status);
        out
    }

    /// The status, or null while nobody answers.
    fn status(&self) -> Value {
        let output = self.mainstay(&["status", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    fn replica(&self, service: &str) -> Value {
        let status = self.status();
        let services = status["services"].as_array().cloned().unwrap_or_default();
        let found = services.into_iter().find(|one| one["name"] == service).unwrap_or_default();
        found["replicas"][0].clone()
    }

    fn pid(&self, service: &str) -> u32 {
        u32::try_from(self.replica(service)["pid"].as_u64().unwrap()).unwrap()
    }

    /// Every line of a service so far.
    fn lines(&self, service: &str) -> Vec<String> {
        self.said(&["logs", service, "--json"])
            .lines()
            .filter_map(|line| {
                let line: Value = serde_json::from_str(line).unwrap();
                Some(line["line"].as_str().or_else(|| line["message"].as_str())?.to_owned())
            })
            .collect()
    }

    fn run(&self, args: &[&str]) -> Running<'_> {
        Running::start(self, args)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `mainstay run` in a console of its own.
struct Running<'a> {
    fixture: &'a Fixture,
    runtime: tokio::runtime::Runtime,
    processes: Processes,
    pid: u32,
    said: Arc<Mutex<String>>,
    exit: Option<Exit>,
}

impl<'a> Running<'a> {
    fn start(fixture: &'a Fixture, args: &[&str]) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let exe = mainstay_path();
        let options = ProcessesOptions {
            stack: StackName::parse("tests").unwrap(),
            state_dir: fixture.path("outer"),
            launcher_exe: exe.clone(),
            cgroups: UseCgroups::IfPossible,
        };
        let mut processes = runtime.block_on(async { Processes::start(options) }).unwrap();
        let mut env: Vec<_> = std::env::vars_os()
            .filter(|(name, _)| mainstay_os::is_passed_on(&name.to_string_lossy()))
            .collect();
        env.extend(fixture.places().map(|(name, value)| (name.into(), value.into())));
        env.push(("NO_COLOR".into(), "1".into()));
        let launch = Launch {
            program: exe.into(),
            args: [&["run"], args].concat().into_iter().map(Into::into).collect(),
            env,
            workdir: fixture.dir.path().to_owned(),
            identity: None,
            limits: ResourceLimits::default(),
            handed: Vec::new(),
            listen_names: Vec::new(),
        };
        let replica = ReplicaId { service: ServiceName::parse("host").unwrap(), index: 0 };
        processes.launch(&replica, SPAWN, launch);
        let mut running = Self { fixture, runtime, processes, pid: 0, said: Arc::default(), exit: None };
        running.until("the host runs", |running| running.pid != 0);
        running
    }

    /// Lets the host go on until `condition` holds.
    #[track_caller]
    fn until(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        let begun = Instant::now();
        loop {
            self.hear();
            if condition(self) {
                return;
            }
            assert!(
                begun.elapsed() < LIMIT,
                "waited in vain for {what}; the host said:\n{}\nstatus: {}",
                self.said(),
                self.fixture.status()
            );
        }
    }

    /// News of the host, and what it says, for a moment.
    fn hear(&mut self) {
        let Self { runtime, processes, .. } = self;
        let event = runtime.block_on(async {
            tokio::time::timeout(LOOK_EVERY, poll_fn(|cx| processes.poll_event(cx))).await
        });
        match event {
            Err(_) => {}
            Ok(ProcessEvent::Launched { pid, output, .. }) => {
                self.pid = pid;
                let _within = self.runtime.enter();
                self.runtime.spawn(keep(output.stdout.into_reader().unwrap(), Arc::clone(&self.said)));
                self.runtime.spawn(keep(output.stderr.into_reader().unwrap(), Arc::clone(&self.said)));
            }
            Ok(ProcessEvent::LaunchFailed { failure, .. }) => panic!("{failure}"),
            Ok(ProcessEvent::Exited { exit, .. }) => self.exit = Some(exit),
            Ok(ProcessEvent::TreeEnded { .. }) => {}
        }
    }

    fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    #[track_caller]
    fn until_state(&mut self, service: &str, state: &str) {
        let fixture = self.fixture;
        self.until(&format!("{service} to be {state}"), |_| fixture.replica(service)["state"] == state);
    }

    /// On the host's console alone, by the same sender that the host uses: its tree holds the consoles of its services, too.
    #[track_caller]
    fn press_ctrl_c(&self) {
        let pid = self.pid.to_string();
        let sent = Command::new(mainstay_path()).args(["internal-console-event", "ctrl-c", &pid]).status();
        assert_eq!(sent.unwrap().code(), Some(40), "the host has a console");
    }

    /// Ends the host alone, as the task manager does.
    fn kill_host(&mut self) {
        self.processes.signal_main(SPAWN, StopSignal::Kill);
    }

    #[track_caller]
    fn end(&mut self) -> Exit {
        self.until("the host to end", |running| running.exit.is_some());
        self.exit.unwrap()
    }
}

async fn keep(mut reader: impl AsyncRead + Unpin, said: Arc<Mutex<String>>) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = reader.read(&mut buffer).await {
        said.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text(&buffer[..length]));
    }
}

#[track_caller]
fn until_gone(pids: &[u32]) {
    mainstay_testkit::wait::wait_for("every process to end", LIMIT, || {
        !pids.iter().any(|pid| mainstay_os::pid_exists(*pid))
    });
}

const SHOP: &str = r#"
stack = "shop"

[service.web]
command = ['@misbehave', 'ignore-term']
readiness = { log = "^ready$" }
stop = { grace = "2s" }

[service.worker]
command = ['@misbehave', 'grandchildren', '2']
needs = [{ service = "web" }]
readiness = { log = "^ready$" }

[service.once]
kind = "oneshot"
command = ['@misbehave', 'lines', '10']
"#;

#[test]
#[ignore = "a program of Windows: cargo xtask suite windows"]
fn a_stack_runs_answers_and_stops_at_ctrl_c() {
    let fixture = Fixture::new(SHOP);
    assert_eq!(fixture.mainstay(&["status"]).status.code(), Some(3), "nobody answers yet");
    let mut host = fixture.run(&[]);
    host.until_state("worker", "ready");
    host.until_state("once", "completed");

    // Over the pipe.
    let web = fixture.replica("web");
    assert!(web["memory_bytes"].as_u64().unwrap() > 0, "{web}");
    let (web, worker) = (fixture.pid("web"), fixture.pid("worker"));
    let table = fixture.said(&["status"]);
    assert!(table.contains("web") && table.contains("worker"), "{table}");

    // Its output, of both streams, by the pipe.
    let mut lines = fixture.lines("once");
    lines.sort();
    assert_eq!(lines, (0..10).map(|line| format!("line {line}")).collect::<Vec<_>>());

    // Another host of the stack finds this one.
    let second = fixture.mainstay(&["run"]);
    assert!(!second.status.success());
    assert!(text(&second.stderr).contains(&host.pid.to_string()), "{}", text(&second.stderr));

    // A stop ends the whole tree; the others go on.
    let children: Vec<u32> = fixture.lines("worker").iter().filter_map(|line| line.parse().ok()).collect();
    assert_eq!(children.len(), 2);
    fixture.said(&["stop", "worker"]);
    until_gone(&[worker, children[0], children[1]]);
    assert_eq!(fixture.replica("worker")["state"], "stopped");
    assert!(mainstay_os::pid_exists(web));
    fixture.said(&["start", "worker"]);
    assert_ne!(fixture.pid("worker"), worker);
    fixture.said(&["restart", "worker"]);

    // In the end: all is asked, and what does not listen is ended after its time.
    let worker = fixture.pid("worker");
    host.press_ctrl_c();
    assert_eq!(host.end(), Exit::Code(0), "{}", host.said());
    until_gone(&[web, worker]);
    host.until("its last words", |host| host.said().contains("everything has stopped"));
    assert!(host.said().contains("stopping everything in order"), "{}", host.said());
    assert!(fixture.lines("web").contains(&"ignored Ctrl-C".to_owned()), "{:?}", fixture.lines("web"));
    let events = fixture.said(&["events", "--json"]);
    assert!(events.contains("was ended from outside"), "{events}");
    assert_eq!(fixture.mainstay(&["status"]).status.code(), Some(3), "nobody answers any more");
}

#[test]
#[ignore = "a program of Windows: cargo xtask suite windows"]
fn nothing_outlives_a_host_that_is_killed() {
    let fixture = Fixture::new(SHOP);
    let mut host = fixture.run(&[]);
    host.until_state("worker", "ready");
    let mut pids = vec![fixture.pid("web"), fixture.pid("worker")];
    pids.extend(fixture.lines("worker").iter().filter_map(|line| line.parse::<u32>().ok()));
    assert_eq!(pids.len(), 4);
    assert!(pids.iter().all(|pid| mainstay_os::pid_exists(*pid)));
    host.kill_host();
    assert_eq!(host.end(), KILLED);
    until_gone(&pids);

    // The next one takes over the stack, and reads what was written.
    let mut host = fixture.run(&["web"]);
    host.until_state("web", "ready");
    assert_eq!(fixture.lines("web").iter().filter(|line| *line == "ready").count(), 2);
    host.press_ctrl_c();
    assert_eq!(host.end(), Exit::Code(0));
}

#[test]
#[ignore = "a program of Windows: cargo xtask suite windows"]
fn failures_are_told_in_words() {
    let fixture = Fixture::new(
        r#"
stack = "bad"

[service.fails]
command = ['@misbehave', 'exit', '3']
restart = { backoff = { first = "10ms" }, give_up = { failures = 2, within = "60s" } }

[service.missing]
command = ['no-such-program']
restart = { when = "never" }

[service.stays]
command = ['@misbehave', 'sleep']
"#,
    );
    let mut host = fixture.run(&[]);
    host.until_state("fails", "failed");
    host.until_state("missing", "failed");
    let fails = fixture.replica("fails");
    assert_eq!(fails["last_exit"]["code"], 3, "{fails}");
    let status = fixture.said(&["status"]);
    assert!(status.contains("no-such-program"), "{status}");
    host.press_ctrl_c();
    assert_eq!(host.end(), Exit::Code(0), "stopped as asked: {}", host.said());
    let check = fixture.mainstay(&["check"]);
    assert_eq!(check.status.code(), Some(1));
    assert!(text(&check.stderr).contains("no-such-program"), "{}", text(&check.stderr));
}

#[test]
#[ignore = "a program of Windows: cargo xtask suite windows"]
fn sockets_of_listen_are_open_and_told() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let fixture = Fixture::new(&format!(
        "stack = \"sockets\"\n[service.web]\ncommand = ['@misbehave', 'ignore-term']\n\
         [service.shown]\nkind = \"oneshot\"\ncommand = ['@misbehave', 'env']\n\
         listen = {{ http = \"{address}\" }}\n"
    ));
    let mut host = fixture.run(&[]);
    host.until_state("shown", "completed");
    let lines = fixture.lines("shown");
    let value = |name: &str| lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    assert_eq!(value("LISTEN_FDNAMES"), Some("http"), "{lines:?}");
    assert!(value("LISTEN_HANDLES").unwrap().parse::<u64>().unwrap() > 0, "{lines:?}");
    assert_eq!(value("LISTEN_FDS"), None);
    assert_eq!(value("MAINSTAY_SERVICE"), Some("shown"));
    // The host keeps it open.
    std::net::TcpStream::connect(address).unwrap();
    host.press_ctrl_c();
    assert_eq!(host.end(), Exit::Code(0), "{}", host.said());
}

#[test]
#[ignore = "a program of Windows: cargo xtask suite windows"]
fn the_demonstration_plays() {
    let fixture = Fixture::new("");
    let mut host = fixture.run(&["--demo"]);
    host.until("a service of it to be ready", |host| host.said().contains("ready"));
    host.press_ctrl_c();
    let exit = host.end();
    assert!(matches!(exit, Exit::Code(0 | 1)), "{exit:?}: {}", host.said());
}

/// Paths in files of tests are literal texts of TOML.
#[test]
fn the_fixture_writes_a_file_that_reads() {
    let fixture = Fixture::new(SHOP);
    let written = std::fs::read_to_string(fixture.path("mainstay.toml")).unwrap();
    assert!(written.contains("misbehave") && !written.contains("@misbehave"));
    assert!(mainstay_path().exists() && Path::new(env!("CARGO_BIN_EXE_mainstay")).exists());
}
