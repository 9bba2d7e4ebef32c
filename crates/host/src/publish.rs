//! From the loop's records to everybody who wants to know: the event record, followers, the terminal.
//!
//! One task takes the records in order. An exit nobody asked for is told only after the output that came before it
//! has been written to the log, and carries its last lines: whoever reads the event finds the log complete.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use mainstay_api::{Event, EventKind, ExitInfo};
use mainstay_lifecycle::{Command, Record};
use mainstay_logs::{Capture, LogLine};
use mainstay_types::{Exit, ReplicaId, SpawnId, State, Timestamp};
use tokio::sync::{broadcast, mpsc};

use crate::event_store::EventStore;

/// Lines of output carried by a failure.
pub const LAST_LINES: usize = 10;
/// How long an exit may be held back for its output. A log that cannot be written must not silence the events.
const SETTLE_LIMIT: Duration = Duration::from_secs(1);
/// Events a slow follower may be behind before it is sent back to the record.
const FOLLOWER_LAG: usize = 1024;

/// Sees every event as it is published; called on the host's thread, must not block.
pub type Observer = Arc<dyn Fn(&Event) + Send + Sync>;

pub(crate) enum Outgoing {
    Record {
        at: Timestamp,
        record: Box<Record>,
    },
    Notice {
        at: Timestamp,
        service: Option<String>,
        replica: Option<u32>,
        text: String,
    },
    /// From then on its output is read.
    Begun {
        spawn: SpawnId,
        at: Timestamp,
    },
    /// The tree of this start is gone: its pipes are closed even if a stranger still holds them.
    Detach(SpawnId),
    /// The last one: everything before it is published when the task ends.
    Close,
}

/// The entrance to the publishing task.
#[derive(Clone)]
pub(crate) struct Publisher {
    outgoing: mpsc::UnboundedSender<Outgoing>,
    followers: broadcast::Sender<Arc<Event>>,
    newest: Arc<AtomicI64>,
}

impl Publisher {
    pub(crate) fn start(
        store: EventStore,
        newest: i64,
        capture: Capture,
        observer: Option<Observer>,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (outgoing, inbox) = mpsc::unbounded_channel();
        let (followers, _) = broadcast::channel(FOLLOWER_LAG);
        let newest = Arc::new(AtomicI64::new(newest));
        let task = Task {
            store,
            capture,
            observer,
            followers: followers.clone(),
            newest: Arc::clone(&newest),
            last_lines: BTreeMap::new(),
            begun: BTreeMap::new(),
        };
        let handle = tokio::spawn(task.run(inbox));
        (Self { outgoing, followers, newest }, handle)
    }

    pub(crate) fn record(&self, record: Record) {
        // The task ends only when every sender is gone.
        let _ = self.outgoing.send(Outgoing::Record { at: Timestamp::now(), record: Box::new(record) });
    }

    pub(crate) fn notice(&self, replica: Option<&ReplicaId>, text: String) {
        let (service, index) =
            replica.map_or((None, None), |id| (Some(id.service.to_string()), Some(id.index)));
        let _ = self.outgoing.send(Outgoing::Notice { at: Timestamp::now(), service, replica: index, text });
    }

    /// To be called just before the output of this start is read.
    pub(crate) fn begun(&self, spawn: SpawnId) {
        let _ = self.outgoing.send(Outgoing::Begun { spawn, at: Timestamp::now() });
    }

    pub(crate) fn detach(&self, spawn: SpawnId) {
        let _ = self.outgoing.send(Outgoing::Detach(spawn));
    }

    pub(crate) fn close(&self) {
        let _ = self.outgoing.send(Outgoing::Close);
    }

    pub(crate) fn follow(&self) -> broadcast::Receiver<Arc<Event>> {
        self.followers.subscribe()
    }

    pub(crate) fn newest_id(&self) -> i64 {
        self.newest.load(Ordering::Acquire)
    }
}

