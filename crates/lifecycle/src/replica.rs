//! One replica: what it actually is. What is wanted of it is a field of its service.
//!
//! ```text
//!                gates hold            Launched               verdicts
//!  Waiting ───────────────► Launching ─────────► Running(Starting ─► Ready ◄─► Unready)
//!   ▲  ▲ │                  ▲ │ LaunchFailed        │ Exited        │ stop, restart, probe failed,
//!   │  │ └─► Preparing ─────┘ │                     │               ▼ leftovers
//!   │  │  before_start│ fails │                     │             Stopping
//!   │  │              │       │                     │               │ the tree has ended
//!   │  │ gates open   ▼       ▼                     ▼               ▼
//!   │ Failed(WatchesGates)  policy ◄──────────── Closing: after_exit, if there is one ──► Stopped (asked for)
//!   │                         │                                     ▲
//!   │  until                  │                                     │ the rest of the tree ends late
//!   ├──────── Backoff ◄───────┼─► Completed, Stopped, Failed(Final) │
//!   └── Failed(Retries) ◄─────┴─ Failed(AwaitsTree), Stopped: left behind by a kill
//! ```
//!
//! Stopping goes through `NotLaunched` (the launch is in flight), or `BeforeStop` (the hook runs) and `Asked` (the
//! steps of its stop, one after the other, while the grace runs), to `Killed`. From every state but Stopping, a stop
//! of something that has no process leads to Stopped at once; one that is Preparing is Closing until the end of its
//! command is told. Closing is shown as `stopping`: a program with `after_exit` that ends by itself goes ready ->
//! stopping -> backoff.

use std::time::Duration;

use mainstay_config::{Hook, StopStep};
use mainstay_types::{Exit, Moment, ProbeKind, SpawnId, State};

use crate::probe::Track;
use crate::retry::Tries;
use crate::{DeadlineReason, Event, Purpose, Reason, TaskId};

/// What a program says between its first instruction and the news of its launch is kept, so many facts of it: one
/// datagram of sd_notify(3) holds two or three. What comes after them is dropped.
pub(crate) const EARLY_NEWS: usize = 16;

/// One replica of a service.
#[derive(Clone, Debug)]
pub(crate) struct Replica {
    pub(crate) actual: Actual,
    /// When it came into its [`State`].
    pub(crate) since: Moment,
    pub(crate) reason: Reason,
    /// Whether the timeline has heard of it.
    pub(crate) announced: bool,
    /// Starts that the restart policy made.
    pub(crate) restarts: u64,
    /// Whether the next start is one that the restart policy makes.
    pub(crate) again: bool,
    pub(crate) last_exit: Option<(Exit, Moment)>,
    pub(crate) tries: Tries,
    /// What its program last said about itself.
    pub(crate) status_text: Option<String>,
    /// What its program said before the news of its launch; at most [`EARLY_NEWS`].
    pub(crate) early: Vec<Event>,
    /// Whether it came with a changed file to a service that was ready, and has not come up yet: until then nobody
    /// counts on it.
    pub(crate) joining: bool,
    /// A tree that outlived its kill; nothing is launched while it is there.
    pub(crate) held: Option<Box<Held>>,
    /// As it stands in the machine's index of deadlines.
    pub(crate) deadline: Option<(Moment, DeadlineReason)>,
}

/// What a replica is doing.
#[derive(Clone, Debug)]
pub(crate) enum Actual {
    /// Its gates do not all hold, or are being checked.
    Waiting,
    /// Its `before_start` runs; then it is launched, for this reason.
    Preparing { task: TaskId, reason: Reason },
    /// Its launch is in flight.
    Launching { spawn: SpawnId },
    /// Its program runs.
    Running(Running),
    /// It waits for its next try.
    Backoff { until: Moment },
    /// It is on its way down. In a place of its own, as what is rare and large should not make every replica large.
    Stopping(Box<Stopping>),
    /// Nothing of its program is there; a command around its life is awaited before anything else happens to it.
    Closing(Closing),
    /// Down, as asked or as its policy says.
    Stopped,
    /// The oneshot did its work.
    Completed,
    /// Down, and it should not be.
    Failed(Outlook),
}

