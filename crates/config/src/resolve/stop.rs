//! How a service is asked to stop, and to read its configuration again.

use std::time::Duration;

use mainstay_types::StopSignal;

use crate::declare::At;
use crate::diagnostic::Found;
use crate::keys::{ReloadOptions, StepOptions, StopOptions};
use crate::read::Reader;
use crate::stack::{Hook, Kind, ReloadPolicy, StopAction, StopPolicy, StopStep};
use crate::value::time_text;

/// The policy. What cannot be read of it has been reported, and its default stands in.
pub(super) fn stop(reader: &mut Reader<'_>, options: &StopOptions) -> StopPolicy {
    let grace = options.grace();
    if let Some(steps) = &options.steps {
        let signal = options.signal.as_ref().map(|at| ("signal", at.key.clone()));
        let command = options.command.as_ref().map(|at| ("command", at.key.clone()));
        for (name, key) in signal.into_iter().chain(command) {
            let message = format!("`{name}` and `steps` exclude each other");
            let help = format!("make `{name}` one of the steps, or take `steps` out");
            reader.report(Found::invalid(key, message).help(help));
        }
        return StopPolicy { steps: ladder(reader, options, &steps.value.0, grace), grace };
    }
    let mut policy = StopPolicy::signal(options.signal(), grace);
    if let Some(command) = &options.command {
        let action = StopAction::Command(command.value.clone());
        policy.steps.insert(0, StopStep { action, wait: Some(grace / 2) });
    }
    policy
}

fn ladder(
    reader: &mut Reader<'_>,
    options: &StopOptions,
    written: &[At<StepOptions>],
    grace: Duration,
) -> Vec<StopStep> {
    let mut waits = Duration::ZERO;
    let mut steps = Vec::with_capacity(written.len());
    for (index, step) in written.iter().enumerate() {
        let wait = step.value.wait.as_ref().map(|at| at.value);
        waits = waits.saturating_add(wait.unwrap_or_default());
        if wait.is_none() && index + 1 < written.len() {
            let message = format!("step {} does not say how long to wait before the next one", index + 1);
            let help = "add wait = \"5s\"; only the last step may leave it out";
            reader.report(Found::invalid(step.span.clone(), message).help(help).absence());
        }
        let signal = step.value.signal.as_ref().map(|at| StopAction::Signal(at.value));
        let command = step.value.command.as_ref().map(|at| StopAction::Command(at.value.clone()));
        steps.extend(signal.or(command).map(|action| StopStep { action, wait }));
    }
    if waits > grace {
        let last = written.iter().rev().find_map(|step| step.value.wait.as_ref());
        let place = options.grace.as_ref().or(last).map(|at| at.span.clone());
        let default = if options.grace.is_some() { "" } else { ", its default" };
        let message = format!(
            "the waits of `steps` add up to {}, and `grace` is {}{default}: the later steps would never be reached",
            time_text(waits),
            time_text(grace),
        );
        let help = format!("write grace = \"{}\" or longer, or shorten the waits", time_text(waits));
        reader.report(Found::invalid(place.unwrap_or_default(), message).help(help));
    }
    steps
}

/// The policy; by default, and where it cannot be read, a rolling restart.
pub(super) fn reload(
    reader: &mut Reader<'_>,
    written: Option<&At<ReloadOptions>>,
    kind: Kind,
) -> ReloadPolicy {
    let Some(At { value: options, .. }) = written else { return ReloadPolicy::Rolling };
    let signal = options.signal.as_ref().map(|at| ("signal", &at.key));
    let command = options.command.as_ref().map(|at| ("command", &at.key));
    if let Some((name, key)) = signal.or(command).filter(|_| kind == Kind::Oneshot) {
        let message =
            format!("a oneshot cannot be reloaded by a {name}: it reads its configuration when it runs");
        reader.report(Found::invalid(key.clone(), message).help("take `reload` out"));
    }
    if let Some(signal) = options.signal.as_ref().filter(|at| at.value == StopSignal::Kill) {
        let message = "SIGKILL ends a program: it cannot ask for a reload";
        let help =
            "send the signal that the program reloads on, \"SIGHUP\" as a rule; rolling = true restarts it";
        reader.report(Found::invalid(signal.span.clone(), message).help(help));
    }
    match (&options.signal, &options.command, &options.rolling) {
        (Some(signal), _, _) => ReloadPolicy::Signal(signal.value),
        (None, Some(command), _) => {
            ReloadPolicy::Command(Hook { command: command.value.clone(), timeout: options.timeout() })
        }
        (None, None, Some(_) | None) => ReloadPolicy::Rolling,
    }
}
