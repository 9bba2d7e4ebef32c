//! Around a service's life: hooks, the steps of a stop, giving up and coming back, gates that are lost.

use std::time::Duration;

use crate::fixture::{Fixture, SOON, alive, stderr, stdout};

#[test]
fn hooks_run_with_the_facts_and_their_outcome_is_told() {
    let fixture = Fixture::new(
        r#"
        [service.web]
        command = ["sh", "-c", "echo program >> order; echo up; exec sleep 1000"]
        readiness = { log = "^up$" }
        before_start = ["sh", "-c", "echo $MAINSTAY_HOOK of $MAINSTAY_SERVICE >> order"]
        after_ready = ["sh", "-c", "echo $MAINSTAY_HOOK $MAINSTAY_PID >> order; echo to the log"]
        before_stop = { command = ["sh", "-c", "echo $MAINSTAY_HOOK $MAINSTAY_PID >> order"], timeout = "5s" }
        after_exit = ["sh", "-c", "echo $MAINSTAY_HOOK $MAINSTAY_EXIT_SIGNAL $MAINSTAY_EXIT_CODE >> order; exit 3"]
        "#,
    );
    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    let pid = host.main_pid("web");
    host.wait_for("the hook's output", SOON, |_| fixture.log("web").contains("to the log").then_some(()));
    let (status, _) = host.stop();
    assert!(status.success());
    let order = std::fs::read_to_string(fixture.path("order")).unwrap();
    let lines: Vec<&str> = order.lines().collect();
    assert_eq!(
        lines,
        [
            "before_start of web",
            "program",
            &format!("after_ready {pid}"),
            &format!("before_stop {pid}"),
            "after_exit SIGTERM",
        ]
    );
    let events = fixture.events();
    let outcome = |hook: &str| {
        let event = events.iter().find(|event| event["command"] == hook).unwrap_or_else(|| panic!("{hook}"));
        (event["passed"].as_bool().unwrap(), event["reason"].as_str().unwrap().to_owned())
    };
    for hook in ["before_start", "after_ready", "before_stop"] {
        assert!(outcome(hook).0, "{hook}");
    }
    let (passed, words) = outcome("after_exit");
    assert!(!passed && words.contains("exited with code 3"), "{words}");
}

#[test]
fn a_hook_before_the_start_that_fails_is_a_failed_start() {
    let fixture = Fixture::new(
        r#"
        [service.web]
        command = "touch started"
        before_start = ["sh", "-c", "echo the disk is not mounted; exit 4"]
        restart = { give_up = { failures = 2 }, backoff = { first = "1ms" } }
        "#,
    );
    let mut host = fixture.run(&[]);
    let status = host.wait_end();
    assert_eq!(status.code(), Some(1));
    let err = host.err();
    assert!(err.contains("before_start") && err.contains("exited with code 4"), "{err}");
    assert!(err.contains("the disk is not mounted"), "{err}");
    assert!(!fixture.path("started").exists());
}

#[test]
fn a_hook_that_hangs_is_ended() {
    let fixture = Fixture::new(
        r#"
        [service.web]
        command = "sleep 1000"
        after_ready = { command = "sleep 1001", timeout = "100ms" }
        "#,
    );
    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    host.wait_for("its end", SOON, |_| {
        fixture
            .events()
            .iter()
            .any(|event| event["command"] == "after_ready" && event["passed"] == false)
            .then_some(())
    });
    assert_eq!(host.state("web"), "ready");
    host.stop();
}

