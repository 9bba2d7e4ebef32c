//! `mainstay reload` without a service: applies the changed file, or shows what that would do.

use mainstay_api::{
    CommandOptions, CommandOutcome, Plan, PlanAction, PlanService, ReloadOptions, ReloadReply,
};

use crate::cli::{Global, Reload};
use crate::client::{block_on, client, client_failure};
use crate::commands::control::DEFAULT_TIMEOUT;
use crate::context::addressed;
use crate::failure::Failure;
use crate::terminal::{BAD, BOLD, DIM, GOOD, WARN, paint, print};

/// Asks the host to read its file again. The plan goes to standard output, how it went to standard error.
pub(crate) fn reload(global: &Global, asked: &Reload) -> Result<(), Failure> {
    let addressed = addressed(global)?;
    let client = client(&addressed);
    let apply = |dry_run: bool| {
        let wait = !dry_run && !asked.no_wait;
        let timeout = wait.then(|| asked.timeout.unwrap_or(DEFAULT_TIMEOUT));
        ReloadOptions { dry_run, command: CommandOptions { wait, timeout } }
    };
    block_on(async {
        if !asked.dry_run && !global.json && !global.quiet {
            // What is going to happen stands on the screen before it happens.
            let plan =
                client.reload(&apply(true)).await.map_err(|error| client_failure(&error, &addressed))?;
            let _ = print(&plan_text(&plan));
        }
        let reply =
            client.reload(&apply(asked.dry_run)).await.map_err(|error| client_failure(&error, &addressed))?;
        if global.json {
            // The shapes are made of strings and numbers only; such a value always becomes JSON.
            let json = serde_json::to_string(&reply).unwrap_or_default();
            // A reader that has gone needs no answer; here and below.
            let _ = print(&(json + "\n"));
        } else {
            say(global, &reply);
        }
        match reply.outcome {
            CommandOutcome::Done | CommandOutcome::Accepted => Ok(()),
            CommandOutcome::Failed | CommandOutcome::TimedOut => {
                Err(Failure::silent(reply.outcome.exit_code()))
            }
        }
    })
}

fn say(global: &Global, reply: &ReloadReply) {
    if reply.dry_run {
        let _ = print(&plan_text(reply));
        if !reply.plan.is_empty() && !global.quiet {
            anstream::eprintln!("{}", paint(DIM, "a dry run: nothing was changed"));
        }
        return;
    }
    match reply.outcome {
        CommandOutcome::Done | CommandOutcome::Accepted if global.quiet => {}
        CommandOutcome::Done | CommandOutcome::Accepted => {
            anstream::eprintln!("{} {}", paint(GOOD, "ok"), reply.message);
        }
        CommandOutcome::Failed => anstream::eprintln!("{} {}", paint(BAD, "error:"), reply.message),
        CommandOutcome::TimedOut => anstream::eprintln!("{} {}", paint(WARN, "timed out:"), reply.message),
    }
}

fn plan_text(reply: &ReloadReply) -> String {
    let Plan { stack, services } = &reply.plan;
    if reply.plan.is_empty() {
        return format!("{}: nothing differs from what runs\n", reply.file);
    }
    let mut out = format!("{}\n", paint(BOLD, &reply.file));
    for key in stack {
        out.push_str(&format!("  {} {}: {} -> {}\n", paint(WARN, "~"), key.key, key.from, key.to));
    }
    for service in services {
        let (sign, style, words) = action_words(service);
        out.push_str(&format!("  {} {}: {words}\n", paint(style, sign), paint(BOLD, &service.name)));
        for key in &service.keys {
            out.push_str(&format!("      {}: {} {} {}\n", key.key, key.from, paint(DIM, "->"), key.to));
        }
    }
    out
}

fn action_words(service: &PlanService) -> (&'static str, anstyle::Style, &'static str) {
    match service.action {
        PlanAction::Add => ("+", GOOD, "is new and starts"),
        PlanAction::Remove => ("-", BAD, "is no longer in the file and stops"),
        PlanAction::Restart => ("~", WARN, "restarts"),
        PlanAction::Scale => ("~", WARN, "gets another number of replicas; those that stay run on"),
        PlanAction::InPlace => ("~", WARN, "runs on; the change counts from now"),
    }
}
