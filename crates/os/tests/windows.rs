//! What only Windows promises: consoles, handles, command lines, and how a tree ends there. Wine 8 runs these; what it lacks is
//! listed in docs/windows.md.

#![cfg(windows)]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::windows::io::FromRawSocket;
use std::time::Duration;

use common::{Host, LIMIT, News, is_alive, launch, misbehave};
use mainstay_os::{
    Enforced, Handed, Launch, ListenFailure, ResourceLimits, UseCgroups, open_listener, tree_usage,
};
use mainstay_testkit::child::misbehave_path;
use mainstay_testkit::wait::wait_for;
use mainstay_types::{Exit, LaunchStep, ListenAddress, SpawnId, StopSignal};

const KILLED: Exit = Exit::Code(0x4001_0004);

fn host() -> Host {
    Host::start(UseCgroups::IfPossible)
}

/// Waits for the end of a whole tree.
#[track_caller]
fn expect_killed(host: &mut Host, spawn: SpawnId) {
    match host.next_of(spawn) {
        News::Exited(_, exit, 0) => assert_eq!(exit, KILLED),
        News::Exited(_, exit, _) => {
            assert_eq!(exit, KILLED);
            assert_eq!(host.next_of(spawn), News::Ended(spawn));
        }
        other @ (News::Launched(..) | News::Failed(..) | News::Ended(_)) => panic!("{other:?}"),
    }
}

#[test]
fn arguments_environment_and_folder_arrive_as_they_were_given() {
    let mut host = host();
    let words = ["print", "a b", "", r#"say "hi""#, r"C:\dir\", r#"\""#, "ä & | %PATH%"];
    let said = host.stdout_of_run("web", misbehave(&words));
    assert_eq!(said.trim_end(), words[1..].join(" "));

    let dir = tempfile::tempdir().unwrap();
    let mut what = misbehave(&["env"]);
    what.env = vec![("zeta".into(), "1".into()), ("Alpha".into(), "ä".into()), ("ALPHA".into(), "2".into())];
    what.workdir = dir.path().to_owned();
    let said = host.stdout_of_run("web", what);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.contains(&"zeta=1") && lines.contains(&"ALPHA=2"), "{said}");
    assert!(!said.contains("Alpha="), "{said}");
    assert!(lines.iter().any(|line| line.to_lowercase().starts_with("systemroot=")), "{said}");
    assert!(!said.to_lowercase().contains("cargo"), "nothing else of the host: {said}");

    // A relative program starts at the working folder, with or without its extension.
    std::fs::copy(misbehave_path(), dir.path().join("tool.exe")).unwrap();
    for program in [r".\tool", "./tool.exe"] {
        let mut what = launch(program, &["print", "here"]);
        what.workdir = dir.path().to_owned();
        assert_eq!(host.stdout_of_run("web", what).trim_end(), "here");
    }
    let mut what = launch("tool", &["print", "found"]);
    what.env = vec![("Path".into(), dir.path().into())];
    assert_eq!(host.stdout_of_run("web", what).trim_end(), "found");
    host.shutdown();
}

#[test]
fn a_batch_file_is_run_with_arguments_that_mean_nothing_to_it() {
    let mut host = host();
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("a script.cmd");
    std::fs::write(&script, "@echo off\r\necho first=%1\r\nexit /b 7\r\n").unwrap();
    let run = |host: &mut Host, args: &[&str]| {
        let (spawn, _) = host.run("web", launch(script.to_str().unwrap(), args));
        let said = host.stdout_of(spawn);
        (said.trim_end().to_owned(), host.next_of(spawn))
    };
    let (said, end) = run(&mut host, &["plain"]);
    assert_eq!(said, "first=plain");
    assert!(matches!(end, News::Exited(_, Exit::Code(7), 0)), "{end:?}");
    let (said, _) = run(&mut host, &["x&echo smuggled"]);
    assert!(!said.lines().any(|line| line.trim() == "smuggled"), "{said}");

    let failure = host.failure("web", launch(script.to_str().unwrap(), &["a\r\necho smuggled"]));
    assert_eq!((failure.step, failure.errno), (LaunchStep::Exec, 0));
    assert!(failure.message.contains("line break"), "{}", failure.message);
    host.shutdown();
}

