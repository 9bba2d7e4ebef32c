//! Probes and gates: what each looks at, and the rules that take more than one of their keys.

use std::ops::Range;
use std::path::PathBuf;

use mainstay_types::{CaFile, HttpTarget, ProbeAction, ProbeKind, ServerKind, ServerUrl};

use super::{Kinds, probes};
use crate::declare::At;
use crate::diagnostic::Found;
use crate::graph;
use crate::keys::{NeedOptions, ProbeOptions};
use crate::nested::NamedService;
use crate::read::Reader;
use crate::stack::{Check, Condition, Gate, Kind, Need, Probe};
use crate::target::Pattern;

/// The first descriptor that is handed over (`SD_LISTEN_FDS_START`, sd_listen_fds(3)).
const FIRST_LISTENER: u32 = 3;

/// The rules between the probes of a service, and between a probe and what it is for.
pub(super) fn check_probes(reader: &mut Reader<'_>, named: &NamedService) {
    for (probe, kind) in probes(named) {
        let passive = passive(&probe.value);
        check_thresholds(reader, probe, kind, passive.as_ref());
        if let Some((name, _)) = &passive
            && let Some(timeout) = &probe.value.timeout
        {
            let message =
                format!("`timeout` means nothing with `{name}`: nobody is asked, so no answer can be late");
            let help = match kind {
                ProbeKind::Startup => {
                    "to fail a start that takes too long, set `period` and `failure_threshold`"
                }
                ProbeKind::Liveness => "the watchdog runs out after `period` times `failure_threshold`",
                ProbeKind::Readiness => "take it out",
            };
            reader.report(Found::invalid(timeout.key.clone(), message).help(help));
        }
        if let Some((name, key)) =
            passive.filter(|(name, _)| kind == ProbeKind::Liveness && *name != "notify")
        {
            let message =
                format!("`{name}` cannot be a liveness probe: what was said once says nothing about now");
            let help = "use notify = true for a watchdog, or ask with http, tcp, grpc or exec";
            reader.report(Found::invalid(key, message).help(help));
        }
    }
    check_descriptors(reader, named);
}

/// The kind of a probe that waits for the program's own word, with the place of its key.
fn passive(options: &ProbeOptions) -> Option<(&'static str, Range<usize>)> {
    let log = options.log.as_ref().map(|at| ("log", at.key.clone()));
    let notify = options.notify.as_ref().map(|at| ("notify", at.key.clone()));
    let descriptor = options.notify_fd.as_ref().map(|at| ("notify_fd", at.key.clone()));
    log.or(notify).or(descriptor)
}

