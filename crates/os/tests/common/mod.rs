//! What the tests of real processes share: one host at a time, its events with a limit, and what /proc says.
#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::collections::VecDeque;
use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use mainstay_os::{Launch, Output, ProcessEvent, ProcessTrees, Processes, ProcessesOptions, UseCgroups};
use mainstay_testkit::child::misbehave_path;
use mainstay_types::{Exit, LaunchFailure, ReplicaId, ServiceName, SpawnId, StackName, StopSignal};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// Long enough for a busy machine; a test that waits this long has failed.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A process can keep one set of process trees only, and tests share a process.
static ONE_HOST: Mutex<()> = Mutex::new(());

/// For a test without a [`Host`] that makes processes: no other test counts them meanwhile.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ONE_HOST.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub(crate) fn replica(name: &str) -> ReplicaId {
    ReplicaId { service: ServiceName::parse(name).unwrap(), index: 0 }
}

pub(crate) fn launch(program: &str, args: &[&str]) -> Launch {
    Launch {
        program: program.into(),
        args: args.iter().map(Into::into).collect(),
        env: if cfg!(windows) {
            Vec::new()
        } else {
            vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())]
        },
        workdir: if cfg!(windows) { r"C:\".into() } else { "/".into() },
        identity: None,
        limits: mainstay_os::ResourceLimits::default(),
        handed: Vec::new(),
        listen_names: Vec::new(),
    }
}

pub(crate) fn misbehave(args: &[&str]) -> Launch {
    launch(misbehave_path().to_str().unwrap(), args)
}

/// An event without what cannot be compared.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum News {
    Launched(SpawnId, u32),
    Failed(SpawnId, LaunchFailure),
    Exited(SpawnId, Exit, u32),
    Ended(SpawnId),
}

impl News {
    pub(crate) fn spawn(&self) -> SpawnId {
        match self {
            Self::Launched(spawn, _)
            | Self::Failed(spawn, _)
            | Self::Exited(spawn, _, _)
            | Self::Ended(spawn) => *spawn,
        }
    }
}

pub(crate) struct Host {
    pub(crate) processes: Processes,
    pub(crate) outputs: Vec<(SpawnId, Output)>,
    waiting: VecDeque<News>,
    pub(crate) runtime: tokio::runtime::Runtime,
    next_spawn: u64,
    pub(crate) dir: tempfile::TempDir,
    _one: MutexGuard<'static, ()>,
}

impl Host {
    pub(crate) fn start(cgroups: UseCgroups) -> Self {
        let one = alone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let options = options(cgroups, dir.path().to_owned());
        let processes = runtime.block_on(async { Processes::start(options) }).unwrap();
        if cfg!(target_os = "linux") && cgroups == UseCgroups::IfPossible && !processes.uses_cgroups() {
            eprintln!("no usable control groups here: this test ran without");
        }
        let waiting = VecDeque::new();
        Self { processes, outputs: Vec::new(), waiting, runtime, next_spawn: 0, dir, _one: one }
    }

    pub(crate) fn launch(&mut self, name: &str, launch: Launch) -> SpawnId {
        self.next_spawn += 1;
        let spawn = SpawnId(self.next_spawn);
        self.processes.launch(&replica(name), spawn, launch);
        spawn
    }

    /// The next event of any start.
    pub(crate) fn next(&mut self) -> News {
        if let Some(news) = self.waiting.pop_front() {
            return news;
        }
        self.poll_next()
    }

    fn poll_next(&mut self) -> News {
        let Self { processes, runtime, outputs, .. } = self;
        let event = runtime.block_on(async {
            tokio::time::timeout(LIMIT, poll_fn(|cx| processes.poll_event(cx)))
                .await
                .expect("an event within the limit")
        });
        match event {
            ProcessEvent::Launched { spawn, pid, output } => {
                outputs.push((spawn, output));
                News::Launched(spawn, pid)
            }
            ProcessEvent::LaunchFailed { spawn, failure } => News::Failed(spawn, failure),
            ProcessEvent::Exited { spawn, exit, leftovers } => News::Exited(spawn, exit, leftovers),
            ProcessEvent::TreeEnded { spawn } => News::Ended(spawn),
        }
    }

    /// The next event of this start; others wait.
    pub(crate) fn next_of(&mut self, spawn: SpawnId) -> News {
        if let Some(place) = self.waiting.iter().position(|news| news.spawn() == spawn) {
            return self.waiting.remove(place).unwrap();
        }
        loop {
            let news = self.poll_next();
            if news.spawn() == spawn {
                return news;
            }
            self.waiting.push_back(news);
        }
    }

    /// Starts it and waits until it runs; answers its pid.
    #[track_caller]
    pub(crate) fn run(&mut self, name: &str, what: Launch) -> (SpawnId, u32) {
        let spawn = self.launch(name, what);
        match self.next_of(spawn) {
            News::Launched(_, pid) => (spawn, pid),
            other @ (News::Failed(..) | News::Exited(..) | News::Ended(_)) => {
                panic!("expected it to run, got {other:?}")
            }
        }
    }

    #[track_caller]
    pub(crate) fn run_to_end(&mut self, name: &str, what: Launch) -> (Exit, u32) {
        let (spawn, _) = self.run(name, what);
        match self.next_of(spawn) {
            News::Exited(_, exit, leftovers) => (exit, leftovers),
            other @ (News::Launched(..) | News::Failed(..) | News::Ended(_)) => {
                panic!("expected its end, got {other:?}")
            }
        }
    }

    #[track_caller]
    pub(crate) fn failure(&mut self, name: &str, what: Launch) -> LaunchFailure {
        let spawn = self.launch(name, what);
        match self.next_of(spawn) {
            News::Failed(_, failure) => failure,
            other @ (News::Launched(..) | News::Exited(..) | News::Ended(_)) => {
                panic!("expected a failure, got {other:?}")
            }
        }
    }

