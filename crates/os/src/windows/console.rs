//! Asking programs to end: a Ctrl event on their console, or the request to close their windows.
//!
//! A process can send a Ctrl event only to the console it is in itself, and the host must stay in its own. So this same binary is
//! executed once more, without a console, enters those of the processes it is told, sends the event there, and ends.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::{HWND, LPARAM};
use windows_sys::Win32::System::Console::{
    AttachConsole, CTRL_BREAK_EVENT, CTRL_C_EVENT, FreeConsole, GenerateConsoleCtrlEvent,
    GetConsoleProcessList, SetConsoleCtrlHandler,
};
use windows_sys::Win32::UI::WindowsAndMessaging::{
    EnumWindows, GetWindowThreadProcessId, PostMessageW, WM_CLOSE,
};
use windows_sys::core::BOOL;

use super::command_line;
use super::process::{self, ended_within, exit_code};
use super::spawn::{Plan, SpawnError, spawn, terminate};
use super::system::{done, units, wide};

/// The word after the program's name that makes a process the sender.
const SENDER_WORD: &str = "internal-console-event";
/// Processes that one sender is told; those that share a console need not be told, so this is far more than there are consoles.
const MAX_PIDS: usize = 256;
/// Time for the sender: it starts, sends, and ends.
const SENDER_LIMIT: Duration = Duration::from_secs(5);
/// Time for an event to come back to the sender itself, which shows that it was sent round.
const ECHO_LIMIT: Duration = Duration::from_millis(500);

/// Time for processes that have just begun to come into their console; more than it takes on a busy machine.
const NEWCOMER_LIMIT: Duration = Duration::from_millis(500);
/// Older processes that are in no console have none.
const NEW: Duration = Duration::from_secs(3);

/// The sender's answers, as exit codes that no system uses.
const REACHED: i32 = 40;
const NO_CONSOLE: i32 = 41;

/// What is sent to consoles.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ConsoleEvent {
    CtrlC,
    CtrlBreak,
}

impl ConsoleEvent {
    const fn number(self) -> u32 {
        match self {
            Self::CtrlC => CTRL_C_EVENT,
            Self::CtrlBreak => CTRL_BREAK_EVENT,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::CtrlC => "ctrl-c",
            Self::CtrlBreak => "ctrl-break",
        }
    }
}

/// Sends the event to every console that one of these processes is in, by way of `sender`, this binary. Answers whether there
/// was one. Waits a few seconds at most.
pub(super) fn send(sender: &Path, event: ConsoleEvent, pids: &[u32]) -> io::Result<bool> {
    let words = [SENDER_WORD, event.word()].into_iter().map(str::to_owned);
    let pids = pids.iter().take(MAX_PIDS).map(ToString::to_string);
    let args: Vec<Vec<u16>> = words.chain(pids).map(units).collect();
    let command_line = command_line::of_program(&units(sender), &args)
        .map_err(|error| io::Error::other(error.to_string()))?;
    let plan = Plan {
        file: &wide(sender),
        command_line,
        environment: None,
        workdir: None,
        standard: None,
        inherited: &[],
        job: None,
    };
    let made = spawn(plan).map_err(|error| match error {
        SpawnError::Create(error) | SpawnError::Job(error) => error,
    })?;
    if !ended_within(&made.process, SENDER_LIMIT) {
        terminate(&made.process);
        return Err(io::Error::new(io::ErrorKind::TimedOut, "the sender of Ctrl events hung and was ended"));
    }
    match exit_code(&made.process)? {
        REACHED => Ok(true),
        NO_CONSOLE => Ok(false),
        code => Err(io::Error::other(format!("the sender of Ctrl events ended with {code:#x}"))),
    }
}

/// Takes Ctrl-C as a request again. A process that was started in a process group of its own ignores it, and so would everything
/// it starts: nothing of a stack could then be asked to end.
pub(super) fn hear_ctrl_c() {
    // SAFETY: without a handler, the call only turns the ignoring off, for this process and those it starts.
    // https://learn.microsoft.com/en-us/windows/console/setconsolectrlhandler
    unsafe { SetConsoleCtrlHandler(None, 0) };
}

/// Becomes the sender and never returns, when this process was executed as one. Else does nothing.
pub(super) fn send_if_asked() {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_none_or(|word| word != SENDER_WORD) {
        return;
    }
    let event = match args.next().as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("ctrl-c") => ConsoleEvent::CtrlC,
        Some("ctrl-break") => ConsoleEvent::CtrlBreak,
        Some(_) | None => return,
    };
    let pids: Vec<u32> = args.take(MAX_PIDS).filter_map(|pid: OsString| pid.to_str()?.parse().ok()).collect();
    std::process::exit(if send_to_all(event, &pids) { REACHED } else { NO_CONSOLE });
}

