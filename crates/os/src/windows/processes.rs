//! Process trees on Windows: the host's side. Each tree is a job object; what happens there comes through one completion port.
//!
//! ```text
//!  launch ──► Asked ──made──► Running ──its handle──► (gone: Exited 0 left)
//!               └──not made──► (gone: LaunchFailed)      └──► Leftovers ──the handles of those left──► (gone: TreeEnded)
//! ```
//! Threads, so that no request blocks: `starter` creates processes, `asker` asks them to end, `processes` waits at the port. All
//! three tell the loop through one channel, which holds a few messages a tree at most. A tree that is gone leaves its number
//! behind for good, so that late messages of it are recognised.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::windows::io::OwnedHandle;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mainstay_types::{Exit, LaunchFailure, LaunchStep, ReplicaId, SpawnId, StopSignal};
use tokio::sync::mpsc;

use super::console::{self, ConsoleEvent};
use super::job::Job;
use super::output::Output;
use super::port::{Port, Report, Watch};
use super::process;
use super::program::{failure_from, failure_in_words};
use super::security::OwnersOnly;
use super::spawn::terminate;
use super::start;
use super::{KILLED, limits, usage};
use crate::{
    Launch, LimitStatus, ProcessEvent, ProcessTrees, ProcessesOptions, ProcessesStartError, ResourceLimits,
    SetMainError,
};

/// The part of a console that programs need not start themselves; it ends with the last of them.
const CONSOLE_PROGRAM: &str = "conhost.exe";
/// A new process gets its console while it starts, within milliseconds; a busy machine takes its time.
const YOUTH: Duration = Duration::from_secs(3);
/// Pause between two tries to reach a young process.
const YOUNG_PAUSE: Duration = Duration::from_millis(50);

/// What the loop is told.
enum Told {
    Reported(usize, Report),
    Started(usize, Result<Started, LaunchFailure>),
    Notice(String),
}

/// A process the starter made.
struct Started {
    process: OwnedHandle,
    pid: u32,
    output: Output,
}

/// What the starter is to make.
struct Order {
    number: usize,
    launch: Box<Launch>,
    job: Arc<Job>,
}

/// What the asker is to say to whom.
struct Question {
    replica: ReplicaId,
    signal: StopSignal,
    job: Arc<Job>,
    /// Until then it may not have come to the point where it has a console.
    young_until: Instant,
}

/// What is true of a tree that is not gone.
#[derive(Debug)]
enum TreeState {
    /// The starter was asked; what is requested meanwhile is done as soon as there is a process.
    Asked { signals: Vec<StopSignal>, killed: bool },
    /// The program runs.
    Running { pid: u32, main: Watch },
    /// The program ended, others of its tree have not: one of them is watched.
    Leftovers { watched: Option<Watch> },
}

#[derive(Debug)]
struct Tree {
    spawn: SpawnId,
    replica: ReplicaId,
    job: Arc<Job>,
    state: TreeState,
    /// Everything in it is to be killed, until nothing is left.
    killing: bool,
    /// From the start on, for a while: see [`Question`].
    young_until: Instant,
    /// Which limits were met, a bit each; each is told once.
    told: u8,
}

/// The process trees of one host on Windows. Dropping it ends every tree, as the host's death would.
pub struct Processes {
    sender: PathBuf,
    port: Port,
    orders: Option<blocking::Sender<Order>>,
    questions: Option<blocking::Sender<Question>>,
    threads: Vec<JoinHandle<()>>,
    news: mpsc::UnboundedReceiver<Told>,
    ready: std::collections::VecDeque<ProcessEvent<Output>>,
    trees: HashMap<usize, Tree>,
    numbers: HashMap<SpawnId, usize>,
    next_number: usize,
    notices: Vec<String>,
    waker: Option<std::task::Waker>,
}

impl fmt::Debug for Processes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Processes").field("trees", &self.trees).finish_non_exhaustive()
    }
}

