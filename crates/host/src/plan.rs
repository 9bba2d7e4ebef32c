//! What a changed file would do, in words.

use mainstay_api::{Plan, PlanAction, PlanKey, PlanService};
use mainstay_config::{ChangeEffect, KeyChange, StackDiff};

/// One line: `2 added (a, b), 1 removed (c), 3 changed (d, e, f)`.
pub(crate) fn summary(diff: &StackDiff) -> String {
    let changed: Vec<_> = diff.changed.iter().map(|change| change.name.clone()).collect();
    let mut parts = Vec::new();
    for (names, what) in [(&diff.added, "added"), (&diff.removed, "removed"), (&changed, "changed")] {
        if !names.is_empty() {
            let list: Vec<&str> = names.iter().map(mainstay_types::ServiceName::as_str).collect();
            parts.push(format!("{} {what} ({})", names.len(), list.join(", ")));
        }
    }
    if !diff.stack.is_empty() {
        let list: Vec<&str> = diff.stack.iter().map(|change| change.key.as_str()).collect();
        parts.push(format!("{} of the stack", list.join(", ")));
    }
    if parts.is_empty() { "nothing differs".to_owned() } else { parts.join(", ") }
}

/// The same in the API's shapes.
pub(crate) fn plan(diff: &StackDiff) -> Plan {
    let key = |change: &KeyChange| PlanKey {
        key: change.key.clone(),
        from: change.from.clone(),
        to: change.to.clone(),
    };
    let whole = |action| {
        move |name: &mainstay_types::ServiceName| PlanService {
            name: name.to_string(),
            action,
            keys: Vec::new(),
        }
    };
    let changed = diff.changed.iter().map(|change| PlanService {
        name: change.name.to_string(),
        action: match change.effect {
            ChangeEffect::Restart => PlanAction::Restart,
            ChangeEffect::Scale { .. } => PlanAction::Scale,
            ChangeEffect::InPlace => PlanAction::InPlace,
        },
        keys: change.keys.iter().map(key).collect(),
    });
    Plan {
        stack: diff.stack.iter().map(key).collect(),
        services: diff
            .removed
            .iter()
            .map(whole(PlanAction::Remove))
            .chain(diff.added.iter().map(whole(PlanAction::Add)))
            .chain(changed)
            .collect(),
    }
}
