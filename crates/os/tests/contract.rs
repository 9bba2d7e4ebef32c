//! What every body of process trees promises: one set of stories, told by Linux with control groups, by Linux without, by
//! Windows, and by the body in memory.

mod common;

use std::collections::HashMap;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::{Host, News, launch, misbehave, replica};
use mainstay_os::fake::{Behaviour, FakeProcesses, OnStop};
use mainstay_os::{ProcessEvent, ProcessTrees, UseCgroups};
use mainstay_types::{Exit, LaunchStep, SpawnId, StopSignal};

/// Programs that every body can run.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Program {
    Exits(i32),
    Sleeps,
    /// With one child that sleeps, too.
    SleepsInTwo,
    IgnoresTerm,
    LeavesOneBehind,
    Missing,
}

/// A body of process trees, as the stories see it.
trait Body {
    fn launch(&mut self, spawn: SpawnId, program: Program);
    fn signal(&mut self, spawn: SpawnId, signal: StopSignal);
    fn signal_main(&mut self, spawn: SpawnId, signal: StopSignal);
    fn kill(&mut self, spawn: SpawnId);
    /// Waits until a running program is ready to be signalled.
    fn settle(&mut self, spawn: SpawnId, program: Program);
    fn next(&mut self) -> News;

    /// How a program that does not listen ends by this signal; `None` where there is no such signal.
    fn ended_by(&self, signal: StopSignal) -> Option<Exit> {
        Some(signalled(signal.number()))
    }

    /// Whether one process of a tree can be told this alone.
    fn tells_one_alone(&self, _signal: StopSignal) -> bool {
        true
    }
}

struct Real(Host);

impl Body for Real {
    fn launch(&mut self, spawn: SpawnId, program: Program) {
        let what = match program {
            Program::Exits(code) => misbehave(&["exit", &code.to_string()]),
            Program::Sleeps if cfg!(windows) => misbehave(&["sleep"]),
            Program::Sleeps => launch("sleep", &["600"]),
            Program::SleepsInTwo => misbehave(&["grandchildren", "1"]),
            Program::IgnoresTerm => misbehave(&["ignore-term"]),
            Program::LeavesOneBehind => misbehave(&["daemonise"]),
            Program::Missing => launch("/no/such/program", &[]),
        };
        self.0.processes.launch(&replica("web"), spawn, what);
    }

    fn signal(&mut self, spawn: SpawnId, signal: StopSignal) {
        self.0.processes.signal(spawn, signal);
    }

    fn signal_main(&mut self, spawn: SpawnId, signal: StopSignal) {
        self.0.processes.signal_main(spawn, signal);
    }

    fn kill(&mut self, spawn: SpawnId) {
        self.0.processes.kill(spawn);
    }

    fn settle(&mut self, spawn: SpawnId, program: Program) {
        match program {
            Program::IgnoresTerm => assert_eq!(self.0.lines_of(spawn, 1), ["ready"]),
            Program::SleepsInTwo => assert_eq!(self.0.lines_of(spawn, 2)[1], "ready"),
            Program::Exits(_) | Program::Sleeps | Program::LeavesOneBehind | Program::Missing => {}
        }
    }

    fn next(&mut self) -> News {
        self.0.next()
    }

    #[cfg(windows)]
    fn ended_by(&self, signal: StopSignal) -> Option<Exit> {
        match signal {
            // STATUS_CONTROL_C_EXIT of a program without a handler; Wine gives 0.
            StopSignal::Term | StopSignal::Int if common::is_wine() => Some(Exit::Code(0)),
            StopSignal::Term | StopSignal::Int => Some(Exit::Code(0xC000_013A_u32.cast_signed())),
            StopSignal::Kill => Some(Exit::Code(0x4001_0004)),
            // To be heard by who has windows, or has set a handler.
            StopSignal::Hup | StopSignal::Quit | StopSignal::Usr1 | StopSignal::Usr2 => None,
        }
    }

