//! What is different between two versions of a stack, and what each difference asks for: the plan of a reload, before
//! anything is done.

use std::fmt::Debug;

use mainstay_types::ServiceName;

use crate::stack::{Check, Probe, Service, Stack};

/// The difference between the running stack and a newer file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StackDiff {
    /// Keys at the top of the file.
    pub stack: Vec<KeyChange>,
    /// Services only the new one has, in the order of the new file.
    pub added: Vec<ServiceName>,
    /// Services only the old one has, in the order of the old file.
    pub removed: Vec<ServiceName>,
    /// Services both have, that differ, in the order of the new file.
    pub changed: Vec<ServiceChange>,
}

/// One service that differs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceChange {
    /// Which.
    pub name: ServiceName,
    /// What differs; not empty.
    pub keys: Vec<KeyChange>,
    /// What it asks for.
    pub effect: ChangeEffect,
}

/// One key with its values, in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyChange {
    /// The key, as in the file: `command`, `limits.memory`.
    pub key: String,
    /// The value before.
    pub from: String,
    /// The value after.
    pub to: String,
}

/// What a change asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeEffect {
    /// The service is stopped and started: a running program cannot be given it.
    Restart,
    /// Replicas are started or stopped; those that stay run on.
    Scale {
        /// Replicas before.
        from: u32,
        /// Replicas after.
        to: u32,
    },
    /// It counts from now on, and the program runs on.
    InPlace,
}

impl StackDiff {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Compares two versions of a stack. Lines and order in the file do not count.
#[must_use]
pub fn diff(old: &Stack, new: &Stack) -> StackDiff {
    let mut diff = StackDiff::default();
    note(&mut diff.stack, "stop_budget", &old.stop_budget, &new.stop_budget);
    for service in &new.services {
        match old.service(service.name.as_str()) {
            None => diff.added.push(service.name.clone()),
            Some(before) => diff.changed.extend(compare(before, service)),
        }
    }
    let gone = |service: &&Service| new.service(service.name.as_str()).is_none();
    diff.removed = old.services.iter().filter(gone).map(|service| service.name.clone()).collect();
    diff
}

fn compare(old: &Service, new: &Service) -> Option<ServiceChange> {
    let mut restart = Vec::new();
    note(&mut restart, "kind", &old.kind, &new.kind);
    note(&mut restart, "command", &old.command, &new.command);
    note(&mut restart, "workdir", &old.workdir, &new.workdir);
    note(&mut restart, "env", &old.env, &new.env);
    note(&mut restart, "inherit_env", &old.inherit_env, &new.inherit_env);
    note(&mut restart, "env_file", &old.env_files, &new.env_files);
    note(&mut restart, "user", &old.user, &new.user);
    note(&mut restart, "group", &old.group, &new.group);
    note(&mut restart, "listen", &old.listen, &new.listen);
    note(&mut restart, "limits", &old.limits, &new.limits);
    let mut live = Vec::new();
    for (key, before, after) in [
        ("startup", &old.startup, &new.startup),
        ("readiness", &old.readiness, &new.readiness),
        ("liveness", &old.liveness, &new.liveness),
    ] {
        let into = if said(before) == said(after) { &mut live } else { &mut restart };
        note(into, key, before, after);
    }
    note(&mut live, "description", &old.description, &new.description);
    note(&mut live, "autostart", &old.autostart, &new.autostart);
    note(&mut live, "needs", &old.needs, &new.needs);
    note(&mut live, "restart", &old.restart, &new.restart);
    note(&mut live, "stop", &old.stop, &new.stop);
    note(&mut live, "log", &old.log, &new.log);
    note(&mut live, "reload", &old.reload, &new.reload);
    note(&mut live, "hooks", &old.hooks, &new.hooks);
    let mut scale = Vec::new();
    note(&mut scale, "replicas", &old.replicas, &new.replicas);
    let effect = match (restart.is_empty(), scale.is_empty()) {
        (false, _) => ChangeEffect::Restart,
        (true, false) => ChangeEffect::Scale { from: old.replicas, to: new.replicas },
        (true, true) => ChangeEffect::InPlace,
    };
    let keys: Vec<_> = restart.into_iter().chain(scale).chain(live).collect();
    (!keys.is_empty()).then(|| ServiceChange { name: new.name.clone(), keys, effect })
}

/// What a running program was told about its probe when it was started: its way of saying so cannot change under it.
fn said(probe: &Option<Probe>) -> Option<&Check> {
    match probe.as_ref().map(|probe| &probe.check)? {
        Check::Ask(_) => None,
        check @ (Check::Log(_) | Check::Notify | Check::NotifyFd(_)) => Some(check),
    }
}

fn note<T: PartialEq + Debug>(into: &mut Vec<KeyChange>, key: &str, from: &T, to: &T) {
    if from != to {
        into.push(KeyChange { key: key.to_owned(), from: format!("{from:?}"), to: format!("{to:?}") });
    }
}
