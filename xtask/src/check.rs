//! `check`: everything a change must pass beyond its tests. CI calls the same verb.

use anyhow::{Context as _, bail};

use crate::stage::{Stages, cargo, command, run as run_command};
use crate::{codegen, places, tidy};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask check
  cargo xtask check --only tidy --only fmt")]
pub(crate) struct Options {
    /// Runs only the named step; may be given several times.
    #[arg(long, value_enum)]
    only: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Step {
    Fmt,
    Tidy,
    Clippy,
    Codegen,
    Doc,
    Deny,
}

/// The steps from fast to slow.
const STEPS: [(Step, &str); 6] = [
    (Step::Fmt, "fmt: rustfmt.toml"),
    (Step::Tidy, "tidy: house rules and unused dependencies"),
    (Step::Clippy, "clippy: no warnings"),
    (Step::Codegen, "codegen: docs/reference is current"),
    (Step::Doc, "doc: no warnings, private items too"),
    (Step::Deny, "deny: licences, bans, sources"),
];

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut stages = Stages::default();
    for (step, name) in STEPS {
        if options.only.is_empty() || options.only.contains(&step) {
            stages.run(name, || perform(step));
        }
    }
    stages.finish()
}

fn perform(step: Step) -> anyhow::Result<()> {
    match step {
        Step::Fmt => {
            let mut fmt = cargo();
            fmt.args(["fmt", "--all", "--check"]);
            run_command(fmt)
        }
        Step::Tidy => tidy::run(&tidy::Options { write: false }),
        Step::Clippy => {
            let mut clippy = cargo();
            clippy.args(["clippy", "--workspace", "--all-targets", "--keep-going", "--", "-D", "warnings"]);
            run_command(clippy)
        }
        Step::Codegen => codegen::run(&codegen::Options { check: true }),
        Step::Doc => {
            let mut doc = cargo();
            doc.args(["doc", "--workspace", "--no-deps", "--document-private-items", "--keep-going"]);
            doc.env("RUSTDOCFLAGS", "-D warnings");
            run_command(doc)
        }
        Step::Deny => deny(),
    }
}

/// Licences, bans and sources by `deny.toml`.
///
/// The advisories check needs its database from the network at run time, which a build machine may not have, so it is
/// left out here and said so; `cargo deny check advisories` runs it by hand.
fn deny() -> anyhow::Result<()> {
    let tools_dir = places::cache_dir().join("tools/bin");
    let Some(cargo_deny) = places::find_program("cargo-deny", &[&tools_dir]) else {
        bail!(
            "cargo-deny is neither on PATH nor in {}; install it with `cargo install cargo-deny --locked --root {}`",
            tools_dir.display(),
            tools_dir.parent().context("a folder two levels down has a parent")?.display(),
        );
    };
    eprintln!(
        "deny: advisories are not checked here (their database comes from the network); licences, bans, sources are"
    );
    let mut deny = command(cargo_deny);
    deny.args([
        "--workspace",
        "--all-features",
        "check",
        "--hide-inclusion-graph",
        "licenses",
        "bans",
        "sources",
    ]);
    run_command(deny)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;

    #[test]
    fn every_step_is_in_the_list_that_runs() {
        for step in Step::value_variants() {
            assert!(STEPS.iter().any(|(listed, _)| listed == step), "{step:?} never runs");
        }
    }
}
