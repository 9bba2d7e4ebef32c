//! `log` probes: sees every line of output before it is on disk, and tells the loop of the first that matches.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use mainstay_config::{Check, Service};
use mainstay_logs::{Lines, Stream, Tap};
use mainstay_types::{ProbeKind, ReplicaId, SpawnId, Timestamp};
use regex::bytes::Regex;
use tokio::sync::mpsc;

use crate::message::Message;

/// A match is told with this much of its line, in characters.
const SHOWN_CHARS: usize = 200;

/// Passes every line on to the host's own tap, and looks at those of replicas that wait for one.
pub(crate) struct LogWatch {
    next: Option<Arc<dyn Tap>>,
    messages: mpsc::UnboundedSender<Message>,
    /// Patterns that have not matched yet, of the start that is current. A start that has no more is not in it.
    wanted: Mutex<BTreeMap<ReplicaId, Wanted>>,
}

struct Wanted {
    spawn: SpawnId,
    patterns: Vec<(ProbeKind, Regex)>,
}

impl LogWatch {
    pub(crate) fn new(next: Option<Arc<dyn Tap>>, messages: mpsc::UnboundedSender<Message>) -> Self {
        Self { next, messages, wanted: Mutex::default() }
    }

    /// Looks for the lines of this start from here on, and no longer for those of an earlier one.
    pub(crate) fn watch(&self, replica: &ReplicaId, spawn: SpawnId, service: &Service) {
        let probes = [
            (ProbeKind::Startup, &service.startup),
            (ProbeKind::Readiness, &service.readiness),
            (ProbeKind::Liveness, &service.liveness),
        ];
        let patterns: Vec<_> = probes
            .into_iter()
            .filter_map(|(kind, probe)| match &probe.as_ref()?.check {
                // The file's patterns have been compiled once already, when it was read.
                Check::Log(pattern) => Some((kind, Regex::new(pattern).ok()?)),
                Check::Ask(_) | Check::Notify | Check::NotifyFd(_) => None,
            })
            .collect();
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if patterns.is_empty() {
            wanted.remove(replica);
        } else {
            wanted.insert(replica.clone(), Wanted { spawn, patterns });
        }
    }

    /// The start is over.
    pub(crate) fn forget(&self, spawn: SpawnId) {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, wanted| wanted.spawn != spawn);
    }

    fn look(&self, replica: &ReplicaId, lines: Lines<'_>) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(its) = wanted.get_mut(replica) else { return };
        for line in lines {
            its.patterns.retain(|(kind, pattern)| {
                if !pattern.is_match(line.text) {
                    return true;
                }
                let shown = String::from_utf8_lossy(line.text);
                let line = shown.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect();
                // The loop may have ended.
                let _ = self.messages.send(Message::LogMatched { spawn: its.spawn, kind: *kind, line });
                false
            });
            if its.patterns.is_empty() {
                break;
            }
        }
        if its.patterns.is_empty() {
            wanted.remove(replica);
        }
    }
}

impl Tap for LogWatch {
    fn lines(&self, replica: &ReplicaId, stream: Stream, at: Timestamp, lines: Lines<'_>) {
        self.look(replica, lines.clone());
        if let Some(next) = &self.next {
            next.lines(replica, stream, at, lines);
        }
    }
}
