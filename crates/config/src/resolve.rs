//! From what was written to what holds: defaults filled in, and the rules that take more than one key to check.

mod checks;
mod listen;
mod stop;

use std::collections::BTreeMap;

use mainstay_types::ProbeKind;

use crate::declare::At;
use crate::diagnostic::{Found, Lines};
use crate::graph;
use crate::keys::{
    BackoffOptions, GiveUpOptions, LimitOptions, LogOptions, ProbeOptions, RestartOptions, RotateOptions,
    SandboxOptions, SandboxProfile,
};
use crate::nested::{HookCommand, NamedService};
use crate::read::Reader;
use crate::stack::{
    Backoff, GiveUp, Hook, Hooks, Kind, Limits, LogPolicy, RestartPolicy, RestartWhen, Rotation, Service,
};
use crate::target::PatternList;
use crate::value::{size_text, time_text};

/// The services and the kind of each, for the gates between them; `None` where it cannot be read.
pub(crate) type Kinds<'s> = BTreeMap<&'s str, Option<Kind>>;

/// What the logs of one service may take when the file does not say: 8 closed files of 64 MiB and a current one, with room
/// for a second replica.
const DEFAULT_KEEP_TOTAL_BYTES: u64 = 1 << 30;
/// What the logs of a whole stack may take when the file does not say.
const DEFAULT_MAX_TOTAL_BYTES: u64 = 4 << 30;

/// What the logs of all services may take: as written, else enough for each of them alone.
pub(crate) fn log_max_total(written: Option<u64>, services: &[Service]) -> u64 {
    let largest = services.iter().map(|service| service.log.rotate.keep_total_bytes).max();
    written.unwrap_or(DEFAULT_MAX_TOTAL_BYTES.max(largest.unwrap_or(0)))
}

/// Resolves all services; `None` when there is none, or one of them is not complete.
pub(crate) fn services(
    reader: &mut Reader<'_>,
    named: &[NamedService],
    redact: &[String],
    lines: &Lines,
) -> Option<Vec<Service>> {
    let kind = |service: &NamedService| service.is_kind_known.then(|| service.options.kind());
    let kinds: Kinds<'_> = named.iter().map(|service| (service.name.as_str(), kind(service))).collect();
    let mut services = Vec::with_capacity(named.len());
    let mut whole = true;
    for service in named {
        reader.service = Some(service.name.to_string());
        let resolved = resolve(reader, service, &kinds, redact, lines);
        whole &= resolved.is_some();
        services.extend(resolved);
    }
    reader.service = None;
    graph::report_cycles(reader, named);
    listen::report_conflicts(reader, named);
    (whole && !services.is_empty()).then_some(services)
}

fn resolve(
    reader: &mut Reader<'_>,
    named: &NamedService,
    kinds: &Kinds<'_>,
    redact: &[String],
    lines: &Lines,
) -> Option<Service> {
    let options = &named.options;
    let kind = options.kind();
    if kind == Kind::Oneshot {
        check_oneshot(reader, named);
    }
    checks::check_probes(reader, named);
    let needs = options.needs.as_ref().map_or(&[][..], |at| &at.value.0);
    let needs: Vec<_> = needs.iter().filter_map(|need| checks::need(reader, named, need, kinds)).collect();
    let sandbox: SandboxOptions = value_of(options.sandbox.as_ref());
    match sandbox.profile() {
        // The only profile there is yet; it asks for nothing.
        SandboxProfile::Off => {}
    }
    Some(Service {
        name: named.name.clone(),
        line: u32::try_from(lines.index(named.span.start) + 1).unwrap_or(u32::MAX),
        description: options.description.as_ref().map(|at| at.value.clone()),
        kind,
        command: options.command.as_ref().map(|at| at.value.clone())?,
        workdir: options.workdir.as_ref().map_or_else(|| reader.dir.clone(), |at| at.value.clone()),
        env: value_of(options.env.as_ref()).0,
        inherit_env: options.inherit_env(),
        env_files: value_of(options.env_file.as_ref()).0,
        user: options.user.as_ref().map(|at| at.value.clone()),
        group: options.group.as_ref().map(|at| at.value.clone()),
        replicas: options.replicas(),
        autostart: options.autostart(),
        needs,
        startup: options.startup.as_ref().and_then(|at| checks::probe(reader, &at.value)).map(Box::new),
        readiness: options.readiness.as_ref().and_then(|at| checks::probe(reader, &at.value)).map(Box::new),
        liveness: options.liveness.as_ref().and_then(|at| checks::probe(reader, &at.value)).map(Box::new),
        restart: resolve_restart(reader, &value_of(options.restart.as_ref()), kind),
        stop: stop::stop(reader, &value_of(options.stop.as_ref())),
        log: resolve_log(reader, &value_of(options.log.as_ref()), redact),
        reload: stop::reload(reader, options.reload.as_ref(), kind),
        hooks: Hooks {
            before_start: hook(options.before_start.as_ref()),
            after_ready: hook(options.after_ready.as_ref()),
            before_stop: hook(options.before_stop.as_ref()),
            after_exit: hook(options.after_exit.as_ref()),
        },
        listen: options.listen.iter().flat_map(|at| &at.value.0).map(|socket| socket.value.clone()).collect(),
        limits: resolve_limits(&value_of(options.limits.as_ref())),
    })
}

