//! The targets that output is sent to: begun with the host, changed with the file, ended last. What a target does is in
//! `mainstay-forward`; here is only which ones there are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mainstay_api::{Event, EventKind, ForwardStatus};
use mainstay_config::{Forward, Stack};
use mainstay_forward::{Counts, FLUSH_LIMIT, Forwarder, ForwarderOptions, Notice, state_path};
use mainstay_types::{ServiceName, StackName, Timestamp};

use crate::paths::Paths;
use crate::publish::Publisher;

/// A forwarder ends within its own limit, or hangs in the system, and is left behind then.
const END_LIMIT: Duration = FLUSH_LIMIT.saturating_add(Duration::from_millis(500));

/// The forwarders of one host. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Forwards(Arc<Inner>);

struct Inner {
    publisher: Publisher,
    logs_dir: PathBuf,
    state_dir: PathBuf,
    /// Of the random parts of their waits.
    seed: AtomicU64,
    running: Mutex<BTreeMap<ServiceName, Forwarder>>,
    /// The newest stack; whoever changes what runs goes by it.
    wanted: Mutex<Arc<Stack>>,
    /// Held by who changes what runs.
    changing: Mutex<()>,
}

impl Forwards {
    /// Begins the stack's targets, in front of everything that writes.
    pub(crate) fn start(stack: &Arc<Stack>, paths: &Paths, publisher: Publisher, seed: u64) -> Self {
        let forwards = Self(Arc::new(Inner {
            publisher,
            logs_dir: paths.logs_dir(),
            state_dir: paths.forward_dir(),
            seed: AtomicU64::new(seed),
            running: Mutex::default(),
            wanted: Mutex::new(Arc::clone(stack)),
            changing: Mutex::default(),
        }));
        forwards.0.forget_others(stack);
        forwards.0.begin_missing(stack);
        forwards
    }

    /// A changed file counts. What changed is ended first, which takes a while, and happens on a thread of its own.
    pub(crate) fn apply(&self, stack: &Arc<Stack>) {
        *lock(&self.0.wanted) = Arc::clone(stack);
        let inner = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || inner.change());
    }

    /// Each target with what it has counted, in the order of their names.
    pub(crate) fn counts(&self) -> Vec<(Forward, Counts)> {
        let running = lock(&self.0.running);
        running.values().map(|forwarder| (forwarder.target().clone(), forwarder.counts())).collect()
    }

    /// Has all end, each with a last attempt. Everything that writes has ended before.
    pub(crate) async fn end(self) {
        let running = std::mem::take(&mut *lock(&self.0.running));
        if running.is_empty() {
            return;
        }
        let ended = tokio::task::spawn_blocking(move || {
            // What does not end is left behind with the process.
            let _ = end(running.values());
        });
        // A panic there is reported by the hook.
        let _ = ended.await;
    }
}

impl Inner {
    fn change(&self) {
        let _changing = lock(&self.changing);
        let stack = Arc::clone(&lock(&self.wanted));
        let mut running = lock(&self.running);
        let gone: Vec<ServiceName> = running
            .iter()
            .filter(|(name, forwarder)| find(&stack, name) != Some(forwarder.target()))
            .map(|(name, _)| name.clone())
            .collect();
        let gone: Vec<Forwarder> = gone.iter().filter_map(|name| running.remove(name)).collect();
        drop(running);
        let mut held = BTreeSet::new();
        for forwarder in end(gone.iter()) {
            let name = &forwarder.target().name;
            self.publisher.notice(None, format!("target {name}: it does not end; it is left behind"));
            held.insert(name.clone());
        }
        self.forget_others(&stack);
        if held.is_empty() {
            self.begin_missing(&stack);
        } else {
            let forwards = stack.forwards.iter().filter(|target| !held.contains(&target.name)).cloned();
            self.begin_missing(&Stack { forwards: forwards.collect(), ..Stack::clone(&stack) });
        }
    }

    fn begin_missing(&self, stack: &Stack) {
        for target in &stack.forwards {
            if lock(&self.running).contains_key(&target.name) {
                continue;
            }
            let publisher = self.publisher.clone();
            let name = target.name.clone();
            let options = ForwarderOptions {
                stack: stack.name.clone(),
                host: mainstay_os::host_name(),
                target: target.clone(),
                logs_dir: self.logs_dir.clone(),
                state_dir: self.state_dir.clone(),
                seed: self.seed.fetch_add(1, Ordering::Relaxed),
                notices: Arc::new(move |notice| tell(&publisher, &name, &notice)),
            };
            match Forwarder::start(options) {
                Ok(forwarder) => _ = lock(&self.running).insert(target.name.clone(), forwarder),
                Err(error) => {
                    let words = format!("target {}: it cannot be begun: {error}", target.name);
                    self.publisher.notice(None, words);
                }
            }
        }
    }

