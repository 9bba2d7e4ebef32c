//! What is different between two versions of a stack, and what each difference asks for: the plan of a reload, before
//! anything is done.

mod entries;
mod words;

use std::collections::BTreeMap;

use mainstay_types::ServiceName;

use crate::stack::{Service, Stack};
use entries::{Class, Entry};

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

/// One key with its values, in words for people: no password of a URL and no variable whose name speaks of a secret is
/// in them, so that the two may look alike. `(none)` is a key that is not there. At most a few hundred characters each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyChange {
    /// The key, as in the file: `command`, `env.PORT`, `limits.memory`.
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

/// Compares two versions of a stack. Lines and order in the file do not count, save the order of gates and sockets.
#[must_use]
pub fn diff(old: &Stack, new: &Stack) -> StackDiff {
    let top = changes(entries::stack(old), entries::stack(new));
    let mut diff =
        StackDiff { stack: top.into_iter().map(|(_, change)| change).collect(), ..StackDiff::default() };
    let by_name = |stack: &'_ Stack| -> BTreeMap<ServiceName, usize> {
        stack.services.iter().enumerate().map(|(index, service)| (service.name.clone(), index)).collect()
    };
    let (before, after) = (by_name(old), by_name(new));
    for service in &new.services {
        match before.get(&service.name) {
            None => diff.added.push(service.name.clone()),
            Some(index) => diff.changed.extend(compare((old, &old.services[*index]), (new, service))),
        }
    }
    let gone = |service: &&Service| !after.contains_key(&service.name);
    diff.removed = old.services.iter().filter(gone).map(|service| service.name.clone()).collect();
    diff
}

fn compare(old: (&Stack, &Service), new: (&Stack, &Service)) -> Option<ServiceChange> {
    // What most services of a changed file are: the same.
    if old.1 == new.1 && old.0.dir == new.0.dir {
        return None;
    }
    let mut changes = changes(entries::service(old.1, &old.0.dir), entries::service(new.1, &new.0.dir));
    // First what weighs most; within that, the order of the reference.
    changes.sort_by_key(|(class, _)| *class);
    let effect = match changes.first()?.0 {
        Class::Restart => ChangeEffect::Restart,
        Class::Scale => ChangeEffect::Scale { from: old.1.replicas, to: new.1.replicas },
        Class::InPlace => ChangeEffect::InPlace,
    };
    let keys = changes.into_iter().map(|(_, change)| change).collect();
    Some(ServiceChange { name: new.1.name.clone(), keys, effect })
}

/// The keys whose values differ, in the order of the new entries; those that are gone come last.
fn changes(old: Vec<Entry>, new: Vec<Entry>) -> Vec<(Class, KeyChange)> {
    let mut before: BTreeMap<String, Entry> =
        old.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
    let mut changes = Vec::new();
    for entry in new {
        match before.remove(&entry.key) {
            None => changes.push((entry.class, change(entry.key, None, Some(entry.shown)))),
            Some(other) if other.value == entry.value => {}
            Some(other) => changes.push((
                entry.class.min(other.class),
                change(entry.key, Some(other.shown), Some(entry.shown)),
            )),
        }
    }
    let gone = before.into_values().map(|entry| (entry.class, change(entry.key, Some(entry.shown), None)));
    changes.extend(gone);
    changes
}

fn change(key: String, from: Option<String>, to: Option<String>) -> KeyChange {
    let shown = |value: Option<String>| value.unwrap_or_else(|| words::NONE.to_owned());
    KeyChange { key, from: shown(from), to: shown(to) }
}
