//! The launcher: this same binary, executed once more and waiting on a socket, single-threaded and small, so that a
//! start costs one message and one fork of a small process.
//!
//! It makes each process as a child of the *host* (`CLONE_PARENT`), inside its control group from the first
//! instruction, and hands back its pidfd and the reading ends of its pipes. Everything that may block or fail
//! (entering folders, executing) happens in the new process, never here.
//!
//! When the socket ends without a goodbye the host has died. Then nobody supervises: the launcher ends every tree
//! of that host and leaves.

mod child;
mod handed;
mod orphans;

use std::collections::VecDeque;
use std::ffi::{OsStr, c_char, c_int};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use mainstay_types::LaunchStep;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Resource, Rlimit};

use self::child::ChildPlan;
use self::handed::{HandedFds, ListenPid};
pub(super) use self::orphans::kill_marked;
use super::cgroup::CLONE_INTO_CGROUP;
use super::socket;
use super::wire::{Kind, MAX_FRAME_BYTES, Reader, Reply, step_number};

/// The word after the program's name that makes a process the launcher.
pub(super) const LAUNCHER_WORD: &str = "internal-launcher";

/// The frames of usual services fit; a longer one makes the buffer grow for as long as it lasts.
const BUFFER_BYTES: usize = 64 * 1024;

/// Turns this process into the launcher and never returns, when it was executed as one: its first argument is the
/// launcher's word and its standard input is the host's socket. Else does nothing. To be called first in `main`,
/// before there are threads.
pub fn run_launcher_if_asked() {
    if std::env::args_os().nth(1).is_none_or(|word| word != LAUNCHER_WORD) {
        return;
    }
    // The socket comes as standard input: the one descriptor that needs no agreement about its number.
    if rustix::net::sockopt::socket_type(std::io::stdin()).is_err() {
        return;
    }
    let status = match prepare() {
        Ok(socket) => {
            let listen_pid = ListenPid::new();
            let (fds, args, env) = (VecDeque::new(), Vec::new(), Vec::new());
            Launcher { socket, fds, hello: None, args, env, listen_pid }.run();
            0
        }
        Err(_) => 1,
    };
    std::process::exit(status);
}

/// Who the host is: what is needed to end its trees when it dies.
struct Hello {
    host_id: String,
    groups: orphans::HostGroups,
}

/// Makes this process what every new process begins as, so that a new one has less to do.
fn prepare() -> Result<OwnedFd, Errno> {
    let socket = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3)?;
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty())?;
    for standard in 0..3 {
        // SAFETY: dup2(2) onto the three standard descriptors, which nothing here holds as its own.
        if unsafe { libc::dup2(null.as_raw_fd(), standard) } < 0 {
            return Err(last_errno());
        }
    }
    drop(null);
    // SAFETY: close_range(2) with CLOEXEC only sets a flag; descriptors stay open. What the host itself inherited
    // from whoever started it must not reach the services.
    unsafe { libc::close_range(3, c_int::MAX.cast_unsigned(), libc::CLOSE_RANGE_CLOEXEC.cast_signed()) };
    // Away from the host's terminal: Ctrl-C is for the host to answer.
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"mainstay-launch");
    let _ = rustix::process::chdir("/");
    default_signals();
    // A socket's queue may hold more descriptors than the soft limit that the host was started with (unix(7),
    // ETOOMANYREFS); each new process gets its own limit anyway.
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let _ = rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit { current: limit.maximum, maximum: limit.maximum },
    );
    Ok(socket)
}

/// Every signal at its default and none blocked: an ignored or blocked signal survives execve (signal(7)), and
/// Rust's runtime ignores SIGPIPE.
fn default_signals() {
    // SIG_DFL, no flags, no mask: all zero in the kernel's own struct, which has at most 32 bytes. The library's call
    // would refuse the two signals it keeps for itself, and those may have come ignored as well.
    let default = [0_u64; 8];
    for signal in 1..=64 {
        // SAFETY: rt_sigaction(2) reads the struct and needs no code of ours; signals that cannot be changed are refused.
        // 8 is the size of the kernel's signal set.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null_mut::<u64>(), 8);
        }
    }
    // SAFETY: a sigset_t is plain data, made valid by sigemptyset before it is read.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Why the launcher stops.
enum End {
    Goodbye,
    HostDied,
}

struct Launcher {
    socket: OwnedFd,
    fds: VecDeque<Vec<OwnedFd>>,
    hello: Option<Hello>,
    /// Kept from launch to launch for their room.
    args: Vec<*const c_char>,
    env: Vec<*const c_char>,
    /// The same memory for all launches: each new process writes into a copy.
    listen_pid: ListenPid,
}

