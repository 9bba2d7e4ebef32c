//! `mainstay logs --rotate`: has the host close the current log files.

use mainstay_api::{ClientError, RotateOutcome, RotatedLog};
use mainstay_types::ExitCode;

use crate::cli::Global;
use crate::client::{block_on, client, client_failure};
use crate::context::addressed;
use crate::failure::Failure;
use crate::terminal::print;

/// Asks for it, and says what became of each file. Fails when one of them could not be closed.
pub(crate) fn rotate(global: &Global, services: &[String]) -> Result<(), Failure> {
    let addressed = addressed(global)?;
    let client = client(&addressed);
    let reply = block_on(async {
        client.rotate_logs(services).await.map_err(|error| match error {
            ClientError::NotRunning { .. } => Failure::new(
                ExitCode::NotFound,
                format!(
                    "no host is running for the stack {}: nobody writes to its logs\n  next: without a host the files in {} can be moved by hand; `mainstay run` starts one",
                    addressed.name,
                    addressed.paths.logs_dir().display()
                ),
            ),
            ClientError::NotPermitted(_)
            | ClientError::Problem(_)
            | ClientError::TimedOut(_)
            | ClientError::Protocol(_) => client_failure(&error, &addressed),
        })
    })?;
    let text = if global.json {
        // The answer is made of strings and numbers only; such a value always becomes JSON.
        serde_json::to_string(&reply).unwrap_or_default() + "\n"
    } else {
        reply.replicas.iter().map(|log| words(log) + "\n").collect()
    };
    // Nobody may be reading any more, which is no error of ours.
    let _ = print(&text);
    if reply.replicas.iter().any(|log| log.outcome == RotateOutcome::Failed) {
        return Err(Failure::silent(ExitCode::Failed));
    }
    Ok(())
}

fn words(log: &RotatedLog) -> String {
    let name = match log.replica {
        0 => log.service.clone(),
        index => format!("{}.{index}", log.service),
    };
    let reason = log.reason.as_deref().unwrap_or_default();
    match log.outcome {
        RotateOutcome::Rotated => format!("{name}: closed as {}", log.file.as_deref().unwrap_or_default()),
        RotateOutcome::Empty => format!("{name}: nothing to close: {reason}"),
        RotateOutcome::Waiting => format!("{name}: not closed yet, {reason}"),
        RotateOutcome::Failed => format!("{name}: cannot be closed: {reason}"),
    }
}
