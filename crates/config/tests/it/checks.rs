//! Gates and probes: what each kind becomes, and what is said about a wrong one.

use std::path::Path;
use std::time::Duration;

use mainstay_config::{Check, Gate, Lose, Need, Probe};
use mainstay_types::{CaFile, ProbeAction, ServerKind};

use super::{errors, good, help, read};

/// A file with a service `web` beside a service `db` and a oneshot `job`; the line under test is line 3.
fn with(line: &str) -> String {
    format!(
        "[service.web]\ncommand = \"./web\"\n{line}\n[service.db]\ncommand = \"db\"\n[service.job]\ncommand = \"j\"\n\
         kind = \"oneshot\"\n"
    )
}

fn need(entry: &str) -> Need {
    good(&with(&format!("needs = [{entry}]"))).services.remove(0).needs.remove(0)
}

fn action(entry: &str) -> ProbeAction {
    match need(entry).gate {
        Gate::Outside(action) => action,
        Gate::Service { .. } => panic!("{entry}"),
    }
}

fn readiness(keys: &str) -> Probe {
    good(&with(&format!("readiness = {{ {keys} }}")))
        .services
        .remove(0)
        .readiness
        .map(|probe| *probe)
        .unwrap()
}

#[test]
fn each_kind_of_gate_is_read() {
    for (entry, shown) in [
        ("{ tcp = \"[::1]:1\" }", "tcp [::1]:1"),
        ("{ http = \"https://a/x\", status = 204 }", "https://a:443/x"),
        ("{ postgres = \"postgresql://app:pw@db/shop\" }", "postgres db:5432/shop"),
        ("{ redis = \"rediss://:pw@db\" }", "redis db:6379"),
        ("{ amqp = \"amqp://127.0.0.1\" }", "amqp 127.0.0.1:5672"),
        ("{ mysql = \"mysql://root@db:3307/\" }", "mysql db:3307"),
        ("{ grpc = \"a:1\" }", "grpc a:1"),
        ("{ grpc = \"a:1\", grpc_service = \"shop.Cart\" }", "grpc a:1/shop.Cart"),
        ("{ dns = \"db.internal.\" }", "dns db.internal."),
        ("{ file = \"run/ready\" }", "file /srv/my shop/run/ready"),
        ("{ exec = \"./check a\" }", "exec '/srv/my shop/check' a"),
    ] {
        assert_eq!(action(entry).to_string().replace('\\', "/"), shown, "{entry}");
    }
    let ProbeAction::Server { url, ca } =
        action("{ redis = \"rediss://:${NOPE:-pw}@db\", ca = \"tls/ca.pem\" }")
    else {
        panic!()
    };
    assert_eq!((url.kind, url.tls(), url.address.port), (ServerKind::Redis, true, 6379));
    // The client that speaks to the server gets the password; nobody else does.
    assert_eq!(url.url, "rediss://:pw@db");
    assert_eq!(ca.unwrap().0, Path::new("/srv/my shop/tls/ca.pem"));
}

#[test]
fn an_http_check_takes_status_body_and_ca() {
    let want = |body: &str| (Some(200), Some(body.to_owned()), Some(CaFile("/srv/my shop/ca.pem".into())));
    let keys = "http = \"https://a/\", status = 200, body = '^ok\\b', ca = \"ca.pem\"";
    let ProbeAction::Http { status, body, ca, .. } = action(&format!("{{ {keys} }}")) else { panic!() };
    assert_eq!((status, body, ca), want("^ok\\b"));
    let Check::Ask(ProbeAction::Http { status, body, ca, target }) = readiness(keys).check else { panic!() };
    assert!(target.tls);
    assert_eq!((status, body, ca), want("^ok\\b"));
}

