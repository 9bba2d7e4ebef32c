//! From what was written to what holds: defaults filled in, and the rules that take more than one key to check.

use std::collections::BTreeMap;
use std::ops::Range;

use mainstay_types::{ProbeAction, ProbeKind};

use crate::declare::At;
use crate::diagnostic::{Found, Lines};
use crate::graph;
use crate::keys::{
    BackoffOptions, GiveUpOptions, LogOptions, NeedOptions, ProbeOptions, RestartOptions, RotateOptions,
    SandboxOptions, SandboxProfile, StopOptions, WhenBlocked,
};
use crate::nested::NamedService;
use crate::read::Reader;
use crate::stack::{
    Backoff, Check, Condition, Gate, GiveUp, Hooks, Kind, Limits, LogPolicy, Need, Probe, ReloadPolicy,
    RestartPolicy, RestartWhen, Rotation, Service, StopPolicy,
};
use crate::value::time_text;

/// The services and the kind of each, for the gates between them; `None` where it cannot be read.
pub(crate) type Kinds<'s> = BTreeMap<&'s str, Option<Kind>>;

/// Resolves all services; `None` when there is none, or one of them is not complete.
pub(crate) fn services(
    reader: &mut Reader<'_>,
    named: &[NamedService],
    lines: &Lines,
) -> Option<Vec<Service>> {
    let kind = |service: &NamedService| service.is_kind_known.then(|| service.options.kind());
    let kinds: Kinds<'_> = named.iter().map(|service| (service.name.as_str(), kind(service))).collect();
    let mut services = Vec::with_capacity(named.len());
    let mut whole = true;
    for service in named {
        reader.service = Some(service.name.to_string());
        let resolved = resolve(reader, service, &kinds, lines);
        whole &= resolved.is_some();
        services.extend(resolved);
    }
    reader.service = None;
    graph::report_cycles(reader, named);
    (whole && !services.is_empty()).then_some(services)
}

fn resolve(
    reader: &mut Reader<'_>,
    named: &NamedService,
    kinds: &Kinds<'_>,
    lines: &Lines,
) -> Option<Service> {
    let options = &named.options;
    let kind = options.kind();
    if kind == Kind::Oneshot {
        check_oneshot(reader, named);
    }
    check_probes(reader, named);
    let needs = options.needs.as_ref().map_or(&[][..], |at| &at.value.0);
    let needs: Vec<_> = needs.iter().filter_map(|need| resolve_need(reader, named, need, kinds)).collect();
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
        startup: options.startup.as_ref().and_then(|at| resolve_probe(&at.value)),
        readiness: options.readiness.as_ref().and_then(|at| resolve_probe(&at.value)),
        liveness: options.liveness.as_ref().and_then(|at| resolve_probe(&at.value)),
        restart: resolve_restart(reader, &value_of(options.restart.as_ref()), kind),
        stop: resolve_stop(&value_of(options.stop.as_ref())),
        log: resolve_log(&value_of(options.log.as_ref())),
        limits: Limits {
            open_files: options
                .limits
                .as_ref()
                .and_then(|at| at.value.open_files.as_ref())
                .map(|at| at.value),
            ..Limits::default()
        },
        reload: ReloadPolicy::Rolling,
        hooks: Hooks::default(),
        listen: Vec::new(),
    })
}

