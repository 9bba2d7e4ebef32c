//! `run`: order, readiness, restarts, the end.

use crate::fixture::{Fixture, SOON, alive, stderr, stdout};

#[test]
fn starts_in_order_and_stops_in_reverse() {
    let fixture = Fixture::new(
        r#"
        [service.setup]
        command = "sh -c 'echo prepared'"
        kind = "oneshot"
        [service.db]
        command = "sh -c 'touch db.up; trap \"rm -f db.up; exit 0\" TERM; while :; do sleep 0.05; done'"
        needs = [{ service = "setup", is = "completed" }]
        readiness = { exec = ["test", "-e", "db.up"], timeout = "10s" }
        [service.web]
        command = "sleep 1000"
        needs = [{ service = "db" }]
        "#,
    );
    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    let pid = host.main_pid("web");
    let status = host.status();
    assert_eq!(status["host"]["phase"], "running");
    assert_eq!(host.state("setup"), "completed");
    let (status, out) = host.stop();
    assert!(status.success(), "{status} {out}");
    assert!(!alive(pid));
    assert!(out.contains("everything is up after"), "{out}");

    let events = fixture.events();
    let place = |service: &str, to: &str| {
        events
            .iter()
            .position(|event| event["event"] == "state" && event["service"] == service && event["to"] == to)
            .unwrap_or_else(|| panic!("{service} never became {to}: {events:#?}"))
    };
    assert!(place("setup", "completed") < place("db", "starting"));
    assert!(place("db", "ready") < place("web", "starting"));
    assert!(place("web", "stopped") < place("db", "stopping"));
}

