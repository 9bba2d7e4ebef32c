//! Panics of the host: none goes unnoticed, and each leaves an incident in the event record.
//!
//! A hook writes message, place and backtrace to a file in the state folder (at once, since the process may be about to
//! end), to standard error and to the host's own log, and hands the report to the running host, which records an
//! incident. Where the process ends with it, or the host cannot record any more, the next host of the stack finds the
//! file and records the incident. Then the file is put aside, into a folder that keeps the newest [`MAX_KEPT`].
//!
//! What a panic ends: the table in `docs/logs.md`, "Panics". The rule: whoever waits for an answer gets one, what can go
//! on goes on, and a host that cannot do its work any more ends, so that its service manager starts another.

use std::backtrace::Backtrace;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, PanicHookInfo};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use mainstay_logs::Capture;
use mainstay_types::Timestamp;
use tokio::sync::mpsc;

use crate::event_store::{EventFilter, read_events};
use crate::message::Message;
use crate::paths::Paths;
use crate::publish::Publisher;

/// Reports written by one process, at most: a panic that comes again and again says nothing new.
const MAX_OF_PROCESS: usize = 16;
/// Reports that wait for the next host, at most.
const MAX_WAITING: usize = 32;
/// Reports kept once their incident is recorded.
const MAX_KEPT: usize = 16;
/// Bytes read of a report: its head is what the incident tells.
const MAX_HEAD_BYTES: usize = 8 * 1024;
/// Newest events in which an incident of a report is looked for before it is recorded a second time.
const LOOKED_AT: u32 = 5000;

/// The thread that captures output.
const CAPTURE_THREAD: &str = "logs";
/// Looks at a thread that panicked, and the pause between two, before it is taken to have survived.
const DEATH_LOOKS: u32 = 20;
const DEATH_PAUSE: Duration = Duration::from_millis(50);

const PREFIX: &str = "panic-";
const SUFFIX: &str = ".txt";

/// One panic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PanicReport {
    /// In which thread.
    pub(crate) thread: String,
    /// What was said, and where in the code.
    pub(crate) words: String,
    /// The file with the backtrace; `None` when it could not be written.
    pub(crate) path: Option<PathBuf>,
}

impl PanicReport {
    /// For the event record.
    pub(crate) fn reason(&self) -> String {
        let kept = match &self.path {
            Some(path) => format!("; its backtrace is in {}", path.display()),
            None => String::new(),
        };
        format!("the host panicked in its thread {}: {}{kept}", self.thread, self.words)
    }
}

/// The running host that records what the hook reports.
static LISTENER: Mutex<Option<mpsc::UnboundedSender<PanicReport>>> = Mutex::new(None);
static REPORTED: AtomicUsize = AtomicUsize::new(0);

/// From now on every panic of this process leaves a report in the state folder. It is for the program's start: a hook
/// that was there before is replaced.
pub fn report_panics(paths: &Paths) {
    let dir = paths.state_dir.clone();
    std::panic::set_hook(Box::new(move |info| report(&dir, info)));
}

/// Runs the work of a whole program. A panic ends it, as an error in words, instead of the process.
pub fn guard<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).map_err(|payload| message_of(&*payload).to_owned())
}

/// A future whose panic is an error. What it leaves half-done must not matter to anybody.
pub(crate) async fn caught<T>(work: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|payload| message_of(&*payload).to_owned())
}

/// The reports of this process from now on; those of a host that has ended go to the next one.
pub(crate) fn listen() -> mpsc::UnboundedReceiver<PanicReport> {
    let (sender, reports) = mpsc::unbounded_channel();
    *LISTENER.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
    reports
}

/// Records an incident for each panic of this process, and ends the host when it cannot capture output any more: what
/// services write would be lost, and they would end at a closed pipe.
pub(crate) async fn record(
    mut reports: mpsc::UnboundedReceiver<PanicReport>,
    publisher: Publisher,
    capture: Capture,
    host: mpsc::UnboundedSender<Message>,
) {
    while let Some(report) = reports.recv().await {
        publisher.incident(report.reason());
        if report.thread == CAPTURE_THREAD && died(&capture).await {
            let reason = format!("output cannot be captured any more: {}", report.words);
            // The loop may have ended.
            let _ = host.send(Message::Broken(reason));
        }
    }
}

