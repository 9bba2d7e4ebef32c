//! Where a program stands in its life: a checked state machine over the four phases. Pure.
//!
//! ```text
//!  initializing        running                                          shutting-down    terminated
//!  starting ──Ready──► running ◄──Done── reloading   (Reload)
//!     │ │                │  ▲ └──Pause──► pausing ──Done──► paused
//!     │ │                │  └──Done── resuming ◄──Continue──┘
//!     │ └───────Stop─────┴──Stop, from each of them ─────────► stopping ──End──► stopped
//!     └─────────End───────────────────────────────────────────────────────────────▲
//! ```

use std::fmt;

use mainstay_types::Phase;

/// Where the program stands; each belongs to one of the four phases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Getting ready.
    Starting,
    /// Does its work.
    Running,
    /// Reads its settings again.
    Reloading,
    /// Comes to a halt.
    Pausing,
    /// Holds still.
    Paused,
    /// Takes its work up again.
    Resuming,
    /// Finishes.
    Stopping,
    /// Has finished.
    Stopped,
}

/// What moves it on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// It does its work from here on.
    Ready,
    /// It begins to read its settings again.
    Reload,
    /// It begins to hold still.
    Pause,
    /// It begins to go on.
    Continue,
    /// What it began is done.
    Done,
    /// It is to finish.
    Stop,
    /// It has finished.
    End,
}

/// A step that is not possible from where the program stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a program that is {standing} cannot {step}")]
pub struct IllegalStep {
    /// Where it stands, and goes on to stand.
    pub standing: Standing,
    /// What was tried.
    pub step: Step,
}

impl Standing {
    /// All, in order.
    pub const ALL: [Self; 8] = [
        Self::Starting,
        Self::Running,
        Self::Reloading,
        Self::Pausing,
        Self::Paused,
        Self::Resuming,
        Self::Stopping,
        Self::Stopped,
    ];

    /// The phase it belongs to.
    #[must_use]
    pub const fn phase(self) -> Phase {
        match self {
            Self::Starting => Phase::Initializing,
            Self::Running | Self::Reloading | Self::Pausing | Self::Paused | Self::Resuming => Phase::Running,
            Self::Stopping => Phase::ShuttingDown,
            Self::Stopped => Phase::Terminated,
        }
    }

    /// Where it stands after `step`.
    ///
    /// # Errors
    /// [`IllegalStep`]: it stays where it is.
    pub const fn after(self, step: Step) -> Result<Self, IllegalStep> {
        match (self, step) {
            (Self::Starting, Step::Ready)
            | (Self::Reloading, Step::Ready | Step::Done)
            | (Self::Resuming, Step::Done) => Ok(Self::Running),
            (Self::Running, Step::Reload) => Ok(Self::Reloading),
            (Self::Running, Step::Pause) => Ok(Self::Pausing),
            (Self::Pausing, Step::Done) => Ok(Self::Paused),
            (Self::Paused, Step::Continue) => Ok(Self::Resuming),
            (
                Self::Starting
                | Self::Running
                | Self::Reloading
                | Self::Pausing
                | Self::Paused
                | Self::Resuming,
                Step::Stop,
            ) => Ok(Self::Stopping),
            (Self::Starting | Self::Stopping, Step::End) => Ok(Self::Stopped),
            (Self::Starting, Step::Reload | Step::Pause | Step::Continue | Step::Done)
            | (Self::Running, Step::Ready | Step::Continue | Step::Done | Step::End)
            | (Self::Reloading, Step::Reload | Step::Pause | Step::Continue | Step::End)
            | (Self::Pausing, Step::Ready | Step::Reload | Step::Pause | Step::Continue | Step::End)
            | (Self::Paused, Step::Ready | Step::Reload | Step::Pause | Step::Done | Step::End)
            | (Self::Resuming, Step::Ready | Step::Reload | Step::Pause | Step::Continue | Step::End)
            | (
                Self::Stopping,
                Step::Ready | Step::Reload | Step::Pause | Step::Continue | Step::Done | Step::Stop,
            )
            | (
                Self::Stopped,
                Step::Ready
                | Step::Reload
                | Step::Pause
                | Step::Continue
                | Step::Done
                | Step::Stop
                | Step::End,
            ) => Err(IllegalStep { standing: self, step }),
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Reloading => "reloading",
            Self::Pausing => "pausing",
            Self::Paused => "paused",
            Self::Resuming => "resuming",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ready => "become ready",
            Self::Reload => "reload",
            Self::Pause => "pause",
            Self::Continue => "go on",
            Self::Done => "be done with what it began",
            Self::Stop => "begin to stop",
            Self::End => "have ended",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [Step; 7] =
        [Step::Ready, Step::Reload, Step::Pause, Step::Continue, Step::Done, Step::Stop, Step::End];

    #[test]
    fn these_steps_are_possible_and_no_other() {
        use Standing::*;
        let legal = [
            (Starting, Step::Ready, Running),
            (Starting, Step::Stop, Stopping),
            (Starting, Step::End, Stopped),
            (Running, Step::Reload, Reloading),
            (Running, Step::Pause, Pausing),
            (Running, Step::Stop, Stopping),
            (Reloading, Step::Ready, Running),
            (Reloading, Step::Done, Running),
            (Reloading, Step::Stop, Stopping),
            (Pausing, Step::Done, Paused),
            (Pausing, Step::Stop, Stopping),
            (Paused, Step::Continue, Resuming),
            (Paused, Step::Stop, Stopping),
            (Resuming, Step::Done, Running),
            (Resuming, Step::Stop, Stopping),
            (Stopping, Step::End, Stopped),
        ];
        for standing in Standing::ALL {
            for step in STEPS {
                let wanted = legal.iter().find(|(from, by, _)| (*from, *by) == (standing, step));
                let wanted = wanted.map_or(Err(IllegalStep { standing, step }), |(_, _, to)| Ok(*to));
                assert_eq!(standing.after(step), wanted, "{standing} {step}");
            }
        }
    }

    #[test]
    fn phases_only_go_forward_and_none_but_the_first_may_be_left_out() {
        for from in Standing::ALL {
            for to in STEPS.iter().filter_map(|step| from.after(*step).ok()) {
                let (from, to) = (from.phase(), to.phase());
                assert!(from <= to, "{from} {to}");
                let skips = (from, to) == (Phase::Running, Phase::Terminated);
                assert!(!skips, "{from} {to}");
            }
        }
    }

    #[test]
    fn an_impossible_step_says_so() {
        let error = Standing::Stopped.after(Step::Ready).unwrap_err();
        assert_eq!(error.to_string(), "a program that is stopped cannot become ready");
    }
}
