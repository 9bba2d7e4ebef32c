//! A stack and a service as a list of keys with their values. Every structure is taken apart without `..`: a new field
//! has to be given its key, and its class, here.

use std::fmt::Debug;
use std::path::Path;

use super::words::{self, Part, Words};
use crate::stack::{
    Backoff, Check, Forward, ForwardBackoff, ForwardBatch, GiveUp, Hook, Hooks, Limits, Listen, LogPolicy,
    Probe, RestartPolicy, Rotation, Service, Stack, StopPolicy,
};
use crate::value::{Choice as _, size_text, time_text};

/// What a change of a key asks for, the weightiest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Class {
    /// The running program has been given the old value.
    Restart,
    /// It is the number of replicas.
    Scale,
    /// Only the host goes by it.
    InPlace,
}

/// One key of a service.
pub(super) struct Entry {
    /// As in the file.
    pub(super) key: String,
    /// What asks whether it has changed; may hold secrets, and is never shown.
    pub(super) value: String,
    /// For people.
    pub(super) shown: String,
    pub(super) class: Class,
}

/// Gathers entries, each beneath the same beginning of keys.
struct Entries {
    list: Vec<Entry>,
    class: Class,
}

impl Entries {
    fn add(&mut self, key: impl Into<String>, value: &impl Debug, shown: impl Into<String>) {
        self.add_exact(key, format!("{value:?}"), shown);
    }

    /// For a value whose `Debug` hides a part of it.
    fn add_exact(&mut self, key: impl Into<String>, value: String, shown: impl Into<String>) {
        let (key, shown) = (key.into(), words::printable(&shown.into()));
        self.list.push(Entry { key, value, shown, class: self.class });
    }

    /// Adds a key that may be absent, and is not there then.
    fn add_some<T: Debug>(
        &mut self,
        key: impl Into<String>,
        value: Option<&T>,
        shown: impl Fn(&T) -> String,
    ) {
        if let Some(value) = value {
            self.add(key, value, shown(value));
        }
    }
}

/// The keys at the top of the file.
pub(super) fn stack(stack: &Stack) -> Vec<Entry> {
    // The services are compared one by one. Where the file lies shows in every path that depends on it.
    let Stack { name, file: _, dir, stop_budget, log_max_total_bytes, services: _, forwards } = stack;
    let mut entries = Entries { list: Vec::new(), class: Class::InPlace };
    entries.add("stack", name, name.as_str());
    entries.add_some("stop_budget", stop_budget.as_ref(), |time| time_text(*time));
    entries.add("log.max_total", log_max_total_bytes, size_text(*log_max_total_bytes));
    for forward in forwards {
        add_forward(&mut entries, &Words { dir }, forward);
    }
    entries.list
}

fn add_forward(entries: &mut Entries, words: &Words<'_>, forward: &Forward) {
    let Forward {
        name,
        destination,
        services,
        stdout,
        stderr,
        level,
        labels,
        headers,
        token_file,
        ca,
        gzip,
        spool_bytes,
        batch: ForwardBatch { records, bytes, wait },
        timeout,
        backoff: ForwardBackoff { first, factor, max, jitter },
    } = forward;
    let key = |key: &str| format!("forward.{name}.{key}");
    let (to, url) = destination.words();
    entries.add(key("to"), &to, to);
    entries.add(key("url"), &url, url.clone());
    if !services.is_empty() {
        let names: Vec<_> = services.iter().map(mainstay_types::ServiceName::as_str).collect();
        entries.add(key("services"), services, names.join(", "));
    }
    if !(*stdout && *stderr) {
        entries.add(key("streams"), &(stdout, stderr), if *stdout { "stdout" } else { "stderr" });
    }
    entries.add_some(key("level"), level.as_ref(), ToString::to_string);
    for (label, value) in labels {
        entries.add(key(&format!("labels.{label}")), value, value);
    }
    for (header, value) in &headers.0 {
        entries.add_exact(key(&format!("headers.{header}")), value.clone(), words::HIDDEN);
    }
    entries.add_some(key("token_file"), token_file.as_ref(), |path| words.path(path));
    entries.add_some(key("ca"), ca.as_ref(), |ca| words.path(&ca.0));
    entries.add(key("compress"), gzip, if *gzip { "gzip" } else { "none" });
    entries.add(key("spool"), spool_bytes, size_text(*spool_bytes));
    entries.add(key("batch.records"), records, records.to_string());
    entries.add(key("batch.bytes"), bytes, size_text(*bytes));
    entries.add(key("batch.wait"), wait, time_text(*wait));
    entries.add(key("timeout"), timeout, time_text(*timeout));
    entries.add(key("backoff.first"), first, time_text(*first));
    entries.add(key("backoff.factor"), factor, factor.to_string());
    entries.add(key("backoff.max"), max, time_text(*max));
    entries.add(key("backoff.jitter"), jitter, jitter.to_string());
}

