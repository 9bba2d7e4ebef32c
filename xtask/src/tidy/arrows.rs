//! Which crate may use which, and the graph that is checked in so that a new arrow is seen in review.

use super::Finding;
use super::manifest::{Kind, Manifest};

/// Where the graph is kept, below the root.
pub(super) const GRAPH_PATH: &str = "docs/crates.txt";

/// The allowed arrows, as ARCHITECTURE.md draws them: a crate, and the crates its code may use.
const ALLOWED: [(&str, &[&str]); 14] = [
    ("types", &[]),
    ("config", &["types"]),
    ("lifecycle", &["types", "config"]),
    ("unit", &["types"]),
    ("os", &["types"]),
    ("service", &["types", "unit", "os"]),
    ("probes", &["types"]),
    ("logs", &["types"]),
    ("forward", &["types", "config", "os", "probes", "logs"]),
    ("api", &["types", "os"]),
    ("host", &["types", "config", "lifecycle", "os", "probes", "logs", "forward", "api"]),
    ("mainstay", &["types", "config", "unit", "os", "service", "probes", "logs", "api", "host"]),
    ("testkit", &["types", "config", "lifecycle", "os"]),
    ("xtask", &["types", "config", "api", "testkit"]),
];

/// Crates that tests of any crate may use besides what its code may use.
const ALLOWED_IN_TESTS: [&str; 1] = ["testkit"];

/// What decision crates must not depend on: runtimes, system calls, randomness.
const FORBIDDEN_IN_DECISIONS: [&str; 10] =
    ["tokio", "mio", "libc", "rustix", "windows-sys", "rand", "getrandom", "fastrand", "rusqlite", "hyper"];

/// Reports each arrow that is not in the table and each crate without a row.
pub(super) fn check(manifests: &[Manifest]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for manifest in manifests {
        let finding = |line, rule, message| Finding { path: manifest.path(), line, rule, message };
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == manifest.name) else {
            let message = format!(
                "{} has no row of allowed arrows; add one to xtask/src/tidy/arrows.rs",
                manifest.name
            );
            findings.push(finding(1, "crate-unknown", message));
            continue;
        };
        for dependency in &manifest.dependencies {
            let decides = super::rules::DECISION_CRATES.contains(&&*manifest.name);
            if decides
                && dependency.kind == Kind::Product
                && FORBIDDEN_IN_DECISIONS.contains(&&*dependency.name)
            {
                let message = format!(
                    "{} decides and must not depend on {}; move what needs it to a crate that touches the world",
                    manifest.name, dependency.name
                );
                findings.push(finding(dependency.line, "decision-crate", message));
            }
            let Some(used) = dependency.own_crate() else { continue };
            let permitted = allowed.contains(&used)
                || (dependency.kind == Kind::Tests && ALLOWED_IN_TESTS.contains(&used))
                || (dependency.kind == Kind::Tests && used == manifest.name);
            if !permitted {
                let message = format!(
                    "{} may not use {used} (allowed: {}); turn the dependency round or pass data, or change ARCHITECTURE.md \
                     and the table in xtask/src/tidy/arrows.rs together",
                    manifest.name,
                    if allowed.is_empty() { "nothing".to_owned() } else { allowed.join(", ") },
                );
                findings.push(finding(dependency.line, "arrow", message));
            }
        }
    }
    findings
}

/// The graph as text: one line a crate, then one line for what only its tests use.
pub(super) fn graph(manifests: &[Manifest]) -> String {
    let mut text = String::from(
        "# Which crate uses which. Written by `cargo xtask tidy --write`, checked by `cargo xtask tidy`.\n",
    );
    for (heading, kind) in [("# code", Kind::Product), ("# tests only", Kind::Tests)] {
        text.push_str(heading);
        text.push('\n');
        for manifest in manifests {
            let mut used: Vec<&str> = manifest
                .dependencies
                .iter()
                .filter(|dependency| dependency.kind == kind)
                .filter_map(|dependency| dependency.own_crate())
                .collect();
            used.sort_unstable();
            used.dedup();
            if !used.is_empty() || kind == Kind::Product {
                let used = if used.is_empty() { "nothing".to_owned() } else { used.join(", ") };
                text.push_str(&format!("{} -> {used}\n", manifest.name));
            }
        }
    }
    text
}

