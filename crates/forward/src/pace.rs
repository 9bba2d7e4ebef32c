//! How long to wait after a failure; pure.

use std::time::Duration;

use mainstay_config::ForwardBackoff;

/// Failures in a row, and a seed for the random part of the waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    failures: u32,
    seed: u64,
}

impl Pace {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { failures: 0, seed }
    }

    /// Failures since the last success.
    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }

    /// Something was taken.
    pub(crate) const fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// The wait after one more failure. What the target asks for counts when it is longer, up to the longest wait.
    pub(crate) fn failed(&mut self, backoff: &ForwardBackoff, not_before: Option<Duration>) -> Duration {
        let exponent = i32::try_from(self.failures).unwrap_or(i32::MAX);
        self.failures = self.failures.saturating_add(1);
        let max = backoff.max.as_secs_f64();
        let wait = (backoff.first.as_secs_f64() * backoff.factor.powi(exponent)).min(max);
        let jittered = wait * (1.0 + backoff.jitter * (2.0 * self.random() - 1.0));
        let own = Duration::try_from_secs_f64(jittered.clamp(0.0, max)).unwrap_or(backoff.max);
        // Never at once: a jitter of 1 may leave nothing of a wait.
        own.max(not_before.unwrap_or_default().min(backoff.max)).max(Duration::from_millis(1))
    }

    /// `[0, 1)`, by splitmix64.
    fn random(&mut self) -> f64 {
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        #[expect(clippy::cast_precision_loss, reason = "53 bits are what the fraction of an f64 holds")]
        let fraction = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
        fraction
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn backoff(first_ms: u64, factor: f64, max_ms: u64, jitter: f64) -> ForwardBackoff {
        let ms = Duration::from_millis;
        ForwardBackoff { first: ms(first_ms), factor, max: ms(max_ms), jitter }
    }

    #[test]
    fn waits_grow_to_the_longest_and_begin_anew_after_a_success() {
        let policy = backoff(500, 2.0, 3000, 0.0);
        let mut pace = Pace::new(1);
        let waits: Vec<u128> = (0..5).map(|_| pace.failed(&policy, None).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 3000, 3000]);
        assert_eq!(pace.failures(), 5);
        pace.succeeded();
        assert_eq!(pace.failed(&policy, None).as_millis(), 500);
    }

    #[test]
    fn what_the_target_asks_for_counts_within_bounds() {
        let policy = backoff(500, 2.0, 3000, 0.0);
        let asked = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(Pace::new(1).failed(&policy, asked(2)).as_millis(), 2000);
        assert_eq!(Pace::new(1).failed(&policy, asked(0)).as_millis(), 500);
        assert_eq!(Pace::new(1).failed(&policy, asked(86_400)).as_millis(), 3000);
    }

    proptest! {
        #[test]
        fn a_wait_is_never_nothing_and_never_too_long(
            seed in any::<u64>(), first in 1_u64..5000, factor in 1.0_f64..100.0, more in 0_u64..100_000,
            jitter in 0.0_f64..=1.0, failures in 1_usize..2000,
        ) {
            let policy = backoff(first, factor, first + more, jitter);
            let mut pace = Pace::new(seed);
            for _ in 0..failures {
                let wait = pace.failed(&policy, None);
                prop_assert!(wait >= Duration::from_millis(1) && wait <= policy.max);
            }
        }
    }
}
