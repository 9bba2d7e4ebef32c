//! Programs that do what services should not: each is held to account, and none holds up the others.

use std::time::Instant;

use crate::fixture::{Fixture, SOON, alive, stderr};

/// Process ids a program wrote down, one a file `NAME.pid`.
fn pid_file(fixture: &Fixture, name: &str) -> Option<u32> {
    std::fs::read_to_string(fixture.path(name)).ok()?.trim().parse().ok()
}

fn both_ways(test: impl Fn(Fixture), toml: &str) {
    for no_cgroups in [false, true] {
        let mut fixture = Fixture::new(toml);
        if no_cgroups {
            fixture.env.push(("MAINSTAY_NO_CGROUPS".into(), "1".into()));
        }
        test(fixture);
    }
}

#[test]
fn the_whole_tree_ends_on_stop_even_what_left_session_and_parent() {
    both_ways(
        |fixture| {
            let mut host = fixture.run(&[]);
            host.wait_state("tree", "ready");
            let pids = host.wait_for("all have started", SOON, |_| {
                ["plain.pid", "session.pid", "daemon.pid"]
                    .map(|name| pid_file(&fixture, name))
                    .into_iter()
                    .collect::<Option<Vec<u32>>>()
            });
            assert!(pids.iter().all(|pid| alive(*pid)), "{pids:?}");
            let main = host.main_pid("tree");
            let (status, out) = host.stop();
            assert!(status.success(), "{out}");
            for pid in pids.into_iter().chain([main]) {
                assert!(!alive(pid), "{pid} is left behind");
            }
        },
        r#"
        [service.tree]
        command = '''sh -c '
            sleep 1000 & echo $! > plain.pid
            setsid sh -c "echo \$\$ > session.pid; exec sleep 1000" &
            (setsid sh -c "echo \$\$ > daemon.pid; trap \"\" TERM HUP; sleep 1000; sleep 1000" > /dev/null 2>&1 &)
            wait' '''
        stop = { grace = "500ms" }
        "#,
    );
}

#[test]
fn one_that_ignores_the_request_is_killed_after_its_grace() {
    let fixture = Fixture::new(
        "[service.deaf]\ncommand = [\"@misbehave\", \"ignore-term\"]\nstop = { grace = \"1500ms\" }\n",
    );
    let mut host = fixture.run(&[]);
    host.wait_state("deaf", "ready");
    let pid = host.main_pid("deaf");
    // It says so once it has closed its ears.
    host.wait_for("it ignores SIGTERM", SOON, |_| fixture.log("deaf").contains("ready").then_some(()));
    let begun = Instant::now();
    let (status, out) = host.stop();
    assert!(status.success());
    assert!(begun.elapsed().as_millis() >= 1500, "it had its grace");
    assert!(out.contains(&format!("waiting 1 of 1 s for deaf (pid {pid})")), "{out}");
    assert!(!alive(pid));
}

#[test]
fn a_second_request_kills() {
    let fixture = Fixture::new(
        "[service.deaf]\ncommand = [\"@misbehave\", \"ignore-term\"]\nstop = { grace = \"10m\" }\n",
    );
    let mut host = fixture.run(&[]);
    host.wait_for("it ignores SIGTERM", SOON, |_| fixture.log("deaf").contains("ready").then_some(()));
    host.signal("INT");
    host.wait_state("deaf", "stopping");
    host.signal("INT");
    let status = host.wait_end();
    assert!(status.success(), "{status}");
    assert!(host.out().contains("killing everything now"), "{}", host.out());
}

#[test]
fn a_daemon_is_recognised_and_not_left_running() {
    both_ways(
        |fixture| {
            let output = fixture.mainstay(&["run"]);
            assert_eq!(output.status.code(), Some(1));
            let err = stderr(&output);
            assert!(err.contains("did it put itself into the background?"), "{err}");
            let pid = pid_file(&fixture, "daemon.pid").expect("the daemon wrote its pid");
            assert!(!alive(pid), "the daemon is left behind");
        },
        r#"
        [service.daemon]
        command = '''sh -c '(setsid sh -c "echo \$\$ > daemon.pid; exec sleep 1000" > /dev/null 2>&1 &); until test -s daemon.pid; do sleep 0.01; done' '''
        restart = { when = "never" }
        "#,
    );
}

