//! Faults of the world around: a host that is stopped for half a minute, a fork bomb, memory that runs out, ten thousand
//! restarts. What each leaves behind is counted.

use std::time::{Duration, Instant};

use crate::fixture::{Fixture, Running, SOON, alive, signal, stderr, stdout};

/// Threads, open descriptors and children of a process.
fn holdings(pid: u32) -> (usize, usize, usize) {
    let count = |what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
    // Each thread has its own; one that ends meanwhile has none.
    let children = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|task| {
        let list = std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
        list.split_whitespace().count()
    });
    (count("task"), count("fd"), children.sum())
}

/// Control groups of this host.
fn groups(pid: u32) -> usize {
    let mut found = 0;
    let mut open = vec![std::path::PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found += usize::from(entry.path().to_string_lossy().contains(&format!("-{pid}-")));
                open.push(entry.path());
            }
        }
    }
    found
}

fn restarts(host: &mut Running<'_>, service: &str) -> u64 {
    host.service(service)["replicas"][0]["restarts"].as_u64().unwrap()
}

#[test]
fn ten_thousand_restarts_leave_nothing_behind() {
    let fixture = Fixture::new(
        r#"
        [service.calm]
        command = "sleep 1000"
        [service.wild]
        command = "true"
        restart = { backoff = { first = "0s" }, give_up = { failures = 0 } }
        log = { rotate = { size = "64KiB", keep = 1 } }
        "#,
    );
    let mut host = fixture.run(&["-q"]);
    let pid = host.pid();
    host.wait_for("a hundred restarts", SOON, |host| (restarts(host, "wild") > 100).then_some(()));
    host.wait_for("ten thousand restarts", Duration::from_secs(300), |host| {
        std::thread::sleep(Duration::from_millis(200));
        (restarts(host, "wild") > 10_000).then_some(())
    });
    assert!(fixture.mainstay(&["stop", "wild"]).status.success());
    // What the last start held is given back a moment after its end; the control connection of `status`, too.
    let mut last = (0, 0, 0);
    let begun = Instant::now();
    // The launcher and one service; descriptors of one service, the record, the log, the socket, the runtime.
    while !(last.0 <= 9 && last.1 <= 48 && last.2 == 2) {
        last = holdings(pid);
        assert!(begun.elapsed() < SOON, "threads, descriptors, children: {last:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("after 10,000 restarts: {} threads, {} descriptors, {} children", last.0, last.1, last.2);
    host.wait_for("the groups to be few", SOON, |_| (groups(pid) <= 3).then_some(()));
    let (status, _) = host.stop();
    assert!(status.success());
    assert_eq!(groups(pid), 0);
}

#[test]
fn a_host_that_was_stopped_goes_on_where_it_was() {
    let fixture = Fixture::new(
        r#"
        [service.web]
        command = "sleep 1000"
        liveness = { exec = ["true"], period = "1s", timeout = "1s", failure_threshold = 1 }
        [service.other]
        command = "sleep 1001"
        "#,
    );
    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    host.wait_state("other", "ready");
    let (web, other) = (host.main_pid("web"), host.main_pid("other"));
    host.signal("STOP");
    // Half a minute in which no timer is looked at; meanwhile one program ends.
    let begun = Instant::now();
    signal(other, "KILL");
    while begun.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(500));
    }
    host.signal("CONT");
    host.wait_for("the other one again", SOON, |host| {
        (host.state("other") == "ready" && host.main_pid("other") != other).then_some(())
    });
    assert_eq!(host.main_pid("web"), web, "a pause of the host is no failure of its service");
    assert_eq!(restarts(&mut host, "web"), 0);
    let (status, _) = host.stop();
    assert!(status.success());
}