    /// Removes the places of targets that the file does not name: one that is named again later begins anew.
    fn forget_others(&self, stack: &Stack) {
        let Ok(entries) = std::fs::read_dir(&self.state_dir) else { return };
        let kept: BTreeSet<PathBuf> =
            stack.forwards.iter().map(|target| state_path(&self.state_dir, &target.name)).collect();
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| !kept.contains(path)) {
            // What stays does no harm.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn find<'s>(stack: &'s Stack, name: &ServiceName) -> Option<&'s Forward> {
    stack.forwards.iter().find(|target| target.name == *name)
}

/// Ends them side by side; gives back those that do not end.
fn end<'f>(forwarders: impl Iterator<Item = &'f Forwarder>) -> Vec<&'f Forwarder> {
    let all: Vec<&Forwarder> = forwarders.collect();
    for forwarder in &all {
        forwarder.stop();
    }
    let until = Instant::now() + END_LIMIT;
    all.into_iter()
        .filter(|forwarder| !forwarder.wait(until.saturating_duration_since(Instant::now())))
        .collect()
}

fn tell(publisher: &Publisher, target: &ServiceName, notice: &Notice) {
    let service = match notice {
        Notice::Missing { service, .. } => Some(service.to_string()),
        Notice::Failing { .. }
        | Notice::Recovered { .. }
        | Notice::Refused { .. }
        | Notice::Trouble { .. } => None,
    };
    publisher.event(Event {
        service,
        reason: Some(format!("target {target}: {notice}")),
        ..Event::new(EventKind::Log, Timestamp::now())
    });
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds one of these; what they hold is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The targets in the API's shape.
pub(crate) fn status(counts: Vec<(Forward, Counts)>) -> Vec<ForwardStatus> {
    let status = |(target, counts): (Forward, Counts)| {
        let (to, url) = target.destination.words();
        ForwardStatus {
            name: target.name.to_string(),
            to: to.to_owned(),
            url,
            sent: counts.sent,
            lost: counts.lost,
            lost_more: counts.lost_more,
            failures: counts.failures,
            behind_bytes: counts.behind_bytes,
            failing: counts.failing,
            failing_since: counts.failing_since,
            sent_at: counts.sent_at,
        }
    };
    counts.into_iter().map(status).collect()
}

/// Adds what became of the lines for every target to a page of metrics.
pub(crate) fn metrics(page: &mut crate::metrics::Page, stack: &StackName, counts: &[(Forward, Counts)]) {
    use crate::metrics::Kind;
    for (name, kind, help, number) in [
        (
            "mainstay_forward_sent_records_total",
            Kind::Counter,
            "Lines that the target has taken; a line longer than a record counts once for each of its pieces.",
            (|counts| counts.sent) as fn(&Counts) -> u64,
        ),
        (
            "mainstay_forward_lost_records_total",
            Kind::Counter,
            "Lines that the target will never have: removed or skipped before they were sent, or refused.",
            |counts| counts.lost,
        ),
        ("mainstay_forward_failures_total", Kind::Counter, "Attempts to send that failed.", |counts| {
            counts.failures
        }),
        (
            "mainstay_forward_behind_bytes",
            Kind::Gauge,
            "Bytes of log files that the target has not taken yet.",
            |counts| counts.behind_bytes,
        ),
        (
            "mainstay_forward_failing",
            Kind::Gauge,
            "1 while the target takes nothing, 0 otherwise.",
            |counts| u64::from(counts.failing.is_some()),
        ),
    ] {
        let samples = counts.iter().map(|(target, counts)| {
            (vec![("stack", stack.to_string()), ("target", target.name.to_string())], number(counts))
        });
        page.family(name, kind, help, samples);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use mainstay_config::{Input, parse};

    use super::*;

    #[test]
    fn a_target_has_a_sample_of_each_number_and_its_status() {
        let text = "stack = \"shop\"\n[forward.central]\nto = \"loki\"\nurl = \"http://logs\"\nheaders = { a = \"hidden\" }\n\
                    [service.web]\ncommand = \"x\"\n";
        let input = Input { text, file: Path::new("/srv/shop/mainstay.toml"), env: &|_| None };
        let stack = parse(&input).unwrap();
        let counts = Counts {
            sent: 5,
            lost: 2,
            failures: 3,
            behind_bytes: 4096,
            failing: Some("it is down".to_owned()),
            ..Counts::default()
        };
        let all = vec![(stack.forwards[0].clone(), counts)];
        let mut page = crate::metrics::Page::default();
        metrics(&mut page, &stack.name, &all);
        let page = page.into_text();
        for (name, number) in [
            ("sent_records_total", 5),
            ("lost_records_total", 2),
            ("failures_total", 3),
            ("behind_bytes", 4096),
            ("failing", 1),
        ] {
            let line = format!("mainstay_forward_{name}{{stack=\"shop\",target=\"central\"}} {number}");
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
        let told = status(all);
        assert_eq!((told[0].to.as_str(), told[0].sent, told[0].lost), ("loki", 5, 2));
        assert!(!format!("{told:?}").contains("hidden"));
    }
}