    #[cfg(windows)]
    fn tells_one_alone(&self, signal: StopSignal) -> bool {
        signal == StopSignal::Kill
    }
}

struct Fake(FakeProcesses, HashMap<SpawnId, Program>);

impl Body for Fake {
    fn launch(&mut self, spawn: SpawnId, program: Program) {
        let behaviour = match program {
            Program::Exits(code) => Behaviour::ends_after(Duration::from_millis(3), Exit::Code(code)),
            Program::Sleeps => Behaviour::good(),
            Program::SleepsInTwo => Behaviour { leftovers: 1, ..Behaviour::good() },
            Program::IgnoresTerm => Behaviour { on_stop: OnStop::Ignores, ..Behaviour::good() },
            Program::LeavesOneBehind => Behaviour::daemonises(1),
            Program::Missing => Behaviour::launch_fails(),
        };
        self.0.set_behaviour(&replica("web"), behaviour);
        self.1.insert(spawn, program);
        self.0.launch(&replica("web"), spawn, launch("x", &[]));
    }

    fn signal(&mut self, spawn: SpawnId, signal: StopSignal) {
        self.0.signal(spawn, signal);
    }

    fn signal_main(&mut self, spawn: SpawnId, signal: StopSignal) {
        self.0.signal_main(spawn, signal);
    }

    fn kill(&mut self, spawn: SpawnId) {
        self.0.kill(spawn);
    }

    fn settle(&mut self, _spawn: SpawnId, _program: Program) {}

    fn next(&mut self) -> News {
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            match self.0.poll_event(&mut cx) {
                Poll::Ready(ProcessEvent::Launched { spawn, pid, output: () }) => {
                    return News::Launched(spawn, pid);
                }
                Poll::Ready(ProcessEvent::LaunchFailed { spawn, failure }) => {
                    return News::Failed(spawn, failure);
                }
                Poll::Ready(ProcessEvent::Exited { spawn, exit, leftovers }) => {
                    return News::Exited(spawn, exit, leftovers);
                }
                Poll::Ready(ProcessEvent::TreeEnded { spawn }) => return News::Ended(spawn),
                Poll::Pending => {
                    let next = self.0.next_event_at().expect("something is to come");
                    self.0.advance(next);
                }
            }
        }
    }
}

fn signalled(signal: i32) -> Exit {
    Exit::Signal { signal, core_dumped: false }
}

#[track_caller]
fn expect_launched(body: &mut dyn Body, spawn: SpawnId) {
    let news = body.next();
    assert!(matches!(news, News::Launched(of, pid) if of == spawn && pid > 1), "{news:?}");
}

/// A kill may show as one end or two.
#[track_caller]
fn expect_killed(body: &mut dyn Body, spawn: SpawnId, exit: Exit) {
    match body.next() {
        News::Exited(of, got, 0) => assert_eq!((of, got), (spawn, exit)),
        News::Exited(of, got, _) => {
            assert_eq!((of, got), (spawn, exit));
            assert_eq!(body.next(), News::Ended(spawn));
        }
        other @ (News::Launched(..) | News::Failed(..) | News::Ended(_)) => panic!("{other:?}"),
    }
}

