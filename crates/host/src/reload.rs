//! A changed file: read, validated, compared, and given to the loop. A file that does not validate changes nothing.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use mainstay_api::{CommandOutcome, FileStatus, Problem, ProblemKind, ReloadReply};
use mainstay_config::{ChangeEffect, Stack, StackDiff, diff};
use mainstay_types::Timestamp;

use crate::load::LoadError;
use crate::shared_stack::SharedStack;

/// Reads the stack's file anew.
pub type Loader = Arc<dyn Fn() -> Result<Stack, LoadError> + Send + Sync>;

/// The file of a running host.
pub(crate) struct StackFile {
    path: PathBuf,
    /// `None` when the stack came from no file.
    loader: Option<Loader>,
    state: Mutex<FileState>,
}

struct FileState {
    loaded_at: Timestamp,
    /// The last look: what the file looked like from outside, and whether it held another stack than the one that counts.
    looked: Option<(Outside, bool)>,
}

/// What tells one version of a file from the next without reading it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Outside {
    length: u64,
    modified: Option<SystemTime>,
}

impl StackFile {
    pub(crate) fn new(path: PathBuf, loader: Option<Loader>) -> Self {
        let state = FileState { loaded_at: Timestamp::now(), looked: None };
        Self { path, loader, state: Mutex::new(state) }
    }

    /// The stack that counts came from the file just now.
    pub(crate) fn counts_now(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.loaded_at = Timestamp::now();
        state.looked = None;
    }

    /// How the file stands to what runs. Reads it only when it looks different from outside than at the last look;
    /// blocks for as long as that takes.
    pub(crate) fn status(&self, stack: &SharedStack) -> Option<FileStatus> {
        let loader = self.loader.as_ref()?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let outside = std::fs::metadata(&self.path)
            .ok()
            .map(|meta| Outside { length: meta.len(), modified: meta.modified().ok() });
        let changed = match (outside, state.looked) {
            (None, _) => None,
            (Some(outside), Some((before, changed))) if before == outside => Some(changed),
            (Some(outside), _) => {
                // One that does not validate is another one too.
                let changed = loader().map_or(true, |new| !diff(&stack.get(), &new).is_empty());
                state.looked = Some((outside, changed));
                Some(changed)
            }
        };
        Some(FileStatus { path: self.path.display().to_string(), loaded_at: state.loaded_at, changed })
    }

    /// Reads and validates the file as it is now, with everything that the services it would start refer to. Blocks.
    pub(crate) fn read(&self, running: &Stack) -> Result<Stack, Problem> {
        let Some(loader) = &self.loader else {
            let detail = "this stack came from no file, so there is none to read again";
            return Err(Problem::new(ProblemKind::Conflict, detail));
        };
        let invalid = |detail: String| Problem::new(ProblemKind::InvalidFile, detail);
        let new = loader().map_err(|error| match error {
            LoadError::Invalid(diagnostics) => {
                let count = diagnostics.list.len() + diagnostics.omitted;
                let errors = if count == 1 { "1 error".to_owned() } else { format!("{count} errors") };
                invalid(format!("{}\n{errors}; nothing was changed", diagnostics.render(false)))
            }
            LoadError::Missing(file) => {
                invalid(format!("there is no file {} any more; nothing was changed", file.display()))
            }
            LoadError::Read { .. } => {
                invalid(format!("{}; nothing was changed", crate::error::chain(&error)))
            }
        })?;
        if new.name != running.name {
            return Err(invalid(format!(
                "{} now describes the stack {}, and this host runs {}: a running stack cannot be renamed\n  \
                 next: stop this host, or give the file its name back; nothing was changed",
                self.path.display(),
                new.name,
                running.name
            )));
        }
        let errors = preflight(&diff(running, &new), &new);
        if errors.is_empty() {
            return Ok(new);
        }
        Err(invalid(format!("{}\nnothing was changed", errors.join("\n"))))
    }
}

/// Everything that is missing for the services that a change would start.
fn preflight(diff: &StackDiff, new: &Stack) -> Vec<String> {
    let restarted = diff.changed.iter().filter(|change| match change.effect {
        ChangeEffect::Restart | ChangeEffect::Scale { .. } => true,
        ChangeEffect::InPlace => false,
    });
    diff.added
        .iter()
        .chain(restarted.map(|change| &change.name))
        .filter_map(|name| new.service(name.as_str()))
        .flat_map(|service| {
            crate::preflight(&new.name, service)
                .into_iter()
                .map(|error| format!("service {}: {}", service.name, crate::error::chain(&error)))
        })
        .chain(new.forwards.iter().flat_map(|target| {
            crate::preflight_forward(target)
                .into_iter()
                .map(|(key, message)| format!("forward.{}.{key}: {message}", target.name))
        }))
        .collect()
}

/// The answer for a plan that was only asked for, or that changes nothing.
pub(crate) fn told(file: &str, diff: &StackDiff, dry_run: bool) -> ReloadReply {
    let message = match (diff.is_empty(), dry_run) {
        (true, _) => "nothing differs from what runs".to_owned(),
        (false, true) => format!("would apply: {}", crate::plan::summary(diff)),
        (false, false) => format!("applied: {}", crate::plan::summary(diff)),
    };
    reply(file, diff, CommandOutcome::Done, message, dry_run)
}

pub(crate) fn reply(
    file: &str,
    diff: &StackDiff,
    outcome: CommandOutcome,
    message: String,
    dry_run: bool,
) -> ReloadReply {
    ReloadReply {
        done: outcome == CommandOutcome::Done,
        outcome,
        dry_run,
        message,
        file: file.to_owned(),
        plan: crate::plan::plan(diff),
    }
}
