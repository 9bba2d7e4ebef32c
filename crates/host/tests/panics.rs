//! What becomes of panics: hosts in this process, with panics thrown into them through what a host is given from outside
//! (an observer, a tap) and through the thread that runs it.
//!
//! Each scenario has a process of its own, for a panic hook and the launcher belong to a process; so this is a program
//! without the usual harness. `cargo test -p mainstay-host --test panics -- NAME` runs one.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mainstay_api::{Event, EventKind};
use mainstay_host::{EventFilter, Host, HostOptions, Observer, Paths, ReadyWhen, read_events};
use mainstay_logs::{Lines, Stream, Tap};
use mainstay_os::UseCgroups;
use mainstay_types::{ReplicaId, Timestamp};

/// For what must happen.
const AMPLE: Duration = Duration::from_secs(60);

/// Its name, and what it does in the folder it is given.
type Scenario = (&'static str, fn(&Path));

const SCENARIOS: [Scenario; 4] = [
    ("an_observer_that_panics_costs_nothing_but_its_call", observer),
    ("a_panic_while_output_is_captured_leaves_the_host_running", tap),
    ("a_panic_of_the_loop_ends_the_host_and_the_next_one_tells", main_loop),
    ("a_panic_of_a_task_leaves_a_report_with_a_backtrace", report),
];

fn main() -> ExitCode {
    mainstay_os::run_launcher_if_asked();
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [scenario, dir] = args.as_slice()
        && let Some(name) = scenario.strip_prefix("scenario=")
    {
        let (_, run) = SCENARIOS.iter().find(|(known, _)| *known == name).expect("a known scenario");
        run(Path::new(dir));
        return ExitCode::SUCCESS;
    }
    let wanted = |name: &str| {
        let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
        filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()))
    };
    let mut failed = 0;
    for (name, _) in SCENARIOS.iter().filter(|(name, _)| wanted(name)) {
        let dir = tempfile::tempdir().expect("a folder");
        let output = Command::new(std::env::current_exe().expect("this program"))
            .args([format!("scenario={name}").as_ref(), dir.path().as_os_str()])
            .output()
            .expect("this program again");
        let good = output.status.success();
        println!("test {name} ... {}", if good { "ok" } else { "FAILED" });
        if !good {
            failed += 1;
            println!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn paths(dir: &Path) -> Paths {
    Paths { state_dir: dir.join("state"), socket_path: dir.join("socket") }
}

/// A host of one service that writes and runs on, reports of panics switched on.
fn host(dir: &Path, observer: Option<Observer>, tap: Option<Arc<dyn Tap>>) -> Host {
    let file = dir.join("mainstay.toml");
    let text =
        "stack = \"shop\"\n[service.web]\ncommand = [\"sh\", \"-c\", \"echo hello; exec sleep 1000\"]\n";
    std::fs::write(&file, text).unwrap();
    let stack = mainstay_host::load(&file, &|name| std::env::var(name).ok()).unwrap();
    std::fs::create_dir_all(paths(dir).state_dir).unwrap();
    mainstay_host::report_panics(&paths(dir));
    let options = HostOptions {
        stack: Arc::new(stack),
        paths: paths(dir),
        launcher_exe: std::env::current_exe().unwrap(),
        cgroups: UseCgroups::Never,
        only: Vec::new(),
        end_when_settled: false,
        unit: None,
        ready_when: ReadyWhen::Host,
        observer,
        tap,
        loader: None,
        seed: 1,
        log: None,
    };
    Host::open(options).unwrap()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

fn events(dir: &Path) -> Vec<Event> {
    read_events(&paths(dir).events_path(), &EventFilter::default()).unwrap_or_default()
}

async fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < AMPLE, "not within {AMPLE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn incidents(dir: &Path) -> Vec<String> {
    events(dir)
        .into_iter()
        .filter(|event| event.event == EventKind::Incident)
        .filter_map(|event| event.reason)
        .collect()
}

fn became(dir: &Path, state: &str) -> bool {
    events(dir)
        .iter()
        .any(|event| event.service.as_deref() == Some("web") && event.to.as_deref() == Some(state))
}

fn observer(dir: &Path) {
    block_on(async {
        let observer: Observer =
            Arc::new(|event: &Event| assert!(event.event != EventKind::Spawned, "seen a start"));
        let host = host(dir, Some(observer), None);
        let handle = host.handle();
        let running = tokio::task::spawn_local(host.run());
        wait_for("an incident", || !incidents(dir).is_empty()).await;
        wait_for("it runs on", || became(dir, "ready")).await;
        handle.stop();
        let outcome = running.await.unwrap();
        assert!(outcome.stopped && outcome.broken.is_none(), "{outcome:?}");
        assert!(became(dir, "stopped"), "events go on after the panic");
        assert!(incidents(dir)[0].contains("seen a start"), "{:?}", incidents(dir));
        assert!(
            events(dir).iter().any(|event| event.event == EventKind::Spawned),
            "the event itself is recorded"
        );
    });
}

struct Panicking(AtomicUsize);

impl Tap for Panicking {
    fn lines(&self, _: &ReplicaId, _: Stream, _: Timestamp, _: Lines<'_>) {
        assert!(self.0.fetch_add(1, Ordering::SeqCst) > 0, "cannot bear to look");
    }
}

fn tap(dir: &Path) {
    block_on(async {
        let host = host(dir, None, Some(Arc::new(Panicking(AtomicUsize::new(0)))));
        let handle = host.handle();
        let running = tokio::task::spawn_local(host.run());
        wait_for("an incident", || !incidents(dir).is_empty()).await;
        handle.stop();
        let outcome = running.await.unwrap();
        assert!(outcome.stopped, "{outcome:?}");
        let told = incidents(dir);
        assert!(
            told[0].contains("in its thread logs: cannot bear to look (crates/host/tests/panics.rs:"),
            "{told:?}"
        );
    });
}

fn main_loop(dir: &Path) {
    let words = mainstay_host::guard(|| {
        block_on(async {
            let host = host(dir, None, None);
            tokio::select! {
                outcome = host.run() => panic!("it ended by itself: {outcome:?}"),
                () = wait_for("it runs", || became(dir, "ready")) => panic!("the loop is lost"),
            }
        })
    });
    assert_eq!(words, Err("the loop is lost".to_owned()));
    assert_eq!(incidents(dir), [""; 0], "nobody was left to record it");
    let pid = events(dir).into_iter().find_map(|event| event.pid).unwrap();
    block_on(async {
        wait_for("its services end with it", || !mainstay_os::pid_exists(pid)).await;
        let host = host(dir, None, None);
        let handle = host.handle();
        let running = tokio::task::spawn_local(host.run());
        wait_for("an incident", || !incidents(dir).is_empty()).await;
        handle.stop();
        running.await.unwrap();
        let told = incidents(dir);
        assert!(
            told[0].starts_with("an earlier host ended badly: the host panicked in its thread main"),
            "{told:?}"
        );
        assert!(told[0].contains("the loop is lost"), "{told:?}");
        let kept = told[0].rsplit(' ').next().unwrap();
        assert!(std::fs::read_to_string(kept).unwrap().contains("please report it"), "{kept}");
    });
}

fn report(dir: &Path) {
    block_on(async {
        let first = host(dir, None, None);
        let handle = first.handle();
        let running = tokio::task::spawn_local(first.run());
        let worker = std::thread::Builder::new().name("worker".to_owned());
        let panicked = worker.spawn(|| std::panic::panic_any(7)).unwrap();
        wait_for("an incident", || !incidents(dir).is_empty()).await;
        handle.stop();
        running.await.unwrap();
        assert!(panicked.join().is_err());
        let told = incidents(dir);
        assert!(
            told[0].contains("in its thread worker: without a message (crates/host/tests/panics.rs:"),
            "{told:?}"
        );
        let path = told[0].rsplit(' ').next().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains("panics::report"), "names are in the backtrace: {text}");

        // The next host puts the report aside, and does not tell of it a second time.
        let second = host(dir, None, None);
        let handle = second.handle();
        let running = tokio::task::spawn_local(second.run());
        wait_for("it runs", || {
            events(dir).iter().filter(|event| event.event == EventKind::Spawned).count() > 1
        })
        .await;
        handle.stop();
        running.await.unwrap();
        assert_eq!(incidents(dir).len(), 1, "{:?}", incidents(dir));
        assert!(!Path::new(path).exists());
        assert_eq!(std::fs::read_dir(dir.join("state/panics")).unwrap().count(), 1);
    });
}
