//! Descriptors handed to a program: their numbers, the words about them, and that nothing else is open.

#![cfg(target_os = "linux")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use common::{Host, News, launch};
use mainstay_os::{Descriptor, Handed, Launch, MAX_HANDED, ProcessTrees, UseCgroups};
use mainstay_types::{Exit, LaunchStep, StopSignal};

const BOTH: [UseCgroups; 2] = [UseCgroups::IfPossible, UseCgroups::Never];

fn file_with(text: &str) -> Descriptor {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    Descriptor::new(OwnedFd::from(file))
}

fn handed(target: u32, descriptor: &Descriptor) -> Handed {
    Handed { target, descriptor: descriptor.clone() }
}

#[test]
fn each_has_its_number_and_nothing_else_is_open() {
    for cgroups in BOTH {
        let mut host = Host::start(cgroups);
        // Numbers the launcher uses itself among them, in an order that overlaps, and a far one.
        let targets = [9, 3, 4, 12, 5, 8, 6, 7, 1023, 10, 11];
        let descriptors: Vec<Descriptor> =
            targets.iter().map(|target| file_with(&format!("file {target}\n"))).collect();
        let script = "for fd in 3 4 5 6 7 8 9 10 11 12 1023; do cat /proc/self/fd/$fd; done; \
                      echo $(ls /proc/self/fd | sort -n)";
        let mut what = launch("/bin/bash", &["-c", script]);
        what.handed = targets.iter().zip(&descriptors).map(|(target, fd)| handed(*target, fd)).collect();
        let text = host.stdout_of_run("a", what);
        let lines: Vec<&str> = text.lines().collect();
        let expected: Vec<String> = (3..=12).chain([1023]).map(|target| format!("file {target}")).collect();
        assert_eq!(&lines[..11], expected, "{cgroups:?}");
        // 13 is the folder that ls reads.
        assert_eq!(lines[11], "0 1 2 3 4 5 6 7 8 9 10 11 12 13 1023");
        host.shutdown();
    }
}

#[test]
fn a_failed_start_still_tells_why_with_descriptors_on_every_number() {
    let mut host = Host::start(UseCgroups::Never);
    let descriptor = file_with("x");
    let mut what = launch("/no/such/program", &[]);
    what.handed = (3..3 + MAX_HANDED as u32).map(|target| handed(target, &descriptor)).collect();
    let failure = host.failure("a", what.clone());
    assert_eq!((failure.step, failure.errno), (LaunchStep::Exec, 2));
    what.program = "/bin/true".into();
    assert_eq!(host.run_to_end("a", what), (Exit::Code(0), 0));
    host.shutdown();
}

#[test]
fn the_variables_of_sd_listen_fds() {
    for cgroups in BOTH {
        let mut host = Host::start(cgroups);
        let descriptor = file_with("x");
        let mut what = launch("/bin/sh", &["-c", "echo $$; env | grep ^LISTEN | sort"]);
        for (name, value) in [("LISTEN_PID", "1"), ("LISTEN_FDS", "7"), ("LISTEN_FDNAMES", "old")] {
            what.env.push((name.into(), value.into()));
        }
        what.handed = vec![handed(4, &descriptor), handed(3, &descriptor), handed(20, &descriptor)];
        what.listen_names = vec!["http".to_owned(), "admin port".to_owned()];
        for _ in 0..3 {
            let (spawn, pid) = host.run("a", what.clone());
            let text = host.stdout_of(spawn);
            assert_eq!(
                text,
                format!("{pid}\nLISTEN_FDNAMES=http:admin port\nLISTEN_FDS=2\nLISTEN_PID={pid}\n")
            );
            assert_eq!(host.next_of(spawn), News::Exited(spawn, Exit::Code(0), 0));
        }
        // Without names there are no such variables.
        let what =
            Launch { listen_names: Vec::new(), env: vec![("PATH".into(), "/usr/bin:/bin".into())], ..what };
        assert_eq!(host.stdout_of_run("a", what).lines().count(), 1);
        host.shutdown();
    }
}

#[test]
fn many_starts_at_once_get_their_own() {
    for cgroups in BOTH {
        let mut host = Host::start(cgroups);
        let spawns: Vec<_> = (0..60)
            .map(|number| {
                let mut what = launch("/bin/sh", &["-c", "cat <&3 || echo none"]);
                // Every third one has none, and some have many.
                if number % 3 != 0 {
                    what.handed = vec![handed(3, &file_with(&format!("{number}\n")))];
                    let other = file_with("other");
                    what.handed.extend((0..number % 40).map(|more| handed(4 + more, &other)));
                }
                (number, host.launch("a", what))
            })
            .collect();
        for (number, spawn) in spawns {
            let news = host.next_of(spawn);
            assert!(matches!(news, News::Launched(..)), "{news:?}");
            let expected = if number % 3 == 0 { "none".to_owned() } else { number.to_string() };
            assert_eq!(host.stdout_of(spawn).trim(), expected);
            assert_eq!(host.next_of(spawn), News::Exited(spawn, Exit::Code(0), 0));
        }
        host.shutdown();
    }
}

