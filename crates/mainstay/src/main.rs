//! The `mainstay` command: reads the command line and hands over to one module a command.

mod cli;
mod client;
mod commands;
mod context;
mod demo;
mod failure;
mod printer;
mod registration;
mod signals;
mod table;
mod terminal;
mod times;

use std::process::ExitCode as ProcessExitCode;

use mainstay_api::Verb;
use mainstay_types::ExitCode;

use crate::cli::{Cli, Color, Command, Control, Later, Reload};
use crate::commands::logs::Asked;
use crate::commands::{
    around, check, control, events, generate, init, install, log_level, logs, reload, rotate, run, status,
};
use crate::failure::Failure;
use crate::terminal::{BAD, paint};

fn main() -> ProcessExitCode {
    // The launcher is this program again, and must come before everything that makes threads.
    mainstay_os::run_launcher_if_asked();
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are asked for; everything else is wrong usage.
            let _ = error.print();
            let code = if error.use_stderr() { ExitCode::Usage } else { ExitCode::Done };
            return code.into();
        }
    };
    match cli.global.color {
        Color::Auto => {}
        Color::Always => anstream::ColorChoice::Always.write_global(),
        Color::Never => anstream::ColorChoice::Never.write_global(),
    }
    match dispatch(&cli) {
        Ok(()) => ExitCode::Done.into(),
        Err(failure) => {
            if failure.headed {
                anstream::eprintln!("{}", failure.message);
            } else if !failure.message.is_empty() {
                anstream::eprintln!("{} {}", paint(BAD, "error:"), failure.message);
            }
            failure.code.into()
        }
    }
}

fn dispatch(cli: &Cli) -> Result<(), Failure> {
    let global = &cli.global;
    match &cli.command {
        Command::Init { command } => init::init(global, command),
        Command::Check => check::check(global),
        Command::Run { services, demo, ready, unit } => {
            let started_by = run::StartedBy { ready: *ready, unit: unit.clone() };
            run::run(global, services, *demo, started_by)
        }
        Command::Status { services, watch } => status::status(global, services, *watch),
        Command::Start(asked) => control::control(global, Verb::Start, asked),
        Command::Stop(asked) => control::control(global, Verb::Stop, asked),
        Command::Restart(asked) => control::control(global, Verb::Restart, asked),
        Command::Reload(asked) if asked.services.is_empty() => reload::reload(global, asked),
        Command::Reload(Reload { services, no_wait, timeout, .. }) => {
            let asked = Control { services: services.clone(), no_wait: *no_wait, timeout: *timeout };
            control::control(global, Verb::Reload, &asked)
        }
        Command::Logs { services, rotate: true, .. } => rotate::rotate(global, services),
        Command::Logs {
            services, around: Some(failure), window, stream, grep, ignore_case, level, ..
        } => {
            let asked = around::Asked {
                services,
                failure,
                window: *window,
                stream: *stream,
                grep: grep.as_deref(),
                ignore_case: *ignore_case,
                level: *level,
            };
            around::around(global, &asked)
        }
        Command::Logs {
            services,
            host,
            follow,
            lines,
            since,
            until,
            stream,
            grep,
            ignore_case,
            level,
            around: None,
            window: _,
            rotate: false,
        } => {
            let asked = Asked {
                services,
                host: *host,
                follow: *follow,
                lines: *lines,
                since: since.as_deref(),
                until: until.as_deref(),
                stream: *stream,
                grep: grep.as_deref(),
                ignore_case: *ignore_case,
                level: *level,
            };
            logs::logs(global, &asked)
        }
        Command::Events { services, follow, lines } => events::events(global, services, *follow, *lines),
        Command::Install(asked) => install::install(global, asked),
        Command::Uninstall(asked) => install::uninstall(global, asked),
        Command::Enable(asked) => install::set_boot(global, asked.user, true),
        Command::Disable(asked) => install::set_boot(global, asked.user, false),
        Command::LogLevel { level } => log_level::log_level(global, level.as_deref()),
        Command::Completions { shell } => generate::completions(*shell),
        Command::Man { dir } => generate::man(dir, global.quiet),
        Command::InternalDemo { role } => demo::play(role),
        Command::Autostart(later) => not_yet("autostart", later),
        Command::Doctor(later) => not_yet("doctor", later),
        Command::Harden(later) => not_yet("harden", later),
        Command::Settings(later) => not_yet("settings", later),
        Command::Deploy(later) => not_yet("deploy", later),
        Command::Releases(later) => not_yet("releases", later),
        Command::Rollback(later) => not_yet("rollback", later),
    }
}

fn not_yet(name: &str, later: &Later) -> Result<(), Failure> {
    // Whatever was asked of it, the answer is the same.
    let Later { rest: _ } = later;
    Err(Failure::new(ExitCode::Usage, format!("`mainstay {name}` is not supported yet; nothing was changed")))
}
