//! `fuzz`: feeds what reads bytes of others with bytes that the compiler's fuzzer invents, beginning with the committed
//! corpus.
//!
//! The fuzzer needs flags of the compiler that a stable one takes only when told so (`RUSTC_BOOTSTRAP`). What is found is
//! kept in `fuzz/artifacts`; new inputs go to the build folder, not to the committed corpus.

use anyhow::{Context as _, bail};

use crate::places;
use crate::stage::{self, Stages};

/// The targets, in `fuzz/targets`.
const TARGETS: [&str; 3] = ["facts", "log_file", "packed_file"];

/// Longest input: several blocks of what is read at once, and no more than the fuzzer can vary.
const MOST_BYTES: u32 = 200_000;

/// Memory one target may take: the largest window zstd accepts, and room for the fuzzer itself.
const MOST_MEMORY_MB: u32 = 1024;

/// Arguments of `fuzz`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask fuzz                        every target, 20 s each
  cargo xtask fuzz facts --seconds 600

It needs cargo-fuzz: cargo install cargo-fuzz --locked")]
pub(crate) struct Options {
    /// Only these targets.
    #[arg(value_parser = TARGETS)]
    targets: Vec<String>,
    /// How long each target runs, besides the corpus.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let there = stage::cargo().args(["fuzz", "--version"]).output().context("cannot start cargo")?;
    if !there.status.success() {
        bail!("cargo-fuzz is not installed\n  next: cargo install cargo-fuzz --locked");
    }
    let found_dir = places::target_dir().join("fuzz-corpus");
    let mut stages = Stages::default();
    for target in TARGETS {
        if !options.targets.is_empty() && !options.targets.iter().any(|wanted| wanted == target) {
            continue;
        }
        let found_dir = found_dir.join(target);
        stages.run(target, || {
            std::fs::create_dir_all(&found_dir)
                .with_context(|| format!("cannot make {}", found_dir.display()))?;
            // The first folder takes what is new.
            let mut command = stage::cargo();
            command
                .args(["fuzz", "run", "--target-dir"])
                .arg(places::target_dir().join("fuzz"))
                .arg(target)
                .arg(&found_dir)
                .arg(places::root_dir().join("fuzz/corpus").join(target))
                .arg("--")
                .arg(format!("-max_total_time={}", options.seconds))
                .arg(format!("-max_len={MOST_BYTES}"))
                .arg(format!("-rss_limit_mb={MOST_MEMORY_MB}"))
                .args(["-timeout=10", "-print_final_stats=1", "-verbosity=0"])
                .env("RUSTC_BOOTSTRAP", "1");
            stage::run(command)
        });
    }
    stages.finish()
}
