//! One replica: what it actually is. What is wanted of it is a field of its service.
//!
//! ```text
//!                gates hold            Launched               verdicts
//!  Waiting ───────────────► Launching ─────────► Running(Starting ─► Ready ◄─► Unready)
//!   ▲  ▲                      │ LaunchFailed        │ Exited        │ stop, restart, probe failed,
//!   │  │ gates open           ▼                     ▼               ▼ leftovers
//!   │ Failed(WatchesGates)  policy ◄──────────── policy ◄──────── Stopping ──► Stopped (a stop was asked for)
//!   │                         │                                     │  ▲
//!   │        until            │                          after kill │  │ the rest of the tree ends late
//!   └────────────── Backoff ◄─┼─► Completed, Stopped, Failed(Final) ▼  │
//!                             └───── Failed(AwaitsTree), Stopped: left behind
//! ```
//!
//! Stopping goes through `NotLaunched` (the launch is in flight) or `Asked` (signal sent, the grace runs) to
//! `Killed`. From every state but Stopping, a stop of something that has no process leads to Stopped at once.

use std::time::Duration;

use mainstay_types::{Exit, Moment, ProbeKind, SpawnId, State};

use crate::probe::Track;
use crate::retry::Tries;
use crate::{DeadlineReason, Event, Reason};

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
    /// A tree that outlived its kill; nothing is launched while it is there.
    pub(crate) held: Option<Held>,
    /// As it stands in the machine's index of deadlines.
    pub(crate) deadline: Option<(Moment, DeadlineReason)>,
}

/// What a replica is doing.
#[derive(Clone, Debug)]
pub(crate) enum Actual {
    /// Its gates do not all hold, or are being checked.
    Waiting,
    /// Its launch is in flight.
    Launching { spawn: SpawnId },
    /// Its program runs.
    Running(Running),
    /// It waits for its next try.
    Backoff { until: Moment },
    /// It is on its way down.
    Stopping(Stopping),
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
    /// What follows if the service is still wanted.
    pub(crate) then: Then,
}

/// How much force is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// The launch was in flight when the stop came: the signal follows when it runs.
    NotLaunched { kill_at: Moment },
    /// The signal was sent.
    Asked { kill_at: Moment },
    /// The tree was killed, `after` this time of grace if it had one.
    Killed { lost_at: Moment, after: Option<Duration> },
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
}

/// A tree that outlived its kill.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) spawn: SpawnId,
    pub(crate) launched: Option<(u32, Moment)>,
    pub(crate) exit: Option<Exit>,
    pub(crate) then: Then,
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
                Stage::NotLaunched { kill_at } | Stage::Asked { kill_at } => (kill_at, DeadlineReason::Grace),
                Stage::Killed { lost_at, .. } => (lost_at, DeadlineReason::Kill),
            }),
            Actual::Waiting
            | Actual::Launching { .. }
            | Actual::Stopped
            | Actual::Completed
            | Actual::Failed(_) => None,
        }
    }

    /// Whether it starts as soon as its gates hold.
    pub(crate) fn waits_for_gates(&self) -> bool {
        match self.actual {
            Actual::Waiting | Actual::Failed(Outlook::WatchesGates) => self.held.is_none(),
            Actual::Launching { .. }
            | Actual::Running(_)
            | Actual::Backoff { .. }
            | Actual::Stopping(_)
            | Actual::Stopped
            | Actual::Completed
            | Actual::Failed(Outlook::Final | Outlook::AwaitsTree) => false,
        }
    }
}

impl Actual {
    /// The word users see.
    pub(crate) fn state(&self) -> State {
        match self {
            Self::Waiting => State::Waiting,
            Self::Launching { .. } => State::Starting,
            Self::Running(running) => match running.health {
                Health::Starting => State::Starting,
                Health::Ready => State::Ready,
                Health::Unready => State::Unready,
            },
            Self::Backoff { .. } => State::Backoff,
            Self::Stopping(_) => State::Stopping,
            Self::Stopped => State::Stopped,
            Self::Completed => State::Completed,
            Self::Failed(_) => State::Failed,
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

    pub(crate) fn startup_holds_back(&self) -> bool {
        self.tracks.iter().any(|track| track.kind == ProbeKind::Startup && track.verdict != Some(true))
    }
}
