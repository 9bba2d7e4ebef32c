//! Changing what runs: the file applied again, a service reloaded, replicas replaced one after the other.

use serde_json::Value;

use crate::fixture::{Fixture, SOON, alive, stderr, stdout};

const BEFORE: &str = r#"
    stack = "shop"
    [service.db]
    command = "sleep 1000"
    [service.web]
    command = "sleep 1001"
    needs = [{ service = "db" }]
    [service.old]
    command = "sleep 1002"
    "#;

const AFTER: &str = r#"
    stack = "shop"
    [service.db]
    description = "only words differ"
    command = "sleep 1000"
    [service.web]
    command = "sleep 2001"
    needs = [{ service = "db" }]
    [service.new]
    command = "sleep 1003"
    needs = [{ service = "web" }]
    "#;

fn plan(fixture: &Fixture) -> Value {
    let output = fixture.mainstay(&["reload", "--dry-run", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn only_what_changed_is_touched() {
    let fixture = Fixture::new(BEFORE);
    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    host.wait_state("old", "ready");
    let (db, web, old) = (host.main_pid("db"), host.main_pid("web"), host.main_pid("old"));
    assert_eq!(host.status()["host"]["file"]["changed"], false);
    assert!(plan(&fixture)["plan"]["services"].as_array().unwrap().is_empty());

    fixture.write("mainstay.toml", AFTER);
    assert_eq!(host.status()["host"]["file"]["changed"], true);
    let table = stdout(&fixture.mainstay(&["status"]));
    assert!(table.contains("has changed") && table.contains("mainstay reload"), "{table}");
    let told = plan(&fixture);
    let actions: Vec<_> = told["plan"]["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|service| {
            format!("{} {}", service["name"].as_str().unwrap(), service["action"].as_str().unwrap())
        })
        .collect();
    assert_eq!(actions, ["old remove", "new add", "db in-place", "web restart"]);
    // Asking changes nothing.
    assert!(alive(web) && alive(old));

    let output = fixture.mainstay(&["reload"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let words = stdout(&output);
    assert!(words.contains("web: restarts") && words.contains("sleep 2001"), "{words}");
    assert!(stderr(&output).contains("applied after"), "{}", stderr(&output));
    assert_eq!(host.main_pid("db"), db);
    assert_ne!(host.main_pid("web"), web);
    assert!(!alive(web) && !alive(old));
    assert_eq!(host.state("new"), "ready");
    let status = host.status();
    let names: Vec<_> = status["services"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect();
    assert_eq!(names, ["db", "web", "new"]);
    assert_eq!(status["host"]["file"]["changed"], false);
    let output = fixture.mainstay(&["stop", "old"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(
        fixture.events().iter().any(|event| event["event"] == "settings"),
        "a change of the file is an event"
    );
    let (status, _) = host.stop();
    assert!(status.success());
}

#[test]
fn a_file_that_does_not_validate_changes_nothing() {
    let fixture = Fixture::new(BEFORE);
    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    let web = host.main_pid("web");
    for (broken, words) in [
        (BEFORE.replace("command = \"sleep 1001\"", "comand = \"sleep 1001\""), "comand"),
        (BEFORE.replace("stack = \"shop\"", "stack = \"bar\""), "cannot be renamed"),
        (BEFORE.replace("sleep 1001", "/no/such/program"), "/no/such/program"),
    ] {
        fixture.write("mainstay.toml", &broken);
        for args in [&["--stack", "shop", "reload"][..], &["--stack", "shop", "reload", "--dry-run"]] {
            let output = fixture.mainstay(args);
            assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
            let err = stderr(&output);
            assert!(err.contains(words) && err.contains("nothing was changed"), "{err}");
        }
        // Whoever sends the signal finds the reason where the host writes.
        host.signal("HUP");
        host.wait_for("the reason", SOON, |host| host.out().contains(words).then_some(()));
        fixture.write("mainstay.toml", BEFORE);
        assert_eq!(host.main_pid("web"), web);
    }
    assert_eq!(host.state("web"), "ready");
    host.stop();
}

#[test]
fn a_hang_up_applies_the_file() {
    let fixture = Fixture::new(BEFORE);
    let mut host = fixture.run(&[]);
    host.wait_state("old", "ready");
    host.wait_state("web", "ready");
    fixture.write("mainstay.toml", AFTER);
    host.signal("HUP");
    host.wait_for("it is told", SOON, |host| host.out().contains("applied after").then_some(()));
    assert_eq!(host.state("new"), "ready");
    let (status, _) = host.stop();
    assert!(status.success());
}

#[test]
fn a_service_is_reloaded_by_its_signal() {
    let fixture = Fixture::new(
        r#"
        [service.web]
        command = ["sh", "-c", "trap 'echo read again' HUP; echo up; while :; do sleep 0.05; done"]
        reload = { signal = "SIGHUP" }
        [service.tool]
        command = ["sh", "-c", "echo up; exec sleep 1000"]
        reload = { command = ["sh", "-c", "echo told $MAINSTAY_HOOK $MAINSTAY_PID"] }
        "#,
    );
    let mut host = fixture.run(&[]);
    host.wait_for("both", SOON, |_| {
        (fixture.log("web").contains("up") && fixture.log("tool").contains("up")).then_some(())
    });
    let (web, tool) = (host.main_pid("web"), host.main_pid("tool"));
    let output = fixture.mainstay(&["reload", "web", "tool"]);
    assert!(output.status.success(), "{}", stderr(&output));
    host.wait_for("its words", SOON, |_| fixture.log("web").contains("read again").then_some(()));
    host.wait_for("its words", SOON, |_| {
        fixture.log("tool").contains(&format!("told reload {tool}")).then_some(())
    });
    assert_eq!((host.main_pid("web"), host.main_pid("tool")), (web, tool));
    host.stop();
}

#[test]
fn replicas_are_replaced_one_after_the_other() {
    let fixture = Fixture::new(
        r#"
        [service.web]
        command = ["sh", "-c", "sleep 0.2; echo serving; exec sleep 1000"]
        replicas = 3
        readiness = { log = "serving" }
        "#,
    );
    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    let pids = |host: &mut crate::fixture::Running<'_>| -> Vec<Value> {
        let replicas = host.service("web")["replicas"].as_array().unwrap().clone();
        replicas.iter().map(|replica| replica["pid"].clone()).collect()
    };
    let before = pids(&mut host);
    let output = fixture.mainstay(&["reload", "web"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let after = pids(&mut host);
    assert!(
        before.iter().zip(&after).all(|(old, new)| old != new && new.is_number()),
        "{before:?} {after:?}"
    );
    // Never two of them down: walk the timeline and count.
    let mut down = 0_i32;
    for event in fixture.events() {
        if event["event"] == "state" && event["service"] == "web" {
            match (event["from"].as_str().unwrap(), event["to"].as_str().unwrap()) {
                ("ready", "stopping") => down += 1,
                (_, "ready") if down > 0 => down -= 1,
                _ => {}
            }
            assert!(down <= 1, "{event}");
        }
    }
    host.stop();
}

#[test]
fn replicas_come_and_go_with_the_file() {
    let toml = |replicas: u32| format!("[service.web]\ncommand = \"sleep 1000\"\nreplicas = {replicas}\n");
    let fixture = Fixture::new(&toml(2));
    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    let first = host.main_pid("web");
    fixture.write("mainstay.toml", &toml(4));
    assert!(fixture.mainstay(&["reload"]).status.success());
    assert_eq!(host.service("web")["replicas"].as_array().unwrap().len(), 4);
    host.wait_state("web", "ready");
    fixture.write("mainstay.toml", &toml(1));
    assert!(fixture.mainstay(&["reload"]).status.success());
    assert_eq!(host.service("web")["replicas"].as_array().unwrap().len(), 1);
    assert_eq!(host.main_pid("web"), first);
    host.stop();
}

#[test]
fn a_broken_file_is_shown_as_check_shows_it() {
    let fixture = Fixture::new(BEFORE);
    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    fixture.write("mainstay.toml", "stack = \"shop\"\n[service.db]\ncomand = \"x\"\n");
    let output = fixture.mainstay(&["reload"]);
    let err = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.starts_with("error[config-unknown-key]: unknown key `comand` ([service.db])"), "{err}");
    assert!(err.contains("nothing was changed"), "{err}");
}
