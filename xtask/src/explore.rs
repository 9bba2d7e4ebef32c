//! `explore`: every order of events of small stacks, as deep as one likes.

use anyhow::{Context as _, bail};
use mainstay_testkit::explore;

/// Arguments of `explore`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask explore                          every stack, a little deeper than the tests go
  cargo xtask explore chain --depth 16         one stack, further
  cargo xtask explore --commands 2 --depth 9   two commands on every way")]
pub(crate) struct Options {
    /// The stacks to explore; all when none is named.
    stacks: Vec<String>,
    /// Events on one way. Each more takes two to three times as long, and as much memory.
    #[arg(long, default_value_t = 11)]
    depth: usize,
    /// Commands, or changes of the file, on one way.
    #[arg(long, default_value_t = 1)]
    commands: u8,
    /// Exits nobody asked for, leftovers, failed launches, checks that do not pass, on one way.
    #[arg(long, default_value_t = 1)]
    faults: u8,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let bounds = explore::Bounds { depth: options.depth, commands: options.commands, faults: options.faults };
    let all: Vec<String> = explore::stacks().map(str::to_owned).collect();
    let stacks = if options.stacks.is_empty() { &all } else { &options.stacks };
    for stack in stacks {
        let explored = explore::run(stack, bounds)
            .with_context(|| format!("there is no stack {stack:?}; there are {}", all.join(", ")))?;
        match explored {
            Ok(summary) => println!("{summary}"),
            Err(violation) => bail!("{violation}"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explores_what_is_named_and_knows_what_is_not() {
        let options =
            |stack: &str| Options { stacks: vec![stack.to_owned()], depth: 4, commands: 1, faults: 1 };
        run(&options("chain")).unwrap();
        let error = run(&options("nowhere")).unwrap_err().to_string();
        assert!(error.contains("nowhere") && error.contains("chain"), "{error}");
    }
}
