//! What of the stack's timeline goes into the log the operating system keeps for services, and under which number.
//!
//! The numbers are stable: filters and alerts are built on them. They and their texts are in `docs/windows.md`.
//!
//! ```text
//! publisher ──► observer ──► entry_of (pure) ──► a queue of at most QUEUED ──► thread `system-log` ──► SystemLog
//! ```
//!
//! Where the system has no such log, nothing of this exists.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use mainstay_api::{Event, EventKind};
use mainstay_os::{Gravity, SystemLog};
use mainstay_types::{StackName, State};

use crate::publish::Observer;

/// Entries that may wait for the system's log. It takes about a thousand a second; a stack that says more at once than
/// this loses entries there, and the next one says how many.
const QUEUED: usize = 256;

/// The name under which entries stand in the system's log.
const SOURCE: &str = "mainstay";

/// One entry.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Entry {
    id: u16,
    gravity: Gravity,
    text: String,
}

/// Which entry an event becomes; `None` for what is of interest inside the stack only.
fn entry_of(stack: &StackName, event: &Event) -> Option<Entry> {
    use Gravity::{Error, Information, Warning};
    let (id, gravity) = match event.event {
        EventKind::State => match event.to.as_deref()?.parse().ok()? {
            State::Ready => (101, Information),
            State::Completed => (102, Information),
            State::Stopped => (103, Information),
            State::Unready => (201, Warning),
            State::Failed => (301, Error),
            State::Waiting | State::Starting | State::Backoff | State::Stopping => return None,
        },
        EventKind::Exited if event.requested == Some(false) => (202, Warning),
        EventKind::Command => (110, Information),
        EventKind::Settings => (111, Information),
        EventKind::Release => (112, Information),
        EventKind::Log => (210, Warning),
        EventKind::Finding => (211, Warning),
        EventKind::Incident => (310, Error),
        EventKind::Exited | EventKind::Spawned | EventKind::Probe | EventKind::Gate => return None,
    };
    let mut text = format!("stack {stack}");
    if let Some(service) = &event.service {
        text.push_str(&format!(", service {service}"));
    }
    if let Some(replica) = event.replica.filter(|replica| *replica > 0) {
        text.push_str(&format!(".{replica}"));
    }
    if let Some(state) = &event.to {
        text.push_str(&format!(": {state}"));
    }
    if let Some(reason) = &event.reason {
        text.push_str(&format!(": {reason}"));
    }
    for line in event.lines.iter().flatten() {
        text.push_str(&format!("\r\n| {line}"));
    }
    Some(Entry { id, gravity, text })
}

/// Where entries go.
trait Sink: Send {
    fn report(&self, entry: &Entry) -> std::io::Result<()>;
}

impl Sink for SystemLog {
    fn report(&self, entry: &Entry) -> std::io::Result<()> {
        Self::report(self, entry.id, entry.gravity, &entry.text)
    }
}

/// The observer that also writes into the system's log; the given one where there is none. Why the log that should be
/// there cannot be written is told, and the host goes on without it.
pub(crate) fn beside(observer: Option<Observer>, stack: &StackName) -> (Option<Observer>, Option<String>) {
    match SystemLog::open(SOURCE) {
        Ok(None) => (observer, None),
        Ok(Some(log)) => match start(observer.clone(), stack.clone(), log) {
            Ok(with_log) => (Some(with_log), None),
            Err(error) => (observer, Some(format!("cannot start the thread of the system's log: {error}"))),
        },
        Err(error) => (observer, Some(format!("cannot write the system's log: {error}"))),
    }
}

fn start(
    observer: Option<Observer>,
    stack: StackName,
    sink: impl Sink + 'static,
) -> std::io::Result<Observer> {
    let (queue, entries) = sync_channel(QUEUED);
    let lost = Arc::new(AtomicU64::new(0));
    let of_thread = Arc::clone(&lost);
    std::thread::Builder::new()
        .name("system-log".to_owned())
        .spawn(move || write_all(&sink, &entries, &of_thread))?;
    Ok(Arc::new(move |event: &Event| {
        if let Some(entry) = entry_of(&stack, event) {
            offer(&queue, entry, &lost);
        }
        if let Some(observer) = &observer {
            observer(event);
        }
    }))
}

/// Never waits: what the queue cannot take is counted.
fn offer(queue: &SyncSender<Entry>, entry: Entry, lost: &AtomicU64) {
    if queue.try_send(entry).is_err() {
        lost.fetch_add(1, Ordering::Relaxed);
    }
}

