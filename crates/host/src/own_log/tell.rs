//! The events of the stack in the host's own log: what an operator would notice at `info`, what is worth an alert at
//! `warn`, the rest at `debug`.

use mainstay_api::{Event, EventKind};
use mainstay_config::Stack;
use tracing::{debug, info, warn};

/// What of an event is told, in one place for every level.
macro_rules! told {
    ($level:ident, $event:expr) => {{
        let event: &Event = $event;
        $level!(
            target: "mainstay_host::events",
            {
                event.id = event.id,
                service.name = event.service.as_deref(),
                service.replica = event.replica.filter(|index| *index > 0),
                state.from = event.from.as_deref().filter(|from| Some(*from) != event.to.as_deref()),
                state.to = event.to.as_deref(),
                process.pid = event.pid,
                reason = event.reason.as_deref(),
            },
            "{}",
            message(event)
        );
    }};
}

/// Tells the host's own log that a host begins.
pub(crate) fn tell_start(stack: &Stack) {
    info!(
        target: "mainstay_host::host",
        {
            stack = %stack.name,
            version = env!("CARGO_PKG_VERSION"),
            process.pid = std::process::id(),
            services = stack.services.len(),
        },
        "host started"
    );
}

/// Tells the host's own log of an event.
pub(crate) fn tell(event: &Event) {
    match weight(event) {
        Weight::Alert => told!(warn, event),
        Weight::Change => told!(info, event),
        Weight::Detail => told!(debug, event),
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Weight {
    Alert,
    Change,
    Detail,
}

fn weight(event: &Event) -> Weight {
    if event.is_failure() {
        return Weight::Alert;
    }
    match event.event {
        EventKind::State => match event.to.as_deref() {
            Some("unready") => Weight::Alert,
            // The first of each replica says where it begins, not that anything changed.
            Some("ready" | "stopped" | "completed") if event.from != event.to => Weight::Change,
            Some(_) | None => Weight::Detail,
        },
        EventKind::Log | EventKind::Incident => Weight::Alert,
        EventKind::Command | EventKind::Settings | EventKind::Release | EventKind::Finding => Weight::Change,
        EventKind::Spawned | EventKind::Exited | EventKind::Probe | EventKind::Gate => Weight::Detail,
    }
}

const fn message(event: &Event) -> &'static str {
    match event.event {
        EventKind::State => "state of a service",
        EventKind::Spawned => "program started",
        EventKind::Exited => "program ended",
        EventKind::Probe => "verdict of a probe",
        EventKind::Gate => "gate",
        EventKind::Command => "command",
        EventKind::Log => "notice",
        EventKind::Finding => "finding",
        EventKind::Incident => "incident",
        EventKind::Release => "release",
        EventKind::Settings => "settings",
    }
}

#[cfg(test)]
mod tests {
    use mainstay_types::Timestamp;

    use super::*;

    #[test]
    fn failures_are_alerts_and_the_steps_of_a_start_details() {
        let state = |from: &str, to: &str| Event {
            from: Some(from.to_owned()),
            to: Some(to.to_owned()),
            ..Event::new(EventKind::State, Timestamp::UNIX_EPOCH)
        };
        for (event, expected) in [
            (state("ready", "backoff"), Weight::Alert),
            (state("backoff", "failed"), Weight::Alert),
            (state("ready", "unready"), Weight::Alert),
            (state("starting", "ready"), Weight::Change),
            (state("stopped", "stopped"), Weight::Detail),
            (state("waiting", "starting"), Weight::Detail),
            (Event::new(EventKind::Log, Timestamp::UNIX_EPOCH), Weight::Alert),
            (Event::new(EventKind::Spawned, Timestamp::UNIX_EPOCH), Weight::Detail),
        ] {
            assert_eq!(weight(&event), expected, "{event:?}");
        }
    }
}
