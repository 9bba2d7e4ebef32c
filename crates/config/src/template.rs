//! The commented `mainstay.toml` that `mainstay init` writes.

use mainstay_types::StackName;

use crate::quote::literal_text;

/// A first file for a command, or for a placeholder that runs and does nothing. `name` names the stack; what is no
/// name is made into one. The result is a valid file whatever the command holds, save a NUL character or no program.
#[must_use]
pub fn template(command: Option<&[String]>, name: &str) -> String {
    let stack = StackName::from_folder(name);
    let (service, words, note) = match command.and_then(|words| words.split_first()) {
        Some((program, _)) => (service_name(program), command.unwrap_or_default().to_vec(), String::new()),
        None => (
            "app".to_owned(),
            vec!["sleep".to_owned(), "infinity".to_owned()],
            "# A placeholder that does nothing: put your program and its arguments here.\n".to_owned(),
        ),
    };
    let words: Vec<_> = words.iter().map(|word| literal_text(word)).collect();
    TEMPLATE
        .replace("@STACK@", stack.as_str())
        .replace("@SERVICE@", &service)
        .replace("@NOTE@", &note)
        // Last, so that a command which holds one of the marks is left alone.
        .replace("@COMMAND@", &words.join(", "))
}

/// The name a program gives to its service: that of its file, without folder and extension.
fn service_name(program: &str) -> String {
    let file = program.rsplit(['/', '\\']).next().unwrap_or(program);
    let stem = match file.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem,
        _ => file,
    };
    match StackName::from_folder(stem).as_str() {
        // What `from_folder` says when a text holds nothing that could be in a name.
        "stack" => "app".to_owned(),
        name => name.to_owned(),
    }
}

const TEMPLATE: &str = r#"# What mainstay runs here. Try it with `mainstay run`; `mainstay check` finds mistakes in this file.
# Relative paths are relative to this file. ${NAME} is taken from the environment, ${NAME:-default} has a default.

stack = "@STACK@"
# stop_budget = "60s"                 # the whole stack has stopped after this time, or is killed

[service.@SERVICE@]
@NOTE@command = [@COMMAND@]
# description = "what it is for"
# workdir     = "."                   # default: the folder of this file
# env         = { LOG_LEVEL = "info" }
# env_file    = [".env"]              # lines of NAME=value
# user        = "nobody"              # default: whoever runs mainstay
# replicas    = 2
# listen      = { http = "0.0.0.0:80" }               # opened by mainstay and handed over (LISTEN_FDS)
# reload      = { signal = "SIGHUP" }                 # default: restarted, one replica after the other

# What must be true before it starts: other services, and things outside.
# needs = [
#   { service = "db" },                               # is = "ready" (default), "started" or "completed"
#   { tcp = "127.0.0.1:6379", within = "30s" },
#   { http = "http://127.0.0.1:8500/v1/status/leader", status = 200 },
#   { postgres = "postgres://app@127.0.0.1/shop" },   # also: redis, amqp, mysql, grpc, dns, file
#   { exec = ["./check"], lose = "restart" },         # restarted when it was away and is back
# ]

# When is it ready? Services that need it wait until then. Also: startup, and liveness (restarted when it fails).
# [service.@SERVICE@.readiness]
# http   = "http://127.0.0.1:8080/health"             # or tcp = "127.0.0.1:8080", exec = ["./check"], grpc, file,
# period = "10s"                                      # log = "listening on", notify = true (sd_notify)

# What happens when it exits.
# [service.@SERVICE@.restart]
# when    = "always"                  # "always" | "on-failure" | "never"
# backoff = { first = "200ms", factor = 2.0, max = "30s", jitter = 0.1, reset_after = "60s" }
# give_up = { failures = 5, within = "60s" }          # failures = 0 never gives up; retry_after = "10m"

# How it is stopped: the signal, then after the grace period its whole process tree is killed.
# [service.@SERVICE@.stop]
# signal = "SIGTERM"
# grace  = "15s"                      # several steps: steps = [{ command = ["./drain"], wait = "5s" }, ...]

# What it may use. `mainstay status` says when a limit is not in force.
# [service.@SERVICE@.limits]
# memory = "512MiB"
# pids   = 512
# cpu    = 1.5                        # cores

# Its output: kept in files, of which the oldest go.
# [service.@SERVICE@.log]
# rotate = { size = "64MiB", keep = 8, compress = true }      # and age = "24h", keep_age = "30d", keep_total = "1GiB"

# A task that runs once, and that others can wait for with { service = "migrate", is = "completed" }.
# [service.migrate]
# command = ["./migrate", "--up"]
# kind    = "oneshot"
"#;