    /// Runs it and sees its end; answers all it wrote to stdout.
    #[track_caller]
    pub(crate) fn stdout_of_run(&mut self, name: &str, what: Launch) -> String {
        let (spawn, _) = self.run(name, what);
        let text = self.stdout_of(spawn);
        assert_eq!(self.next_of(spawn), News::Exited(spawn, Exit::Code(0), 0));
        text
    }

    pub(crate) fn output(&mut self, spawn: SpawnId) -> Output {
        let place = self.outputs.iter().position(|(of, _)| *of == spawn).unwrap();
        self.outputs.remove(place).1
    }

    /// Everything it wrote to stdout until all writers closed it.
    pub(crate) fn stdout_of(&mut self, spawn: SpawnId) -> String {
        let output = self.output(spawn);
        self.runtime.block_on(async {
            let mut text = Vec::new();
            let mut reader = output.stdout.into_reader().unwrap();
            tokio::time::timeout(LIMIT, reader.read_to_end(&mut text)).await.unwrap().unwrap();
            String::from_utf8_lossy(&text).into_owned()
        })
    }

    /// Its stdout until this many lines came; the pipe is closed then.
    pub(crate) fn lines_of(&mut self, spawn: SpawnId, count: usize) -> Vec<String> {
        let output = self.output(spawn);
        self.runtime.block_on(async {
            let mut text = String::new();
            let mut reader = output.stdout.into_reader().unwrap();
            let mut byte = [0];
            while text.lines().count() < count || !text.ends_with('\n') {
                let read = tokio::time::timeout(LIMIT, reader.read(&mut byte)).await.unwrap().unwrap();
                assert!(read > 0, "ended after {text:?}");
                text.push(char::from(byte[0]));
            }
            text.lines().map(str::to_owned).collect()
        })
    }

    pub(crate) fn stop(&mut self, spawn: SpawnId, signal: StopSignal) {
        self.processes.signal(spawn, signal);
    }

    pub(crate) fn stop_main(&mut self, spawn: SpawnId, signal: StopSignal) {
        self.processes.signal_main(spawn, signal);
    }

    pub(crate) fn processes_kill(&mut self, spawn: SpawnId) {
        self.processes.kill(spawn);
    }

    /// Its stdout, to be read line by line.
    pub(crate) fn reader(&mut self, spawn: SpawnId) -> Pin<Box<dyn AsyncBufRead>> {
        let output = self.output(spawn);
        let _within = self.runtime.enter();
        Box::pin(tokio::io::BufReader::new(output.stdout.into_reader().unwrap()))
    }

    pub(crate) fn line(&self, reader: &mut Pin<Box<dyn AsyncBufRead>>) -> String {
        self.runtime.block_on(async {
            let mut line = String::new();
            tokio::time::timeout(LIMIT, reader.read_line(&mut line)).await.unwrap().unwrap();
            line.trim_end().to_owned()
        })
    }

    /// Lets events happen until `condition` holds.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut condition: impl FnMut() -> bool) {
        let begin = std::time::Instant::now();
        while !condition() {
            assert!(begin.elapsed() < LIMIT, "waited in vain for {what}");
            let Self { processes, runtime, .. } = self;
            let event = runtime.block_on(async {
                tokio::time::timeout(Duration::from_millis(5), poll_fn(|cx| processes.poll_event(cx))).await
            });
            if let Ok(event) = event {
                panic!("unexpected {event:?} while waiting for {what}");
            }
        }
    }

    /// Lets events happen until there is a notice, which must come without news.
    pub(crate) fn until_notice(&mut self) {
        self.notices();
    }

    /// The same; answers what was said.
    pub(crate) fn notices(&mut self) -> Vec<String> {
        let mut notices = Vec::new();
        let begin = std::time::Instant::now();
        while notices.is_empty() {
            assert!(begin.elapsed() < LIMIT, "waited in vain for a notice");
            let Self { processes, runtime, .. } = self;
            let event = runtime.block_on(async {
                tokio::time::timeout(Duration::from_millis(5), poll_fn(|cx| processes.poll_event(cx))).await
            });
            assert!(event.is_err(), "{event:?}");
            notices = self.processes.take_notices();
        }
        notices
    }

    pub(crate) fn shutdown(mut self) {
        self.close();
    }

    /// Shuts down, and keeps other hosts away until this is dropped.
    pub(crate) fn close(&mut self) {
        let Self { processes, runtime, .. } = self;
        runtime.block_on(processes.shutdown());
        assert_eq!(processes.take_notices(), Vec::<String>::new());
    }
}

pub(crate) fn options(cgroups: UseCgroups, state_dir: PathBuf) -> ProcessesOptions {
    ProcessesOptions {
        stack: StackName::parse("contract").unwrap(),
        state_dir,
        launcher_exe: misbehave_path(),
        cgroups,
    }
}

/// Whether such a process is there and has not ended.
pub(crate) fn is_alive(pid: u32) -> bool {
    mainstay_os::pid_exists(pid)
}

/// Whether this is Wine, which differs from Windows where docs/windows.md says so: it is set by whoever runs the tests there.
#[cfg(windows)]
pub(crate) fn is_wine() -> bool {
    std::env::var_os("WINEPREFIX").is_some()
}

/// Ended children of this process that nobody has reaped.
pub(crate) fn zombies() -> Vec<u32> {
    let own = std::process::id().to_string();
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let fields: Vec<&str> =
                stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().collect();
            fields.first() == Some(&"Z") && fields.get(1) == Some(&own.as_str())
        })
        .collect()
}

pub(crate) fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
