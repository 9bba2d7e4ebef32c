//! How a program in memory behaves, and the random source that makes behaviours up.

use std::time::Duration;

use mainstay_types::{Exit, LaunchFailure, LaunchStep};

/// A program's end by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LifeEnd {
    /// Counted from the moment it runs.
    pub after: Duration,
    /// How.
    pub exit: Exit,
}

/// What a program does when asked to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnStop {
    /// It and its descendants end by the signal, this long after it.
    EndsAfter(Duration),
    /// The main process returns 0 this long after the signal; its descendants ignore the signal and stay.
    EndsAlone(Duration),
    /// Nothing: only a kill ends it.
    Ignores,
}

/// How one start of a program goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Behaviour {
    /// From the request to `Launched` or `LaunchFailed`.
    pub launch_takes: Duration,
    /// It does not run, for this reason.
    pub launch_fails: Option<LaunchFailure>,
    /// It ends by itself; `None` runs until it is stopped.
    pub ends: Option<LifeEnd>,
    /// What it does on a signal to stop.
    pub on_stop: OnStop,
    /// From a kill to the end of the main process.
    pub kill_takes: Duration,
    /// Descendants that are still there when the main process ends; 0 for none.
    pub leftovers: u32,
    /// From the main process's end to that of its leftovers by themselves; `None` stays until killed.
    pub leftovers_end_after: Option<Duration>,
    /// By how much leftovers outlive the main process in a kill. Zero: both ends are seen as one.
    pub leftovers_outlive_kill: Duration,
}

impl Behaviour {
    /// A well-behaved program: starts in 1 ms, runs until it is asked to stop, ends 1 ms later, leaves nothing.
    #[must_use]
    pub fn good() -> Self {
        Self {
            launch_takes: Duration::from_millis(1),
            launch_fails: None,
            ends: None,
            on_stop: OnStop::EndsAfter(Duration::from_millis(1)),
            kill_takes: Duration::from_millis(1),
            leftovers: 0,
            leftovers_end_after: None,
            leftovers_outlive_kill: Duration::ZERO,
        }
    }

    /// [`Self::good`], but it ends by itself.
    #[must_use]
    pub fn ends_after(after: Duration, exit: Exit) -> Self {
        Self { ends: Some(LifeEnd { after, exit }), ..Self::good() }
    }

    /// [`Self::good`], but only a kill ends it.
    #[must_use]
    pub fn ignores_stop() -> Self {
        Self { on_stop: OnStop::Ignores, ..Self::good() }
    }

    /// It puts itself into the background: the main process returns 0 at once, `leftovers` stay until killed.
    #[must_use]
    pub fn daemonises(leftovers: u32) -> Self {
        let end = LifeEnd { after: Duration::from_millis(5), exit: Exit::Code(0) };
        Self { ends: Some(end), leftovers, ..Self::good() }
    }

    /// There is no such program.
    #[must_use]
    pub fn launch_fails() -> Self {
        let failure = LaunchFailure {
            step: LaunchStep::Exec,
            path: Some("./missing".into()),
            errno: 2,
            message: "No such file or directory".to_owned(),
            hint: None,
        };
        Self { launch_fails: Some(failure), ..Self::good() }
    }

    /// One of all the ways a program can go, common ones more often.
    pub fn random(random: &mut Random) -> Self {
        let mut it = Self::good();
        it.launch_takes = random.duration(Duration::ZERO, Duration::from_millis(20));
        it.kill_takes = random.duration(Duration::ZERO, Duration::from_millis(50));
        if random.one_in(10) {
            it.launch_fails = Self::launch_fails().launch_fails;
        }
        if random.one_in(2) {
            let longest = if random.one_in(2) { Duration::from_millis(50) } else { Duration::from_secs(120) };
            let exit = match random.below(5) {
                0 | 1 => Exit::Code(0),
                2 | 3 => Exit::Code(1),
                _ => Exit::Signal { signal: 11, core_dumped: random.one_in(2) },
            };
            it.ends = Some(LifeEnd { after: random.duration(Duration::ZERO, longest), exit });
        }
        it.on_stop = match random.below(6) {
            0 => OnStop::Ignores,
            1 => OnStop::EndsAlone(random.duration(Duration::ZERO, Duration::from_secs(2))),
            2 => OnStop::EndsAfter(random.duration(Duration::ZERO, Duration::from_secs(40))),
            _ => OnStop::EndsAfter(random.duration(Duration::ZERO, Duration::from_millis(200))),
        };
        if random.one_in(4) {
            it.leftovers = 1 + random.below(3) as u32;
            if random.one_in(2) {
                it.leftovers_end_after = Some(random.duration(Duration::ZERO, Duration::from_secs(30)));
            }
            if random.one_in(2) {
                it.leftovers_outlive_kill = random.duration(Duration::ZERO, Duration::from_millis(500));
            }
        }
        it
    }
}

/// A small random source (SplitMix64, Steele, Lea and Flood 2014): the same seed gives the same numbers everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A source that gives the numbers of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, any of the 2⁶⁴.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `[0, bound)`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The high half of the product: the bias is below bound / 2⁶⁴.
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// True once in `n` times; never when `n` is 0.
    pub fn one_in(&mut self, n: u64) -> bool {
        n != 0 && self.below(n) == 0
    }

    /// A duration in `[from, to]`, in whole microseconds.
    pub fn duration(&mut self, from: Duration, to: Duration) -> Duration {
        let span = u64::try_from(to.saturating_sub(from).as_micros()).unwrap_or(u64::MAX - 1);
        from + Duration::from_micros(self.below(span + 1))
    }
}
