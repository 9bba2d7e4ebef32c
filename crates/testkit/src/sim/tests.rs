//! The simulation itself: it holds over many seeds, replays exactly, and notices each kind of broken machine.

pub(crate) mod broken;

use super::*;

/// The seed of the long run; `MAINSTAY_SIM_SEED` takes another.
const SEED: u64 = 20_261_122;
/// What is simulated on every change.
const EVENTS: u64 = 150_000;

#[test]
fn a_hundred_thousand_random_events_break_no_rule() {
    let events = std::env::var("MAINSTAY_SIM_EVENTS").map_or(EVENTS, |text| text.parse().unwrap());
    let seed = std::env::var("MAINSTAY_SIM_SEED").map_or(SEED, |text| text.parse().unwrap());
    println!("MAINSTAY_SIM_SEED={seed}");
    match run(Options { seed, events, trace: false }) {
        Ok(summary) => {
            println!("{summary}");
            let Summary {
                episodes, launches, kills, probes, gate_checks, words, failures, left_behind, ..
            } = summary;
            let least = [episodes, launches, kills, probes, gate_checks, words, failures, left_behind];
            assert!(least.iter().all(|count| *count >= 100), "the run met too little: {summary}");
        }
        Err(violation) => panic!("{violation}"),
    }
}

#[test]
fn a_violation_replays_exactly_and_shows_how_it_came_about() {
    let options = Options { seed: 5, events: 50_000, trace: false };
    let again = || {
        run_with(options, |stack, seed| broken::Broken::new(broken::Fault::DropLaunch, stack, seed))
            .unwrap_err()
    };
    let violation = again();
    assert_eq!(violation, again());
    assert_eq!(violation.seed, 5);
    let text = violation.to_string();
    assert!(text.contains("seed 5, event") && text.contains("StartStack"), "{text}");
}