/// A panic of one program's task leaves the thread alive; one of the thread closes it a moment later.
async fn died(capture: &Capture) -> bool {
    for _ in 0..DEATH_LOOKS {
        if !capture.is_alive() {
            return true;
        }
        tokio::time::sleep(DEATH_PAUSE).await;
    }
    false
}

fn report(dir: &Path, info: &PanicHookInfo<'_>) {
    let number = REPORTED.fetch_add(1, Ordering::Relaxed);
    let thread = std::thread::current().name().unwrap_or("without a name").to_owned();
    let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let words = format!("{} ({place})", message_of(info.payload()));
    let mut stderr = io::stderr();
    if number >= MAX_OF_PROCESS {
        // Standard error may be closed; here and below.
        let _ = writeln!(stderr, "mainstay: another panic in its thread {thread}: {words}");
        return;
    }
    let backtrace = Backtrace::force_capture();
    let text = format!(
        "the host panicked in its thread {thread}: {words}\n\n\
         mainstay {}, pid {}, {}\nThis is a defect of mainstay: please report it with this text.\n\n{backtrace}\n",
        env!("CARGO_PKG_VERSION"),
        std::process::id(),
        Timestamp::now(),
    );
    let path = write(dir, number, &text).ok();
    let _ = stderr.write_all(format!("mainstay: {text}").as_bytes());
    tracing::error!(target: "mainstay_host::panics", { thread.name = thread }, "panic: {words}\n{backtrace}");
    // A panic with the lock held is one in the two lines that hold it; there is none.
    if let Ok(listener) = LISTENER.try_lock()
        && let Some(listener) = &*listener
    {
        // The host may have ended; the next one finds the file.
        let _ = listener.send(PanicReport { thread, words, path });
    }
}

