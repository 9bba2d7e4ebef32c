//! What a reload of the file would do, or has done.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::CommandOutcome;

/// The answer to a reload of the file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ReloadReply {
    /// Whether the file counts now. True exactly when `outcome` is `done`.
    pub done: bool,
    /// How it ended; `done` for a dry run.
    pub outcome: CommandOutcome,
    /// Whether only the plan was asked for; nothing was changed then.
    pub dry_run: bool,
    /// What happened, for people.
    pub message: String,
    /// The file that was read.
    pub file: String,
    /// What differs from what runs.
    pub plan: Plan,
}

/// The difference between what runs and the file.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    /// Keys at the top of the file.
    pub stack: Vec<PlanKey>,
    /// The services concerned: those that go, then those that come or change, each in the order of its file.
    pub services: Vec<PlanService>,
}

impl Plan {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stack.is_empty() && self.services.is_empty()
    }
}

/// One service that a reload touches.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct PlanService {
    /// Its name.
    pub name: String,
    /// What is done to it.
    pub action: PlanAction,
    /// What differs; empty where it is added or removed.
    pub keys: Vec<PlanKey>,
}

/// What a reload does to a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PlanAction {
    /// It is new, and started unless it has `autostart = false`.
    Add,
    /// It is no longer in the file, and stopped.
    Remove,
    /// It is stopped and started.
    Restart,
    /// Replicas are started or stopped; the others run on.
    Scale,
    /// The change counts from now on, and the program runs on.
    InPlace,
}

impl PlanAction {
    /// The word in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Remove => "remove",
            Self::Restart => "restart",
            Self::Scale => "scale",
            Self::InPlace => "in-place",
        }
    }
}

/// One key that differs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct PlanKey {
    /// The key, as in the file.
    pub key: String,
    /// Its value before, in words.
    pub from: String,
    /// Its value after, in words.
    pub to: String,
}
