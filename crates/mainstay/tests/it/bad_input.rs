//! Wrong input: a clear error, the right exit code, and nothing else disturbed.

use crate::fixture::{Fixture, stderr, stdout};

#[test]
fn no_file() {
    let fixture = Fixture::new("");
    std::fs::remove_file(fixture.path("mainstay.toml")).unwrap();
    for (command, next) in [("check", "mainstay init"), ("run", "mainstay init"), ("status", "--stack NAME")]
    {
        let output = fixture.mainstay(&[command]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        let err = stderr(&output);
        assert!(err.contains("there is no file") && err.contains(next), "{err}");
    }
    assert!(!fixture.path("state").exists(), "nothing was made");
}

#[test]
fn files_that_are_wrong_are_refused_whole() {
    for (toml, place, words) in [
        ("", "mainstay.toml", "no service"),
        ("[service.web]\ncomand = \"x\"\n", ":2:1", "command"),
        ("[service.web]\ncommand = 7\n", ":2:11", "command"),
        ("[service.web]\ncommand = \"x\"\nreplicas = \"two\"\n", ":3:12", "replicas"),
        ("[service.web]\ncommand = \"x\"\nstop = { grace = \"soon\" }\n", ":3:18", "grace"),
        ("[service.web]\ncommand = \"x\n", ":2:", "config-syntax"),
        ("[service.\"my web\"]\ncommand = \"x\"\n", ":1:", "letters"),
        ("[service.web]\ncommand = \"x\"\n[settings]\na = 1\n", ":3:2", "not supported yet"),
        ("[service.web]\ncommand = \"${NO_SUCH_VARIABLE_HERE}\"\n", ":2:", "NO_SUCH_VARIABLE_HERE"),
        (
            "[service.a]\ncommand = \"x\"\nneeds = [{ service = \"b\" }]\n[service.b]\ncommand = \"x\"\nneeds = [{ service = \"a\" }]\n",
            "mainstay.toml",
            "a -> b -> a",
        ),
        (
            "[service.a]\ncommand = \"x\"\nneeds = [{ service = \"bb\" }]\n[service.b]\ncommand = \"x\"\n",
            ":3:",
            "\"b\"",
        ),
    ] {
        let fixture = Fixture::new(toml);
        for command in ["check", "run"] {
            let output = fixture.mainstay(&[command]);
            let err = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{toml}\n{err}");
            assert!(err.contains(place), "no place {place} in\n{err}");
            assert!(err.contains(words), "no {words} in\n{err}");
        }
        assert!(!fixture.path("state").exists(), "nothing was made for\n{toml}");
        let json = fixture.mainstay(&["check", "--json"]);
        let document: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!(document["valid"], false);
        assert!(!document["errors"].as_array().unwrap().is_empty());
    }
}

#[test]
fn all_errors_are_shown_at_once() {
    let fixture = Fixture::new("[service.web]\ncomand = \"x\"\nreplica = 2\nuser = 5\n");
    let err = stderr(&fixture.mainstay(&["check"]));
    for place in [":2:1", ":3:1", ":4:8"] {
        assert!(err.contains(place), "{place} is not in\n{err}");
    }
}

#[test]
fn check_looks_at_everything_the_file_names() {
    let fixture = Fixture::new(
        r#"
        [service.a]
        command = "./missing-program"
        [service.b]
        command = "sleep 1"
        workdir = "missing-folder"
        [service.c]
        command = "sleep 1"
        user = "no-such-user-here"
        [service.d]
        command = "sleep 1"
        env_file = ["missing.env"]
        [service.e]
        command = "sleep 1"
        env_file = ["bad.env"]
        "#,
    );
    fixture.write("bad.env", "GOOD=1\nthis is no assignment\n");
    let output = fixture.mainstay(&["check"]);
    let err = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{err}");
    for words in ["missing-program", "missing-folder", "no-such-user-here", "missing.env", "bad.env"] {
        assert!(err.contains(words), "{words} is not in\n{err}");
    }
    let good = Fixture::new("[service.a]\ncommand = \"sleep 1\"\n").mainstay(&["check"]);
    assert_eq!(good.status.code(), Some(0));
    assert!(stdout(&good).starts_with("ok "));
}

#[test]
fn an_env_file_that_cannot_be_read_fails_its_service_only() {
    let fixture = Fixture::new(
        r#"
        [service.a]
        command = "sleep 1000"
        env_file = [".env"]
        restart = { when = "never" }
        [service.b]
        command = "sleep 1000"
        "#,
    );
    // A folder in its place cannot be read, not even by root.
    std::fs::create_dir(fixture.path(".env")).unwrap();
    let mut host = fixture.run(&[]);
    host.wait_state("a", "failed");
    host.wait_state("b", "ready");
    let reason = host.service("a")["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("cannot read env_file") && reason.contains(".env"), "{reason}");
    host.stop();
}

#[test]
fn a_state_folder_that_cannot_be_written() {
    let fixture = Fixture::new("[service.a]\ncommand = \"sleep 1000\"\n");
    // A file in its place stops root, too.
    fixture.write("state", "in the way");
    let output = fixture.mainstay(&["run"]);
    let err = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("cannot write the state folder") && err.contains("MAINSTAY_STATE_DIR"), "{err}");
}

#[test]
fn a_damaged_event_record_is_put_aside() {
    let fixture = Fixture::new("[service.a]\ncommand = \"true\"\nkind = \"oneshot\"\n");
    std::fs::create_dir(fixture.path("state")).unwrap();
    fixture.write("state/events.db", &"this is no database ".repeat(100));
    let output = fixture.mainstay(&["run"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("the event record was damaged"), "{}", stdout(&output));
    assert!(fixture.events().iter().any(|event| event["to"] == "completed"));
}

#[test]
fn wrong_usage() {
    let fixture = Fixture::new("[service.a]\ncommand = \"true\"\n");
    for args in [
        &["frobnicate"][..],
        &["start"],
        &["run", "--demo", "a"],
        &["status", "--color", "sometimes"],
        &["start", "a", "--timeout", "soon"],
        &["logs", "-n", "many"],
        &["harden", "a"],
        &["doctor", "--json"],
    ] {
        let output = fixture.mainstay(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(!stderr(&output).is_empty());
    }
}

#[test]
fn init_writes_a_file_that_works_and_never_overwrites() {
    let fixture = Fixture::new("");
    std::fs::remove_file(fixture.path("mainstay.toml")).unwrap();
    let output = fixture.mainstay(&["init", "--", "sleep", "10 00", "it's"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(fixture.mainstay(&["check"]).status.success());
    let before = std::fs::read(fixture.path("mainstay.toml")).unwrap();
    let again = fixture.mainstay(&["init"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("is there already"), "{}", stderr(&again));
    assert_eq!(std::fs::read(fixture.path("mainstay.toml")).unwrap(), before);
    std::fs::remove_file(fixture.path("mainstay.toml")).unwrap();
    assert!(fixture.mainstay(&["init"]).status.success());
    assert!(fixture.mainstay(&["check"]).status.success());
}

#[test]
fn completions_and_man_pages_are_made() {
    let fixture = Fixture::new("");
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = fixture.mainstay(&["completions", shell]);
        assert!(output.status.success());
        assert!(stdout(&output).contains("mainstay"), "{shell}");
    }
    assert!(fixture.mainstay(&["man", "pages"]).status.success());
    let page = std::fs::read_to_string(fixture.path("pages/mainstay-run.1")).unwrap();
    assert!(page.contains(".TH"), "{page}");
}
