//! One call in `main` that runs a program as a service: it finds out who started it, and takes it through its life.
//!
//! ```text
//!   start ──ok──► (ready) run ──► stop ──► end
//!     └─failed, or asked to stop meanwhile: no run; `stop` only when `start` was done
//! ```
//! Threads: the one that called (under the SCM: the dispatcher's) runs the service; `requests` takes signals; `stop deadline`
//! ends the process when a stop takes too long. Both end with the process.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal as _};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mainstay_os::ScmEntry;
use mainstay_types::Level;

use crate::context::{Context, Rules};
use crate::failure::{FAILED, Failure};
use crate::log::Log;
use crate::started::{StartedBy, started_by};

/// What a start, a stop and each pause may take before a manager loses patience, unless more is said: below the 30 s in which
/// Windows wants a service to answer, and the 90 s of systemd.
const START_WITHIN: Duration = Duration::from_secs(25);
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// The code of a program that panics, as Rust's own.
const PANICKED: u8 = 101;

/// A program that is a service. The same code runs under systemd, under the service control manager of Windows, under a
/// mainstay host, and in a console.
pub trait Service {
    /// Gets ready: opens what the work needs. The service is ready when this has returned, unless it says so itself
    /// ([`Ready::WhenSaid`]). What takes long says [`Context::progress`].
    ///
    /// # Errors
    /// The service has failed: neither [`Service::run`] nor [`Service::stop`] is called.
    fn start(&mut self, context: &Context) -> Result<(), Failure> {
        let _ = context;
        Ok(())
    }

    /// Does the work, until [`Context::next_event`] says [`Event::Stop`](crate::Event::Stop), [`Context::is_stopping`] is true, or
    /// there is nothing left to do.
    ///
    /// # Errors
    /// The service has failed; it is stopped.
    fn run(&mut self, context: &Context) -> Result<(), Failure>;

    /// Finishes what is in flight, until [`Context::stop_deadline`] at most. Called after `run`, however that ended, on the same
    /// thread.
    ///
    /// # Errors
    /// The service has failed.
    fn stop(&mut self, context: &Context) -> Result<(), Failure> {
        let _ = context;
        Ok(())
    }
}

/// When a service is ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ready {
    /// When its `start` has returned.
    #[default]
    AfterStart,
    /// When it says [`Context::ready`].
    WhenSaid,
}

/// How a program is run as a service.
#[derive(Clone, Debug)]
pub struct Program {
    name: String,
    ready: Ready,
    can_pause: bool,
    start_within: Duration,
    stop_within: Duration,
    log: Option<Log>,
}

