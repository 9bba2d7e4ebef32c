//! `mainstay run`: the host in the foreground.
//!
//! Failures reach standard error always; the host's own log as soon as it is known where it is.

use std::sync::Arc;
use std::time::Duration;

use mainstay_api::{CommandOptions, ControlPlane, ReloadOptions};
use mainstay_config::Stack;
use mainstay_host::{
    Host, HostHandle, HostOptions, HostOutcome, Loader, LogControl, LogFilter, Observer, OwnLog,
    OwnLogOptions, Paths, ReadyWhen, guard,
};
use mainstay_logs::Tap;
use mainstay_types::{ExitCode, ServiceName, format_duration};

use crate::cli::{Global, Ready};
use crate::commands::control::DEFAULT_TIMEOUT;
use crate::context::{env, file_path, load_stack};
use crate::failure::Failure;
use crate::printer::{Detail, Printer};
use crate::terminal::{BAD, BOLD, DIM, WARN, paint};
use crate::{demo, signals};

/// Pause between two lines that say what a stop waits for, once it has lasted a while.
const PROGRESS_PAUSE: Duration = Duration::from_secs(1);
/// Services named in one line of progress.
const MAX_BLOCKERS_SHOWN: usize = 4;
/// Turns off the use of control groups, for tests and for systems where they misbehave.
const NO_CGROUPS_VARIABLE: &str = "MAINSTAY_NO_CGROUPS";

/// What whoever starts the host says about itself.
#[derive(Debug)]
pub(crate) struct StartedBy {
    pub(crate) ready: Ready,
    /// The unit's name.
    pub(crate) unit: Option<String>,
}
/// What the host's own log tells when the environment says so; then it is shown on standard error, too.
const LOG_VARIABLE: &str = "MAINSTAY_LOG";
/// Set by systemd when standard error goes to the journal (systemd.exec(5)).
const JOURNAL_VARIABLE: &str = "JOURNAL_STREAM";
/// What is told without, with one and with more `-v`.
const LEVELS: [&str; 3] =
    ["info", "info,mainstay=debug,mainstay_host=debug", "info,mainstay=trace,mainstay_host=trace"];
/// Time for the last words of the host's own log.
const LOG_END_LIMIT: Duration = Duration::from_secs(2);

/// Runs the stack of the file, or part of it, until it ends or is told to.
pub(crate) fn run(
    global: &Global,
    services: &[String],
    demo: bool,
    started_by: StartedBy,
) -> Result<(), Failure> {
    let demo = if demo { Some(demo::prepare().map_err(Failure::from)?) } else { None };
    let begun = begin(global, services, demo.as_ref()).inspect_err(|failure| {
        // The file may be wrong elsewhere and still say whose state folder takes the news.
        if let Some(name) = mainstay_host::stack_name(&file_path(global), &env) {
            log_start_failure(&Paths::of(&name, &env), failure);
        }
    })?;
    let Begun { stack, paths, only, filter } = begun;
    // Whether it can be made is told when the host takes it.
    let _ = mainstay_os::create_private_dir(&paths.state_dir);
    mainstay_host::report_panics(&paths);
    let log = OwnLog::start(OwnLogOptions {
        dir: paths.own_log_dir(),
        filter,
        stderr: global.verbose > 1 || asked_level().is_some(),
        journal_stream: env(JOURNAL_VARIABLE),
    })
    .map_err(|error| Failure::new(ExitCode::Failed, format!("cannot begin the host's own log: {error}")))?;
    let detail = match (global.json, global.quiet, global.verbose) {
        (true, _, _) => Detail::Json,
        (_, true, _) => Detail::Quiet,
        (false, false, 0) => Detail::Normal,
        (false, false, _) => Detail::Verbose,
    };
    mainstay_os::keep_memory_small();
    let control = log.control();
    let result = guard(|| run_host(&stack, paths.clone(), only, detail, demo.is_some(), started_by, control))
        .unwrap_or_else(|words| Err(panicked(&words, &paths)));
    if let Err(failure) = &result {
        tracing::error!("{}", failure.message);
    }
    log.end(LOG_END_LIMIT);
    result
}

/// What must be right before anything is begun.
struct Begun {
    stack: Arc<Stack>,
    paths: Paths,
    only: Vec<ServiceName>,
    filter: LogFilter,
}

fn begin(global: &Global, services: &[String], demo: Option<&demo::Demo>) -> Result<Begun, Failure> {
    let stack = match demo {
        Some(demo) => Arc::clone(&demo.stack),
        None => load_stack(global)?,
    };
    let only = services.iter().map(|name| declared(&stack, name)).collect::<Result<Vec<_>, _>>()?;
    let paths = match demo {
        Some(demo) => demo.paths.clone(),
        None => Paths::of(&stack.name, &env),
    };
    let filter = match asked_level() {
        Some(text) => LogFilter::parse(&text)
            .map_err(|error| Failure::new(ExitCode::Usage, format!("{LOG_VARIABLE}: {error}")))?,
        None => LogFilter::parse(LEVELS[usize::from(global.verbose).min(2)])
            .unwrap_or_else(|_| unreachable!("the levels of -v are good ones")),
    };
    Ok(Begun { stack, paths, only, filter })
}

