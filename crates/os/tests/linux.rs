//! What Linux adds to the contract: every step of a launch that can fail, trees that hide, a launcher and a host that die.

#![cfg(target_os = "linux")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Host, LIMIT, News, alone, is_alive, launch, misbehave, open_fds, options, replica, zombies};
use mainstay_os::{Identity, Launch, ProcessEvent, ProcessTrees, Processes, ProcessesStartError, UseCgroups};
use mainstay_testkit::wait::wait_for;
use mainstay_types::{Exit, LaunchStep, SpawnId, StopSignal};

const BOTH: [UseCgroups; 2] = [UseCgroups::IfPossible, UseCgroups::Never];

const KILLED: Exit = Exit::Signal { signal: 9, core_dumped: false };

/// The lines of pids a misbehaving program printed.
fn pids(lines: &[String]) -> Vec<u32> {
    lines.iter().filter_map(|line| line.parse().ok()).collect()
}

/// Ends a tree by `kill` and sees all its news.
#[track_caller]
fn kill_and_wait(host: &mut Host, spawn: SpawnId) -> Exit {
    host.processes.kill(spawn);
    match host.next_of(spawn) {
        News::Exited(_, exit, 0) => exit,
        News::Exited(_, exit, _) => {
            assert_eq!(host.next_of(spawn), News::Ended(spawn));
            exit
        }
        other @ (News::Launched(..) | News::Failed(..) | News::Ended(_)) => panic!("{other:?}"),
    }
}

#[test]
fn every_step_that_fails_is_named() {
    let is_root = mainstay_os::is_root();
    for cgroups in BOTH {
        let mut host = Host::start(cgroups);
        let script = host.dir.path().join("script");
        let write = |content: &str, mode: u32| {
            std::fs::write(&script, content).unwrap();
            std::fs::set_permissions(&script, std::fs::Permissions::from_mode(mode)).unwrap();
            launch(script.to_str().unwrap(), &[])
        };
        let missing = host.failure("a", launch("/no/such/program", &[]));
        assert_eq!((missing.step, missing.errno), (LaunchStep::Exec, libc_errno::ENOENT));
        assert_eq!(missing.path.as_deref(), Some(Path::new("/no/such/program")));
        assert_eq!(
            missing.to_string(),
            "cannot execute /no/such/program: No such file or directory (errno 2) - the folder /no does not exist"
        );

        let bare = host.failure("a", launch("no-such-program", &[]));
        assert_eq!((bare.step, bare.errno), (LaunchStep::Exec, libc_errno::ENOENT));
        assert!(bare.hint.unwrap().contains("/usr/local/bin:/usr/bin:/bin"));

        let crlf = host.failure("a", write("#!/bin/sh\r\nexit 0\r\n", 0o755));
        assert_eq!(crlf.errno, libc_errno::ENOENT);
        assert!(crlf.hint.unwrap().contains("carriage return"));

        let plain = host.failure("a", write("exit 0\n", 0o755));
        assert_eq!(plain.errno, libc_errno::ENOEXEC);
        assert!(plain.hint.unwrap().contains("#!"));

        let mode = host.failure("a", write("#!/bin/sh\n", 0o644));
        assert_eq!((mode.step, mode.errno), (LaunchStep::Exec, libc_errno::EACCES));
        assert!(mode.hint.unwrap().contains("mode 0644"));

        let folder = host.failure("a", launch("/tmp", &[]));
        assert_eq!(folder.errno, libc_errno::EACCES);
        assert!(folder.hint.unwrap().contains("folder"));

        let workdir = host.failure("a", Launch { workdir: "/no/such".into(), ..launch("true", &[]) });
        assert_eq!((workdir.step, workdir.errno), (LaunchStep::Workdir, libc_errno::ENOENT));
        assert_eq!(workdir.path.as_deref(), Some(Path::new("/no/such")));

        // Above the kernel's own maximum, which not even root may pass (fs.nr_open).
        let limits = host.failure("a", Launch { limits: limit(u64::MAX - 1), ..launch("true", &[]) });
        assert_eq!((limits.step, limits.errno), (LaunchStep::Limits, libc_errno::EPERM));

        let groups = vec![1; 70_000];
        let identity = Some(Identity { uid: 54321, gid: 54321, groups });
        let too_many = host.failure("a", Launch { identity, ..launch("true", &[]) });
        assert_eq!(too_many.step, LaunchStep::Groups);

        if is_root {
            let private = host.dir.path().join("private");
            std::fs::create_dir(&private).unwrap();
            std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o700)).unwrap();
            let identity = Some(Identity { uid: 54321, gid: 54321, groups: vec![54321] });
            let entered = host.failure("a", Launch { workdir: private, identity, ..launch("true", &[]) });
            assert_eq!((entered.step, entered.errno), (LaunchStep::Workdir, libc_errno::EACCES));
            assert!(entered.hint.unwrap().contains("cannot be entered by user 54321"));
        }

        let zero = host.failure("a", launch("/bin/echo", &["a\0b"]));
        assert_eq!((zero.step, zero.errno), (LaunchStep::Exec, libc_errno::EINVAL));

        // A healthy one after all that.
        assert_eq!(host.run_to_end("a", launch("true", &[])), (Exit::Code(0), 0));
        host.until("ended children to be reaped", || zombies().is_empty());
        host.shutdown();
    }
}

