//! Process trees on Linux: the host's side. One epoll descriptor gathers the launcher's socket, status pipes, pidfds
//! and SIGCHLD, and is itself watched by the host's runtime; nothing here waits or polls by time.
//!
//! ```text
//!  launch ──► Asked ──reply──► Starting ──status pipe ends──► Running ──pidfd──► (gone: Exited 0 left)
//!               │                  └──status pipe speaks──► Failing ──pidfd──► (gone: LaunchFailed)
//!               └──reply without a process──► (gone: LaunchFailed)       Running ──pidfd──► Leftovers ──► (gone: TreeEnded)
//! ```
//! A main process stays a zombie while its tree lives: its pid, session and group numbers cannot be taken by others. When
//! another one becomes the main one (`main_process`), a tree that runs or has leftovers is Running with that one.

mod adopted;
mod link;
mod main_process;
mod memory;
mod requests;
mod settle;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::future::Future as _;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use mainstay_types::{LaunchFailure, ReplicaId, SpawnId, StopSignal};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::time::Timespec;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use self::adopted::Adopted;
use self::link::{Link, Starter};
use self::requests::{Groups, Request};
use super::cgroup::{Cgroups, Group};
use super::child_signal::ChildSignal;
use super::confinement::{Confined, Confinement};
use super::output::Output;
use super::procfs::HostId;
use super::wire;
use crate::{
    Launch, LimitStatus, ProcessEvent, ProcessTrees, ProcessesOptions, ProcessesStartError, ResourceLimits,
    UseCgroups,
};

/// Most events taken from the kernel at once; the rest comes with the next look.
const EVENT_BATCH: usize = 256;

/// One host a process: the children of a process have one list, and one signal.
static IN_USE: AtomicBool = AtomicBool::new(false);

struct InUse;

impl Drop for InUse {
    fn drop(&mut self) {
        IN_USE.store(false, Ordering::Release);
    }
}

/// What a source in the epoll set is; its number there is the kind in the highest byte and the spawn below.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Launcher,
    ChildSignal,
    Status(SpawnId),
    Main(SpawnId),
    Group(SpawnId),
    Memory(SpawnId),
}

impl Source {
    /// Spawn ids are counted from 0 by one host: 2⁵⁶ of them are never reached.
    const SPAWN_BITS: u32 = 56;

    fn data(self) -> epoll::EventData {
        let (kind, spawn) = match self {
            Self::Launcher => (0, 0),
            Self::ChildSignal => (1, 0),
            Self::Status(spawn) => (2, spawn.0),
            Self::Main(spawn) => (3, spawn.0),
            Self::Group(spawn) => (4, spawn.0),
            Self::Memory(spawn) => (5, spawn.0),
        };
        epoll::EventData::new_u64(kind << Self::SPAWN_BITS | spawn)
    }

    fn from_data(data: epoll::EventData) -> Option<Self> {
        let spawn = SpawnId(data.u64() & ((1 << Self::SPAWN_BITS) - 1));
        Some(match data.u64() >> Self::SPAWN_BITS {
            0 => Self::Launcher,
            1 => Self::ChildSignal,
            2 => Self::Status(spawn),
            3 => Self::Main(spawn),
            4 => Self::Group(spawn),
            5 => Self::Memory(spawn),
            _ => return None,
        })
    }
}

/// What is true of a tree that is not gone.
#[derive(Debug)]
enum TreeState {
    /// The launcher was asked; what is requested meanwhile is done as soon as there is a process.
    Asked { signals: Vec<StopSignal>, killed: bool },
    /// There is a process on its way to the program.
    Starting { main: Main, status: OwnedFd, output: Output },
    /// It told why it will not get there; what is left is to see it end.
    Failing { main: Main, failure: LaunchFailure },
    /// The program runs.
    Running { main: Main },
    /// The program ended, others of its tree have not. Holds the zombie, and what reports a change of its group.
    Leftovers { main: Main, events: Option<OwnedFd> },
}

impl TreeState {
    const fn main(&self) -> Option<&Main> {
        match self {
            Self::Asked { .. } => None,
            Self::Starting { main, .. }
            | Self::Failing { main, .. }
            | Self::Running { main }
            | Self::Leftovers { main, .. } => Some(main),
        }
    }
}

/// The main process of a tree, held.
#[derive(Debug)]
struct Main {
    pid: u32,
    pidfd: OwnedFd,
}

