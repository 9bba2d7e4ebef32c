//! The host's end of the socket to the launcher: requests queue here and never wait; a launcher that dies is replaced.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{PidfdFlags, WaitId, WaitIdOptions};

use crate::Handed;
use crate::linux::cgroup::Group;
use crate::linux::launcher::LAUNCHER_WORD;
use crate::linux::procfs::to_pid;
use crate::linux::socket;
use crate::linux::wire::Reply;

/// A launcher that dies this often within [`RESTART_WINDOW`] is not started again until the window has moved on.
const MAX_RESTARTS: usize = 5;
const RESTART_WINDOW: Duration = Duration::from_secs(60);

/// How long a launcher that was told to leave, or whose host gives up its trees, is waited for.
const LEAVE_LIMIT: Duration = Duration::from_secs(6);

/// A process handed over by the launcher, or the step that failed.
#[derive(Debug)]
pub(super) struct Answer {
    pub reply: Reply,
    /// pidfd, stdout, stderr, status; `None` without a process, or when there was no room for descriptors.
    pub fds: Option<[OwnedFd; 4]>,
}

/// What a visit to the socket brought.
pub(super) enum Visit {
    Fine,
    /// The launcher is gone.
    Ended,
}

#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    group: Option<Arc<Group>>,
    handed: Vec<Handed>,
}

/// The connection and the process behind it.
#[derive(Debug)]
pub(super) struct Link {
    socket: OwnedFd,
    pid: u32,
    pidfd: OwnedFd,
    queue: VecDeque<Outgoing>,
    incoming: Vec<u8>,
    fds: VecDeque<Vec<OwnedFd>>,
}

/// Starts launchers. It does so from a thread of its own that stays: a process made with CLONE_PARENT hangs on the
/// *thread* that made the launcher, and so the children of the main thread are the adopted ones alone, a short list
/// that is cheap to look through at every exit.
#[derive(Debug)]
pub(super) struct Starter {
    requests: mpsc::Sender<OwnedFd>,
    answers: mpsc::Receiver<io::Result<u32>>,
    starts: VecDeque<Instant>,
}

impl Starter {
    pub(super) fn new(exe: &Path) -> io::Result<Self> {
        let (requests, their_requests) = mpsc::channel::<OwnedFd>();
        let (their_answers, answers) = mpsc::channel();
        let exe = PathBuf::from(exe);
        std::thread::Builder::new().name("launcher-parent".to_owned()).stack_size(128 * 1024).spawn(
            move || {
                // Ends when the other side is dropped; its children then hang on another thread of the process.
                while let Ok(socket) = their_requests.recv() {
                    let started = Command::new(&exe)
                        .arg(LAUNCHER_WORD)
                        .env_clear()
                        .stdin(Stdio::from(socket))
                        .stdout(Stdio::null())
                        .stderr(Stdio::null())
                        .spawn();
                    // The child is waited for by its pid, through the pidfd that the link keeps.
                    if their_answers.send(started.map(|child| child.id())).is_err() {
                        break;
                    }
                }
            },
        )?;
        Ok(Self { requests, answers, starts: VecDeque::new() })
    }

    /// Starts one and greets it. Refuses when the last ones died too fast.
    pub(super) fn start(&mut self, hello: &[u8]) -> io::Result<Link> {
        let now = Instant::now();
        while self.starts.front().is_some_and(|start| now.duration_since(*start) > RESTART_WINDOW) {
            self.starts.pop_front();
        }
        if self.starts.len() > MAX_RESTARTS {
            let text = format!("the launcher ended {} times within a minute", self.starts.len());
            return Err(io::Error::other(text));
        }
        self.starts.push_back(now);
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let gone = || io::Error::other("the thread that starts the launcher is gone");
        self.requests.send(theirs).map_err(|_| gone())?;
        let pid = self.answers.recv().map_err(|_| gone())??;
        // Safe by number: a child of ours that nobody has waited for.
        let pidfd = rustix::process::pidfd_open(to_pid(pid).ok_or(Errno::SRCH)?, PidfdFlags::empty())?;
        let mut link = Link {
            socket: ours,
            pid,
            pidfd,
            queue: VecDeque::new(),
            incoming: Vec::new(),
            fds: VecDeque::new(),
        };
        link.send(hello.to_vec(), None, Vec::new());
        Ok(link)
    }
}

impl Link {
    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    pub(super) const fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends now what goes, keeps the rest. The queue is bounded by the number of launches asked for.
    pub(super) fn send(&mut self, bytes: Vec<u8>, group: Option<Arc<Group>>, handed: Vec<Handed>) {
        self.queue.push_back(Outgoing { bytes, sent: 0, group, handed });
        if self.queue.len() == 1 {
            self.flush();
        }
    }

    /// Whether something waits for room in the socket.
    pub(super) fn is_waiting_to_send(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Sends as much as goes. A broken connection shows when it is read.
    pub(super) fn flush(&mut self) {
        while let Some(next) = self.queue.front_mut() {
            let mut fds: Vec<BorrowedFd<'_>> = Vec::new();
            if next.sent == 0 {
                fds.extend(next.group.as_ref().map(|group| group.as_fd()));
                fds.extend(next.handed.iter().map(|handed| handed.descriptor.get().as_fd()));
            }
            match socket::send(&self.socket, &next.bytes[next.sent..], &fds) {
                Ok(more) => next.sent += more,
                Err(Errno::INTR) => continue,
                // Room comes when the launcher has taken some; a queue too full of descriptors counts as no room.
                Err(_) => return,
            }
            if next.sent == next.bytes.len() {
                self.queue.pop_front();
            }
        }
    }

    /// Reads what is there, at most one set of descriptors a call, until there is no more.
    pub(super) fn receive(&mut self, answers: &mut Vec<Answer>) -> Visit {
        let mut buffer = [0; 1024];
        loop {
            let got = match socket::receive(&self.socket, &mut buffer, &mut self.fds) {
                Ok(0) => return Visit::Ended,
                Ok(got) => got,
                Err(Errno::AGAIN) => return Visit::Fine,
                Err(Errno::INTR) => continue,
                Err(_) => return Visit::Ended,
            };
            self.incoming.extend_from_slice(&buffer[..got]);
            let mut used = 0;
            while let Some((bytes, _)) = self.incoming[used..].split_first_chunk::<{ Reply::BYTES }>() {
                let reply = Reply::from_bytes(bytes);
                used += Reply::BYTES;
                let mut fds = None;
                if reply.pid != 0 && reply.errno == 0 {
                    fds = self.fds.pop_front().and_then(|set| <[OwnedFd; 4]>::try_from(set).ok());
                }
                answers.push(Answer { reply, fds });
            }
            self.incoming.drain(..used);
        }
    }

    /// Waits for the launcher's end and takes it from the system's table; gives up after a limit.
    pub(super) fn wait_for_end(self) {
        let Self { socket, pidfd, .. } = self;
        drop(socket);
        let deadline = Instant::now() + LEAVE_LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut fds = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
            let timeout = rustix::time::Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
            let _ = rustix::event::poll(&mut fds, Some(&timeout));
            if reap(&pidfd) || left.is_zero() {
                return;
            }
        }
    }
}

/// Takes an ended child from the system's table; false when it has not ended.
pub(super) fn reap(pidfd: &OwnedFd) -> bool {
    let waited =
        rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    !matches!(waited, Ok(None) | Err(Errno::INTR))
}
