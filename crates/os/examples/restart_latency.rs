//! Measures process trees against a bare loop: from a child's death to the next child's first instruction, and starting
//! and stopping many. `cargo run --release -p mainstay-os --example restart_latency [ROUNDS [MANY]]`
//!
//! The child is this binary: its first act is to send the clock's reading and its pid on a datagram socket, and then it
//! ends ("exit") or waits to be killed ("kill"). Death is the moment of its last message, or of the kill.

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("there are no process trees here yet");
}

#[cfg(target_os = "linux")]
fn main() {
    linux::main();
}

#[cfg(target_os = "linux")]
mod linux {
    use std::future::poll_fn;
    use std::os::unix::net::UnixDatagram;
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use mainstay_os::{Launch, Output, ProcessEvent, ProcessTrees, Processes, ProcessesOptions, UseCgroups};
    use mainstay_types::{ReplicaId, ServiceName, SpawnId, StackName, StopSignal};
    use rustix::time::{ClockId, clock_gettime};
    use tokio::runtime::Runtime;

    pub(super) fn main() {
        mainstay_os::run_launcher_if_asked();
        let args: Vec<String> = std::env::args().collect();
        if args.get(1).is_some_and(|word| word == "child") {
            return child(&args[2], args[3] == "exit");
        }
        let number =
            |place: usize, default| args.get(place).and_then(|text| text.parse().ok()).unwrap_or(default);
        measure(number(1, 300), number(2, 1000));
    }

    fn now() -> u64 {
        let now = clock_gettime(ClockId::Monotonic);
        u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
    }

    fn child(socket: &str, exits: bool) {
        let born = now();
        let out = UnixDatagram::unbound().unwrap();
        let mut message = [0; 24];
        message[..8].copy_from_slice(&born.to_ne_bytes());
        message[8..16].copy_from_slice(&u64::from(std::process::id()).to_ne_bytes());
        // The last word before the end.
        message[16..].copy_from_slice(&now().to_ne_bytes());
        out.send_to(&message, socket).unwrap();
        if exits {
            std::process::exit(1);
        }
        std::thread::sleep(Duration::from_secs(600));
    }

    /// Birth, pid, last word.
    fn receive(socket: &UnixDatagram) -> (u64, u64, u64) {
        let mut message = [0; 24];
        assert_eq!(socket.recv(&mut message).unwrap(), 24);
        let word = |at: usize| u64::from_ne_bytes(message[at..at + 8].try_into().unwrap());
        (word(0), word(8), word(16))
    }

    fn report(what: &str, mut times: Vec<u64>) -> f64 {
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
        println!("{what:34} median {:6.0} us   p90 {:6.0} us   p99 {:6.0} us", at(0.5), at(0.9), at(0.99));
        at(0.5)
    }

    fn kill(pid: u64) -> u64 {
        std::thread::sleep(Duration::from_millis(2));
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        let death = now();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        death
    }

    fn bare(socket: &UnixDatagram, path: &Path, mode: &str, rounds: u64) -> Vec<u64> {
        let exe = std::env::current_exe().unwrap();
        let mut times = Vec::new();
        let mut death = None;
        for _ in 0..=rounds {
            let mut command = Command::new(&exe);
            command.arg("child").arg(path).arg(mode).env_clear();
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            let (born, pid, last) = receive(socket);
            times.extend(death.map(|death| born - death));
            death = Some(if mode == "kill" { kill(pid) } else { last });
            child.wait().unwrap();
        }
        times
    }

    fn options(cgroups: UseCgroups, dir: &Path) -> ProcessesOptions {
        ProcessesOptions {
            stack: StackName::parse("bench").unwrap(),
            state_dir: dir.to_owned(),
            launcher_exe: "/proc/self/exe".into(),
            cgroups,
        }
    }

    fn replica(number: u64) -> ReplicaId {
        ReplicaId { service: ServiceName::parse(&format!("s{number}")).unwrap(), index: 0 }
    }

    fn launch(program: &Path, args: &[&str]) -> Launch {
        Launch {
            program: program.into(),
            args: args.iter().map(Into::into).collect(),
            env: Vec::new(),
            workdir: "/".into(),
            identity: None,
            limits: mainstay_os::ResourceLimits::default(),
            handed: Vec::new(),
            listen_names: Vec::new(),
        }
    }

    async fn next(processes: &mut Processes) -> ProcessEvent<Output> {
        poll_fn(|cx| processes.poll_event(cx)).await
    }