fn value_of<T: Clone + Default>(at: Option<&At<T>>) -> T {
    at.map(|at| at.value.clone()).unwrap_or_default()
}

fn hook(written: Option<&At<HookCommand>>) -> Option<Hook> {
    written.map(|at| at.value.0.clone())
}

/// A oneshot finishes: what only makes sense while something runs on is refused.
fn check_oneshot(reader: &mut Reader<'_>, named: &NamedService) {
    let options = &named.options;
    if let Some(replicas) = options.replicas.as_ref().filter(|at| at.value != 1) {
        let message =
            "a oneshot has one replica: it finishes, and running it several times at once repeats its work";
        reader.report(Found::invalid(replicas.span.clone(), message).help("take `replicas` out"));
    }
    for (probe, kind) in probes(named) {
        let message = format!("a oneshot has no {kind} probe: it is done when it exits with code 0");
        let help = format!("take `{kind}` out; a gate waits for it with is = \"completed\"");
        reader.report(Found::invalid(probe.key.clone(), message).help(help));
    }
    let when = options.restart.as_ref().and_then(|at| at.value.when.as_ref());
    if let Some(when) = when.filter(|at| at.value == RestartWhen::Always) {
        let message = "a oneshot cannot restart \"always\": it would never complete";
        let help = "accepted for a oneshot: \"on-failure\", \"never\"";
        reader.report(Found::invalid(when.span.clone(), message).help(help));
    }
}

fn probes(named: &NamedService) -> impl Iterator<Item = (&At<ProbeOptions>, ProbeKind)> {
    let options = &named.options;
    [
        (options.startup.as_ref(), ProbeKind::Startup),
        (options.readiness.as_ref(), ProbeKind::Readiness),
        (options.liveness.as_ref(), ProbeKind::Liveness),
    ]
    .into_iter()
    .filter_map(|(probe, kind)| Some((probe?, kind)))
}

fn resolve_restart(reader: &mut Reader<'_>, options: &RestartOptions, kind: Kind) -> RestartPolicy {
    let backoff: BackoffOptions = value_of(options.backoff.as_ref());
    let (first, max) = (backoff.first(), backoff.max());
    if max < first
        && let Some(written) = backoff.max.as_ref().or(backoff.first.as_ref())
    {
        let message =
            format!("`max` ({}) must not be shorter than `first` ({})", time_text(max), time_text(first));
        reader.report(Found::invalid(written.span.clone(), message));
    }
    let by_kind = match kind {
        Kind::LongRunning => RestartWhen::Always,
        Kind::Oneshot => RestartWhen::OnFailure,
    };
    let give_up: GiveUpOptions = value_of(options.give_up.as_ref());
    if let Some(retry) = give_up.retry_after.as_ref().filter(|_| give_up.failures() == 0) {
        let message = "`retry_after` follows giving up, and with failures = 0 the service never gives up";
        let help = "take `retry_after` out, or write failures = 5 or so";
        reader.report(Found::invalid(retry.key.clone(), message).help(help));
    }
    RestartPolicy {
        when: options.when.as_ref().map_or(by_kind, |at| at.value),
        backoff: Backoff {
            first,
            factor: backoff.factor(),
            max,
            jitter: backoff.jitter(),
            reset_after: backoff.reset_after(),
        },
        give_up: (give_up.failures() > 0).then(|| GiveUp {
            failures: give_up.failures(),
            within: give_up.within(),
            retry_after: give_up.retry_after.as_ref().map(|at| at.value),
        }),
    }
}

fn resolve_log(reader: &mut Reader<'_>, options: &LogOptions, redact: &[String]) -> LogPolicy {
    let own: PatternList = value_of(options.redact.as_ref());
    let rotate: RotateOptions = value_of(options.rotate.as_ref());
    let size_bytes = rotate.size().0;
    if let Some(total) = rotate.keep_total.as_ref().filter(|total| total.value.0 < size_bytes) {
        let message = format!(
            "`keep_total` ({}) must not be smaller than `size` ({}): one file may be as large as that",
            size_text(total.value.0),
            size_text(size_bytes)
        );
        reader.report(Found::invalid(total.span.clone(), message));
    }
    LogPolicy {
        rotate: Rotation {
            size_bytes,
            age: rotate.age.as_ref().map(|at| at.value),
            keep: rotate.keep(),
            keep_age: rotate.keep_age.as_ref().map(|at| at.value),
            keep_total_bytes: rotate
                .keep_total
                .as_ref()
                .map_or(DEFAULT_KEEP_TOTAL_BYTES.max(size_bytes.saturating_mul(2)), |at| at.value.0),
            compress: rotate.compress(),
        },
        max_line_bytes: options.max_line().0,
        when_blocked: options.when_blocked(),
        fsync: options.fsync(),
        redact: redact.iter().chain(&own.0).cloned().collect(),
    }
}

fn resolve_limits(options: &LimitOptions) -> Limits {
    // From 0.01 to 1024 cores: neither end is lost in a whole number of thousandths.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "10 to 1,024,000 fits")]
    let thousandths = |cores: f64| (cores * 1000.0).round() as u64;
    Limits {
        open_files: options.open_files.as_ref().map(|at| at.value),
        memory_bytes: options.memory.as_ref().map(|at| at.value.0),
        pids: options.pids.as_ref().map(|at| at.value),
        cpu_millis: options.cpu.as_ref().map(|at| thousandths(at.value)),
    }
}
