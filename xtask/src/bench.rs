//! `bench` stub being written.
/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {}
pub(crate) fn run(_options: &Options) -> anyhow::Result<()> {
    anyhow::bail!("not yet")
}