/// A program that runs.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) spawn: SpawnId,
    pub(crate) pid: u32,
    pub(crate) launched_at: Moment,
    pub(crate) health: Health,
    /// Whether it said that it reads its configuration again, and not yet that it has.
    pub(crate) reloading: bool,
    /// One for each declared probe, startup first.
    pub(crate) tracks: Vec<Track>,
    /// Probes that a changed file took away while a check of them was in flight, and still is.
    pub(crate) orphans: Vec<ProbeKind>,
    /// Whether it has been ready, which happens for the first time once.
    pub(crate) was_ready: bool,
    /// Its `after_ready`, while that runs.
    pub(crate) after_ready: Option<TaskId>,
}

/// How far a running program has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Health {
    Starting,
    Ready,
    Unready,
}

/// A tree on its way down.
#[derive(Clone, Debug)]
pub(crate) struct Stopping {
    pub(crate) spawn: SpawnId,
    /// The program's id and the moment it ran, once it did.
    pub(crate) launched: Option<(u32, Moment)>,
    /// How the main process ended, once it did; from then on the rest of its tree is awaited.
    pub(crate) exit: Option<Exit>,
    pub(crate) asked_at: Moment,
    pub(crate) stage: Stage,
    /// As the policy was when the stop began: a changed file does not change a stop under way.
    pub(crate) plan: Plan,
    /// What was done so far to make it end, in words.
    pub(crate) tried: Vec<String>,
    /// What follows if the service is still wanted.
    pub(crate) then: Then,
}

/// How a tree is asked to end.
#[derive(Clone, Default, Debug)]
pub(crate) struct Plan {
    /// Runs before the first step.
    pub(crate) before: Option<Hook>,
    pub(crate) steps: Vec<StopStep>,
    pub(crate) grace: Duration,
}

/// How much force is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// The launch was in flight when the stop came: the first step follows when it runs.
    NotLaunched { kill_at: Moment },
    /// Its `before_stop` runs, until `ends_at` at the latest.
    BeforeStop { kill_at: Moment, ends_at: Moment, task: TaskId },
    /// So many steps were begun. The next one follows at `next_at`, or at once when the command of this one, `task`
    /// while it runs, fails.
    Asked { kill_at: Moment, next_at: Moment, done: usize, task: Option<TaskId> },
    /// The tree was killed, `after` this time of grace if it had one.
    Killed { lost_at: Moment, after: Option<Duration> },
}

/// What is awaited of a replica of whose program nothing is there.
#[derive(Clone, Debug)]
pub(crate) struct Closing {
    pub(crate) task: TaskId,
    /// `before_start`, which a stop has ended, or `after_exit`.
    pub(crate) purpose: Purpose,
    pub(crate) begun_at: Moment,
    /// When its time is up.
    pub(crate) ends_at: Moment,
    /// Set when it was ended: from then on its news is not awaited any more.
    pub(crate) lost_at: Option<Moment>,
    pub(crate) exit: Option<Exit>,
    /// The kill it took to end the program.
    pub(crate) killed: Option<Reason>,
    /// What follows if the service is still wanted.
    pub(crate) then: Then,
}

/// What follows when a tree has ended while its service is wanted up.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Then {
    /// It was stopped, and is wanted again since: a fresh start.
    Stop,
    /// It was to be restarted: a fresh start.
    Restart,
    /// A gate was lost, or is back: it starts when its gates hold. What failed before still counts.
    Gates,
    /// It ended by itself, or a probe condemned it: the restart policy decides.
    Policy(Ending),
}

/// An end nobody asked for.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Ending {
    pub(crate) cause: Reason,
    pub(crate) success: bool,
    pub(crate) ran: Duration,
}

