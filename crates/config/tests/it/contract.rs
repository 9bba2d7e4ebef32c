//! The example of the interface contract: what is supported parses, the rest is refused by name.

use mainstay_config::Check;
use mainstay_types::StopSignal;

use super::{errors, good, read};

/// The contract's example without `sandbox` and `settings`, whose behaviour comes later, and with the keys that it
/// mentions in comments.
const SUPPORTED: &str = r#"
stack = "shop"
stop_budget = "60s"

[service.db-migrate]
command = ["./migrate", "--up"]
kind    = "oneshot"
needs   = [{ postgres = "postgres://app@127.0.0.1/shop", within = "60s" }]

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
  { tcp = "127.0.0.1:6379" }, { redis = "redis://127.0.0.1:6379" }, { amqp = "amqp://127.0.0.1" },
  { http = "https://127.0.0.1:8500/v1/status/leader", status = 200 }, { dns = "db.internal" },
  { file = "/run/secrets/ready" }, { exec = ["pg_isready"], within = "30s" },
]
listen = { http = "0.0.0.0:80" }
[service.web.startup]
log = "listening on port [0-9]+"
[service.web.readiness]
http = "http://127.0.0.1:8080/health"
period = "10s"
initial_delay = "1s"
timeout = "2s"
success_threshold = 2
failure_threshold = 5
[service.web.liveness]
notify = true
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
memory = "512MiB"
pids = 512
open_files = 4096
cpu = 1.5
[service.web.sandbox]
profile = "off"
"#;

#[test]
fn the_supported_part_parses() {
    let stack = good(SUPPORTED);
    assert_eq!(stack.name.as_str(), "shop");
    assert_eq!(stack.stop_budget.unwrap().as_secs(), 60);
    let web = stack.service("web").unwrap();
    assert_eq!((web.replicas, web.needs.len(), web.listen.len()), (2, 8, 1));
    let limits = web.limits;
    assert_eq!((limits.memory_bytes, limits.pids), (Some(512 << 20), Some(512)));
    assert_eq!((limits.open_files, limits.cpu_millis), (Some(4096), Some(1500)));
    assert_eq!(web.readiness.as_ref().unwrap().success_threshold, 2);
    assert!(matches!(&web.startup.as_ref().unwrap().check, Check::Log(log) if log.ends_with("[0-9]+")));
    assert_eq!(web.liveness.as_ref().unwrap().check, Check::Notify);
    assert_eq!(web.user.as_deref(), Some("shop"));
    assert_eq!(web.stop, mainstay_config::StopPolicy::signal(StopSignal::Term, web.stop.grace));
}

#[test]
fn every_later_key_is_refused_by_name_and_only_once() {
    for (lines, name) in [
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
fn signals_have_names_of_windows_too() {
    for (name, signal) in
        [("ctrl-c", StopSignal::Int), ("ctrl-break", StopSignal::Quit), ("close-window", StopSignal::Hup)]
    {
        let text = format!("[service.web]\ncommand = \"x\"\nstop = {{ signal = \"{name}\" }}\n");
        let web = good(&text).services[0].clone();
        assert_eq!(web.stop, mainstay_config::StopPolicy::signal(signal, web.stop.grace));
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
