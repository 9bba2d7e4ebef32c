//! Resource limits: a fork bomb, a hog of memory and one of the processor are held, their ends are recognised, and
//! nothing is left behind.
//!
//! What needs control groups says why it was left out where there are none; with `MAINSTAY_REQUIRE_CGROUPS=1` it fails.

#![cfg(target_os = "linux")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Host, LIMIT, News, alone, is_alive, launch, misbehave, options, replica};
use mainstay_os::{
    Enforced, Identity, Launch, LimitStatus, ProcessEvent, ProcessTrees, Processes, ResourceLimits,
    RlimitScope, UseCgroups,
};
use mainstay_testkit::child::misbehave_path;
use mainstay_testkit::wait::wait_for;
use mainstay_types::{Exit, SpawnId};

const KILLED: Exit = Exit::Signal { signal: 9, core_dumped: false };
const MIB: u64 = 1 << 20;

/// A user that nobody is: what it may start is limited for these tests alone.
const NOBODY_ELSE: u32 = 61_999;

fn memory(bytes: u64) -> ResourceLimits {
    ResourceLimits { memory_bytes: Some(bytes), ..ResourceLimits::default() }
}

fn pids(count: u64) -> ResourceLimits {
    ResourceLimits { pids: Some(count), ..ResourceLimits::default() }
}

fn cpu(millis: u64) -> ResourceLimits {
    ResourceLimits { cpu_millis: Some(millis), ..ResourceLimits::default() }
}

fn limited(limits: ResourceLimits, launch: Launch) -> Launch {
    Launch { limits, ..launch }
}

/// Whether these limits are held by control groups here; says what is left out otherwise.
fn held_by_cgroups(host: &Host, limits: &ResourceLimits) -> bool {
    for status in host.processes.limits_in_force(limits, false) {
        if status.enforced != Enforced::Cgroup {
            let text = format!("{} is not limited by a control group here: {}", status.name, status.enforced);
            assert!(std::env::var_os("MAINSTAY_REQUIRE_CGROUPS").is_none_or(|value| value != "1"), "{text}");
            eprintln!("left out: {text}");
            return false;
        }
    }
    true
}

/// A file of the group that holds a process, in whichever version the controller is.
fn group_file(pid: u32, controller: &str, file: &str) -> PathBuf {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let in_hierarchy = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (names, path) = rest.split_once(':')?;
        if names.is_empty() {
            return Some(format!("/sys/fs/cgroup{path}/{file}"));
        }
        names
            .split(',')
            .any(|name| name == controller)
            .then(|| format!("/sys/fs/cgroup/{names}{path}/{file}"))
    };
    let found = groups.lines().filter_map(in_hierarchy).map(PathBuf::from).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("no {file} for {pid}: {groups}"))
}

/// The number after a word in such a file.
fn counter(file: &Path, word: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {word} in {text}")).parse().unwrap()
}

