//! `status`, `start`, `stop`, `restart`, `events` against a running host.

use serde_json::Value;

use crate::fixture::{Fixture, SOON, alive, stderr, stdout};

const TWO: &str = r#"
    stack = "two"
    [service.db]
    command = "sleep 1000"
    [service.web]
    command = "sleep 1000"
    needs = [{ service = "db" }]
"#;

#[test]
fn status_has_the_shape_of_the_contract() {
    let fixture = Fixture::new(TWO);
    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    let status = host.status();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(status["stack"], "two");
    for key in ["pid", "version", "phase", "started_at", "unit"] {
        assert!(keys(&status["host"]).contains(&key.to_owned()), "{key}");
    }
    assert_eq!(status["host"]["unit"], Value::Null);
    assert_eq!(status["host"]["pid"], host.pid());
    let web = &status["services"][1];
    for (key, value) in [("name", "web"), ("kind", "long-running"), ("phase", "running"), ("state", "ready")]
    {
        assert_eq!(web[key], value);
    }
    let replica = &web["replicas"][0];
    for key in ["index", "pid", "state", "started_at", "restarts", "last_exit", "cpu_percent", "memory_bytes"]
    {
        assert!(keys(replica).contains(&key.to_owned()), "{key}");
    }
    assert_eq!(replica["last_exit"], Value::Null);
    assert!(replica["started_at"].as_str().unwrap().ends_with('Z'));

    let table = stdout(&fixture.mainstay(&["status"]));
    assert!(
        table.contains("stack two: running") && table.contains("SERVICE") && table.contains("web"),
        "{table}"
    );
    let one = stdout(&fixture.mainstay(&["status", "db"]));
    assert!(one.contains("db") && !one.contains("web"), "{one}");
    host.stop();
}

#[test]
fn stop_takes_dependants_first_and_start_brings_back_what_is_needed() {
    let fixture = Fixture::new(TWO);
    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    let (db, web) = (host.main_pid("db"), host.main_pid("web"));
    let stopped = fixture.mainstay(&["stop", "db"]);
    assert!(stopped.status.success(), "{}", stderr(&stopped));
    assert!(stdout(&stopped).contains("db is stopped after"), "{}", stdout(&stopped));
    assert!(!alive(db) && !alive(web));
    assert_eq!(host.state("web"), "stopped");
    let started = fixture.mainstay(&["start", "web"]);
    assert!(started.status.success(), "{}", stderr(&started));
    assert_eq!(host.state("db"), "ready");
    assert_ne!(host.main_pid("web"), web);
    host.stop();
}

#[test]
fn restart_gives_a_new_process_and_keeps_the_others() {
    let fixture = Fixture::new(TWO);
    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    let (db, web) = (host.main_pid("db"), host.main_pid("web"));
    let output = fixture.mainstay(&["restart", "web"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(host.main_pid("db"), db);
    assert_ne!(host.main_pid("web"), web);
    host.stop();
}

#[test]
fn a_start_that_fails_says_why_and_shows_the_last_lines() {
    let fixture = Fixture::new(
        r#"
        [service.bad]
        command = "sh -c 'echo cannot open the till; exit 7'"
        autostart = false
        restart = { when = "never" }
        [service.other]
        command = "sleep 1000"
        "#,
    );
    let mut host = fixture.run(&[]);
    host.wait_state("other", "ready");
    let output = fixture.mainstay(&["start", "bad"]);
    assert_eq!(output.status.code(), Some(1));
    let err = stderr(&output);
    assert!(err.contains("bad is failed: it exited with code 7"), "{err}");
    assert!(err.contains("bad | cannot open the till"), "{err}");
    host.stop();
}

#[test]
fn a_start_that_takes_too_long_times_out() {
    let fixture = Fixture::new(
        r#"
        [service.slow]
        command = "sleep 1000"
        autostart = false
        readiness = { exec = ["false"] }
        [service.other]
        command = "sleep 1000"
        "#,
    );
    let mut host = fixture.run(&[]);
    host.wait_state("other", "ready");
    let output = fixture.mainstay(&["start", "slow", "--timeout", "300ms"]);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(stderr(&output).contains("slow is still starting after"), "{}", stderr(&output));
    let accepted = fixture.mainstay(&["restart", "slow", "--no-wait"]);
    assert_eq!(accepted.status.code(), Some(0), "{}", stderr(&accepted));
    host.stop();
}

#[test]
fn exit_codes_for_what_is_not_there() {
    let fixture = Fixture::new(TWO);
    for args in [&["status"][..], &["start", "web"], &["stop", "web"], &["restart", "web"], &["events", "-f"]]
    {
        let output = fixture.mainstay(args);
        assert_eq!(output.status.code(), Some(3), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("no host is running for the stack two"), "{}", stderr(&output));
    }
    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    for args in [&["status", "wbe"][..], &["start", "wbe"], &["stop", "web", "wbe"], &["restart", "wbe"]] {
        let output = fixture.mainstay(args);
        assert_eq!(output.status.code(), Some(3), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("wbe"), "{}", stderr(&output));
    }
    assert_eq!(host.state("web"), "ready", "a wrong name changes nothing");
    let unknown = fixture.mainstay(&["run", "wbe"]);
    assert_eq!(unknown.status.code(), Some(3));
    host.stop();
}

#[test]
fn a_second_host_is_refused_with_the_pid_of_the_first() {
    let fixture = Fixture::new(TWO);
    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    let second = fixture.mainstay(&["run"]);
    assert_eq!(second.status.code(), Some(1));
    let err = stderr(&second);
    assert!(
        err.contains(&format!("already supervised by the mainstay host with pid {}", host.pid())),
        "{err}"
    );
    assert_eq!(host.state("web"), "ready");
    host.stop();
}

#[test]
fn events_survive_the_host_and_follow_the_living() {
    let fixture = Fixture::new(
        "[service.web]\ncommand = \"sleep 1000\"\nrestart = { backoff = { first = \"10ms\" } }\n",
    );
    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    let mut follower = fixture
        .command(&["events", "-f", "--json", "-n", "0"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(follower.stdout.take().unwrap()));
    // The follower is connected once it has told the restart asked for below.
    let mut restarter = fixture.command(&["restart", "web"]);
    let asked = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut seen = Vec::new();
            for line in lines.by_ref() {
                let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
                let exited = event["event"] == "exited";
                seen.push(event);
                if exited {
                    break;
                }
            }
            seen
        });
        let begun = std::time::Instant::now();
        while !asking.is_finished() {
            assert!(begun.elapsed() < SOON, "the follower saw nothing");
            assert!(restarter.status().unwrap().success());
        }
        asking.join().unwrap()
    });
    assert!(asked.iter().all(|event| event["service"] == "web"), "{asked:#?}");
    host.stop();
    // The rest comes, and the follower ends in order when the host does.
    assert!(lines.all(|line| line.is_ok()));
    assert!(follower.wait().unwrap().success());
    let before = fixture.events();
    assert!(before.iter().any(|event| event["event"] == "exited" && event["requested"] == true));
    let ids: Vec<i64> = before.iter().map(|event| event["id"].as_i64().unwrap()).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));

    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    let after = fixture.events();
    assert!(after.len() > before.len());
    assert_eq!(after[..before.len()], before[..]);
    host.stop();
}