fn message_of<'a>(payload: &'a (dyn std::any::Any + Send + 'static)) -> &'a str {
    let text = payload.downcast_ref::<&'static str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

/// On the disk when it returns: the process may end any moment.
fn write(dir: &Path, number: usize, text: &str) -> io::Result<PathBuf> {
    if waiting(dir).len() >= MAX_WAITING {
        return Err(io::Error::other("enough reports wait for the next host"));
    }
    let path = dir.join(format!("{PREFIX}{}-{number}{SUFFIX}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    Ok(path)
}

/// The reports that no host has put aside, oldest first.
fn waiting(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .filter_map(Result::ok)
        .filter(|entry| {
            let name = entry.file_name();
            name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX))
        })
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// Puts the reports of earlier hosts aside, and gives the incidents that nobody has recorded yet.
pub(crate) fn of_earlier_hosts(paths: &Paths) -> Vec<String> {
    let waiting = waiting(&paths.state_dir);
    if waiting.is_empty() {
        return Vec::new();
    }
    let filter = EventFilter { last: Some(LOOKED_AT), ..EventFilter::default() };
    // Without a record nothing has been recorded.
    let recorded = read_events(&paths.events_path(), &filter).unwrap_or_default();
    let aside = paths.panics_dir();
    let mut told = Vec::new();
    for path in waiting {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let known =
            recorded.iter().any(|event| event.reason.as_ref().is_some_and(|reason| reason.ends_with(name)));
        let head = head(&path);
        let kept = put_aside(&path, &aside, name);
        if !known {
            told.push(format!("an earlier host ended badly: {head}; its backtrace is in {}", kept.display()));
        }
    }
    prune(&aside);
    told
}

/// The first line of a report.
fn head(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path)
        .and_then(|file| io::Read::read_to_end(&mut io::Read::take(file, MAX_HEAD_BYTES as u64), &mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    match (read, text.lines().next().filter(|line| !line.is_empty())) {
        (Ok(_), Some(line)) => line.to_owned(),
        (Ok(_), None) => "its report is empty".to_owned(),
        (Err(error), _) => format!("its report cannot be read: {error}"),
    }
}

/// Where the report is from now on. Pids come again, so the time of putting it aside is part of its name.
fn put_aside(path: &Path, aside: &Path, name: &str) -> PathBuf {
    let stem = name.trim_end_matches(SUFFIX);
    let to = aside.join(format!("{stem}-{}{SUFFIX}", Timestamp::now().as_second()));
    let moved = mainstay_os::create_private_dir(aside).and_then(|()| std::fs::rename(path, &to));
    match moved {
        Ok(()) => to,
        Err(_) => {
            // It must not be told at each start, and its number has a bound: what cannot be kept goes.
            let _ = std::fs::remove_file(path);
            path.to_owned()
        }
    }
}

fn prune(aside: &Path) {
    let kept = waiting(aside);
    for old in &kept[..kept.len().saturating_sub(MAX_KEPT)] {
        // Tried again with the next report.
        let _ = std::fs::remove_file(old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(dir: &Path) -> Paths {
        Paths { state_dir: dir.to_owned(), socket_path: dir.join("socket") }
    }

    #[test]
    fn a_report_of_an_earlier_host_is_told_once_and_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let text = "the host panicked in its thread main: boom (src/x.rs:1:2)\n\nbacktrace\n";
        write(dir.path(), 3, text).unwrap();
        std::fs::write(dir.path().join("panic-1-0.txt"), "").unwrap();
        std::fs::write(dir.path().join("panic-notes"), "not a report").unwrap();
        let mut told = of_earlier_hosts(&paths(dir.path()));
        told.sort();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("an earlier host ended badly: its report is empty"), "{told:?}");
        assert!(told[1].contains("its thread main: boom (src/x.rs:1:2); its backtrace is in "), "{told:?}");
        assert_eq!(of_earlier_hosts(&paths(dir.path())), [""; 0]);
        assert_eq!(waiting(&dir.path().join("panics")).len(), 2);
        assert!(dir.path().join("panic-notes").exists());
    }

    #[test]
    fn reports_have_a_bound_waiting_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..MAX_WAITING {
            write(dir.path(), number, "x\n").unwrap();
        }
        assert!(write(dir.path(), 999, "x\n").is_err());
        assert_eq!(of_earlier_hosts(&paths(dir.path())).len(), MAX_WAITING);
        assert_eq!(waiting(&dir.path().join("panics")).len(), MAX_KEPT);
    }

    #[tokio::test]
    async fn the_host_ends_when_capture_has_died_and_only_then() {
        let dir = tempfile::tempdir().unwrap();
        let (store, newest, _) = crate::event_store::EventStore::open(&dir.path().join("events.db")).unwrap();
        let options =
            mainstay_logs::CaptureOptions::new(dir.path().join("logs"), std::sync::Arc::new(|_| {}));
        let capture = Capture::start(options).unwrap();
        let (publisher, _publishing) = Publisher::start(store.clone(), newest, capture.clone(), None);
        let (reports, inbox) = mpsc::unbounded_channel();
        let (host, mut told) = mpsc::unbounded_channel();
        let report =
            |words: &str| PanicReport { thread: "logs".to_owned(), words: words.to_owned(), path: None };
        tokio::spawn(record(inbox, publisher, capture.clone(), host));
        reports.send(report("in one task")).unwrap();
        while store.read(EventFilter::default()).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        // As long as the looks last: the thread goes on.
        tokio::time::sleep(DEATH_PAUSE * (DEATH_LOOKS + 2)).await;
        assert!(told.try_recv().is_err());
        capture.close().await;
        reports.send(report("all of it")).unwrap();
        match told.recv().await {
            Some(Message::Broken(reason)) => assert!(reason.ends_with("any more: all of it"), "{reason}"),
            Some(_) | None => panic!("the host is not told"),
        }
        store.close(Duration::from_secs(30));
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        assert_eq!(caught(async { 1 }).await, Ok(1));
        assert_eq!(caught::<()>(async { panic!("boom") }).await, Err("boom".to_owned()));
        assert_eq!(guard::<()>(|| panic!("boom {}", 2)), Err("boom 2".to_owned()));
    }
}