impl Program {
    /// A service of this name: under the SCM the one it is registered with.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ready: Ready::default(),
            can_pause: false,
            start_within: START_WITHIN,
            stop_within: STOP_WITHIN,
            log: None,
        }
    }

    /// When it is ready.
    #[must_use]
    pub fn ready(self, ready: Ready) -> Self {
        Self { ready, ..self }
    }

    /// It takes [`Event::Pause`](crate::Event::Pause) and [`Event::Continue`](crate::Event::Continue): from the SCM, and elsewhere
    /// as SIGTSTP (also Ctrl-Z) and SIGCONT. Without this Ctrl-Z suspends it, as any program.
    #[must_use]
    pub fn can_pause(self) -> Self {
        Self { can_pause: true, ..self }
    }

    /// How long a start, a pause and going on may take between two words of [`Context::progress`]. Default 25 s.
    #[must_use]
    pub fn start_within(self, start_within: Duration) -> Self {
        Self { start_within, ..self }
    }

    /// How long a stop may take; then the process is ended with code 1. Default 15 s.
    #[must_use]
    pub fn stop_within(self, stop_within: Duration) -> Self {
        Self { stop_within, ..self }
    }

    /// The log it writes to, where the program made it before.
    #[must_use]
    pub fn log(self, log: Log) -> Self {
        Self { log: Some(log), ..self }
    }

    /// Runs it to its end; to be called once, from `main`, whose exit code is the answer: 0 when all went well, the failure's own
    /// code, 101 after a panic. A panic is logged with its words and its place; the hook that was there is replaced.
    pub fn run<S: Service + Send + 'static>(self, service: S) -> ExitCode {
        let log = self.log.clone().unwrap_or_else(|| Log::of_process(&self.name));
        let name = self.name.clone();
        // Whoever comes first takes it: the SCM's thread, or this one when there is no SCM.
        let work = Arc::new(Mutex::new(Some((self, service))));
        let take =
            |work: &Mutex<Option<(Self, S)>>| work.lock().unwrap_or_else(PoisonError::into_inner).take();
        let code = Arc::new(AtomicU8::new(0));
        let served = mainstay_os::serve_scm(&name, {
            let (work, code, log) = (Arc::clone(&work), Arc::clone(&code), log.clone());
            move |entry| {
                if let Some((program, service)) = take(&work) {
                    code.store(program.live(service, &log, Some(entry)), Ordering::SeqCst);
                }
            }
        });
        match served {
            Ok(true) => ExitCode::from(code.load(Ordering::SeqCst)),
            Ok(false) => {
                let ended = take(&work).map(|(program, service)| program.live(service, &log, None));
                ExitCode::from(ended.unwrap_or(FAILED))
            }
            Err(error) => {
                log.error(&format!("the service control manager cannot be reached: {error}"));
                ExitCode::from(FAILED)
            }
        }
    }

    /// The whole life; answers the exit code.
    fn live<S: Service>(self, service: S, log: &Log, entry: Option<ScmEntry>) -> u8 {
        if entry.is_some()
            && let Err(error) = log.to_system_log()
        {
            log.warn(&format!("the Event Log does not open: {error}"));
        }
        log_panics(log);
        let variable = |name: &str| std::env::var(name).ok();
        let started_by = match entry {
            Some(_) => StartedBy::Scm,
            None => started_by(variable, std::process::id(), io::stdin().is_terminal()),
        };
        let rules = Rules {
            can_pause: self.can_pause,
            start_within: self.start_within,
            stop_within: self.stop_within,
            started_by,
            watchdog: if entry.is_some() { None } else { mainstay_os::manager_watchdog() },
        };
        let context = Context::new(&self.name, rules, log.clone());
        if let Err(error) = listen(&context, self.can_pause, entry) {
            log.error(&format!("cannot hear what is asked from outside: {error}"));
            context.ended(FAILED);
            return FAILED;
        }
        let started_by = started_by.to_string();
        log.write(Level::Info, "starting", &[("started_by", &started_by)]);
        let code = match steps(service, &context, self.ready) {
            Ok(()) => {
                log.info("ended");
                0
            }
            Err(failure) => {
                log.write(
                    Level::Error,
                    &format!("failed: {failure}"),
                    &[("code", &failure.code().to_string())],
                );
                failure.code()
            }
        };
        context.ended(code);
        code
    }
}

/// Runs `service` under this name, with everything as it is by default: see [`Program`].
pub fn run<S: Service + Send + 'static>(name: &str, service: S) -> ExitCode {
    Program::new(name).run(service)
}

fn listen(context: &Context, can_pause: bool, entry: Option<ScmEntry>) -> io::Result<()> {
    let asked = {
        let context = context.clone();
        move |request| context.request(request)
    };
    match entry {
        Some(entry) => entry.accept(asked).map(|handle| context.attach(handle)),
        None => mainstay_os::on_service_request(can_pause, asked),
    }
}

/// Start, run, stop: the first failure counts, later ones are logged.
fn steps<S: Service>(mut service: S, context: &Context, ready: Ready) -> Result<(), Failure> {
    guarded("start", || service.start(context))?;
    if ready == Ready::AfterStart && !context.is_stopping() {
        // A stop that comes between the two makes this impossible, and is seen below.
        let _ = context.ready();
    }
    let ran = if context.is_stopping() { Ok(()) } else { guarded("run", || service.run(context)) };
    context.begin_end();
    let stopped = guarded("stop", || service.stop(context));
    match (ran, stopped) {
        (Err(failure), Err(later)) => {
            context.log().error(&format!("the stop failed as well: {later}"));
            Err(failure)
        }
        (Ok(()), stopped) => stopped,
        (Err(failure), Ok(())) => Err(failure),
    }
}

/// A panic within becomes a failure.
fn guarded(what: &str, step: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    // The service is dropped after a panic, or asked once more to stop; it may be in between, which is its own to know.
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|payload| {
        let words = panic_words(&*payload);
        Err(Failure::new(format!("{what} panicked: {words}")).with_code(PANICKED))
    })
}

fn panic_words(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no words")
}

/// Every panic, of whichever thread, comes into the log with its place; with its backtrace where `RUST_BACKTRACE` asks for it.
fn log_panics(log: &Log) {
    let log = log.clone();
    std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        let place = info.location().map_or_else(String::new, ToString::to_string);
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        let backtrace = Backtrace::capture();
        let is_captured = backtrace.status() == BacktraceStatus::Captured;
        let backtrace = if is_captured { backtrace.to_string() } else { String::new() };
        let mut fields = vec![("at", place.as_str()), ("thread", thread.as_str())];
        if !backtrace.is_empty() {
            fields.push(("backtrace", backtrace.as_str()));
        }
        log.write(Level::Fatal, &format!("panicked: {}", panic_words(info.payload())), &fields);
    }));
}
