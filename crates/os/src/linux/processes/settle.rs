//! What the kernel and the launcher report, turned into news: a program runs, does not run, has ended, its tree is gone.

use std::os::fd::AsFd;
use std::time::Duration;

use mainstay_types::{Exit, LaunchFailure, LaunchStep, SpawnId};
use rustix::event::epoll;
use rustix::process::{PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_send_signal};

use super::adopted::Known;
use super::link::{Answer, Visit};
use super::main_process::exit_of_other;
use super::requests::{kill_group, to_signal};
use super::{Main, Processes, Request, Source, TreeState};
use crate::ProcessEvent;
use crate::linux::cgroup;
use crate::linux::explain::{explain, failure_of};
use crate::linux::output::{Output, OutputPipe};
use crate::linux::procfs::{self, Marked, Marker, to_pid};
use crate::linux::wire::{self, Failure};

/// How long after a look that left something unclear the next one follows, growing: a process within execve is done
/// in a millisecond, one whose file system hangs never is. The one place where time and not an event makes it look.
const FIRST_RECHECK: Duration = Duration::from_millis(2);
const LONGEST_RECHECK: Duration = Duration::from_secs(1);

impl Processes {
    /// The launcher answered, has room, or is gone.
    pub(super) fn on_launcher(&mut self) {
        let Some(link) = &mut self.link else { return };
        let mut answers = Vec::new();
        link.flush();
        let visit = link.receive(&mut answers);
        for answer in answers {
            self.on_answer(answer);
        }
        match visit {
            Visit::Fine => self.watch_link(),
            Visit::Ended => self.on_launcher_end(),
        }
    }

    fn on_answer(&mut self, Answer { reply, fds }: Answer) {
        let spawn = SpawnId(reply.token);
        let Some(tree) = self.trees.get_mut(&spawn) else { return };
        let TreeState::Asked { signals, killed } = &mut tree.state else { return };
        let (signals, killed) = (std::mem::take(signals), *killed);
        let Some([pidfd, stdout, stderr, status]) = fds else {
            let failure = Failure { step: reply.step, errno: reply.errno, candidate: 0 };
            return match reply.pid {
                0 => self.fail(spawn, failure),
                pid => self.end_unheld(spawn, pid, failure),
            };
        };
        let watched =
            epoll::add(self.epoll.get_ref(), &status, Source::Status(spawn).data(), epoll::EventFlags::IN)
                .and_then(|()| {
                    epoll::add(
                        self.epoll.get_ref(),
                        &pidfd,
                        Source::Main(spawn).data(),
                        epoll::EventFlags::IN,
                    )
                });
        self.mains.insert(reply.pid, spawn);
        let main = Main { pid: reply.pid, pidfd };
        tree.state = TreeState::Starting {
            main,
            status,
            output: Output { stdout: OutputPipe::new(stdout), stderr: OutputPipe::new(stderr) },
        };
        if let Err(errno) = watched {
            self.mains.remove(&reply.pid);
            let step = wire::step_number(LaunchStep::Spawn);
            let failure = Failure { step, errno: errno.raw_os_error(), candidate: 0 };
            return self.end_unheld(spawn, reply.pid, failure);
        }
        for signal in signals {
            self.request_signal(spawn, signal);
        }
        if killed {
            self.request_kill(spawn);
        }
    }

    /// There is a process that cannot be held or watched, for want of descriptors: it must not stay. It is a child that
    /// nobody has waited for, so its number is its own until it is reaped here; it ends at once by SIGKILL.
    fn end_unheld(&mut self, spawn: SpawnId, pid: u32, mut failure: Failure) {
        if failure.errno == 0 {
            failure.errno = libc::EMFILE;
        }
        if let Some(id) = to_pid(pid) {
            if let Some(group) = self.trees.get(&spawn).and_then(|tree| tree.group.as_ref()) {
                kill_group(group);
            }
            let _ = rustix::process::kill_process(id, Signal::KILL);
            let _ = rustix::process::waitid(WaitId::Pid(id), WaitIdOptions::EXITED);
        }
        self.fail(spawn, failure);
    }

