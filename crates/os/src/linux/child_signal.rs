//! News that some child has ended: SIGCHLD as a readable descriptor.
//!
//! The signal is blocked in the calling thread, and so in all threads made later, and read through a signalfd
//! (signalfd(2)): nothing is interrupted. A thread that was there before does not block it and would swallow it;
//! a handler passes it on from there. Other signals, and their handlers, are left alone.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::event::EventfdFlags;

/// Where the handler writes; -1 when nobody listens.
static HANDLER_FD: AtomicI32 = AtomicI32::new(-1);

/// SIGCHLD for as long as it lives.
#[derive(Debug)]
pub(super) struct ChildSignal {
    signalfd: OwnedFd,
    eventfd: OwnedFd,
}

extern "C" fn on_sigchld(_: libc::c_int) {
    let fd = HANDLER_FD.load(Ordering::Relaxed);
    if fd >= 0 {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: write(2) and the thread's errno are allowed in a handler (signal-safety(7)); errno is put back so
        // that the interrupted code never sees it change.
        unsafe {
            let errno = libc::__errno_location();
            let before = *errno;
            libc::write(fd, one.as_ptr().cast(), one.len());
            *errno = before;
        }
    }
}

impl ChildSignal {
    /// Begins to listen. One listener a process: a second one takes the handler away from the first.
    pub(super) fn start() -> io::Result<Self> {
        let eventfd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        HANDLER_FD.store(eventfd.as_raw_fd(), Ordering::Relaxed);
        let handler: extern "C" fn(libc::c_int) = on_sigchld;
        // SAFETY: sigaction(2) with a handler that only does what signal-safety(7) allows; the structs live here.
        let signalfd = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as libc::sighandler_t;
            // No news of children that stop or continue, and slow calls of the interrupted thread go on.
            action.sa_flags = libc::SA_NOCLDSTOP | libc::SA_RESTART;
            libc::sigemptyset(&raw mut action.sa_mask);
            if libc::sigaction(libc::SIGCHLD, &raw const action, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGCHLD);
            let blocked = libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            if blocked != 0 {
                return Err(io::Error::from_raw_os_error(blocked));
            }
            libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if signalfd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: signalfd(2) just made it; nobody else owns it.
        Ok(Self { signalfd: unsafe { OwnedFd::from_raw_fd(signalfd) }, eventfd })
    }

    /// Both are readable when a child has ended.
    pub(super) fn fds(&self) -> [&OwnedFd; 2] {
        [&self.signalfd, &self.eventfd]
    }

    /// Makes both unreadable again. Signals of one kind are merged, so this says "some", never how many.
    pub(super) fn drain(&self) {
        // A signalfd_siginfo is 128 bytes; two at most wait, one for the process and one for the thread.
        let mut buffer = [0; 256];
        let _ = rustix::io::read(&self.signalfd, &mut buffer);
        let _ = rustix::io::read(&self.eventfd, &mut buffer);
    }
}

impl Drop for ChildSignal {
    fn drop(&mut self) {
        let own = self.eventfd.as_raw_fd();
        let _ = HANDLER_FD.compare_exchange(own, -1, Ordering::Relaxed, Ordering::Relaxed);
    }
}
