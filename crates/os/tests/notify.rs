//! What programs say about themselves: notifications and their senders, readiness descriptors, and main processes that
//! pass their place on.

#![cfg(target_os = "linux")]

mod common;

use std::time::Duration;

use common::{Host, LIMIT, News, is_alive, launch, open_fds, zombies};
use mainstay_os::{
    Handed, Launch, Message, NotifySocket, ProcessTrees, SetMainError, UseCgroups, readiness_pipe,
};
use mainstay_testkit::wait::wait_for;
use mainstay_types::{Exit, Notification, SpawnId, StopSignal};

const BOTH: [UseCgroups; 2] = [UseCgroups::IfPossible, UseCgroups::Never];

const KILLED: Exit = Exit::Signal { signal: 9, core_dumped: false };

/// What the scripts share: `say` sends a notification, `wait` waits for SIGUSR1.
const PRELUDE: &str = "import array, os, select, signal, socket, sys\n\
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n\
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
    s.connect('\\0' + os.environ['NOTIFY_SOCKET'][1:])\n\
    def say(text, fds=()):\n\
    \x20   s.sendmsg([text.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else [])\n\
    def wait(): signal.sigwait([signal.SIGUSR1])\n";

fn open(host: &Host) -> NotifySocket {
    host.runtime.block_on(async { NotifySocket::open("contract/a.0").unwrap() })
}

fn python(socket: &NotifySocket, script: &str) -> Launch {
    let mut what = launch("/usr/bin/python3", &["-ISc", &format!("{PRELUDE}{script}")]);
    what.env.push(("NOTIFY_SOCKET".into(), socket.env_value().into()));
    what
}

fn recv(host: &Host, socket: &NotifySocket) -> Message {
    host.runtime.block_on(async { tokio::time::timeout(LIMIT, socket.recv()).await.unwrap().unwrap() })
}

fn signal(pid: u32, name: &str) {
    let status = std::process::Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

/// The end of a tree that is killed.
#[track_caller]
fn kill_all(host: &mut Host, spawn: SpawnId) {
    host.processes.kill(spawn);
    loop {
        match host.next_of(spawn) {
            News::Exited(_, _, 0) | News::Ended(_) => break,
            News::Exited(..) => {}
            other @ (News::Launched(..) | News::Failed(..)) => panic!("{other:?}"),
        }
    }
}

#[test]
fn facts_and_their_sender() {
    for cgroups in BOTH {
        let mut host = Host::start(cgroups);
        let socket = open(&host);
        assert!(socket.env_value().starts_with("@mainstay/contract/a.0/"));
        assert_ne!(socket.env_value(), open(&host).env_value());
        let script = "say('STATUS=starting\\nEXTEND_TIMEOUT_USEC=5000000')\n\
                      say('READY=1\\nSTATUS=up')\n\
                      child = os.fork()\n\
                      if not child: say('WATCHDOG=1'); wait(); os._exit(0)\n\
                      say('x' * 4097)\n\
                      say('y' * 4096)\n\
                      wait()\n";
        let (spawn, pid) = host.run("a", python(&socket, script));
        let (other, _) = host.run("b", launch("sleep", &["600"]));
        let message = recv(&host, &socket);
        let expected = vec![
            Notification::Status("starting".to_owned()),
            Notification::ExtendTimeout(Duration::from_secs(5)),
        ];
        assert_eq!((message.facts, message.pid, message.uid), (expected, pid, mainstay_os::uid()));
        let message = recv(&host, &socket);
        assert_eq!(message.facts, [Notification::Ready, Notification::Status("up".to_owned())]);
        assert_eq!(host.processes.owns(spawn, message.pid), Some(true));
        // In any order: the child's, the long one, the one of words nobody knows.
        let mut rest: Vec<Message> = (0..3).map(|_| recv(&host, &socket)).collect();
        rest.sort_by_key(|message| (message.facts.is_empty(), message.ignored.is_empty()));
        let child = rest[0].pid;
        assert_eq!((&rest[0].facts[..], child == pid), (&[Notification::Watchdog][..], false));
        assert_eq!(rest[1].ignored, ["a message longer than 4096 bytes"]);
        assert!(rest[2].facts.is_empty() && rest[2].ignored.is_empty());

        assert_eq!(host.processes.owns(spawn, child), Some(true), "{cgroups:?}");
        assert_eq!(host.processes.owns(other, child), Some(false));
        assert_eq!(host.processes.owns(other, pid), Some(false));
        assert_eq!(host.processes.owns(spawn, std::process::id()), Some(false));
        assert_eq!(host.processes.owns(spawn, host.processes.launcher_pid().unwrap()), Some(false));
        assert_eq!(host.processes.owns(spawn, 1), Some(false));
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        assert_eq!(host.processes.owns(spawn, gone.id()), None);
        assert!(socket.try_recv().unwrap().is_none());
        kill_all(&mut host, spawn);
        kill_all(&mut host, other);
        assert_eq!(host.processes.owns(spawn, pid), Some(false));
        host.shutdown();
    }
}

#[test]
fn a_process_that_left_its_session_is_known() {
    for cgroups in BOTH {
        let mut host = Host::start(cgroups);
        let socket = open(&host);
        // Twice away from its parent, in a session of its own.
        let script = "if not os.fork():\n\
                      \x20   os.setsid()\n\
                      \x20   if os.fork(): os._exit(0)\n\
                      \x20   while os.getppid() != int(sys.argv[1]): os.sched_yield()\n\
                      \x20   say('READY=1'); wait()\n\
                      wait()\n";
        let mut what = python(&socket, script);
        what.args.push(std::process::id().to_string().into());
        let (spawn, pid) = host.run("a", what);
        let message = recv(&host, &socket);
        assert_ne!(message.pid, pid);
        assert_eq!(host.processes.owns(spawn, message.pid), Some(true), "{cgroups:?}");
        kill_all(&mut host, spawn);
        host.shutdown();
    }
}

#[test]
fn descriptors_are_closed_at_once() {
    let mut host = Host::start(UseCgroups::IfPossible);
    let socket = open(&host);
    let script = "r, w = os.pipe()\n\
                  say('FDSTORE=1\\nFDNAME=x', [0] * 253)\n\
                  say('BARRIER=1', [w])\n\
                  os.close(w)\n\
                  assert os.read(r, 1) == b''\n\
                  say('STATUS=after')\n";
    let (spawn, _) = host.run("a", python(&socket, script));
    let before = open_fds();
    let message = recv(&host, &socket);
    assert_eq!(open_fds(), before);
    assert_eq!(message.ignored, ["253 descriptors to be kept (FDSTORE), which were closed"]);
    let barrier = recv(&host, &socket);
    assert_eq!((barrier.facts.len(), barrier.ignored.len()), (0, 0));
    assert_eq!(recv(&host, &socket).facts, [Notification::Status("after".to_owned())]);
    assert_eq!(host.next_of(spawn), News::Exited(spawn, Exit::Code(0), 0));
    host.shutdown();
}

#[test]
fn descriptors_beyond_the_limit_are_closed_too() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let mut host = Host::start(UseCgroups::IfPossible);
    let socket = open(&host);
    let script = "say('READY=1', [0] * 200)\nsay('STATUS=after')\n";
    let (spawn, _) = host.run("a", python(&socket, script));
    assert_eq!(host.next_of(spawn), News::Exited(spawn, Exit::Code(0), 0));
    let before = open_fds();
    let limit = getrlimit(Resource::Nofile);
    // Room for a few of them.
    setrlimit(Resource::Nofile, Rlimit { current: Some(50), ..limit }).unwrap();
    let message = recv(&host, &socket);
    setrlimit(Resource::Nofile, limit).unwrap();
    assert_eq!(message.facts, [Notification::Ready]);
    let all = message.ignored.iter().any(|remark| remark.starts_with("200 "));
    assert!(!all, "the limit was not reached");
    assert_eq!(open_fds(), before);
    assert_eq!(recv(&host, &socket).facts, [Notification::Status("after".to_owned())]);
    host.shutdown();
}

#[test]
fn systemds_own_tool_is_understood() {
    if !std::path::Path::new("/usr/bin/systemd-notify").exists() {
        eprintln!("no systemd-notify here: not tried");
        return;
    }
    for cgroups in BOTH {
        let mut host = Host::start(cgroups);
        let socket = open(&host);
        let mut what = launch("/bin/sh", &["-c", "systemd-notify --ready --status='all good'; echo $?"]);
        what.env.push(("NOTIFY_SOCKET".into(), socket.env_value().into()));
        let (spawn, _) = host.run("a", what);
        let message = recv(&host, &socket);
        assert!(message.facts.contains(&Notification::Ready), "{message:?}");
        assert!(message.facts.contains(&Notification::Status("all good".to_owned())), "{message:?}");
        // It waits at its barrier, which comes next: its sender is still there.
        assert_eq!(host.processes.owns(spawn, message.pid), Some(true));
        recv(&host, &socket);
        assert_eq!(host.stdout_of(spawn), "0\n");
        assert_eq!(host.next_of(spawn), News::Exited(spawn, Exit::Code(0), 0));
        host.shutdown();
    }
}

/// The first process tells of the second one and ends; the second one ends with 7 when asked.
const DAEMON: &str = "child = os.fork()\n\
                      if child: say(f'MAINPID={child}\\nREADY=1'); os._exit(0)\n\
                      os.setsid(); wait(); os._exit(7)\n";

#[test]
fn a_daemon_whose_word_is_read_in_time() {
    for cgroups in BOTH {
        let mut host = Host::start(cgroups);
        let socket = open(&host);
        let (spawn, pid) =
            host.run("a", python(&socket, &DAEMON.replace("os._exit(0)", "wait(); os._exit(0)")));
        let message = recv(&host, &socket);
        let child = message.main_pid.unwrap();
        assert_eq!(message.facts, [Notification::Ready]);
        host.processes.set_main(spawn, child).unwrap();
        host.processes.set_main(spawn, child).unwrap();
        assert_eq!(host.processes.main_pid(spawn), Some(child));
        signal(pid, "USR1");
        // No news: it is not the main one.
        host.until("the first process to end", || !is_alive(pid));
        assert_eq!(host.processes.pids(spawn), [child], "{cgroups:?}");
        signal(child, "USR1");
        assert_eq!(host.next_of(spawn), News::Exited(spawn, Exit::Code(7), 0), "{cgroups:?}");
        host.until("all to be reaped", || zombies().is_empty());
        host.shutdown();
    }
}

#[test]
fn a_daemon_whose_word_is_read_after_the_first_process_ended() {
    for cgroups in BOTH {
        for killed in [false, true] {
            let mut host = Host::start(cgroups);
            let before = open_fds();
            let socket = open(&host);
            let (spawn, _) = host.run("a", python(&socket, DAEMON));
            assert_eq!(host.next_of(spawn), News::Exited(spawn, Exit::Code(0), 1));
            let message = socket.try_recv().unwrap().unwrap();
            let child = message.main_pid.unwrap();
            host.processes.set_main(spawn, child).unwrap();
            assert_eq!(host.processes.main_pid(spawn), Some(child));
            // Its replica may start beside it meanwhile, as after any other exit.
            assert_eq!(host.run_to_end("a", launch("true", &[])), (Exit::Code(0), 0));
            if killed {
                host.processes.kill(spawn);
                assert_eq!(host.next_of(spawn), News::Exited(spawn, KILLED, 0), "{cgroups:?}");
            } else {
                signal(child, "USR1");
                assert_eq!(host.next_of(spawn), News::Exited(spawn, Exit::Code(7), 0), "{cgroups:?}");
            }
            host.until("all to be reaped", || zombies().is_empty());
            drop(socket);
            host.outputs.clear();
            let kept = if host.processes.uses_cgroups() { 2 } else { 0 };
            assert!(open_fds() <= before + kept, "{} of {before}", open_fds());
            host.shutdown();
        }
    }
}

#[test]
fn a_main_process_with_a_living_parent_of_its_own() {
    for cgroups in BOTH {
        for reaps in [true, false] {
            for (end, exit) in [("os._exit(5)", Exit::Code(5)), ("os.kill(os.getpid(), 9)", KILLED)] {
                let mut host = Host::start(cgroups);
                let socket = open(&host);
                let script = format!(
                    "child = os.fork()\n\
                     if not child: wait(); {end}\n\
                     say(f'MAINPID={{child}}')\n\
                     {}\n\
                     wait(); os._exit(0)\n",
                    if reaps { "os.waitpid(child, 0); say('STATUS=reaped')" } else { "" }
                );
                let (spawn, pid) = host.run("a", python(&socket, &script));
                let child = recv(&host, &socket).main_pid.unwrap();
                host.processes.set_main(spawn, child).unwrap();
                signal(child, "USR1");
                if reaps {
                    recv(&host, &socket);
                }
                // The parent is what is left.
                let news = host.next_of(spawn);
                let News::Exited(_, got, leftovers) = news else { panic!("{news:?}") };
                assert_eq!(leftovers, 1, "{cgroups:?}");
                assert!(
                    got == exit || reaps && got == Exit::Unknown && !records_exits(),
                    "{cgroups:?} {got:?}"
                );
                assert!(is_alive(pid));
                assert_eq!(host.processes.main_pid(spawn), None);
                // The signal reaches it though it is the main one no more.
                host.stop(spawn, StopSignal::Usr1);
                assert_eq!(host.next_of(spawn), News::Ended(spawn));
                host.until("all to be reaped", || zombies().is_empty());
                host.shutdown();
            }
        }
    }
}

/// Linux 6.15 and newer.
fn records_exits() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut parts = release.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next(), parts.next()) >= (Some(6), Some(15))
}