#[test]
fn a_gate_can_be_kept() {
    let default = need("{ tcp = \"a:1\" }");
    assert_eq!((default.lose, default.period), (Lose::Ignore, Duration::from_secs(10)));
    let kept = need("{ tcp = \"a:1\", lose = \"restart\", period = \"500ms\", within = \"1m\" }");
    assert_eq!((kept.lose, kept.period), (Lose::Restart, Duration::from_millis(500)));
    assert_eq!(kept.within, Some(Duration::from_secs(60)));
    assert_eq!(need("{ service = \"db\", lose = \"stop\" }").lose, Lose::Stop);
    assert_eq!(need("{ service = \"job\", is = \"started\", lose = \"stop\" }").lose, Lose::Stop);
}

#[test]
fn each_kind_of_probe_is_read() {
    for (keys, want) in [
        ("log = 'listening on \\d+'", Check::Log("listening on \\d+".to_owned())),
        ("notify = true", Check::Notify),
        ("notify_fd = 3", Check::NotifyFd(3)),
        ("file = \"up\"", Check::Ask(ProbeAction::File("/srv/my shop/up".into()))),
    ] {
        assert_eq!(readiness(keys).check, want, "{keys}");
    }
    let Check::Ask(ProbeAction::Grpc { address, service }) = readiness("grpc = \"a:1\"").check else {
        panic!()
    };
    assert_eq!((address.to_string().as_str(), service.as_str()), ("a:1", ""));
    // One descriptor for two probes, beside the two sockets of the service.
    let text = with(
        "listen = { a = \"127.0.0.1:1\", b = \"127.0.0.1:2\" }\nstartup.notify_fd = 5\nreadiness.notify_fd = 5",
    );
    assert_eq!(good(&text).services[0].startup.as_ref().unwrap().check, Check::NotifyFd(5));
    // For liveness it is the watchdog.
    assert!(read(&with("liveness = { notify = true, period = \"5s\", failure_threshold = 2 }")).is_ok());
}

#[test]
fn mistakes_in_gates_are_said_in_place() {
    const MEANS_NOTHING: &str = "config-invalid-value: `ca` checks nothing here: the URL";
    for (entry, want) in [
        (
            "{ tcp = \"a:1\", body = \"x\" }",
            "3:25 config-invalid-value: `body` goes with `http`, which is not here",
        ),
        (
            "{ tcp = \"a:1\", ca = \"x\" }",
            "3:25 config-invalid-value: `ca` goes with `http`, `postgres`, `redis`, `amqp` or `mysql`, none of which is here",
        ),
        (
            "{ tcp = \"a:1\", grpc_service = \"x\" }",
            "3:25 config-invalid-value: `grpc_service` goes with `grpc`, which is not here",
        ),
        (
            "{ tcp = \"a:1\", period = \"1s\" }",
            "3:25 config-invalid-value: `period` goes with `lose`, which is not here",
        ),
        ("{ tcp = \"a:1\", lose = \"kill\" }", "3:32 config-invalid-value: `lose` cannot be \"kill\""),
        (
            "{ service = \"job\", lose = \"stop\" }",
            "3:29 config-invalid-value: `job` has completed once and for all: that is never lost",
        ),
        (
            "{ service = \"db\", lose = \"stop\", period = \"1s\" }",
            "3:43 config-invalid-value: `period` means nothing for a service: the loss of `db` is known at once",
        ),
        (
            "{ http = \"http://a/\", ca = \"x\" }",
            &format!("3:32 {MEANS_NOTHING} is http, where nothing is signed"),
        ),
        (
            "{ redis = \"redis://a/\", ca = \"x\" }",
            &format!("3:34 {MEANS_NOTHING} is redis, which is without TLS"),
        ),
        (
            "{ amqp = \"amqp://a/\", ca = \"x\" }",
            &format!("3:32 {MEANS_NOTHING} is amqp, which is without TLS"),
        ),
        (
            "{ postgres = \"postgres://a/?sslmode=disable\", ca = \"x\" }",
            &format!("3:56 {MEANS_NOTHING} says sslmode=disable"),
        ),
        (
            "{ http = \"http://a/\", body = '(' }",
            "3:39 config-invalid-value: `body` is no regular expression: unclosed group",
        ),
        (
            "{ http = \"http://a/\", body = '' }",
            "3:39 config-invalid-value: `body` cannot be empty: that matches everything",
        ),
        (
            "{ http = \"http://a/\", body = '(\\w{100}){100}' }",
            "3:39 config-invalid-value: `body` is no regular expression: it is too large: more than 10485760 bytes when it is made ready",
        ),
        ("{ dns = \"https://db\" }", "3:18 config-invalid-value: \"https://db\" is no name to look up"),
        ("{ dns = \"a..b\" }", "3:18 config-invalid-value: \"a..b\" is no name to look up"),
        ("{ dns = \"db:53\" }", "3:18 config-invalid-value: \"db:53\" is no name to look up"),
        (
            "{ postgres = \"db\" }",
            "3:23 config-invalid-value: `postgres` does not begin with postgres:// or postgresql://",
        ),
        ("{ mysql = \"redis://db\" }", "3:20 config-invalid-value: `mysql` does not begin with mysql://"),
        (
            "{ redis = \"redis://\" }",
            "3:20 config-invalid-value: `redis` names no host, or one with a character that no host has",
        ),
        (
            "{ redis = \"redis://db:0\" }",
            "3:20 config-invalid-value: the port in `redis` is no number from 1 to 65535",
        ),
        (
            "{ amqp = \"amqp://a b\" }",
            "3:19 config-invalid-value: `amqp` holds a blank or a control character, which no URL does",
        ),
        (
            "{ tcp = \"a:1\", redis = \"redis://a\" }",
            "3:25 config-invalid-value: `tcp` and `redis` exclude each other",
        ),
        ("{ log = \"x\" }", "3:12 config-unknown-key: unknown key `log` (an entry of needs)"),
        ("{ postgress = \"x\" }", "3:12 config-unknown-key: unknown key `postgress` (an entry of needs)"),
    ] {
        assert_eq!(errors(&with(&format!("needs = [{entry}]"))), [want], "{entry}");
    }
}

