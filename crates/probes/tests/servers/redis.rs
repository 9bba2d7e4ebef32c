//! Redis: loading, ready, full, cut off from its primary; its users and databases; TLS.

use std::io::{Read, Write};
use std::path::PathBuf;

use mainstay_types::{ProbeFailure, ProbeOutcome, ServerKind};

use crate::peer::{Place, Server, free_port, need, occupy};
use crate::{ask, ask_until, certificates, credentials, is_refused, not_ready, passed, tls_words};

const KIND: ServerKind = ServerKind::Redis;

struct Redis {
    place: Place,
    redis: PathBuf,
    port: u16,
}

impl Redis {
    fn new() -> Option<Self> {
        let [redis] = need(["redis-server"])?;
        Some(Self { place: Place::new("redis"), redis, port: free_port() })
    }

    fn start(&self, settings: &[&str]) -> Server {
        let mut command = self.place.command(&self.redis);
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", ""]).args(settings);
        self.place.start(&mut command, "log")
    }

    fn url(&self, user: &str, rest: &str) -> String {
        format!("redis://{user}127.0.0.1:{}{rest}", self.port)
    }

    /// Gives a command, as a line, and waits for its answer of one line.
    fn tell(&self, line: &str) {
        let mut stream = occupy(self.port, b"PING\r\n");
        stream.read_exact(&mut [0; 6]).unwrap();
        write!(stream, "{line}\r\n").unwrap();
        let mut answer = [0; 1];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"+", "{line}");
    }

    fn version(&self) -> String {
        let output = std::process::Command::new(&self.redis).arg("-v").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_once("v=").unwrap().1.split_whitespace().next().unwrap().to_owned()
    }
}

#[tokio::test]
async fn redis_loading_and_full() {
    let Some(redis) = Redis::new() else { return };
    let pong = passed(&format!("PONG from Redis {}", redis.version()));
    let url = redis.url("", "");
    assert!(is_refused(&ask(KIND, &url, None).await));
    let server = redis.start(&["--enable-debug-command", "local"]);
    let (before, outcome) = ask_until(KIND, &url, ProbeOutcome::is_passed).await;
    assert!(before.iter().all(is_refused), "{before:?}");
    assert_eq!(outcome, pong);
    redis.tell("DEBUG POPULATE 200000 key 100");
    redis.tell("SAVE");
    server.stop();

    // A millisecond a key: minutes, cut short below.
    let slow = ["--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"];
    let server = redis.start(&[&slow[..], &["--requirepass", "hunter2", "--maxclients", "2"]].concat());
    let loading = |outcome: &ProbeOutcome| {
        let words = outcome.to_string();
        matches!(outcome, ProbeOutcome::Failed(ProbeFailure::NotReady(_)))
            && words.starts_with("it answers, but is loading its data (LOADING ")
    };
    let with_password = redis.url(":hunter2@", "/1");
    let (before, _) = ask_until(KIND, &with_password, loading).await;
    assert!(before.iter().all(is_refused), "{before:?}");
    // Who has no right to ask does not learn it.
    let no_password = credentials("it asks for a password, and the URL has none (NOAUTH)");
    assert_eq!(ask(KIND, &url, None).await, no_password);
    let mut stream = occupy(redis.port, b"AUTH hunter2\r\nCONFIG SET key-load-delay 0\r\n");
    stream.read_exact(&mut [0; 9]).unwrap();
    let (before, outcome) = ask_until(KIND, &with_password, ProbeOutcome::is_passed).await;
    assert!(before.iter().all(loading), "{before:?}");
    assert_eq!(outcome, pong);

    let occupant = occupy(redis.port, b"AUTH hunter2\r\n");
    let full = not_ready("has no connection left (ERR max number of clients reached)");
    ask_until(KIND, &with_password, |outcome| *outcome == full).await;
    drop((stream, occupant));
    ask_until(KIND, &with_password, |outcome| *outcome == pong).await;
    server.stop();
}

#[tokio::test]
async fn redis_users_and_databases() {
    let Some(redis) = Redis::new() else { return };
    let pong = passed(&format!("PONG from Redis {}", redis.version()));
    let acl =
        "user app on >hunter2 +@all\nuser reader on >hunter2 +ping +select\nuser deaf on >hunter2 -@all\n";
    redis.place.write("users", acl);
    let _server = redis.start(&["--aclfile", &redis.place.text("users")]);
    ask_until(KIND, &redis.url("app:hunter2@", ""), |outcome| *outcome == pong).await;
    let wrong = credentials("WRONGPASS invalid username-password pair or user is disabled.");
    let range = credentials("DB index is out of range");
    for (user, rest, outcome) in [
        ("app:hunter2@", "/15", pong.clone()),
        ("app:hunter2@", "/16", range),
        ("reader:hunter2@", "/3", passed("PONG from Redis")),
        ("app:hunter3@", "", wrong.clone()),
        ("nobody:hunter2@", "", wrong),
    ] {
        assert_eq!(ask(KIND, &redis.url(user, rest), None).await, outcome, "{user} {rest}");
    }
    let outcome = ask(KIND, &redis.url("deaf:hunter2@", ""), None).await;
    let ProbeOutcome::Failed(ProbeFailure::Credentials(words)) = &outcome else { panic!("{outcome:?}") };
    assert!(words.starts_with("NOPERM "), "{words}");
    // The default user has no password; Redis says so to one who brings one.
    let outcome = ask(KIND, &redis.url(":hunter2@", ""), None).await;
    let ProbeOutcome::Failed(ProbeFailure::Credentials(words)) = &outcome else { panic!("{outcome:?}") };
    assert!(words.starts_with("AUTH <password> called without any password configured"), "{words}");
}

#[tokio::test]
async fn redis_replica_without_primary() {
    let Some(redis) = Redis::new() else { return };
    let nobody = format!("127.0.0.1 {}", free_port());
    let _server = redis.start(&["--replicaof", &nobody, "--replica-serve-stale-data", "no"]);
    let (_, outcome) = ask_until(KIND, &redis.url("", ""), |outcome| !is_refused(outcome)).await;
    let words = outcome.to_string();
    assert!(
        words.starts_with("it answers, but is a replica that has lost its primary (MASTERDOWN "),
        "{words}"
    );
}

#[tokio::test]
async fn redis_over_tls() {
    let Some(redis) = Redis::new() else { return };
    certificates(&redis.place);
    let tls_port = free_port();
    let port = tls_port.to_string();
    let files = ["--tls-cert-file", "server.pem", "--tls-key-file", "server.key", "--tls-auth-clients", "no"];
    let _server = redis.start(&[&["--tls-port", &port][..], &files].concat());
    ask_until(KIND, &redis.url("", ""), ProbeOutcome::is_passed).await;
    let url = format!("rediss://127.0.0.1:{tls_port}");
    let pong = passed(&format!("PONG from Redis {}", redis.version()));
    assert_eq!(ask(KIND, &url, Some(&redis.place.path("ca.pem"))).await, pong);
    let outcome = ask(KIND, &url, Some(&redis.place.path("other-ca.pem"))).await;
    assert!(tls_words(&outcome).contains("not signed by an authority in "), "{outcome}");
    // TLS is missing in the URL.
    let outcome = ask(KIND, &format!("redis://127.0.0.1:{tls_port}"), None).await;
    let ProbeOutcome::Failed(ProbeFailure::Protocol(_)) = outcome else { panic!("{outcome:?}") };
}