    fn trees(
        runtime: &Runtime,
        cgroups: UseCgroups,
        socket: &UnixDatagram,
        path: &Path,
        mode: &str,
        rounds: u64,
    ) -> Vec<u64> {
        runtime.block_on(async {
            let mut processes = Processes::start(options(cgroups, path.parent().unwrap())).unwrap();
            let exe = std::env::current_exe().unwrap();
            let mut times = Vec::new();
            let mut death = None;
            for round in 0..=rounds {
                processes.launch(
                    &replica(0),
                    SpawnId(round),
                    launch(&exe, &["child", path.to_str().unwrap(), mode]),
                );
                loop {
                    match next(&mut processes).await {
                        ProcessEvent::Launched { .. } if mode == "kill" => {
                            let (born, pid, _) = receive(socket);
                            times.extend(death.map(|death| born - death));
                            death = Some(kill(pid));
                        }
                        ProcessEvent::Launched { .. } => {}
                        ProcessEvent::Exited { .. } => break,
                        event @ (ProcessEvent::LaunchFailed { .. } | ProcessEvent::TreeEnded { .. }) => {
                            panic!("{event:?}")
                        }
                    }
                }
                if mode == "exit" {
                    let (born, _, last) = receive(socket);
                    times.extend(death.map(|death| born - death));
                    death = Some(last);
                }
            }
            processes.shutdown().await;
            times
        })
    }

    fn start_and_stop(runtime: &Runtime, cgroups: UseCgroups, dir: &Path, many: u64) {
        runtime.block_on(async {
            let begin = Instant::now();
            let mut processes = Processes::start(options(cgroups, dir)).unwrap();
            let ready = begin.elapsed();
            let begin = Instant::now();
            for number in 0..many {
                processes.launch(&replica(number), SpawnId(number), launch(Path::new("/bin/sleep"), &["600"]));
            }
            let asked = begin.elapsed();
            let mut outputs = Vec::new();
            while outputs.len() < many as usize {
                match next(&mut processes).await {
                    ProcessEvent::Launched { output, .. } => outputs.push(output),
                    event @ (ProcessEvent::LaunchFailed { .. }
                    | ProcessEvent::Exited { .. }
                    | ProcessEvent::TreeEnded { .. }) => panic!("{event:?}"),
                }
            }
            let started = begin.elapsed();
            let begin = Instant::now();
            for number in 0..many {
                processes.signal(SpawnId(number), StopSignal::Term);
            }
            for _ in 0..many {
                let event = next(&mut processes).await;
                assert!(matches!(event, ProcessEvent::Exited { .. }), "{event:?}");
            }
            let stopped = begin.elapsed();
            let begin = Instant::now();
            processes.shutdown().await;
            println!(
                "{many} x sleep, {cgroups:?}: ready in {ready:.1?}, asked in {asked:.1?}, started in {started:.1?}, \
                 stopped in {stopped:.1?}, shut down in {:.1?}",
                begin.elapsed()
            );
        });
    }

    fn bare_start(many: u64) {
        let begin = Instant::now();
        let mut children: Vec<_> =
            (0..many).map(|_| Command::new("/bin/sleep").arg("600").env_clear().spawn().unwrap()).collect();
        let started = begin.elapsed();
        let begin = Instant::now();
        for child in &mut children {
            child.kill().unwrap();
        }
        for child in &mut children {
            child.wait().unwrap();
        }
        println!("{many} x sleep, bare: started in {started:.1?}, stopped in {:.1?}", begin.elapsed());
    }

    fn measure(rounds: u64, many: u64) {
        mainstay_os::raise_open_files_limit().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clock");
        let socket = UnixDatagram::bind(&path).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for mode in ["exit", "kill"] {
            let limit = report(&format!("{mode}, bare loop"), bare(&socket, &path, mode, rounds));
            for cgroups in [UseCgroups::IfPossible, UseCgroups::Never] {
                let times = trees(&runtime, cgroups, &socket, &path, mode, rounds);
                let median = report(&format!("{mode}, process trees, {cgroups:?}"), times);
                println!("{:34} ratio {:.2}", "", median / limit);
            }
        }
        bare_start(many);
        for cgroups in [UseCgroups::IfPossible, UseCgroups::Never] {
            start_and_stop(&runtime, cgroups, dir.path(), many);
        }
    }
}
