//! `suite peers`: mainstay supervises the real programs people put under it, and its gates ask the real servers.

use crate::stage::{cargo, run as run_command};

/// Arguments of `suite peers`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  cargo xtask suite peers        runs crates/mainstay/tests/peers and crates/probes/tests/servers

A program that is not installed is reported as skipped, with its name; with CI=true it is a failure.")]
pub(crate) struct Options {}

pub(crate) fn run(_options: &Options) -> anyhow::Result<()> {
    let mut test = cargo();
    // Of the workspace, as the tests are: what is built for one package alone has other features, and is built anew.
    test.args(["test", "--workspace", "--test", "peers", "--test", "servers", "--", "--nocapture"]);
    if super::in_ci() {
        test.env("MAINSTAY_REQUIRE_PEERS", "1");
    }
    run_command(test)
}