#[derive(Debug)]
struct Tree {
    replica: ReplicaId,
    /// Kept until the program runs, to explain why it does not.
    launch: Option<Box<Launch>>,
    state: TreeState,
    /// The process that was started, when another one is the main one.
    first: Option<Main>,
    /// `None`: kept together by descent and marker.
    group: Option<Arc<Group>>,
    /// What holds its limits, and tells when memory was short.
    confined: Confined,
    /// Everything in it is to be killed, until nothing is left.
    killing: bool,
    /// Sweeps made to kill it.
    rounds: u32,
}

/// The process trees of one host on Linux. Dropping it without [`Processes::shutdown`] ends every tree, as the host's
/// death would.
pub struct Processes {
    epoll: AsyncFd<OwnedFd>,
    events: Vec<epoll::Event>,
    link: Option<Link>,
    /// Whether the launcher's socket is watched for room to send.
    link_wants_room: bool,
    starter: Starter,
    hello: Vec<u8>,
    launcher_exe: std::path::PathBuf,
    child_signal: ChildSignal,
    cgroups: Option<Cgroups>,
    confinement: Confinement,
    groups: HashMap<ReplicaId, Groups>,
    host: HostId,
    stack: mainstay_types::StackName,
    /// RLIMIT_NOFILE for services that name none: what the host itself was started with.
    open_files: (u64, u64),
    /// In places of their own: a table is up to half empty.
    trees: HashMap<SpawnId, Box<Tree>>,
    /// Unreaped main processes by pid.
    mains: HashMap<u32, SpawnId>,
    adopted: Adopted,
    /// Trees without a group that have leftovers.
    lingering: BTreeSet<SpawnId>,
    /// When to look at the lingering ones again though no event asks for it, and after how long a wait.
    recheck: Option<Pin<Box<tokio::time::Sleep>>>,
    recheck_wait: Duration,
    /// When to look who was killed for lack of memory.
    memory_check: Option<Pin<Box<tokio::time::Sleep>>>,
    /// What needs a sweep; done together at the next poll.
    requests: Vec<Request>,
    news: VecDeque<ProcessEvent<Output>>,
    notices: Vec<String>,
    waker: Option<Waker>,
    /// Last: another host may start when all above is gone.
    _in_use: InUse,
}

impl fmt::Debug for Processes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Processes")
            .field("host", &self.host)
            .field("trees", &self.trees)
            .finish_non_exhaustive()
    }
}