/// The keys of a service; paths beneath `dir` are shown relative to it.
pub(super) fn service(service: &Service, dir: &Path) -> Vec<Entry> {
    let Service {
        name: _,
        line: _,
        description,
        kind,
        command,
        workdir,
        env,
        inherit_env,
        env_files,
        user,
        group,
        replicas,
        autostart,
        needs,
        startup,
        readiness,
        liveness,
        restart,
        stop,
        log,
        reload,
        hooks,
        listen,
        limits,
    } = service;
    let words = Words { dir };
    let mut entries = Entries { list: Vec::new(), class: Class::Restart };
    entries.add("kind", kind, words::kind(*kind));
    entries.add("command", command, words.command(command));
    entries.add("workdir", workdir, words.path(workdir));
    for (name, value) in env {
        entries.add(format!("env.{name}"), value, words::variable(name, value));
    }
    entries.add("inherit_env", inherit_env, inherit_env.to_string());
    if !env_files.is_empty() {
        let files: Vec<_> = env_files.iter().map(|file| words.path(file)).collect();
        entries.add("env_file", env_files, files.join(", "));
    }
    entries.add_some("user", user.as_ref(), String::clone);
    entries.add_some("group", group.as_ref(), String::clone);
    add_listen(&mut entries, &words, listen);
    add_limits(&mut entries, limits);
    entries.class = Class::Scale;
    entries.add("replicas", replicas, replicas.to_string());
    entries.class = Class::InPlace;
    entries.add_some("description", description.as_ref(), String::clone);
    entries.add("autostart", autostart, autostart.to_string());
    if !needs.is_empty() {
        let exact: String = needs.iter().map(words::exact_need).collect();
        let shown: Vec<_> = needs.iter().map(|need| words.need(need)).collect();
        entries.add_exact("needs", exact, shown.join(", "));
    }
    for (name, probe) in [("startup", startup), ("readiness", readiness), ("liveness", liveness)] {
        if let Some(probe) = probe {
            add_probe(&mut entries, &words, name, probe);
        }
    }
    add_restart(&mut entries, restart);
    let StopPolicy { steps, grace } = stop;
    entries.add("stop", &(steps, grace), words.stop(stop));
    add_log(&mut entries, log);
    entries.add("reload", reload, words.reload(reload));
    let Hooks { before_start, after_ready, before_stop, after_exit } = hooks;
    let hook = |hook: &Hook| words.hook(hook);
    entries.add_some("before_start", before_start.as_ref(), hook);
    entries.add_some("after_ready", after_ready.as_ref(), hook);
    entries.add_some("before_stop", before_stop.as_ref(), hook);
    entries.add_some("after_exit", after_exit.as_ref(), hook);
    entries.list
}

fn add_log(entries: &mut Entries, log: &LogPolicy) {
    let LogPolicy { rotate, max_line_bytes, when_blocked, fsync, redact } = log;
    let Rotation { size_bytes, age, keep, keep_age, keep_total_bytes, compress } = rotate;
    entries.add("log.rotate.size", size_bytes, size_text(*size_bytes));
    entries.add_some("log.rotate.age", age.as_ref(), |time| time_text(*time));
    entries.add("log.rotate.keep", keep, keep.to_string());
    entries.add_some("log.rotate.keep_age", keep_age.as_ref(), |time| time_text(*time));
    entries.add("log.rotate.keep_total", keep_total_bytes, size_text(*keep_total_bytes));
    entries.add("log.rotate.compress", compress, compress.to_string());
    entries.add("log.max_line", max_line_bytes, size_text(*max_line_bytes));
    entries.add("log.when_blocked", when_blocked, when_blocked.word());
    entries.add("log.fsync", fsync, fsync.word());
    if !redact.is_empty() {
        entries.add("log.redact", redact, redact.join(", "));
    }
}