fn value_of<T: Clone + Default>(at: Option<&At<T>>) -> T {
    at.map(|at| at.value.clone()).unwrap_or_default()
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

/// Kubernetes' rule: a startup or liveness probe passes with the first success.
fn check_probes(reader: &mut Reader<'_>, named: &NamedService) {
    for (probe, kind) in probes(named) {
        let threshold = probe.value.success_threshold.as_ref();
        if let Some(threshold) = threshold.filter(|at| at.value != 1 && kind != ProbeKind::Readiness) {
            let message = format!("`success_threshold` must be 1 for a {kind} probe");
            let help = "only a readiness probe can ask for several passes in a row";
            reader.report(Found::invalid(threshold.span.clone(), message).help(help));
        }
    }
}

fn resolve_probe(options: &ProbeOptions) -> Option<Probe> {
    let status = options.status.as_ref().map(|at| at.value);
    let action = if let Some(http) = &options.http {
        ProbeAction::Http { target: http.value.clone(), status, body: None, ca: None }
    } else if let Some(tcp) = &options.tcp {
        ProbeAction::Tcp(tcp.value.clone())
    } else {
        ProbeAction::Exec(options.exec.as_ref()?.value.clone())
    };
    Some(Probe {
        check: Check::Ask(action),
        initial_delay: options.initial_delay(),
        period: options.period(),
        timeout: options.timeout(),
        success_threshold: options.success_threshold(),
        failure_threshold: options.failure_threshold(),
    })
}

fn resolve_need(
    reader: &mut Reader<'_>,
    named: &NamedService,
    need: &At<NeedOptions>,
    kinds: &Kinds<'_>,
) -> Option<Need> {
    let options = &need.value;
    let within = options.within.as_ref().map(|at| at.value);
    let status = options.status.as_ref().map(|at| at.value);
    let gate = if let Some(service) = &options.service {
        let target = graph::find(reader, named, service, kinds)?;
        Gate::Service { service: target, is: condition(reader, service, options.is.as_ref(), kinds)? }
    } else if let Some(tcp) = &options.tcp {
        Gate::Outside(ProbeAction::Tcp(tcp.value.clone()))
    } else if let Some(http) = &options.http {
        Gate::Outside(ProbeAction::Http { target: http.value.clone(), status, body: None, ca: None })
    } else {
        Gate::Outside(ProbeAction::Exec(options.exec.as_ref()?.value.clone()))
    };
    Some(Need::new(gate, within))
}

/// How far the other service must come: by default ready, and for a oneshot, which is never ready, completed.
fn condition(
    reader: &mut Reader<'_>,
    service: &At<String>,
    is: Option<&At<Condition>>,
    kinds: &Kinds<'_>,
) -> Option<Condition> {
    let kind = (*kinds.get(service.value.as_str())?)?;
    let name = &service.value;
    match (kind, is.map(|is| is.value)) {
        (Kind::LongRunning, None) => Some(Condition::Ready),
        (Kind::Oneshot, None) => Some(Condition::Completed),
        (Kind::LongRunning, Some(Condition::Completed)) => {
            let message = format!("`{name}` never completes: it is meant to run on");
            let help = format!("use is = \"ready\", or give `{name}` kind = \"oneshot\" if it finishes");
            reader.report(Found::invalid(span_of(is, service), message).help(help).absence());
            None
        }
        (Kind::Oneshot, Some(Condition::Ready)) => {
            let message = format!("`{name}` is a oneshot: it completes, and is never ready");
            let help = "use is = \"completed\" to wait for its end, or is = \"started\"";
            reader.report(Found::invalid(span_of(is, service), message).help(help));
            None
        }
        (Kind::LongRunning, Some(is @ (Condition::Ready | Condition::Started)))
        | (Kind::Oneshot, Some(is @ (Condition::Started | Condition::Completed))) => Some(is),
    }
}

fn span_of(is: Option<&At<Condition>>, service: &At<String>) -> Range<usize> {
    is.map_or_else(|| service.span.clone(), |is| is.span.clone())
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
            retry_after: None,
        }),
    }
}

fn resolve_stop(options: &StopOptions) -> StopPolicy {
    StopPolicy::signal(options.signal(), options.grace())
}

fn resolve_log(options: &LogOptions) -> LogPolicy {
    match options.when_blocked() {
        // The only answer there is yet.
        WhenBlocked::Wait => {}
    }
    let rotate: RotateOptions = value_of(options.rotate.as_ref());
    LogPolicy {
        rotate: Rotation { size_bytes: rotate.size().0, keep: rotate.keep(), compress: rotate.compress() },
        max_line_bytes: options.max_line().0,
    }
}