#[test]
fn no_message_repeats_a_password() {
    const SECRET: &str = "s3cr3t";
    for url in [
        "postgres://app:s3cr3t@db:0/shop",
        "postgres://app:s3cr3t@d b/shop",
        "postgres://app:s3cr3t@/shop",
        "postgres://app:x/s3cr3t@db",
        "postgres://app:1/s3cr3t@db",
        "postgres://app:1#s3cr3t@db",
        "postgres://app:s3cr3t?@db",
        "postgres:/app:s3cr3t@db",
        "postgresq://app:s3cr3t@db",
        "app:s3cr3t@db",
        "s3cr3t",
    ] {
        for key in ["postgres", "redis", "amqp", "mysql"] {
            let diagnostics = read(&with(&format!("needs = [{{ {key} = \"{url}\" }}]"))).unwrap_err();
            assert_eq!(diagnostics.list.len(), 1, "{key} {url}");
            let error = &diagnostics.list[0];
            assert!(
                !error.message.contains(SECRET) && !diagnostics.to_string().contains(SECRET),
                "{error:?}"
            );
            assert!(!error.help.as_ref().unwrap().contains(SECRET), "{error:?}");
        }
    }
    for url in ["http://app:s3cr3t@db/", "htp://app:s3cr3t@db/", "app:s3cr3t@db"] {
        let diagnostics = read(&with(&format!("readiness.http = \"{url}\""))).unwrap_err();
        assert_eq!(
            diagnostics.list[0].message,
            "`http` holds a user or a password, which the check would not send"
        );
    }
    let stack = good(&with("needs = [{ postgres = \"postgres://app:s3cr3t@db/shop?password=s3cr3t\" }]"));
    assert!(!format!("{stack:?}").contains(SECRET));
}