#[test]
fn a_grandchild_that_holds_the_pipe_blocks_neither_restart_nor_stop() {
    both_ways(
        |fixture| {
            let mut host = fixture.run(&[]);
            host.wait_for("it restarts in spite of its grandchild", SOON, |host| {
                (host.service("holder")["replicas"][0]["restarts"].as_u64() >= Some(2)).then_some(())
            });
            let begun = Instant::now();
            let (status, _) = host.stop();
            assert!(status.success());
            assert!(begun.elapsed() < SOON);
        },
        r#"
        [service.holder]
        command = "sh -c 'setsid sleep 1000 & echo dying; exit 1'"
        restart = { backoff = { first = "10ms", max = "20ms" }, give_up = { failures = 0 } }
        "#,
    );
}

#[test]
fn exiting_at_once_is_a_failure_of_a_service_that_should_run_on() {
    let fixture =
        Fixture::new("[service.short]\ncommand = \"true\"\nrestart = { backoff = { first = \"1ms\" } }\n");
    let output = fixture.mainstay(&["run"]);
    assert_eq!(output.status.code(), Some(1));
    let err = stderr(&output);
    assert!(err.contains("gave up after 5 failures within 1m: it exited with code 0"), "{err}");
}

#[test]
fn what_cannot_be_executed_is_named_with_the_reason() {
    let fixture = Fixture::new(
        r#"
        [service.missing]
        command = "./no-such-program"
        restart = { when = "never" }
        [service.plain]
        command = "./plain.txt"
        restart = { when = "never" }
        [service.folder]
        command = "./state"
        restart = { when = "never" }
        "#,
    );
    fixture.write("plain.txt", "just text\n");
    let output = fixture.mainstay(&["run"]);
    assert_eq!(output.status.code(), Some(1));
    let err = stderr(&output);
    assert!(err.contains("missing failed: cannot execute") && err.contains("no-such-program"), "{err}");
    assert!(err.contains("No such file or directory (errno 2)"), "{err}");
    assert!(
        err.contains("plain failed: cannot execute") && err.contains("Permission denied (errno 13)"),
        "{err}"
    );
    assert!(err.contains("folder failed: cannot execute"), "{err}");
}

#[test]
fn many_grandchildren_of_a_shell_go_with_it() {
    both_ways(
        |fixture| {
            let mut host = fixture.run(&[]);
            let pids = host.wait_for("all grandchildren have started", SOON, |_| {
                let text = std::fs::read_to_string(fixture.path("pids")).ok()?;
                let pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
                (pids.len() == 20).then_some(pids)
            });
            let (status, _) = host.stop();
            assert!(status.success());
            assert!(pids.iter().all(|pid| !alive(*pid)));
        },
        r#"
        [service.shell]
        command = "sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do sh -c \"sleep 1000 & echo \\$! >> pids; wait\" & echo $! >> pids; done; wait'"
        "#,
    );
}

#[test]
fn when_the_host_is_killed_its_services_end() {
    both_ways(
        |fixture| {
            let mut host = fixture.run(&[]);
            host.wait_state("web", "ready");
            let pid = host.main_pid("web");
            host.signal("KILL");
            host.wait_end();
            host.wait_for("the service has ended", SOON, |_| (!alive(pid)).then_some(()));
            // The next host finds neither a socket nor a lock in its way.
            let mut again = fixture.run(&[]);
            again.wait_state("web", "ready");
            assert_ne!(again.main_pid("web"), pid);
            again.stop();
        },
        "[service.web]\ncommand = \"sh -c 'trap : TERM HUP; while :; do sleep 1; done'\"\nstop = { grace = \"100ms\" }\n",
    );
}

#[test]
fn as_the_first_process_of_a_container_it_reaps_every_orphan() {
    if !mainstay_os::is_root() {
        eprintln!("skipped: only root can make a process namespace");
        return;
    }
    let fixture = Fixture::new(
        r#"
        [service.orphans]
        command = '''sh -c '
            for i in 1 2 3 4 5 6 7 8 9 10; do (true &); (setsid true &); done
            n=0; while [ $n -lt 500 ]; do
                zombies=$(grep -l "^State:.Z" /proc/[0-9]*/status 2>/dev/null | wc -l)
                [ $zombies = 0 ] && break; n=$((n+1)); sleep 0.01
            done
            echo "host is $(cat /proc/1/comm), zombies $zombies"' '''
        kind = "oneshot"
        "#,
    );
    let mainstay = fixture.command(&["run"]);
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(mainstay.get_program()).arg("run");
    for (name, value) in mainstay.get_envs() {
        match value {
            Some(value) => unshare.env(name, value),
            None => unshare.env_remove(name),
        };
    }
    let output = unshare.current_dir(fixture.path("")).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(fixture.log("orphans").contains("host is mainstay, zombies 0"), "{}", fixture.log("orphans"));
}
