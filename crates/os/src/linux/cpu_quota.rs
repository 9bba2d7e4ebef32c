//! A share of processor time in the kernel's own terms: so many microseconds in each period.

/// What a group may use in each period.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct CpuQuota {
    pub quota_us: u64,
    pub period_us: u64,
}

impl CpuQuota {
    /// The kernel takes quotas of 1 ms and more, and periods of 1 ms to 1 s (kernel/sched/core.c,
    /// `min_cfs_quota_period`, `max_cfs_quota_period`). 100 ms is its default, and everybody's; a share too small for
    /// it is given by the second, of which a thousandth is the least.
    pub(super) const fn of_millis(millis: u64) -> Self {
        let millis = if millis == 0 { 1 } else { millis };
        if millis < 10 {
            Self { quota_us: millis * 1000, period_us: 1_000_000 }
        } else {
            // More than the kernel can count is refused there (`max_cfs_runtime`), not here.
            Self { quota_us: millis.saturating_mul(100), period_us: 100_000 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_in_the_kernels_terms() {
        let cases =
            [(1, 1000, 1_000_000), (9, 9000, 1_000_000), (10, 1000, 100_000), (1500, 150_000, 100_000)];
        for (millis, quota_us, period_us) in cases {
            assert_eq!(CpuQuota::of_millis(millis), CpuQuota { quota_us, period_us });
        }
        assert_eq!(CpuQuota::of_millis(0), CpuQuota::of_millis(1));
    }
}