#[test]
fn mistakes_in_probes_are_said_in_place() {
    for (lines, want) in [
        ("readiness = { notify = false }", "3:24 config-invalid-value: `notify` can only be true"),
        (
            "readiness = { notify = 1 }",
            "3:24 config-invalid-value: `notify` must be true, not a whole number",
        ),
        (
            "readiness = { notify_fd = 2 }",
            "3:27 config-invalid-value: `notify_fd` must be from 3 to 1023, not 2",
        ),
        (
            "liveness = { log = \"x\" }",
            "3:14 config-invalid-value: `log` cannot be a liveness probe: what was said once says nothing about now",
        ),
        (
            "liveness = { notify_fd = 9 }",
            "3:14 config-invalid-value: `notify_fd` cannot be a liveness probe: what was said once says nothing about now",
        ),
        (
            "readiness = { log = \"x\", timeout = \"1s\" }",
            "3:26 config-invalid-value: `timeout` means nothing with `log`: nobody is asked, so no answer can be late",
        ),
        (
            "liveness = { notify = true, timeout = \"1s\" }",
            "3:29 config-invalid-value: `timeout` means nothing with `notify`: nobody is asked, so no answer can be late",
        ),
        (
            "readiness = { notify_fd = 9, success_threshold = 2 }",
            "3:50 config-invalid-value: `success_threshold` must be 1 with `notify_fd`: the program says it once",
        ),
        (
            "listen = { a = \"127.0.0.1:1\", b = \"127.0.0.1:2\" }\nreadiness.notify_fd = 4",
            "4:23 config-invalid-value: descriptor 4 is one of the sockets of `listen`, which are 3 to 4",
        ),
        (
            "readiness.notify_fd = 16\nlimits.open_files = 16",
            "3:23 config-invalid-value: descriptor 16 is beyond `limits.open_files`, which allows 0 to 15",
        ),
        (
            "startup.notify_fd = 7\nreadiness.notify_fd = 8",
            "4:23 config-invalid-value: the startup probe waits on descriptor 7: a service has one, and it cannot be 8 too",
        ),
        (
            "readiness = { log = '[a' }",
            "3:21 config-invalid-value: `log` is no regular expression: unclosed character class",
        ),
        (
            "readiness = { log = '(?=x)' }",
            "3:21 config-invalid-value: `log` is no regular expression: look-around, including look-ahead and look-behind, is not supported",
        ),
        (
            "readiness = { http = \"http://a/\", ca = \"x\" }",
            "3:35 config-invalid-value: `ca` checks nothing here: the URL is http, where nothing is signed",
        ),
        (
            "readiness = { tcp = \"a:1\", notify = true }",
            "3:28 config-invalid-value: `tcp` and `notify` exclude each other",
        ),
        (
            "readiness = { postgres = \"postgres://a\" }",
            "3:15 config-unknown-key: unknown key `postgres` ([service.web.startup], [service.web.readiness], [service.web.liveness])",
        ),
    ] {
        assert_eq!(errors(&with(lines)), [want], "{lines}");
    }
}

#[test]
fn help_names_the_way_out() {
    for (line, want) in [
        (
            "readiness.postgres = \"postgres://a\"",
            "`postgres` is a gate: write needs = [{ postgres = \"postgres://app@127.0.0.1/shop\" }] to wait for it; a probe \
             checks the service itself, by `http`, `tcp`, `exec`, `grpc`, `log`, `file`, `notify` or `notify_fd`",
        ),
        (
            "needs = [{ notify = true }]",
            "`notify` is what the service itself says: write it under [service.NAME.readiness], and wait for it with { service = \"NAME\" }",
        ),
        ("needs = [{ postgress = \"x\" }]", "did you mean `postgres`?"),
        ("needs = [{ tcp = \"a:1\", loose = \"stop\" }]", "did you mean `lose`?"),
        ("needs = [{ redis = \"redis://a\", ca = \"x\" }]", "write rediss, or take `ca` out"),
        ("readiness.notify = false", "take `notify` out, and write another kind in its place"),
        ("needs = [{ redis = \"db\" }]", "write redis://[user[:password]@]host[:port][/name]"),
    ] {
        assert_eq!(help(&with(line)), want, "{line}");
    }
}