#[test]
fn what_cannot_be_handed_over_is_refused() {
    let mut host = Host::start(UseCgroups::Never);
    let descriptor = file_with("x");
    let mut refused = |targets: &[u32], names: &[&str]| {
        let mut what = launch("/bin/true", &[]);
        what.handed = targets.iter().map(|target| handed(*target, &descriptor)).collect();
        what.listen_names = names.iter().map(|name| (*name).to_owned()).collect();
        let failure = host.failure("a", what);
        assert_eq!(failure.step, LaunchStep::Listen);
        failure.to_string()
    };
    let many: Vec<u32> = (3..68).collect();
    for (targets, names, expected) in [
        (&many[..], &[][..], "65 descriptors are too many for one program: at most 64 are handed over"),
        (&[2], &[], "descriptor 2 cannot be handed over: only 3 to 1023 can"),
        (&[1024], &[], "descriptor 1024 cannot be handed over: only 3 to 1023 can"),
        (&[3, 3], &[], "two descriptors are to be handed over as 3"),
        (&[4], &["a"], "a is to be descriptor 3, but nothing is handed over as 3"),
        (&[3], &["a:b"], "\"a:b\" cannot be a name in LISTEN_FDNAMES: it has a colon or a control character"),
    ] {
        assert_eq!(refused(targets, names), format!("cannot hand over its sockets: {expected}"));
    }
    assert_eq!(host.run_to_end("a", launch("true", &[])), (Exit::Code(0), 0));
    host.shutdown();
}

#[test]
fn what_the_launcher_has_no_room_for_fails_alone() {
    for cgroups in BOTH {
        let mut host = Host::start(cgroups);
        assert_eq!(host.run_to_end("a", launch("true", &[])), (Exit::Code(0), 0));
        let launcher = host.processes.launcher_pid().unwrap().to_string();
        let limited =
            std::process::Command::new("prlimit").args(["--pid", &launcher, "--nofile=30:30"]).status();
        assert!(limited.unwrap().success());
        let descriptor = file_with("x");
        // Together on their way: what is lost of one must not be taken from another.
        let spawns: Vec<_> = (0..30_u32)
            .map(|number| {
                let mut what = launch("/bin/sh", &["-c", "cat <&3"]);
                what.handed = vec![handed(3, &file_with(&format!("{number}\n")))];
                what.limits.open_files = Some(20);
                if number % 3 == 1 {
                    what.handed.extend((4..60).map(|target| handed(target, &descriptor)));
                }
                (number, host.launch("a", what))
            })
            .collect();
        let mut what = launch("/bin/true", &[]);
        what.handed = vec![handed(100, &descriptor)];
        let failure = host.failure("a", what);
        assert_eq!((failure.step, failure.errno), (LaunchStep::Listen, 22));
        assert!(failure.hint.unwrap().contains("choose a lower number"));
        for (number, spawn) in spawns {
            if number % 3 == 1 {
                let News::Failed(_, failure) = host.next_of(spawn) else { panic!("{number} was started") };
                assert_eq!((failure.step, failure.errno), (LaunchStep::Listen, 24));
                assert!(failure.hint.is_some());
                continue;
            }
            let news = host.next_of(spawn);
            assert!(matches!(news, News::Launched(..)), "{news:?}");
            assert_eq!(host.stdout_of(spawn), format!("{number}\n"));
            assert_eq!(host.next_of(spawn), News::Exited(spawn, Exit::Code(0), 0));
        }
        host.shutdown();
    }
}

#[test]
fn a_handed_pipe_closes_with_the_program() {
    let mut host = Host::start(UseCgroups::IfPossible);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut what = launch("/bin/sh", &["-c", "echo hello >&5"]);
    what.handed = vec![Handed { target: 5, descriptor: Descriptor::new(OwnedFd::from(writer)) }];
    assert_eq!(host.run_to_end("a", what), (Exit::Code(0), 0));
    let mut text = String::new();
    // Ends only when neither the host nor the launcher holds the writing end any more.
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello\n");
    host.shutdown();
}

/// Asks for one line; fails on a refused or broken connection.
fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(common::LIMIT))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn fifty_restarts_refuse_no_connection() {
    let mut host = Host::start(UseCgroups::IfPossible);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let descriptor = Descriptor::new(OwnedFd::from(listener));
    // One connection at a time, each with the pid; ends between connections only.
    let server = "import os, signal, socket, sys\n\
                  assert os.environ['LISTEN_PID'] == str(os.getpid())\n\
                  ended = []\n\
                  signal.signal(signal.SIGTERM, lambda *_: ended.append(1))\n\
                  s = socket.socket(fileno=3)\n\
                  s.settimeout(0.005)\n\
                  while not ended:\n\
                  \x20   try: c, _ = s.accept()\n\
                  \x20   except TimeoutError: continue\n\
                  \x20   c.settimeout(None)\n\
                  \x20   c.sendall(str(os.getpid()).encode()); c.close()\n";
    let mut what = launch("/usr/bin/python3", &["-ISc", server]);
    what.handed = vec![handed(3, &descriptor)];
    what.listen_names = vec!["http".to_owned()];
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let client = std::thread::spawn({
        let stop = stop.clone();
        move || {
            let mut answers = Vec::new();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                answers.push(ask(address).expect("no connection fails").parse::<u32>().expect("a pid"));
            }
            answers
        }
    });
    let mut pids = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let (spawn, pid) = host.run("web", what.clone());
        pids.insert(pid);
        // Answered by this one or, late, by the one before.
        while ask(address).unwrap() != pid.to_string() {}
        host.processes.signal(spawn, StopSignal::Term);
        assert_eq!(host.next_of(spawn), News::Exited(spawn, Exit::Code(0), 0));
        host.outputs.clear();
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    // The last client's connection waits for somebody.
    let (spawn, _) = host.run("web", what);
    let answers = client.join().unwrap();
    assert!(answers.len() > 50, "{}", answers.len());
    host.processes.kill(spawn);
    assert_eq!(host.next_of(spawn), News::Exited(spawn, Exit::Signal { signal: 9, core_dumped: false }, 0));
    host.shutdown();
}
