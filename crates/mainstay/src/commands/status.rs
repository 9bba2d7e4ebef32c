//! `mainstay status`: what a running host says of its stack, as a table or as JSON.

use std::time::Duration;

use mainstay_api::{ForwardStatus, ReplicaStatus, ServiceStatus, Status};
use mainstay_types::{ExitCode, State, Timestamp, format_duration, format_size};

use crate::cli::Global;
use crate::client::{block_on, client, client_failure};
use crate::context::addressed;
use crate::failure::Failure;
use crate::registration::{Report, report};
use crate::table::{Cell, Table};
use crate::terminal::{BOLD, DIM, WARN, paint, print, size, state_style};

/// Pause between two looks with `--watch`.
const WATCH_PAUSE: Duration = Duration::from_secs(1);
/// Failing replicas whose last lines are shown, and lines of each; `-v` shows all there are.
const MAX_FAILING: usize = 5;
const MAX_LAST_LINES: usize = 3;

/// Prints the state of the stack, or of some of its services.
pub(crate) fn status(global: &Global, services: &[String], watch: bool) -> Result<(), Failure> {
    let addressed = addressed(global)?;
    let client = client(&addressed);
    let registered = report(&addressed.name);
    block_on(async {
        loop {
            let status = client.status().await.map_err(|error| {
                let mut failure = client_failure(&error, &addressed);
                if let (Some(report), ExitCode::NotFound) = (&registered, failure.code) {
                    failure.message.push_str(&format!("\n  {}", report.words().join("\n  ")));
                }
                failure
            })?;
            let status = select(status, services)?;
            let mut page = page(global, &status, registered.as_ref());
            if watch && !global.json {
                page = cut_to_screen(&page);
            }
            // Clears the screen and goes to its beginning (ECMA-48 ED 2, CUP).
            let clear = if watch && !global.json { "\u{1b}[2J\u{1b}[H" } else { "" };
            if !print(&format!("{clear}{page}")) || !watch {
                return Ok(());
            }
            tokio::time::sleep(WATCH_PAUSE).await;
        }
    })
}

/// What fits on the screen, so that its beginning stays in sight.
fn cut_to_screen(page: &str) -> String {
    let lines = page.lines().count();
    match size() {
        Some((_, height)) if lines >= height && height > 2 => {
            let shown = height - 2;
            let kept: Vec<&str> = page.lines().take(shown).collect();
            format!("{}\n... and {} more lines\n", kept.join("\n"), lines - shown)
        }
        Some(_) | None => page.to_owned(),
    }
}

fn page(global: &Global, status: &Status, registered: Option<&Report>) -> String {
    if global.json {
        // The shapes are made of strings and numbers only; such a value always becomes JSON.
        let mut value = serde_json::to_value(status).unwrap_or_default();
        if let Some(host) = value.get_mut("host").and_then(serde_json::Value::as_object_mut) {
            host.insert(
                "registration".to_owned(),
                registered.map_or(serde_json::Value::Null, Report::to_json),
            );
        }
        format!("{value}\n")
    } else {
        let now = Timestamp::now();
        table(status, registered, now) + &last_lines(status, global.verbose > 0)
    }
}

fn select(mut status: Status, wanted: &[String]) -> Result<Status, Failure> {
    for name in wanted {
        if !status.services.iter().any(|service| &service.name == name) {
            let known: Vec<&str> = status.services.iter().map(|service| service.name.as_str()).collect();
            let message = format!(
                "there is no service {name:?} in stack {}: there are {}",
                status.stack,
                known.join(", ")
            );
            return Err(Failure::new(ExitCode::NotFound, message));
        }
    }
    if !wanted.is_empty() {
        status.services.retain(|service| wanted.contains(&service.name));
    }
    Ok(status)
}

fn table(status: &Status, registered: Option<&Report>, now: Timestamp) -> String {
    let host = &status.host;
    let mut out = format!(
        "{} {}\n",
        paint(BOLD, &format!("stack {}: {}", status.stack, host.phase)),
        paint(
            DIM,
            &format!("(host pid {}, up {}, mainstay {})", host.pid, age(host.started_at, now), host.version)
        )
    );
    if let Some(report) = registered {
        for (place, line) in report.words().into_iter().enumerate() {
            out.push_str(&paint(if place == 0 { DIM } else { WARN }, &line));
            out.push('\n');
        }
    }
    if host.applying {
        out.push_str(&paint(WARN, "a changed file is being applied: services still stop for it"));
        out.push('\n');
    }
    match &host.file {
        Some(file) if file.changed == Some(true) => {
            let words = format!(
                "{} has changed since it was read {} ago: `mainstay reload --dry-run` shows what differs, `mainstay reload` \
                 applies it",
                file.path,
                age(file.loaded_at, now)
            );
            out.push_str(&paint(WARN, &words));
            out.push('\n');
        }
        Some(file) if file.changed.is_none() => {
            let words = format!("{} cannot be read any more; what runs goes on", file.path);
            out.push_str(&paint(WARN, &words));
            out.push('\n');
        }
        Some(_) | None => {}
    }
    let mut table = Table::new(&["SERVICE", "STATE", "PID", "UP", "RESTARTS", "CPU", "MEMORY", "REASON"]);
    for service in &status.services {
        for replica in &service.replicas {
            table.row(row(service, replica, now));
        }
    }
    out.push_str(&table.render(size().map(|(width, _)| width)));
    for service in &status.services {
        for limit in service.limits.iter().filter(|limit| limit.enforced_by.is_none()) {
            let why = limit.note.as_deref().unwrap_or("nothing here can enforce it");
            let words =
                format!("{}: limits.{} = {} is not in force: {why}\n", service.name, limit.name, limit.value);
            out.push_str(&paint(WARN, &words));
        }
        // Weaker than it reads in the file.
        for limit in service.limits.iter().filter(|limit| limit.enforced_by.is_some()) {
            if let Some(note) = &limit.note {
                let words =
                    format!("{}: limits.{} = {} counts {note}\n", service.name, limit.name, limit.value);
                out.push_str(&paint(DIM, &words));
            }
        }
    }
    for target in &status.forwards {
        out.push_str(&forward_trouble(target, now));
    }
    out
}

