//! RabbitMQ: booting, ready; its users and virtual hosts.

use std::process::Command;

use mainstay_types::{ProbeOutcome, ServerKind};

use crate::peer::{Place, free_port, need};
use crate::{ask, ask_until, credentials, is_refused};

const KIND: ServerKind = ServerKind::Amqp;

/// Erlang's name server, which a broker leaves running; ours is on a port of its own.
struct Names {
    port: u16,
}

impl Drop for Names {
    fn drop(&mut self) {
        let port = self.port.to_string();
        let _ = Command::new("epmd").args(["-port", &port, "-kill"]).output();
    }
}

#[tokio::test]
async fn rabbitmq() {
    let Some([rabbitmq, _]) = need(["rabbitmq-server", "epmd"]) else { return };
    let place = Place::new("rabbitmq");
    let names = Names { port: free_port() };
    let port = free_port();
    place.write("plugins", "[].\n");
    place.write("env.conf", "");
    let url = |user: &str, rest: &str| format!("amqp://{user}127.0.0.1:{port}{rest}");
    let guest = url("guest:guest@", "/%2f");
    assert!(is_refused(&ask(KIND, &guest, None).await));
    let mut command = place.command(&rabbitmq);
    command
        .env("RABBITMQ_NODENAME", format!("gate{port}@localhost"))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", port.to_string())
        .env("RABBITMQ_DIST_PORT", free_port().to_string())
        .env("RABBITMQ_MNESIA_BASE", place.path("mnesia"))
        .env("RABBITMQ_LOG_BASE", place.path("logs"))
        .env("RABBITMQ_LOGS", place.path("broker.log"))
        .env("RABBITMQ_PID_FILE", place.path("pid"))
        .env("RABBITMQ_CONFIG_FILE", place.path("none"))
        .env("RABBITMQ_ADVANCED_CONFIG_FILE", place.path("none"))
        .env("RABBITMQ_CONF_ENV_FILE", place.path("env.conf"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", place.path("plugins"))
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}")
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_EPMD_PORT", names.port.to_string());
    let server = place.start(&mut command, "log");
    let (before, outcome) = ask_until(KIND, &guest, ProbeOutcome::is_passed).await;
    for outcome in &before {
        let words = outcome.to_string();
        assert!(is_refused(outcome) || words.starts_with("it answers, but "), "{outcome:?}");
    }
    let version = outcome.to_string();
    let version = version.strip_prefix("ready: RabbitMQ ").unwrap_or_else(|| panic!("{outcome}"));
    assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{outcome}");

    let refused =
        "Login was refused using authentication mechanism PLAIN. For details see the broker logfile. (403)";
    for (user, rest, answer) in [
        ("guest:guest@", "", outcome.clone()),
        ("", "", outcome.clone()),
        ("guest:hunter2@", "", credentials(refused)),
        ("guest@", "", credentials(refused)),
        ("nobody:hunter2@", "", credentials(refused)),
        ("guest:guest@", "/shop", credentials("vhost shop not found (530)")),
    ] {
        assert_eq!(ask(KIND, &url(user, rest), None).await, answer, "{user} {rest}");
    }
    // The broker misses no client of ours; it writes its log late.
    server.stop();
    let log = place.read("broker.log");
    assert!(log.contains("accepting AMQP connection"), "{log}");
    for lost in ["unexpectedly", "handshake_timeout", "handshake_error"] {
        assert!(!log.contains(lost), "{log}");
    }
    drop(names);
}