/// Numbers of errno(3) on every architecture of Linux that Rust's standard library is built for.
mod libc_errno {
    pub(crate) const EPERM: i32 = 1;
    pub(crate) const ENOENT: i32 = 2;
    pub(crate) const E2BIG: i32 = 7;
    pub(crate) const ENOEXEC: i32 = 8;
    pub(crate) const EACCES: i32 = 13;
    pub(crate) const EINVAL: i32 = 22;
}

#[test]
fn a_program_gets_exactly_what_was_asked_for() {
    let before = mainstay_os::raise_open_files_limit().unwrap();
    for cgroups in BOTH {
        let mut host = Host::start(cgroups);
        let script = "ulimit -Sn; pwd; ls /proc/self/fd | wc -l; ps -o sid= -p $$; echo $$; \
                      grep -E 'Sig(Blk|Ign)' /proc/self/status; readlink /proc/self/fd/0";
        let what = Launch { workdir: "/usr".into(), ..launch("/bin/sh", &["-c", script]) };
        let (spawn, pid) = host.run("a", what);
        assert_eq!(host.next_of(spawn), News::Exited(spawn, Exit::Code(0), 0));
        let text = host.stdout_of(spawn);
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!(lines[0], before.0.to_string(), "the host raised its own limit only");
        // stdin, stdout, stderr and the folder that ls reads.
        assert_eq!(&lines[1..5], ["/usr", "4", &pid.to_string(), &pid.to_string()]);
        assert_eq!(lines[5], "SigBlk:\t0000000000000000");
        assert_eq!(lines[6], "SigIgn:\t0000000000000000");
        assert_eq!(lines[7], "/dev/null");

        let limited = Launch { limits: limit(77), ..launch("/bin/sh", &["-c", "ulimit -Sn; ulimit -Hn"]) };
        assert_eq!(host.stdout_of_run("a", limited), "77\n77\n");

        let mut what = misbehave(&["env"]);
        what.env.push(("MAINSTAY_INSTANCE".into(), "somebody else's".into()));
        let text = host.stdout_of_run("a", what);
        let names: Vec<&str> = text.lines().filter_map(|line| line.split('=').next()).collect();
        assert_eq!(names, ["MAINSTAY_INSTANCE", "PATH"]);
        assert!(text.starts_with("MAINSTAY_INSTANCE=contract/a.0/3/"), "{text}");

        if mainstay_os::is_root() {
            let identity = Some(Identity { uid: 54321, gid: 54322, groups: vec![54322, 54323] });
            let what = Launch { identity, ..launch("/bin/sh", &["-c", "id -u; id -g; id -G"]) };
            assert_eq!(host.stdout_of_run("a", what), "54321\n54322\n54322 54323\n");
        }
        host.shutdown();
    }
}

#[test]
fn arguments_up_to_the_kernels_limit() {
    for cgroups in BOTH {
        let mut host = Host::start(cgroups);
        // 128 KiB is the longest single argument, about 2 MiB the longest list (execve(2)).
        let long = "x".repeat(120 * 1024);
        let args: Vec<&str> = vec![&long; 12];
        let script = ["-c", "echo $#", "sh"];
        assert_eq!(host.stdout_of_run("a", launch("/bin/sh", &[&script[..], &args].concat())), "12\n");
        let args: Vec<&str> = vec![&long; 60];
        let failure = host.failure("a", launch("/bin/sh", &[&script[..], &args].concat()));
        assert_eq!((failure.step, failure.errno), (LaunchStep::Exec, libc_errno::E2BIG));
        host.shutdown();
    }
}

#[test]
fn a_crash_is_told_as_one() {
    let mut host = Host::start(UseCgroups::IfPossible);
    let (exit, leftovers) = host.run_to_end("a", misbehave(&["crash"]));
    assert!(matches!(exit, Exit::Signal { signal: 6, .. }), "{exit:?}");
    assert_eq!(leftovers, 0);
    host.shutdown();
}

