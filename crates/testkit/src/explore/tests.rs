//! The exploration itself: it holds for every stack, and notices each kind of broken machine.

use super::*;
use crate::sim::tests::broken::{Broken, Fault};

/// Where each fault shows within a few events. What takes many failures to show is left to the simulation.
const SHOWN: [(Fault, &str); 40] = [
    (Fault::LowerLimit, "chain"),
    (Fault::NoServiceGates, "chain"),
    (Fault::NoOutsideGates, "migration"),
    (Fault::GatesNeverHold, "chain"),
    (Fault::OneReplicaMore, "chain"),
    (Fault::LongerGrace, "chain"),
    (Fault::NoBackoff, "chain"),
    (Fault::EagerReadiness, "replicas"),
    (Fault::StartsAll, "chain"),
    (Fault::DropLaunch, "chain"),
    (Fault::DoubleLaunch, "chain"),
    (Fault::ReuseSpawn, "chain"),
    (Fault::LaunchAfterEnd, "chain"),
    (Fault::LaunchUnwanted, "chain"),
    (Fault::LaunchInBackoff, "chain"),
    (Fault::DropSignal, "chain"),
    (Fault::DropKill, "chain"),
    (Fault::SignalBeforeLaunch, "chain"),
    (Fault::KillGone, "chain"),
    (Fault::ProbeTwice, "chain"),
    (Fault::CheckService, "kept"),
    (Fault::StopOutOfOrder, "chain"),
    (Fault::IgnoreStop, "chain"),
    (Fault::BreakChain, "chain"),
    (Fault::WrongPhase, "chain"),
    (Fault::StoppedTooEarly, "chain"),
    (Fault::NeverOver, "chain"),
    (Fault::OtherStates, "chain"),
    (Fault::NoBeforeStart, "hooks"),
    (Fault::NoAfterReady, "hooks"),
    (Fault::NoAfterExit, "hooks"),
    (Fault::HastySteps, "hooks"),
    (Fault::OtherSignal, "chain"),
    (Fault::OtherCommand, "hooks"),
    (Fault::EndRunTwice, "hooks"),
    (Fault::BeforeStopTwice, "hooks"),
    (Fault::DropTold, "hooks"),
    (Fault::IgnoresLoss, "kept"),
    (Fault::AppliedAtOnce, "change"),
    (Fault::RollTwo, "rolling"),
];

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
    explored("chain", 9, 1, 1);
}

#[test]
fn a_migration() {
    explored("migration", 11, 1, 1);
}

#[test]
fn replicas() {
    explored("replicas", 8, 1, 1);
}

#[test]
fn hooks_and_steps() {
    explored("hooks", 12, 1, 1);
}

#[test]
fn kept_gates() {
    explored("kept", 8, 1, 1);
}

#[test]
fn a_changed_file() {
    explored("change", 9, 1, 1);
}

#[test]
fn a_rolling_restart() {
    explored("rolling", 8, 1, 1);
}

#[test]
fn every_broken_machine_is_noticed() {
    let mut missed = Vec::new();
    for (fault, stack) in SHOWN {
        let named = stacks::ALL.into_iter().find(|named| named.name == stack).unwrap();
        let bounds = Bounds { depth: 8, commands: 1, faults: 1 };
        match explore(named, bounds, None, |stack, seed| Broken::new(fault, stack, seed)) {
            Ok(_) => missed.push(fault),
            Err(violation) => {
                let events = violation.steps.iter().filter(|step| !step.starts_with(' ')).count();
                println!("{fault:?}: {} after {events} events", violation.rule);
            }
        }
    }
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}
