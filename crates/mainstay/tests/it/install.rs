//! `install --dry-run`, which changes nothing anywhere, and what `install` refuses before it begins. What it does is for
//! `cargo xtask suite systemd` to show, in a machine of its own.

use crate::fixture::{Fixture, SOON, signal, stderr, stdout};

const STACK: &str = "stack = \"it-install\"\n[service.web]\ncommand = [\"sh\", \"-c\", \"${PORT}\"]\n";

#[test]
fn the_unit_is_shown_and_nothing_is_changed() {
    let fixture = Fixture::new("stack = \"it-install\"\n[service.web]\ncommand = [\"sleep\", \"1\"]\n");
    let output = fixture.mainstay(&["install", "--dry-run", "--user", "--start", "delayed"]);
    let (unit, said) = (stdout(&output), stderr(&output));
    assert!(output.status.success(), "{said}");
    assert!(said.contains("/systemd/user/mainstay-it-install.service would be"), "{said}");
    let file = fixture.path("mainstay.toml").canonicalize().unwrap();
    assert!(unit.contains(&format!("reload --file {}\n", file.display())), "{unit}");
    // The folders of this test are not where the host would look by itself.
    assert!(
        unit.contains(&format!("Environment=MAINSTAY_STATE_DIR={}\n", fixture.path("state").display())),
        "{unit}"
    );
    assert!(unit.contains("After=default.target\n") && !unit.contains("StateDirectory="), "{unit}");
}

#[test]
fn a_variable_of_the_shell_is_missed_now_and_not_at_the_next_boot() {
    let mut fixture = Fixture::new(STACK);
    fixture.env.push(("PORT".to_owned(), "8080".to_owned()));
    assert!(fixture.mainstay(&["check"]).status.success());
    let refused = fixture.mainstay(&["install", "--dry-run"]);
    assert_eq!(refused.status.code(), Some(2));
    let said = stderr(&refused);
    assert!(said.contains("PORT") && said.contains("next: give them to the unit with --env NAME"), "{said}");
    let given = fixture.mainstay(&["install", "--dry-run", "--env", "PORT", "--env", "B=x y"]);
    let unit = stdout(&given);
    assert!(unit.contains("Environment=PORT=8080\n") && unit.contains("Environment=\"B=x y\"\n"), "{unit}");
}

#[test]
fn wrong_input_is_refused() {
    let fixture = Fixture::new(STACK);
    let cases: [(&[&str], i32, &str); 7] = [
        (&["install", "--dry-run"], 2, "PORT"),
        (
            &["install", "--dry-run", "--env", "MAINSTAY_NO_SUCH"],
            2,
            "there is no variable MAINSTAY_NO_SUCH here",
        ),
        (
            &["install", "--dry-run", "--env", "PORT=1", "--env", "A B=1"],
            1,
            "letters, digits and underscores",
        ),
        (&["install", "--dry-run", "--now"], 2, "cannot be used with"),
        (&["install", "--output", "sv", "--env", "PORT=1"], 2, "name one with --init"),
        (&["install", "--init", "s6", "--now", "--env", "PORT=1"], 2, "--now is not for --init"),
        (&["install", "--start", "sometimes"], 2, "auto, delayed, manual"),
    ];
    for (arguments, code, words) in cases {
        let output = fixture.mainstay(arguments);
        let said = stderr(&output);
        assert!(output.status.code() == Some(code) && said.contains(words), "{arguments:?}: {said}");
    }
    let missing = fixture.mainstay(&["--file", "no-such.toml", "install", "--dry-run"]);
    assert_eq!(missing.status.code(), Some(2));
}

#[test]
fn files_for_another_init_are_shown_and_written_and_what_others_wrote_stays() {
    let fixture = Fixture::new("stack = \"it-install\"\n[service.web]\ncommand = [\"sleep\", \"1\"]\n");
    let shown = stdout(&fixture.mainstay(&["install", "--init", "openrc"]));
    assert!(
        shown.starts_with("#!/sbin/openrc-run\n") && shown.contains("supervisor=supervise-daemon\n"),
        "{shown}"
    );
    fixture.write("openrc", &shown);
    let syntax = std::process::Command::new("sh").arg("-n").arg(fixture.path("openrc")).status().unwrap();
    assert!(syntax.success(), "{shown}");
    let install =
        |more: &[&str]| fixture.mainstay(&[&["install", "--init", "runit", "--output", "sv"], more].concat());
    for _ in 0..2 {
        let written = install(&[]);
        assert!(
            written.status.success() && stderr(&written).contains("next: `ln -s "),
            "{}",
            stderr(&written)
        );
    }
    let run = fixture.path("sv/mainstay-it-install/run");
    let text = std::fs::read_to_string(&run).unwrap();
    std::fs::write(&run, text.clone() + "# mine\n").unwrap();
    let refused = install(&[]);
    assert!(
        refused.status.code() == Some(1) && stderr(&refused).contains("changed by hand"),
        "{}",
        stderr(&refused)
    );
    assert!(install(&["--force"]).status.success());
    assert_eq!(std::fs::read_to_string(&run).unwrap(), text);
    std::fs::write(&run, "#!/bin/sh\n").unwrap();
    let foreign = install(&["--force"]);
    assert!(foreign.status.code() == Some(1) && stderr(&foreign).contains("not written by mainstay"));
    assert_eq!(std::fs::read_to_string(&run).unwrap(), "#!/bin/sh\n");
}

/// Whatever runs a `run` file can run this one: it starts in the foreground, says nothing of its own pid, ends on SIGTERM.
#[test]
fn a_run_file_runs_the_stack_and_ends_with_sigterm() {
    let fixture = Fixture::new("stack = \"it-install\"\n[service.web]\ncommand = [\"sleep\", \"100000\"]\n");
    assert!(fixture.mainstay(&["install", "--init", "s6", "--output", "sv"]).status.success());
    let mut child = std::process::Command::new(fixture.path("sv/mainstay-it-install/run"))
        .current_dir("/")
        .env_clear()
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let begun = std::time::Instant::now();
    let ready = || {
        let status = fixture.mainstay(&["status", "--json"]);
        stdout(&status).contains("\"state\":\"ready\"")
    };
    while !ready() {
        assert!(begun.elapsed() < SOON && child.try_wait().unwrap().is_none(), "the stack does not come up");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let status: serde_json::Value =
        serde_json::from_slice(&fixture.mainstay(&["status", "--json"]).stdout).unwrap();
    assert_eq!(
        status["host"]["pid"].as_u64(),
        Some(u64::from(child.id())),
        "the host took the place of the script"
    );
    signal(child.id(), "TERM");
    assert!(child.wait().unwrap().success());
}
