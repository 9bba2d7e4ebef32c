//! From the loop's records to everybody who wants to know: the event record, followers, the terminal.
//!
//! One task takes the records in order. A failure is told only after the output that came before it has been written to
//! the log, and carries its last lines: whoever reads the event finds the log complete.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use mainstay_api::{Event, EventKind, ExitInfo};
use mainstay_lifecycle::{Command, Purpose, Reason, Record};
use mainstay_logs::{Capture, LogLine};
use mainstay_types::{Exit, ProbeFailure, ProbeOutcome, ReplicaId, SpawnId, State, Timestamp};
use tokio::sync::{broadcast, mpsc};

use crate::event_store::EventStore;
use crate::last_lines::{Begun, LAST_LINES, LastLines};

/// How long a failure may be held back for its output. A log that cannot be written must not silence the events.
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
    /// Something the host has to say beside the records of the machine.
    Event(Box<Event>),
    /// From then on its output is read.
    Begun {
        replica: ReplicaId,
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
    last_lines: LastLines,
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
        let last_lines = LastLines::default();
        let task = Task {
            store,
            capture,
            observer,
            followers: followers.clone(),
            newest: Arc::clone(&newest),
            last_lines: last_lines.clone(),
            begun: Begun::default(),
        };
        let handle = tokio::spawn(task.run(inbox));
        (Self { outgoing, followers, newest, last_lines }, handle)
    }

    pub(crate) fn record(&self, record: Record) {
        // The task ends only when every sender is gone.
        let _ = self.outgoing.send(Outgoing::Record { at: Timestamp::now(), record: Box::new(record) });
    }

    pub(crate) fn notice(&self, replica: Option<&ReplicaId>, text: String) {
        let event = replica.map_or_else(
            || Event::new(EventKind::Log, Timestamp::now()),
            |replica| of_replica(EventKind::Log, Timestamp::now(), replica),
        );
        self.event(Event { reason: Some(text), ..event });
    }

    /// Something went wrong with the host itself.
    pub(crate) fn incident(&self, text: String) {
        self.event(Event { reason: Some(text), ..Event::new(EventKind::Incident, Timestamp::now()) });
    }

    pub(crate) fn event(&self, event: Event) {
        let _ = self.outgoing.send(Outgoing::Event(Box::new(event)));
    }

    /// To be called just before the output of this start is read.
    pub(crate) fn begun(&self, replica: ReplicaId, spawn: SpawnId) {
        let _ = self.outgoing.send(Outgoing::Begun { replica, spawn, at: Timestamp::now() });
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

    /// What each failing replica wrote last.
    pub(crate) fn last_lines(&self) -> &LastLines {
        &self.last_lines
    }
}

struct Task {
    store: EventStore,
    capture: Capture,
    observer: Option<Observer>,
    followers: broadcast::Sender<Arc<Event>>,
    newest: Arc<AtomicI64>,
    last_lines: LastLines,
    begun: Begun,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Outgoing>) {
        while let Some(outgoing) = inbox.recv().await {
            if matches!(outgoing, Outgoing::Close) {
                return;
            }
            // A panic costs what it was about to tell, and the events after it are told as ever; the hook reports it.
            let _ = crate::panics::caught(self.take(outgoing)).await;
            let lost = self.store.take_lost();
            if lost > 0 {
                let text =
                    format!("{lost} events could not be written to the event record and are lost from it");
                self.publish(Event { reason: Some(text), ..Event::new(EventKind::Log, Timestamp::now()) });
            }
        }
    }

    async fn take(&mut self, outgoing: Outgoing) {
        match outgoing {
            Outgoing::Record { at, record } => {
                let event = self.event_of(at, *record).await;
                self.publish(event);
            }
            Outgoing::Event(event) => self.publish(*event),
            Outgoing::Begun { replica, spawn, at } => self.begun.begin(replica, spawn, at),
            Outgoing::Detach(spawn) => {
                self.begun.gone(spawn);
                // Nobody waits for it: the capture takes its requests in order, and finishes them when it is closed.
                let capture = self.capture.clone();
                tokio::spawn(async move { capture.detach(spawn).await });
            }
            Outgoing::Close => {}
        }
    }

    fn publish(&self, mut event: Event) {
        // Only this task makes ids.
        event.id = self.newest.load(Ordering::Relaxed) + 1;
        self.store.append(event.clone());
        self.newest.store(event.id, Ordering::Release);
        crate::own_log::tell(&event);
        let event = Arc::new(event);
        // Nobody may be following.
        let _ = self.followers.send(Arc::clone(&event));
        if let Some(observer) = &self.observer {
            observer(&event);
        }
    }

    async fn event_of(&mut self, at: Timestamp, record: Record) -> Event {
        match record {
            Record::State { replica, from, to, reason } => {
                let lines = self.lines_of_state(&replica, to, &reason).await;
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
                // A stop that a failing probe asked for is a failure as well.
                let lines = if requested && self.last_lines.of_failure(&replica).is_none() {
                    None
                } else {
                    let settled = limited(self.capture.settle(spawn, LAST_LINES)).await;
                    let lines = self.begun.lines_of_start(spawn, &settled);
                    self.last_lines.fails(&replica, lines.clone());
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
                lines: self.lines_of_run(&replica, purpose, &outcome).await,
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
            Record::GaveUp { replica, reason } => Event {
                reason: Some(reason.to_string()),
                lines: self.last_lines.of_failure(&replica),
                ..of_replica(EventKind::Incident, at, &replica)
            },
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

    /// The lines that a change of state carries: those of the failure it tells of.
    async fn lines_of_state(
        &mut self,
        replica: &ReplicaId,
        to: State,
        reason: &Reason,
    ) -> Option<Vec<String>> {
        match to {
            State::Unready | State::Stopping if matches!(reason, Reason::ProbeFailed { .. }) => {
                let written = limited(self.capture.tail(replica, LAST_LINES)).await;
                let lines = self.begun.lines_of_program(replica, &written);
                self.last_lines.fails(replica, lines.clone());
                Some(lines)
            }
            State::Failed | State::Backoff => {
                self.last_lines.fails_silently(replica);
                self.last_lines.of_failure(replica)
            }
            State::Waiting | State::Starting => {
                self.last_lines.starts(replica);
                None
            }
            State::Ready => {
                self.last_lines.recovered(replica);
                None
            }
            State::Completed | State::Stopped => {
                self.last_lines.recovered(replica);
                self.begun.rests(replica);
                None
            }
            State::Unready | State::Stopping => None,
        }
    }

    /// The lines that the end of a command around a replica's life carries; one that fails before the start is the
    /// failure of the start.
    async fn lines_of_run(
        &mut self,
        replica: &ReplicaId,
        purpose: Purpose,
        outcome: &ProbeOutcome,
    ) -> Option<Vec<String>> {
        // One that could not be started has written nothing.
        if outcome.is_passed() || matches!(outcome, ProbeOutcome::Failed(ProbeFailure::NotStarted(_))) {
            return None;
        }
        let written = limited(self.capture.tail(replica, LAST_LINES)).await;
        let lines = self.begun.lines_of_command(replica, &written);
        if purpose == Purpose::BeforeStart {
            self.last_lines.fails(replica, lines.clone());
        }
        Some(lines)
    }
}

/// A log that cannot be read or written in time gives no lines.
async fn limited(lines: impl Future<Output = Vec<LogLine>>) -> Vec<LogLine> {
    tokio::time::timeout(SETTLE_LIMIT, lines).await.unwrap_or_default()
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