#[test]
fn the_api_speaks_http_on_the_socket() {
    let fixture = Fixture::new(TWO);
    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ask = |path: &str| {
        runtime.block_on(async {
            let mut socket = mainstay_os::connect_control(&fixture.path("run/two.sock")).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: mainstay\r\nConnection: close\r\n\r\n");
            tokio::io::AsyncWriteExt::write_all(&mut socket, request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            tokio::io::AsyncReadExt::read_to_string(&mut socket, &mut answer).await.unwrap();
            answer
        })
    };
    assert!(ask("/v1/status").starts_with("HTTP/1.1 200"));
    assert!(ask("/healthz").starts_with("HTTP/1.1 200"));
    assert!(ask("/readyz").starts_with("HTTP/1.1 200"));
    assert!(ask("/openapi.json").contains("\"openapi\""));
    let problem = ask("/v1/nothing");
    assert!(problem.starts_with("HTTP/1.1 404") && problem.contains("application/problem+json"), "{problem}");
    let metrics = ask("/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    assert!(metrics.contains("# TYPE mainstay_log_records_total counter"), "{metrics}");
    host.stop();
}

#[test]
fn a_running_host_is_found_by_a_file_with_errors() {
    let fixture = Fixture::new(TWO);
    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    fixture.write("mainstay.toml", &format!("{TWO}\ncomand = \"x\"\n"));
    assert_eq!(fixture.mainstay(&["check"]).status.code(), Some(2));
    assert_eq!(host.state("web"), "ready");
    fixture.write("mainstay.toml", "stack = [");
    let lost = fixture.mainstay(&["status"]);
    assert_eq!(lost.status.code(), Some(2));
    assert!(stderr(&lost).contains("--stack NAME"), "{}", stderr(&lost));
    assert!(fixture.mainstay(&["--stack", "two", "status"]).status.success());
    host.stop();
}

#[test]
fn what_is_so_already_is_said_so() {
    let fixture = Fixture::new(
        "stack = \"shop\"\n[service.web]\ncommand = \"sleep 1000\"\n[service.off]\ncommand = \"sleep 1001\"\nautostart = false\n",
    );
    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    for (args, words) in
        [(["start", "web"], "ok web is ready already"), (["stop", "off"], "ok off is stopped already")]
    {
        let output = fixture.mainstay(&args);
        assert_eq!((stdout(&output).trim(), output.status.code()), (words, Some(0)));
    }
    let output = fixture.mainstay(&["reload", "off"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!stderr(&output).contains("0 of 0"), "{}", stderr(&output));
    // Nothing is said of a service that nobody wants yet, and no time where there was none.
    let (_, out) = host.stop();
    assert!(out.contains("ready: its program runs") && !out.contains("autostart is off"), "{out}");
}

#[test]
fn two_stacks_cannot_share_a_state_folder() {
    let fixture = Fixture::new("stack = \"shop\"\n[service.web]\ncommand = \"sleep 1000\"\n");
    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    fixture.write("other.toml", "stack = \"other\"\n[service.web]\ncommand = \"sleep 1000\"\n");
    let output = fixture.mainstay(&["-f", "other.toml", "run"]);
    assert_eq!(output.status.code(), Some(1));
    let err = stderr(&output);
    let who = format!("of the stack other is taken by the mainstay host with pid {}", host.pid());
    assert!(err.contains(&who) && err.contains("which runs the stack shop"), "{err}");
}