    fn fail(&mut self, spawn: SpawnId, failure: Failure) {
        let Some(tree) = self.trees.remove(&spawn) else { return };
        if wire::step_from_number(failure.step) == LaunchStep::Cgroup {
            // Somebody removed the group, or changed what may enter it: the next start makes a new one.
            if let (Some(group), Some(groups)) = (&tree.group, self.groups.get_mut(&tree.replica)) {
                groups.retire(group);
            }
        }
        let failure = match &tree.launch {
            Some(launch) => explain(failure, launch),
            None => failure_of(wire::step_from_number(failure.step), None, failure.errno, None),
        };
        self.news.push_back(ProcessEvent::LaunchFailed { spawn, failure });
    }

    /// The status pipe ended, which is the exec that closed it, or it tells a failure.
    pub(super) fn on_status(&mut self, spawn: SpawnId) {
        let Some(tree) = self.trees.get_mut(&spawn) else { return };
        let TreeState::Starting { status, .. } = &tree.state else { return };
        let mut bytes = [0; Failure::BYTES];
        let length = match rustix::io::read(status, &mut bytes) {
            Err(rustix::io::Errno::INTR) => return,
            Ok(length) => length,
            Err(_) => 0,
        };
        let _ = epoll::delete(self.epoll.get_ref(), status);
        let before =
            std::mem::replace(&mut tree.state, TreeState::Asked { signals: Vec::new(), killed: false });
        let TreeState::Starting { main, output, .. } = before else { return };
        let launch = tree.launch.take();
        if length == Failure::BYTES {
            let failure = Failure::from_bytes(&bytes);
            let failure = match &launch {
                Some(launch) => explain(failure, launch),
                None => failure_of(wire::step_from_number(failure.step), None, failure.errno, None),
            };
            tree.state = TreeState::Failing { main, failure };
        } else {
            let pid = main.pid;
            tree.state = TreeState::Running { main };
            self.news.push_back(ProcessEvent::Launched { spawn, pid, output });
        }
    }

    /// Main processes ended, or some child did: reaps what is nobody's, then looks what is left of whom.
    pub(super) fn settle(&mut self, ended: &[SpawnId], children_changed: bool) {
        if ended.is_empty() && !children_changed {
            return;
        }
        self.refresh_adopted();
        for spawn in ended {
            self.on_main_end(*spawn);
        }
        if self.lingering.is_empty() {
            return;
        }
        let lingering: Vec<SpawnId> = self.lingering.iter().copied().collect();
        for spawn in lingering {
            if !self.may_live(spawn) {
                self.end_tree(spawn);
            } else if self.trees.get(&spawn).is_some_and(|tree| tree.killing) {
                self.kill_again(spawn);
            }
        }
        if self.adopted.is_unsteady() && !self.lingering.is_empty() {
            self.recheck_wait = (self.recheck_wait * 2).clamp(FIRST_RECHECK, LONGEST_RECHECK);
            self.recheck = Some(Box::pin(tokio::time::sleep(self.recheck_wait)));
        } else {
            self.recheck_wait = Duration::ZERO;
            self.recheck = None;
        }
    }

    /// Whether something of a tree without a group may live besides its main process.
    fn may_live(&self, spawn: SpawnId) -> bool {
        self.adopted.any_of(spawn) || self.trees.get(&spawn).is_some_and(|tree| tree.first_lives())
    }

    pub(super) fn refresh_adopted(&mut self) {
        // Only a kernel without lists of children makes it matter.
        let in_flight = self.adopted.lacks_list()
            && self.trees.values().any(|tree| matches!(tree.state, TreeState::Asked { .. }));
        let launcher = self.launcher_pid().unwrap_or(0);
        let known = Known { mains: &self.mains, launcher, in_flight, host: &self.host };
        self.adopted.refresh(&known);
    }

