//! PostgreSQL: starting, in recovery, ready, full, shutting down; its users, databases and certificates.

use std::path::PathBuf;

use mainstay_types::{ProbeOutcome, ServerKind};

use crate::peer::{Place, Server, free_port, need, occupy};
use crate::{ask, ask_until, certificates, credentials, is_refused, not_ready, passed, tls_words};

const KIND: ServerKind = ServerKind::Postgres;

struct Cluster {
    place: Place,
    postgres: PathBuf,
    port: u16,
}

impl Cluster {
    fn new() -> Option<Self> {
        let [postgres, initdb] = need(["postgres", "initdb"])?;
        let place = Place::new("postgres");
        place.write("password", "hunter2");
        let args =
            ["-D", "data", "-U", "app", "-A", "scram-sha-256", "--pwfile=password", "-N", "--locale=C"];
        place.run(&initdb, &args);
        Some(Self { place, postgres, port: free_port() })
    }

    fn start(&self, settings: &[&str]) -> Server {
        let mut command = self.place.command(&self.postgres);
        command.args(["-D", "data", "-h", "127.0.0.1", "-p", &self.port.to_string(), "-k", "", "-F"]);
        for setting in settings {
            command.args(["-c", setting]);
        }
        self.place.start(&mut command, "log")
    }

    fn url(&self, user: &str, rest: &str) -> String {
        format!("postgres://{user}127.0.0.1:{}/{rest}", self.port)
    }

    /// A client that has begun to log in, and has a place of the server's.
    fn occupy(&self) -> std::net::TcpStream {
        let body = b"\0\x03\0\0user\0app\0database\0postgres\0\0";
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        occupy(self.port, &[&length[..], body].concat())
    }

    fn version(&self) -> String {
        let output = std::process::Command::new(&self.postgres).arg("-V").output().unwrap();
        // postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
        String::from_utf8(output.stdout).unwrap().split_whitespace().nth(2).unwrap().to_owned()
    }
}

#[tokio::test]
async fn postgres_ready_and_its_users() {
    let Some(cluster) = Cluster::new() else { return };
    let ready = passed(&format!("ready: PostgreSQL {}", cluster.version()));
    let url = cluster.url("app:hunter2@", "postgres");
    assert!(is_refused(&ask(KIND, &url, None).await));
    let server =
        cluster.start(&["max_connections=2", "superuser_reserved_connections=0", "max_wal_senders=0"]);
    let (before, outcome) = ask_until(KIND, &url, ProbeOutcome::is_passed).await;
    assert_eq!(outcome, ready);
    for outcome in before {
        assert!(is_refused(&outcome) || outcome == not_ready("is still starting up (57P03)"), "{outcome:?}");
    }

    for (user, rest, outcome) in [
        ("app:hunter2@", "postgres?sslmode=prefer", ready.clone()),
        ("app:hunter2@", "?dbname=template1", ready.clone()),
        ("app:hunter3@", "postgres", credentials("password authentication failed for user \"app\" (28P01)")),
        ("app@", "postgres", credentials("it asks for a password, and the URL has none")),
        ("app:hunter2@", "shop", credentials("database \"shop\" does not exist (3D000)")),
        (
            "app:hunter2@",
            "template0",
            credentials("database \"template0\" is not currently accepting connections (55000)"),
        ),
        ("", "", passed("ready: PostgreSQL; not logged in, for the URL names no user")),
    ] {
        assert_eq!(ask(KIND, &cluster.url(user, rest), None).await, outcome, "{user} {rest}");
    }
    let outcome = ask(KIND, &url, Some(&cluster.place.path("ca.pem"))).await;
    assert!(tls_words(&outcome).contains("the server offers none"), "{outcome}");

    // Nobody is missed: the log tells of no client that was lost.
    let log = cluster.place.read("log");
    for lost in ["unexpected EOF", "could not receive", "could not send", "incomplete"] {
        assert!(!log.contains(lost), "{log}");
    }

    // A client that has left has its place still for a moment.
    let full = not_ready("has no connection left (53300: sorry, too many clients already)");
    let occupants = [cluster.occupy(), cluster.occupy()];
    ask_until(KIND, &url, |outcome| *outcome == full).await;
    drop(occupants);
    ask_until(KIND, &url, ProbeOutcome::is_passed).await;
    server.stop();
}

