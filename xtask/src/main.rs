//! The project's own verbs, run as `cargo xtask VERB`: what a contributor and CI do beyond `cargo build` and `cargo test`.
//!
//! Role: developers' tool, not part of the product. May use: `config`, `api`, `testkit`. May be used by: nobody.
//! Each verb is a module; everything that starts another program goes through [`stage`].

mod bench;
mod check;
mod codegen;
mod container;
mod dist;
mod explore;
mod fuzz;
mod places;
mod sim;
mod stage;
mod suite;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own verbs. Every verb runs from anywhere inside the checkout.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", disable_help_subcommand = true, max_term_width = 110)]
#[command(after_help = "Examples:
  cargo xtask check                       everything a change must pass, beyond its tests
  cargo xtask tidy --write                accept a new arrow in docs/crates.txt
  cargo xtask codegen                     bring docs/reference up to date
  cargo xtask sim --seed 7 --events 100000
  cargo xtask explore chain --depth 14
  cargo xtask fuzz --seconds 60           feed the readers of logs with invented bytes
  cargo xtask suite windows               compile, lint and test for Windows
  cargo xtask bench --quick --peers limit-vfork,mainstay,runit
  cargo xtask dist                        a static release binary in target/dist")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Formatting, lints, house rules, generated files, documentation, licences and unused dependencies.
    Check(check::Options),
    /// The house rules: arrows between crates, what decision crates may use, where `unsafe` may stand, and so on.
    Tidy(tidy::Options),
    /// Writes docs/reference from the declarations in the code.
    Codegen(codegen::Options),
    /// Simulates the lifecycle with random events and checks its invariants after each.
    Sim(sim::Options),
    /// Walks through every order of events of small stacks and checks the same invariants after each.
    Explore(explore::Options),
    /// Fuzzes what reads bytes of others, from the committed corpus on.
    Fuzz(fuzz::Options),
    /// A test suite that needs more than this machine's own Rust: another system, or real programs.
    #[command(subcommand)]
    Suite(suite::Suite),
    /// Measures mainstay beside a bare loop and other supervisors, all in one run.
    Bench(bench::Options),
    /// Builds the static release binary and packs it.
    Dist(dist::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Check(options) => check::run(&options),
        Verb::Tidy(options) => tidy::run(&options),
        Verb::Codegen(options) => codegen::run(&options),
        Verb::Sim(options) => sim::run(&options),
        Verb::Explore(options) => explore::run(&options),
        Verb::Fuzz(options) => fuzz::run(&options),
        Verb::Suite(suite) => suite::run(&suite),
        Verb::Bench(options) => bench::run(&options),
        Verb::Dist(options) => dist::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
