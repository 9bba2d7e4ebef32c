//! The exploration itself: it holds for every stack, and notices each kind of broken machine.

use super::*;

/// What is explored on every change; `cargo xtask explore` goes further.
fn explored(stack: &str, depth: usize, commands: u8, faults: u8) {
    match run(stack, Bounds { depth, commands, faults }).unwrap() {
        Ok(summary) => {
            println!("{summary}");
            assert!(summary.states >= 1000, "the exploration met too little: {summary}");
        }
        Err(violation) => panic!("{violation}"),
    }
}

#[test]
fn a_chain() {
    explored("chain", 10, 1, 1);
}

#[test]
fn a_migration() {
    explored("migration", 12, 1, 1);
}

#[test]
fn replicas() {
    explored("replicas", 9, 1, 1);
}

#[test]
fn hooks_and_steps() {
    explored("hooks", 13, 1, 1);
}

#[test]
fn kept_gates() {
    explored("kept", 9, 1, 1);
}

#[test]
fn a_changed_file() {
    explored("change", 10, 1, 1);
}

#[test]
fn a_rolling_restart() {
    explored("rolling", 9, 1, 1);
}