#[tokio::test]
async fn postgres_starting_in_recovery_standby_and_shutting_down() {
    let Some(cluster) = Cluster::new() else { return };
    let url = cluster.url("app:hunter2@", "postgres");
    cluster.place.write("data/standby.signal", "");
    let hold = "restore_command=while [ ! -e ../go ]; do sleep 0.1; done; false";
    let server = cluster.start(&[hold, "hot_standby=off"]);
    let starting = not_ready("is still starting up (57P03)");
    let (before, _) = ask_until(KIND, &url, |outcome| *outcome == starting).await;
    assert!(before.iter().all(is_refused), "{before:?}");
    // It stays so, also for someone who could not log in.
    assert_eq!(ask(KIND, &cluster.url("", ""), None).await, starting);
    assert_eq!(ask(KIND, &cluster.url("app:hunter3@", "shop"), None).await, starting);
    cluster.place.write("go", "");
    let recovering = not_ready("is in recovery and takes no connections (57P03)");
    let (before, _) = ask_until(KIND, &url, |outcome| *outcome == recovering).await;
    assert!(before.iter().all(|outcome| *outcome == starting), "{before:?}");
    server.stop();

    let server = cluster.start(&[hold, "hot_standby=on"]);
    let standby = format!("ready: PostgreSQL {}, a standby for readers only", cluster.version());
    let (_, outcome) = ask_until(KIND, &url, ProbeOutcome::is_passed).await;
    assert_eq!(outcome, passed(&standby));

    let occupant = cluster.occupy();
    // The smart shutdown waits for its clients.
    server.signal("-TERM");
    let ending = not_ready("is shutting down (57P03)");
    let (before, _) = ask_until(KIND, &url, |outcome| *outcome == ending).await;
    assert!(before.iter().all(ProbeOutcome::is_passed), "{before:?}");
    drop(occupant);
    ask_until(KIND, &url, is_refused).await;
}

#[tokio::test]
async fn postgres_over_tls() {
    let Some(cluster) = Cluster::new() else { return };
    let place = &cluster.place;
    certificates(place);
    let tls = ["ssl=on", "ssl_cert_file=../server.pem", "ssl_key_file=../server.key"];
    place.write("data/pg_hba.conf", "hostssl all all 127.0.0.1/32 scram-sha-256\n");
    let server = cluster.start(&tls);
    let plain = cluster.url("app:hunter2@", "postgres?sslmode=disable");
    ask_until(KIND, &plain, |outcome| outcome.to_string().contains("no encryption (28000)")).await;

    let ready = passed(&format!("ready: PostgreSQL {}", cluster.version()));
    let (own, other) = (place.path("ca.pem"), place.path("other-ca.pem"));
    for (mode, ca) in [
        ("", None),
        ("?sslmode=prefer", None),
        ("?sslmode=require", None),
        ("", Some(&own)),
        ("?sslmode=require", Some(&own)),
        ("?sslmode=verify-ca", Some(&own)),
        ("?sslmode=verify-full", Some(&own)),
    ] {
        let url = cluster.url("app:hunter2@", &format!("postgres{mode}"));
        assert_eq!(ask(KIND, &url, ca.map(PathBuf::as_path)).await, ready, "{mode} {ca:?}");
    }
    for (mode, ca, words) in [
        ("", Some(&other), "not signed by an authority in "),
        ("?sslmode=require", Some(&other), "not signed by an authority in "),
        ("", Some(&place.path("none.pem")), "cannot read the `ca` file"),
    ] {
        let url = cluster.url("app:hunter2@", &format!("postgres{mode}"));
        let outcome = ask(KIND, &url, ca.map(PathBuf::as_path)).await;
        assert!(tls_words(&outcome).contains(words), "{mode} {ca:?}: {outcome}");
    }
    let by_name = format!("postgres://app:hunter2@localhost:{}/postgres", cluster.port);
    let outcome = ask(KIND, &by_name, Some(&own)).await;
    assert_eq!(tls_words(&outcome), "its certificate is for 127.0.0.1, not for localhost");
    server.stop();

    // A certificate of its own making, as Debian's.
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    place.write("server.pem", &certificate.pem());
    place.write("server.key", &key.serialize_pem());
    let _server = cluster.start(&tls);
    let url = cluster.url("app:hunter2@", "postgres");
    ask_until(KIND, &url, |outcome| *outcome == ready).await;
    let outcome = ask(KIND, &url, Some(&own)).await;
    assert!(tls_words(&outcome).contains("signed by itself"), "{outcome}");
    assert_eq!(ask(KIND, &url, Some(&place.path("server.pem"))).await, ready);
}