/// Reports each line of the graph that is new or gone since it was checked in.
pub(super) fn check_graph(manifests: &[Manifest], committed: &str) -> Vec<Finding> {
    let current = graph(manifests);
    if current == committed {
        return Vec::new();
    }
    let finding = |line, what: &str, text: &str| Finding {
        path: GRAPH_PATH.to_owned(),
        line,
        rule: "crate-graph",
        message: format!(
            "{what} `{text}`; if that is meant, run `cargo xtask tidy --write` and commit the file"
        ),
    };
    let gone = committed
        .lines()
        .enumerate()
        .filter(|(_, line)| !current.lines().any(|now| now == *line))
        .map(|(index, line)| finding(index + 1, "no longer so:", line));
    let new = current
        .lines()
        .enumerate()
        .filter(|(_, line)| !committed.lines().any(|then| then == *line))
        .map(|(index, line)| finding(index + 1, "not in the file:", line));
    let mut findings: Vec<Finding> = gone.chain(new).collect();
    if findings.is_empty() {
        findings.push(finding(
            1,
            "order or repetition differs from",
            current.lines().next().unwrap_or_default(),
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::manifest::parse;

    fn crate_with(name: &str, body: &str) -> Manifest {
        let package = if name == "xtask" { name.to_owned() } else { format!("mainstay-{name}") };
        parse(&format!("crates/{name}"), &format!("[package]\nname = \"{package}\"\n{body}")).unwrap()
    }

    fn rules(manifests: &[Manifest]) -> Vec<&'static str> {
        check(manifests).into_iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn an_arrow_against_the_table_is_found_with_its_line() {
        let found = check(&[crate_with("config", "[dependencies]\nmainstay-os.workspace = true\n")]);
        assert_eq!((found[0].rule, found[0].line, found.len()), ("arrow", 4, 1));
        assert!(
            rules(&[crate_with("config", "[dependencies]\nmainstay-types.workspace = true\n")]).is_empty()
        );
    }

    #[test]
    fn testkit_is_for_tests_only() {
        assert_eq!(
            rules(&[crate_with("os", "[dependencies]\nmainstay-testkit.workspace = true\n")]),
            ["arrow"]
        );
        assert!(
            rules(&[crate_with("os", "[dev-dependencies]\nmainstay-testkit.workspace = true\n")]).is_empty()
        );
    }

    #[test]
    fn a_decision_crate_with_a_runtime_is_found() {
        assert_eq!(rules(&[crate_with("lifecycle", "[dependencies]\ntokio = \"1\"\n")]), ["decision-crate"]);
        assert!(rules(&[crate_with("host", "[dependencies]\ntokio = \"1\"\n")]).is_empty());
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        assert_eq!(rules(&[crate_with("novelty", "")]), ["crate-unknown"]);
    }

    #[test]
    fn a_new_and_a_lost_arrow_are_found() {
        let before = graph(&[crate_with("config", "")]);
        let after = [crate_with("config", "[dependencies]\nmainstay-types.workspace = true\n")];
        let found = check_graph(&after, &before);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(check_graph(&after, &graph(&after)).is_empty());
        assert!(!check_graph(&after, "").is_empty());
    }

    #[test]
    fn the_graph_keeps_tests_apart() {
        let manifest = crate_with(
            "os",
            "[dependencies]\nmainstay-types = {}\n[dev-dependencies]\nmainstay-testkit = {}\n",
        );
        assert!(graph(&[manifest]).ends_with("# code\nos -> types\n# tests only\nos -> testkit\n"));
    }
}