    fn on_main_end(&mut self, spawn: SpawnId) {
        self.on_status(spawn);
        let Some(tree) = self.trees.get(&spawn) else { return };
        match &tree.state {
            TreeState::Running { main } => {
                let left = match &tree.group {
                    Some(group) => {
                        let members = group.members().unwrap_or_default();
                        members.iter().filter(|pid| **pid != main.pid).count()
                    }
                    None if self.may_live(spawn) => {
                        self.members_by_sweep(|owner| owner == spawn).len().max(1)
                    }
                    None => 0,
                };
                let mut options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
                if left > 0 {
                    options |= WaitIdOptions::NOWAIT;
                }
                // Not ended after all: the source stays readable until it is.
                let Some(exit) = exit_of(main, options) else { return };
                let exit = self.recognise_memory_kill(spawn, exit);
                let leftovers = u32::try_from(left).unwrap_or(u32::MAX);
                self.news.push_back(ProcessEvent::Exited { spawn, exit, leftovers });
                if left == 0 {
                    self.forget(spawn);
                } else {
                    self.begin_leftovers(spawn);
                }
            }
            TreeState::Failing { main, .. } => {
                if exit_of(main, WaitIdOptions::EXITED | WaitIdOptions::NOHANG).is_none() {
                    return;
                }
                if let Some(TreeState::Failing { failure, .. }) = self.forget(spawn) {
                    self.news.push_back(ProcessEvent::LaunchFailed { spawn, failure });
                }
            }
            TreeState::Asked { .. } | TreeState::Starting { .. } | TreeState::Leftovers { .. } => {}
        }
    }

    /// The zombie stays; a group reports by itself when it is empty, a tree without one is looked at when a child ends.
    fn begin_leftovers(&mut self, spawn: SpawnId) {
        let Some(tree) = self.trees.get_mut(&spawn) else { return };
        let before =
            std::mem::replace(&mut tree.state, TreeState::Asked { signals: Vec::new(), killed: false });
        let TreeState::Running { main } = before else { return };
        let _ = epoll::delete(self.epoll.get_ref(), &main.pidfd);
        let events = tree.group.as_ref().and_then(|group| group.events().ok());
        if let Some(events) = &events {
            let _ =
                epoll::add(self.epoll.get_ref(), events, Source::Group(spawn).data(), epoll::EventFlags::PRI);
        }
        let (killing, has_group) = (tree.killing, tree.group.is_some());
        tree.state = TreeState::Leftovers { main, events };
        if has_group {
            // It may have emptied before it was watched.
            self.on_group_change(spawn);
        } else {
            self.lingering.insert(spawn);
            if killing {
                self.kill_again(spawn);
            }
        }
    }

    /// A group with leftovers changed.
    pub(super) fn on_group_change(&mut self, spawn: SpawnId) {
        let Some(tree) = self.trees.get(&spawn) else { return };
        let TreeState::Leftovers { events, .. } = &tree.state else { return };
        // A group that cannot be read has been removed, which the kernel allows only when it is empty.
        let populated = events.as_ref().is_some_and(|events| cgroup::is_populated(events).unwrap_or(false));
        if !populated {
            self.end_tree(spawn);
        } else if tree.killing
            && let Some(group) = &tree.group
        {
            kill_group(group);
        }
    }

    fn end_tree(&mut self, spawn: SpawnId) {
        if let Some(TreeState::Leftovers { main, events }) = self.forget(spawn) {
            if let Some(events) = events {
                self.unwatch(&events);
            }
            super::link::reap(&main.pidfd);
            self.news.push_back(ProcessEvent::TreeEnded { spawn });
        }
    }

