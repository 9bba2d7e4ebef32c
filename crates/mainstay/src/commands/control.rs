//! `mainstay start`, `stop`, `restart`, `reload SERVICE`: asks the host, waits, and says what happened.

use std::time::Duration;

use mainstay_api::{CommandOptions, CommandOutcome, CommandReply, Verb};
use mainstay_types::ExitCode;

use crate::cli::{Control, Global};
use crate::client::{block_on, client, client_failure};
use crate::context::addressed;
use crate::failure::Failure;
use crate::terminal::{BAD, DIM, GOOD, WARN, paint, print};

/// How long a start is waited for when the user says nothing: long enough for a database, short enough for a terminal.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// Carries `verb` out on each service. The worst outcome decides the exit code.
pub(crate) fn control(global: &Global, verb: Verb, asked: &Control) -> Result<(), Failure> {
    let addressed = addressed(global)?;
    let client = client(&addressed);
    let timeout = match (asked.timeout, verb) {
        (Some(timeout), _) => Some(timeout),
        (None, Verb::Start | Verb::Restart | Verb::Reload) => Some(DEFAULT_TIMEOUT),
        (None, Verb::Stop) => None,
    };
    let options = CommandOptions { wait: !asked.no_wait, timeout };
    block_on(async {
        // Nothing is done when one of the names is wrong.
        let status = client.status().await.map_err(|error| client_failure(&error, &addressed))?;
        for name in &asked.services {
            if !status.services.iter().any(|service| &service.name == name) {
                let known = status.services.iter().map(|service| service.name.as_str());
                let problem = mainstay_api::Problem::no_such_service(name, known);
                return Err(Failure::new(problem.exit_code(), problem.to_string()));
            }
        }
        let mut replies = Vec::new();
        for name in &asked.services {
            if verb == Verb::Stop && !global.json && !global.quiet {
                say_what_stops_first(&client, name).await;
            }
            let reply = client
                .command(name, verb, &options)
                .await
                .map_err(|error| client_failure(&error, &addressed))?;
            if !global.json {
                say(global, &reply);
            }
            if reply.outcome == CommandOutcome::Failed && !global.json {
                show_last_lines(&client, name).await;
            }
            replies.push(reply);
        }
        if global.json {
            // The shapes are made of strings and numbers only; such a value always becomes JSON.
            let json = serde_json::to_string(&replies).unwrap_or_default();
            // A reader that has gone needs no answer; here and below.
            let _ = print(&(json + "\n"));
        }
        let worst = replies.iter().map(|reply| reply.outcome.exit_code()).max_by_key(|code| *code as u8);
        match worst {
            None | Some(ExitCode::Done) => Ok(()),
            Some(code) => Err(Failure::silent(code)),
        }
    })
}

/// What needs the service goes down before it: that is said before it happens.
async fn say_what_stops_first(client: &mainstay_api::Client, name: &str) {
    // The stop itself tells what is wrong with the host, should something be.
    let Ok(status) = client.status().await else { return };
    let first = status.services.into_iter().find(|service| service.name == name);
    let first = first.map(|service| service.stops_first).unwrap_or_default();
    if !first.is_empty() {
        let (them, need) = if first.len() == 1 { ("it", "needs") } else { ("them", "need") };
        let names = first.join(", ");
        anstream::eprintln!("{}", paint(DIM, &format!("{names} {need} {name}: stopping {them} first")));
    }
}

fn say(global: &Global, reply: &CommandReply) {
    match reply.outcome {
        CommandOutcome::Done | CommandOutcome::Accepted if global.quiet => {}
        CommandOutcome::Done | CommandOutcome::Accepted => {
            let _ = print(&format!("{} {}\n", paint(GOOD, "ok"), reply.message));
        }
        CommandOutcome::Failed => anstream::eprintln!("{} {}", paint(BAD, "error:"), reply.message),
        CommandOutcome::TimedOut => anstream::eprintln!("{} {}", paint(WARN, "timed out:"), reply.message),
    }
}

/// What the service wrote last, under the reason why it did not come up. The event that carries it comes when the log
/// is complete, which may be a moment after the answer: it is waited for, a second at most.
async fn show_last_lines(client: &mainstay_api::Client, name: &str) {
    let query = mainstay_api::EventsQuery { service: Some(name.to_owned()), limit: Some(1), after_id: None };
    for _ in 0..20 {
        // Without its last lines the failure has been told all the same.
        let Ok(events) = client.events(&query).await else { return };
        let last = events.last().filter(|event| event.to.as_deref() == Some("failed"));
        if let Some(event) = last {
            for line in event.lines.iter().flatten() {
                anstream::eprintln!("  {name} | {line}");
            }
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