#[test]
fn a_stop_reaches_those_that_hide() {
    for cgroups in BOTH {
        for end in [StopSignal::Term, StopSignal::Kill] {
            let mut host = Host::start(cgroups);
            // Plain and setsid'ed grandchildren under a living main process, and one that lost its parent.
            let script = "sleep 600 & echo $!; setsid sleep 600 & echo $!; \
                          sh -c 'setsid sleep 600 >/dev/null 2>&1 & echo $!'; echo ready; wait";
            let (spawn, pid) = host.run("a", launch("/bin/sh", &["-c", script]));
            let lines = host.lines_of(spawn, 4);
            let children = pids(&lines);
            assert_eq!((children.len(), lines[3].as_str()), (3, "ready"), "{lines:?}");
            wait_for("all of them to run", LIMIT, || children.iter().all(|child| is_alive(*child)));
            let mut all = host.processes.pids(spawn);
            all.sort_unstable();
            let mut expected = [&children[..], &[pid]].concat();
            expected.sort_unstable();
            assert_eq!(all, expected, "{cgroups:?}");
            // A stranger of the same session as this test must not be touched.
            let mut stranger = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
            host.stop(spawn, end);
            match host.next_of(spawn) {
                News::Exited(_, exit, leftovers) => {
                    assert_eq!(exit, Exit::Signal { signal: end.number(), core_dumped: false });
                    if leftovers > 0 {
                        assert_eq!(host.next_of(spawn), News::Ended(spawn));
                    }
                }
                other @ (News::Launched(..) | News::Failed(..) | News::Ended(_)) => panic!("{other:?}"),
            }
            assert!(children.iter().all(|child| !is_alive(*child)), "{cgroups:?} {end:?}");
            assert!(is_alive(stranger.id()));
            stranger.kill().unwrap();
            host.until("strays to be reaped", || zombies().iter().all(|pid| *pid == stranger.id()));
            // Not stolen: whoever made it can still wait for it.
            assert!(!stranger.wait().unwrap().success());
            host.shutdown();
        }
    }
}

#[test]
fn leftovers_end_by_themselves_without_being_asked() {
    for cgroups in BOTH {
        let mut host = Host::start(cgroups);
        let script = "setsid sh -c 'read x' < $0 >/dev/null 2>&1 & echo $!";
        let fifo = host.dir.path().join("fifo");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let (spawn, _) = host.run("a", launch("/bin/sh", &["-c", script, fifo.to_str().unwrap()]));
        assert_eq!(host.next_of(spawn), News::Exited(spawn, Exit::Code(0), 1));
        // The program ended, its replica may start again while the old tree lingers.
        assert_eq!(host.run_to_end("a", launch("true", &[])), (Exit::Code(0), 0));
        std::fs::write(&fifo, "go\n").unwrap();
        assert_eq!(host.next_of(spawn), News::Ended(spawn));
        host.shutdown();
    }
}

#[test]
fn a_storm_of_forks_is_outrun() {
    for cgroups in BOTH {
        let mut host = Host::start(cgroups);
        let (spawn, _) = host.run("a", misbehave(&["fork-storm", "3000"]));
        let news = host.next_of(spawn);
        assert!(matches!(news, News::Exited(_, Exit::Code(0), 1..)), "{news:?}");
        host.processes.kill(spawn);
        assert_eq!(host.next_of(spawn), News::Ended(spawn), "{cgroups:?}");
        assert_eq!(host.processes.pids(spawn), Vec::<u32>::new());
        host.shutdown();
    }
}

#[test]
fn a_grandchild_that_holds_the_output_delays_nothing() {
    for cgroups in BOTH {
        let mut host = Host::start(cgroups);
        let (spawn, _) = host.run("a", misbehave(&["hold-pipe"]));
        assert_eq!(host.next_of(spawn), News::Exited(spawn, Exit::Code(0), 1));
        host.processes.kill(spawn);
        assert_eq!(host.next_of(spawn), News::Ended(spawn));
        assert_eq!(host.stdout_of(spawn), "");
        host.shutdown();
    }
}

