//! What a service manager is to be told of what happens in a program: systemd in the words of sd_notify(3), the SCM of Windows
//! as its status. Pure.

use std::time::Duration;

use mainstay_os::{ScmControls, ScmState, ScmStatus};

use crate::standing::Standing;

/// Longest line of status, in characters; `systemctl status` shows one line.
const MAX_STATUS_CHARS: usize = 400;

/// Something to tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum News<'a> {
    /// It stands elsewhere now.
    Became {
        from: Standing,
        to: Standing,
        /// How long this may take, where it is on the way to something.
        within: Duration,
        /// With what code it ended; zero when all went well.
        exit_code: u8,
    },
    /// One line about what it does.
    Status(&'a str),
    /// What takes long goes on, and there will be another word within this time.
    Progress { text: &'a str, expected: Duration },
    /// It does not hang.
    Alive,
}

/// What systemd is told, in one message: it must not see one half of it without the other. `standing` is the present one.
pub(crate) fn systemd(news: News<'_>, standing: Standing, monotonic_micros: u64) -> Option<String> {
    match news {
        News::Became { from, to, within, exit_code } => match to {
            Standing::Running => match from {
                Standing::Resuming => Some("STATUS=running".to_owned()),
                Standing::Starting
                | Standing::Running
                | Standing::Reloading
                | Standing::Pausing
                | Standing::Paused
                | Standing::Stopping
                | Standing::Stopped => Some("READY=1".to_owned()),
            },
            // Of one message, as systemd.service(5), "notify-reload", asks for.
            Standing::Reloading => Some(format!("RELOADING=1\nMONOTONIC_USEC={monotonic_micros}")),
            // systemd knows no pause.
            Standing::Paused => Some("STATUS=paused".to_owned()),
            Standing::Stopping => Some(format!("STOPPING=1\n{}", extend(within))),
            Standing::Stopped if exit_code != 0 => Some(format!("STATUS=failed with code {exit_code}")),
            Standing::Stopped | Standing::Starting | Standing::Pausing | Standing::Resuming => None,
        },
        News::Status(text) => Some(format!("STATUS={}", one_line(text))),
        News::Progress { text, expected } => {
            let status = format!("STATUS={}", one_line(text));
            match standing {
                Standing::Starting | Standing::Reloading | Standing::Stopping => {
                    Some(format!("{status}\n{}", extend(expected)))
                }
                // Here it would lengthen the time the service may live (RuntimeMaxSec=).
                Standing::Running | Standing::Pausing | Standing::Paused | Standing::Resuming => Some(status),
                Standing::Stopped => None,
            }
        }
        News::Alive => Some("WATCHDOG=1".to_owned()),
    }
}

fn extend(within: Duration) -> String {
    format!("EXTEND_TIMEOUT_USEC={}", within.as_micros())
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_STATUS_CHARS).collect()
}

/// What the SCM was told last. What a status has to hold in which state:
/// <https://learn.microsoft.com/en-us/windows/win32/api/winsvc/ns-winsvc-service_status>.
#[derive(Debug)]
pub(crate) struct ScmReport {
    can_pause: bool,
    last: ScmStatus,
}

impl ScmReport {
    /// The first word, which has to come at once, is [`Self::last`].
    pub(crate) const fn new(can_pause: bool, start_within: Duration) -> Self {
        let last = ScmStatus {
            state: ScmState::StartPending,
            accepted: ScmControls { stop: false, pause_continue: false, news: false },
            exit_code: 0,
            checkpoint: 1,
            wait_hint: start_within,
        };
        Self { can_pause, last }
    }

    /// What was told last.
    pub(crate) const fn last(&self) -> ScmStatus {
        self.last
    }

    /// The next status, when there is one to tell.
    pub(crate) fn tell(&mut self, news: News<'_>) -> Option<ScmStatus> {
        let told = match news {
            News::Became { to, within, exit_code, .. } => self.status(to, within, exit_code)?,
            News::Progress { expected, .. } if is_pending(self.last.state) => {
                ScmStatus { checkpoint: self.last.checkpoint + 1, wait_hint: expected, ..self.last }
            }
            News::Progress { .. } | News::Status(_) | News::Alive => return None,
        };
        self.last = told;
        Some(told)
    }

    fn status(&self, to: Standing, within: Duration, exit_code: u8) -> Option<ScmStatus> {
        let state = match to {
            Standing::Starting => ScmState::StartPending,
            Standing::Running => ScmState::Running,
            Standing::Pausing => ScmState::PausePending,
            Standing::Paused => ScmState::Paused,
            Standing::Resuming => ScmState::ContinuePending,
            Standing::Stopping => ScmState::StopPending,
            Standing::Stopped => ScmState::Stopped,
            // It knows no such state: the service runs.
            Standing::Reloading => return None,
        };
        if state == self.last.state {
            return None;
        }
        let pending = is_pending(state);
        Some(ScmStatus {
            state,
            accepted: self.accepted(state),
            exit_code: u32::from(exit_code),
            checkpoint: u32::from(pending),
            wait_hint: if pending { within } else { Duration::ZERO },
        })
    }