fn add_listen(entries: &mut Entries, words: &Words<'_>, listen: &[Listen]) {
    for (index, Listen { name, address }) in listen.iter().enumerate() {
        // The place in the list is the number of the descriptor, which a program may go by.
        entries.add(
            format!("listen.{name}"),
            &(index, address),
            format!("{} as descriptor {}", words.address(address), index + 3),
        );
    }
}

fn add_limits(entries: &mut Entries, limits: &Limits) {
    let Limits { open_files, memory_bytes, pids, cpu_millis } = limits;
    entries.add_some("limits.memory", memory_bytes.as_ref(), |bytes| size_text(*bytes));
    entries.add_some("limits.pids", pids.as_ref(), u64::to_string);
    entries.add_some("limits.cpu", cpu_millis.as_ref(), |millis| words::cores(*millis));
    entries.add_some("limits.open_files", open_files.as_ref(), u64::to_string);
}

fn add_probe(entries: &mut Entries, words: &Words<'_>, name: &str, probe: &Probe) {
    let Probe { check, initial_delay, period, timeout, success_threshold, failure_threshold } = probe;
    match check {
        Check::Ask(action) => {
            for Part { key, exact, shown } in words.action(action) {
                entries.add_exact(format!("{name}.{key}"), exact, shown);
            }
        }
        // A running program was told how it is to say so when it was started, and a line that it has written already
        // would not be seen again: these take a new start.
        Check::Log(pattern) => {
            entries.class = Class::Restart;
            entries.add(format!("{name}.log"), pattern, pattern.clone());
        }
        Check::Notify => {
            entries.class = Class::Restart;
            entries.add(format!("{name}.notify"), &true, "true");
        }
        Check::NotifyFd(descriptor) => {
            entries.class = Class::Restart;
            entries.add(format!("{name}.notify_fd"), descriptor, descriptor.to_string());
        }
    }
    // The program was told the interval of its watchdog, which is made from these two.
    let is_watchdog = name == "liveness" && *check == Check::Notify;
    entries.class = if is_watchdog { Class::Restart } else { Class::InPlace };
    entries.add(format!("{name}.period"), period, time_text(*period));
    entries.add(format!("{name}.failure_threshold"), failure_threshold, failure_threshold.to_string());
    entries.class = Class::InPlace;
    entries.add(format!("{name}.initial_delay"), initial_delay, time_text(*initial_delay));
    entries.add(format!("{name}.timeout"), timeout, time_text(*timeout));
    entries.add(format!("{name}.success_threshold"), success_threshold, success_threshold.to_string());
}

fn add_restart(entries: &mut Entries, restart: &RestartPolicy) {
    let RestartPolicy { when, backoff, give_up } = restart;
    let Backoff { first, factor, max, jitter, reset_after } = backoff;
    entries.add("restart.when", when, words::restart_when(*when));
    entries.add("restart.backoff.first", first, time_text(*first));
    entries.add("restart.backoff.factor", factor, factor.to_string());
    entries.add("restart.backoff.max", max, time_text(*max));
    entries.add("restart.backoff.jitter", jitter, jitter.to_string());
    entries.add("restart.backoff.reset_after", reset_after, time_text(*reset_after));
    let Some(GiveUp { failures, within, retry_after }) = give_up else {
        entries.add("restart.give_up.failures", &0_u32, "0");
        return;
    };
    entries.add("restart.give_up.failures", failures, failures.to_string());
    entries.add("restart.give_up.within", within, time_text(*within));
    entries.add_some("restart.give_up.retry_after", retry_after.as_ref(), |time| time_text(*time));
}
