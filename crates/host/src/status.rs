//! The machine's view of the stack in the API's shapes.

use mainstay_api::{HostStatus, LastExit, ReplicaStatus, ServiceKind, ServiceStatus, Status};
use mainstay_config::{Kind, Stack};
use mainstay_lifecycle::{ServiceView, StackMachine};
use mainstay_types::{Moment, Timestamp};

use crate::control::HostHandle;

/// Everything but the use of CPU and memory, which the asker's task looks up.
pub(crate) fn status(machine: &StackMachine, stack: &Stack, now: Moment, handle: &HostHandle) -> Status {
    let clock = WallClock::at(now);
    Status {
        stack: stack.name.to_string(),
        host: HostStatus {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            phase: machine.phase(),
            started_at: handle.started_at(),
            unit: handle.unit(),
        },
        services: machine.services().map(|view| service_status(&view, stack, &clock)).collect(),
    }
}

pub(crate) fn service_status(view: &ServiceView<'_>, stack: &Stack, clock: &WallClock) -> ServiceStatus {
    let oneshot = stack.service(view.name.as_str()).is_some_and(|service| service.kind == Kind::Oneshot);
    ServiceStatus {
        name: view.name.to_string(),
        kind: if oneshot { ServiceKind::Oneshot } else { ServiceKind::LongRunning },
        phase: view.state.phase(),
        state: view.state,
        reason: Some(view.reason.to_string()),
        replicas: view
            .replicas
            .iter()
            .map(|replica| ReplicaStatus {
                index: replica.index,
                pid: replica.pid,
                state: replica.state,
                started_at: replica.started_at.map(|at| clock.wall(at)),
                restarts: u32::try_from(replica.restarts).unwrap_or(u32::MAX),
                last_exit: replica.last_exit.map(|(exit, at)| LastExit::new(exit, clock.wall(at))),
                cpu_percent: None,
                memory_bytes: None,
            })
            .collect(),
    }
}

/// Turns monotonic time into wall-clock time, as the wall clock stands now.
pub(crate) struct WallClock {
    now: Moment,
    wall: Timestamp,
}

impl WallClock {
    pub(crate) fn at(now: Moment) -> Self {
        Self { now, wall: Timestamp::now() }
    }

    fn wall(&self, at: Moment) -> Timestamp {
        // Out of range only after the year 9999.
        self.wall.checked_sub(self.now - at).unwrap_or(self.wall)
    }
}
