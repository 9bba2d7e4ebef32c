//! Gates in front of real servers, in each of their states: PostgreSQL, Redis, MariaDB, RabbitMQ.
//!
//! A server that is not installed makes its test say so and pass; with MAINSTAY_REQUIRE_PEERS set, as in CI, it fails.

mod mariadb;
mod peer;
mod postgres;
mod rabbitmq;
mod redis;

use std::path::Path;
use std::pin::Pin;
use std::time::{Duration, Instant};

use mainstay_probes::{ExecAnswer, RunCommand, perform};
use mainstay_types::{CaFile, CommandLine, ProbeAction, ProbeFailure, ProbeOutcome, ServerKind, ServerUrl};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::peer::{PATIENCE, Place};

struct NoCommands;

impl RunCommand for NoCommands {
    fn run(&self, _: CommandLine, _: Duration) -> Pin<Box<dyn Future<Output = ExecAnswer> + Send>> {
        unreachable!("no check here is a command")
    }
}

/// Asks once, as a gate does.
async fn ask(kind: ServerKind, url: &str, ca: Option<&Path>) -> ProbeOutcome {
    let url = ServerUrl::parse(kind, url).unwrap();
    let action = ProbeAction::Server { url, ca: ca.map(|path| CaFile(path.to_owned())) };
    let outcome = perform(&action, Duration::from_secs(30), &NoCommands).await;
    assert!(!format!("{outcome} {outcome:?}").contains("hunter2"), "{outcome}");
    outcome
}

/// Asks until the answer is `wanted`; gives the answers before it, each different one once.
async fn ask_until(
    kind: ServerKind,
    url: &str,
    wanted: impl Fn(&ProbeOutcome) -> bool,
) -> (Vec<ProbeOutcome>, ProbeOutcome) {
    let begun = Instant::now();
    let mut before = Vec::new();
    loop {
        let outcome = ask(kind, url, None).await;
        if wanted(&outcome) {
            return (before, outcome);
        }
        assert!(begun.elapsed() < PATIENCE, "{outcome}, and before {before:?}");
        if before.last() != Some(&outcome) {
            before.push(outcome);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn is_refused(outcome: &ProbeOutcome) -> bool {
    matches!(outcome, ProbeOutcome::Failed(ProbeFailure::Refused(_)))
}

fn passed(words: &str) -> ProbeOutcome {
    ProbeOutcome::Passed(words.to_owned())
}

fn not_ready(words: &str) -> ProbeOutcome {
    ProbeOutcome::Failed(ProbeFailure::NotReady(words.to_owned()))
}

fn credentials(words: &str) -> ProbeOutcome {
    ProbeOutcome::Failed(ProbeFailure::Credentials(words.to_owned()))
}

/// The words of a failure of TLS.
fn tls_words(outcome: &ProbeOutcome) -> &str {
    let ProbeOutcome::Failed(ProbeFailure::Tls { message, .. }) = outcome else { panic!("{outcome:?}") };
    message
}

/// Writes `ca.pem`, `other-ca.pem`, and with `server.pem` and `server.key` a certificate of the first for 127.0.0.1.
fn certificates(place: &Place) {
    let authority = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let (own, other) = (authority("own"), authority("other"));
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &own).unwrap();
    place.write("ca.pem", &own.pem());
    place.write("other-ca.pem", &other.pem());
    place.write("server.pem", &certificate.pem());
    place.write("server.key", &key.serialize_pem());
}