fn send_to_all(event: ConsoleEvent, pids: &[u32]) -> bool {
    let mut served: Vec<u32> = Vec::new();
    let mut reached = false;
    leave_console();
    for pid in pids {
        if served.contains(pid) {
            continue;
        }
        // A process without a console, one that has ended, and one that may not be asked: there is another way, or none.
        if enter_console_of(*pid).is_ok() {
            served.extend(in_this_console_with_newcomers(pids, &served));
            reached |= send_here(event).is_ok();
            leave_console();
        }
    }
    reached
}

fn leave_console() {
    // SAFETY: the call takes nothing; without a console it fails and changes nothing.
    // https://learn.microsoft.com/en-us/windows/console/freeconsole
    unsafe { FreeConsole() };
}

fn enter_console_of(pid: u32) -> io::Result<()> {
    // SAFETY: the call takes a number only.
    // https://learn.microsoft.com/en-us/windows/console/attachconsole
    done(unsafe { AttachConsole(pid) })
}

fn in_this_console() -> Vec<u32> {
    let mut pids = vec![0; MAX_PIDS];
    // SAFETY: the buffer has room for as many numbers as is said; when there are more, none is written.
    // https://learn.microsoft.com/en-us/windows/console/getconsoleprocesslist
    let count = unsafe { GetConsoleProcessList(pids.as_mut_ptr(), MAX_PIDS as u32) };
    pids.truncate(count as usize);
    pids
}

/// A new process enters its console while it starts, and hears nothing before: those that have only just begun are waited for, a
/// moment at most.
fn in_this_console_with_newcomers(pids: &[u32], elsewhere: &[u32]) -> Vec<u32> {
    let begin = Instant::now();
    loop {
        let here = in_this_console();
        let missing = |pid: &u32| !here.contains(pid) && !elsewhere.contains(pid) && is_new(*pid);
        if begin.elapsed() >= NEWCOMER_LIMIT || !pids.iter().any(missing) {
            return here;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_new(pid: u32) -> bool {
    let age = process::open(pid).and_then(|process| {
        if process::has_ended(&process) {
            Err(io::ErrorKind::NotFound.into())
        } else {
            process::age(&process)
        }
    });
    age.is_ok_and(|age| age < NEW)
}

/// Set when an event has come to this process.
static HEARD: AtomicBool = AtomicBool::new(false);

unsafe extern "system" fn hear(_event: u32) -> BOOL {
    HEARD.store(true, Ordering::Release);
    1
}

/// Everything in this console gets the event, this process included, which must not end by it: so it stays until it has heard.
fn send_here(event: ConsoleEvent) -> io::Result<()> {
    HEARD.store(false, Ordering::Release);
    // SAFETY: the handler only sets a flag, from whatever thread. Entering a console has put the list of handlers back.
    // https://learn.microsoft.com/en-us/windows/console/setconsolectrlhandler
    done(unsafe { SetConsoleCtrlHandler(Some(hear), 1) })?;
    // SAFETY: the call takes numbers only; group 0 means all who share this console.
    // https://learn.microsoft.com/en-us/windows/console/generateconsolectrlevent
    done(unsafe { GenerateConsoleCtrlEvent(event.number(), 0) })?;
    let begin = Instant::now();
    while !HEARD.load(Ordering::Acquire) && begin.elapsed() < ECHO_LIMIT {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Asks every window of these processes to close; answers how many there were.
pub(super) fn close_windows(pids: &[u32]) -> u32 {
    let mut closing = Closing { pids, asked: 0 };
    // SAFETY: the callback gets the address of `closing`, which lives through the call, in this thread alone.
    // https://learn.microsoft.com/en-us/windows/win32/api/winuser/nf-winuser-enumwindows
    unsafe { EnumWindows(Some(close_if_theirs), (&raw mut closing) as LPARAM) };
    closing.asked
}

struct Closing<'a> {
    pids: &'a [u32],
    asked: u32,
}

unsafe extern "system" fn close_if_theirs(window: HWND, closing: LPARAM) -> BOOL {
    // SAFETY: this is the address that `close_windows` passed, whose value nobody else uses meanwhile.
    let closing = unsafe { &mut *(closing as *mut Closing<'_>) };
    let mut pid = 0;
    // SAFETY: a window that is gone by now makes the call fail and leaves the number as it is.
    // https://learn.microsoft.com/en-us/windows/win32/api/winuser/nf-winuser-getwindowthreadprocessid
    unsafe { GetWindowThreadProcessId(window, &raw mut pid) };
    if pid != 0 && closing.pids.contains(&pid) {
        // SAFETY: as above; the message carries nothing.
        // https://learn.microsoft.com/en-us/windows/win32/winmsg/wm-close
        let posted = unsafe { PostMessageW(window, WM_CLOSE, 0, 0) };
        closing.asked += u32::from(posted != 0);
    }
    1
}