impl Launcher {
    fn run(&mut self) {
        match self.serve() {
            End::Goodbye => {}
            End::HostDied => {
                if let Some(hello) = &self.hello {
                    orphans::end_trees(&hello.host_id, &hello.groups);
                }
            }
        }
    }

    fn serve(&mut self) -> End {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut filled = 0;
        loop {
            let mut used = 0;
            while let Some((head, rest)) = buffer[used..filled].split_first_chunk::<4>() {
                let length = u32::from_ne_bytes(*head) as usize;
                if length > MAX_FRAME_BYTES {
                    return End::HostDied;
                }
                let Some(frame) = rest.get(..length) else {
                    if length + 4 > buffer.len() {
                        buffer.resize(length + 4 + used, 0);
                    }
                    break;
                };
                match self.on_frame(frame) {
                    Ok(None) => {}
                    Ok(Some(end)) => return end,
                    // The socket broke while answering.
                    Err(()) => return End::HostDied,
                }
                used += 4 + length;
            }
            buffer.copy_within(used..filled, 0);
            filled -= used;
            if filled == 0 && buffer.len() > BUFFER_BYTES {
                buffer = vec![0; BUFFER_BYTES];
            }
            match socket::receive(&self.socket, &mut buffer[filled..], &mut self.fds) {
                Ok(0) => return End::HostDied,
                Ok(got) => filled += got,
                Err(Errno::INTR) => {}
                Err(_) => return End::HostDied,
            }
        }
    }

