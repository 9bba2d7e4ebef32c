//! A small service that is whole: it starts, tells the time, reads its settings again, pauses, and stops in order.
//!
//! In a console: `cargo run -p mainstay-service --example clock`, Ctrl-C ends it. Under systemd, the SCM of Windows or a mainstay
//! host it is the same program.
//!
//! ```text
//! clock [--settings FILE] [--prepare STEPS]    runs; FILE holds the words it says, STEPS makes the start longer
//! clock install [--user] [ARGUMENT...]         registers it with systemd, with these arguments, and starts it
//! clock uninstall [--user]                     stops it and takes the registration away
//! ```

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use mainstay_service::{Context, Event, Failure, Installation, Level, Log, Program, Scope, Service};

/// Between two ticks.
const TICK: Duration = Duration::from_secs(1);
const STOP_WITHIN: Duration = Duration::from_secs(10);

struct Clock {
    settings_path: Option<PathBuf>,
    prepare_steps: u32,
    words: String,
    ticks: u64,
    paused: bool,
}

impl Clock {
    fn read_settings(&mut self) -> Result<(), Failure> {
        if let Some(path) = &self.settings_path {
            self.words = std::fs::read_to_string(path)?.trim().to_owned();
        }
        Ok(())
    }
}

impl Service for Clock {
    fn start(&mut self, context: &Context) -> Result<(), Failure> {
        self.read_settings()?;
        for step in 1..=self.prepare_steps {
            if context.is_stopping() {
                return Ok(());
            }
            context.progress(&format!("winding up, step {step}"), Duration::from_secs(5));
            sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn run(&mut self, context: &Context) -> Result<(), Failure> {
        context.status(&format!("says {}", self.words));
        loop {
            match context.next_event(TICK) {
                None if self.paused => {}
                None => {
                    self.ticks += 1;
                    let fields = [("ticks", &*self.ticks.to_string()), ("words", &*self.words)];
                    context.log().write(Level::Info, "tick", &fields);
                }
                Some(Event::Reload) => match self.read_settings() {
                    Ok(()) => context.status(&format!("says {}", self.words)),
                    // What it had goes on to count.
                    Err(failure) => context.status(&format!("cannot read its settings again: {failure}")),
                },
                Some(Event::Pause) => self.paused = true,
                Some(Event::Continue) => self.paused = false,
                Some(Event::Stop) => return Ok(()),
                Some(event @ (Event::Session { .. } | Event::Power(_))) => {
                    context.log().info(&format!("{event:?}"));
                }
                Some(_) => {}
            }
        }
    }

    fn stop(&mut self, context: &Context) -> Result<(), Failure> {
        let left = context.time_left().map_or_else(String::new, |left| format!("{}", left.as_secs()));
        context.log().write(
            Level::Info,
            "wound down",
            &[("ticks", &self.ticks.to_string()), ("left", &left)],
        );
        Ok(())
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((verb, rest)) if verb == "install" || verb == "uninstall" => register(verb, rest),
        Some(_) | None => run(arguments),
    }
}

/// `install` and `uninstall`.
fn register(verb: &str, arguments: &[String]) -> ExitCode {
    let own = arguments.first().is_some_and(|first| first == "--user");
    let scope = if own { Scope::User } else { Scope::System };
    let installation = Installation::new("clock")
        .description("tells the time")
        .arguments(&arguments[usize::from(own)..])
        .scope(scope)
        .stop_within(STOP_WITHIN)
        .watchdog(Duration::from_secs(30));
    let done = match verb {
        "install" => installation.install().and_then(|done| installation.start_now().map(|()| done)),
        _ => installation.uninstall(),
    };
    match done {
        Ok(words) => {
            words.iter().for_each(|words| println!("{words}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}", Failure::from(error));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Vec<String>) -> ExitCode {
    let mut clock =
        Clock { settings_path: None, prepare_steps: 0, words: "tick".to_owned(), ticks: 0, paused: false };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let value = arguments.next();
        match (argument.as_str(), value) {
            ("--settings", Some(path)) => clock.settings_path = Some(path.into()),
            ("--prepare", Some(steps)) if steps.parse::<u32>().is_ok() => {
                clock.prepare_steps = steps.parse().unwrap_or(0);
            }
            _ => {
                eprintln!("usage: clock [--settings FILE] [--prepare STEPS]");
                return ExitCode::from(2);
            }
        }
    }
    let log = Log::of_process("clock");
    Program::new("clock").can_pause().stop_within(STOP_WITHIN).log(log).run(clock)
}
