//! Which of a service's resource limits are in force, and by what: the words for `status` and `check`.

use std::fmt;

use crate::ResourceLimits;

/// One limit that a service sets, and what holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitStatus {
    /// The key under `limits`: `memory`, `pids`, `cpu` or `open_files`.
    pub name: &'static str,
    /// Bytes, processes and threads, thousandths of a core, or files.
    pub value: u64,
    /// What holds it.
    pub enforced: Enforced,
}

/// What holds a limit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Enforced {
    /// A control group: it is the limit of all processes of the replica together.
    Cgroup,
    /// A job object (Windows): it is the limit of all processes of the replica together.
    Job,
    /// A limit that each process carries (getrlimit(2)).
    Rlimit {
        /// What is counted against it.
        per: RlimitScope,
    },
    /// Nothing.
    No {
        /// Why not, and what would help.
        why: String,
    },
}

/// What is counted against a limit that processes carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RlimitScope {
    /// Each process for itself: a tree of ten may use ten times as much.
    Process,
    /// All processes of the user, those of other services included.
    User,
}

impl fmt::Display for RlimitScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "process",
            Self::User => "user",
        })
    }
}

impl fmt::Display for Enforced {
    /// Completes "in force: ...", except for `No`: `by control group`, `by job object`, `by rlimit, per process`, `not in
    /// force: ...`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cgroup => f.write_str("by control group"),
            Self::Job => f.write_str("by job object"),
            Self::Rlimit { per } => write!(f, "by rlimit, per {per}"),
            Self::No { why } => write!(f, "not in force: {why}"),
        }
    }
}

/// The limits of `limits` that are set, in the order of the reference, each with what `enforced` says of it.
pub(crate) fn statuses(
    limits: &ResourceLimits,
    enforced: impl Fn(&'static str) -> Enforced,
) -> Vec<LimitStatus> {
    [
        ("open_files", limits.open_files),
        ("memory", limits.memory_bytes),
        ("pids", limits.pids),
        ("cpu", limits.cpu_millis),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some(LimitStatus { name, value: value?, enforced: enforced(name) }))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_set_is_listed() {
        let limits = ResourceLimits { pids: Some(5), cpu_millis: Some(200), ..ResourceLimits::default() };
        let listed = statuses(&limits, |name| Enforced::No { why: format!("{name} was not tried") });
        let lines: Vec<String> =
            listed.iter().map(|one| format!("{} {} {}", one.name, one.value, one.enforced)).collect();
        assert_eq!(
            lines,
            ["pids 5 not in force: pids was not tried", "cpu 200 not in force: cpu was not tried"]
        );
        assert_eq!(Enforced::Rlimit { per: RlimitScope::User }.to_string(), "by rlimit, per user");
        assert_eq!(statuses(&ResourceLimits::default(), |_| Enforced::Cgroup), []);
    }
}
