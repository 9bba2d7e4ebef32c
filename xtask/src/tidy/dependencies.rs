//! Outside dependencies: each has its reason beside it, and each is used.

use super::Finding;
use super::manifest::{Kind, Manifest};
use super::source::{SourceFile, words};

/// Reports each outside dependency of the root manifest that no comment above it names.
///
/// One comment may stand for a block of lines; it must name each of them, or a name it begins with
/// (`clap` covers `clap_complete`). A blank line ends the block.
pub(super) fn check_reasons(root_manifest: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut inside = false;
    let mut comment = String::new();
    let mut comment_is_open = false;
    for (index, line) in root_manifest.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            inside = line == "[workspace.dependencies]";
        }
        if let Some(text) = line.strip_prefix('#') {
            if !comment_is_open {
                comment.clear();
            }
            comment_is_open = true;
            comment.push_str(text);
            continue;
        }
        comment_is_open = false;
        if line.is_empty() {
            comment.clear();
        }
        let Some((name, value)) = line.split_once('=').filter(|_| inside) else { continue };
        let name = name.trim().trim_matches('"');
        let outside = !value.contains("path =");
        let named = comment.split(|c: char| !c.is_alphanumeric() && c != '-' && c != '_').any(|word| {
            !word.is_empty()
                && (name == word || name.strip_prefix(word).is_some_and(|rest| rest.starts_with(['-', '_'])))
        });
        if outside && !named {
            findings.push(Finding {
                path: "Cargo.toml".to_owned(),
                line: index + 1,
                rule: "dependency-reason",
                message: format!("no comment above says why {name} is needed; write `# {name}: what for`"),
            });
        }
    }
    findings
}

/// Reports each dependency whose name occurs nowhere in its crate's code.
pub(super) fn check_unused(manifests: &[Manifest], files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for manifest in manifests {
        let own_files = || files.iter().filter(|file| file.path.starts_with(&format!("{}/", manifest.dir)));
        for dependency in &manifest.dependencies {
            let in_code = dependency.name.replace('-', "_");
            let used = own_files()
                .filter(|file| dependency.kind == Kind::Tests || !file.is_test())
                .any(|file| words(&file.code).any(|word| word == in_code));
            if !used {
                findings.push(Finding {
                    path: manifest.path(),
                    line: dependency.line,
                    rule: "dependency-unused",
                    message: format!(
                        "{in_code} occurs nowhere in the code of {}; remove the line",
                        manifest.name
                    ),
                });
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::manifest::parse;

    #[test]
    fn a_dependency_without_its_reason_is_found() {
        let good = "[workspace.dependencies]\nown = { path = \"x\" }\n\n# clap: the command line\nclap = \"4\"\nclap_complete = \"4\"\n";
        assert_eq!(check_reasons(good), []);
        let bad = format!("{good}serde = \"1\"\n\nzstd = \"1\"\n# clapper: no\nclap-x = \"1\"\n");
        let lines: Vec<usize> = check_reasons(&bad).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [7, 9, 11]);
    }

    #[test]
    fn only_the_dependency_table_is_judged() {
        assert_eq!(check_reasons("[workspace.package]\nedition = \"2024\"\n"), []);
    }

    #[test]
    fn a_dependency_that_only_a_comment_or_a_string_names_is_unused() {
        let manifest =
            parse("crates/os", "[package]\nname = \"mainstay-os\"\n[dependencies]\nserde-json = \"1\"\n")
                .unwrap();
        let file = |text| [SourceFile::new("crates/os/src/lib.rs", text)];
        assert_eq!(
            check_unused(
                std::slice::from_ref(&manifest),
                &file("//! serde_json\nfn f() { \"serde_json\"; }")
            )
            .len(),
            1
        );
        assert_eq!(check_unused(std::slice::from_ref(&manifest), &file("use serde_json::Value;")), []);
        let elsewhere = [SourceFile::new("crates/other/src/lib.rs", "use serde_json::Value;")];
        assert_eq!(check_unused(&[manifest], &elsewhere).len(), 1);
    }

    #[test]
    fn code_that_only_tests_use_belongs_to_the_dev_dependencies() {
        let manifest =
            parse("crates/os", "[package]\nname = \"mainstay-os\"\n[dependencies]\ntempfile = \"1\"\n")
                .unwrap();
        let files = [SourceFile::new("crates/os/tests/it.rs", "use tempfile::tempdir;")];
        assert_eq!(check_unused(&[manifest], &files).len(), 1);
    }
}