#[test]
fn the_place_is_passed_on_and_back() {
    for cgroups in BOTH {
        let mut host = Host::start(cgroups);
        let socket = open(&host);
        let script = "children = []\n\
                      for _ in range(3):\n\
                      \x20   child = os.fork()\n\
                      \x20   if not child: wait(); os._exit(9)\n\
                      \x20   children.append(child); say(f'MAINPID={child}')\n\
                      wait(); os._exit(3)\n";
        let (spawn, first) = host.run("a", python(&socket, script));
        let mains: Vec<u32> = (0..3).map(|_| recv(&host, &socket).main_pid.unwrap()).collect();
        for main in mains.iter().chain([&first]) {
            host.processes.set_main(spawn, *main).unwrap();
            assert_eq!(host.processes.main_pid(spawn), Some(*main));
        }
        signal(mains[0], "USR1");
        host.until("a process to end that was the main one once", || !is_alive(mains[0]));
        signal(first, "USR1");
        assert_eq!(host.next_of(spawn), News::Exited(spawn, Exit::Code(3), 2), "{cgroups:?}");
        // One of the others can still take over; and ends as what it is.
        host.processes.set_main(spawn, mains[2]).unwrap();
        signal(mains[2], "USR1");
        assert_eq!(host.next_of(spawn), News::Exited(spawn, Exit::Code(9), 1), "{cgroups:?}");
        signal(mains[1], "USR1");
        assert_eq!(host.next_of(spawn), News::Ended(spawn));
        host.until("all to be reaped", || zombies().is_empty());
        host.shutdown();
    }
}