impl Processes {
    /// Begins to keep process trees. To be called within the tokio runtime that will poll the events.
    ///
    /// # Errors
    /// [`ProcessesStartError`].
    pub fn start(options: ProcessesOptions) -> Result<Self, ProcessesStartError> {
        let system = |doing| move |source| ProcessesStartError::System { doing, source };
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(ProcessesStartError::NoRuntime);
        }
        console::hear_ctrl_c();
        let owners = OwnersOnly::new().map_err(system("look up the account it runs as"))?;
        let port = Port::new().map_err(system("make a completion port"))?;
        let (tell, news) = mpsc::unbounded_channel();
        let thread = "start a thread";
        let told = tell.clone();
        let listening = port
            .listen(move |number, report| told.send(Told::Reported(number, report)).is_ok())
            .map_err(system(thread))?;
        let mut processes = Self {
            sender: options.launcher_exe,
            port,
            orders: None,
            questions: None,
            threads: vec![listening],
            news,
            ready: std::collections::VecDeque::new(),
            trees: HashMap::new(),
            numbers: HashMap::new(),
            // 0 is the port's own.
            next_number: 1,
            notices: Vec::new(),
            waker: None,
        };
        let (orders, ordered) = blocking::channel::<Order>();
        let told = tell.clone();
        let starter = move || {
            for Order { number, launch, job } in ordered {
                let started = start::start(&launch, &job, &owners);
                let started =
                    started.map(|(made, output)| Started { process: made.process, pid: made.pid, output });
                // The launch holds what is handed over; it must be gone when the loop hears of the process.
                drop(launch);
                if told.send(Told::Started(number, started)).is_err() {
                    return;
                }
            }
        };
        processes.threads.push(spawn_thread("starter", starter).map_err(system(thread))?);
        processes.orders = Some(orders);
        let (questions, questioned) = blocking::channel::<Question>();
        let sender = processes.sender.clone();
        let asker = move || {
            for question in questioned {
                if let Some(notice) = ask(&sender, &question)
                    && tell.send(Told::Notice(notice)).is_err()
                {
                    return;
                }
            }
        };
        processes.threads.push(spawn_thread("asker", asker).map_err(system(thread))?);
        processes.questions = Some(questions);
        Ok(processes)
    }

    /// Windows has no control groups.
    #[must_use]
    pub const fn uses_cgroups(&self) -> bool {
        false
    }

    /// Which of these limits are in force here, and by what: the same for every start of this host.
    #[must_use]
    pub fn limits_in_force(&self, limits: &ResourceLimits, switches_user: bool) -> Vec<LimitStatus> {
        limits::limits_in_force_here(limits, switches_user)
    }

    /// The main process of a start, for [`crate::tree_usage`] and for people; `None` before it runs and after its end.
    #[must_use]
    pub fn main_pid(&self, spawn: SpawnId) -> Option<u32> {
        match &self.tree(spawn)?.state {
            TreeState::Running { pid, .. } => Some(*pid),
            TreeState::Asked { .. } | TreeState::Leftovers { .. } => None,
        }
    }

    /// Whether a process is of the tree of a start; `None` when the start is gone or the process cannot be looked at.
    #[must_use]
    pub fn owns(&self, spawn: SpawnId, pid: u32) -> Option<bool> {
        let job = &self.tree(spawn)?.job;
        job.holds(&process::open(pid).ok()?).ok()
    }

    /// Makes another process of the tree its main one. Nobody can ask for it here: there is no sd_notify.
    ///
    /// # Errors
    /// Always.
    pub fn set_main(&mut self, spawn: SpawnId, pid: u32) -> Result<(), SetMainError> {
        let Some(tree) = self.tree(spawn) else { return Err(SetMainError::NotRunning { pid }) };
        if tree.killing {
            return Err(SetMainError::Ending { pid });
        }
        Err(SetMainError::System { pid, source: io::ErrorKind::Unsupported.into() })
    }

    /// Every live process of a tree, its main one included; for people, in no order.
    #[must_use]
    pub fn pids(&self, spawn: SpawnId) -> Vec<u32> {
        self.tree(spawn).map(|tree| members(&tree.job)).unwrap_or_default()
    }

    /// There is no launcher: the host makes processes itself.
    #[must_use]
    pub const fn launcher_pid(&self) -> Option<u32> {
        None
    }

    /// What went wrong without being an answer to anything, in words, since the last call: a tree that cannot be asked to end, a
    /// limit that was met.
    pub fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// Whether [`Processes::take_notices`] has something to give. Notices come without news: whoever waits for events
    /// asks this after each `Pending`.
    #[must_use]
    pub const fn has_notices(&self) -> bool {
        !self.notices.is_empty()
    }

    /// Ends the threads. Trees that still live are left alone until this is dropped: end them first.
    #[expect(clippy::unused_async, reason = "the same signature on every system")]
    pub async fn shutdown(&mut self) {
        self.end_threads();
    }

    fn end_threads(&mut self) {
        self.orders = None;
        self.questions = None;
        self.port.quit();
        for thread in self.threads.drain(..) {
            // Each ends with what it is doing, which is bounded; a panic there has been reported by its hook.
            let _ = thread.join();
        }
    }

    fn tree(&self, spawn: SpawnId) -> Option<&Tree> {
        self.trees.get(self.numbers.get(&spawn)?)
    }

    fn tree_mut(&mut self, spawn: SpawnId) -> Option<&mut Tree> {
        self.trees.get_mut(self.numbers.get(&spawn)?)
    }

    fn announce(&mut self, event: ProcessEvent<Output>) {
        self.ready.push_back(event);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn notice(&mut self, notice: String) {
        self.notices.push(notice);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// A job with its limits, that reports under `number`.
    fn job_for(&self, launch: &Launch, number: usize) -> Result<Job, LaunchFailure> {
        let kept = limits::kept();
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let job = Job::new().map_err(|error| failure_from(LaunchStep::Cgroup, None, &error))?;
        job.set_limits(limits::job_limits(&launch.limits, kept, processors))
            .map_err(|error| failure_from(LaunchStep::Limits, None, &error))?;
        job.report_to(&self.port, number).map_err(|error| failure_from(LaunchStep::Cgroup, None, &error))?;
        Ok(job)
    }

    fn on_told(&mut self, told: Told) {
        match told {
            Told::Started(number, Ok(started)) => self.on_started(number, started),
            Told::Started(number, Err(failure)) => {
                if let Some(tree) = self.forget(number) {
                    self.ready.push_back(ProcessEvent::LaunchFailed { spawn: tree.spawn, failure });
                }
            }
            Told::Reported(number, Report::ProcessEnded | Report::JobEmpty) => self.look(number),
            Told::Reported(number, Report::MemoryShort) => self.on_short(number, 1, "memory"),
            Told::Reported(number, Report::ProcessesShort) => self.on_short(number, 2, "processes (pids)"),
            Told::Notice(notice) => self.notices.push(notice),
        }
    }

    fn on_short(&mut self, number: usize, bit: u8, what: &str) {
        let Some(tree) = self.trees.get_mut(&number) else { return };
        if tree.told & bit == 0 {
            tree.told |= bit;
            self.notices
                .push(format!("{} has reached its limit of {what}: it was refused more", tree.replica));
        }
    }

    fn on_started(&mut self, number: usize, Started { process, pid, output }: Started) {
        let Some(tree) = self.trees.get_mut(&number) else { return };
        let spawn = tree.spawn;
        let main = match Watch::start(&self.port, number, Arc::new(process)) {
            Ok(main) => main,
            Err(error) => {
                // A process whose end would not be seen must not stay.
                let _ = tree.job.terminate(KILLED);
                let failure = failure_from(LaunchStep::Spawn, None, &error);
                self.forget(number);
                self.ready.push_back(ProcessEvent::LaunchFailed { spawn, failure });
                return;
            }
        };
        usage::remember(pid, &tree.job);
        tree.young_until = Instant::now() + YOUTH;
        let before = std::mem::replace(&mut tree.state, TreeState::Running { pid, main });
        self.ready.push_back(ProcessEvent::Launched { spawn, pid, output });
        if let TreeState::Asked { signals, killed } = before {
            for signal in signals {
                self.signal(spawn, signal);
            }
            if killed {
                self.kill(spawn);
            }
        }
    }

    /// Something ended in a tree: looks what is left of it.
    fn look(&mut self, number: usize) {
        let Some(tree) = self.trees.get_mut(&number) else { return };
        match &tree.state {
            // Its process is not known yet; its end will be told by its handle.
            TreeState::Asked { .. } => {}
            TreeState::Running { pid, main } => {
                if !process::has_ended(main.process()) {
                    return;
                }
                let (pid, spawn) = (*pid, tree.spawn);
                let exit = process::exit_code(main.process()).map_or(Exit::Unknown, Exit::Code);
                usage::forget(pid);
                let left: Vec<u32> = members(&tree.job).into_iter().filter(|member| *member != pid).collect();
                let leftovers = u32::try_from(left.len()).unwrap_or(u32::MAX);
                self.ready.push_back(ProcessEvent::Exited { spawn, exit, leftovers });
                if left.is_empty() {
                    self.forget(number);
                } else {
                    tree.state = TreeState::Leftovers { watched: None };
                    self.watch_next(number);
                }
            }
            TreeState::Leftovers { .. } => self.watch_next(number),
        }
    }

    /// Watches one of those that are left; when none is, the tree has ended.
    fn watch_next(&mut self, number: usize) {
        let Some(tree) = self.trees.get_mut(&number) else { return };
        if tree.killing {
            // Nothing can be new in a job that was ended; this is for what the first call did not find.
            let _ = tree.job.terminate(KILLED);
        }
        if let TreeState::Leftovers { watched: Some(watched) } = &tree.state
            && !process::has_ended(watched.process())
        {
            return;
        }
        let left = members(&tree.job);
        if left.is_empty() {
            let spawn = tree.spawn;
            self.forget(number);
            self.ready.push_back(ProcessEvent::TreeEnded { spawn });
            return;
        }
        let watched = left.into_iter().find_map(|pid| {
            let process = process::open(pid).ok()?;
            // Its number may be another's by now.
            if !tree.job.holds(&process).ok()? {
                return None;
            }
            Watch::start(&self.port, number, Arc::new(process)).ok()
        });
        // Where none can be watched, the job's own report has to do.
        tree.state = TreeState::Leftovers { watched };
    }

    fn forget(&mut self, number: usize) -> Option<Tree> {
        let tree = self.trees.remove(&number)?;
        self.numbers.remove(&tree.spawn);
        if let TreeState::Running { pid, .. } = &tree.state {
            usage::forget(*pid);
        }
        Some(tree)
    }
}

impl ProcessTrees for Processes {
    type Output = Output;

    fn launch(&mut self, replica: &ReplicaId, spawn: SpawnId, launch: Launch) {
        let number = self.next_number;
        self.next_number += 1;
        let job = match self.job_for(&launch, number) {
            Ok(job) => Arc::new(job),
            Err(failure) => return self.announce(ProcessEvent::LaunchFailed { spawn, failure }),
        };
        let tree = Tree {
            spawn,
            replica: replica.clone(),
            job: Arc::clone(&job),
            state: TreeState::Asked { signals: Vec::new(), killed: false },
            killing: false,
            young_until: Instant::now() + YOUTH,
            told: 0,
        };
        let order = Order { number, launch: Box::new(launch), job };
        if self.orders.as_ref().is_none_or(|orders| orders.send(order).is_err()) {
            let message = "the thread that starts programs has ended".to_owned();
            let failure = failure_in_words(LaunchStep::Spawn, None, message);
            return self.announce(ProcessEvent::LaunchFailed { spawn, failure });
        }
        self.trees.insert(number, tree);
        self.numbers.insert(spawn, number);
    }

    /// INT is Ctrl-C, QUIT is Ctrl-Break, HUP closes windows; TERM is Ctrl-C for a tree with a console and closes the windows of
    /// one without. The two signals of a program's own meaning have no counterpart: a notice says so.
    fn signal(&mut self, spawn: SpawnId, signal: StopSignal) {
        if signal == StopSignal::Kill {
            return self.kill(spawn);
        }
        let Some(tree) = self.tree_mut(spawn) else { return };
        if let TreeState::Asked { signals, .. } = &mut tree.state {
            if !signals.contains(&signal) {
                signals.push(signal);
            }
            return;
        }
        let question = Question {
            replica: tree.replica.clone(),
            signal,
            job: Arc::clone(&tree.job),
            young_until: tree.young_until,
        };
        let replica = tree.replica.clone();
        if self.questions.as_ref().is_none_or(|questions| questions.send(question).is_err()) {
            self.notice(format!("{replica} cannot be asked to end: the thread that asks has ended"));
        }
    }

    /// A console is shared by a tree, so only a kill can be for one process alone: a notice says so.
    fn signal_main(&mut self, spawn: SpawnId, signal: StopSignal) {
        let Some(tree) = self.tree_mut(spawn) else { return };
        let replica = tree.replica.clone();
        match (&mut tree.state, signal) {
            (TreeState::Asked { killed, .. }, StopSignal::Kill) => *killed = true,
            (TreeState::Running { main, .. }, StopSignal::Kill) => terminate(main.process()),
            (TreeState::Leftovers { .. }, _) => {}
            (TreeState::Asked { .. } | TreeState::Running { .. }, signal) => self.notice(format!(
                "{replica} was not told {signal}: Windows has no signal for one process alone; use a command"
            )),
        }
    }

    fn kill(&mut self, spawn: SpawnId) {
        let Some(tree) = self.tree_mut(spawn) else { return };
        if let TreeState::Asked { killed, .. } = &mut tree.state {
            *killed = true;
            return;
        }
        tree.killing = true;
        let replica = tree.replica.clone();
        if let Err(error) = tree.job.terminate(KILLED) {
            self.notice(format!("{replica} cannot be killed: {error}"));
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<ProcessEvent<Output>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(event);
            }
            match self.news.poll_recv(cx) {
                // What became a notice is seen by whoever waits, after this is pending.
                Poll::Ready(Some(told)) => self.on_told(told),
                // All threads have ended: there is no more news.
                Poll::Ready(None) | Poll::Pending => {
                    self.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for tree in self.trees.values() {
            let _ = tree.job.terminate(KILLED);
        }
        self.end_threads();
        for tree in self.trees.values() {
            if let TreeState::Running { pid, .. } = &tree.state {
                usage::forget(*pid);
            }
        }
    }
}

fn spawn_thread(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).stack_size(256 * 1024).spawn(body)
}

/// The live processes of a job, without what serves its console alone.
fn members(job: &Job) -> Vec<u32> {
    let serves_console = |pid: &u32| {
        process::open(*pid).and_then(|process| process::file(&process)).is_ok_and(|file| {
            file.file_name().is_some_and(|name| OsString::from(name).eq_ignore_ascii_case(CONSOLE_PROGRAM))
        })
    };
    job.pids().unwrap_or_default().into_iter().filter(|pid| !serves_console(pid)).collect()
}

/// Asks a tree to end; answers what to say when it cannot be asked. One that has just begun is tried again until it can be.
fn ask(sender: &std::path::Path, question: &Question) -> Option<String> {
    let Question { replica, signal, job, young_until } = question;
    loop {
        let pids = job.pids().unwrap_or_default();
        if pids.is_empty() {
            return None;
        }
        let is_young = Instant::now() < *young_until;
        let by_console = |event| console::send(sender, event, &pids);
        let by_windows = || console::close_windows(&pids) > 0;
        let (reached, missing) = match signal {
            StopSignal::Int => (by_console(ConsoleEvent::CtrlC), "no console for Ctrl-C"),
            StopSignal::Quit => (by_console(ConsoleEvent::CtrlBreak), "no console for Ctrl-Break"),
            StopSignal::Hup => (Ok(by_windows()), "no window to be closed"),
            StopSignal::Term => (
                by_console(ConsoleEvent::CtrlC).map(|reached| reached || by_windows()),
                "neither a console for Ctrl-C nor a window to be closed",
            ),
            StopSignal::Usr1 | StopSignal::Usr2 => {
                let words = "Windows has nothing like it; use a command";
                return Some(format!("{replica} was not told {signal}: {words}"));
            }
            // Not by asking.
            StopSignal::Kill => return None,
        };
        match reached {
            Ok(true) => return None,
            Ok(false) if is_young => std::thread::sleep(YOUNG_PAUSE),
            // It may have ended meanwhile.
            Ok(false) if job.pids().is_ok_and(|pids| pids.is_empty()) => return None,
            Ok(false) => return Some(format!("{replica} was not asked to end: it has {missing}")),
            Err(error) => return Some(format!("{replica} was not asked to end: {error}")),
        }
    }
}
