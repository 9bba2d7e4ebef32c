//! Performs probes and gates: one question to the outside, one answer, within the time allowed.
//!
//! Role: the checks of [`ProbeAction`], in each server's own protocol. Knows nothing of thresholds or periods: `lifecycle` asks, this answers.
//! Its way to a server ([`reach()`]) is also that of `forward`, so that what goes wrong is told in the same words.
//! May use: `types`. May be used by: `host`, `forward`.
//!
//! Next to nothing is kept between two probes: each makes its own connection and closes it, so that a probe sees what a
//! new client would see, and a thousand idle services cost nothing. Kept are the system's certificate authorities for a
//! minute, and looks at files that have not come back.

mod dns;
mod exec;
mod file;
mod grpc;
mod http;
mod looks;
mod printable;
mod reach;
mod recorded;
mod server;
mod tcp;
mod tls;

use std::time::Duration;

use mainstay_types::{ProbeAction, ProbeOutcome};

pub use exec::{ExecAnswer, RunCommand};
pub use reach::{Connection, Trust, lookup, reach};

use printable::printable;

/// Performs one probe or gate check. Answers within `timeout` (plus what the scheduler adds), whatever the other side
/// does; an exec is ended by `exec` itself, which owns the processes.
///
/// Dropping the future closes the connection and gives the check up.
pub async fn perform(action: &ProbeAction, timeout: Duration, exec: &dyn RunCommand) -> ProbeOutcome {
    let answer = match action {
        ProbeAction::Tcp(address) => tcp::check(address, timeout).await,
        ProbeAction::Http { target, status, body, ca } => {
            let question = http::Question { target, status: *status, body: body.as_deref(), ca: ca.as_ref() };
            http::check(&question, timeout).await
        }
        ProbeAction::Grpc { address, service } => grpc::check(address, service, timeout).await,
        ProbeAction::Dns(name) => dns::check(name, timeout).await,
        ProbeAction::File(path) => file::check(path, timeout).await,
        ProbeAction::Server { url, ca } => server::check(url, ca.as_ref(), timeout).await,
        ProbeAction::Exec(command) => exec::check(command, timeout, exec).await,
    };
    match answer {
        Ok(evidence) => ProbeOutcome::Passed(evidence),
        Err(failure) => ProbeOutcome::Failed(failure),
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use mainstay_types::{CommandLine, Exit, HostPort, HttpTarget, ProbeFailure};
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    const AMPLE: Duration = Duration::from_secs(20);

    /// Takes the program's name for its exit code.
    struct ByName;

    impl RunCommand for ByName {
        fn run(&self, command: CommandLine, _: Duration) -> Pin<Box<dyn Future<Output = ExecAnswer> + Send>> {
            let exit = Exit::Code(command.program.parse().unwrap());
            Box::pin(async move { ExecAnswer::Exited { exit, last_line: String::new() } })
        }
    }

    #[tokio::test]
    async fn each_action_is_performed_as_what_it_is() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = HostPort::parse(&listener.local_addr().unwrap().to_string()).unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                // The TCP probe is gone before this is written, as it should be.
                let _ = stream.write_all(b"HTTP/1.1 404 x\r\ncontent-length: 0\r\n\r\n").await;
                tokio::spawn(async move { tokio::io::copy(&mut stream, &mut tokio::io::sink()).await });
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let target = HttpTarget { tls: false, address: address.clone(), path: "/".to_owned() };
        let http = |status| ProbeAction::Http { target: target.clone(), status, body: None, ca: None };
        let matching = |pattern: &str| ProbeAction::Http {
            target: target.clone(),
            status: Some(404),
            body: Some(pattern.to_owned()),
            ca: None,
        };
        let exec =
            |program: &str| ProbeAction::Exec(CommandLine { program: program.to_owned(), args: Vec::new() });
        let passed = |evidence: &str| ProbeOutcome::Passed(evidence.to_owned());
        for (action, outcome) in [
            (ProbeAction::Tcp(address.clone()), passed("connected")),
            (http(Some(404)), passed("HTTP 404")),
            (
                http(None),
                ProbeOutcome::Failed(ProbeFailure::HttpStatus {
                    status: 404,
                    wanted: None,
                    body: String::new(),
                }),
            ),
            (
                matching("x"),
                ProbeOutcome::Failed(ProbeFailure::HttpBody {
                    status: 404,
                    pattern: "x".to_owned(),
                    body: String::new(),
                }),
            ),
            (
                ProbeAction::Dns("10.0.0.1".to_owned()),
                passed("is an address already: there is nothing to resolve"),
            ),
            (ProbeAction::File(folder.path().to_owned()), passed("is there (folder)")),
            (
                ProbeAction::Grpc { address: address.clone(), service: String::new() },
                ProbeOutcome::Failed(ProbeFailure::Protocol(
                    "it speaks HTTP/1, not gRPC (HTTP/2)".to_owned(),
                )),
            ),
            (exec("0"), passed("exit code 0")),
            (
                exec("3"),
                ProbeOutcome::Failed(ProbeFailure::Exit { exit: Exit::Code(3), last_line: String::new() }),
            ),
        ] {
            assert_eq!(perform(&action, AMPLE, &ByName).await, outcome, "{action}");
        }
    }
}
