//! `mainstay run`: the host in the foreground.

use std::sync::Arc;
use std::time::Duration;

use mainstay_api::{CommandOptions, ControlPlane, ReloadOptions};
use mainstay_config::Stack;
use mainstay_host::{Host, HostHandle, HostOptions, HostOutcome, Loader, Observer, Paths, ReadyWhen};
use mainstay_logs::Tap;
use mainstay_types::{ExitCode, ServiceName, format_duration};

use crate::cli::{Global, Ready};
use crate::commands::control::DEFAULT_TIMEOUT;
use crate::context::{env, load_stack};
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

/// Runs the stack of the file, or part of it, until it ends or is told to.
pub(crate) fn run(
    global: &Global,
    services: &[String],
    demo: bool,
    started_by: StartedBy,
) -> Result<(), Failure> {
    let demo = if demo { Some(demo::prepare().map_err(Failure::from)?) } else { None };
    let stack = match &demo {
        Some(demo) => Arc::clone(&demo.stack),
        None => load_stack(global)?,
    };
    let only = services.iter().map(|name| declared(&stack, name)).collect::<Result<Vec<_>, _>>()?;
    let paths = match &demo {
        Some(demo) => demo.paths.clone(),
        None => Paths::of(&stack.name, &env),
    };
    let detail = match (global.json, global.quiet, global.verbose) {
        (true, _, _) => Detail::Json,
        (_, true, _) => Detail::Quiet,
        (_, _, true) => Detail::Verbose,
        (false, false, false) => Detail::Normal,
    };
    mainstay_os::keep_memory_small();
    // Only one thread until the host has set up how it hears of processes.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .thread_stack_size(512 * 1024)
        .build()
        .map_err(|error| Failure::new(ExitCode::Failed, format!("cannot start the runtime: {error}")))?;
    let outcome = runtime.block_on(supervise(&stack, paths, only, detail, demo.is_some(), started_by));
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
    let lines: Vec<String> =
        outcome.failed.iter().map(|(service, reason)| format!("{service} failed: {reason}")).collect();
    Err(Failure::new(ExitCode::Failed, lines.join(&format!("\n{} ", paint(BAD, "error:")))))
}
