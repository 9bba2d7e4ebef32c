//! Under a manager that speaks sd_notify: what it hears, and in which order.

use crate::child::{Manager, Program};

#[test]
fn a_whole_life_is_told() {
    let mut manager = Manager::new();
    let dir = tempfile::tempdir().unwrap();
    let settings = dir.path().join("settings");
    std::fs::write(&settings, "one").unwrap();
    let args = ["--settings", settings.to_str().unwrap(), "--prepare", "3"];
    let mut clock = Program::start("clock", &args, |command| {
        command.env("NOTIFY_SOCKET", manager.path()).env("WATCHDOG_USEC", "600000");
    });
    manager.hear("progress", |text| text == "STATUS=winding up, step 3\nEXTEND_TIMEOUT_USEC=5000000");
    manager.hear("readiness", |text| text == "READY=1");
    let first: Vec<&str> =
        manager.heard.iter().map(String::as_str).filter(|text| *text != "WATCHDOG=1").collect();
    assert_eq!(first.len(), 4, "three steps, and then ready: {first:?}");
    manager.hear("its status", |text| text == "STATUS=says one");
    for _ in 0..3 {
        manager.hear("a sign of life", |text| text == "WATCHDOG=1");
    }
    assert!(clock.err().contains("started_by=\"a service manager\""), "{}", clock.err());

    std::fs::write(&settings, "two").unwrap();
    clock.signal("HUP");
    let reloading = manager.hear("the reload", |text| text.starts_with("RELOADING=1\n"));
    let micros: u64 = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse().unwrap();
    assert!(micros > 0);
    manager.hear("the new settings", |text| text == "STATUS=says two");
    manager.hear("readiness again", |text| text == "READY=1");

    clock.signal("TSTP");
    manager.hear("the pause", |text| text == "STATUS=paused");
    clock.signal("CONT");
    manager.hear("its end", |text| text == "STATUS=running");

    clock.signal("TERM");
    manager.hear("the stop", |text| text == "STOPPING=1\nEXTEND_TIMEOUT_USEC=10000000");
    let (status, err) = clock.wait_end();
    assert_eq!(status.code(), Some(0), "{err}");
    assert!(err.contains("wound down"), "{err}");
    assert!(manager.drain().iter().all(|text| text == "WATCHDOG=1"), "{:?}", manager.heard);
}

#[test]
fn a_program_that_hangs_gives_no_sign_of_life() {
    let mut manager = Manager::new();
    let unruly = Program::start("unruly", &["hang"], |command| {
        command.env("NOTIFY_SOCKET", manager.path()).env("WATCHDOG_USEC", "60000");
    });
    unruly.wait_for("hangs");
    manager.drain();
    // Each look waits for 50 ms: five times the watchdog's limit, in which fifteen would come.
    for _ in 0..6 {
        assert!(manager.drain().is_empty(), "{:?}", manager.heard);
    }
}

#[test]
fn the_watchdog_of_another_process_is_not_fed() {
    let mut manager = Manager::new();
    let mut unruly = Program::start("unruly", &["late"], |command| {
        command.env("NOTIFY_SOCKET", manager.path()).env("WATCHDOG_USEC", "1000").env("WATCHDOG_PID", "1");
    });
    manager.hear("its status", |text| text == "STATUS=ready by itself");
    assert_eq!(manager.heard, ["READY=1", "STATUS=ready by itself"]);
    unruly.signal("TERM");
    assert_eq!(unruly.wait_end().0.code(), Some(0));
}

#[test]
fn a_failure_and_a_long_stop_are_told() {
    let mut manager = Manager::new();
    let mut unruly = Program::start("unruly", &["fail-code"], |command| {
        command.env("NOTIFY_SOCKET", manager.path());
    });
    assert_eq!(unruly.wait_end().0.code(), Some(7));
    let heard = manager.drain();
    assert_eq!(heard, ["READY=1", "STOPPING=1\nEXTEND_TIMEOUT_USEC=1000000", "STATUS=failed with code 7"]);

    let mut unruly = Program::start("unruly", &["long-stop"], |command| {
        command.env("NOTIFY_SOCKET", manager.path());
    });
    manager.hear("readiness", |text| text == "READY=1");
    unruly.signal("TERM");
    manager.hear("a word of the stop", |text| text == "STATUS=writing page 7\nEXTEND_TIMEOUT_USEC=5000000");
    assert_eq!(unruly.wait_end().0.code(), Some(0));
}

#[test]
fn a_manager_that_does_not_listen_is_said_once_and_harms_nothing() {
    let mut clock = Program::start("clock", &["--prepare", "3"], |command| {
        command.env("NOTIFY_SOCKET", "/no/such/socket");
    });
    clock.wait_for("ticks=1 ");
    clock.signal("TERM");
    let (status, err) = clock.wait_end();
    assert_eq!(status.code(), Some(0), "{err}");
    assert_eq!(err.matches("cannot be told").count(), 1, "{err}");
}
