//! Which process of a tree is its main one, when the program itself says so (`MAINPID=` of sd_notify(3)), and which
//! processes are of a tree at all.
//!
//! A main process that another one takes over from is the tree's `first`: held, and unreaped, until the tree is gone,
//! because its number is the number of the tree's session. Its end is not news.

use std::os::fd::{AsRawFd, OwnedFd};

use mainstay_types::{Exit, SpawnId, StopSignal};
use rustix::event::{PollFd, PollFlags, epoll};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
use rustix::time::Timespec;

use super::adopted::owner_of;
use super::requests::to_signal;
use super::{Main, Processes, Source, Tree, TreeState};
use crate::SetMainError;
use crate::linux::procfs::{self, to_pid};

/// Longest line of ancestors that is climbed.
const MAX_DEPTH: u32 = 10_000;

impl Processes {
    /// Whether a process is of the tree of a start: by its control group, else by session, marker and descent. `None`
    /// when it is gone already, as a short-lived sender of one notification may be.
    ///
    /// A pid is a hint: ask while its process is known to live, or soon after it was heard of.
    #[must_use]
    pub fn owns(&self, spawn: SpawnId, pid: u32) -> Option<bool> {
        let Some(tree) = self.trees.get(&spawn) else { return Some(false) };
        if let Some(owner) = self.mains.get(&pid) {
            return Some(*owner == spawn);
        }
        match &tree.group {
            _ if pid == 0 => Some(false),
            Some(group) => group.membership(pid),
            None => self.owner_by_descent(pid).map(|owner| owner == Some(spawn)),
        }
    }

    /// Makes another process of the tree its main one: the end of that one is from here on the `Exited` of the start,
    /// [`Self::main_pid`] and [`crate::ProcessTrees::signal_main`] mean it, and the process before it may end without
    /// news.
    ///
    /// The usual daemon sends its word and lets its first process end at once, so `Exited` may be out before the word
    /// was read: whoever sees `Exited` with leftovers reads all notifications first, and when one names a main process
    /// and this succeeds, that `Exited` is void: the tree runs, another `Exited` comes at the end, and no `TreeEnded`
    /// for the void one.
    ///
    /// How the new one ends is known when it is a child of this host by then, as that of a daemon is. A living parent
    /// of its own takes its status before this host can: it is then read from the process's remains (proc(5),
    /// `exit_code`, while nobody has reaped it; the kernel's own record, Linux 6.15 and newer, after that), else the exit is
    /// [`Exit::Unknown`].
    ///
    /// # Errors
    /// [`SetMainError`]; nothing has changed then.
    pub fn set_main(&mut self, spawn: SpawnId, pid: u32) -> Result<(), SetMainError> {
        if self.is_through(spawn) {
            // A word of the program may be read before the news that it runs.
            self.on_status(spawn);
        }
        let tree = self.trees.get(&spawn).ok_or(SetMainError::NotRunning { pid })?;
        match &tree.state {
            TreeState::Running { main } if main.pid == pid => return Ok(()),
            TreeState::Running { .. } | TreeState::Leftovers { .. } if tree.killing => {
                return Err(SetMainError::Ending { pid });
            }
            TreeState::Running { .. } | TreeState::Leftovers { .. } => {}
            TreeState::Asked { .. } | TreeState::Starting { .. } | TreeState::Failing { .. } => {
                return Err(SetMainError::NotRunning { pid });
            }
        }
        // Held first: if it still lives after it was found to be of the tree, it was that one all along.
        let pidfd = match to_pid(pid).ok_or(Errno::SRCH).and_then(|id| pidfd_open(id, PidfdFlags::empty())) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH) => return Err(SetMainError::Gone { pid }),
            Err(Errno::INVAL | Errno::NOENT) => return Err(SetMainError::NotOfTree { pid }),
            Err(errno) => return Err(SetMainError::System { pid, source: errno.into() }),
        };
        match self.owns(spawn, pid) {
            _ if has_ended(&pidfd) => return Err(SetMainError::Gone { pid }),
            None => return Err(SetMainError::Gone { pid }),
            Some(false) => return Err(SetMainError::NotOfTree { pid }),
            Some(true) => {}
        }
        self.watch(&pidfd, Source::Main(spawn), epoll::EventFlags::IN)
            .map_err(|errno| SetMainError::System { pid, source: errno.into() })?;
        self.replace_main(spawn, Main { pid, pidfd });
        Ok(())
    }

    fn replace_main(&mut self, spawn: SpawnId, new: Main) {
        let Some(tree) = self.trees.get_mut(&spawn) else { return };
        self.mains.insert(new.pid, spawn);
        self.adopted.forget(new.pid);
        if tree.first.as_ref().is_some_and(|first| first.pid == new.pid) {
            tree.first = None;
        }
        let before = std::mem::replace(&mut tree.state, TreeState::Running { main: new });
        let (old, events) = match before {
            TreeState::Running { main } => (main, None),
            TreeState::Leftovers { main, events } => (main, events),
            // The caller has looked.
            TreeState::Asked { .. } | TreeState::Starting { .. } | TreeState::Failing { .. } => return,
        };
        let _ = epoll::delete(self.epoll.get_ref(), &old.pidfd);
        if let Some(events) = events {
            let _ = epoll::delete(self.epoll.get_ref(), &events);
        }
        if tree.first.is_none() {
            tree.first = Some(old);
        } else {
            // Neither the first nor the main one: like any other process of the tree.
            self.mains.remove(&old.pid);
        }
        self.lingering.remove(&spawn);
        self.refresh_adopted();
    }

    /// Whether a start that is not known to run has told by now whether it does.
    fn is_through(&self, spawn: SpawnId) -> bool {
        match self.trees.get(&spawn).map(|tree| &tree.state) {
            Some(TreeState::Starting { status, .. }) => is_readable(status),
            Some(
                TreeState::Asked { .. }
                | TreeState::Failing { .. }
                | TreeState::Running { .. }
                | TreeState::Leftovers { .. },
            )
            | None => false,
        }
    }

    /// To the main process alone; before there is one it is the only process there will be.
    pub(super) fn request_signal_main(&mut self, spawn: SpawnId, signal: StopSignal) {
        let Some(tree) = self.trees.get(&spawn) else { return };
        match &tree.state {
            TreeState::Asked { .. } if signal == StopSignal::Kill => self.request_kill(spawn),
            TreeState::Asked { .. } => self.request_signal(spawn, signal),
            TreeState::Starting { main, .. }
            | TreeState::Failing { main, .. }
            | TreeState::Running { main } => {
                let _ = pidfd_send_signal(&main.pidfd, to_signal(signal));
            }
            TreeState::Leftovers { .. } => {}
        }
    }

    /// The start a process belongs to, by climbing to an ancestor that is known; the outer `None` when it is gone.
    fn owner_by_descent(&self, pid: u32) -> Option<Option<SpawnId>> {
        let own = std::process::id();
        let known = |stat: &procfs::Stat| self.mains.get(&stat.pid).or_else(|| self.mains.get(&stat.sid));
        // An ancestor that ends during the climb leaves its children to another one: begin again.
        'climb: for _ in 0..3 {
            let mut at = procfs::stat(pid)?;
            let is_alive = at.is_alive();
            for _ in 0..MAX_DEPTH {
                if let Some(spawn) = known(&at) {
                    return Some(Some(*spawn));
                }
                if at.pid == own || Some(at.pid) == self.launcher_pid() || at.ppid == 0 {
                    return Some(None);
                }
                if at.ppid == own {
                    let owner = self.adopted.owner(at.pid).or_else(|| owner_of(&at, &self.mains, &self.host));
                    // What has ended shows its marker no more.
                    return if owner.is_some() || is_alive { Some(owner) } else { None };
                }
                match procfs::stat(at.ppid) {
                    Some(parent) => at = parent,
                    None => continue 'climb,
                }
            }
        }
        Some(None)
    }
}

