//! `sim`: the seeded simulation of the lifecycle, as long as one likes and from any seed.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use mainstay_testkit::sim;

/// Arguments of `sim`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask sim                              a fresh seed, 100,000 events
  cargo xtask sim --seed 42 --events 1000000   repeats exactly what seed 42 does")]
pub(crate) struct Options {
    /// Decides everything that is random; the same seed gives the same run. Default: drawn from the clock and printed.
    #[arg(long)]
    seed: Option<u64>,
    /// How many events to feed.
    #[arg(long, default_value_t = 100_000)]
    events: u64,
    /// Prints every event and effect.
    #[arg(long)]
    trace: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let seed = match options.seed {
        Some(seed) => seed,
        None => fresh_seed()?,
    };
    // Printed first, so that a run that never ends can be repeated too.
    eprintln!("sim: seed {seed}");
    let wanted = sim::Options { seed, events: options.events, trace: options.trace };
    match sim::run(wanted) {
        Ok(summary) => {
            println!("{summary}");
            ensure!(summary.events >= options.events, "only {} events were fed", summary.events);
            Ok(())
        }
        Err(violation) => {
            bail!(
                "{violation}\nrepeat it with: cargo xtask sim --seed {seed} --events {} --trace",
                options.events
            )
        }
    }
}

/// A seed nobody chose: the ns of the clock are as good as any.
fn fresh_seed() -> anyhow::Result<u64> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    Ok(u64::from(since_epoch.subsec_nanos()) << 32 | (since_epoch.as_secs() & 0xffff_ffff))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_run_passes_and_feeds_what_was_asked() {
        run(&Options { seed: Some(1), events: 500, trace: false }).unwrap();
    }
}
