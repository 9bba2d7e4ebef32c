//! What may break a rule, and why. An entry that no finding needs is itself a finding, so the list cannot outlive its reasons.

use super::Finding;

/// One permitted breach.
struct Exception {
    rule: &'static str,
    /// A file, or a folder when it ends with a slash; below the root.
    path: &'static str,
    /// For the reader.
    #[expect(dead_code, reason = "the reason is written for whoever reads the list")]
    reason: &'static str,
}

const EXCEPTIONS: [Exception; 2] = [
    Exception {
        rule: "decision-crate",
        path: "crates/types/src/exit_code.rs",
        reason: "it turns our exit code into std::process::ExitCode, which is only a value",
    },
    Exception {
        rule: "platform-outside-os",
        path: "crates/forward/tests/it/local.rs",
        reason: "it plays journald and a syslog daemon; os sends to such sockets and receives on none",
    },
];

/// Drops the permitted findings and adds one for each entry that permits nothing.
pub(super) fn apply(findings: Vec<Finding>) -> Vec<Finding> {
    apply_list(findings, &EXCEPTIONS)
}

fn apply_list(findings: Vec<Finding>, exceptions: &[Exception]) -> Vec<Finding> {
    let mut needed = vec![false; exceptions.len()];
    let mut kept: Vec<Finding> = Vec::new();
    for finding in findings {
        match exceptions.iter().position(|exception| permits(exception, &finding)) {
            Some(index) => needed[index] = true,
            None => kept.push(finding),
        }
    }
    for (exception, _) in exceptions.iter().zip(&needed).filter(|(_, needed)| !**needed) {
        kept.push(Finding {
            path: "xtask/src/tidy/exceptions.rs".to_owned(),
            line: 1,
            rule: "exception-unneeded",
            message: format!(
                "nothing in {} breaks `{}` any more; remove the entry",
                exception.path, exception.rule
            ),
        });
    }
    kept
}

fn permits(exception: &Exception, finding: &Finding) -> bool {
    let covers = match exception.path.ends_with('/') {
        true => finding.path.starts_with(exception.path),
        false => finding.path == exception.path,
    };
    covers && finding.rule == exception.rule
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_covers_its_rule_and_place_only_and_must_be_needed() {
        let finding =
            |path: &str, rule| Finding { path: path.to_owned(), line: 1, rule, message: String::new() };
        let list = [Exception { rule: "a", path: "crates/x/", reason: "sample" }];
        let kept = apply_list(vec![finding("crates/x/f.rs", "a"), finding("crates/x/f.rs", "b")], &list);
        assert_eq!(kept, [finding("crates/x/f.rs", "b")]);
        let kept = apply_list(vec![finding("crates/y/f.rs", "a")], &list);
        assert_eq!(kept.iter().map(|found| found.rule).collect::<Vec<_>>(), ["a", "exception-unneeded"]);
    }
}