#[test]
fn what_cannot_be_started_says_why() {
    let mut host = host();
    let mut what = misbehave(&["exit", "0"]);
    what.workdir = r"C:\no\such\folder".into();
    let failure = host.failure("web", what);
    assert_eq!(failure.step, LaunchStep::Workdir);
    assert!(failure.errno == 2 || failure.errno == 3, "{failure}");

    let mut what = misbehave(&["exit", "0"]);
    what.workdir = misbehave_path();
    assert_eq!(host.failure("web", what).step, LaunchStep::Workdir);

    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.exe");
    std::fs::write(&text, "no program\n").unwrap();
    let failure = host.failure("web", launch(text.to_str().unwrap(), &[]));
    assert_eq!((failure.step, failure.path.as_deref()), (LaunchStep::Exec, Some(text.as_path())));
    assert!(failure.errno != 0, "{failure}");

    let failure = host.failure("web", misbehave(&["a\0b"]));
    assert!(failure.message.contains("NUL"), "{failure}");
    let mut what = misbehave(&["env"]);
    what.env = vec![("A=B".into(), "x".into())];
    assert_eq!(host.failure("web", what).step, LaunchStep::Environment);
    host.shutdown();
}

#[test]
fn both_streams_are_captured_and_belong_to_their_tree_alone() {
    let mut host = host();
    let (first, _) = host.run("first", misbehave(&["spam", "300000"]));
    // Started while the other one's pipes are open; it must not keep them open.
    let (second, _) = host.run("second", misbehave(&["sleep"]));
    assert_eq!(host.stdout_of(first).len(), 300_000);
    assert_eq!(host.next_of(first), News::Exited(first, Exit::Code(0), 0));

    let (lines, _) = host.run("lines", misbehave(&["lines", "10"]));
    let said = host.stdout_of(lines);
    assert_eq!(said.lines().count(), 5, "{said}");
    assert_eq!(host.next_of(lines), News::Exited(lines, Exit::Code(0), 0));
    host.processes_kill(second);
    expect_killed(&mut host, second);

    // A grandchild keeps the pipe, and its tree lives on.
    let (holding, _) = host.run("holding", misbehave(&["hold-pipe"]));
    assert_eq!(host.next_of(holding), News::Exited(holding, Exit::Code(0), 1));
    host.processes_kill(holding);
    assert_eq!(host.next_of(holding), News::Ended(holding));
    assert_eq!(host.stdout_of(holding), "");
    host.shutdown();
}

#[test]
fn a_ctrl_event_reaches_the_whole_tree_and_nobody_else() {
    let mut host = host();
    let (other, other_pid) = host.run("other", misbehave(&["grandchildren", "1"]));
    assert_eq!(host.lines_of(other, 2)[1], "ready");
    let (tree, pid) = host.run("tree", misbehave(&["grandchildren", "2"]));
    let lines = host.lines_of(tree, 3);
    let children: Vec<u32> = lines[..2].iter().map(|line| line.parse().unwrap()).collect();
    let mut members = host.processes.pids(tree);
    members.sort_unstable();
    let mut expected = vec![pid, children[0], children[1]];
    expected.sort_unstable();
    assert_eq!(members, expected);
    assert_eq!(host.processes.owns(tree, children[0]), Some(true));
    assert_eq!(host.processes.owns(tree, other_pid), Some(false));

    host.stop(tree, StopSignal::Int);
    match host.next_of(tree) {
        News::Exited(_, _, 0) => {}
        News::Exited(..) => assert_eq!(host.next_of(tree), News::Ended(tree)),
        unexpected @ (News::Launched(..) | News::Failed(..) | News::Ended(_)) => panic!("{unexpected:?}"),
    }
    wait_for("its children end, too", LIMIT, || !children.iter().any(|pid| is_alive(*pid)));
    assert!(is_alive(other_pid));
    host.processes_kill(other);
    expect_killed(&mut host, other);
    host.shutdown();
}

#[test]
fn a_program_hears_ctrl_c_as_a_request_and_may_take_its_time() {
    let mut host = host();
    let (spawn, pid) = host.run("web", misbehave(&["ignore-term"]));
    let mut reader = host.reader(spawn);
    assert_eq!(host.line(&mut reader), "ready");
    for _ in 0..2 {
        host.stop(spawn, StopSignal::Term);
        assert_eq!(host.line(&mut reader), "ignored Ctrl-C");
    }
    assert!(is_alive(pid));
    host.processes_kill(spawn);
    expect_killed(&mut host, spawn);
    host.shutdown();
}

#[test]
fn what_windows_has_not_is_said() {
    let mut host = host();
    let (spawn, _) = host.run("web", misbehave(&["ignore-term"]));
    assert_eq!(host.lines_of(spawn, 1), ["ready"]);
    host.stop(spawn, StopSignal::Usr1);
    let notices = host.notices();
    assert!(notices[0].contains("SIGUSR1"), "{notices:?}");
    host.stop_main(spawn, StopSignal::Hup);
    let notices = host.notices();
    assert!(notices[0].contains("SIGHUP") && notices[0].contains("use a command"), "{notices:?}");
    host.processes_kill(spawn);
    expect_killed(&mut host, spawn);
    host.shutdown();
}