    /// A service that starts or stops takes no control: it could not follow.
    const fn accepted(&self, state: ScmState) -> ScmControls {
        let takes = !matches!(state, ScmState::StartPending | ScmState::StopPending | ScmState::Stopped);
        let settled = matches!(state, ScmState::Running | ScmState::Paused);
        ScmControls { stop: takes, pause_continue: settled && self.can_pause, news: takes }
    }
}

const fn is_pending(state: ScmState) -> bool {
    match state {
        ScmState::StartPending
        | ScmState::PausePending
        | ScmState::ContinuePending
        | ScmState::StopPending => true,
        ScmState::Running | ScmState::Paused | ScmState::Stopped => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Standing::*;

    const WITHIN: Duration = Duration::from_secs(9);

    fn became(from: Standing, to: Standing) -> News<'static> {
        News::Became { from, to, within: WITHIN, exit_code: 0 }
    }

    #[test]
    fn systemd_is_told_this() {
        let failed = News::Became { from: Stopping, to: Stopped, within: WITHIN, exit_code: 3 };
        let progress = News::Progress { text: "reading\nmuch", expected: WITHIN };
        let table: [(News<'_>, Standing, Option<&str>); 15] = [
            (became(Starting, Running), Running, Some("READY=1")),
            (became(Running, Reloading), Reloading, Some("RELOADING=1\nMONOTONIC_USEC=42")),
            (became(Reloading, Running), Running, Some("READY=1")),
            (became(Running, Pausing), Pausing, None),
            (became(Pausing, Paused), Paused, Some("STATUS=paused")),
            (became(Paused, Resuming), Resuming, None),
            (became(Resuming, Running), Running, Some("STATUS=running")),
            (became(Running, Stopping), Stopping, Some("STOPPING=1\nEXTEND_TIMEOUT_USEC=9000000")),
            (became(Stopping, Stopped), Stopped, None),
            (failed, Stopped, Some("STATUS=failed with code 3")),
            (News::Status("3 clients"), Running, Some("STATUS=3 clients")),
            (progress, Starting, Some("STATUS=reading much\nEXTEND_TIMEOUT_USEC=9000000")),
            (progress, Running, Some("STATUS=reading much")),
            (progress, Stopped, None),
            (News::Alive, Running, Some("WATCHDOG=1")),
        ];
        for (news, standing, told) in table {
            assert_eq!(systemd(news, standing, 42).as_deref(), told, "{news:?}");
        }
        let long = systemd(News::Status(&"x".repeat(1000)), Running, 0).unwrap();
        assert_eq!(long.len(), "STATUS=".len() + MAX_STATUS_CHARS);
    }

    #[test]
    fn the_scm_is_told_this() {
        const NONE: ScmControls = ScmControls { stop: false, pause_continue: false, news: false };
        const ON_THE_WAY: ScmControls = ScmControls { stop: true, pause_continue: false, news: true };
        const ALL: ScmControls = ScmControls { stop: true, pause_continue: true, news: true };
        let mut report = ScmReport::new(true, WITHIN);
        let first = report.last();
        assert_eq!((first.state, first.accepted), (ScmState::StartPending, NONE));
        assert_eq!((first.checkpoint, first.wait_hint), (1, WITHIN));
        let later = Duration::from_secs(20);
        let progress = News::Progress { text: "x", expected: later };
        let failed = News::Became { from: Stopping, to: Stopped, within: WITHIN, exit_code: 3 };
        type Row = (News<'static>, Option<(ScmState, ScmControls, u32, Duration, u32)>);
        let table: [Row; 14] = [
            (progress, Some((ScmState::StartPending, NONE, 2, later, 0))),
            (progress, Some((ScmState::StartPending, NONE, 3, later, 0))),
            (News::Status("x"), None),
            (became(Starting, Running), Some((ScmState::Running, ALL, 0, Duration::ZERO, 0))),
            (progress, None),
            (News::Alive, None),
            (became(Running, Reloading), None),
            (became(Reloading, Running), None),
            (became(Running, Pausing), Some((ScmState::PausePending, ON_THE_WAY, 1, WITHIN, 0))),
            (became(Pausing, Paused), Some((ScmState::Paused, ALL, 0, Duration::ZERO, 0))),
            (became(Paused, Resuming), Some((ScmState::ContinuePending, ON_THE_WAY, 1, WITHIN, 0))),
            (became(Resuming, Running), Some((ScmState::Running, ALL, 0, Duration::ZERO, 0))),
            (became(Running, Stopping), Some((ScmState::StopPending, NONE, 1, WITHIN, 0))),
            (failed, Some((ScmState::Stopped, NONE, 0, Duration::ZERO, 3))),
        ];
        for (news, told) in table {
            let status = report.tell(news);
            let seen = status.map(|s| (s.state, s.accepted, s.checkpoint, s.wait_hint, s.exit_code));
            assert_eq!(seen, told, "{news:?}");
        }
        let mut report = ScmReport::new(false, WITHIN);
        let running = report.tell(became(Starting, Running)).unwrap();
        assert!(!running.accepted.pause_continue, "only what can pause says so");
    }
}