struct Task {
    store: EventStore,
    capture: Capture,
    observer: Option<Observer>,
    followers: broadcast::Sender<Arc<Event>>,
    newest: Arc<AtomicI64>,
    /// The last lines of a replica's latest failure, until its state after it has been told.
    last_lines: BTreeMap<ReplicaId, Vec<String>>,
    /// Since when the output of a start is read, until its tree is gone.
    begun: BTreeMap<SpawnId, Timestamp>,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Outgoing>) {
        while let Some(outgoing) = inbox.recv().await {
            match outgoing {
                Outgoing::Record { at, record } => {
                    let event = self.event_of(at, *record).await;
                    self.publish(event);
                }
                Outgoing::Notice { at, service, replica, text } => {
                    let event =
                        Event { service, replica, reason: Some(text), ..Event::new(EventKind::Log, at) };
                    self.publish(event);
                }
                Outgoing::Begun { spawn, at } => {
                    self.begun.insert(spawn, at);
                }
                Outgoing::Detach(spawn) => {
                    self.begun.remove(&spawn);
                    // Nobody waits for it: the capture takes its requests in order, and finishes them when it is closed.
                    let capture = self.capture.clone();
                    tokio::spawn(async move { capture.detach(spawn).await });
                }
                Outgoing::Close => return,
            }
            let lost = self.store.take_lost();
            if lost > 0 {
                let text =
                    format!("{lost} events could not be written to the event record and are lost from it");
                self.publish(Event { reason: Some(text), ..Event::new(EventKind::Log, Timestamp::now()) });
            }
        }
    }

    fn publish(&self, mut event: Event) {
        // Only this task makes ids.
        event.id = self.newest.load(Ordering::Relaxed) + 1;
        self.store.append(event.clone());
        self.newest.store(event.id, Ordering::Release);
        if let Some(observer) = &self.observer {
            observer(&event);
        }
        // Nobody may be following.
        let _ = self.followers.send(Arc::new(event));
    }

    async fn event_of(&mut self, at: Timestamp, record: Record) -> Event {
        match record {
            Record::State { replica, from, to, reason } => {
                let lines = if matches!(to, State::Failed | State::Backoff) {
                    self.last_lines.get(&replica).cloned()
                } else {
                    None
                };
                if matches!(to, State::Ready | State::Completed | State::Failed | State::Stopped) {
                    self.last_lines.remove(&replica);
                }
                Event {
                    from: Some(from.to_string()),
                    to: Some(to.to_string()),
                    reason: Some(reason.to_string()),
                    lines,
                    ..of_replica(EventKind::State, at, &replica)
                }
            }
            Record::Spawned { replica, spawn: _, pid } => {
                Event { pid: Some(pid), ..of_replica(EventKind::Spawned, at, &replica) }
            }
            Record::Exited { replica, spawn, exit, ran, requested } => {
                let lines = if requested {
                    None
                } else {
                    let settled =
                        tokio::time::timeout(SETTLE_LIMIT, self.capture.settle(spawn, LAST_LINES)).await;
                    // Only of this start: what came before it belongs to another failure.
                    let begun = self.begun.get(&spawn).copied();
                    let of_this_start = |line: &&LogLine| begun.is_some_and(|begun| line.at >= begun);
                    let lines: Vec<String> =
                        settled.unwrap_or_default().iter().filter(of_this_start).map(printable).collect();
                    self.last_lines.insert(replica.clone(), lines.clone());
                    Some(lines)
                };
                Event {
                    reason: Some(format!("it {exit} after {}", mainstay_types::format_duration(ran))),
                    exit: Some(exit_info(exit)),
                    ran_ms: Some(u64::try_from(ran.as_millis()).unwrap_or(u64::MAX)),
                    requested: Some(requested),
                    lines,
                    ..of_replica(EventKind::Exited, at, &replica)
                }
            }
            Record::Probe { replica, kind, passed, answer } => Event {
                probe: Some(kind.to_string()),
                passed: Some(passed),
                reason: Some(format!("{kind} probe {}: {answer}", if passed { "passed" } else { "failed" })),
                answer: Some(answer),
                ..of_replica(EventKind::Probe, at, &replica)
            },
            Record::Gate { service, gate, open, answer, tries } => Event {
                service: Some(service.to_string()),
                reason: Some(format!("{gate} is {}: {answer}", if open { "open" } else { "shut" })),
                gate: Some(gate),
                passed: Some(open),
                answer: Some(answer),
                tries: Some(tries),
                ..Event::new(EventKind::Gate, at)
            },
            Record::Run { replica, purpose, outcome, took } => Event {
                command: Some(purpose.as_str().to_owned()),
                passed: Some(outcome.is_passed()),
                reason: Some(format!(
                    "{} {} after {}",
                    purpose.as_str(),
                    if outcome.is_passed() { "done".to_owned() } else { format!("failed: {outcome}") },
                    mainstay_types::format_duration(took)
                )),
                answer: Some(outcome.to_string()),
                ran_ms: Some(u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
                ..of_replica(EventKind::Command, at, &replica)
            },
            Record::GaveUp { replica, reason } => {
                Event { reason: Some(reason.to_string()), ..of_replica(EventKind::Incident, at, &replica) }
            }
            Record::Reloaded { replica, how } => Event {
                command: Some("reload".to_owned()),
                reason: Some(how),
                ..of_replica(EventKind::Command, at, &replica)
            },
            Record::Applied { diff } if diff.is_empty() => Event {
                command: Some("reload".to_owned()),
                reason: Some("the file was read again: nothing differs from what runs".to_owned()),
                ..Event::new(EventKind::Command, at)
            },
            Record::Applied { diff } => Event {
                command: Some("reload".to_owned()),
                reason: Some(format!("a changed file counts: {}", crate::plan::summary(&diff))),
                ..Event::new(EventKind::Settings, at)
            },
            Record::Command { command } => {
                let (verb, service) = command_words(&command);
                Event {
                    service,
                    command: Some(verb.to_owned()),
                    reason: Some(format!("{verb} requested")),
                    ..Event::new(EventKind::Command, at)
                }
            }
        }
    }
}

fn of_replica(kind: EventKind, at: Timestamp, replica: &ReplicaId) -> Event {
    Event { service: Some(replica.service.to_string()), replica: Some(replica.index), ..Event::new(kind, at) }
}

/// The exit in the API's shape.
pub(crate) fn exit_info(exit: Exit) -> ExitInfo {
    ExitInfo { code: exit.code(), signal: exit.signal(), description: exit.to_string() }
}

/// The word and the service of a command.
fn command_words(command: &Command) -> (&'static str, Option<String>) {
    match command {
        Command::StartStack => ("start", None),
        Command::Start(service) => ("start", Some(service.to_string())),
        Command::Stop(service) => ("stop", Some(service.to_string())),
        Command::Restart(service) => ("restart", Some(service.to_string())),
        Command::Reload(service) => ("reload", Some(service.to_string())),
        Command::StopStack => ("stop", None),
        Command::KillStack => ("kill", None),
    }
}

/// A line for an event: text, without what would move the cursor, at most 1000 characters.
fn printable(line: &LogLine) -> String {
    String::from_utf8_lossy(&line.text).chars().filter(|c| *c == '\t' || !c.is_control()).take(1000).collect()
}