fn asked_level() -> Option<String> {
    env(LOG_VARIABLE).filter(|text| !text.is_empty())
}

fn log_start_failure(paths: &Paths, failure: &Failure) {
    // Errors of the file come with its lines, which may hold what must not be kept.
    let kept =
        |line: &&str| !failure.headed || line.starts_with("error") || line.trim_start().starts_with("-->");
    let words: Vec<&str> = failure.message.lines().filter(kept).collect();
    mainstay_host::log_start_failure(&paths.state_dir, &paths.own_log_dir(), &words.join("\n"));
}

fn panicked(words: &str, paths: &Paths) -> Failure {
    let message = format!(
        "the host panicked and has ended, and everything it supervised with it: {words}\n  \
         next: report it with the text above, which is also in {}; start the host again",
        paths.state_dir.display()
    );
    Failure::new(ExitCode::Failed, message)
}

fn run_host(
    stack: &Arc<Stack>,
    paths: Paths,
    only: Vec<ServiceName>,
    detail: Detail,
    demo: bool,
    started_by: StartedBy,
    log: LogControl,
) -> Result<(), Failure> {
    // Only one thread until the host has set up how it hears of processes.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .thread_stack_size(512 * 1024)
        .build()
        .map_err(|error| Failure::new(ExitCode::Failed, format!("cannot start the runtime: {error}")))?;
    let outcome = runtime.block_on(supervise(stack, paths, only, detail, demo, started_by, log));
    // A blocking read of a log by a follower that has gone must not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(200));
    report(&outcome?)
}

fn declared(stack: &Stack, name: &str) -> Result<ServiceName, Failure> {
    stack.service(name).map(|service| service.name.clone()).ok_or_else(|| {
        let known: Vec<&str> = stack.services.iter().map(|service| service.name.as_str()).collect();
        let message = format!(
            "there is no service {name:?} in {}: there are {}",
            stack.file.display(),
            known.join(", ")
        );
        Failure::new(ExitCode::NotFound, message)
    })
}

async fn supervise(
    stack: &Arc<Stack>,
    paths: Paths,
    only: Vec<ServiceName>,
    detail: Detail,
    demo: bool,
    started_by: StartedBy,
    log: LogControl,
) -> Result<HostOutcome, Failure> {
    let cannot =
        |error: std::io::Error| Failure::new(ExitCode::Failed, format!("cannot start a thread: {error}"));
    let launcher_exe = std::env::current_exe().map_err(|error| {
        Failure::new(ExitCode::Failed, format!("cannot find the mainstay program itself: {error}"))
    })?;
    // Before the host takes the stack: a signal that comes meanwhile is a request like any other.
    let deaf = |error| Failure::new(ExitCode::Failed, format!("cannot listen for signals: {error}"));
    let stop_requests = signals::stop_requests().map_err(deaf)?;
    let reload_requests = signals::reload_requests().map_err(deaf)?;
    let (printer, printing) = Printer::start(stack, detail).map_err(cannot)?;
    if detail != Detail::Json && detail != Detail::Quiet {
        printer.note(greeting(stack, &paths, demo));
    }
    let for_events = printer.clone();
    let observer: Observer = Arc::new(move |event| for_events.event(event));
    let options = HostOptions {
        stack: Arc::clone(stack),
        paths,
        launcher_exe,
        cgroups: if env(NO_CGROUPS_VARIABLE).is_some_and(|value| !value.is_empty()) {
            mainstay_os::UseCgroups::Never
        } else {
            mainstay_os::UseCgroups::IfPossible
        },
        only,
        end_when_settled: true,
        unit: started_by.unit,
        ready_when: match started_by.ready {
            Ready::Services => ReadyWhen::Services,
            Ready::Host => ReadyWhen::Host,
        },
        observer: Some(observer),
        tap: Some(Arc::new(printer.clone()) as Arc<dyn Tap>),
        loader: (!demo).then(|| {
            let file = stack.file.clone();
            Arc::new(move || mainstay_host::load(&file, &env)) as Loader
        }),
        seed: seed(),
        log: Some(log),
    };
    let host = Host::open(options).map_err(|error| Failure::from_error(error.exit_code(), &error))?;
    let handle = host.handle();
    if matches!(detail, Detail::Normal | Detail::Verbose) {
        for (service, words) in host.limits_not_in_force() {
            printer.note(paint(WARN, &format!("{service}: {words}")));
        }
    }
    let reloading = tokio::spawn(reload_when_asked(reload_requests, handle.clone(), printer.clone(), detail));
    let stopping = tokio::spawn(stop_when_asked(stop_requests, handle, printer.clone(), detail));
    let outcome = host.run().await;
    stopping.abort();
    reloading.abort();
    if let Some(words) = farewell(&outcome).filter(|_| matches!(detail, Detail::Normal | Detail::Verbose)) {
        printer.note(paint(BOLD, words));
    }
    printer.end(&printing).await;
    Ok(outcome)
}

