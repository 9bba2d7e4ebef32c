//! Performs probes and gates: one question to the outside, one answer, within the time allowed.
//!
//! Role: tcp, http and exec checks. Knows nothing of thresholds or periods: `lifecycle` asks, this answers.
//! May use: `types`. May be used by: `host`.
//!
//! Nothing is kept between two probes: each makes its own connection and closes it, so that a probe sees what a new
//! client would see, and a thousand idle services cost nothing.

mod exec;
mod http;
mod printable;
mod tcp;

use std::time::Duration;

use mainstay_types::{ProbeAction, ProbeOutcome};

pub use exec::{ExecAnswer, RunCommand};

use printable::printable;

/// Performs one probe or gate check. Answers within `timeout` (plus what the scheduler adds), whatever the other side
/// does; an exec is ended by `exec` itself, which owns the processes.
///
/// Dropping the future closes the connection and gives the check up.
pub async fn perform(action: &ProbeAction, timeout: Duration, exec: &dyn RunCommand) -> ProbeOutcome {
    let answer = match action {
        ProbeAction::Tcp(address) => tcp::check(address, timeout).await,
        ProbeAction::Http { target, status } => http::check(target, *status, timeout).await,
        ProbeAction::Exec(command) => exec::check(command, timeout, exec).await,
    };
    match answer {
        Ok(evidence) => ProbeOutcome::Passed(evidence),
        Err(failure) => ProbeOutcome::Failed(failure),
    }
}
