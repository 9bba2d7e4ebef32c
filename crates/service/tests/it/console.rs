//! In a console: signals, the stop and its deadline, and the end at once.

use crate::child::Program;

#[test]
fn ctrl_c_and_sigterm_stop_it_in_order() {
    for (signal, name) in [("INT", "Ctrl-C"), ("TERM", "SIGTERM"), ("QUIT", "SIGQUIT")] {
        let mut clock = Program::start("clock", &[], |_| {});
        clock.wait_for("tick ticks=1 words=tick");
        assert!(clock.err().contains("started_by=\"a console\""), "{}", clock.err());
        clock.signal(signal);
        let (status, err) = clock.wait_end();
        assert_eq!(status.code(), Some(0), "{err}");
        let order = [&*format!("stopping: {name} within=10s"), "wound down ticks=", "ended"];
        let places: Vec<_> = order.iter().map(|words| err.find(words)).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{order:?}: {err}");
        let left = err.split(" left=").nth(1).and_then(|rest| rest.lines().next()).unwrap();
        assert!((1..10).contains(&left.parse::<u32>().unwrap()), "what is left of the 10 s: {err}");
    }
}

#[test]
fn a_hangup_while_the_terminal_stays_is_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    let settings = dir.path().join("settings");
    std::fs::write(&settings, "one\n").unwrap();
    let mut clock = Program::start("clock", &["--settings", settings.to_str().unwrap()], |_| {});
    clock.wait_for("words=one");
    std::fs::write(&settings, "two\n").unwrap();
    clock.signal("HUP");
    clock.wait_for("words=two");
    clock.signal("TERM");
    assert_eq!(clock.wait_end().0.code(), Some(0));
}

#[test]
fn a_pause_holds_it_still() {
    let mut clock = Program::start("clock", &[], |_| {});
    clock.wait_for("ticks=1 ");
    clock.signal("TSTP");
    clock.signal("CONT");
    clock.wait_for("ticks=2 ");
    clock.signal("TERM");
    assert_eq!(clock.wait_end().0.code(), Some(0));
}

#[test]
fn a_second_ctrl_c_ends_it_at_once() {
    let mut unruly = Program::start("unruly", &["long-stop"], |_| {});
    unruly.wait_for("starting");
    unruly.signal("INT");
    unruly.wait_for("stop is called");
    unruly.signal("INT");
    let (status, err) = unruly.wait_end();
    assert_eq!(status.code(), Some(130), "{err}");
    assert!(err.contains("asked twice") && !err.contains("all pages are written"), "{err}");
}

#[test]
fn a_second_sigterm_changes_nothing() {
    let mut unruly = Program::start("unruly", &["long-stop"], |_| {});
    unruly.wait_for("starting");
    unruly.signal("TERM");
    unruly.wait_for("stop is called");
    unruly.signal("TERM");
    let (status, err) = unruly.wait_end();
    assert_eq!(status.code(), Some(0), "{err}");
    // It has a second, takes longer, and says so: its deadline moves.
    assert!(err.contains("all pages are written"), "{err}");
}

#[test]
fn a_stop_that_takes_too_long_is_cut_off() {
    let mut unruly = Program::start("unruly", &["slow-stop"], |_| {});
    unruly.wait_for("starting");
    unruly.signal("TERM");
    let (status, err) = unruly.wait_end();
    assert_eq!(status.code(), Some(1), "{err}");
    assert!(err.contains("stop is called") && err.contains("was not done in time"), "{err}");
}

#[test]
fn a_stop_during_the_start_skips_the_run() {
    let mut unruly = Program::start("unruly", &["wait-start"], |_| {});
    unruly.wait_for("waits in its start");
    unruly.signal("TERM");
    let (status, err) = unruly.wait_end();
    assert_eq!(status.code(), Some(0), "{err}");
    assert!(err.contains("stop is called"), "{err}");
}

#[test]
fn an_asynchronous_service_hears_of_a_stop_in_every_task() {
    let mut unruly = Program::start("unruly", &["async"], |_| {});
    unruly.wait_for("started on a runtime");
    unruly.signal("TERM");
    let (status, err) = unruly.wait_end();
    assert_eq!(status.code(), Some(0), "{err}");
    assert!(err.contains("both tasks heard of it") && err.contains("stop is awaited"), "{err}");
}
