//! What a changed file would do, in words.

use mainstay_config::StackDiff;

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