/// Groups of the host in this process, in every hierarchy, and leaves for hosts.
fn groups_of(host: u32) -> Vec<String> {
    let name = format!("mainstay-contract-{host}-*");
    let output = Command::new("find")
        .args(["/sys/fs/cgroup", "-type", "d", "(", "-name", &name, "-o", "-name", "mainstay-host", ")"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Shuts the host down and sees that it leaves no group.
#[track_caller]
fn end(mut host: Host) {
    host.close();
    assert_eq!(groups_of(std::process::id()), Vec::<String>::new());
}

#[track_caller]
fn expect_exit(host: &mut Host, spawn: SpawnId, expected: Exit) {
    match host.next_of(spawn) {
        News::Exited(_, exit, 0) => assert_eq!(exit, expected),
        News::Exited(_, exit, _) => {
            assert_eq!(exit, expected);
            assert_eq!(host.next_of(spawn), News::Ended(spawn));
        }
        other @ (News::Launched(..) | News::Failed(..) | News::Ended(_)) => panic!("{other:?}"),
    }
}

/// `misbehave` where every user may execute it.
fn public_misbehave(host: &Host) -> String {
    let dir = host.dir.path();
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = dir.join("misbehave");
    std::fs::copy(misbehave_path(), &copy).unwrap();
    copy.to_str().unwrap().to_owned()
}

fn as_nobody_else(what: Launch) -> Launch {
    Launch { identity: Some(Identity { uid: NOBODY_ELSE, gid: NOBODY_ELSE, groups: Vec::new() }), ..what }
}

#[test]
fn a_fork_bomb_is_held() {
    const MOST: usize = 32;
    let mut host = Host::start(UseCgroups::IfPossible);
    if held_by_cgroups(&host, &pids(MOST as u64)) {
        let program = public_misbehave(&host);
        for _ in 0..3 {
            // The user's own limit is there in case the group's is not; it does not bind root.
            let most = if mainstay_os::is_root() { 400 } else { 5000 };
            let script = format!("ulimit -u {most} 2>/dev/null || ulimit -p {most}; exec \"$0\" fork-bomb");
            let bomb = launch("/bin/sh", &["-c", &script, &program]);
            let bomb = if mainstay_os::is_root() { as_nobody_else(bomb) } else { bomb };
            let (bomb, pid) = host.run("bomb", limited(pids(MOST as u64), bomb));
            assert_eq!(host.lines_of(bomb, 1), ["refused"]);
            let refusals = group_file(pid, "pids", "pids.events");
            let before = counter(&refusals, "max");
            let mut most = 0;
            let begin = Instant::now();
            // It goes on trying; the host and the machine go on working.
            for round in 0.. {
                assert!(begin.elapsed() < LIMIT, "it has stopped trying");
                most = most.max(host.processes.pids(bomb).len());
                assert_eq!(host.run_to_end("other", launch("true", &[])), (Exit::Code(0), 0));
                if round >= 5 && counter(&refusals, "max") >= before + 50 {
                    break;
                }
            }
            assert!(most > MOST / 2, "{most} processes are no bomb");
            assert!(most <= MOST, "{most} processes");
            let family = host.processes.pids(bomb);
            let begin = Instant::now();
            host.processes.kill(bomb);
            expect_exit(&mut host, bomb, KILLED);
            assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
            // The last ones have left the group and are on their way out.
            wait_for("all of it to end", LIMIT, || !family.iter().any(|pid| is_alive(*pid)));
        }
    }
    end(host);
}

#[test]
fn a_hog_of_memory_is_recognised_when_it_is_killed() {
    let mut host = Host::start(UseCgroups::IfPossible);
    if held_by_cgroups(&host, &memory(64 * MIB)) {
        for _ in 0..3 {
            let (hog, _) = host.run("hog", limited(memory(64 * MIB), misbehave(&["eat-memory", "512"])));
            expect_exit(&mut host, hog, Exit::OutOfMemory);
        }
        // A higher limit for the same replica, as after a reload: the same group, other values, both ways.
        for (limit, fits) in [(256, true), (64, false), (256, true)] {
            let (hog, _) = host.run("hog", limited(memory(limit * MIB), misbehave(&["eat-memory", "128"])));
            if fits {
                assert_eq!(host.lines_of(hog, 1), ["eaten"]);
                host.processes.kill(hog);
                expect_exit(&mut host, hog, KILLED);
            } else {
                expect_exit(&mut host, hog, Exit::OutOfMemory);
            }
        }
        // And without one again.
        let (free, _) = host.run("hog", misbehave(&["eat-memory", "300"]));
        assert_eq!(host.lines_of(free, 1), ["eaten"]);
        host.processes.kill(free);
        expect_exit(&mut host, free, KILLED);
        assert_eq!(host.processes.take_notices(), Vec::<String>::new());
    }
    end(host);
}

#[test]
fn a_killed_child_is_a_notice_and_other_kills_are_what_they_are() {
    let mut host = Host::start(UseCgroups::IfPossible);
    if held_by_cgroups(&host, &memory(64 * MIB)) {
        let parent = || limited(memory(64 * MIB), misbehave(&["eat-memory", "512", "--in-child"]));
        let (spawn, pid) = host.run("hog", parent());
        let mut notices = Vec::new();
        let begin = Instant::now();
        while notices.is_empty() {
            assert!(begin.elapsed() < LIMIT, "no notice");
            let mut once = false;
            host.until("a moment to pass", || std::mem::replace(&mut once, true));
            notices = host.processes.take_notices();
        }
        assert_eq!(notices.len(), 1, "{notices:?}");
        assert!(notices[0].contains("killed a process of hog for lack of memory"), "{notices:?}");
        assert!(is_alive(pid), "the program lives on");
        assert!(host.lines_of(spawn, 1)[0].contains("signal: 9"));
        // Told once; a later kill by somebody else is not for lack of memory.
        assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
        expect_exit(&mut host, spawn, KILLED);
        // Nor is our own, whatever the counter says.
        let (spawn, _) = host.run("hog", parent());
        assert!(host.lines_of(spawn, 1)[0].contains("signal: 9"));
        host.processes.kill(spawn);
        expect_exit(&mut host, spawn, KILLED);
        host.processes.take_notices();
    }
    end(host);
}

#[test]
fn a_hog_of_the_processor_is_held_back() {
    let mut host = Host::start(UseCgroups::IfPossible);
    if held_by_cgroups(&host, &cpu(200)) {
        for _ in 0..2 {
            let (hog, pid) = host.run("hog", limited(cpu(200), misbehave(&["burn"])));
            assert_eq!(host.lines_of(hog, 1), ["ready"]);
            let stat = group_file(pid, "cpu", "cpu.stat");
            let begun = (counter(&stat, "nr_periods"), mainstay_os::tree_usage(&[pid])[0].unwrap().cpu);
            let throttled = counter(&stat, "nr_throttled");
            host.until("it to be held back", || counter(&stat, "nr_throttled") >= throttled + 20);
            let used = mainstay_os::tree_usage(&[pid])[0].unwrap().cpu - begun.1;
            // By the kernel's own periods of 100 ms, so that a busy machine makes no difference.
            let periods = u32::try_from(counter(&stat, "nr_periods") - begun.0).unwrap();
            let share = used.as_secs_f64() / (Duration::from_millis(100) * (periods + 1)).as_secs_f64();
            assert!(share < 0.35, "{share} of a core in {periods} periods");
            assert!(share > 0.05, "{share} of a core in {periods} periods");
            host.processes.kill(hog);
            expect_exit(&mut host, hog, KILLED);
        }
    }
    end(host);
}

#[test]
fn all_limits_together_and_overlapping_starts() {
    let all = ResourceLimits {
        open_files: Some(100),
        memory_bytes: Some(128 * MIB),
        pids: Some(50),
        cpu_millis: Some(1500),
    };
    let mut host = Host::start(UseCgroups::IfPossible);
    if held_by_cgroups(&host, &ResourceLimits { open_files: None, ..all }) {
        let started: Vec<(SpawnId, u32)> =
            (0..3).map(|_| host.run("web", limited(all, launch("sleep", &["600"])))).collect();
        let files: Vec<PathBuf> =
            started.iter().map(|(_, pid)| group_file(*pid, "pids", "pids.max")).collect();
        assert!(files[0] != files[1] && files[1] != files[2] && files[0] != files[2], "{files:?}");
        for file in &files {
            assert_eq!(std::fs::read_to_string(file).unwrap(), "50\n");
        }
        for (spawn, _) in started {
            host.processes.kill(spawn);
            expect_exit(&mut host, spawn, KILLED);
        }
    }
    end(host);
}

#[test]
fn without_control_groups_processes_carry_what_they_can() {
    let mut host = Host::start(UseCgroups::Never);
    let all = ResourceLimits {
        open_files: Some(100),
        memory_bytes: Some(64 * MIB),
        pids: Some(20),
        cpu_millis: Some(200),
    };
    let words = |switches_user: bool| -> Vec<String> {
        let statuses = host.processes.limits_in_force(&all, switches_user);
        statuses.iter().map(|status| format!("{} {}", status.name, status.enforced)).collect()
    };
    let refused = "not in force: control groups are not to be used";
    assert_eq!(
        words(true),
        [
            "open_files by rlimit, per process".to_owned(),
            "memory by rlimit, per process".to_owned(),
            "pids by rlimit, per user".to_owned(),
            format!("cpu {refused}; processor time is limited by control groups alone"),
        ]
    );
    let own_user = "without a control group only services with a user of their own have it";
    assert_eq!(words(false)[2], format!("pids {refused}; {own_user}"));
    let user = host.processes.limits_in_force(&pids(20), true).remove(0);
    assert_eq!((user.value, user.enforced), (20, Enforced::Rlimit { per: RlimitScope::User }));

    let (spawn, pid) = host.run("hog", limited(all, misbehave(&["eat-memory", "256"])));
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    assert_eq!(host.stdout_of(spawn), "refused\n", "{limits}");
    expect_exit(&mut host, spawn, Exit::Code(1));
    if mainstay_os::is_root() {
        let what = as_nobody_else(launch("/bin/cat", &["/proc/self/limits"]));
        let text = host.stdout_of_run("a", limited(all, what));
        let line = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_ascii_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(line("Max data size"), ["67108864", "67108864"]);
        assert_eq!(line("Max processes"), ["20", "20"]);
        assert_eq!(line("Max open files"), ["100", "100"]);
    }
    host.shutdown();
}

#[test]
fn a_check_says_what_a_host_would() {
    assert_eq!(mainstay_os::limits_in_force_here(&ResourceLimits::default(), false), []);
    let limits = ResourceLimits { memory_bytes: Some(MIB), cpu_millis: Some(500), ..pids(3) };
    let by_groups = |statuses: Vec<LimitStatus>| -> Vec<bool> {
        statuses.iter().map(|status| status.enforced == Enforced::Cgroup).collect()
    };
    let expected = {
        let _alone = alone();
        by_groups(mainstay_os::limits_in_force_here(&limits, false))
    };
    let host = Host::start(UseCgroups::IfPossible);
    assert_eq!(by_groups(host.processes.limits_in_force(&limits, false)), expected);
    end(host);
}

/// What is in force where this runs, for the suite that runs it in places of its choice.
#[test]
#[ignore = "prints, and tests nothing by itself"]
fn what_is_in_force() {
    let host = Host::start(UseCgroups::IfPossible);
    let limits = ResourceLimits { memory_bytes: Some(MIB), cpu_millis: Some(500), ..pids(3) };
    for status in host.processes.limits_in_force(&limits, false) {
        println!("{}: {}", status.name, status.enforced);
    }
    end(host);
}

const HOST_DIR: &str = "LIMITS_HOST_DIR";

/// A host in a process of its own with a limited service: prints whether the limit is held by a group, and waits for its
/// end.
#[test]
#[ignore = "run by the test that kills it"]
fn as_a_host_of_its_own() {
    let Some(dir) = std::env::var_os(HOST_DIR) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut processes = Processes::start(options(UseCgroups::IfPossible, dir.into())).unwrap();
        let limits = ResourceLimits { memory_bytes: Some(64 * MIB), ..pids(20) };
        let held = processes.limits_in_force(&limits, false);
        processes.launch(&replica("a"), SpawnId(1), limited(limits, launch("sleep", &["600"])));
        let event = std::future::poll_fn(|cx| processes.poll_event(cx)).await;
        let ProcessEvent::Launched { pid, .. } = event else { panic!("{event:?}") };
        println!("launcher {}", processes.launcher_pid().unwrap());
        println!("service {pid}");
        println!("held {}", held.iter().all(|status| status.enforced == Enforced::Cgroup));
        std::future::pending::<()>().await;
    });
}

#[test]
fn a_dead_host_leaves_no_group_behind() {
    let _alone = alone();
    for launcher_too in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "as_a_host_of_its_own", "--ignored", "--nocapture"]);
        let mut host =
            command.env(HOST_DIR, dir.path()).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(host.stdout.take().unwrap()));
        let mut word = |name: &str| {
            let mut values = lines.by_ref().map_while(Result::ok);
            values.find_map(|line| Some(line.split_once(name)?.1.trim().to_owned())).expect(name)
        };
        let launcher: u32 = word("launcher ").parse().unwrap();
        let service: u32 = word("service ").parse().unwrap();
        if word("held ") == "true" {
            assert!(!groups_of(host.id()).is_empty());
        } else {
            eprintln!(
                "left out: its limits are not held by control groups, so there may be no group to remove"
            );
        }
        if launcher_too {
            let kill = |signal: &str, pid: u32| {
                assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
            };
            kill("-STOP", host.id());
            kill("-9", launcher);
        }
        host.kill().unwrap();
        host.wait().unwrap();
        if launcher_too {
            assert!(is_alive(service));
            let options = options(UseCgroups::IfPossible, dir.path().to_owned());
            let ended = mainstay_os::end_leftovers_of_earlier_host(&options).unwrap();
            assert_eq!(ended.iter().map(|leftover| leftover.pid).collect::<Vec<_>>(), [service]);
        }
        wait_for("the service to end", LIMIT, || !is_alive(service));
        wait_for("the launcher to end", LIMIT, || !is_alive(launcher));
        assert_eq!(groups_of(host.id()), Vec::<String>::new());
    }
}
