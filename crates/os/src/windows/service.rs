//! A program as a service of Windows: the dispatcher of the service control manager (SCM), and console events.

use std::ffi::c_void;
use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use windows_sys::Win32::Foundation::{
    ERROR_CALL_NOT_IMPLEMENTED, ERROR_FAILED_SERVICE_CONTROLLER_CONNECT, ERROR_SERVICE_SPECIFIC_ERROR,
    NO_ERROR,
};
use windows_sys::Win32::System::Console::{
    CTRL_BREAK_EVENT, CTRL_C_EVENT, CTRL_CLOSE_EVENT, CTRL_LOGOFF_EVENT, CTRL_SHUTDOWN_EVENT,
    SetConsoleCtrlHandler,
};
use windows_sys::Win32::System::Services::{
    RegisterServiceCtrlHandlerExW, SERVICE_ACCEPT_PARAMCHANGE, SERVICE_ACCEPT_PAUSE_CONTINUE,
    SERVICE_ACCEPT_POWEREVENT, SERVICE_ACCEPT_PRESHUTDOWN, SERVICE_ACCEPT_SESSIONCHANGE,
    SERVICE_ACCEPT_SHUTDOWN, SERVICE_ACCEPT_STOP, SERVICE_CONTINUE_PENDING, SERVICE_CONTROL_CONTINUE,
    SERVICE_CONTROL_INTERROGATE, SERVICE_CONTROL_PARAMCHANGE, SERVICE_CONTROL_PAUSE,
    SERVICE_CONTROL_POWEREVENT, SERVICE_CONTROL_PRESHUTDOWN, SERVICE_CONTROL_SESSIONCHANGE,
    SERVICE_CONTROL_SHUTDOWN, SERVICE_CONTROL_STOP, SERVICE_PAUSE_PENDING, SERVICE_PAUSED, SERVICE_RUNNING,
    SERVICE_START_PENDING, SERVICE_STATUS, SERVICE_STATUS_HANDLE, SERVICE_STOP_PENDING, SERVICE_STOPPED,
    SERVICE_TABLE_ENTRYW, SERVICE_WIN32_OWN_PROCESS, SetServiceStatus, StartServiceCtrlDispatcherW,
};

use crate::{PowerChange, ScmControls, ScmState, ScmStatus, ServiceRequest, SessionChange, StopCause};

/// How long the handler of a console that goes away waits for the process to end: when it returns, the system ends it. The
/// system itself waits 5 s at most (<https://learn.microsoft.com/en-us/windows/console/handlerroutine>).
const CLOSE_WAIT: Duration = Duration::from_secs(30);

type Asked = Box<dyn FnMut(ServiceRequest) + Send>;

/// What the console handler calls; it has no argument of ours.
static CONSOLE: OnceLock<Mutex<Asked>> = OnceLock::new();

type Work = Box<dyn FnOnce(ScmEntry) + Send>;

/// What `ServiceMain` runs, with the service's name; it has no argument of ours, either.
static WORK: Mutex<Option<(Vec<u16>, Work)>> = Mutex::new(None);

