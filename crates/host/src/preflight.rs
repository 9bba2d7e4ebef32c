//! What `mainstay check` looks at beyond the file: whether all that a service needs is there, and what of it would not be
//! in force here.

use std::ffi::OsStr;

use mainstay_config::{Check, Destination, Forward, Gate, ReloadPolicy, Service, StopAction};
use mainstay_os::{Enforced, LimitStatus};
use mainstay_types::{CaFile, CommandLine, ListenAddress, ProbeAction, StackName};

use crate::launch_spec::{PrepareError, Surroundings, limits};

/// Something that does not keep a service from running as far as can be told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Warning {
    /// The key it is about: `limits.pids`.
    pub key: String,
    /// One sentence in lower case.
    pub message: String,
}

/// What `mainstay check` looks at beyond the file: that everything a launch needs is there now.
#[must_use]
pub fn preflight(stack: &StackName, service: &Service) -> Vec<PrepareError> {
    let mut errors = Vec::new();
    let launch = match Surroundings::of(stack).prepare(service, 0) {
        Ok(launch) => Some(launch),
        Err(error) => {
            errors.push(error);
            None
        }
    };
    if let Err(source) = std::fs::read_dir(&service.workdir) {
        errors.push(PrepareError::Workdir { path: service.workdir.clone(), source });
    } else {
        let is_path =
            |name: &OsStr| mainstay_os::variable_key(name) == mainstay_os::variable_key("PATH".as_ref());
        let default_path = mainstay_os::default_path();
        let path = launch
            .as_ref()
            .and_then(|launch| launch.env.iter().find(|(name, _)| is_path(name)))
            .map_or(default_path.as_os_str(), |(_, value)| value.as_os_str());
        let identity = launch.as_ref().and_then(|launch| launch.identity.as_ref());
        let program = OsStr::new(&service.command.program);
        if let Err(failure) = mainstay_os::check_executable(program, Some(path), &service.workdir, identity) {
            errors.push(PrepareError::Program(failure));
        }
        for (key, command) in commands_around(service) {
            let program = OsStr::new(&command.program);
            let found = mainstay_os::check_executable(program, Some(path), &service.workdir, identity);
            errors.extend(found.err().map(|failure| PrepareError::Command { key, failure }));
        }
    }
    for (key, ca) in authorities(service) {
        if let Err(source) = std::fs::File::open(&ca.0) {
            errors.push(PrepareError::Ca { key, path: ca.0.clone(), source });
        }
    }
    errors
}

/// The same for a target that output is sent to: each key with what is wrong about it.
#[must_use]
pub fn preflight_forward(target: &Forward) -> Vec<(&'static str, String)> {
    let mut errors = Vec::new();
    if let Destination::Journald(_) | Destination::SyslogLocal(_) = &target.destination
        && !mainstay_os::LocalDatagram::IS_HERE
    {
        let key = if matches!(target.destination, Destination::Journald(_)) { "to" } else { "url" };
        errors.push((key, "this target is not on this system: it has no such sockets".to_owned()));
    }
    let files = [("ca", target.ca.as_ref().map(|ca| &ca.0)), ("token_file", target.token_file.as_ref())];
    for (key, path) in files {
        let Some(path) = path else { continue };
        if let Err(error) = std::fs::File::open(path) {
            errors.push((key, format!("cannot read {}: {error}", path.display())));
        }
    }
    errors
}

/// Every command of a service but its own, with its key.
fn commands_around(service: &Service) -> Vec<(String, &CommandLine)> {
    let mut commands = Vec::new();
    let hooks = &service.hooks;
    for (key, hook) in [
        ("before_start", &hooks.before_start),
        ("after_ready", &hooks.after_ready),
        ("before_stop", &hooks.before_stop),
        ("after_exit", &hooks.after_exit),
    ] {
        commands.extend(hook.as_ref().map(|hook| (key.to_owned(), &hook.command)));
    }
    for step in &service.stop.steps {
        if let StopAction::Command(command) = &step.action {
            commands.push(("stop".to_owned(), command));
        }
    }
    if let ReloadPolicy::Command(hook) = &service.reload {
        commands.push(("reload".to_owned(), &hook.command));
    }
    for (key, action) in asked(service) {
        if let ProbeAction::Exec(command) = action {
            commands.push((format!("{key}.exec"), command));
        }
    }
    commands
}

/// The files of authorities that its checks trust, with their keys.
fn authorities(service: &Service) -> Vec<(String, &CaFile)> {
    let mut found = Vec::new();
    for (key, action) in asked(service) {
        if let ProbeAction::Http { ca: Some(ca), .. } | ProbeAction::Server { ca: Some(ca), .. } = action {
            found.push((format!("{key}.ca"), ca));
        }
    }
    found
}

/// Everything it asks, with the table that says so.
fn asked(service: &Service) -> Vec<(&'static str, &ProbeAction)> {
    let probes =
        [("startup", &service.startup), ("readiness", &service.readiness), ("liveness", &service.liveness)];
    let probes = probes.into_iter().filter_map(|(key, probe)| match &probe.as_ref()?.check {
        Check::Ask(action) => Some((key, action)),
        Check::Log(_) | Check::Notify | Check::NotifyFd(_) => None,
    });
    let needs = service.needs.iter().filter_map(|need| match &need.gate {
        Gate::Outside(action) => Some(("needs", action)),
        Gate::Service { .. } => None,
    });
    probes.chain(needs).collect()
}

/// What of this service would not be as the file says, on this machine and for this user.
#[must_use]
pub fn warnings(service: &Service) -> Vec<Warning> {
    let switches_user = service.user.is_some() || service.group.is_some();
    let in_force = mainstay_os::limits_in_force_here(&limits(service), switches_user);
    let mut warnings: Vec<Warning> = not_in_force(&in_force)
        .map(|(name, why)| Warning {
            key: format!("limits.{name}"),
            message: format!("the limit would not be in force here: {why}"),
        })
        .collect();
    for listen in &service.listen {
        if let ListenAddress::Unix(path) | ListenAddress::UnixDatagram(path) = &listen.address
            && let Some(dir) = path.parent()
            && !dir.is_dir()
        {
            warnings.push(Warning {
                key: format!("listen.{}", listen.name),
                message: format!("there is no folder {} to put the socket into", dir.display()),
            });
        }
    }
    warnings
}

/// The limits that nothing holds, each with the reason.
pub(crate) fn not_in_force(limits: &[LimitStatus]) -> impl Iterator<Item = (&'static str, &str)> {
    limits.iter().filter_map(|limit| match &limit.enforced {
        Enforced::No { why } => Some((limit.name, why.as_str())),
        Enforced::Cgroup | Enforced::Job | Enforced::Rlimit { .. } => None,
    })
}
