//! `codegen`: writes docs/reference from the declarations in the code, or says what is out of date.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::places;

/// Arguments of `codegen`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask codegen            writes the files
  cargo xtask codegen --check    fails when a file is not what the code says")]
pub(crate) struct Options {
    /// Writes nothing; fails when a file is out of date.
    #[arg(long)]
    pub(crate) check: bool,
}

/// A generated file: its path below the root and its whole text.
struct Generated {
    path: &'static str,
    text: String,
}

/// Everything that is generated, each from its one declaration.
fn generated() -> [Generated; 3] {
    [
        Generated { path: "docs/reference/mainstay-toml.md", text: mainstay_config::reference_markdown() },
        Generated {
            path: "docs/reference/mainstay.schema.json",
            text: format!("{:#}\n", mainstay_config::json_schema()),
        },
        Generated { path: "docs/reference/openapi.json", text: format!("{:#}\n", mainstay_api::openapi()) },
    ]
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let stale = apply(places::root_dir(), &generated(), options.check)?;
    for path in &stale {
        eprintln!("{path}: {}", if options.check { "not what the code says" } else { "written" });
    }
    if options.check && !stale.is_empty() {
        bail!("{} generated files are out of date; run `cargo xtask codegen` and commit them", stale.len());
    }
    Ok(())
}

/// Compares each file, writes it unless `check`, and returns the paths that differed.
fn apply(root_dir: &Path, files: &[Generated], check: bool) -> anyhow::Result<Vec<&'static str>> {
    let mut stale = Vec::new();
    for Generated { path, text } in files {
        let full_path = root_dir.join(path);
        // A file that cannot be read is as good as one with other content: it is written, or reported.
        if fs::read_to_string(&full_path).is_ok_and(|current| current == *text) {
            continue;
        }
        stale.push(*path);
        if !check {
            let dir = full_path.parent().context("a generated file lies in a folder")?;
            fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
            fs::write(&full_path, text).with_context(|| format!("cannot write {path}"))?;
        }
    }
    Ok(stale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(text: &str) -> [Generated; 1] {
        [Generated { path: "docs/a.md", text: text.to_owned() }]
    }

    #[test]
    fn check_reports_a_missing_and_a_changed_file_and_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(apply(dir.path(), &sample("one"), true).unwrap(), ["docs/a.md"]);
        assert!(!dir.path().join("docs").exists());
        assert_eq!(apply(dir.path(), &sample("one"), false).unwrap(), ["docs/a.md"]);
        assert!(apply(dir.path(), &sample("one"), true).unwrap().is_empty());
        assert_eq!(apply(dir.path(), &sample("two"), true).unwrap(), ["docs/a.md"]);
        assert_eq!(fs::read_to_string(dir.path().join("docs/a.md")).unwrap(), "one");
    }
}
