//! What the service manager that started the host is told, and when (sd_notify(3)): pure but for the sending.
//!
//! ```text
//!  start-up ──────────────► ready ◄────────► reloading      ──► stopping
//!  STATUS, EXTEND_TIMEOUT   READY, STATUS,   RELOADING,         STOPPING, STATUS, EXTEND_TIMEOUT
//!                           WATCHDOG         EXTEND_TIMEOUT
//! ```
//! All of it comes from the host loop and from nowhere else: a loop that hangs is silent, and the manager ends it.

use std::time::{Duration, Instant};

use mainstay_lifecycle::StackMachine;
use mainstay_types::{Phase, State};

use crate::host::Host;

/// When the host calls itself ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReadyWhen {
    /// When no service is on its way any more: each is ready, has completed, or gave up.
    #[default]
    Services,
    /// As soon as it supervises, whatever its services wait for.
    Host,
}

/// Between two looks at what the services do: one look costs as much as a status.
const LOOK_PAUSE: Duration = Duration::from_millis(500);
/// While it takes longer than the unit allows, the manager is told this often that it goes on ...
const EXTEND_PAUSE: Duration = Duration::from_secs(10);
/// ... and may take the host for hung after this long without a word.
const EXTEND_BY: Duration = Duration::from_secs(60);
/// Signs of life within the time of the watchdog: one may be late.
const BEATS: u32 = 3;
/// Services named in one line.
const MAX_NAMED: usize = 4;
/// Longest line of status, in characters; `systemctl status` shows one line.
const MAX_STATUS_CHARS: usize = 400;

/// How far the host is, as the manager is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Starting,
    Ready,
    Reloading,
    Stopping,
}

/// What was said, and when the next thing is to be said.
#[derive(Debug)]
pub(crate) struct Manager {
    ready_when: ReadyWhen,
    watchdog: Option<Duration>,
    stage: Stage,
    status: String,
    next_look: Option<Instant>,
    next_beat: Option<Instant>,
    next_extend: Option<Instant>,
}

impl Manager {
    /// `None` where nobody wants to be told.
    pub(crate) fn of_this_process(ready_when: ReadyWhen) -> Option<Self> {
        let told = std::env::var_os(mainstay_os::NOTIFY_VARIABLE).is_some_and(|address| !address.is_empty());
        told.then(|| Self::new(ready_when, mainstay_os::manager_watchdog(), Instant::now()))
    }

    fn new(ready_when: ReadyWhen, watchdog: Option<Duration>, now: Instant) -> Self {
        Self {
            ready_when,
            watchdog,
            stage: Stage::Starting,
            status: String::new(),
            next_look: Some(now),
            next_beat: watchdog.map(|_| now),
            next_extend: Some(now),
        }
    }

    /// Something happened: a look is due, though not before the last one is half a second old.
    pub(crate) fn stir(&mut self, now: Instant) {
        self.next_look.get_or_insert(now + LOOK_PAUSE);
    }