impl Tree {
    /// Whether the process that was started lives on beside the main one.
    pub(super) fn first_lives(&self) -> bool {
        self.first.as_ref().is_some_and(|first| !has_ended(&first.pidfd))
    }
}

fn is_readable(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// pidfd_open(2): readable once the process has ended, reaped or not.
fn has_ended(pidfd: &OwnedFd) -> bool {
    is_readable(pidfd)
}

/// How a process ended that is no child of this one, or that somebody else has reaped; `None` while it lives.
pub(super) fn exit_of_other(main: &Main) -> Option<Exit> {
    if !has_ended(&main.pidfd) {
        return None;
    }
    // It may be reaped between the two looks.
    let status = recorded_status(&main.pidfd)
        .or_else(|| unreaped_status(main))
        .or_else(|| recorded_status(&main.pidfd));
    Some(status.map_or(Exit::Unknown, exit_from_status))
}

/// Once it was reaped: what the kernel keeps for those who hold it (`PIDFD_INFO_EXIT`, linux/pidfd.h, Linux 6.15).
fn recorded_status(pidfd: &OwnedFd) -> Option<i32> {
    // SAFETY: pidfd_info is plain numbers.
    let mut info: libc::pidfd_info = unsafe { std::mem::zeroed() };
    info.mask = libc::PIDFD_INFO_EXIT.into();
    // SAFETY: the request writes one struct of this size, which is part of its number.
    let done = unsafe { libc::ioctl(pidfd.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
    (done == 0 && info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0).then_some(info.exit_code)
}

/// Until it is reaped: the last field of its line in /proc, which reads 0 for those who may not know.
fn unreaped_status(main: &Main) -> Option<i32> {
    let status = procfs::exit_status(main.pid)?;
    // Readable links of a process without any say "no such file" to those who may look (proc_pid_readlink in
    // fs/proc/base.c).
    if rustix::fs::readlink(format!("/proc/{}/exe", main.pid), Vec::new()) == Err(Errno::ACCESS) {
        return None;
    }
    // Not reaped even now, so the number was its own all the time. The signal is none: it only looks.
    // SAFETY: pidfd_send_signal(2) with a null pointer for the details.
    let held = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            main.pidfd.as_raw_fd(),
            0,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    (held == 0).then_some(status)
}

/// waitpid(2)'s form.
fn exit_from_status(status: i32) -> Exit {
    if libc::WIFSIGNALED(status) {
        Exit::Signal { signal: libc::WTERMSIG(status), core_dumped: libc::WCOREDUMP(status) }
    } else {
        Exit::Code(libc::WEXITSTATUS(status))
    }
}