/// Differs from host to host, so that hosts that failed together do not come back together.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

fn greeting(stack: &Stack, paths: &Paths, demo: bool) -> String {
    let services = stack.services.len();
    let plural = if services == 1 { "service" } else { "services" };
    let head = format!("mainstay {}: stack {}, {services} {plural}", env!("CARGO_PKG_VERSION"), stack.name);
    let mut text = paint(BOLD, &head);
    text.push('\n');
    let state = paths.state_dir.display();
    text.push_str(&paint(DIM, &format!("state and logs in {state}; Ctrl-C stops everything in order")));
    if demo {
        text.push('\n');
        text.push_str(&paint(DIM, demo::WHAT_TO_WATCH));
    }
    text
}

/// The first request stops in order and says what it waits for, the second kills.
async fn stop_when_asked(
    mut requests: tokio::sync::mpsc::UnboundedReceiver<&'static str>,
    handle: HostHandle,
    printer: Printer,
    detail: Detail,
) {
    let note = |text: String| {
        if detail != Detail::Json {
            printer.note(text);
        }
    };
    let Some(name) = requests.recv().await else { return };
    note(paint(BOLD, &format!("{name}: stopping everything in order; again kills")));
    handle.stop();
    let begun = tokio::time::Instant::now();
    loop {
        tokio::select! {
            again = requests.recv() => {
                let Some(name) = again else { return };
                note(paint(BAD, &format!("{name} again: killing everything now")));
                handle.kill();
                return;
            }
            () = tokio::time::sleep(PROGRESS_PAUSE) => {
                for line in waiting_lines(&handle).await {
                    note(paint(WARN, &line));
                }
                if begun.elapsed() > Duration::from_secs(3600) {
                    // The budget of a stop is far below; only a host that hangs comes here.
                    return;
                }
            }
        }
    }
}

/// Each request applies the file as it is then; how that went is told where the host writes.
async fn reload_when_asked(
    mut requests: tokio::sync::mpsc::UnboundedReceiver<()>,
    handle: HostHandle,
    printer: Printer,
    detail: Detail,
) {
    while requests.recv().await.is_some() {
        let command = CommandOptions { wait: true, timeout: Some(DEFAULT_TIMEOUT) };
        let (style, words) = match handle.reload(ReloadOptions { dry_run: false, command }).await {
            Ok(reply) if reply.done => (BOLD, format!("SIGHUP: {}", reply.message)),
            Ok(reply) => (WARN, format!("SIGHUP: {}", reply.message)),
            Err(problem) => (BAD, format!("SIGHUP: the file is not applied: {problem}")),
        };
        if detail != Detail::Json {
            printer.note(paint(style, &words));
        }
    }
}

async fn waiting_lines(handle: &HostHandle) -> Vec<String> {
    let blockers = handle.stop_progress().await;
    let more = blockers.len().saturating_sub(MAX_BLOCKERS_SHOWN);
    let mut lines: Vec<String> = blockers
        .iter()
        .take(MAX_BLOCKERS_SHOWN)
        .map(|blocker| {
            let pid = blocker.pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
            let (waited, allowed) = (blocker.waited.as_secs(), seconds(blocker.allowed));
            let tried = match (blocker.killed, blocker.tried.as_slice()) {
                (true, _) => ", killed, to be gone".to_owned(),
                (false, []) => String::new(),
                (false, tried) => format!("; tried {}, next {}", tried.join(", "), blocker.next),
            };
            format!("waiting {waited} of {allowed} for {}{pid}{tried}", blocker.replica)
        })
        .collect();
    if more > 0 {
        lines.push(format!("and for {more} more"));
    }
    lines
}

/// `15 s`; below a second and above ten minutes as everywhere else.
fn seconds(duration: Duration) -> String {
    if (1..=600).contains(&duration.as_secs()) {
        format!("{} s", duration.as_secs())
    } else {
        format_duration(duration)
    }
}

/// The last line, when all went well.
fn farewell(outcome: &HostOutcome) -> Option<&'static str> {
    if outcome.broken.is_some() {
        return None;
    }
    match (outcome.stopped, outcome.failed.is_empty()) {
        (true, _) => Some("everything has stopped"),
        (false, true) => Some("everything has completed"),
        (false, false) => None,
    }
}

fn report(outcome: &HostOutcome) -> Result<(), Failure> {
    if farewell(outcome).is_some() {
        return Ok(());
    }
    if let Some(reason) = &outcome.broken {
        let message = format!(
            "the host could not go on and has stopped everything: {reason}\n  \
             next: `mainstay events` has the incident; start the host again"
        );
        return Err(Failure::new(ExitCode::Failed, message));
    }
    let lines: Vec<String> =
        outcome.failed.iter().map(|(service, reason)| format!("{service} failed: {reason}")).collect();
    Err(Failure::new(ExitCode::Failed, lines.join(&format!("\n{} ", paint(BAD, "error:")))))
}