#[test]
fn a_fork_bomb_stays_within_its_limit() {
    let fixture = Fixture::new(
        r#"
        [service.bomb]
        command = ["python3", "-c", '''
import os, time
failed = False
while True:
    try:
        if os.fork() == 0:
            pass
    except OSError as error:
        if not failed:
            failed = True
            os.write(1, b"no more: %d\n" % error.errno)
        time.sleep(0.2)
''']
        limits = { pids = 50 }
        stop = { grace = "1s" }
        [service.good]
        command = "sleep 1000"
        "#,
    );
    let mut host = fixture.run(&["-q"]);
    let limit = host.service("bomb")["limits"][0].clone();
    assert_eq!(limit["name"], "pids");
    if limit["enforced_by"] != "cgroup" {
        assert!(
            std::env::var_os("MAINSTAY_REQUIRE_CGROUPS").is_none(),
            "no control group can limit processes here: {limit}"
        );
        println!("skipped: no control group can limit processes here: {limit}");
        return;
    }
    host.wait_for("it hits its limit", SOON, |_| fixture.log("bomb").contains("no more: 11").then_some(()));
    // The host still answers and acts.
    assert!(fixture.mainstay(&["restart", "good"]).status.success());
    let pid = host.main_pid("bomb");
    let output = fixture.mainstay(&["stop", "bomb", "--timeout", "60s"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!alive(pid));
    let (status, _) = host.stop();
    assert!(status.success());
}

#[test]
fn memory_that_runs_out_is_named() {
    let fixture = Fixture::new(
        r#"
        [service.hog]
        command = ["python3", "-c", "kept = []\nwhile True: kept.append(bytearray(1 << 20))"]
        limits = { memory = "64MiB" }
        restart = { when = "never" }
        "#,
    );
    let mut host = fixture.run(&[]);
    let limit = host.service("hog")["limits"][0].clone();
    if limit["enforced_by"] != "cgroup" {
        assert!(
            std::env::var_os("MAINSTAY_REQUIRE_CGROUPS").is_none(),
            "no control group can limit memory here: {limit}"
        );
        println!("skipped: no control group can limit memory here: {limit}");
        return;
    }
    assert_eq!(host.wait_end().code(), Some(1));
    assert!(host.err().contains("killed by the kernel for lack of memory"), "{}", host.err());
}

#[test]
fn a_limit_that_is_not_in_force_is_shown_as_such() {
    let mut fixture = Fixture::new(
        r#"
        [service.web]
        command = "sleep 1000"
        limits = { cpu = 0.5, open_files = 100 }
        "#,
    );
    fixture.env.push(("MAINSTAY_NO_CGROUPS".to_owned(), "1".to_owned()));
    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    let limits = host.service("web")["limits"].as_array().unwrap().clone();
    let cpu = limits.iter().find(|limit| limit["name"] == "cpu").unwrap();
    assert!(cpu["enforced_by"].is_null() && cpu["note"].is_string(), "{cpu}");
    let files = limits.iter().find(|limit| limit["name"] == "open_files").unwrap();
    assert_eq!(files["enforced_by"], "rlimit");
    let table = stdout(&fixture.mainstay(&["status"]));
    assert!(table.contains("limits.cpu = 0.5 is not in force"), "{table}");
    host.stop();
}

#[test]
fn a_slow_answer_is_one_within_its_time_and_none_after_it() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut connection, _)) = server.accept() {
            std::thread::spawn(move || {
                use std::io::{Read, Write};
                let mut request = [0; 1024];
                let _ = connection.read(&mut request);
                std::thread::sleep(Duration::from_millis(500));
                // A prober that has given up reads no answer.
                let _ = connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            });
        }
    });
    let fixture = Fixture::new(&format!(
        r#"
        [service.patient]
        command = "sleep 1000"
        readiness = {{ http = "http://127.0.0.1:{port}/", timeout = "20s" }}
        [service.hasty]
        command = "sleep 1000"
        readiness = {{ http = "http://127.0.0.1:{port}/", timeout = "100ms" }}
        "#
    ));
    let mut host = fixture.run(&[]);
    host.wait_state("patient", "ready");
    host.wait_for("the verdict of the hasty", SOON, |host| {
        host.service("hasty")["reason"].as_str().unwrap().contains("no answer within 100ms").then_some(())
    });
    assert_eq!(host.state("hasty"), "starting");
    host.stop();
}

#[test]
fn a_probe_that_flaps_at_its_threshold_restarts_nothing() {
    let fixture = Fixture::new(
        r#"
        [service.web]
        command = "sleep 1000"
        liveness = { exec = ["sh", "-c", '''
n=$(cat n 2>/dev/null || echo 0); n=$((n + 1)); echo $n > n; [ $((n % 3)) -eq 0 ]
'''], period = "100ms", timeout = "5s", failure_threshold = 3 }
        "#,
    );
    let mut host = fixture.run(&[]);
    // Two failures and a pass, again and again: never three in a row.
    host.wait_for("thirty answers", SOON, |_| {
        let count = std::fs::read_to_string(fixture.path("n")).unwrap_or_default();
        (count.trim().parse().unwrap_or(0) >= 30).then_some(())
    });
    assert_eq!((restarts(&mut host, "web"), host.state("web").as_str()), (0, "ready"));
    host.stop();
}

#[test]
fn commands_under_way_end_with_the_host() {
    for no_cgroups in ["", "1"] {
        let mut fixture = Fixture::new(
            r#"
            stack = "shop"
            [service.waits]
            command = "sleep 1000"
            needs = [{ exec = ["sh", "-c", "echo $$ >gate.pid; sleep 1001"] }]
            [service.asked]
            command = "sleep 1002"
            liveness = { exec = ["sh", "-c", "setsid sleep 1003 & echo $! >probe.pid; sleep 1004"], timeout = "60s" }
            "#,
        );
        fixture.env.push(("MAINSTAY_NO_CGROUPS".to_owned(), no_cgroups.to_owned()));
        let mut host = fixture.run(&[]);
        let mut pid_in = |name: &str| -> u32 {
            host.wait_for(name, SOON, |_| {
                std::fs::read_to_string(fixture.path(name)).ok()?.trim().parse().ok()
            })
        };
        let (gate, probe) = (pid_in("gate.pid"), pid_in("probe.pid"));
        // A probe that asks about a service that has ended is of no use any more.
        let output = fixture.mainstay(&["stop", "asked"]);
        assert!(output.status.success(), "{}", stderr(&output));
        host.wait_for("the probe's command ends", SOON, |_| (!alive(probe)).then_some(()));
        assert!(alive(gate));
        let (status, out) = host.stop();
        assert!(status.success() && !alive(gate), "{out}");
        assert!(!out.contains("cannot remove"), "{out}");
    }
}
