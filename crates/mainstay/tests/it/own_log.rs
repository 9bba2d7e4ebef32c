//! The host's own log: where it goes, its levels, and what does not hurt it.

use crate::fixture::{Fixture, SOON, stderr, stdout};

const STACK: &str = r#"
stack = "shop"
[service.web]
command = "sleep 1000"
[service.weak]
command = ["sh", "-c", "echo cannot open the safe; exit 3"]
restart = { when = "never" }
"#;

fn own_log(fixture: &Fixture) -> String {
    stdout(&fixture.mainstay(&["logs", "--host", "-n", "10000"]))
}

#[test]
fn it_has_what_an_operator_would_notice_and_leaves_the_terminal_alone() {
    let fixture = Fixture::new(STACK);
    let none = fixture.mainstay(&["logs", "--host"]);
    assert_eq!(none.status.code(), Some(3), "{}", stderr(&none));
    assert!(stderr(&none).contains("none has run here"), "{}", stderr(&none));
    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    host.wait_state("weak", "failed");
    assert_eq!(host.err(), "");
    host.stop();
    // Without a running host, too.
    let log = own_log(&fixture);
    let has = |words: &[&str]| log.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(has(&["host !", "INFO", "host started", "stack=shop", "services=2"]), "{log}");
    assert!(has(&["INFO", "service.name=web", "state.to=ready"]), "{log}");
    assert!(has(&["WARN", "service.name=weak", "state.to=failed", "exited with code 3"]), "{log}");
    assert!(has(&["INFO", "host ended", "stopped=true"]), "{log}");
    assert!(!log.contains("DEBUG"), "{log}");
    let json = stdout(&fixture.mainstay(&["logs", "--host", "--json", "--grep", "host started"]));
    let line: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
    assert_eq!((line["service"].as_str(), line["stream"].as_str()), (Some("host"), Some("stderr")));
}

#[test]
fn the_level_comes_from_the_environment_and_from_the_command_line() {
    let mut fixture = Fixture::new(STACK);
    let mut host = fixture.run(&["-vv"]);
    host.wait_for("it is told on stderr", SOON, |host| host.err().contains("host started").then_some(()));
    host.stop();
    fixture.env.push(("MAINSTAY_LOG".to_owned(), "warn,mainstay_host::perform=debug".to_owned()));
    let mut host = fixture.run(&[]);
    host.wait_state("weak", "failed");
    host.wait_for("what was asked for", SOON, |host| host.err().contains("start asked for").then_some(()));
    assert!(!host.err().contains("host started"), "{}", host.err());
    host.stop();
    for (level, words) in
        [("verbose", "\"verbose\" is no level"), ("info,mainstay_host=loud", "next: off, error")]
    {
        fixture.env = vec![("MAINSTAY_LOG".to_owned(), level.to_owned())];
        let output = fixture.mainstay(&["run"]);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(
            stderr(&output).contains("MAINSTAY_LOG") && stderr(&output).contains(words),
            "{}",
            stderr(&output)
        );
    }
    // A start that failed before there was a host is in the log of the state folder.
    fixture.env.clear();
    fixture.write("mainstay.toml", "stack = \"shop\"\n[service.web]\ncommand = \"true\"\nreplicas = 0\n");
    assert_eq!(fixture.mainstay(&["run"]).status.code(), Some(2));
    assert!(own_log(&fixture).contains("`replicas`"), "{}", own_log(&fixture));
}

#[test]
fn the_level_is_shown_and_changed_while_it_runs() {
    let fixture = Fixture::new(STACK);
    let none = fixture.mainstay(&["log-level"]);
    assert_eq!(none.status.code(), Some(3), "{}", stderr(&none));
    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    assert_eq!(stdout(&fixture.mainstay(&["log-level"])), "info\n");
    let set = fixture.mainstay(&["log-level", "debug"]);
    assert_eq!(stdout(&set), "the level is debug; it was info\n", "{}", stderr(&set));
    assert!(fixture.mainstay(&["restart", "web"]).status.success());
    host.wait_for("details", SOON, |_| own_log(&fixture).contains("start asked for").then_some(()));
    for bad in ["loud", "info,verbose", "mainstay_host=7x"] {
        let output = fixture.mainstay(&["log-level", bad]);
        assert_eq!(output.status.code(), Some(2), "{bad}: {}", stderr(&output));
        assert!(stderr(&output).contains("is no level of the log"), "{bad}: {}", stderr(&output));
    }
    assert_eq!(
        stdout(&fixture.mainstay(&["log-level", "--json"])),
        "{\"level\":\"debug\",\"before\":null}\n"
    );
    host.stop();
    let told = |event: &serde_json::Value| event["command"] == "log-level";
    let events: Vec<_> = fixture.events().into_iter().filter(told).collect();
    assert_eq!(events.len(), 1, "a level that is refused is no change: {events:?}");
    assert_eq!(events[0]["reason"], "the level of the host's own log is debug; it was info");
}

#[test]
fn a_log_that_cannot_be_written_hurts_nobody() {
    let fixture = Fixture::new(STACK);
    std::fs::create_dir(fixture.path("state")).unwrap();
    // A file in the place of its folder: no line can be written, as on a full disk.
    std::fs::write(fixture.path("state/host-log"), "in its place").unwrap();
    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    host.wait_state("weak", "failed");
    std::fs::remove_file(fixture.path("state/host-log")).unwrap();
    assert!(fixture.mainstay(&["restart", "web"]).status.success());
    host.wait_for("it goes on, and says what is missing", SOON, |_| {
        own_log(&fixture).contains("entries could not be written here and are lost").then_some(())
    });
    let (status, _) = host.stop();
    assert!(status.success());
}
