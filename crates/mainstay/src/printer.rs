//! What `mainstay run` shows while it runs: the services' output, each line after its service's name, and what
//! happens to them. A thread of its own writes, so that a slow terminal holds up neither the host nor a service.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anstyle::Style;
use mainstay_api::{Event, EventKind};
use mainstay_config::Stack;
use mainstay_logs::{Lines, Stream, Tap};
use mainstay_types::{ReplicaId, ServiceName, State, Timestamp, format_duration};

use crate::terminal::{BAD, BOLD, DIM, GOOD, WARN, has_colors, paint, program_line, service_style};

/// A shorter time from start to readiness is not told.
const WORTH_TELLING: Duration = Duration::from_millis(10);
/// Bytes of output waiting to be shown, at most; what is beyond is left out here and counted, and is in the log all the
/// same.
const MAX_WAITING_BYTES: usize = 4 * 1024 * 1024;
/// What a piece of output counts for at least, so that their number has a bound, too: 4096.
const LEAST_BYTES: usize = 1024;
/// Room for what happens, whatever the programs write: a failure must not be left out because another service talks.
const MAX_EVENTS: usize = 4096;
/// Pieces that wait to be shown, at most; threads that look at the same moment may put in one more each.
const MAX_WAITING: usize = MAX_WAITING_BYTES / LEAST_BYTES + MAX_EVENTS;
/// Bytes of one line shown; a terminal is no place for a line of megabytes.
const MAX_SHOWN_BYTES: usize = 4096;
/// A terminal that takes nothing for this long at the end is not waited for, and one that takes little not longer than that.
const END_PAUSE: Duration = Duration::from_secs(2);
const END_LIMIT: Duration = Duration::from_secs(30);
/// Widest column of names.
const MAX_NAME_WIDTH: usize = 24;

/// How much is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Detail {
    /// Only failures.
    Quiet,
    /// Output, and changes that matter.
    Normal,
    /// Every event.
    Verbose,
    /// Every event as JSON, no output.
    Json,
}

enum Shown {
    Lines { replica: ReplicaId, stream: Stream, text: Vec<u8> },
    Event(Box<Event>),
    Note(String),
    End,
}

/// The entrance to the printing thread. Cheap to clone; never blocks.
#[derive(Clone)]
pub(crate) struct Printer {
    queue: Sender<Shown>,
    left_out: Arc<AtomicUsize>,
    waiting_bytes: Arc<AtomicUsize>,
    /// Pieces put into the queue so far. What waits has its bound here, because a queue that knows its own takes the
    /// memory for all of it from the first.
    given: Arc<AtomicUsize>,
    /// Pieces the terminal has taken so far.
    taken: Arc<AtomicUsize>,
    detail: Detail,
}

impl Printer {
    pub(crate) fn start(stack: &Stack, detail: Detail) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (queue, inbox) = channel();
        let left_out = Arc::new(AtomicUsize::new(0));
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let taken = Arc::new(AtomicUsize::new(0));
        let page =
            Page::new(stack, detail, Arc::clone(&left_out), Arc::clone(&waiting_bytes), Arc::clone(&taken));
        let thread = std::thread::Builder::new()
            .name("terminal".into())
            .stack_size(256 * 1024)
            .spawn(move || page.run(&inbox))?;
        let given = Arc::new(AtomicUsize::new(0));
        Ok((Self { queue, left_out, waiting_bytes, given, taken, detail }, thread))
    }

    pub(crate) fn event(&self, event: &Event) {
        self.offer(Shown::Event(Box::new(event.clone())), 1);
    }

    /// A line of mainstay's own.
    pub(crate) fn note(&self, text: String) {
        self.offer(Shown::Note(text), 1);
    }

    /// Shows what is waiting and ends the thread. A terminal that takes nothing for [`END_PAUSE`], or takes what waits for
    /// longer than [`END_LIMIT`], is left to itself.
    pub(crate) async fn end(&self, thread: &JoinHandle<()>) {
        self.offer(Shown::End, 0);
        let limit = Instant::now() + END_LIMIT;
        let mut taken = self.taken.load(Ordering::Relaxed);
        let mut since = Instant::now();
        while !thread.is_finished() && since.elapsed() < END_PAUSE && Instant::now() < limit {
            tokio::time::sleep(Duration::from_millis(2)).await;
            let now = self.taken.load(Ordering::Relaxed);
            if now != taken {
                (taken, since) = (now, Instant::now());
            }
        }
    }

    fn offer(&self, shown: Shown, lines: usize) {
        let waiting = self.given.load(Ordering::Relaxed).saturating_sub(self.taken.load(Ordering::Relaxed));
        if waiting >= MAX_WAITING && !matches!(shown, Shown::End) {
            self.left_out.fetch_add(lines, Ordering::Relaxed);
            return;
        }
        self.given.fetch_add(1, Ordering::Relaxed);
        // Without a thread there is nobody left to show it to.
        let _ = self.queue.send(shown);
    }
}