/// Kubernetes' rule: a startup or liveness probe passes with the first success; and what is said once is said.
fn check_thresholds(
    reader: &mut Reader<'_>,
    probe: &At<ProbeOptions>,
    kind: ProbeKind,
    passive: Option<&(&'static str, Range<usize>)>,
) {
    let Some(threshold) = probe.value.success_threshold.as_ref().filter(|at| at.value != 1) else { return };
    let (message, help) = match (kind, passive) {
        (ProbeKind::Startup | ProbeKind::Liveness, _) => (
            format!("`success_threshold` must be 1 for a {kind} probe"),
            "only a readiness probe can ask for several passes in a row",
        ),
        (ProbeKind::Readiness, Some((name, _))) => (
            format!("`success_threshold` must be 1 with `{name}`: the program says it once"),
            "take `success_threshold` out",
        ),
        (ProbeKind::Readiness, None) => return,
    };
    reader.report(Found::invalid(threshold.span.clone(), message).help(help));
}

/// A service has one descriptor to say it is ready, and it is none of the sockets.
fn check_descriptors(reader: &mut Reader<'_>, named: &NamedService) {
    let sockets = named.options.listen.as_ref().map_or(0, |at| at.value.0.len());
    let sockets = u32::try_from(sockets).unwrap_or(u32::MAX);
    let limit = named.options.limits.as_ref().and_then(|at| at.value.open_files.as_ref());
    if let Some(limit) = limit.filter(|at| at.value < u64::from(FIRST_LISTENER.saturating_add(sockets))) {
        let message = format!("`open_files` leaves no room for the {sockets} sockets of `listen`");
        let help = "a service opens files of its own too: allow at least a hundred more than it has sockets";
        reader.report(Found::invalid(limit.span.clone(), message).help(help));
    }
    let mut first: Option<(u32, ProbeKind)> = None;
    for (probe, kind) in probes(named) {
        let Some(descriptor) = &probe.value.notify_fd else { continue };
        let number = descriptor.value;
        if (FIRST_LISTENER..FIRST_LISTENER.saturating_add(sockets)).contains(&number) {
            let last = FIRST_LISTENER + sockets - 1;
            let message = format!(
                "descriptor {number} is one of the sockets of `listen`, which are {FIRST_LISTENER} to {last}"
            );
            let help = format!("use {} or more, and tell the program so", last + 1);
            reader.report(Found::invalid(descriptor.span.clone(), message).help(help));
        }
        if let Some(limit) = limit.filter(|at| at.value <= u64::from(number)) {
            let message = format!(
                "descriptor {number} is beyond `limits.open_files`, which allows 0 to {}",
                limit.value - 1
            );
            let help = "use a smaller descriptor, or allow more open files";
            reader.report(Found::invalid(descriptor.span.clone(), message).help(help));
        }
        match first {
            None => first = Some((number, kind)),
            Some((other, of)) if other != number => {
                let message = format!(
                    "the {of} probe waits on descriptor {other}: a service has one, and it cannot be {number} too"
                );
                let help = format!("write notify_fd = {other} here");
                reader.report(Found::invalid(descriptor.span.clone(), message).help(help));
            }
            Some(_) => {}
        }
    }
}

/// The probe; `None` when it does not say what to check, or says it wrongly, which has been reported.
pub(super) fn probe(reader: &mut Reader<'_>, options: &ProbeOptions) -> Option<Probe> {
    let check = if let Some(http) = &options.http {
        Check::Ask(http_action(
            reader,
            http,
            options.status.as_ref(),
            options.body.as_ref(),
            options.ca.as_ref(),
        ))
    } else if let Some(tcp) = &options.tcp {
        Check::Ask(ProbeAction::Tcp(tcp.value.clone()))
    } else if let Some(exec) = &options.exec {
        Check::Ask(ProbeAction::Exec(exec.value.clone()))
    } else if let Some(grpc) = &options.grpc {
        let service = options.grpc_service.as_ref().map(|at| at.value.clone()).unwrap_or_default();
        Check::Ask(ProbeAction::Grpc { address: grpc.value.clone(), service })
    } else if let Some(file) = &options.file {
        Check::Ask(ProbeAction::File(file.value.clone()))
    } else if let Some(log) = &options.log {
        Check::Log(log.value.0.clone())
    } else if options.notify.is_some() {
        Check::Notify
    } else {
        Check::NotifyFd(options.notify_fd.as_ref()?.value)
    };
    Some(Probe {
        check,
        initial_delay: options.initial_delay(),
        period: options.period(),
        timeout: options.timeout(),
        success_threshold: options.success_threshold(),
        failure_threshold: options.failure_threshold(),
    })
}

/// The gate; `None` when something is wrong with it, which has been reported.
pub(super) fn need(
    reader: &mut Reader<'_>,
    named: &NamedService,
    need: &At<NeedOptions>,
    kinds: &Kinds<'_>,
) -> Option<Need> {
    let options = &need.value;
    let gate = if let Some(service) = &options.service {
        let target = graph::find(reader, named, service, kinds)?;
        let is = condition(reader, service, options.is.as_ref(), kinds)?;
        check_lose(reader, options, &service.value, is);
        Gate::Service { service: target, is }
    } else {
        Gate::Outside(outside(reader, options)?)
    };
    Some(Need {
        gate,
        within: options.within.as_ref().map(|at| at.value),
        lose: options.lose(),
        period: options.period(),
    })
}

fn outside(reader: &mut Reader<'_>, options: &NeedOptions) -> Option<ProbeAction> {
    let servers = [
        options.postgres.as_ref().map(|at| &at.value.0),
        options.redis.as_ref().map(|at| &at.value.0),
        options.amqp.as_ref().map(|at| &at.value.0),
        options.mysql.as_ref().map(|at| &at.value.0),
    ];
    Some(if let Some(tcp) = &options.tcp {
        ProbeAction::Tcp(tcp.value.clone())
    } else if let Some(http) = &options.http {
        http_action(reader, http, options.status.as_ref(), options.body.as_ref(), options.ca.as_ref())
    } else if let Some(url) = servers.into_iter().flatten().next() {
        if let Some(why) = no_tls(url) {
            report_ca(reader, options.ca.as_ref(), why);
        }
        ProbeAction::Server { url: url.clone(), ca: ca(options.ca.as_ref()) }
    } else if let Some(grpc) = &options.grpc {
        let service = options.grpc_service.as_ref().map(|at| at.value.clone()).unwrap_or_default();
        ProbeAction::Grpc { address: grpc.value.clone(), service }
    } else if let Some(dns) = &options.dns {
        ProbeAction::Dns(dns.value.0.clone())
    } else if let Some(file) = &options.file {
        ProbeAction::File(file.value.clone())
    } else {
        ProbeAction::Exec(options.exec.as_ref()?.value.clone())
    })
}

fn http_action(
    reader: &mut Reader<'_>,
    http: &At<HttpTarget>,
    status: Option<&At<u16>>,
    body: Option<&At<Pattern>>,
    written: Option<&At<PathBuf>>,
) -> ProbeAction {
    if !http.value.tls {
        report_ca(reader, written, "the URL is http, where nothing is signed: write https");
    }
    ProbeAction::Http {
        target: http.value.clone(),
        status: status.map(|at| at.value),
        body: body.map(|at| at.value.0.clone()),
        ca: ca(written),
    }
}

fn ca(written: Option<&At<PathBuf>>) -> Option<CaFile> {
    written.map(|at| CaFile(at.value.clone()))
}

/// Why no certificate is shown by this server, and what to do.
fn no_tls(url: &ServerUrl) -> Option<&'static str> {
    match url.kind {
        ServerKind::Redis if !url.tls() => Some("the URL is redis, which is without TLS: write rediss"),
        ServerKind::Amqp if !url.tls() => Some("the URL is amqp, which is without TLS: write amqps"),
        ServerKind::Postgres if url.url.contains("sslmode=disable") => {
            Some("the URL says sslmode=disable: write sslmode=require")
        }
        ServerKind::Redis | ServerKind::Amqp | ServerKind::Postgres | ServerKind::Mysql => None,
    }
}

fn report_ca(reader: &mut Reader<'_>, written: Option<&At<PathBuf>>, why: &str) {
    if let Some(ca) = written {
        let (reason, help) = why.split_once(": ").unwrap_or((why, ""));
        let message = format!("`ca` checks nothing here: {reason}");
        reader.report(Found::invalid(ca.key.clone(), message).help(format!("{help}, or take `ca` out")));
    }
}

/// What follows the loss of a service: nothing that has completed is lost, and no service has to be asked.
fn check_lose(reader: &mut Reader<'_>, options: &NeedOptions, name: &str, is: Condition) {
    if let Some(lose) = options.lose.as_ref().filter(|_| is == Condition::Completed) {
        let message = format!("`{name}` has completed once and for all: that is never lost");
        reader.report(Found::invalid(lose.key.clone(), message).help("take `lose` out"));
    } else if let Some(period) = &options.period {
        let message = format!("`period` means nothing for a service: the loss of `{name}` is known at once");
        reader.report(Found::invalid(period.key.clone(), message).help("take `period` out"));
    }
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