/// What is wrong with a target that output is sent to; empty when nothing is.
fn forward_trouble(target: &ForwardStatus, now: Timestamp) -> String {
    let ForwardStatus { name, to, url, lost, lost_more, behind_bytes, failing, failing_since, .. } = target;
    let mut out = String::new();
    if let Some(why) = failing {
        let since = failing_since.map_or_else(String::new, |since| format!(" for {}", age(since, now)));
        let words = format!(
            "target {name} ({to}, {url}) takes nothing{since}: {why}; {} of logs wait\n",
            format_size(*behind_bytes)
        );
        out.push_str(&paint(WARN, &words));
    }
    if *lost > 0 || *lost_more {
        let least = if *lost_more { "at least " } else { "" };
        let plural = if *lost == 1 { "line" } else { "lines" };
        let words =
            format!("target {name} ({to}, {url}): {least}{lost} {plural} were lost since the host began\n");
        out.push_str(&paint(WARN, &words));
    }
    out
}

/// What the replicas that failed or wait for another start wrote last.
fn last_lines(status: &Status, all: bool) -> String {
    let failing: Vec<(&ServiceStatus, &ReplicaStatus, &[String])> = status
        .services
        .iter()
        .flat_map(|service| service.replicas.iter().map(move |replica| (service, replica)))
        .filter(|(_, replica)| matches!(replica.state, State::Failed | State::Backoff))
        .filter_map(|(service, replica)| Some((service, replica, replica.last_lines.as_deref()?)))
        .collect();
    let (replicas, lines) = if all { (failing.len(), usize::MAX) } else { (MAX_FAILING, MAX_LAST_LINES) };
    let mut out = String::new();
    for (service, replica, written) in failing.iter().take(replicas) {
        out.push_str(&format!("{} wrote last:\n", replica_name(service, replica)));
        for line in &written[written.len().saturating_sub(lines)..] {
            out.push_str(&paint(DIM, &format!("  {line}")));
            out.push('\n');
        }
    }
    if failing.len() > replicas {
        let more = failing.len() - replicas;
        out.push_str(&format!(
            "and {more} more that failed: `mainstay status SERVICE` shows what one wrote last\n"
        ));
    }
    out
}

/// `web`, or `web.1` where there are several.
fn replica_name(service: &ServiceStatus, replica: &ReplicaStatus) -> String {
    if service.replicas.len() == 1 {
        service.name.clone()
    } else {
        format!("{}.{}", service.name, replica.index)
    }
}

fn row(service: &ServiceStatus, replica: &ReplicaStatus, now: Timestamp) -> Vec<Cell> {
    let dash = || "-".to_owned();
    let reason = match (&service.reason, &replica.last_exit) {
        (Some(reason), _) => reason.clone(),
        (None, Some(exit)) => format!("last {}", exit.description),
        (None, None) => String::new(),
    };
    let last = match &replica.last_exit {
        Some(exit) if !reason.contains(&exit.description) => {
            format!(" (last: {}, {} ago)", exit.description, age(exit.at, now))
        }
        Some(_) | None => String::new(),
    };
    let said = replica.status_text.as_ref().map_or_else(String::new, |text| format!("; it says: {text}"));
    vec![
        Cell::plain(replica_name(service, replica)),
        Cell::styled(replica.state.to_string(), state_style(replica.state)),
        Cell::right(replica.pid.map_or_else(dash, |pid| pid.to_string())),
        Cell::right(replica.started_at.map_or_else(dash, |at| age(at, now))),
        Cell::right(replica.restarts.to_string()),
        Cell::right(replica.cpu_percent.map_or_else(dash, |percent| format!("{percent:.1}%"))),
        Cell::right(replica.memory_bytes.map_or_else(dash, format_size)),
        Cell::styled(reason + &last + &said, DIM),
    ]
}

fn age(then: Timestamp, now: Timestamp) -> String {
    Duration::try_from(now.duration_since(then)).map_or_else(|_| "0s".to_owned(), format_duration)
}
