//! What follows failures: how long to wait before the next try, and when to stop trying.

use std::collections::VecDeque;
use std::time::Duration;

use mainstay_config::{Backoff, GiveUp, RestartPolicy};
use mainstay_types::Moment;

use crate::{Reason, SplitMix64};

/// The memory of one replica's failures; a command from outside begins a fresh one.
#[derive(Clone, Default, Debug)]
pub(crate) struct Tries {
    /// The failures that may still count, oldest first; at most `give_up.failures` of them.
    failures: VecDeque<(Moment, Reason)>,
    /// The `n` of `first * factor^n`: restarts since the last run that lasted `reset_after`.
    exponent: u32,
    /// It gave up before, and was tried again; forgotten after a run that lasted `reset_after`.
    gave_up: bool,
}

/// What the policy says after one more failure.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Verdict {
    /// Start again after `wait`; `failures` are within the window, this one included.
    Again { wait: Duration, failures: u32 },
    /// `failures` within `within` are enough, and the `first` of them is what to look at. `again` if it had given up
    /// before.
    GiveUp { first: Reason, failures: u32, within: Duration, again: bool, retry_after: Option<Duration> },
}

impl Tries {
    /// A fresh set, of one that gave up.
    pub(crate) fn after_giving_up() -> Self {
        Self { gave_up: true, ..Self::default() }
    }

    /// Counts one more failure at `now`, of a run that lasted `ran`.
    pub(crate) fn fail(
        &mut self,
        policy: &RestartPolicy,
        cause: &Reason,
        ran: Duration,
        now: Moment,
        random: &mut SplitMix64,
    ) -> Verdict {
        if ran >= policy.backoff.reset_after {
            self.exponent = 0;
            self.gave_up = false;
        }
        let failures = match policy.give_up {
            Some(limit) => {
                let failures = self.count(limit, cause, now);
                if failures >= limit.failures {
                    let first =
                        self.failures.front().map_or_else(|| cause.clone(), |(_, first)| first.clone());
                    let GiveUp { within, retry_after, .. } = limit;
                    return Verdict::GiveUp { first, failures, within, again: self.gave_up, retry_after };
                }
                failures
            }
            None => self.exponent.saturating_add(1),
        };
        let wait = wait(&policy.backoff, self.exponent, random.next_ratio());
        self.exponent = self.exponent.saturating_add(1);
        Verdict::Again { wait, failures }
    }

    /// Adds `now` to the sliding window and counts what is in it. A failure exactly `within` ago still counts.
    fn count(&mut self, limit: GiveUp, cause: &Reason, now: Moment) -> u32 {
        self.failures.push_back((now, cause.clone()));
        while self.failures.front().is_some_and(|(oldest, _)| now.since(*oldest) > limit.within) {
            self.failures.pop_front();
        }
        u32::try_from(self.failures.len()).unwrap_or(u32::MAX)
    }
}