#[test]
fn a_stop_takes_one_step_after_the_other_and_says_so() {
    let fixture = Fixture::new(
        r#"
        [service.deaf]
        command = ["sh", "-c", "trap 'echo got TERM' TERM; trap 'echo got INT' INT; echo up; while :; do sleep 0.05; done"]
        stop = { grace = "1500ms", steps = [
            { command = ["sh", "-c", "echo asked $MAINSTAY_HOOK"], wait = "300ms" },
            { signal = "SIGINT", wait = "300ms" },
            { signal = "SIGTERM" },
        ] }
        "#,
    );
    let mut host = fixture.run(&[]);
    host.wait_for("its output", SOON, |_| fixture.log("deaf").contains("up").then_some(()));
    let pid = host.main_pid("deaf");
    let output = fixture.mainstay(&["stop", "deaf"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!alive(pid));
    let log = fixture.log("deaf");
    let place = |text: &str| log.find(text).unwrap_or_else(|| panic!("{text} is not in {log}"));
    assert!(place("asked stop") < place("got INT") && place("got INT") < place("got TERM"));
    let words = stdout(&output);
    assert!(words.contains("killed"), "{words}");
    let reason = host.service("deaf")["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("SIGINT") && reason.contains("SIGTERM") && reason.contains("killed"), "{reason}");
    host.stop();
}

#[test]
fn who_gave_up_comes_back() {
    let fixture = Fixture::new(
        r#"
        [service.web]
        command = ["sh", "-c", "if [ -e mended ]; then exec sleep 1000; else echo broken; exit 9; fi"]
        restart = { backoff = { first = "1ms" }, give_up = { failures = 2, retry_after = "500ms" } }
        "#,
    );
    let mut host = fixture.run(&[]);
    host.wait_state("web", "failed");
    let reason = host.service("web")["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("exited with code 9") && reason.contains("next try in"), "{reason}");
    fixture.write("mended", "");
    host.wait_state("web", "ready");
    let incidents: Vec<_> =
        fixture.events().into_iter().filter(|event| event["event"] == "incident").collect();
    assert!(!incidents.is_empty() && incidents[0]["service"] == "web", "{incidents:?}");
    host.stop();
}

#[test]
fn a_lost_dependency_stops_or_restarts_who_asked_for_it() {
    let fixture = Fixture::new(
        r#"
        [service.db]
        command = ["sh", "-c", "echo up; exec sleep 1000"]
        [service.strict]
        command = "sleep 1001"
        needs = [{ service = "db", lose = "stop" }]
        [service.fresh]
        command = "sleep 1002"
        needs = [{ service = "db", lose = "restart" }]
        [service.easy]
        command = "sleep 1003"
        needs = [{ service = "db" }]
        [service.outside]
        command = "sleep 1004"
        needs = [{ file = "mounted", lose = "stop", period = "50ms" }]
        "#,
    );
    fixture.write("mounted", "");
    let mut host = fixture.run(&[]);
    let names = ["strict", "fresh", "easy", "outside"];
    for name in names {
        host.wait_state(name, "ready");
    }
    let before = names.map(|name| host.main_pid(name));
    let db = host.main_pid("db");
    crate::fixture::signal(db, "KILL");
    for (name, old) in names.into_iter().zip(before).take(2) {
        host.wait_for(name, SOON, |host| {
            (!alive(old) && host.state(name) == "ready" && host.main_pid(name) != old).then_some(())
        });
    }
    assert_eq!(host.main_pid("easy"), before[2]);
    assert_eq!(host.main_pid("outside"), before[3]);

    std::fs::remove_file(fixture.path("mounted")).unwrap();
    host.wait_state("outside", "waiting");
    assert!(!alive(before[3]));
    fixture.write("mounted", "");
    host.wait_state("outside", "ready");
    host.stop();
}

#[test]
fn a_stop_says_before_whom_it_stops_first() {
    let fixture = Fixture::new(
        r#"
        [service.db]
        command = "sleep 1000"
        [service.web]
        command = "sleep 1001"
        needs = [{ service = "db" }]
        [service.worker]
        command = "sleep 1002"
        needs = [{ service = "web" }]
        "#,
    );
    let mut host = fixture.run(&[]);
    host.wait_state("worker", "ready");
    let output = fixture.mainstay(&["stop", "db"]);
    assert!(output.status.success());
    let err = stderr(&output);
    assert!(err.contains("worker, web need db: stopping them first"), "{err}");
    let order: Vec<String> = fixture
        .events()
        .iter()
        .filter(|event| event["event"] == "exited")
        .map(|event| event["service"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(order, ["worker", "web", "db"]);
    host.stop();
}

#[test]
fn what_blocks_a_stop_and_what_was_tried_is_said() {
    let fixture = Fixture::new(
        r#"
        [service.deaf]
        command = ["sh", "-c", "trap '' TERM INT; echo up; while :; do sleep 0.05; done"]
        stop = { grace = "4s", steps = [{ signal = "SIGINT", wait = "500ms" }, { signal = "SIGTERM" }] }
        "#,
    );
    let mut host = fixture.run(&[]);
    host.wait_for("its output", SOON, |_| fixture.log("deaf").contains("up").then_some(()));
    host.signal("TERM");
    host.wait_for("who blocks", SOON, |host| {
        let out = host.out();
        (out.contains("for deaf") && out.contains("tried SIGINT")).then_some(())
    });
    let begun = std::time::Instant::now();
    assert!(host.wait_end().success());
    assert!(begun.elapsed() < Duration::from_secs(60));
}