    fn on_frame(&mut self, frame: &[u8]) -> Result<Option<End>, ()> {
        let mut reader = Reader(frame);
        match Kind::from_number(reader.u32().ok_or(())?).ok_or(())? {
            Kind::Hello => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len() - 1]).into_owned();
                let host_id = text(reader.string().ok_or(())?);
                let mut path = || {
                    reader.string().map(|bytes| PathBuf::from(OsStr::from_bytes(&bytes[..bytes.len() - 1])))
                };
                let is_given = |path: &PathBuf| !path.as_os_str().is_empty();
                let unified = path().ok_or(())?;
                let back_to = path().ok_or(())?;
                let groups = orphans::HostGroups {
                    unified: Some(unified).filter(is_given),
                    back_to: Some(back_to).filter(is_given),
                    limits: std::iter::from_fn(path).collect(),
                };
                self.hello = Some(Hello { host_id, groups });
                Ok(None)
            }
            Kind::Launch => self.on_launch(&mut reader).map(|()| None),
            Kind::Goodbye => Ok(Some(End::Goodbye)),
        }
    }

    fn on_launch(&mut self, reader: &mut Reader<'_>) -> Result<(), ()> {
        let head = reader.head().ok_or(())?;
        let mut fds = if head.fds() > 0 { self.fds.pop_front().unwrap_or_default() } else { Vec::new() };
        let lost_fds = fds.len() != head.fds();
        let cgroup = if head.in_cgroup && !lost_fds { Some(fds.remove(0)) } else { None };
        let groups = (0..head.groups).map(|_| reader.u32()).collect::<Option<Vec<u32>>>().ok_or(())?;
        let targets = (0..head.handed).map(|_| reader.u32()).collect::<Option<Vec<u32>>>().ok_or(())?;
        let mut string = || reader.string().map(|text| text.as_ptr().cast::<c_char>()).ok_or(());
        let workdir = string()?;
        let joins = (0..head.joins).map(|_| string()).collect::<Result<Vec<_>, ()>>()?;
        let candidates = (0..head.candidates).map(|_| string()).collect::<Result<Vec<_>, ()>>()?;
        self.args.clear();
        self.env.clear();
        for _ in 0..head.args {
            self.args.push(string()?);
        }
        for _ in 0..head.env {
            self.env.push(string()?);
        }
        if head.listens {
            self.env.push(self.listen_pid.entry());
        }
        self.args.push(std::ptr::null());
        self.env.push(std::ptr::null());

        let fail = |step, errno: Errno| Reply {
            token: head.token,
            pid: 0,
            step: step_number(step),
            errno: errno.raw_os_error(),
        };
        let made = pipes().map_err(|errno| fail(LaunchStep::Spawn, errno)).and_then(|mut pipes| {
            if lost_fds {
                let step = if head.handed > 0 { LaunchStep::Listen } else { LaunchStep::Cgroup };
                return Err(fail(step, Errno::MFILE));
            }
            let handed = HandedFds::prepare(fds, &targets, &mut pipes.status.1)
                .map_err(|errno| fail(LaunchStep::Listen, errno))?;
            let plan = ChildPlan {
                stdout: pipes.stdout.1.as_raw_fd(),
                stderr: pipes.stderr.1.as_raw_fd(),
                status: pipes.status.1.as_raw_fd(),
                handed: handed.moves(),
                listen_pid: if head.listens { self.listen_pid.digits() } else { std::ptr::null_mut() },
                open_files: (head.open_files_soft, head.open_files_hard),
                data_bytes: head.data_bytes,
                processes: head.processes,
                joins: &joins,
                identity: head.switches_user.then_some((head.uid, head.gid)),
                groups: &groups,
                workdir,
                candidates: &candidates,
                args: self.args.as_ptr(),
                env: self.env.as_ptr(),
            };
            let (pid, pidfd) =
                clone_child(&plan, cgroup.as_ref().map(AsRawFd::as_raw_fd)).map_err(|errno| {
                    let step = match errno {
                        // Errors of CLONE_INTO_CGROUP, clone(2).
                        Errno::BUSY | Errno::NODEV | Errno::OPNOTSUPP | Errno::ACCESS if head.in_cgroup => {
                            LaunchStep::Cgroup
                        }
                        _ => LaunchStep::Spawn,
                    };
                    fail(step, errno)
                })?;
            Ok((Reply { token: head.token, pid, step: 0, errno: 0 }, pidfd, pipes))
        });
        match made {
            // The writing ends close here, before the host hears of the process: when it sees that process end, nobody
            // holds the status pipe open any more.
            Ok((reply, pidfd, pipes)) => {
                let Pipes { stdout: (stdout, _), stderr: (stderr, _), status: (status, _) } = pipes;
                let fds = [pidfd.as_fd(), stdout.as_fd(), stderr.as_fd(), status.as_fd()];
                match self.answer(reply, &fds) {
                    Ok(()) => Ok(()),
                    Err(Errno::TOOMANYREFS | Errno::NOBUFS | Errno::NOMEM) => {
                        // Nobody would ever hold this process: it must not stay.
                        let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
                        let reply = Reply { pid: reply.pid, ..fail(LaunchStep::Spawn, Errno::TOOMANYREFS) };
                        self.answer(reply, &[]).map_err(drop)
                    }
                    Err(_) => Err(()),
                }
            }
            Err(reply) => self.answer(reply, &[]).map_err(drop),
        }
    }

    /// Sends a whole reply. The socket's queue of descriptors is limited for unprivileged users; the host empties it
    /// soon, so it is worth some patience: a second in all.
    fn answer(&self, reply: Reply, fds: &[std::os::fd::BorrowedFd<'_>]) -> Result<(), Errno> {
        let bytes = reply.to_bytes();
        let mut sent = 0;
        let mut patience = 1000;
        while sent < bytes.len() {
            match socket::send(&self.socket, &bytes[sent..], if sent == 0 { fds } else { &[] }) {
                Ok(more) => sent += more,
                Err(Errno::INTR) => {}
                Err(Errno::TOOMANYREFS | Errno::NOBUFS | Errno::NOMEM) if patience > 0 => {
                    patience -= 1;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
}

/// The pipes of one process, reading end first. All are close-on-exec; none exists before the process they are for
/// is asked for, so that no other new process can hold their writing ends, however long its own exec takes.
struct Pipes {
    stdout: (OwnedFd, OwnedFd),
    stderr: (OwnedFd, OwnedFd),
    status: (OwnedFd, OwnedFd),
}

fn pipes() -> Result<Pipes, Errno> {
    let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC);
    Ok(Pipes { stdout: pipe()?, stderr: pipe()?, status: pipe()? })
}

/// Makes the process, a child of this one's parent. Answers its pid and a descriptor that holds it.
fn clone_child(plan: &ChildPlan<'_>, cgroup: Option<RawFd>) -> Result<(u32, OwnedFd), Errno> {
    let mut pidfd: c_int = -1;
    // SAFETY: clone_args is plain numbers; zero means "not given" for each of them (clone(2)).
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = (libc::CLONE_PARENT | libc::CLONE_PIDFD) as u64;
    args.pidfd = &raw mut pidfd as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.cast_unsigned().into();
    }
    // SAFETY: without CLONE_VM this is a fork (clone(2)): the child has a copy of this single-threaded process and
    // goes on below, where it only makes system calls until it executes or exits. `args` outlives the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match pid {
        0 => child::become_program(plan),
        1.. => {
            // SAFETY: clone3 succeeded with CLONE_PIDFD, so the kernel stored a new descriptor that nobody owns yet.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok((u32::try_from(pid).unwrap_or(0), pidfd))
        }
        _ => Err(last_errno()),
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}