/// `first * factor^n`, at most `max`, times a factor of `1 ± jitter`, and again at most `max`: the ceiling is a
/// promise. `ratio` in `[0, 1)` picks the place within the jitter.
fn wait(backoff: &Backoff, exponent: u32, ratio: f64) -> Duration {
    if backoff.first.is_zero() {
        // Zero times a factor that has grown to infinity would be no number.
        return Duration::ZERO;
    }
    let max = backoff.max.max(backoff.first);
    let exponent = i32::try_from(exponent).unwrap_or(i32::MAX);
    let grown = backoff.first.as_secs_f64() * backoff.factor.max(1.0).powi(exponent);
    let spread = 1.0 + backoff.jitter.clamp(0.0, 1.0) * (2.0 * ratio - 1.0);
    let seconds = grown.min(max.as_secs_f64()) * spread;
    Duration::try_from_secs_f64(seconds).unwrap_or(max).min(max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn backoff(first_ms: u64, factor: f64, max_ms: u64, jitter: f64) -> Backoff {
        Backoff {
            first: Duration::from_millis(first_ms),
            factor,
            max: Duration::from_millis(max_ms),
            jitter,
            reset_after: Duration::from_secs(60),
        }
    }

    fn policy(backoff: Backoff, give_up: Option<(u32, u64)>) -> RestartPolicy {
        RestartPolicy {
            when: mainstay_config::RestartWhen::Always,
            backoff,
            give_up: give_up.map(|(failures, within_ms)| GiveUp {
                failures,
                within: Duration::from_millis(within_ms),
                retry_after: None,
            }),
        }
    }

    fn at(ms: u64) -> Moment {
        Moment::after_start(Duration::from_millis(ms))
    }

    #[test]
    fn doubles_up_to_the_ceiling() {
        let waits: Vec<u128> =
            (0..6).map(|n| wait(&backoff(200, 2.0, 3000, 0.0), n, 0.5).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3000, 3000]);
    }

    #[test]
    fn a_first_wait_of_zero_stays_zero_however_often() {
        assert_eq!(wait(&backoff(0, 100.0, 3000, 1.0), u32::MAX, 0.9), Duration::ZERO);
    }

    #[test]
    fn a_long_run_puts_the_wait_back_to_the_first() {
        let mut tries = Tries::default();
        let policy = policy(backoff(100, 2.0, 10_000, 0.0), None);
        let mut random = SplitMix64::new(1);
        let mut wait_after = |ran: u64| match tries.fail(
            &policy,
            &Reason::Running,
            Duration::from_secs(ran),
            Moment::START,
            &mut random,
        ) {
            Verdict::Again { wait, .. } => wait.as_millis(),
            Verdict::GiveUp { .. } => panic!("there is no limit"),
        };
        assert_eq!([wait_after(1), wait_after(59), wait_after(60), wait_after(1)], [100, 200, 100, 200]);
    }

    #[test]
    fn a_limit_of_one_makes_the_first_failure_final() {
        let verdict = Tries::default().fail(
            &policy(backoff(1, 1.0, 1, 0.0), Some((1, 1000))),
            &Reason::Running,
            Duration::ZERO,
            at(0),
            &mut SplitMix64::new(1),
        );
        let (within, first) = (Duration::from_secs(1), Reason::Running);
        assert_eq!(verdict, Verdict::GiveUp { first, failures: 1, within, again: false, retry_after: None });
    }

    proptest! {
        #[test]
        fn the_wait_keeps_to_its_bounds(
            first in 1u64..10_000, more in 0u64..100_000, factor in 1.0f64..100.0, jitter in 0.0f64..=1.0,
            exponent in any::<u32>(), ratio in 0.0f64..1.0,
        ) {
            let backoff = backoff(first, factor, first + more, jitter);
            let got = wait(&backoff, exponent, ratio).as_secs_f64();
            let exponent = i32::try_from(exponent).unwrap_or(i32::MAX);
            let middle = (backoff.first.as_secs_f64() * factor.powi(exponent)).min(backoff.max.as_secs_f64());
            prop_assert!(got <= backoff.max.as_secs_f64());
            prop_assert!(got >= middle * (1.0 - jitter) - 1e-6, "{got} below {middle} - {jitter}");
            prop_assert!(got <= middle * (1.0 + jitter) + 1e-6, "{got} above {middle} + {jitter}");
        }

        #[test]
        fn it_gives_up_exactly_when_the_window_is_full(
            gaps in prop::collection::vec(0u64..2000, 1..40), limit in 1u32..6, within in 1u64..5000,
        ) {
            let policy = policy(backoff(1, 1.0, 1, 0.0), Some((limit, within)));
            let (mut tries, mut random) = (Tries::default(), SplitMix64::new(3));
            let (mut now, mut past) = (0, Vec::new());
            for gap in gaps {
                now += gap;
                past.push(now);
                // The window as one would count it by hand, over everything that ever failed.
                let in_window = past.iter().filter(|then| now - **then <= within).count();
                let cause = Reason::Killed { after: Duration::from_millis(now), tried: vec![] };
                let verdict = tries.fail(&policy, &cause, Duration::ZERO, at(now), &mut random);
                match verdict {
                    Verdict::Again { failures, .. } => {
                        prop_assert!(in_window < limit as usize);
                        prop_assert_eq!(failures as usize, in_window);
                    }
                    Verdict::GiveUp { first, failures, .. } => {
                        prop_assert_eq!(failures as usize, in_window);
                        let oldest = Duration::from_millis(past[past.len() - in_window]);
                        prop_assert_eq!(first, Reason::Killed { after: oldest, tried: vec![] });
                        prop_assert!(in_window >= limit as usize);
                        break;
                    }
                }
                prop_assert!(tries.failures.len() < limit as usize, "the memory is bounded by the limit");
            }
        }
    }
}