/// What may still become of a failed replica by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outlook {
    /// Nothing.
    Final,
    /// Its gates stayed shut for too long; it starts when they open.
    WatchesGates,
    /// The kernel holds what is left of its tree; it goes on when that ends.
    AwaitsTree,
    /// It gave up, and is tried again then.
    Retries { at: Moment },
}

/// A tree that outlived its kill.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) spawn: SpawnId,
    pub(crate) launched: Option<(u32, Moment)>,
    pub(crate) exit: Option<Exit>,
    pub(crate) then: Then,
    /// Its `after_exit`, while that runs.
    pub(crate) after_exit: Option<TaskId>,
}

impl Replica {
    pub(crate) fn new() -> Self {
        Self {
            actual: Actual::Stopped,
            since: Moment::START,
            reason: Reason::NotWanted,
            announced: false,
            restarts: 0,
            again: false,
            last_exit: None,
            tries: Tries::default(),
            status_text: None,
            early: Vec::new(),
            joining: false,
            held: None,
            deadline: None,
        }
    }

    /// The start that is current, if a process of it is or may be there.
    pub(crate) fn spawn(&self) -> Option<SpawnId> {
        match &self.actual {
            Actual::Launching { spawn } => Some(*spawn),
            Actual::Running(running) => Some(running.spawn),
            Actual::Stopping(stopping) => Some(stopping.spawn),
            Actual::Waiting
            | Actual::Preparing { .. }
            | Actual::Closing(_)
            | Actual::Backoff { .. }
            | Actual::Stopped
            | Actual::Completed
            | Actual::Failed(_) => None,
        }
    }

    /// What is to be looked at next, and when.
    pub(crate) fn next_deadline(&self) -> Option<(Moment, DeadlineReason)> {
        match &self.actual {
            Actual::Running(running) => running
                .active_tracks()
                .filter_map(|track| Some((track.deadline()?, DeadlineReason::Probe(track.kind))))
                .min(),
            Actual::Backoff { until } => Some((*until, DeadlineReason::Backoff)),
            Actual::Stopping(stopping) => Some(match stopping.stage {
                Stage::NotLaunched { kill_at } | Stage::BeforeStop { kill_at, .. } => {
                    (kill_at, DeadlineReason::Grace)
                }
                Stage::Asked { kill_at, next_at, .. } if kill_at <= next_at => {
                    (kill_at, DeadlineReason::Grace)
                }
                Stage::Asked { next_at, .. } => (next_at, DeadlineReason::StopStep),
                Stage::Killed { lost_at, .. } => (lost_at, DeadlineReason::Kill),
            }),
            Actual::Closing(closing) => closing.lost_at.map(|lost_at| (lost_at, DeadlineReason::Kill)),
            Actual::Failed(Outlook::Retries { at }) => Some((*at, DeadlineReason::Retry)),
            Actual::Waiting
            | Actual::Preparing { .. }
            | Actual::Launching { .. }
            | Actual::Stopped
            | Actual::Completed
            | Actual::Failed(Outlook::Final | Outlook::WatchesGates | Outlook::AwaitsTree) => None,
        }
    }

    /// Whether it starts as soon as its gates hold.
    pub(crate) fn waits_for_gates(&self) -> bool {
        match self.actual {
            Actual::Waiting | Actual::Failed(Outlook::WatchesGates) => self.held.is_none(),
            Actual::Preparing { .. }
            | Actual::Launching { .. }
            | Actual::Running(_)
            | Actual::Backoff { .. }
            | Actual::Stopping(_)
            | Actual::Closing(_)
            | Actual::Stopped
            | Actual::Completed
            | Actual::Failed(Outlook::Final | Outlook::AwaitsTree | Outlook::Retries { .. }) => false,
        }
    }
}

