//! `suite`: the tests that need another system or real programs. A suite runs or fails; none is skipped silently.

mod limits;
mod peers;
mod systemd;
mod windows;

/// The suites.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Suite {
    /// Compiles and lints every crate for Windows; under Wine, runs the tests of the pure crates and of the operating system's
    /// body, and mainstay.exe with a stack.
    Windows(windows::Options),
    /// Real PostgreSQL, Redis, nginx, Node and Python programs under mainstay.
    Peers(peers::Options),
    /// A booted systemd in a container with a real cgroup v2 tree: mainstay under a unit, and the whole tree ends.
    Systemd(systemd::Options),
    /// Debian's kernel in a virtual machine, with every controller: resource limits wherever a host may find itself.
    Limits(limits::Options),
}

pub(crate) fn run(suite: &Suite) -> anyhow::Result<()> {
    match suite {
        Suite::Windows(options) => windows::run(options),
        Suite::Peers(options) => peers::run(options),
        Suite::Systemd(options) => systemd::run(options),
        Suite::Limits(options) => limits::run(options),
    }
}

/// Whether this runs in CI, where a missing program is a failure rather than a reason to leave something out.
fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}