/// Writes until nobody can queue any more.
fn write_all(sink: &impl Sink, entries: &Receiver<Entry>, lost: &AtomicU64) {
    while let Ok(mut entry) = entries.recv() {
        let missing = lost.swap(0, Ordering::Relaxed);
        if missing > 0 {
            entry.text.push_str(&format!("\r\n({missing} entries before this one are lost from this log)"));
        }
        if sink.report(&entry).is_err() {
            lost.fetch_add(missing + 1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use mainstay_types::Timestamp;

    use super::*;

    fn stack() -> StackName {
        StackName::parse("shop").unwrap()
    }

    fn event(kind: EventKind, fill: impl FnOnce(&mut Event)) -> Event {
        let mut event = Event::new(kind, Timestamp::UNIX_EPOCH);
        fill(&mut event);
        event
    }

    #[test]
    fn a_failure_is_an_error_with_its_reason_and_last_lines() {
        let failed = event(EventKind::State, |event| {
            event.service = Some("web".into());
            event.replica = Some(1);
            event.to = Some("failed".into());
            event.reason = Some("gave up after 5 failures".into());
            event.lines = Some(vec!["cannot bind".into()]);
        });
        let entry = entry_of(&stack(), &failed).unwrap();
        let text = "stack shop, service web.1: failed: gave up after 5 failures\r\n| cannot bind";
        assert_eq!(entry, Entry { id: 301, gravity: Gravity::Error, text: text.into() });
    }

    #[test]
    fn every_state_has_its_number_or_none() {
        let of = |state: State| {
            let event = event(EventKind::State, |event| event.to = Some(state.to_string()));
            entry_of(&stack(), &event).map(|entry| entry.id)
        };
        let numbers = [
            (State::Waiting, None),
            (State::Starting, None),
            (State::Ready, Some(101)),
            (State::Unready, Some(201)),
            (State::Backoff, None),
            (State::Stopping, None),
            (State::Stopped, Some(103)),
            (State::Completed, Some(102)),
            (State::Failed, Some(301)),
        ];
        for (state, number) in numbers {
            assert_eq!(of(state), number, "{state}");
        }
    }

    #[test]
    fn an_exit_nobody_asked_for_is_told_and_one_asked_for_is_not() {
        let exit = |requested| event(EventKind::Exited, |event| event.requested = Some(requested));
        assert_eq!(entry_of(&stack(), &exit(false)).unwrap().id, 202);
        assert_eq!(entry_of(&stack(), &exit(true)), None);
    }

    #[derive(Default)]
    struct Kept(Mutex<Vec<Entry>>, bool);

    impl Sink for Arc<Kept> {
        fn report(&self, entry: &Entry) -> std::io::Result<()> {
            if self.1 {
                return Err(std::io::Error::other("no"));
            }
            self.0.lock().unwrap().push(entry.clone());
            Ok(())
        }
    }

    #[test]
    fn what_a_full_queue_cannot_take_is_counted_and_told_with_the_next_entry() {
        let (queue, entries) = sync_channel(2);
        let lost = AtomicU64::new(0);
        let entry = |id| Entry { id, gravity: Gravity::Warning, text: id.to_string() };
        for id in 1..=5 {
            offer(&queue, entry(id), &lost);
        }
        drop(queue);
        let kept = Arc::new(Kept::default());
        write_all(&kept, &entries, &lost);
        let texts: Vec<String> = kept.0.lock().unwrap().iter().map(|entry| entry.text.clone()).collect();
        assert_eq!(texts, ["1\r\n(3 entries before this one are lost from this log)", "2"]);
    }

    #[test]
    fn what_the_log_refuses_is_counted() {
        let (queue, entries) = sync_channel(8);
        let lost = AtomicU64::new(0);
        for id in 1..=3 {
            offer(&queue, Entry { id, gravity: Gravity::Warning, text: String::new() }, &lost);
        }
        drop(queue);
        write_all(&Arc::new(Kept(Mutex::default(), true)), &entries, &lost);
        assert_eq!(lost.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn the_observer_is_still_told_of_everything() {
        let seen = Arc::new(Mutex::new(0));
        let count = Arc::clone(&seen);
        let observer: Observer = Arc::new(move |_: &Event| *count.lock().unwrap() += 1);
        let kept = Arc::new(Kept::default());
        let with_log = start(Some(observer), stack(), Arc::clone(&kept)).unwrap();
        with_log(&event(EventKind::Spawned, |_| {}));
        with_log(&event(EventKind::Incident, |_| {}));
        drop(with_log);
        assert_eq!(*seen.lock().unwrap(), 2);
        // The thread ends after the queue: all it was given is written by then.
        while Arc::strong_count(&kept) > 1 {
            std::thread::yield_now();
        }
        assert_eq!(kept.0.lock().unwrap().len(), 1);
    }
}
