//! `tidy`: the rules of the house that no compiler checks, each finding with its place, its rule and what to do.
//!
//! Manifests are read by [`manifest`], judged by [`arrows`] and [`dependencies`]; sources are read by [`source`] and
//! judged by [`rules`]; what may break a rule, and why, stands in [`exceptions`].

mod arrows;
mod dependencies;
mod exceptions;
mod manifest;
mod rules;
mod source;

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::places;

/// Arguments of `tidy`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask tidy            reports every breach of a rule
  cargo xtask tidy --write    writes docs/crates.txt as the manifests are now, then reports")]
pub(crate) struct Options {
    /// Writes the crate graph to docs/crates.txt instead of comparing with it.
    #[arg(long)]
    pub(crate) write: bool,
}

/// One breach of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    /// Below the root, with forward slashes.
    path: String,
    /// From 1; 1 also when the whole file is meant.
    line: usize,
    rule: &'static str,
    /// What is wrong and what to do.
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, rule, message } = self;
        write!(formatter, "{path}:{line}: [{rule}] {message}")
    }
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let root_dir = places::root_dir();
    let manifests = manifest::read_all(root_dir)?;
    if options.write {
        let path = root_dir.join(arrows::GRAPH_PATH);
        fs::create_dir_all(path.parent().context("the graph lies in a folder")?)?;
        fs::write(&path, arrows::graph(&manifests))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let files = source::read_all(root_dir)?;
    let findings = findings(root_dir, &manifests, &files)?;
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} breaches of the house rules", findings.len());
    }
    eprintln!("tidy: {} crates and {} files keep the rules", manifests.len(), files.len());
    Ok(())
}

/// Everything that breaks a rule, sorted by place.
fn findings(
    root_dir: &Path,
    manifests: &[manifest::Manifest],
    files: &[source::SourceFile],
) -> anyhow::Result<Vec<Finding>> {
    let mut findings = arrows::check(manifests);
    // A missing graph is compared as an empty one: every line of it is then new.
    let committed = fs::read_to_string(root_dir.join(arrows::GRAPH_PATH)).unwrap_or_default();
    findings.extend(arrows::check_graph(manifests, &committed));
    let root_manifest = fs::read_to_string(root_dir.join("Cargo.toml")).context("cannot read Cargo.toml")?;
    findings.extend(dependencies::check_reasons(&root_manifest));
    findings.extend(dependencies::check_unused(manifests, files));
    findings.extend(rules::check_all(files));
    let mut findings = exceptions::apply(findings);
    findings.sort();
    findings.dedup();
    Ok(findings)
}
