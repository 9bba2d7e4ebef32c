//! Why a replica is in its state: data first, words from one place.

use std::fmt;
use std::time::Duration;

use mainstay_config::{Lose, StopAction};
use mainstay_types::{Exit, LaunchFailure, ProbeFailure, ProbeKind, ServiceName, State, format_duration};

use crate::Purpose;

/// Why a replica is in its state.
#[derive(Clone, PartialEq, Debug)]
pub enum Reason {
    /// Not asked for yet (autostart is off).
    NotWanted,
    /// The stack or this service is being started.
    Requested,
    /// A service it needs has not come far enough.
    WaitingForService {
        /// Which.
        service: ServiceName,
        /// What it must be, in the file's word.
        needed: &'static str,
        /// What it is.
        is: State,
    },
    /// Something outside is not there yet.
    WaitingForGate {
        /// The gate in words.
        gate: String,
        /// Its last answer; `None` before the first.
        answer: Option<ProbeFailure>,
        /// Checks so far.
        tries: u32,
        /// Until it is checked again; `None` while it is being checked.
        next: Option<Duration>,
    },
    /// A gate stayed shut for longer than its `within`.
    GateTimedOut {
        /// The gate in words.
        gate: String,
        /// The time allowed.
        within: Duration,
        /// Its last answer.
        answer: Option<String>,
    },
    /// All gates hold; the program is being started.
    GatesOpen,
    /// The program runs, and no probe says more.
    Running,
    /// The program runs, and has yet to say that it has come so far.
    Awaits {
        /// Which probe goes by it.
        kind: ProbeKind,
        /// What it has to say.
        what: String,
    },
    /// A probe passed.
    ProbePassed {
        /// Which.
        kind: ProbeKind,
        /// Its answer.
        answer: String,
    },
    /// A probe failed as often as its threshold.
    ProbeFailed {
        /// Which.
        kind: ProbeKind,
        /// Failures in a row; 0 for a probe that is never asked, where the answer says it all.
        failures: u32,
        /// The last answer.
        answer: ProbeFailure,
    },
    /// The program could not be started.
    LaunchFailed(LaunchFailure),
    /// The program ended, nobody asked for it.
    Exited {
        /// How.
        exit: Exit,
        /// How long it ran.
        ran: Duration,
        /// Descendants that were still there (it put itself into the background).
        leftovers: u32,
    },
    /// As the service's restart policy says, it is started again after this wait.
    Restarting {
        /// What happened.
        cause: Box<Reason>,
        /// Until the next start.
        wait: Duration,
        /// Failures counted within the window.
        failures: u32,
    },
    /// The restart limit is reached.
    GaveUp {
        /// The first failure of the window, which the others followed from more often than not.
        first: Box<Reason>,
        /// What happened last.
        cause: Box<Reason>,
        /// Failures counted.
        failures: u32,
        /// The window.
        within: Duration,
        /// Whether it had given up before, and was tried again since.
        again: bool,
        /// Until it is tried again; `None` leaves it failed.
        retry_after: Option<Duration>,
    },
    /// It is tried again, this long after it gave up.
    Retried {
        /// The `retry_after` of its policy.
        after: Duration,
    },
    /// A command around its life runs.
    HookRuns {
        /// Which.
        purpose: Purpose,
        /// The time allowed.
        timeout: Duration,
    },
    /// Its restart policy does not start it again after this.
    NotRestarted(Box<Reason>),
    /// Somebody asked for a stop.
    StopRequested,
    /// Somebody asked for a restart.
    RestartRequested,
    /// A gate that is kept no longer holds.
    GateLost {
        /// The gate in words.
        gate: String,
        /// The answer that decided.
        answer: String,
        /// What follows.
        lose: Lose,
    },
    /// A gate that was lost holds again, so the service is restarted.
    GateBack {
        /// The gate in words.
        gate: String,
    },
    /// Its service reloads by a rolling restart, and it is its turn.
    RollingRestart,
    /// It is stopped, and started again with what a changed file says.
    ConfigChanged,
    /// A changed file no longer has its service.
    Removed,
    /// A changed file has fewer replicas of its service.
    Retired,
    /// A service it depends on is being stopped.
    DependencyStops(ServiceName),
    /// A step of its stop was taken.
    Asked {
        /// Why the command before it failed, if it is taken because of that, beginning with what failed.
        failed: Option<String>,
        /// What was done; `None` when no step is left.
        step: Option<StopAction>,
        /// The time before the next step, or the kill.
        wait: Duration,
    },
    /// It did not end in time and was killed.
    Killed {
        /// The time it was given.
        after: Duration,
        /// What was done to make it end before.
        tried: Vec<String>,
    },
    /// Even the kill did not end it in time: the kernel still holds some of its processes.
    LeftBehind,
    /// Stopped, and this is how it ended.
    Stopped(Option<Exit>),
    /// The oneshot did its work.
    Completed,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWanted => f.write_str("not started yet: autostart is off"),
            Self::Requested => f.write_str("start requested"),
            Self::WaitingForService { service, needed, is } => {
                write!(f, "waiting for {service} to be {needed}: it {}", state_words(*is))
            }
            Self::WaitingForGate { gate, answer: None, .. } => write!(f, "waiting for {gate}"),
            Self::WaitingForGate { gate, answer: Some(answer), tries, next } => {
                write!(f, "waiting for {gate}: {answer}, {}", count(*tries, "try", "tries"))?;
                match next {
                    Some(Duration::ZERO) => f.write_str(", next now"),
                    Some(next) => write!(f, ", next in {}", format_duration(round_up(*next))),
                    None => Ok(()),
                }
            }
            Self::GateTimedOut { gate, within, answer } => {
                write!(f, "{gate} did not hold within {}", format_duration(*within))?;
                answer.as_ref().map_or(Ok(()), |answer| write!(f, ": {answer}"))
            }
            Self::GatesOpen => f.write_str("everything it needs is there"),
            Self::Running => f.write_str("its program runs"),
            Self::ProbePassed { kind, answer } => write!(f, "{kind} probe passed: {answer}"),
            Self::Awaits { what, .. } => write!(f, "waiting for {what}"),
            Self::ProbeFailed { kind, failures: 0, answer } => write!(f, "{kind} probe failed: {answer}"),
            Self::ProbeFailed { kind, failures, answer } => {
                write!(f, "{kind} probe failed {}: {answer}", count(*failures, "time", "times"))
            }
            Self::LaunchFailed(failure) => failure.fmt(f),
            Self::Exited { exit, ran, leftovers } => {
                write!(f, "it {exit} after {}", format_duration(*ran))?;
                if *leftovers > 0 {
                    let left = count(*leftovers, "process", "processes");
                    write!(
                        f,
                        " and left {left} behind: did it put itself into the background? Run it in the foreground"
                    )?;
                }
                Ok(())
            }
            Self::Restarting { cause, wait, .. } => {
                write!(f, "{cause}; next start in {}", format_duration(*wait))
            }
            Self::GaveUp { first, cause, failures, within, again, retry_after } => {
                write!(
                    f,
                    "gave up {}after {} within {}: ",
                    if *again { "again " } else { "" },
                    count(*failures, "failure", "failures"),
                    format_duration(*within)
                )?;
                if first.is_like(cause) {
                    write!(f, "{first}")?;
                } else {
                    write!(f, "first {first}; last {cause}")?;
                }
                match retry_after {
                    Some(wait) => write!(f, "; next try in {}", format_duration(*wait)),
                    None => Ok(()),
                }
            }
            Self::Retried { after } => write!(f, "tried again {} after it gave up", format_duration(*after)),
            Self::HookRuns { purpose, timeout } => {
                write!(f, "its {} runs, {} to end", purpose.as_str(), format_duration(*timeout))
            }
            Self::NotRestarted(cause) => write!(f, "{cause}; its restart policy does not start it again"),
            Self::StopRequested => f.write_str("stop requested"),
            Self::RestartRequested => f.write_str("restart requested"),
            Self::RollingRestart => f.write_str("rolling restart"),
            Self::ConfigChanged => f.write_str("its configuration has changed"),
            Self::Removed => f.write_str("it is no longer in the file"),
            Self::Retired => f.write_str("the file has fewer replicas now"),
            Self::GateLost { gate, answer, lose: Lose::Ignore | Lose::Stop } => {
                write!(f, "lost {gate}: {answer}")
            }
            Self::GateLost { gate, answer, lose: Lose::Restart } => {
                write!(f, "lost {gate}: {answer}; restarts when it is back")
            }
            Self::GateBack { gate } => write!(f, "{gate} is back"),
            Self::DependencyStops(service) => write!(f, "{service}, which it needs, is being stopped"),
            Self::Asked { failed, step, wait } => {
                if let Some(failed) = failed {
                    write!(f, "{failed}; ")?;
                }
                match step {
                    Some(StopAction::Signal(signal)) => write!(f, "{signal} sent, ")?,
                    Some(StopAction::Command(_)) => f.write_str("its stop command runs, ")?,
                    None => {}
                }
                write!(f, "{} to end", format_duration(*wait))
            }
            Self::Killed { after, tried } => {
                write!(f, "did not end within {}", format_duration(*after))?;
                if !tried.is_empty() {
                    write!(f, " after {}", tried.join(", "))?;
                }
                f.write_str(": killed with all its processes")
            }
            Self::LeftBehind => f.write_str("killed, but the kernel still holds some of its processes"),
            Self::Stopped(None) => f.write_str("stopped"),
            Self::Stopped(Some(exit)) => write!(f, "stopped: it {exit}"),
            Self::Completed => f.write_str("completed: it exited with code 0"),
        }
    }
}