impl Processes {
    /// Begins to keep process trees: this process becomes the reaper of its descendants, SIGCHLD is taken over, the
    /// launcher is started. To be called once, early, before other threads are made, within the tokio runtime that
    /// will poll the events.
    ///
    /// # Errors
    /// [`ProcessesStartError`].
    pub fn start(options: ProcessesOptions) -> Result<Self, ProcessesStartError> {
        let system =
            |doing| move |errno| ProcessesStartError::System { doing, source: std::io::Error::from(errno) };
        let system_io = |doing| move |source| ProcessesStartError::System { doing, source };
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(ProcessesStartError::NoRuntime);
        }
        if IN_USE.swap(true, Ordering::AcqRel) {
            return Err(ProcessesStartError::AlreadyStarted);
        }
        let in_use = InUse;
        rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1))
            .map_err(system("become the reaper of orphaned processes (PR_SET_CHILD_SUBREAPER)"))?;
        let host =
            HostId::of_this_process(&options.state_dir).ok_or_else(|| ProcessesStartError::System {
                doing: "read /proc, which must be mounted",
                source: std::io::ErrorKind::NotFound.into(),
            })?;
        let open_files = crate::original_open_files_limit();
        let child_signal = ChildSignal::start().map_err(system_io("watch for the end of child processes"))?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(system("make an epoll descriptor"))?;
        for fd in child_signal.fds() {
            epoll::add(&epoll, fd, Source::ChildSignal.data(), epoll::EventFlags::IN)
                .map_err(system("watch for the end of child processes"))?;
        }
        let cgroups = match options.cgroups {
            UseCgroups::IfPossible => Cgroups::start(&options.stack, &host).ok(),
            UseCgroups::Never => None,
        };
        let confinement = Confinement::start(&options.stack, &host, cgroups.as_ref(), options.cgroups);
        let launcher = |source| ProcessesStartError::Launcher { exe: options.launcher_exe.clone(), source };
        let mut starter = Starter::new(&options.launcher_exe).map_err(launcher)?;
        let hello = wire::encode_hello(&host.to_string(), cgroups.as_ref(), confinement.roots());
        let link = starter.start(&hello).map_err(launcher)?;
        epoll::add(&epoll, link.socket(), Source::Launcher.data(), epoll::EventFlags::IN)
            .map_err(system("watch the launcher"))?;
        // SAFETY: an OwnedFd is one open descriptor until it is dropped, which the AsyncFd alone will do.
        let epoll = unsafe { AsyncFd::register_with_interest(epoll, Interest::READABLE) }
            .map_err(|error| system_io("watch processes from the runtime")(error.into()))?;
        let mut processes = Self {
            epoll,
            events: Vec::with_capacity(EVENT_BATCH),
            link: Some(link),
            link_wants_room: false,
            starter,
            hello,
            launcher_exe: options.launcher_exe,
            child_signal,
            cgroups,
            confinement,
            groups: HashMap::new(),
            host,
            stack: options.stack,
            open_files,
            trees: HashMap::new(),
            mains: HashMap::new(),
            adopted: Adopted::new(),
            lingering: BTreeSet::new(),
            recheck: None,
            recheck_wait: Duration::ZERO,
            memory_check: None,
            requests: Vec::new(),
            news: VecDeque::new(),
            notices: Vec::new(),
            waker: None,
            _in_use: in_use,
        };
        // Children that ended before the signal was watched: this process may be the first of a container.
        processes.refresh_adopted();
        Ok(processes)
    }

    /// Whether trees are kept in control groups here.
    #[must_use]
    pub const fn uses_cgroups(&self) -> bool {
        self.cgroups.is_some()
    }

    /// Which of these limits are in force here, and by what: the same for every start of this host. `switches_user`: the
    /// service runs as another user than the host, and not as root.
    #[must_use]
    pub fn limits_in_force(&self, limits: &ResourceLimits, switches_user: bool) -> Vec<LimitStatus> {
        self.confinement.in_force(limits, switches_user)
    }

    /// The main process of a start, for [`crate::tree_usage`] and for people; `None` before it runs and after its end.
    #[must_use]
    pub fn main_pid(&self, spawn: SpawnId) -> Option<u32> {
        match &self.trees.get(&spawn)?.state {
            TreeState::Starting { main, .. } | TreeState::Running { main } => Some(main.pid),
            TreeState::Asked { .. } | TreeState::Failing { .. } | TreeState::Leftovers { .. } => None,
        }
    }

    /// Every live process of a tree, its main one included; for people, in no order.
    #[must_use]
    pub fn pids(&self, spawn: SpawnId) -> Vec<u32> {
        let Some(tree) = self.trees.get(&spawn) else { return Vec::new() };
        if let Some(group) = &tree.group {
            return group.members().unwrap_or_default();
        }
        self.members_by_sweep(|owner| owner == spawn).into_iter().map(|(stat, _)| stat.pid).collect()
    }

    /// The launcher's pid; `None` when it has died and could not be replaced.
    #[must_use]
    pub fn launcher_pid(&self) -> Option<u32> {
        self.link.as_ref().map(Link::pid)
    }

    /// What went wrong without being an answer to anything, in words, since the last call: a launcher that died, a tree
    /// that could not be ended.
    pub fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// Whether [`Processes::take_notices`] has something to give. Notices come without news: whoever waits for events
    /// asks this after each `Pending`.
    #[must_use]
    pub const fn has_notices(&self) -> bool {
        !self.notices.is_empty()
    }

    /// Ends the launcher in peace and removes what was made in the control group file system. Trees that still live are
    /// left alone: end them first.
    #[expect(clippy::unused_async, reason = "waiting for the launcher is short today; callers need not care")]
    pub async fn shutdown(&mut self) {
        if let Some(mut link) = self.link.take() {
            link.send(wire::encode_goodbye(), None, Vec::new());
            let _ = epoll::delete(self.epoll.get_ref(), link.socket());
            link.wait_for_end();
        }
        self.refresh_adopted();
        self.groups.clear();
        if let Err((dir, error)) = self.confinement.remove() {
            let dir = dir.display();
            self.notices.push(format!(
                "cannot remove the control group {dir}: {error}: processes may still be in it"
            ));
        }
        if let Some(cgroups) = self.cgroups.take()
            && let Err(error) = cgroups.remove()
        {
            let dir = cgroups.dir().display().to_string();
            self.notices.push(format!(
                "cannot remove the control group {dir}: {error}: processes may still be in it"
            ));
        }
    }

    /// News came without the epoll set: whoever waits must look again.
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn announce(&mut self, event: ProcessEvent<Output>) {
        self.news.push_back(event);
        self.wake();
    }

    fn watch(
        &self,
        fd: impl AsFd,
        source: Source,
        flags: epoll::EventFlags,
    ) -> Result<(), rustix::io::Errno> {
        epoll::add(self.epoll.get_ref(), fd, source.data(), flags)
    }

    fn unwatch(&self, fd: impl AsFd) {
        // Fails only for what is not watched.
        let _ = epoll::delete(self.epoll.get_ref(), fd);
    }

    /// Takes one batch of events from the kernel; false when there is none.
    fn take_batch(&mut self) -> bool {
        self.events.clear();
        let wait =
            epoll::wait(self.epoll.get_ref(), spare_capacity(&mut self.events), Some(&Timespec::default()));
        match wait {
            Ok(0) => return false,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => {
                // Only a bad descriptor is left as a reason (epoll_wait(2)), which would be a defect.
                self.notices.push(format!("cannot read process events: {errno}"));
                return false;
            }
        }
        let events = std::mem::take(&mut self.events);
        let mut ended = Vec::new();
        let mut children_changed = false;
        let mut launcher = false;
        for event in &events {
            match Source::from_data(event.data) {
                Some(Source::Launcher) => launcher = true,
                Some(Source::ChildSignal) => children_changed = true,
                Some(Source::Status(spawn)) => self.on_status(spawn),
                Some(Source::Main(spawn)) => ended.push(spawn),
                Some(Source::Group(spawn)) => self.on_group_change(spawn),
                Some(Source::Memory(spawn)) => self.on_memory_event(spawn),
                None => {}
            }
        }
        self.events = events;
        if children_changed {
            self.child_signal.drain();
        }
        if launcher {
            self.on_launcher();
        }
        self.settle(&ended, children_changed);
        true
    }
}

