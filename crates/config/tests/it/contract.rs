//! The example of the interface contract: what is supported parses, the rest is refused by name.

use super::{errors, good, read};

/// The contract's example without the keys whose behaviour comes later.
const SUPPORTED: &str = r#"
stack = "shop"
stop_budget = "60s"

[service.db-migrate]
command = ["./migrate", "--up"]
kind    = "oneshot"
needs   = [{ tcp = "127.0.0.1:5432", within = "60s" }]

[service.web]
description = "the shop's web server"
command  = "./web --listen 127.0.0.1:8080"
workdir  = "."
env      = { RUST_LOG = "info" }
env_file = [".env"]
user     = "shop"
group    = "shop"
inherit_env = false
replicas = 2
autostart = true
needs = [
  { service = "db-migrate", is = "completed" },
  { tcp = "127.0.0.1:6379" },
  { http = "http://127.0.0.1:8500/v1/status/leader", status = 200 },
  { exec = ["pg_isready"], within = "30s" },
]
[service.web.startup]
exec = ["./started"]
[service.web.readiness]
http = "http://127.0.0.1:8080/health"
period = "10s"
initial_delay = "1s"
timeout = "2s"
success_threshold = 2
failure_threshold = 5
[service.web.liveness]
tcp = "127.0.0.1:8080"
[service.web.restart]
when    = "on-failure"
backoff = { first = "200ms", factor = 2.0, max = "30s", jitter = 0.1, reset_after = "60s" }
give_up = { failures = 5, within = "60s" }
[service.web.stop]
signal = "SIGTERM"
grace  = "15s"
[service.web.log]
rotate   = { size = "64MiB", keep = 8, compress = true }
max_line = "64KiB"
when_blocked = "wait"
[service.web.limits]
open_files = 4096
[service.web.sandbox]
profile = "off"
"#;

#[test]
fn the_supported_part_parses() {
    let stack = good(SUPPORTED);
    assert_eq!(stack.name.as_str(), "shop");
    assert_eq!(stack.stop_budget.unwrap().as_secs(), 60);
    let web = stack.service("web").unwrap();
    assert_eq!((web.replicas, web.needs.len(), web.limits.open_files), (2, 4, Some(4096)));
    assert_eq!(web.readiness.as_ref().unwrap().success_threshold, 2);
    assert!(web.startup.is_some() && web.liveness.is_some());
    assert_eq!(web.user.as_deref(), Some("shop"));
}

#[test]
fn every_later_key_is_refused_by_name_and_only_once() {
    for (lines, name) in [
        ("listen = { http = \"0.0.0.0:80\" }", "`listen`"),
        ("reload = [\"x\"]", "`reload`"),
        ("before_start = \"x\"", "`before_start`"),
        ("after_ready = \"x\"", "`after_ready`"),
        ("before_stop = \"x\"", "`before_stop`"),
        ("after_exit = \"x\"", "`after_exit`"),
        ("needs = [{ postgres = \"postgres://a\", within = \"1s\" }]", "`postgres`"),
        ("needs = [{ redis = \"redis://a\" }]", "`redis`"),
        ("needs = [{ amqp = \"amqp://a\" }]", "`amqp`"),
        ("needs = [{ mysql = \"mysql://a\" }]", "`mysql`"),
        ("needs = [{ grpc = \"a:1\" }]", "`grpc`"),
        ("needs = [{ dns = \"a\" }]", "`dns`"),
        ("needs = [{ file = \"/a\" }]", "`file`"),
        ("needs = [{ tcp = \"a:1\", lose = \"x\" }]", "`lose`"),
        ("readiness = { grpc = \"a:1\" }", "`grpc`"),
        ("readiness = { log = \"a\" }", "`log`"),
        ("liveness = { file = \"a\" }", "`file`"),
        ("startup = { notify = true }", "`notify`"),
        ("restart.give_up = { retry_after = \"1m\" }", "`retry_after`"),
        ("stop = { command = [\"x\"] }", "`command`"),
        ("stop = { signal = \"ctrl-c\" }", "`signal = \"ctrl-c\"`"),
        ("stop = { signal = \"ctrl-break\" }", "`signal = \"ctrl-break\"`"),
        ("stop = { signal = \"close-window\" }", "`signal = \"close-window\"`"),
        ("log = { when_blocked = \"drop\" }", "`when_blocked = \"drop\"`"),
        ("limits = { memory = \"512MiB\" }", "`memory`"),
        ("limits = { pids = 5 }", "`pids`"),
        ("limits = { cpu = 1.5 }", "`cpu`"),
        ("sandbox = { profile = \"standard\" }", "`profile = \"standard\"`"),
        ("sandbox = { profile = \"strict\" }", "`profile = \"strict\"`"),
        ("sandbox = { capabilities = [\"x\"] }", "`capabilities`"),
        ("sandbox = { syscalls = [\"x\"] }", "`syscalls`"),
        ("sandbox = { write = [\"x\"] }", "`write`"),
        ("sandbox = { read = [\"x\"] }", "`read`"),
        ("sandbox = { network = \"any\" }", "`network`"),
        ("[settings]\nanything = 1", "`settings`"),
    ] {
        let text = format!("[service.web]\ncommand = \"x\"\n{lines}\n");
        let errors = errors(&text);
        let want = format!("config-invalid-value: {name} is not supported yet");
        assert!(matches!(errors.as_slice(), [one] if one.contains(&want)), "{lines}: {errors:?}");
    }
}

#[test]
fn unknown_keys_are_refused_in_every_table() {
    let tables = [
        "",
        "[service.web.readiness]",
        "[service.web.restart]",
        "[service.web.stop]",
        "[service.web.log]",
        "[service.web.limits]",
        "[service.web.sandbox]",
        "[service.web]",
    ];
    for table in tables {
        let text = if table.is_empty() {
            format!("zzzzz = 1\n{SUPPORTED}")
        } else {
            SUPPORTED.replace(table, &format!("{table}\nzzzzz = 1"))
        };
        let diagnostics = read(&text).unwrap_err();
        assert_eq!(diagnostics.list.len(), 1, "{table}");
        assert!(diagnostics.list[0].message.starts_with("unknown key `zzzzz`"), "{table}");
    }
    for inline in ["{ service = ", "{ first = ", "{ failures = ", "{ size = "] {
        let text = SUPPORTED.replace(inline, &inline.replace("{ ", "{ zzzzz = 1, "));
        assert!(errors(&text)[0].contains("unknown key `zzzzz`"), "{inline}");
    }
}