/// Calls `asked`, from a thread of the system's, at Ctrl-C, Ctrl-Break, and when the console closes, the user logs off or the
/// machine goes down. Goes on until the process ends. Windows has no signal for a pause or a reload in a console.
///
/// # Errors
/// The system's; or a second call, for there is one handler a process.
pub fn on_service_request(
    _can_pause: bool,
    asked: impl FnMut(ServiceRequest) + Send + 'static,
) -> io::Result<()> {
    if CONSOLE.set(Mutex::new(Box::new(asked))).is_err() {
        return Err(io::Error::other("the console events of this process are listened to already"));
    }
    // SAFETY: the routine is a function of this program with the signature that is asked for; it stays for ever.
    // https://learn.microsoft.com/en-us/windows/console/setconsolectrlhandler
    let done = unsafe { SetConsoleCtrlHandler(Some(on_console_event), 1) };
    if done == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Called by the system, each time on a new thread.
unsafe extern "system" fn on_console_event(event: u32) -> i32 {
    let (cause, ends_on_return) = match event {
        CTRL_C_EVENT => (StopCause::CtrlC, false),
        CTRL_BREAK_EVENT => (StopCause::CtrlBreak, false),
        CTRL_CLOSE_EVENT | CTRL_LOGOFF_EVENT => (StopCause::ConsoleGone, true),
        CTRL_SHUTDOWN_EVENT => (StopCause::Shutdown, true),
        _ => return 0,
    };
    if let Some(asked) = CONSOLE.get() {
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked(ServiceRequest::Stop(cause));
    }
    if ends_on_return {
        // The process ends when it has stopped, and this thread with it.
        std::thread::sleep(CLOSE_WAIT);
    }
    1
}

/// Runs `work` when the SCM started this process, and returns true once the service has stopped; false, at once and without
/// running it, when somebody else did.
///
/// # Errors
/// The system's, other than that nobody waits for this process.
pub fn serve_scm(name: &str, work: impl FnOnce(ScmEntry) + Send + 'static) -> io::Result<bool> {
    let mut wide: Vec<u16> = name.encode_utf16().filter(|unit| *unit != 0).collect();
    wide.push(0);
    *WORK.lock().unwrap_or_else(PoisonError::into_inner) = Some((wide.clone(), Box::new(work)));
    let table = [
        SERVICE_TABLE_ENTRYW { lpServiceName: wide.as_mut_ptr(), lpServiceProc: Some(service_main) },
        SERVICE_TABLE_ENTRYW { lpServiceName: std::ptr::null_mut(), lpServiceProc: None },
    ];
    // SAFETY: the table is closed by an entry of nulls; it and the name live until the call returns, which is when the service
    // has stopped.
    // https://learn.microsoft.com/en-us/windows/win32/api/winsvc/nf-winsvc-startservicectrldispatcherw
    let done = unsafe { StartServiceCtrlDispatcherW(table.as_ptr()) };
    if done != 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    WORK.lock().unwrap_or_else(PoisonError::into_inner).take();
    let nobody_waits = ERROR_FAILED_SERVICE_CONTROLLER_CONNECT.cast_signed();
    if error.raw_os_error() == Some(nobody_waits) { Ok(false) } else { Err(error) }
}

/// Called by the dispatcher on a thread of its own.
unsafe extern "system" fn service_main(_count: u32, _arguments: *mut *mut u16) {
    let work = WORK.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some((name, work)) = work {
        work(ScmEntry { name });
    }
}

/// A start by the SCM, which waits to hear of it.
#[derive(Debug)]
pub struct ScmEntry {
    name: Vec<u16>,
}

impl ScmEntry {
    /// Begins to take controls; `asked` is called for each, on the dispatcher's thread, and must not wait.
    ///
    /// # Errors
    /// The system's.
    pub fn accept(self, asked: impl Fn(ServiceRequest) + Send + Sync + 'static) -> io::Result<ScmHandle> {
        // Never freed: the system may call the handler until the process ends, and there is one a process.
        let context: &'static Handler = Box::leak(Box::new(Handler { asked: Box::new(asked) }));
        // SAFETY: the name is closed by NUL and lives through the call; the handler is a function of this program, and its
        // context lives for ever and may be used from any thread.
        // https://learn.microsoft.com/en-us/windows/win32/api/winsvc/nf-winsvc-registerservicectrlhandlerexw
        let handle = unsafe {
            RegisterServiceCtrlHandlerExW(
                self.name.as_ptr(),
                Some(on_control),
                std::ptr::from_ref(context).cast(),
            )
        };
        if handle.is_null() { Err(io::Error::last_os_error()) } else { Ok(ScmHandle(handle)) }
    }
}

struct Handler {
    asked: Box<dyn Fn(ServiceRequest) + Send + Sync>,
}

/// Called by the dispatcher for each control.
unsafe extern "system" fn on_control(
    control: u32,
    event: u32,
    data: *mut c_void,
    context: *mut c_void,
) -> u32 {
    let request = match control {
        SERVICE_CONTROL_STOP => ServiceRequest::Stop(StopCause::Manager),
        SERVICE_CONTROL_SHUTDOWN | SERVICE_CONTROL_PRESHUTDOWN => ServiceRequest::Stop(StopCause::Shutdown),
        SERVICE_CONTROL_PAUSE => ServiceRequest::Pause,
        SERVICE_CONTROL_CONTINUE => ServiceRequest::Continue,
        SERVICE_CONTROL_PARAMCHANGE => ServiceRequest::Reload,
        SERVICE_CONTROL_POWEREVENT => ServiceRequest::Power(power(event)),
        SERVICE_CONTROL_SESSIONCHANGE if !data.is_null() => {
            // SAFETY: with this control the data is a WTSSESSION_NOTIFICATION: two numbers of 32 bits, the second of which is the
            // session. https://learn.microsoft.com/en-us/windows/win32/api/winsvc/nc-winsvc-lphandler_function_ex
            let session = unsafe { data.cast::<u32>().add(1).read_unaligned() };
            ServiceRequest::Session { change: session_change(event), session }
        }
        // The SCM has the last status; it only wants to hear that the handler answers.
        SERVICE_CONTROL_INTERROGATE => return NO_ERROR,
        _ => return ERROR_CALL_NOT_IMPLEMENTED,
    };
    // SAFETY: the context is the `Handler` that was given at the registration, and is never freed.
    let handler = unsafe { &*context.cast::<Handler>() };
    (handler.asked)(request);
    NO_ERROR
}

/// `WTS_*` of <https://learn.microsoft.com/en-us/windows/win32/termserv/wm-wtssession-change>.
fn session_change(event: u32) -> SessionChange {
    match event {
        1 => SessionChange::ConsoleConnect,
        2 => SessionChange::ConsoleDisconnect,
        3 => SessionChange::RemoteConnect,
        4 => SessionChange::RemoteDisconnect,
        5 => SessionChange::Logon,
        6 => SessionChange::Logoff,
        7 => SessionChange::Lock,
        8 => SessionChange::Unlock,
        other => SessionChange::Other(other),
    }
}

/// `PBT_APM*` of <https://learn.microsoft.com/en-us/windows/win32/power/wm-powerbroadcast-messages>.
fn power(event: u32) -> PowerChange {
    match event {
        0x4 => PowerChange::Suspend,
        0xA => PowerChange::Source,
        // Automatic: sent at every wake-up; the other one follows when a user is there.
        0x12 => PowerChange::Resume,
        other => PowerChange::Other(other),
    }
}

/// The way to tell the SCM.
#[derive(Debug)]
pub struct ScmHandle(SERVICE_STATUS_HANDLE);

// SAFETY: the handle is a number that any thread may use, and need not be closed
// (https://learn.microsoft.com/en-us/windows/win32/api/winsvc/nf-winsvc-registerservicectrlhandlerexw).
unsafe impl Send for ScmHandle {}
// SAFETY: as above; `SetServiceStatus` may be called from any thread.
unsafe impl Sync for ScmHandle {}

impl ScmHandle {
    /// Tells the status. After `Stopped` the process may be ended at any time.
    ///
    /// # Errors
    /// The system's.
    pub fn set(&self, status: &ScmStatus) -> io::Result<()> {
        let (exit, specific) = match status.exit_code {
            0 => (NO_ERROR, 0),
            code => (ERROR_SERVICE_SPECIFIC_ERROR, code),
        };
        let status = SERVICE_STATUS {
            dwServiceType: SERVICE_WIN32_OWN_PROCESS,
            dwCurrentState: state(status.state),
            dwControlsAccepted: controls(status.accepted),
            dwWin32ExitCode: exit,
            dwServiceSpecificExitCode: specific,
            dwCheckPoint: status.checkpoint,
            dwWaitHint: u32::try_from(status.wait_hint.as_millis()).unwrap_or(u32::MAX),
        };
        // SAFETY: the handle came from the registration, and the struct lives through the call.
        // https://learn.microsoft.com/en-us/windows/win32/api/winsvc/nf-winsvc-setservicestatus
        let done = unsafe { SetServiceStatus(self.0, &raw const status) };
        if done == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

const fn state(state: ScmState) -> u32 {
    match state {
        ScmState::StartPending => SERVICE_START_PENDING,
        ScmState::Running => SERVICE_RUNNING,
        ScmState::PausePending => SERVICE_PAUSE_PENDING,
        ScmState::Paused => SERVICE_PAUSED,
        ScmState::ContinuePending => SERVICE_CONTINUE_PENDING,
        ScmState::StopPending => SERVICE_STOP_PENDING,
        ScmState::Stopped => SERVICE_STOPPED,
    }
}

fn controls(controls: ScmControls) -> u32 {
    let mut bits = 0;
    if controls.stop {
        bits |= SERVICE_ACCEPT_STOP | SERVICE_ACCEPT_SHUTDOWN | SERVICE_ACCEPT_PRESHUTDOWN;
    }
    if controls.pause_continue {
        bits |= SERVICE_ACCEPT_PAUSE_CONTINUE;
    }
    if controls.news {
        bits |= SERVICE_ACCEPT_PARAMCHANGE | SERVICE_ACCEPT_SESSIONCHANGE | SERVICE_ACCEPT_POWEREVENT;
    }
    bits
}