#[test]
fn two_hundred_at_once_leave_nothing_open() {
    for cgroups in BOTH {
        let mut host = Host::start(cgroups);
        // What the first launch makes and keeps.
        assert_eq!(host.run_to_end("s0", launch("true", &[])), (Exit::Code(0), 0));
        host.outputs.clear();
        let before = open_fds();
        for round in 0..2 {
            let spawns: Vec<SpawnId> =
                (0..100).map(|_| host.launch("s0", launch("sh", &["-c", "exit 7"]))).collect();
            for spawn in &spawns {
                let news = host.next_of(*spawn);
                assert!(matches!(news, News::Launched(..)), "round {round}: {news:?}");
                assert_eq!(host.next_of(*spawn), News::Exited(*spawn, Exit::Code(7), 0));
            }
        }
        host.outputs.clear();
        // Overlapping starts of one replica each have a control group, kept open for the next time.
        let kept = if host.processes.uses_cgroups() { 100 } else { 0 };
        assert!(open_fds() <= before + kept, "{} of {before} before", open_fds());
        host.until("ended children to be reaped", || zombies().is_empty());
        let before = open_fds();
        for _ in 0..200 {
            assert_eq!(host.run_to_end("s0", launch("true", &[])), (Exit::Code(0), 0));
        }
        host.outputs.clear();
        assert!(open_fds() <= before, "{} of {before} before", open_fds());
        host.shutdown();
    }
}

#[test]
fn a_dead_launcher_is_replaced() {
    for cgroups in BOTH {
        let mut host = Host::start(cgroups);
        let (sleeper, pid) = host.run("a", launch("sleep", &["600"]));
        for _ in 0..3 {
            let launcher = host.processes.launcher_pid().unwrap();
            assert!(Command::new("kill").args(["-9", &launcher.to_string()]).status().unwrap().success());
            // Some of these are asked of the dead one: each gets an answer, and nothing of them stays.
            let spawns: Vec<SpawnId> = (0..20).map(|_| host.launch("b", launch("sleep", &["600"]))).collect();
            for spawn in spawns {
                match host.next_of(spawn) {
                    News::Launched(..) => assert_eq!(kill_and_wait(&mut host, spawn), KILLED),
                    News::Failed(_, failure) => assert_eq!(failure.step, LaunchStep::Spawn),
                    other @ (News::Exited(..) | News::Ended(_)) => panic!("{other:?}"),
                }
            }
            assert_ne!(host.processes.launcher_pid(), Some(launcher));
            assert_eq!(host.run_to_end("b", launch("true", &[])), (Exit::Code(0), 0));
        }
        assert_eq!(host.processes.take_notices().len(), 3);
        assert!(is_alive(pid), "services outlive the launcher");
        assert_eq!(kill_and_wait(&mut host, sleeper), KILLED);
        assert_eq!(children_named("sleep"), Vec::<u32>::new());
        host.shutdown();
    }
}

fn children_named(name: &str) -> Vec<u32> {
    let output =
        Command::new("pgrep").args(["-x", "-P", &std::process::id().to_string(), name]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().filter_map(|pid| pid.parse().ok()).collect()
}

#[test]
fn a_launcher_that_keeps_dying_is_given_up() {
    let mut host = Host::start(UseCgroups::Never);
    let mut failure = None;
    for _ in 0..10 {
        let Some(launcher) = host.processes.launcher_pid() else { break };
        assert!(Command::new("kill").args(["-9", &launcher.to_string()]).status().unwrap().success());
        host.until_notice();
    }
    if host.processes.launcher_pid().is_none() {
        failure = Some(host.failure("a", launch("true", &[])));
    }
    let failure = failure.expect("ten deaths within a minute are too many");
    assert_eq!(failure.step, LaunchStep::Spawn);
    assert!(failure.message.contains("within a minute"), "{failure}");
}

#[test]
fn one_host_in_a_process() {
    let host = Host::start(UseCgroups::Never);
    let second = host.runtime.block_on(async { Processes::start(options(UseCgroups::Never, "/tmp".into())) });
    assert!(matches!(second, Err(ProcessesStartError::AlreadyStarted)), "{second:?}");
    host.shutdown();
    Host::start(UseCgroups::Never).shutdown();
}

#[test]
fn usage_counts_the_whole_tree() {
    let mut host = Host::start(UseCgroups::Never);
    let (spawn, pid) = host.run("a", misbehave(&["grandchildren", "3"]));
    assert_eq!(host.lines_of(spawn, 4)[3], "ready");
    let alone = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    let pages: u64 = alone.split(' ').nth(1).unwrap().parse().unwrap();
    let usage = mainstay_os::tree_usage(&[pid])[0].unwrap();
    assert!(usage.memory_bytes > pages * 4096 * 2, "{usage:?}");
    assert_eq!(kill_and_wait(&mut host, spawn), KILLED);
    assert_eq!(mainstay_os::tree_usage(&[pid]), [None]);
    host.shutdown();
}

const HOST_DIR: &str = "CONTRACT_HOST_DIR";
const HOST_CGROUPS: &str = "CONTRACT_HOST_CGROUPS";

/// A host in a process of its own, for those that kill it: starts two services, prints the pids and waits for its end.
#[test]
#[ignore = "run by the tests that kill it"]
fn as_a_host_of_its_own() {
    let Some(dir) = std::env::var_os(HOST_DIR) else { return };
    let cgroups =
        if std::env::var_os(HOST_CGROUPS).is_some() { UseCgroups::IfPossible } else { UseCgroups::Never };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut processes = Processes::start(options(cgroups, dir.into())).unwrap();
        let script = "sleep 600 & echo pid $!; setsid sleep 600 & echo pid $!; echo pid $$; wait";
        processes.launch(&replica("a"), SpawnId(1), launch("/bin/sh", &["-c", script]));
        let event = std::future::poll_fn(|cx| processes.poll_event(cx)).await;
        let ProcessEvent::Launched { output, .. } = event else { panic!("{event:?}") };
        println!("pid {}", processes.launcher_pid().unwrap());
        let mut reader = output.stdout.into_reader().unwrap();
        let _ = tokio::io::copy(&mut reader, &mut tokio_stdout()).await;
    });
}