#[test]
fn who_cannot_become_the_main_process() {
    for cgroups in BOTH {
        let mut host = Host::start(cgroups);
        let (spawn, pid) = host.run("a", launch("sleep", &["600"]));
        let (other, other_pid) = host.run("b", launch("sleep", &["600"]));
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        let mut refused = |spawn, pid| host.processes.set_main(spawn, pid).unwrap_err();
        for stranger in [1, std::process::id(), other_pid] {
            assert!(matches!(refused(spawn, stranger), SetMainError::NotOfTree { .. }), "{stranger}");
        }
        assert!(matches!(refused(spawn, gone.id()), SetMainError::Gone { .. }));
        assert!(matches!(refused(spawn, u32::MAX), SetMainError::Gone { .. }));
        assert!(matches!(refused(SpawnId(999), pid), SetMainError::NotRunning { .. }));
        host.processes.kill(other);
        let error = host.processes.set_main(other, pid).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("process {pid} cannot become the main one: its service is being killed")
        );
        kill_all(&mut host, other);
        kill_all(&mut host, spawn);
        host.shutdown();
    }
}

#[test]
fn a_signal_to_the_main_process_reaches_it_alone() {
    for cgroups in BOTH {
        let mut host = Host::start(cgroups);
        let socket = open(&host);
        // Blocked and waited for: a signal that comes before the wait is not lost.
        let script = "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP, signal.SIGUSR1])\n\
                      child = os.fork()\n\
                      if child: say('READY=1')\n\
                      while True:\n\
                      \x20   heard = signal.sigwait([signal.SIGHUP, signal.SIGUSR1])\n\
                      \x20   say('RELOADING=1' if heard == signal.SIGHUP else 'STATUS=end')\n";
        let (spawn, pid) = host.run("a", python(&socket, script));
        assert_eq!(recv(&host, &socket).facts, [Notification::Ready]);
        for _ in 0..3 {
            host.processes.signal_main(spawn, StopSignal::Hup);
            let message = recv(&host, &socket);
            assert_eq!((&message.facts[..], message.pid), (&[Notification::Reloading][..], pid));
        }
        // What the child has to say comes in its order: had the signal reached it, its answer to that would come first.
        let child = host.processes.pids(spawn).into_iter().find(|member| *member != pid).unwrap();
        signal(child, "USR1");
        assert_eq!(recv(&host, &socket).facts, [Notification::Status("end".to_owned())]);
        host.processes.signal_main(spawn, StopSignal::Kill);
        assert_eq!(host.next_of(spawn), News::Exited(spawn, KILLED, 1));
        assert!(is_alive(child));
        // There is no main process any more.
        host.processes.signal_main(spawn, StopSignal::Kill);
        host.processes.kill(spawn);
        assert_eq!(host.next_of(spawn), News::Ended(spawn));
        host.shutdown();
    }
}

