//! The stacks that are explored: small, each with another part of the rules, written as users write theirs.

use std::path::Path;

use mainstay_config::{Input, Stack};

/// A stack and how far it is explored in the ordinary test.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
    /// The changed file, which a command applies.
    pub(super) changed: Option<&'static str>,
}

/// Durations are few and round, so that equal situations look equal; nothing is random but the waits between rounds
/// of outside gates.
pub(super) const ALL: [Named; 7] = [
    Named {
        name: "chain",
        text: r#"
            [service.db]
            command = "x"
            readiness = { tcp = "127.0.0.1:1", period = "2s", timeout = "1s", failure_threshold = 1 }
            restart = { backoff = { first = "1s", factor = 1.0, max = "1s", jitter = 0.0 }, give_up = { failures = 2, within = "8s" } }
            stop = { grace = "3s" }
            [service.web]
            command = "x"
            needs = [{ service = "db" }]
            restart = { backoff = { first = "1s", factor = 1.0, max = "1s", jitter = 0.0 }, give_up = { failures = 2, within = "8s" } }
            stop = { grace = "3s" }
            [service.worker]
            command = "x"
            autostart = false
            needs = [{ service = "web", is = "started", within = "4s" }]
            restart = { backoff = { first = "0s", factor = 1.0, max = "1s", jitter = 0.0 }, when = "on-failure" }
            stop = { grace = "3s" }
        "#,
        changed: None,
    },
    Named {
        name: "migration",
        text: r#"
            [service.migrate]
            command = "x"
            kind = "oneshot"
            restart = { backoff = { first = "1s", factor = 1.0, max = "1s", jitter = 0.0 }, give_up = { failures = 2, within = "8s" } }
            stop = { grace = "3s" }
            [service.web]
            command = "x"
            needs = [{ service = "migrate", is = "completed" }, { tcp = "127.0.0.1:1", within = "6s" }]
            liveness = { tcp = "127.0.0.1:1", period = "2s", timeout = "1s", failure_threshold = 2 }
            restart = { backoff = { first = "1s", factor = 1.0, max = "1s", jitter = 0.0 }, give_up = { failures = 2, within = "8s" } }
            stop = { grace = "3s" }
        "#,
        changed: None,
    },
    Named {
        name: "replicas",
        text: r#"
            [service.web]
            command = "x"
            replicas = 2
            startup = { tcp = "127.0.0.1:1", period = "2s", timeout = "1s", failure_threshold = 2 }
            readiness = { tcp = "127.0.0.1:1", period = "2s", timeout = "1s", success_threshold = 2, failure_threshold = 1 }
            restart = { backoff = { first = "1s", factor = 1.0, max = "1s", jitter = 0.0 }, give_up = { failures = 2, within = "8s" } }
            stop = { grace = "3s" }
        "#,
        changed: None,
    },
    Named {
        name: "hooks",
        text: r#"
            [service.web]
            command = "x"
            restart = { backoff = { first = "1s", factor = 1.0, max = "1s", jitter = 0.0 }, give_up = { failures = 2, within = "8s", retry_after = "4s" } }
            stop = { grace = "4s", steps = [{ command = "ask", wait = "1s" }, { signal = "SIGINT", wait = "1s" }, { signal = "SIGTERM" }] }
            before_start = { command = "prepare", timeout = "2s" }
            after_ready = { command = "announce", timeout = "2s" }
            before_stop = { command = "leave", timeout = "1s" }
            after_exit = { command = "clean", timeout = "2s" }
        "#,
        changed: None,
    },
    Named {
        name: "kept",
        text: r#"
            [service.db]
            command = "x"
            restart = { backoff = { first = "1s", factor = 1.0, max = "1s", jitter = 0.0 } }
            stop = { grace = "2s" }
            [service.web]
            command = "x"
            needs = [{ service = "db", lose = "stop" }, { tcp = "127.0.0.1:1", lose = "stop", period = "2s" }]
            restart = { backoff = { first = "1s", factor = 1.0, max = "1s", jitter = 0.0 } }
            stop = { grace = "2s" }
            [service.worker]
            command = "x"
            needs = [{ service = "db", is = "started", lose = "restart" }]
            restart = { backoff = { first = "1s", factor = 1.0, max = "1s", jitter = 0.0 } }
            stop = { grace = "2s" }
        "#,
        changed: None,
    },
    Named {
        name: "change",
        text: r#"
            [service.db]
            command = "x"
            stop = { grace = "2s" }
            restart = { backoff = { first = "1s", factor = 1.0, max = "1s", jitter = 0.0 } }
            [service.web]
            command = "x"
            needs = [{ service = "db" }]
            replicas = 2
            stop = { grace = "2s" }
            restart = { backoff = { first = "1s", factor = 1.0, max = "1s", jitter = 0.0 } }
        "#,
        changed: Some(
            r#"
            [service.web]
            command = "x"
            needs = [{ service = "store" }]
            replicas = 1
            stop = { grace = "3s" }
            restart = { backoff = { first = "1s", factor = 1.0, max = "1s", jitter = 0.0 } }
            [service.store]
            command = "x"
            stop = { grace = "2s" }
            restart = { backoff = { first = "1s", factor = 1.0, max = "1s", jitter = 0.0 } }
        "#,
        ),
    },
    Named {
        name: "rolling",
        text: r#"
            [service.web]
            command = "x"
            replicas = 3
            reload = { rolling = true }
            stop = { grace = "2s" }
            restart = { backoff = { first = "1s", factor = 1.0, max = "1s", jitter = 0.0 }, give_up = { failures = 2, within = "8s" } }
        "#,
        changed: None,
    },
];

impl Named {
    pub(super) fn stack(self) -> Stack {
        parse(self.text)
    }

    /// The changed file.
    pub(super) fn changed_stack(self) -> Option<Stack> {
        self.changed.map(parse)
    }
}

fn parse(text: &str) -> Stack {
    let input = Input { text, file: Path::new("/explored/mainstay.toml"), env: &|_| None };
    mainstay_config::parse(&input).expect("the stacks of this file are valid")
}
