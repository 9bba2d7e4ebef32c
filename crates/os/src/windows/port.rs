//! The completion port where jobs and the ends of processes report, and the thread that hands their reports on.
//!
//! A job names a number that its trees have and nobody else gets, so that a late report of a job that is gone says nothing.
//! The system promises no report of a job (it may lack memory for one), so nothing depends on them alone: the end of a process
//! is waited for by its handle.

use std::ffi::c_void;
use std::io;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::sync::Arc;
use std::thread::JoinHandle;

use windows_sys::Win32::Foundation::{HANDLE, INVALID_HANDLE_VALUE};
use windows_sys::Win32::System::IO::{
    CreateIoCompletionPort, GetQueuedCompletionStatus, OVERLAPPED, PostQueuedCompletionStatus,
};
use windows_sys::Win32::System::SystemServices::{
    JOB_OBJECT_MSG_ACTIVE_PROCESS_LIMIT, JOB_OBJECT_MSG_ACTIVE_PROCESS_ZERO, JOB_OBJECT_MSG_JOB_MEMORY_LIMIT,
};
use windows_sys::Win32::System::Threading::{
    INFINITE, RegisterWaitForSingleObject, UnregisterWaitEx, WT_EXECUTEINWAITTHREAD, WT_EXECUTEONLYONCE,
};

use super::system::{done, made};

/// A packet of our own; those of jobs are small numbers.
const PROCESS_ENDED: u32 = 0x8000_0001;
/// The thread is to end.
const QUIT: u32 = 0x8000_0002;

/// What was reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Report {
    /// A watched process ended.
    ProcessEnded,
    /// The job has no process.
    JobEmpty,
    /// Somebody in the job was refused memory.
    MemoryShort,
    /// Somebody in the job was refused a process.
    ProcessesShort,
}

/// The port, shared by all who report to it.
#[derive(Clone, Debug)]
pub(super) struct Port(Arc<OwnedHandle>);

impl Port {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: the invalid handle and a null port ask for a new port without a file.
        // https://learn.microsoft.com/en-us/windows/win32/fileio/createiocompletionport
        let port = unsafe { CreateIoCompletionPort(INVALID_HANDLE_VALUE, std::ptr::null_mut(), 0, 1) };
        Ok(Self(Arc::new(made(port)?)))
    }

    pub(super) fn handle(&self) -> HANDLE {
        self.0.as_raw_handle()
    }

    /// Hands every report to `tell` from a thread of its own, until [`Port::quit`] or until `tell` answers that nobody listens.
    pub(super) fn listen(
        &self,
        tell: impl Fn(usize, Report) -> bool + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        let port = self.clone();
        std::thread::Builder::new().name("processes".to_owned()).stack_size(128 * 1024).spawn(move || {
            while let Ok((key, kind)) = port.next() {
                let report = match kind {
                    PROCESS_ENDED => Report::ProcessEnded,
                    JOB_OBJECT_MSG_ACTIVE_PROCESS_ZERO => Report::JobEmpty,
                    JOB_OBJECT_MSG_JOB_MEMORY_LIMIT => Report::MemoryShort,
                    JOB_OBJECT_MSG_ACTIVE_PROCESS_LIMIT => Report::ProcessesShort,
                    QUIT => return,
                    // Processes that come and go within a tree.
                    _ => continue,
                };
                if !tell(key, report) {
                    return;
                }
            }
        })
    }

    fn next(&self) -> io::Result<(usize, u32)> {
        let (mut kind, mut key) = (0, 0);
        let mut about: *mut OVERLAPPED = std::ptr::null_mut();
        // SAFETY: the handle is open, and the three places live through the call. What `about` is set to is a process number
        // or null here, and is never followed.
        // https://learn.microsoft.com/en-us/windows/win32/api/ioapiset/nf-ioapiset-getqueuedcompletionstatus
        done(unsafe {
            GetQueuedCompletionStatus(self.handle(), &raw mut kind, &raw mut key, &raw mut about, INFINITE)
        })?;
        Ok((key, kind))
    }

    fn post(&self, key: usize, kind: u32) -> io::Result<()> {
        // SAFETY: the handle is open; a packet without an OVERLAPPED only carries its numbers.
        // https://learn.microsoft.com/en-us/windows/win32/fileio/postqueuedcompletionstatus
        done(unsafe { PostQueuedCompletionStatus(self.handle(), kind, key, std::ptr::null()) })
    }

    /// Ends the thread.
    pub(super) fn quit(&self) {
        // It fails only for want of memory; the thread then ends with the process.
        let _ = self.post(0, QUIT);
    }
}

/// Waits for the end of one process, and reports it once.
#[derive(Debug)]
pub(super) struct Watch {
    wait: HANDLE,
    /// What the callback is given; freed after it cannot run any more.
    context: *mut Context,
    /// Held as long as it is waited for.
    process: Arc<OwnedHandle>,
}

#[derive(Debug)]
struct Context {
    port: Port,
    key: usize,
}

// SAFETY: the wait and the context are used by `drop` alone, on whatever thread that runs; the callback only reads the context,
// which any thread may.
unsafe impl Send for Watch {}

impl Watch {
    pub(super) fn start(port: &Port, key: usize, process: Arc<OwnedHandle>) -> io::Result<Self> {
        let context = Box::into_raw(Box::new(Context { port: port.clone(), key }));
        let mut wait: HANDLE = std::ptr::null_mut();
        // SAFETY: the process's handle is held by this watch until the wait is over; so is the context. The callback does what
        // may be done in the waiting thread: it posts a packet and does not block.
        // https://learn.microsoft.com/en-us/windows/win32/api/winbase/nf-winbase-registerwaitforsingleobject
        let answer = done(unsafe {
            RegisterWaitForSingleObject(
                &raw mut wait,
                process.as_raw_handle(),
                Some(on_end),
                context.cast_const().cast(),
                INFINITE,
                WT_EXECUTEONLYONCE | WT_EXECUTEINWAITTHREAD,
            )
        });
        if let Err(error) = answer {
            // SAFETY: it came from `Box::into_raw` above, and nobody was given it.
            drop(unsafe { Box::from_raw(context) });
            return Err(error);
        }
        Ok(Self { wait, context, process })
    }

    pub(super) fn process(&self) -> &Arc<OwnedHandle> {
        &self.process
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // SAFETY: the wait is registered and ended here only; the invalid handle makes the call wait for a callback that runs.
        // https://learn.microsoft.com/en-us/windows/win32/api/threadpoollegacyapiset/nf-threadpoollegacyapiset-unregisterwaitex
        let ended = unsafe { UnregisterWaitEx(self.wait, INVALID_HANDLE_VALUE) };
        if ended != 0 {
            // SAFETY: it came from `Box::into_raw` in `start`, is freed here only, and no callback runs any more.
            drop(unsafe { Box::from_raw(self.context) });
        }
        // Else a callback might still use it: a few bytes are left rather than freed too early.
    }
}

unsafe extern "system" fn on_end(context: *mut c_void, _timed_out: bool) {
    // SAFETY: the system passes what was registered: a context that lives until no callback can run any more.
    let context = unsafe { &*context.cast::<Context>() };
    let _ = context.port.post(context.key, PROCESS_ENDED);
}