    /// Takes a tree off all lists.
    fn forget(&mut self, spawn: SpawnId) -> Option<TreeState> {
        let tree = self.trees.remove(&spawn)?;
        self.lingering.remove(&spawn);
        self.requests.retain(|request| match request {
            Request::Signal(of, _) | Request::Kill(of) => *of != spawn,
        });
        for main in tree.state.main().into_iter().chain(&tree.first) {
            self.mains.remove(&main.pid);
            self.unwatch(&main.pidfd);
        }
        if let Some(first) = &tree.first {
            super::link::reap(&first.pidfd);
        }
        Some(tree.state)
    }

    /// The launcher died: what it was asked for fails, what it had begun is ended, another one is started.
    fn on_launcher_end(&mut self) {
        let Some(link) = self.link.take() else { return };
        let launcher = link.pid();
        self.unwatch(link.socket());
        self.link_wants_room = false;
        self.notices
            .push(format!("the launcher (pid {launcher}) ended by itself or was killed; starting another"));
        link.wait_for_end();
        let lost: Vec<SpawnId> = self
            .trees
            .iter()
            .filter(|(_, tree)| matches!(tree.state, TreeState::Asked { .. }))
            .map(|(spawn, _)| *spawn)
            .collect();
        self.end_unreported(&lost);
        for spawn in lost {
            self.trees.remove(&spawn);
            let failure = LaunchFailure {
                step: LaunchStep::Spawn,
                path: None,
                errno: 0,
                message: "the launcher ended before it answered".to_owned(),
                hint: None,
            };
            self.news.push_back(ProcessEvent::LaunchFailed { spawn, failure });
        }
        if let Err(error) = self.start_link() {
            self.notices.push(format!("cannot start another launcher: {error}"));
        }
    }

    /// Ends processes the launcher made for `lost` starts without telling: children of this process that carry their
    /// marker, or still the launcher's name because they had not executed yet.
    fn end_unreported(&self, lost: &[SpawnId]) {
        if lost.is_empty() {
            return;
        }
        let Ok(table) = procfs::Table::sweep() else { return };
        let own = std::process::id();
        let own_session = procfs::stat(own).map_or(0, |stat| stat.sid);
        let is_unknown = |stat: &&procfs::Stat| {
            stat.ppid == own && stat.sid != own_session && !self.mains.contains_key(&stat.pid)
        };
        for stat in table.iter().filter(is_unknown) {
            let is_marked = match procfs::marked(stat.pid) {
                Marked::Yes(text) => Marker::parse(&text).is_some_and(|marker| {
                    lost.contains(&marker.spawn) && marker.host == self.host.to_string()
                }),
                Marked::No | Marked::NotNow => false,
            };
            let was_launcher = procfs::name(stat.pid) == "mainstay-launch" || !stat.is_alive();
            let Some(id) = to_pid(stat.pid) else { continue };
            if (is_marked || was_launcher)
                && self.adopted.owner(stat.pid).is_none()
                && let Ok(pidfd) = rustix::process::pidfd_open(id, PidfdFlags::empty())
            {
                let _ = pidfd_send_signal(&pidfd, to_signal(mainstay_types::StopSignal::Kill));
                let _ = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
            }
        }
    }

    pub(super) fn start_link(&mut self) -> std::io::Result<()> {
        let hello = std::mem::take(&mut self.hello);
        let started = self.starter.start(&hello);
        self.hello = hello;
        let link = started?;
        self.watch(link.socket(), Source::Launcher, epoll::EventFlags::IN)?;
        self.link = Some(link);
        self.watch_link();
        Ok(())
    }
}

fn exit_of(main: &Main, options: WaitIdOptions) -> Option<Exit> {
    match rustix::process::waitid(WaitId::PidFd(main.pidfd.as_fd()), options) {
        Ok(status) => Some(to_exit(&status?)),
        Err(rustix::io::Errno::CHILD) => exit_of_other(main),
        Err(_) => None,
    }
}

fn to_exit(status: &WaitIdStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal { signal: signal.unwrap_or(0), core_dumped: status.dumped() },
    }
}
