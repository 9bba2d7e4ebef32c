//! Whatever the text: no panic, and every error lies inside it.

use std::path::Path;

use mainstay_config::{Input, decode, parse, parse_env_file};
use proptest::prelude::*;

/// A file that uses most of the format, to be broken in many ways.
const VALID: &str = r#"stack = "shop"
stop_budget = "60s"
[service.job]
command = ["./migrate", "--up", "${HOME}"]
kind = "oneshot"
[service.web]
command = "./web --listen ${ADDRESS:-127.0.0.1:8080} 'a b'"
env = { RUST_LOG = "info", PORT = 8080, "é" = true }
env_file = [".env"]
replicas = 2
needs = [
  { service = "job", is = "completed" }, { tcp = "[::1]:6379", within = "1m30s" },
  { http = "http://127.0.0.1:8500/x?y", status = 200 }, { exec = ["pg_isready"] },
  { postgres = "postgres://a:b@c/d", ca = "ca.pem", lose = "stop", period = "5s" }, { dns = "db.internal" },
]
listen = { http = "0.0.0.0:80", admin = "unix:run/a.sock" }
startup = { log = 'listening on \d+', failure_threshold = 30 }
reload = { command = "x", timeout = "5s" }
stop = { steps = [{ command = "x", wait = "5s" }, { signal = "SIGINT" }] }
before_start = { command = ["./prepare"], timeout = "1m" }
readiness = { http = "http://127.0.0.1:8080/health", period = "10s", timeout = "1s" }
[service.web.restart]
backoff = { first = "200ms", factor = 2.0, max = "30s", jitter = 0.1 }
give_up = { failures = 5, within = "60s" }
[service.web.log]
rotate = { size = "64MiB", keep = 8, compress = true }
"#;

fn check(text: &str) {
    let env = |name: &str| (name == "HOME").then(|| "/home/me".to_owned());
    let Err(diagnostics) = parse(&Input { text, file: Path::new("/srv/mainstay.toml"), env: &env }) else {
        return;
    };
    assert!(!diagnostics.list.is_empty());
    assert_eq!(diagnostics.text, text);
    let lines = u32::try_from(text.split('\n').count()).unwrap();
    for error in &diagnostics.list {
        assert!(error.span.start <= error.span.end && error.span.end <= text.len(), "{error:?}");
        assert!(text.get(error.span.clone()).is_some(), "inside a character: {error:?}");
        assert!(error.line >= 1 && error.line <= lines && error.column >= 1, "{error:?}");
        assert!(!error.message.is_empty() && error.message.len() < 2000, "{error:?}");
    }
    assert!(diagnostics.list.is_sorted_by_key(|error| error.span.start));
    assert!(!diagnostics.render(false).is_empty());
}

/// Pieces that mean something in the format, to reach further than arbitrary characters do.
fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "[",
            "]",
            "[[",
            "]]",
            "{",
            "}",
            "\"",
            "'",
            "\"\"\"",
            "=",
            ",",
            ".",
            "#",
            "\n",
            "\r\n",
            "${",
            "$${",
            "}",
            "\\",
            "\\u0000",
            "\0",
            "\u{feff}",
            "é",
            "“",
            "[service.web]",
            "[service.job]",
            "needs = [{ service = \"web\" }]\n",
            "command = ",
            "kind = \"oneshot\"",
            "5",
            "-1",
            "nan",
            "1979-05-27",
            "true",
            "\"10s\"",
            "'('",
            "listen = { a = \"[::]:80\" }\n",
            "stop.steps = [{}]\n",
            "\"redis://:p@h\"",
            "a.b.c = 1\n",
            "service = 5\n",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,4}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in any::<String>()) {
        check(&text);
        let _ = parse_env_file(&text, Path::new(".env"));
    }

    #[test]
    fn any_fragments(fragments in prop::collection::vec(fragment(), 0..40)) {
        let text = fragments.concat();
        check(&text);
        let _ = parse_env_file(&text, Path::new(".env"));
    }

    #[test]
    fn mutated_files(edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..6, fragment()), 1..5)) {
        let mut text: Vec<char> = VALID.chars().collect();
        for (at, removed, inserted) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + removed).min(text.len());
            text.splice(at..end, inserted.chars());
        }
        check(&text.into_iter().collect::<String>());
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        match decode(&bytes, Path::new("f")) {
            Ok(text) => check(&text),
            Err(diagnostics) => {
                let span = diagnostics.list[0].span.clone();
                prop_assert!(diagnostics.text.get(span).is_some());
                prop_assert!(!diagnostics.render(false).is_empty());
            }
        }
    }
}

#[test]
fn the_file_to_be_broken_is_right() {
    super::good(VALID);
}
