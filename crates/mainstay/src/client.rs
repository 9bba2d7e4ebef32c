//! Asking a running host: the client, and what its errors mean for the user.

use mainstay_api::{Client, ClientError, ProblemKind};
use mainstay_host::chain;
use mainstay_types::ExitCode;

use crate::context::Addressed;
use crate::failure::Failure;

/// The client of the addressed stack's host.
pub(crate) fn client(addressed: &Addressed) -> Client {
    Client::new(&addressed.paths.socket_path)
}

/// Runs a command that talks to the host.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(ExitCode::Failed, format!("cannot start the runtime: {error}")))?;
    runtime.block_on(work)
}

/// The words and the exit code for an error of the client.
pub(crate) fn client_failure(error: &ClientError, addressed: &Addressed) -> Failure {
    let (stack, socket) = (&addressed.name, addressed.paths.socket_path.display());
    match error {
        ClientError::NotRunning { .. } => Failure::new(
            ExitCode::NotFound,
            format!(
                "no host is running for the stack {stack} (nobody answers at {socket})\n  next: `mainstay run` starts one"
            ),
        ),
        ClientError::NotPermitted(words) => Failure::new(ExitCode::NotPermitted, words.clone()),
        ClientError::Problem(problem) => {
            let message = problem.to_string();
            // The errors of a file come as `check` shows them, each with its own head.
            let headed =
                problem.known_kind() == Some(ProblemKind::InvalidFile) && message.starts_with("error");
            Failure { message, code: problem.exit_code(), headed }
        }
        ClientError::TimedOut(_) => Failure::new(ExitCode::TimedOut, chain(error)),
        ClientError::Protocol(_) => Failure::new(
            ExitCode::Failed,
            format!("cannot talk to the host of the stack {stack}: {}", chain(error)),
        ),
    }
}