impl Tap for Printer {
    fn lines(&self, replica: &ReplicaId, stream: Stream, _at: Timestamp, lines: Lines<'_>) {
        if matches!(self.detail, Detail::Quiet | Detail::Json) {
            return;
        }
        let mut text = Vec::new();
        let mut count = 0;
        for line in lines {
            // A line in parts is shown as that many lines, each cut: the log has it whole.
            let shown = &line.text[..line.text.len().min(MAX_SHOWN_BYTES)];
            text.extend_from_slice(shown);
            if shown.len() < line.text.len() {
                text.extend_from_slice(" ... (cut here, the log has it whole)".as_bytes());
            }
            text.push(b'\n');
            count += 1;
        }
        text.pop();
        let bytes = cost(&text);
        if self.waiting_bytes.load(Ordering::Relaxed) + bytes > MAX_WAITING_BYTES {
            self.left_out.fetch_add(count, Ordering::Relaxed);
            return;
        }
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.offer(Shown::Lines { replica: replica.clone(), stream, text }, count);
    }
}

/// What this output counts for while it waits.
fn cost(text: &[u8]) -> usize {
    text.len().clamp(LEAST_BYTES, MAX_WAITING_BYTES)
}

/// What is known of a replica while it comes up.
#[derive(Default)]
struct Seen {
    spawned: Option<Timestamp>,
    state: Option<State>,
    last_reason: String,
}

struct Page {
    detail: Detail,
    colored: bool,
    styles: BTreeMap<ServiceName, Style>,
    width: usize,
    left_out: Arc<AtomicUsize>,
    waiting_bytes: Arc<AtomicUsize>,
    taken: Arc<AtomicUsize>,
    seen: BTreeMap<(String, u32), Seen>,
    first_event: Option<Timestamp>,
    expected: usize,
    all_up_told: bool,
}

impl Page {
    fn new(
        stack: &Stack,
        detail: Detail,
        left_out: Arc<AtomicUsize>,
        waiting_bytes: Arc<AtomicUsize>,
        taken: Arc<AtomicUsize>,
    ) -> Self {
        let longest = stack.services.iter().map(|service| {
            let suffix = if service.replicas > 1 { (service.replicas - 1).to_string().len() + 1 } else { 0 };
            service.name.as_str().len() + suffix
        });
        Self {
            detail,
            colored: has_colors(),
            styles: stack
                .services
                .iter()
                .enumerate()
                .map(|(place, service)| (service.name.clone(), service_style(place)))
                .collect(),
            width: longest.max().unwrap_or(0).clamp(4, MAX_NAME_WIDTH),
            left_out,
            waiting_bytes,
            taken,
            seen: BTreeMap::new(),
            first_event: None,
            expected: stack.services.iter().map(|service| service.replicas as usize).sum(),
            all_up_told: false,
        }
    }