impl Actual {
    /// The word users see.
    pub(crate) fn state(&self) -> State {
        match self {
            Self::Waiting => State::Waiting,
            Self::Preparing { .. } | Self::Launching { .. } => State::Starting,
            Self::Running(running) => match running.health {
                Health::Starting => State::Starting,
                Health::Ready => State::Ready,
                Health::Unready => State::Unready,
            },
            Self::Backoff { .. } => State::Backoff,
            Self::Stopping(_) | Self::Closing(_) => State::Stopping,
            Self::Stopped => State::Stopped,
            Self::Completed => State::Completed,
            Self::Failed(_) => State::Failed,
        }
    }

    /// The command around its life that it awaits, or that ends with it.
    pub(crate) fn task(&self) -> Option<TaskId> {
        match self {
            Self::Preparing { task, .. } => Some(*task),
            Self::Running(running) => running.after_ready,
            Self::Stopping(stopping) => stopping.stage.task(),
            Self::Closing(closing) => Some(closing.task),
            Self::Waiting
            | Self::Launching { .. }
            | Self::Backoff { .. }
            | Self::Stopped
            | Self::Completed
            | Self::Failed(_) => None,
        }
    }
}

impl Stage {
    pub(crate) fn task(self) -> Option<TaskId> {
        match self {
            Self::BeforeStop { task, .. } => Some(task),
            Self::Asked { task, .. } => task,
            Self::NotLaunched { .. } | Self::Killed { .. } => None,
        }
    }

    /// No more force follows before then.
    pub(crate) fn extend(&mut self, until: Moment) {
        match self {
            Self::NotLaunched { kill_at } | Self::BeforeStop { kill_at, .. } => {
                *kill_at = (*kill_at).max(until);
            }
            Self::Asked { kill_at, next_at, .. } => {
                *kill_at = (*kill_at).max(until);
                *next_at = (*next_at).max(until);
            }
            Self::Killed { .. } => {}
        }
    }

    /// Brings the kill forward to `end`, if it is later.
    pub(crate) fn cut(&mut self, end: Moment) {
        match self {
            Self::NotLaunched { kill_at }
            | Self::BeforeStop { kill_at, .. }
            | Self::Asked { kill_at, .. } => {
                *kill_at = (*kill_at).min(end);
            }
            Self::Killed { .. } => {}
        }
    }
}

impl Running {
    /// Startup alone until it has passed; then the others.
    pub(crate) fn active_tracks(&self) -> impl Iterator<Item = &Track> {
        let holds_back = self.startup_holds_back();
        self.tracks.iter().filter(move |track| (track.kind == ProbeKind::Startup) == holds_back)
    }

    /// As [`Self::active_tracks`].
    pub(crate) fn active_tracks_mut(&mut self) -> impl Iterator<Item = &mut Track> {
        let holds_back = self.startup_holds_back();
        self.tracks.iter_mut().filter(move |track| (track.kind == ProbeKind::Startup) == holds_back)
    }

    /// What keeps it from being ready, where that is something it has yet to say.
    pub(crate) fn awaits(&self) -> Option<Reason> {
        let track = self.active_tracks().find(|track| track.awaited().is_some())?;
        Some(Reason::Awaits { kind: track.kind, what: track.awaited()? })
    }

    /// A watchdog counts once the program has said that it is ready, where it is to say that.
    pub(crate) fn pace_watchdog(&mut self, now: Moment) {
        let is_awaited = |track: &Track| track.kind == ProbeKind::Readiness && track.awaited().is_some();
        let waits = self.tracks.iter().any(is_awaited);
        for track in self.tracks.iter_mut().filter(|track| track.kind == ProbeKind::Liveness) {
            if waits {
                track.hold();
            } else {
                track.let_count(now);
            }
        }
    }

    pub(crate) fn startup_holds_back(&self) -> bool {
        self.tracks.iter().any(|track| track.kind == ProbeKind::Startup && track.verdict != Some(true))
    }
}