impl Reason {
    /// Whether both tell of the same failure, apart from what differs every time (how long it ran, the text of an
    /// answer).
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Exited { exit, leftovers, .. },
                Self::Exited { exit: other_exit, leftovers: other_leftovers, .. },
            ) => exit == other_exit && (*leftovers == 0) == (*other_leftovers == 0),
            (
                Self::ProbeFailed { kind, answer, .. },
                Self::ProbeFailed { kind: other_kind, answer: other_answer, .. },
            ) => kind == other_kind && std::mem::discriminant(answer) == std::mem::discriminant(other_answer),
            (one, other) => one == other,
        }
    }
}

/// What a service in this state does, after "it".
pub(crate) fn state_words(state: State) -> &'static str {
    match state {
        State::Waiting => "is waiting",
        State::Starting => "is starting",
        State::Ready => "is ready",
        State::Unready => "is not ready any more",
        State::Backoff => "waits for its next start",
        State::Stopping => "is stopping",
        State::Stopped => "is stopped",
        State::Completed => "has completed",
        State::Failed => "has failed",
    }
}

/// As exact as a person who waits wants it: whole seconds, or tenths of the last one.
fn round_up(wait: Duration) -> Duration {
    let step_ms = if wait > Duration::from_secs(1) { 1000 } else { 100 };
    let ms = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    Duration::from_millis(ms.div_ceil(step_ms).saturating_mul(step_ms))
}

fn count(number: u32, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
