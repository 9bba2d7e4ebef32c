//! What the simulated programs say about themselves: when it is wanted, when it is not, too early and too late.

use super::{Check, Duration, Episode, Event, Notification, ProbeKind, ReplicaId, SpawnId, Subject, probe};

/// Long after most programs have ended: words of old starts come too.
const LATEST_WORD: Duration = Duration::from_secs(60);
/// Fewer than the machine keeps of what is said before the news of a launch.
const CHATTER: u64 = 4;

impl<S: Subject> Episode<S> {
    /// Everything that a start will say, but for what feeds its watchdog.
    pub(super) fn plan_words(&mut self, replica: &ReplicaId, spawn: SpawnId) {
        let Some(service) = self.stack.service(replica.service.as_str()).cloned() else { return };
        for kind in [ProbeKind::Startup, ProbeKind::Readiness] {
            let Some(it) = probe(&service, kind) else { continue };
            // Mostly in time, but now and then later, or never.
            let longest = if self.random.one_in(2) {
                Duration::from_secs(1)
            } else {
                it.initial_delay + it.period * (it.failure_threshold + 1)
            };
            match it.check {
                Check::Ask(_) => {}
                _ if self.random.one_in(4) => {}
                Check::Log(_) => {
                    self.word_within(longest, Event::LogMatched { spawn, kind, line: "up".to_owned() });
                }
                Check::Notify | Check::NotifyFd(_) => self.say_within(longest, spawn, Notification::Ready),
            }
        }
        for _ in 0..self.random.below(CHATTER) {
            let more = self.random.duration(Duration::ZERO, Duration::from_secs(20));
            let what = match self.random.below(16) {
                0..2 => Notification::Ready,
                2..4 => Notification::Reloading,
                4 => Notification::Stopping,
                5 => Notification::WatchdogTrigger,
                6 => {
                    Notification::WatchdogInterval(if self.random.one_in(2) { Duration::ZERO } else { more })
                }
                7..11 => Notification::ExtendTimeout(more),
                11..13 => Notification::Watchdog,
                13 => {
                    let pid = 1 + self.random.below(9999) as u32;
                    self.word_within(LATEST_WORD, Event::MainChanged { spawn, pid });
                    continue;
                }
                _ => Notification::Status("at work".to_owned()),
            };
            let longest = if self.random.one_in(2) { Duration::from_secs(2) } else { LATEST_WORD };
            self.say_within(longest, spawn, what);
        }
        if let Some(liveness) = service.liveness.filter(|it| it.check == Check::Notify)
            && !self.random.one_in(4)
        {
            self.feeders.insert(spawn, liveness.period * liveness.failure_threshold);
        }
    }

    /// A program that feeds its watchdog does so again in time.
    pub(super) fn feed(&mut self, spawn: SpawnId) {
        if let Some(interval) = self.feeders.get(&spawn) {
            let soonest = self.now + *interval / 2;
            self.questions += 1;
            let moment = soonest + self.random.duration(Duration::ZERO, *interval / 3);
            let event = Event::Notified { spawn, what: Notification::Watchdog };
            self.answers.insert((moment, self.questions), event);
        }
    }

    fn say_within(&mut self, longest: Duration, spawn: SpawnId, what: Notification) {
        self.word_within(longest, Event::Notified { spawn, what });
    }

    fn word_within(&mut self, longest: Duration, event: Event) {
        self.questions += 1;
        let moment = self.now + self.random.duration(Duration::ZERO, longest);
        self.answers.insert((moment, self.questions), event);
    }
}
