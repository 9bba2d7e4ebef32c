//! The machine's view of the stack in the API's shapes.

use mainstay_api::{
    HostStatus, LastExit, LimitStatus, ListenStatus, ReplicaStatus, ServiceKind, ServiceStatus, Status,
};
use mainstay_config::{Kind, Service, Stack};
use mainstay_lifecycle::ServiceView;
use mainstay_os::{Enforced, RlimitScope};
use mainstay_types::{Moment, Timestamp, format_size};

use crate::host::Host;

impl Host {
    /// Everything but the file, the targets of forwarding, the last lines and the use of CPU and memory, which the asker's task looks up.
    pub(crate) fn status(&self) -> Status {
        let (machine, stack, now) = (&self.machine, self.machine.stack(), self.now());
        let clock = WallClock::at(now);
        let services = machine.services_at(now).map(|view| {
            let mut status = service_status(&view, stack, &clock);
            let first = machine.would_stop(view.name.as_str());
            status.stops_first = first.iter().map(ToString::to_string).collect();
            if let Some(service) = stack.service(view.name.as_str()) {
                status.limits = self.limits(service);
                status.listen = self.listen(service);
            }
            status
        });
        Status {
            stack: stack.name.to_string(),
            host: HostStatus {
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                phase: machine.phase(),
                started_at: self.handle.started_at(),
                unit: self.handle.unit(),
                file: None,
                applying: machine.is_applying(),
            },
            services: services.collect(),
            forwards: Vec::new(),
        }
    }

    /// The limits of the stack that nothing holds here, each with its service and the reason.
    #[must_use]
    pub fn limits_not_in_force(&self) -> Vec<(String, String)> {
        let mut told = Vec::new();
        for service in &self.machine.stack().services {
            let in_force = self.limits_in_force(service);
            for (name, why) in crate::preflight::not_in_force(&in_force) {
                told.push((service.name.to_string(), format!("limits.{name} is not in force: {why}")));
            }
        }
        told
    }

    fn limits_in_force(&self, service: &Service) -> Vec<mainstay_os::LimitStatus> {
        let limits = crate::launch_spec::limits(service);
        let switches_user = service.user.is_some() || service.group.is_some();
        self.processes.limits_in_force(&limits, switches_user)
    }

    fn limits(&self, service: &Service) -> Vec<LimitStatus> {
        self.limits_in_force(service).iter().map(limit_status).collect()
    }

    fn listen(&self, service: &Service) -> Vec<ListenStatus> {
        let status = |listen: &mainstay_config::Listen| ListenStatus {
            name: listen.name.clone(),
            address: listen.address.to_string(),
            open: self.sockets.is_open(&service.name, &listen.name),
        };
        service.listen.iter().map(status).collect()
    }
}

fn limit_status(limit: &mainstay_os::LimitStatus) -> LimitStatus {
    let value = match limit.name {
        "memory" => format_size(limit.value),
        // Thousandths of a core.
        #[expect(clippy::cast_precision_loss, reason = "the range ends at a million")]
        "cpu" => (limit.value as f64 / 1000.0).to_string(),
        _ => limit.value.to_string(),
    };
    let (enforced_by, note) = match &limit.enforced {
        Enforced::Cgroup => (Some("cgroup"), None),
        Enforced::Job => (Some("job"), None),
        Enforced::Rlimit { per: RlimitScope::Process } => {
            let note = (limit.name != "open_files").then(|| "for each process by itself".to_owned());
            (Some("rlimit"), note)
        }
        Enforced::Rlimit { per: RlimitScope::User } => {
            (Some("rlimit"), Some("for all processes of its user together".to_owned()))
        }
        Enforced::No { why } => (None, Some(why.clone())),
    };
    LimitStatus { name: limit.name.to_owned(), value, enforced_by: enforced_by.map(str::to_owned), note }
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
                status_text: replica.status_text.clone(),
                last_lines: None,
            })
            .collect(),
        stops_first: Vec::new(),
        limits: Vec::new(),
        listen: Vec::new(),
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