#[test]
fn ends_by_itself_when_everything_has_completed() {
    let fixture = Fixture::new("[service.once]\ncommand = \"true\"\nkind = \"oneshot\"\n");
    let output = fixture.mainstay(&["run"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("everything has completed"), "{}", stdout(&output));
}

#[test]
fn gives_up_and_says_why_with_the_last_lines() {
    let fixture = Fixture::new(
        r#"
        [service.bad]
        command = "sh -c 'echo reading settings >&2; echo no database url >&2; exit 3'"
        restart = { backoff = { first = "10ms" }, give_up = { failures = 3, within = "60s" } }
        "#,
    );
    let output = fixture.mainstay(&["run"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let (out, err) = (stdout(&output), stderr(&output));
    assert!(err.contains("bad failed: gave up after 3 failures within 1m: it exited with code 3"), "{err}");
    assert!(out.contains("last output: no database url"), "{out}");
    let starts = fixture.events().iter().filter(|event| event["event"] == "spawned").count();
    assert_eq!(starts, 3);
}

#[test]
fn restarts_after_a_crash_and_counts() {
    let fixture = Fixture::new(
        "[service.web]\ncommand = \"sleep 1000\"\nrestart = { backoff = { first = \"10ms\" } }\n",
    );
    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    let pid = host.main_pid("web");
    crate::fixture::signal(pid, "KILL");
    host.wait_for("it runs again", SOON, |host| {
        let service = host.service("web");
        let replica = &service["replicas"][0];
        (replica["restarts"] == 1 && replica["state"] == "ready" && replica["pid"] != pid).then_some(())
    });
    let replica = host.service("web")["replicas"][0].clone();
    assert_eq!(replica["last_exit"]["signal"], "SIGKILL");
    assert_eq!(replica["last_exit"]["code"], serde_json::Value::Null);
    assert!(replica["memory_bytes"].as_u64().unwrap() > 0);
    host.stop();
}

#[test]
fn a_dependent_waits_for_a_failed_dependency_and_starts_when_it_recovers() {
    let fixture = Fixture::new(
        r#"
        [service.db]
        command = "sh -c 'test -e fixed || exit 1; exec sleep 1000'"
        readiness = { exec = ["test", "-e", "fixed"], timeout = "10s" }
        restart = { backoff = { first = "1ms" }, give_up = { failures = 2, within = "60s" } }
        [service.web]
        command = "sleep 1000"
        needs = [{ service = "db" }]
        "#,
    );
    let mut host = fixture.run(&[]);
    host.wait_state("db", "failed");
    let web = host.service("web");
    assert_eq!(web["state"], "waiting");
    assert!(web["reason"].as_str().unwrap().contains("waiting for db to be ready: it has failed"), "{web}");
    fixture.write("fixed", "");
    let started = fixture.mainstay(&["start", "db"]);
    assert!(started.status.success(), "{}", stderr(&started));
    host.wait_state("web", "ready");
    host.stop();
}

#[test]
fn only_the_named_services_and_what_they_need_are_run() {
    let fixture = Fixture::new(
        r#"
        [service.a]
        command = "sleep 1000"
        [service.b]
        command = "sleep 1000"
        needs = [{ service = "a" }]
        [service.c]
        command = "sleep 1000"
        "#,
    );
    let mut host = fixture.run(&["b"]);
    host.wait_state("b", "ready");
    assert_eq!(host.state("a"), "ready");
    assert_eq!(host.state("c"), "stopped");
    host.stop();
}

#[test]
fn replicas_run_side_by_side_and_log_apart() {
    let fixture = Fixture::new(
        "[service.web]\ncommand = \"sh -c 'echo i am $MAINSTAY_REPLICA; exec sleep 1000'\"\nreplicas = 3\n",
    );
    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    let pids: std::collections::BTreeSet<u64> = host.service("web")["replicas"]
        .as_array()
        .unwrap()
        .iter()
        .map(|replica| replica["pid"].as_u64().unwrap())
        .collect();
    assert_eq!(pids.len(), 3);
    host.wait_for("all have logged", SOON, |_| {
        ["web", "web.1", "web.2"]
            .iter()
            .enumerate()
            .all(|(index, replica)| fixture.log(replica).contains(&format!("stdout F i am {index}\n")))
            .then_some(())
    });
    host.stop();
}

#[test]
fn an_outside_gate_is_waited_for_and_told() {
    let fixture = Fixture::new(
        r#"
        [service.web]
        command = "sleep 1000"
        needs = [{ exec = ["test", "-e", "gate"] }]
        "#,
    );
    let mut host = fixture.run(&[]);
    host.wait_for("the reason names the gate", SOON, |host| {
        let web = host.service("web");
        let reason = web["reason"].as_str().unwrap().to_owned();
        (web["state"] == "waiting" && reason.contains("exec test -e gate: the command exited with code 1"))
            .then_some(())
    });
    fixture.write("gate", "");
    host.wait_state("web", "ready");
    host.stop();
}

#[test]
fn a_gate_shut_for_too_long_fails_and_still_opens_later() {
    let fixture = Fixture::new(
        r#"
        [service.web]
        command = "sleep 1000"
        needs = [{ exec = ["test", "-e", "gate"], within = "300ms" }]
        [service.other]
        command = "sleep 1000"
        "#,
    );
    let mut host = fixture.run(&[]);
    host.wait_state("web", "failed");
    let reason = host.service("web")["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("did not hold within 300ms"), "{reason}");
    fixture.write("gate", "");
    host.wait_state("web", "ready");
    host.stop();
}

#[test]
fn readiness_and_liveness_are_told_apart() {
    let fixture = Fixture::new(
        r#"
        [service.web]
        command = "sleep 1000"
        readiness = { exec = ["test", "!", "-e", "busy"], period = "100ms", timeout = "10s", failure_threshold = 1 }
        liveness = { exec = ["test", "!", "-e", "hung"], period = "100ms", timeout = "10s", failure_threshold = 2 }
        restart = { backoff = { first = "10ms" }, give_up = { failures = 0 } }
        "#,
    );
    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    let pid = host.main_pid("web");
    fixture.write("busy", "");
    host.wait_state("web", "unready");
    assert_eq!(host.main_pid("web"), pid, "readiness restarts nothing");
    std::fs::remove_file(fixture.path("busy")).unwrap();
    host.wait_state("web", "ready");
    fixture.write("hung", "");
    host.wait_for("liveness restarts it", SOON, |host| {
        (host.service("web")["replicas"][0]["restarts"].as_u64() > Some(0)).then_some(())
    });
    std::fs::remove_file(fixture.path("hung")).unwrap();
    host.wait_state("web", "ready");
    assert_ne!(host.main_pid("web"), pid);
    host.stop();
}