#[test]
fn a_chain_of_processes_that_start_each_other_ends_whole() {
    let mut host = host();
    let (spawn, _) = host.run("storm", misbehave(&["fork-storm", "10000"]));
    match host.next_of(spawn) {
        News::Exited(_, _, 0) => panic!("the chain ended early"),
        News::Exited(..) => {}
        other @ (News::Launched(..) | News::Failed(..) | News::Ended(_)) => panic!("{other:?}"),
    }
    host.processes_kill(spawn);
    assert_eq!(host.next_of(spawn), News::Ended(spawn));
    assert!(host.processes.pids(spawn).is_empty());
    host.shutdown();
}

#[test]
fn a_dropped_host_ends_its_trees() {
    let mut host = host();
    let (spawn, pid) = host.run("web", misbehave(&["grandchildren", "1"]));
    let child: u32 = host.lines_of(spawn, 2)[0].parse().unwrap();
    assert!(is_alive(pid) && is_alive(child));
    drop(host);
    wait_for("both end", LIMIT, || !is_alive(pid) && !is_alive(child));
}

/// A program that is handed a socket: the test below starts it.
#[test]
#[ignore = "another test starts it"]
fn serves_the_socket_it_was_handed() {
    let handles = std::env::var("LISTEN_HANDLES").unwrap();
    assert_eq!(std::env::var("LISTEN_FDNAMES").unwrap(), "http");
    // SAFETY: the number is that of a socket this process inherited to have it, and nothing else here has taken it.
    // https://learn.microsoft.com/en-us/windows/win32/procthread/inheritance
    let listener = unsafe { TcpListener::from_raw_socket(handles.parse().unwrap()) };
    let (mut connection, _) = listener.accept().unwrap();
    connection.write_all(b"served").unwrap();
}

#[test]
fn a_socket_is_handed_over_and_waits_between_two_starts() {
    let mut host = host();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let address = ListenAddress::Tcp(free);
    let listener = open_listener(&address).unwrap();
    let taken = open_listener(&address).unwrap_err();
    assert!(matches!(taken.reason, ListenFailure::Taken { .. }), "{taken}");
    let program = std::env::current_exe().unwrap();
    for _ in 0..2 {
        // It waits in the socket's queue until a program takes it.
        let mut client = TcpStream::connect(free).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        let what = Launch {
            handed: vec![Handed { target: 3, descriptor: listener.descriptor().clone() }],
            listen_names: vec!["http".to_owned()],
            ..launch(
                program.to_str().unwrap(),
                &["--exact", "serves_the_socket_it_was_handed", "--ignored", "--nocapture"],
            )
        };
        let (spawn, _) = host.run("web", what);
        let mut said = String::new();
        client.read_to_string(&mut said).unwrap();
        assert_eq!(said, "served");
        assert_eq!(host.next_of(spawn), News::Exited(spawn, Exit::Code(0), 0));
    }
    drop(listener);
    wait_for("the socket to close", LIMIT, || TcpStream::connect(free).is_err());
    host.shutdown();
}

#[test]
fn usage_is_told_for_the_whole_tree() {
    let mut host = host();
    let (spawn, pid) = host.run("web", misbehave(&["eat-memory", "40", "--in-child"]));
    wait_for("the child has eaten", LIMIT, || {
        tree_usage(&[pid])[0].is_some_and(|usage| usage.memory_bytes > 40 << 20)
    });
    host.processes_kill(spawn);
    expect_killed(&mut host, spawn);
    assert_eq!(tree_usage(&[pid]), [None]);
    let (spawn, pid) = host.run("web", misbehave(&["burn"]));
    wait_for("it burns", LIMIT, || tree_usage(&[pid])[0].is_some_and(|usage| usage.cpu > Duration::ZERO));
    host.processes_kill(spawn);
    expect_killed(&mut host, spawn);
    host.shutdown();
}

#[test]
fn limits_are_in_force_or_said_not_to_be() {
    let mut host = host();
    let limits = ResourceLimits { memory_bytes: Some(64 << 20), pids: Some(3), ..ResourceLimits::default() };
    let in_force = host.processes.limits_in_force(&limits, false);
    assert_eq!(in_force, mainstay_os::limits_in_force_here(&limits, false));
    let what = Launch { limits, ..misbehave(&["eat-memory", "100"]) };
    if in_force.iter().any(|one| one.enforced != Enforced::Job) {
        // A service starts all the same, as elsewhere where nothing holds a limit.
        eprintln!("job limits are not kept here: {in_force:?}");
        let (spawn, _) = host.run("web", what);
        assert_eq!(host.lines_of(spawn, 1), ["eaten"]);
        host.processes_kill(spawn);
        expect_killed(&mut host, spawn);
    } else {
        let (spawn, _) = host.run("web", what);
        assert_eq!(host.lines_of(spawn, 1), ["refused"]);
        assert_eq!(host.next_of(spawn), News::Exited(spawn, Exit::Code(1), 0));
    }
    host.shutdown();
}