    /// When [`Self::due`] wants to be called.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        [self.next_look, self.next_beat, self.next_extend].into_iter().flatten().min()
    }

    /// What is to be said now. `status` is asked only when a look is due.
    fn due(&mut self, now: Instant, seen: Seen, status: impl FnOnce() -> String) -> Option<String> {
        let mut lines: Vec<String> = Vec::new();
        let stage = self.next_stage(seen);
        let changed = stage != self.stage;
        if changed {
            match stage {
                Stage::Starting => {}
                Stage::Ready => lines.push("READY=1".to_owned()),
                Stage::Reloading => {
                    lines.push("RELOADING=1".to_owned());
                    lines.push(format!("MONOTONIC_USEC={}", seen.monotonic_micros));
                }
                Stage::Stopping => lines.push("STOPPING=1".to_owned()),
            }
            self.stage = stage;
        }
        if changed || self.next_look.is_some_and(|at| at <= now) {
            self.next_look = None;
            let status = one_line(&status());
            if status != self.status {
                lines.push(format!("STATUS={status}"));
                self.status = status;
            }
        }
        if self.next_beat.is_some_and(|at| at <= now) {
            lines.push("WATCHDOG=1".to_owned());
            self.next_beat = self.watchdog.map(|limit| now + limit / BEATS);
        }
        match stage {
            Stage::Ready => self.next_extend = None,
            Stage::Starting | Stage::Reloading | Stage::Stopping => {
                if changed || self.next_extend.is_none_or(|at| at <= now) {
                    lines.push(format!("EXTEND_TIMEOUT_USEC={}", EXTEND_BY.as_micros()));
                    self.next_extend = Some(now + EXTEND_PAUSE);
                }
            }
        }
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    fn next_stage(&self, seen: Seen) -> Stage {
        match (seen.phase, self.stage) {
            (Phase::ShuttingDown | Phase::Terminated, _) | (_, Stage::Stopping) => Stage::Stopping,
            (Phase::Initializing, Stage::Starting) if self.ready_when == ReadyWhen::Services => {
                Stage::Starting
            }
            (Phase::Initializing | Phase::Running, Stage::Starting) => Stage::Ready,
            (Phase::Initializing | Phase::Running, Stage::Ready | Stage::Reloading) if seen.applying => {
                Stage::Reloading
            }
            (Phase::Initializing | Phase::Running, Stage::Ready | Stage::Reloading) => Stage::Ready,
        }
    }

    /// The last words. A stack of work that is done was ready, though nobody could have seen it.
    fn last_words(&self, ended_well: bool, status: &str) -> String {
        let ready = if self.stage == Stage::Starting && ended_well { "READY=1\n" } else { "" };
        format!("{ready}STOPPING=1\nSTATUS={}", one_line(status))
    }
}

/// The facts a decision goes by.
#[derive(Clone, Copy, Debug)]
struct Seen {
    phase: Phase,
    applying: bool,
    monotonic_micros: u64,
}

impl Host {
    /// Tells the manager what it is to know by now.
    pub(crate) fn tell_manager(&mut self) {
        let Some(manager) = &mut self.manager else { return };
        let now = Instant::now();
        let machine = &self.machine;
        let seen = Seen {
            phase: machine.phase(),
            applying: machine.is_applying(),
            monotonic_micros: mainstay_os::monotonic_micros(),
        };
        if let Some(saying) = manager.due(now, seen, || status_words(machine)) {
            say(&saying);
        }
    }

    /// Tells the manager that the host ends.
    pub(crate) fn tell_manager_the_end(&self, failed: &[String]) {
        let Some(manager) = &self.manager else { return };
        let status = match failed {
            [] => "everything has ended".to_owned(),
            failed => failed.join("; "),
        };
        say(&manager.last_words(failed.is_empty(), &status));
    }
}

/// A manager that cannot be told ends a host that it takes for hung; there is nothing else to do about it.
fn say(saying: &str) {
    let _ = mainstay_os::notify_manager(saying);
}

/// One line for `systemctl status`.
fn status_words(machine: &StackMachine) -> String {
    let (mut up, mut done, mut idle) = (0_usize, 0_usize, 0_usize);
    let (mut failed, mut on_the_way, mut stopping) = (Vec::new(), Vec::new(), Vec::new());
    for service in machine.services() {
        match service.state {
            State::Ready => up += 1,
            State::Completed => done += 1,
            State::Stopped => idle += 1,
            State::Failed => failed.push(format!("{} failed: {}", service.name, service.reason)),
            State::Stopping => stopping.push(service.name.to_string()),
            State::Waiting | State::Starting | State::Unready | State::Backoff => {
                on_the_way.push(format!("{} is {}: {}", service.name, service.state, service.reason));
            }
        }
    }
    let mut parts = some(&failed, "; ");
    parts.extend(some(&on_the_way, "; "));
    if !stopping.is_empty() {
        parts.push(format!("stopping {}", some(&stopping, ", ").join(", ")));
    }
    for (count, word) in [(up, "ready"), (done, "completed"), (idle, "stopped")] {
        if count > 0 {
            parts.push(format!("{count} {word}"));
        }
    }
    parts.join("; ")
}

