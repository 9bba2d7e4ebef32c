//! `suite systemd`: a small stack under a booted systemd, in a container of its own.

/// Arguments of `suite systemd`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {}

pub(crate) fn run(_options: &Options) -> anyhow::Result<()> {
    anyhow::bail!("not written yet")
}
