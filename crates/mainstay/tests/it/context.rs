//! Context of failures: the last lines that events and `status` carry, and `logs --around`.

use serde_json::Value;

use crate::fixture::{Fixture, SOON, stderr, stdout};

fn lines(value: &Value) -> Vec<&str> {
    value.as_array().map(|lines| lines.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

/// The first event of the service that `wanted` holds for.
fn event(events: &[Value], service: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let found = events.iter().find(|event| event["service"] == service && wanted(event));
    found.unwrap_or_else(|| panic!("no such event of {service}: {events:#?}")).clone()
}

#[test]
fn every_event_of_a_failure_carries_the_last_lines() {
    let fixture = Fixture::new(
        r#"
        [service.crash]
        command = ["sh", "-c", "echo opening; echo no database >&2; exit 3"]
        restart = { backoff = { first = "1ms", max = "1ms" }, give_up = { failures = 2, within = "60s" } }
        [service.once]
        kind = "oneshot"
        command = ["sh", "-c", "echo column exists; exit 1"]
        restart = { when = "never" }
        [service.hooked]
        command = "true"
        before_start = ["sh", "-c", "echo disk is not mounted; exit 4"]
        restart = { backoff = { first = "1ms" }, give_up = { failures = 1, within = "60s" } }
        [service.absent]
        command = "./not-there"
        restart = { backoff = { first = "1ms" }, give_up = { failures = 1, within = "60s" } }
        "#,
    );
    fixture.write("not-there", "no program");
    let output = fixture.mainstay(&["run"]);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    let events = fixture.events();
    let is = |kind: &'static str| move |event: &Value| event["event"] == kind;
    let becomes = |state: &'static str| move |event: &Value| event["to"] == state;
    for found in [
        event(&events, "crash", is("exited")),
        event(&events, "crash", becomes("backoff")),
        event(&events, "crash", becomes("failed")),
        event(&events, "crash", is("incident")),
    ] {
        // Two pipes are read in any order.
        let mut written = lines(&found["lines"]);
        written.sort_unstable();
        assert_eq!(written, ["no database", "opening"], "{found}");
    }
    assert_eq!(lines(&event(&events, "once", becomes("failed"))["lines"]), ["column exists"]);
    let hook = event(&events, "hooked", |event| event["command"] == "before_start");
    assert_eq!(lines(&hook["lines"]), ["disk is not mounted"]);
    assert_eq!(lines(&event(&events, "hooked", becomes("failed"))["lines"]), ["disk is not mounted"]);
    assert_eq!(event(&events, "absent", becomes("failed"))["lines"], Value::Null);
}

#[test]
fn a_restart_by_a_probe_carries_the_last_lines_and_a_stop_on_request_none() {
    let fixture = Fixture::new(
        r#"
        [service.web]
        command = ["sh", "-c", "echo deadlock in the pool; exec sleep 1000"]
        liveness = { exec = ["test", "!", "-e", "hangs"], period = "50ms", timeout = "20s", failure_threshold = 1 }
        restart = { backoff = { first = "1h", max = "1h" } }
        [service.slow]
        command = ["sh", "-c", "echo still loading; exec sleep 1000"]
        startup = { exec = ["test", "-e", "never"], period = "50ms", timeout = "20s", failure_threshold = 2 }
        restart = { backoff = { first = "1h", max = "1h" } }
        [service.fine]
        command = ["sh", "-c", "echo all is well; exec sleep 1000"]
        "#,
    );
    let mut host = fixture.run(&[]);
    host.wait_for("it has written", SOON, |_| fixture.log("web").contains("deadlock").then_some(()));
    fixture.write("hangs", "");
    host.wait_state("web", "backoff");
    host.wait_state("slow", "backoff");
    assert!(fixture.mainstay(&["stop", "fine"]).status.success());
    let events = fixture.events();
    let expected = [("web", "deadlock in the pool"), ("slow", "still loading")];
    for (service, line) in expected {
        for found in [
            event(&events, service, |event| event["to"] == "stopping"),
            event(&events, service, |event| event["event"] == "exited"),
            event(&events, service, |event| event["to"] == "backoff"),
        ] {
            assert_eq!(lines(&found["lines"]), [line], "{found}");
        }
    }
    assert_eq!(event(&events, "fine", |event| event["event"] == "exited")["lines"], Value::Null);

    // `status` has them, too, for as long as it has not recovered.
    assert_eq!(lines(&host.service("web")["replicas"][0]["last_lines"]), ["deadlock in the pool"]);
    assert_eq!(host.service("fine")["replicas"][0]["last_lines"], Value::Null);
    let page = stdout(&fixture.mainstay(&["status"]));
    assert!(page.contains("web wrote last:\n  deadlock in the pool\n"), "{page}");
    std::fs::remove_file(fixture.path("hangs")).unwrap();
    let restarted = fixture.mainstay(&["restart", "web"]);
    assert!(restarted.status.success(), "{}", stderr(&restarted));
    assert_eq!(host.service("web")["replicas"][0]["last_lines"], Value::Null);
    host.stop();
}

#[test]
fn around_a_failure_all_services_are_shown_with_the_moment_marked() {
    let fixture = Fixture::new(
        r#"
        [service.db]
        command = ["sh", "-c", "echo connection limit reached; exec sleep 1000"]
        readiness = { log = "limit" }
        [service.web]
        needs = [{ service = "db" }]
        command = ["sh", "-c", "echo cannot connect; exit 7"]
        restart = { when = "never" }
        "#,
    );
    let early = fixture.mainstay(&["logs", "--around", "last"]);
    assert_eq!(early.status.code(), Some(3), "{}", stderr(&early));
    let mut host = fixture.run(&[]);
    host.wait_state("web", "failed");
    let running = stdout(&fixture.mainstay(&["logs", "--around", "last", "--window", "1m"]));
    host.stop();

    // With and without a running host.
    let stopped = fixture.mainstay(&["logs", "web", "--around", "last", "--window", "1m"]);
    assert!(stopped.status.success(), "{}", stderr(&stopped));
    for page in [running, stdout(&stopped)] {
        let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text:?} is not in\n{page}"));
        assert!(place("connection limit reached") < place("| cannot connect"), "{page}");
        assert!(place("connection limit reached") < place("exited  it exited with code 7"), "{page}");
        assert!(place("exited  it exited with code 7") < place(">>> #"), "{page}");
        let marked: Vec<&str> = page.lines().filter(|line| line.contains(">>> #")).collect();
        assert_eq!(marked.len(), 1, "{page}");
        assert!(marked[0].contains("failed  it exited with code 7"), "{page}");
        assert!(page.starts_with("around event #"), "{page}");
    }

    // The same moment by its id, as `events` shows it; and as JSON.
    let events = fixture.events();
    let exited = event(&events, "web", |event| event["event"] == "exited");
    let id = exited["id"].to_string();
    let shown = stdout(&fixture.mainstay(&["events", "-v"]));
    let with_id = |line: &str| line.contains(&format!(" #{id} ")) && line.contains("code 7");
    assert!(shown.lines().any(with_id) && shown.contains("\n    cannot connect\n"), "{shown}");
    let page = stdout(&fixture.mainstay(&["logs", "--around", &id, "--json"]));
    let objects: Vec<Value> = page.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(objects.iter().any(|object| object["line"] == "cannot connect"), "{page}");
    assert!(objects.iter().any(|object| object["id"] == exited["id"]), "{page}");
    // A window that holds nothing but the moment.
    let narrow = stdout(&fixture.mainstay(&["logs", "--around", &id, "--window", "0s", "--grep", "xyz"]));
    assert!(narrow.lines().any(|line| line.contains(">>> #")), "{narrow}");
    assert!(!narrow.contains("connection limit"), "{narrow}");
}

#[test]
fn around_nothing_says_what_is_wrong() {
    let fixture = Fixture::new("[service.web]\ncommand = \"true\"\nkind = \"oneshot\"\n");
    assert!(fixture.mainstay(&["run"]).status.success());
    for (args, code, words) in [
        (&["--around", "last"][..], 1, "no failure of the stack"),
        (&["web", "--around", "last"], 1, "no failure of web is recorded"),
        (&["wbe", "--around", "last"], 3, "nothing is recorded of \"wbe\": there are events of web"),
        (&["--around", "999999"], 3, "has no event #999999"),
        (&["--around", "yesterday"], 2, "neither `last` nor the id of an event"),
        (&["--around", "0"], 2, "neither `last` nor the id of an event"),
        (&["other", "--around", "1"], 2, "not about other"),
        (&["--around", "last", "--window", "30h"], 2, "at most 24h"),
        (&["--around", "last", "--grep", "("], 2, "--grep"),
        (&["--around", "last", "--follow"], 2, "cannot be used with"),
        (&["--window", "1s"], 2, "--around"),
    ] {
        let output = fixture.mainstay(&[&["logs"], args].concat());
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{args:?}: {}", stderr(&output));
        assert!(stdout(&output).is_empty(), "{args:?}");
    }
}
