//! Signals as requests to a service that has no runtime: a handler that only writes a byte, and a thread that reads it.
//!
//! The signals are not blocked, so that children which the program starts have the mask it had.

use std::convert::Infallible;
use std::io;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::stop_request::{Hangup, Hangups};
use crate::{ScmStatus, ServiceRequest, StopCause};

/// Where the handler writes; -1 when nobody listens.
static HANDLER_FD: AtomicI32 = AtomicI32::new(-1);

/// Signal numbers are below 65 (signal(7)), so that one byte holds each.
extern "C" fn on_signal(signal: libc::c_int) {
    let fd = HANDLER_FD.load(Ordering::Relaxed);
    if fd >= 0 {
        let byte = u8::try_from(signal).unwrap_or(0);
        // SAFETY: write(2) and the thread's errno are allowed in a handler (signal-safety(7)); the pipe does not block; errno
        // is put back so that the interrupted code never sees it change.
        unsafe {
            let errno = libc::__errno_location();
            let before = *errno;
            libc::write(fd, (&raw const byte).cast(), 1);
            *errno = before;
        }
    }
}

/// Calls `asked`, from a thread of its own, at each request: Ctrl-C (SIGINT), SIGTERM, SIGQUIT; SIGHUP is a reload, or a stop
/// when the terminal is gone. With `can_pause` also SIGTSTP, a pause, and SIGCONT, its end. Goes on until the process ends.
/// Requests that come faster than they are taken may count as one.
///
/// # Errors
/// The system's; or a second call, for there is one handler a process.
pub fn on_service_request(
    can_pause: bool,
    mut asked: impl FnMut(ServiceRequest) + Send + 'static,
) -> io::Result<()> {
    // Before the first handler is set: whether SIGHUP was ignored is seen by what was there.
    let mut hangups = Hangups::new();
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&writer, true)?;
    let writer = writer.into_raw_fd();
    if HANDLER_FD.compare_exchange(-1, writer, Ordering::Relaxed, Ordering::Relaxed).is_err() {
        return Err(io::Error::other("the signals of this process are listened to already"));
    }
    let mut signals = vec![libc::SIGINT, libc::SIGTERM, libc::SIGQUIT, libc::SIGHUP];
    if can_pause {
        signals.extend([libc::SIGTSTP, libc::SIGCONT]);
    }
    for signal in signals {
        set_handler(signal)?;
    }
    std::thread::Builder::new().name("requests".to_owned()).spawn(move || {
        while let Some(signal) = next_signal(&reader) {
            if let Some(request) = request(signal, &mut hangups) {
                asked(request);
            }
        }
    })?;
    Ok(())
}

fn request(signal: libc::c_int, hangups: &mut Hangups) -> Option<ServiceRequest> {
    match signal {
        libc::SIGINT => Some(ServiceRequest::Stop(StopCause::CtrlC)),
        libc::SIGTERM => Some(ServiceRequest::Stop(StopCause::Terminate)),
        libc::SIGQUIT => Some(ServiceRequest::Stop(StopCause::Quit)),
        libc::SIGTSTP => Some(ServiceRequest::Pause),
        libc::SIGCONT => Some(ServiceRequest::Continue),
        libc::SIGHUP => match hangups.meaning() {
            Hangup::Stop => Some(ServiceRequest::Stop(StopCause::ConsoleGone)),
            Hangup::Reload => Some(ServiceRequest::Reload),
            Hangup::Nothing => None,
        },
        _ => None,
    }
}

/// `None` when the pipe cannot be read, which is never as long as the process lives.
fn next_signal(reader: &OwnedFd) -> Option<libc::c_int> {
    let mut byte = [0];
    loop {
        match rustix::io::read(reader, &mut byte) {
            Ok(1) => return Some(libc::c_int::from(byte[0])),
            Err(Errno::INTR) => {}
            Ok(_) | Err(_) => return None,
        }
    }
}

fn set_handler(signal: libc::c_int) -> io::Result<()> {
    let handler: extern "C" fn(libc::c_int) = on_signal;
    // SAFETY: sigaction(2) with a handler that only does what signal-safety(7) allows; the struct lives here, and zeros are a
    // valid one.
    let done = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as libc::sighandler_t;
        // Slow calls of the interrupted thread go on.
        action.sa_flags = libc::SA_RESTART;
        libc::sigemptyset(&raw mut action.sa_mask);
        libc::sigaction(signal, &raw const action, std::ptr::null_mut())
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A start by the SCM, which this system does not have.
#[derive(Debug)]
pub struct ScmEntry(Infallible);

impl ScmEntry {
    /// Begins to take controls.
    ///
    /// # Errors
    /// Never: there is no such start.
    pub fn accept(self, _asked: impl Fn(ServiceRequest) + Send + Sync + 'static) -> io::Result<ScmHandle> {
        match self.0 {}
    }
}

/// The way to tell the SCM, which this system does not have.
#[derive(Debug)]
pub struct ScmHandle(Infallible);

impl ScmHandle {
    /// Tells the status.
    ///
    /// # Errors
    /// Never: there is nobody to tell.
    pub const fn set(&self, _status: &ScmStatus) -> io::Result<()> {
        match self.0 {}
    }
}

/// False: no program is started by the SCM here.
///
/// # Errors
/// Never.
pub fn serve_scm(_name: &str, _work: impl FnOnce(ScmEntry) + Send + 'static) -> io::Result<bool> {
    Ok(false)
}