impl ProcessTrees for Processes {
    type Output = Output;

    fn launch(&mut self, replica: &ReplicaId, spawn: SpawnId, launch: Launch) {
        self.request_launch(replica, spawn, launch);
    }

    fn signal(&mut self, spawn: SpawnId, signal: StopSignal) {
        if signal == StopSignal::Kill {
            self.request_kill(spawn);
        } else {
            self.request_signal(spawn, signal);
        }
    }

    fn signal_main(&mut self, spawn: SpawnId, signal: StopSignal) {
        self.request_signal_main(spawn, signal);
    }

    fn kill(&mut self, spawn: SpawnId) {
        self.request_kill(spawn);
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<ProcessEvent<Output>> {
        loop {
            if let Some(event) = self.news.pop_front() {
                return Poll::Ready(event);
            }
            if !self.requests.is_empty() {
                self.perform_requests();
                continue;
            }
            if let Some(recheck) = &mut self.recheck
                && recheck.as_mut().poll(cx).is_ready()
            {
                self.settle(&[], true);
                continue;
            }
            if let Some(check) = &mut self.memory_check
                && check.as_mut().poll(cx).is_ready()
            {
                self.look_for_memory_kills();
            }
            match self.epoll.poll_read_ready(cx) {
                Poll::Pending => {
                    self.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                Poll::Ready(Ok(mut ready)) => ready.retain_ready(),
                // The runtime is shutting down: there is no more news.
                Poll::Ready(Err(_)) => return Poll::Pending,
            }
            if !self.take_batch()
                && let Poll::Ready(Ok(mut ready)) = self.epoll.poll_read_ready(cx)
            {
                ready.clear_ready();
            }
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            // The socket ends without a goodbye: the launcher ends all trees and then itself.
            link.wait_for_end();
        }
        for tree in self.trees.values() {
            for main in tree.state.main().into_iter().chain(&tree.first) {
                link::reap(&main.pidfd);
            }
        }
        let _ = self.confinement.remove();
        if let Some(cgroups) = &self.cgroups {
            let _ = cgroups.remove();
        }
    }
}