#[test]
fn readiness_by_a_newline() {
    let mut host = Host::start(UseCgroups::IfPossible);
    for (script, expected) in [
        ("echo >&9; sleep 600", true),
        ("printf 'not yet' >&9; printf 'now\\n' >&9; sleep 600", true),
        ("exec 9>&-; sleep 600", false),
        ("printf 'never' >&9", false),
    ] {
        let (reader, writer) = host.runtime.block_on(async { readiness_pipe().unwrap() });
        let mut what = launch("/bin/bash", &["-c", script]);
        what.handed = vec![Handed { target: 9, descriptor: writer }];
        let (spawn, _) = host.run("a", what);
        let answer =
            host.runtime.block_on(async { tokio::time::timeout(LIMIT, reader.wait()).await.unwrap() });
        assert_eq!(answer.unwrap(), expected, "{script}");
        kill_all(&mut host, spawn);
    }
    let (reader, writer) = host.runtime.block_on(async { readiness_pipe().unwrap() });
    let mut what = launch("/bin/sh", &["-c", "yes | tr -d '\\n' >&9"]);
    what.handed = vec![Handed { target: 9, descriptor: writer }];
    let (spawn, _) = host.run("a", what);
    let answer = host.runtime.block_on(async { tokio::time::timeout(LIMIT, reader.wait()).await.unwrap() });
    assert!(answer.unwrap_err().to_string().contains("without a newline"));
    kill_all(&mut host, spawn);
    wait_for("all to end", LIMIT, || zombies().is_empty());
    host.shutdown();
}
