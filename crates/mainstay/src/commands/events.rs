//! `mainstay events`: the stack's timeline, from the running host or from the record it left.

use mainstay_api::{ClientError, Event, EventKind, EventsQuery};
use mainstay_host::EventFilter;
use mainstay_host::chain;
use mainstay_types::{ExitCode, State};

use crate::cli::Global;
use crate::client::{block_on, client, client_failure};
use crate::context::addressed;
use crate::failure::Failure;
use crate::terminal::{BOLD, DIM, WARN, paint, state_style};
use crate::times::local_time;

/// Prints the last `lines` events, and with `follow` those that happen.
pub(crate) fn events(global: &Global, services: &[String], follow: bool, lines: u32) -> Result<(), Failure> {
    let addressed = addressed(global)?;
    let client = client(&addressed);
    // One service is selected by the host; several are selected here, from all.
    let service = if let [only] = services { Some(only.clone()) } else { None };
    let query = EventsQuery { after_id: None, limit: Some(lines), service: service.clone() };
    let wanted = |event: &Event| {
        services.is_empty() || event.service.as_ref().is_some_and(|service| services.contains(service))
    };
    block_on(async {
        if follow {
            let mut stream =
                client.follow_events(&query).await.map_err(|error| client_failure(&error, &addressed))?;
            while let Some(event) = stream.next().await {
                let event = event.map_err(|error| client_failure(&error, &addressed))?;
                if wanted(&event) && !print(global, &event) {
                    break;
                }
            }
            return Ok(());
        }
        let events = match client.events(&query).await {
            Ok(events) => events,
            Err(ClientError::NotRunning { .. }) => {
                let path = addressed.paths.events_path();
                if !path.exists() {
                    let message =
                        format!("the stack {} has no events: it has never run here", addressed.name);
                    return Err(Failure::new(ExitCode::NotFound, message));
                }
                mainstay_host::read_events(&path, &EventFilter { after_id: None, last: Some(lines), service })
                    .map_err(|error| Failure::new(ExitCode::Failed, chain(&error)))?
            }
            Err(error) => return Err(client_failure(&error, &addressed)),
        };
        for event in events.iter().filter(|event| wanted(event)) {
            if !print(global, event) {
                break;
            }
        }
        Ok(())
    })
}

/// Prints one event; false when nobody reads any more.
fn print(global: &Global, event: &Event) -> bool {
    use std::io::Write;
    let line = if global.json {
        // The event is made of strings and numbers only; such a value always becomes JSON.
        serde_json::to_string(event).unwrap_or_default()
    } else {
        words(event, global.verbose > 0)
    };
    writeln!(anstream::stdout(), "{line}").is_ok()
}

/// One event as a line: time, who, what; with `detail` also its id, and the lines it carries below it.
fn words(event: &Event, detail: bool) -> String {
    let (time, name) = (paint(DIM, &local_time(event.at)), name(event));
    let what = what(event);
    if !detail {
        return format!("{time} {name:<16} {what}");
    }
    let id = paint(DIM, &format!("#{:<5}", event.id));
    let mut text = format!("{time} {id} {name:<16} {what}");
    for line in event.lines.iter().flatten() {
        text.push_str("\n    ");
        text.push_str(&paint(DIM, line));
    }
    text
}

/// Whom it concerns: `web`, `web.1` for another replica than the first, `-` for the stack.
pub(crate) fn name(event: &Event) -> String {
    match (&event.service, event.replica) {
        (Some(service), Some(replica)) if replica > 0 => format!("{service}.{replica}"),
        (Some(service), _) => service.clone(),
        (None, _) => "-".to_owned(),
    }
}

/// What happened, without time and name.
pub(crate) fn what(event: &Event) -> String {
    let reason = event.reason.as_deref().unwrap_or_default();
    match event.event {
        EventKind::State => {
            let to = event.to.as_deref().unwrap_or_default();
            let style = to.parse::<State>().map(state_style).unwrap_or_default();
            let from = event
                .from
                .as_deref()
                .filter(|from| *from != to)
                .map_or_else(String::new, |from| format!("{from} > "));
            format!("{from}{}  {}", paint(style, to), paint(DIM, reason))
        }
        EventKind::Spawned => format!("spawned  {}", paint(DIM, &format!("pid {}", event.pid.unwrap_or(0)))),
        EventKind::Exited => format!("exited  {}", paint(DIM, reason)),
        EventKind::Command => paint(BOLD, reason),
        EventKind::Probe
        | EventKind::Gate
        | EventKind::Log
        | EventKind::Finding
        | EventKind::Incident
        | EventKind::Release
        | EventKind::Settings => format!("{}  {}", paint(WARN, event.event.as_str()), paint(DIM, reason)),
    }
}
