//! Targets that output is sent to: what is read, what is said about a wrong one, and what differs.

use mainstay_config::{Destination, diff};
use mainstay_types::Level;

use super::{errors, good, help};

fn file(lines: &str) -> String {
    format!("[forward.x]\n{lines}\n[service.web]\ncommand = \"./web\"\n[service.db]\ncommand = \"./db\"\n")
}

#[test]
fn a_target_has_every_default_filled_in() {
    let stack = good(&file("to = \"loki\"\nurl = \"https://logs.example.com\""));
    let [target] = &stack.forwards[..] else { panic!() };
    assert_eq!(target.name.as_str(), "x");
    assert_eq!(
        target.destination.words(),
        ("loki", "https://logs.example.com:443/loki/api/v1/push".to_owned())
    );
    assert!(target.services.is_empty() && target.stdout && target.stderr && target.gzip);
    assert_eq!((target.level, target.spool_bytes, target.batch.records), (None, 256 << 20, 1000));
    assert!(good("[service.web]\ncommand = \"x\"\n").forwards.is_empty());
}

#[test]
fn each_kind_of_address_is_read() {
    for (to, url, shown) in [
        ("journald", None, "journald's socket"),
        ("journald", Some("unix:///tmp/socket"), "unix:///tmp/socket"),
        ("syslog", Some("unix:///dev/log"), "unix:///dev/log"),
        ("syslog", Some("udp://[::1]"), "udp://[::1]:514"),
        ("syslog", Some("tcp://logs"), "tcp://logs:601"),
        ("syslog", Some("tls://logs"), "tls://logs:6514"),
        ("syslog", Some("tls://logs:99"), "tls://logs:99"),
        ("otlp", Some("http://logs:4318"), "http://logs:4318/v1/logs"),
        ("otlp", Some("http://logs:4318/other"), "http://logs:4318/other"),
        ("loki", Some("http://logs:3100/"), "http://logs:3100/loki/api/v1/push"),
    ] {
        let url = url.map(|url| format!("url = \"{url}\"")).unwrap_or_default();
        let stack = good(&file(&format!("to = \"{to}\"\n{url}")));
        assert_eq!(stack.forwards[0].destination.words(), (to, shown.to_owned()));
    }
}

#[test]
fn what_is_chosen_is_chosen() {
    let lines = "to = \"journald\"\nservices = [\"db\"]\nstreams = \"stderr\"\nlevel = \"warn\"\nlabels = { env = \"prod\", n = 3 }";
    let stack = good(&file(lines));
    let target = &stack.forwards[0];
    assert_eq!(target.destination, Destination::Journald(None));
    assert_eq!(target.services[0].as_str(), "db");
    assert!(!target.stdout && target.stderr);
    assert_eq!(target.level, Some(Level::Warn));
    assert_eq!(target.labels["n"], "3");
}

#[test]
fn each_mistake_is_said_in_its_place() {
    const LOKI: &str = "to = \"loki\"\nurl = \"http://a\"\n";
    for (lines, want) in [
        ("url = \"http://a\"".to_owned(), "1:10 config-invalid-value: `to` is missing"),
        ("to = \"loki\"".to_owned(), "1:10 config-invalid-value: `url` is missing: where is this target?"),
        ("to = \"lokki\"".to_owned(), "2:6 config-invalid-value: `to` cannot be \"lokki\""),
        (
            "to = \"loki\"\nurl = \"tcp://a\"".to_owned(),
            "3:7 config-invalid-value: `url` of this target does not begin with http:// or https://",
        ),
        (
            "to = \"loki\"\nurl = \"http://user:hidden@a\"".to_owned(),
            "3:7 config-invalid-value: `url` holds a user or a password, which would not be sent",
        ),
        (
            "to = \"syslog\"\nurl = \"unix://dev/log\"".to_owned(),
            "3:7 config-invalid-value: the path of a socket begins at the root: unix:///dev/log",
        ),
        (format!("{LOKI}services = [\"wbe\"]"), "4:13 config-unknown-service: there is no service `wbe`"),
        (
            format!("{LOKI}services = []"),
            "4:12 config-invalid-value: `services` cannot be empty: nothing would be sent",
        ),
        (format!("{LOKI}streams = \"stdin\""), "4:11 config-invalid-value: `streams` cannot hold \"stdin\""),
        (
            format!("{LOKI}ca = \"x.pem\""),
            "4:1 config-invalid-value: `ca` is of TLS, and this target has none",
        ),
        (
            "to = \"journald\"\nheaders = { a = \"b\" }".to_owned(),
            "3:1 config-invalid-value: `headers` is of HTTP, and this target is none",
        ),
        (
            format!("{LOKI}headers = {{ a = \"x\\ny\" }}"),
            "4:13 config-invalid-value: `a` cannot stand in `headers`: its value holds something else than printable ASCII characters",
        ),
        (
            format!("{LOKI}labels = {{ service = \"b\" }}"),
            "4:12 config-invalid-value: `service` cannot stand in `labels`: every line has one of that name anyway",
        ),
        (
            format!("{LOKI}backoff = {{ first = \"2m\" }}"),
            "4:21 config-invalid-value: `max` (60s) must not be shorter than `first` (2m)",
        ),
        (
            format!("{LOKI}spool = \"1KiB\""),
            "4:9 config-invalid-value: `spool` must be from 64KiB to 1TiB, not 1KiB",
        ),
    ] {
        let found = errors(&file(&lines));
        assert_eq!(found.len(), 1, "{lines}: {found:?}");
        assert!(found[0].starts_with(want), "{lines}: {}", found[0]);
        assert!(!found[0].contains("hidden"));
    }
    assert_eq!(help(&file(&format!("{LOKI}services = \"wbe\""))), "did you mean \"web\"?");
}

#[test]
fn a_change_is_shown_without_what_is_secret() {
    let lines = |value: &str| {
        file(&format!("to = \"loki\"\nurl = \"http://a\"\nheaders = {{ Authorization = \"{value}\" }}"))
    };
    let (old, new) = (good(&lines("Basic one")), good(&lines("Basic two")));
    let diff = diff(&old, &new);
    let keys: Vec<_> = diff.stack.iter().map(|change| change.key.as_str()).collect();
    assert_eq!(keys, ["forward.x.headers.Authorization"]);
    assert!(!format!("{diff:?} {old:?}").contains("Basic"));
    assert!(diff.changed.is_empty(), "no service restarts for it");
}