/// The first few, and how many more there are.
fn some(all: &[String], joint: &str) -> Vec<String> {
    if all.is_empty() {
        return Vec::new();
    }
    let more = all.len().saturating_sub(MAX_NAMED);
    let mut text = all[..all.len() - more].join(joint);
    if more > 0 {
        text.push_str(&format!("{joint}{more} more"));
    }
    vec![text]
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_STATUS_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEAT: Duration = Duration::from_secs(10);

    fn manager(ready_when: ReadyWhen, now: Instant) -> Manager {
        Manager::new(ready_when, Some(BEAT * BEATS), now)
    }

    fn seen(phase: Phase, applying: bool) -> Seen {
        Seen { phase, applying, monotonic_micros: 42 }
    }

    fn told(manager: &mut Manager, now: Instant, phase: Phase, applying: bool, status: &str) -> Vec<String> {
        let saying = manager.due(now, seen(phase, applying), || status.to_owned());
        saying.map_or_else(Vec::new, |saying| saying.lines().map(str::to_owned).collect())
    }

    #[test]
    fn a_start_that_takes_long_says_so_until_the_services_are_ready() {
        let begun = Instant::now();
        let mut manager = manager(ReadyWhen::Services, begun);
        let first = told(&mut manager, begun, Phase::Initializing, false, "db is waiting");
        assert_eq!(first, ["STATUS=db is waiting", "WATCHDOG=1", "EXTEND_TIMEOUT_USEC=60000000"]);
        assert_eq!(manager.next_deadline(), Some(begun + BEAT));
        // Nothing is said twice, and nothing before it is due.
        manager.stir(begun);
        let soon = begun + LOOK_PAUSE;
        assert!(told(&mut manager, soon, Phase::Initializing, false, "db is waiting").is_empty());
        let later = told(&mut manager, begun + BEAT, Phase::Initializing, false, "unasked");
        assert_eq!(later, ["WATCHDOG=1", "EXTEND_TIMEOUT_USEC=60000000"]);
        let ready = told(&mut manager, begun + BEAT, Phase::Running, false, "1 ready");
        assert_eq!(ready, ["READY=1", "STATUS=1 ready"]);
        assert_eq!(manager.next_deadline(), Some(begun + 2 * BEAT), "nothing but the watchdog is left");
        // A service that comes back from a crash does not take the readiness away.
        assert!(told(&mut manager, begun + BEAT, Phase::Initializing, false, "unasked").is_empty());
    }

    #[test]
    fn a_host_may_be_ready_before_its_services() {
        let now = Instant::now();
        let first = told(&mut manager(ReadyWhen::Host, now), now, Phase::Initializing, false, "x");
        assert_eq!(first, ["READY=1", "STATUS=x", "WATCHDOG=1"]);
    }

    #[test]
    fn a_changed_file_and_a_stop_are_told() {
        let now = Instant::now();
        let mut manager = manager(ReadyWhen::Services, now);
        told(&mut manager, now, Phase::Running, false, "x");
        let reloading = told(&mut manager, now, Phase::Running, true, "y");
        assert_eq!(
            reloading,
            ["RELOADING=1", "MONOTONIC_USEC=42", "STATUS=y", "EXTEND_TIMEOUT_USEC=60000000"]
        );
        assert_eq!(told(&mut manager, now, Phase::Running, false, "y"), ["READY=1"]);
        let stopping = told(&mut manager, now, Phase::ShuttingDown, false, "z");
        assert_eq!(stopping, ["STOPPING=1", "STATUS=z", "EXTEND_TIMEOUT_USEC=60000000"]);
        assert_eq!(manager.last_words(true, "done"), "STOPPING=1\nSTATUS=done");
    }

    #[test]
    fn work_that_is_done_at_once_was_ready() {
        let manager = manager(ReadyWhen::Services, Instant::now());
        assert_eq!(manager.last_words(true, "a\nb"), "READY=1\nSTOPPING=1\nSTATUS=a b");
        assert_eq!(manager.last_words(false, "x"), "STOPPING=1\nSTATUS=x");
    }

    #[test]
    fn without_a_watchdog_a_host_at_rest_has_no_deadline() {
        let now = Instant::now();
        let mut manager = Manager::new(ReadyWhen::Services, None, now);
        told(&mut manager, now, Phase::Running, false, "x");
        assert_eq!(manager.next_deadline(), None);
    }

    #[test]
    fn a_long_list_is_cut() {
        let names: Vec<String> = (0..7).map(|n| format!("s{n}")).collect();
        assert_eq!(some(&names, ", "), ["s0, s1, s2, s3, 3 more"]);
        assert_eq!(one_line(&"x\n".repeat(1000)).chars().count(), MAX_STATUS_CHARS);
    }
}