/// Writes through at once; std's stdout is captured by the test harness, so the descriptor itself is used.
fn tokio_stdout() -> impl tokio::io::AsyncWrite + Unpin {
    tokio::net::unix::pipe::OpenOptions::new().open_sender("/proc/self/fd/1").unwrap()
}

/// Starts [`as_a_host_of_its_own`]; answers it, the launcher's pid and the services'.
fn other_host(dir: &Path, cgroups: UseCgroups) -> (std::process::Child, u32, Vec<u32>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "as_a_host_of_its_own", "--ignored", "--nocapture"]);
    command.env(HOST_DIR, dir).stdin(Stdio::null()).stdout(Stdio::piped());
    if cgroups == UseCgroups::IfPossible {
        command.env(HOST_CGROUPS, "1");
    }
    let mut host = command.spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(host.stdout.take().unwrap()));
    let mut found = Vec::new();
    while found.len() < 4 {
        let line = lines.next().expect("four pids").unwrap();
        if let Some((_, pid)) = line.split_once("pid ") {
            found.push(pid.trim().parse().unwrap());
        }
    }
    let launcher = found.remove(0);
    (host, launcher, found)
}

#[test]
fn the_death_of_the_host_ends_its_services() {
    let _alone = alone();
    for cgroups in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let (mut host, launcher, services) = other_host(dir.path(), cgroups);
        assert!(services.iter().all(|pid| is_alive(*pid)));
        host.kill().unwrap();
        host.wait().unwrap();
        wait_for("the services to end", LIMIT, || services.iter().all(|pid| !is_alive(*pid)));
        wait_for("the launcher to end", LIMIT, || !is_alive(launcher));
    }
}

#[test]
fn leftovers_of_a_dead_host_are_ended_and_others_are_not() {
    let _alone = alone();
    for cgroups in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let other_dir = tempfile::tempdir().unwrap();
        let (mut host, launcher, services) = other_host(dir.path(), cgroups);
        let (mut other, _, other_services) = other_host(other_dir.path(), cgroups);
        let end =
            || mainstay_os::end_leftovers_of_earlier_host(&options(cgroups, dir.path().into())).unwrap();
        assert_eq!(end(), [], "a living host's services are not leftovers");
        // The launcher first: a host and its launcher that die together leave everything behind.
        assert!(Command::new("kill").args(["-STOP", &host.id().to_string()]).status().unwrap().success());
        assert!(Command::new("kill").args(["-9", &launcher.to_string()]).status().unwrap().success());
        host.kill().unwrap();
        host.wait().unwrap();
        assert!(services.iter().all(|pid| is_alive(*pid)));
        let mut ended: Vec<u32> = end().into_iter().map(|leftover| leftover.pid).collect();
        ended.sort_unstable();
        let mut expected = services.clone();
        expected.sort_unstable();
        assert_eq!(ended, expected, "{cgroups:?}");
        wait_for("them to end", LIMIT, || services.iter().all(|pid| !is_alive(*pid)));
        assert_eq!(end(), []);
        assert!(other_services.iter().all(|pid| is_alive(*pid)), "another state folder is another stack");
        other.kill().unwrap();
        other.wait().unwrap();
        wait_for("the other's to end", LIMIT, || other_services.iter().all(|pid| !is_alive(*pid)));
    }
}

fn limit(open_files: u64) -> mainstay_os::ResourceLimits {
    mainstay_os::ResourceLimits { open_files: Some(open_files), ..mainstay_os::ResourceLimits::default() }
}