    fn run(mut self, inbox: &Receiver<Shown>) {
        while let Ok(shown) = inbox.recv() {
            let text = match shown {
                Shown::Lines { replica, stream, text } => {
                    self.waiting_bytes.fetch_sub(cost(&text), Ordering::Relaxed);
                    self.lines(&replica, stream, &text)
                }
                Shown::Event(event) => self.event(&event),
                Shown::Note(text) => text + "\n",
                Shown::End => return,
            };
            let mut out = anstream::stdout().lock();
            // Nobody may be reading any more; the host goes on supervising.
            let _ = out.write_all(text.as_bytes());
            let left_out = self.left_out.swap(0, Ordering::Relaxed);
            if left_out > 0 {
                let words = format!(
                    "{left_out} lines left out here, the terminal is too slow; `mainstay logs` has them"
                );
                let _ = writeln!(out, "{}", paint(WARN, &words));
            }
            let _ = out.flush();
            self.taken.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn prefix(&self, service: &str, replica: Option<u32>, mark: &str) -> String {
        let name = match replica {
            Some(index) if index > 0 => format!("{service}.{index}"),
            Some(_) | None => service.to_owned(),
        };
        let style = self.styles.get(service).copied().unwrap_or_default();
        format!("{style}{name:<width$} {mark}{style:#} ", width = self.width)
    }

    fn lines(&self, replica: &ReplicaId, stream: Stream, text: &[u8]) -> String {
        let mark = match stream {
            Stream::Stdout => "|",
            Stream::Stderr => "!",
        };
        let prefix = self.prefix(replica.service.as_str(), Some(replica.index), mark);
        let mut out = String::new();
        for line in text.split(|byte| *byte == b'\n') {
            out.push_str(&prefix);
            out.push_str(&program_line(line, self.colored));
            out.push('\n');
        }
        out
    }

    fn event(&mut self, event: &Event) -> String {
        if self.detail == Detail::Json {
            // The event is made of strings and numbers only; such a value always becomes JSON.
            return serde_json::to_string(event).map_or_else(|_| String::new(), |json| json + "\n");
        }
        self.first_event.get_or_insert(event.at);
        let words = self.words(event);
        let mut out = String::new();
        if let Some(words) = words {
            let service = event.service.as_deref().unwrap_or("mainstay");
            out.push_str(&self.prefix(service, event.replica, "*"));
            out.push_str(&words);
            out.push('\n');
            if event.to.as_deref() == Some("failed") {
                for line in event.lines.iter().flatten() {
                    out.push_str(&self.prefix(service, event.replica, " "));
                    out.push_str(&paint(DIM, &format!("last output: {line}")));
                    out.push('\n');
                }
            }
        }
        if let Some(summary) = self.all_up(event) {
            out.push_str(&summary);
            out.push('\n');
        }
        out
    }

    fn words(&mut self, event: &Event) -> Option<String> {
        let reason = event.reason.as_deref().unwrap_or_default();
        let verbose = self.detail == Detail::Verbose;
        match event.event {
            EventKind::State => self.state_words(event, reason),
            EventKind::Spawned => {
                self.seen_of(event).spawned = Some(event.at);
                verbose.then(|| paint(DIM, &format!("started, pid {}", event.pid.unwrap_or(0))))
            }
            // What keeps a service waiting is told whenever it changes.
            EventKind::Gate if event.passed == Some(false) && self.detail != Detail::Quiet => {
                let (gate, answer) = (event.gate.as_deref()?, event.answer.as_deref()?);
                Some(paint(DIM, &format!("{gate}: {answer}")))
            }
            EventKind::Probe | EventKind::Gate => verbose.then(|| paint(DIM, reason)),
            EventKind::Exited | EventKind::Command => verbose.then(|| paint(DIM, reason)),
            // That it gave up has just been told as its state.
            EventKind::Incident if self.seen_of(event).last_reason == reason => None,
            EventKind::Log
            | EventKind::Finding
            | EventKind::Incident
            | EventKind::Release
            | EventKind::Settings => Some(paint(WARN, reason)),
        }
    }

    fn seen_of(&mut self, event: &Event) -> &mut Seen {
        let key = (event.service.clone().unwrap_or_default(), event.replica.unwrap_or(0));
        self.seen.entry(key).or_default()
    }

    fn state_words(&mut self, event: &Event, reason: &str) -> Option<String> {
        let state: State = event.to.as_deref()?.parse().ok()?;
        let (detail, at) = (self.detail, event.at);
        let seen = self.seen_of(event);
        let first = seen.state.is_none();
        let unchanged = seen.state == Some(state) && seen.last_reason == reason;
        seen.state = Some(state);
        seen.last_reason = reason.to_owned();
        let took = seen
            .spawned
            .and_then(|spawned| Duration::try_from(at.duration_since(spawned)).ok())
            // One without a probe is ready as soon as it runs: that took no time worth telling.
            .filter(|took| *took >= WORTH_TELLING)
            .map(|took| format!(" after {}", format_duration(took)))
            .unwrap_or_default();
        // A service with autostart off is stopped from the first.
        let idle = state == State::Stopped && first && detail != Detail::Verbose;
        if unchanged || idle || (detail == Detail::Quiet && state != State::Failed) {
            return None;
        }
        Some(match state {
            State::Waiting => paint(DIM, reason),
            State::Starting if detail == Detail::Verbose => paint(DIM, &format!("starting: {reason}")),
            State::Starting => return None,
            State::Ready => format!("{}{took}: {reason}", paint(GOOD, "ready")),
            State::Unready => format!("{}: {reason}", paint(WARN, "unready")),
            State::Backoff => format!("{}: {reason}", paint(WARN, "backoff")),
            State::Stopping => format!("{}: {reason}", paint(DIM, "stopping")),
            State::Stopped if reason.starts_with("stopped") => paint(DIM, reason),
            State::Stopped => format!("{}: {reason}", paint(DIM, "stopped")),
            State::Completed => format!("{}{took}", paint(GOOD, "completed")),
            State::Failed => format!("{}: {reason}", paint(BAD, "failed")),
        })
    }

    /// Says once that everything is up, when it first is.
    fn all_up(&mut self, event: &Event) -> Option<String> {
        let came_up = matches!(event.to.as_deref(), Some("ready" | "completed"));
        if self.all_up_told || event.event != EventKind::State || !came_up || self.detail == Detail::Quiet {
            return None;
        }
        let up = self
            .seen
            .values()
            .filter(|seen| matches!(seen.state, Some(State::Ready | State::Completed)))
            .count();
        // Services with autostart off are stopped from the first, and do not count.
        let idle = self.seen.values().filter(|seen| seen.state == Some(State::Stopped)).count();
        if up == 0 || up + idle < self.expected {
            return None;
        }
        self.all_up_told = true;
        let took = Duration::try_from(event.at.duration_since(self.first_event?)).ok()?;
        Some(paint(BOLD, &format!("everything is up after {}", format_duration(took))))
    }
}