fn stories(body: &mut dyn Body) {
    let mut spawns = (1..).map(SpawnId);
    let mut fresh = move || spawns.next().unwrap();

    for code in [0, 3, 255] {
        let spawn = fresh();
        body.launch(spawn, Program::Exits(code));
        expect_launched(body, spawn);
        assert_eq!(body.next(), News::Exited(spawn, Exit::Code(code), 0));
    }

    let spawn = fresh();
    body.launch(spawn, Program::Missing);
    match body.next() {
        News::Failed(of, failure) => {
            assert_eq!((of, failure.step, failure.errno), (spawn, LaunchStep::Exec, 2));
            assert!(failure.path.is_some());
        }
        other @ (News::Launched(..) | News::Exited(..) | News::Ended(_)) => panic!("{other:?}"),
    }

    let killed = body.ended_by(StopSignal::Kill).unwrap();
    for signal in [StopSignal::Term, StopSignal::Int, StopSignal::Hup, StopSignal::Kill] {
        let Some(exit) = body.ended_by(signal) else { continue };
        let spawn = fresh();
        body.launch(spawn, Program::Sleeps);
        expect_launched(body, spawn);
        body.signal(spawn, signal);
        assert_eq!(body.next(), News::Exited(spawn, exit, 0));
        // The tree is gone: nothing happens.
        body.signal(spawn, signal);
        body.kill(spawn);
    }

    let spawn = fresh();
    body.launch(spawn, Program::IgnoresTerm);
    expect_launched(body, spawn);
    body.settle(spawn, Program::IgnoresTerm);
    body.signal(spawn, StopSignal::Term);
    body.kill(spawn);
    expect_killed(body, spawn, killed);

    let spawn = fresh();
    body.launch(spawn, Program::LeavesOneBehind);
    expect_launched(body, spawn);
    assert_eq!(body.next(), News::Exited(spawn, Exit::Code(0), 1));
    body.kill(spawn);
    assert_eq!(body.next(), News::Ended(spawn));

    let spawn = fresh();
    body.launch(spawn, Program::LeavesOneBehind);
    expect_launched(body, spawn);
    assert_eq!(body.next(), News::Exited(spawn, Exit::Code(0), 1));
    body.signal(spawn, StopSignal::Term);
    assert_eq!(body.next(), News::Ended(spawn));

    for signal in [StopSignal::Term, StopSignal::Kill] {
        let Some(exit) = body.ended_by(signal).filter(|_| body.tells_one_alone(signal)) else { continue };
        let spawn = fresh();
        body.launch(spawn, Program::SleepsInTwo);
        expect_launched(body, spawn);
        body.settle(spawn, Program::SleepsInTwo);
        body.signal_main(spawn, signal);
        // The other one has not heard of it.
        assert_eq!(body.next(), News::Exited(spawn, exit, 1));
        // And there is no main process any more.
        body.signal_main(spawn, signal);
        body.kill(spawn);
        assert_eq!(body.next(), News::Ended(spawn));
        body.signal_main(spawn, signal);
    }
    let spawn = fresh();
    body.launch(spawn, Program::Sleeps);
    body.signal_main(spawn, StopSignal::Kill);
    expect_launched(body, spawn);
    assert_eq!(body.next(), News::Exited(spawn, killed, 0));

    // What is asked for before there is a process is done as soon as there is one.
    let spawn = fresh();
    body.launch(spawn, Program::Sleeps);
    body.kill(spawn);
    expect_launched(body, spawn);
    assert_eq!(body.next(), News::Exited(spawn, killed, 0));
    let spawn = fresh();
    body.launch(spawn, Program::Missing);
    body.kill(spawn);
    let news = body.next();
    match &news {
        News::Failed(of, _) => assert_eq!(*of, spawn),
        // A kill may reach it before it has tried.
        News::Launched(of, _) => {
            assert_eq!(*of, spawn);
            assert_eq!(body.next(), News::Exited(spawn, killed, 0));
        }
        News::Exited(..) | News::Ended(_) => panic!("{news:?}"),
    }
}

#[cfg(target_os = "linux")]
#[test]
fn linux_with_control_groups() {
    let mut body = Real(Host::start(UseCgroups::IfPossible));
    stories(&mut body);
    body.0.shutdown();
}

#[cfg(target_os = "linux")]
#[test]
fn linux_without_control_groups() {
    let mut body = Real(Host::start(UseCgroups::Never));
    stories(&mut body);
    body.0.shutdown();
}

#[cfg(windows)]
#[test]
fn windows() {
    let mut body = Real(Host::start(UseCgroups::IfPossible));
    stories(&mut body);
    body.0.shutdown();
}

#[test]
fn in_memory() {
    stories(&mut Fake(FakeProcesses::new(7), HashMap::new()));
}
