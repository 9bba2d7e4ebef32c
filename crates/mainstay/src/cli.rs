//! The command line, declared once: parsing, help, completions and man pages come from here.
//!
//! The options of [`Global`] stand before or after the command. clap's own `global` cannot be used for them: `-f` is
//! the file everywhere but in `logs` and `events`, where it follows. [`command`] therefore copies them onto every
//! command, and [`parse`] merges the two places.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use mainstay_types::Level;

/// The commands whose own `-f` takes the place of the file's short option.
const FOLLOWING: [&str; 2] = ["logs", "events"];

/// The whole command line as clap sees it.
pub(crate) fn command() -> clap::Command {
    let options: Vec<clap::Arg> =
        Global::augment_args(clap::Command::new("options")).get_arguments().cloned().collect();
    Cli::command().mut_subcommands(|subcommand| {
        let follows = FOLLOWING.contains(&subcommand.get_name());
        subcommand.args(options.iter().map(|option| {
            let option = option.clone();
            if follows && option.get_id() == "file" { option.short(None) } else { option }
        }))
    })
}

/// Reads the command line.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let matches = command().try_get_matches_from(args)?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    if let Some((_, inner)) = matches.subcommand() {
        let later = Global::from_arg_matches(inner)?;
        cli.global = merge(cli.global, later, inner);
    }
    Ok(cli)
}

fn merge(before: Global, after: Global, after_matches: &ArgMatches) -> Global {
    let given = |id: &str| after_matches.value_source(id) == Some(ValueSource::CommandLine);
    Global {
        file: if given("file") { after.file } else { before.file.or(after.file) },
        stack: after.stack.or(before.stack),
        json: before.json || after.json,
        color: if given("color") { after.color } else { before.color },
        quiet: before.quiet || after.quiet,
        verbose: before.verbose.saturating_add(after.verbose),
    }
}

/// Makes any program a dependable service, and says in plain words why a service does not run.
#[derive(Parser, Debug)]
#[command(
    name = "mainstay",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Examples:
  mainstay init -- ./server --port 8080   write a commented mainstay.toml for a program
  mainstay run                            supervise it here, in the foreground
  mainstay run --demo                     see a small stack start, crash and recover
  mainstay status --watch                 look at a running stack
  mainstay logs web -f --since 10m        its output, across rotated files

Exit codes: 0 done, 1 it failed, 2 wrong usage or invalid file,
3 no running host or no such service, 4 timed out, 5 not permitted."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct Global {
    /// The stack's file [default: ./mainstay.toml]
    #[arg(short, long, value_name = "PATH", env = "MAINSTAY_FILE", help_heading = "Everywhere")]
    pub(crate) file: Option<PathBuf>,
    /// The stack to address, when it is not the one of the file
    #[arg(long, value_name = "NAME", help_heading = "Everywhere")]
    pub(crate) stack: Option<String>,
    /// Print data as JSON
    #[arg(long, help_heading = "Everywhere")]
    pub(crate) json: bool,
    /// Colours: when the output is a terminal and NO_COLOR is not set, always, or never
    #[arg(long, value_enum, default_value_t = Color::Auto, value_name = "WHEN", help_heading = "Everywhere")]
    pub(crate) color: Color,
    /// Say less
    #[arg(short, long, conflicts_with = "verbose", help_heading = "Everywhere")]
    pub(crate) quiet: bool,
    /// Say more; twice also shows the host's own log with `run`
    #[arg(short, long, action = clap::ArgAction::Count, help_heading = "Everywhere")]
    pub(crate) verbose: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

/// When a service manager is told that the host is ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Ready {
    /// No service is on its way any more
    Services,
    /// The host supervises, whatever its services wait for
    Host,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Write a commented mainstay.toml
    #[command(after_help = "Examples:
  mainstay init -- ./server --port 8080   a service named after the program
  mainstay init                           a placeholder to edit
  mainstay -f shop.toml init -- ./web     into another file

An existing file is never overwritten.")]
    Init {
        /// The program to supervise, and its arguments
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Read and validate the file, and everything it refers to
    #[command(after_help = "Examples:
  mainstay check                 every error at once, with its place and what is accepted
  mainstay check --json          for an editor or a pipeline
  mainstay -f shop.toml check")]
    Check,
    /// Supervise the stack here, in the foreground
    #[command(after_help = "Examples:
  mainstay run                   the whole stack
  mainstay run web               one service and all it needs
  mainstay run --demo            a stack of mainstay's own that needs nothing installed

Ctrl-C stops everything in reverse order and says what it waits for; a second Ctrl-C kills.
It ends by itself once every service has completed or failed.")]
    Run {
        /// Only these services, and what they need
        #[arg(value_name = "SERVICE")]
        services: Vec<String>,
        /// Run the built-in demonstration instead of a file
        #[arg(long, conflicts_with = "services")]
        demo: bool,
        /// Tell the service manager that this is ready: with the services, or at once
        #[arg(long, value_enum, value_name = "WHEN", default_value_t = Ready::Services)]
        ready: Ready,
        /// The unit this is run by
        #[arg(long, value_name = "NAME", hide = true)]
        unit: Option<String>,
    },
    /// Show states, pids, uptime, restarts, last exit, CPU and memory
    #[command(after_help = "Examples:
  mainstay status                the stack of ./mainstay.toml
  mainstay status web --watch    one service, again every second
  mainstay --stack shop status --json")]
    Status {
        /// Only these services
        #[arg(value_name = "SERVICE")]
        services: Vec<String>,
        /// Show it again every second, until Ctrl-C
        #[arg(short, long)]
        watch: bool,
    },
    /// Start services, and what they need
    #[command(after_help = "Examples:
  mainstay start web             waits until it is ready, at most a minute
  mainstay start web --timeout 5m
  mainstay start web --no-wait")]
    Start(Control),
    /// Stop services, and first what needs them
    #[command(after_help = "Examples:
  mainstay stop worker           waits until its whole process tree is gone
  mainstay stop db               stops what needs db first, in order")]
    Stop(Control),
    /// Stop and start services
    #[command(after_help = "Examples:
  mainstay restart web           waits until it is ready again")]
    Restart(Control),
    /// Apply the changed file; with services, have them read their configuration again
    #[command(after_help = "Examples:
  mainstay reload --dry-run      what the changed file would start, stop and restart
  mainstay reload                do it: only what changed, in the order of the gates
  mainstay reload web            by its `reload` signal or command, else one replica after the other

A file that does not validate changes nothing. SIGHUP to the host applies the file, too.")]
    Reload(Reload),
    /// Show the services' output, across rotated files, merged by time
    #[command(after_help = "Examples:
  mainstay logs                          the last lines of every service
  mainstay logs web -f --since 10m       one service, and go on
  mainstay logs --grep 'timeout|refused' --stream stderr
  mainstay logs --level warn --since today   warnings and worse, with their stack traces
  mainstay logs -n 1000 --json
  mainstay logs --host -f                what the host says about itself
  mainstay logs web --around last        what all services said around web's last failure
  mainstay logs web --rotate             close the current file and begin a new one

Works without a running host, but for --rotate. Levels are read from what the lines say: JSON, logfmt, and the usual
forms of text. Times: 10m (ago), 15:20, 2026-11-22 15:20, 2026-11-22T15:20:01Z.")]
    Logs {
        /// Only these services
        #[arg(value_name = "SERVICE")]
        services: Vec<String>,
        /// The host's own log instead of the services' output
        #[arg(long, conflicts_with_all = ["services", "around"])]
        host: bool,
        /// Go on with new lines until Ctrl-C
        #[arg(short, long)]
        follow: bool,
        /// Only the last N lines [default: 100, or all with --since, --until, --grep or --level]
        #[arg(short = 'n', long, value_name = "N")]
        lines: Option<usize>,
        /// Only lines from this time on
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Only lines up to this time; with --follow it ends then
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        /// Only this stream
        #[arg(long, value_enum, value_name = "STREAM")]
        stream: Option<LogStream>,
        /// Only lines that match this regular expression
        #[arg(long, value_name = "REGEX")]
        grep: Option<String>,
        /// With --grep: upper and lower case are the same
        #[arg(short, long, requires = "grep")]
        ignore_case: bool,
        /// Only lines this serious or more so: trace, debug, info, warn, error, fatal
        #[arg(long, value_name = "LEVEL")]
        level: Option<Level>,
        /// What all services wrote around a failure, with the events: `last`, or an id that `events -v` shows
        #[arg(long, value_name = "FAILURE", conflicts_with_all = ["follow", "lines", "since", "until"])]
        around: Option<String>,
        /// With --around: so long before and after [default: 10s]
        #[arg(long, value_name = "DURATION", value_parser = duration, requires = "around")]
        window: Option<Duration>,
        /// Have the host close the current files, each between two lines, and begin new ones
        #[arg(long, conflicts_with_all = [
            "host", "follow", "lines", "since", "until", "stream", "grep", "level", "around",
        ])]
        rotate: bool,
    },
    /// Show the stack's timeline: every state change, exit, probe change and command, with its cause
    #[command(after_help = "Examples:
  mainstay events                        the last hundred
  mainstay events -n 1000 web            of one service
  mainstay events -v                     with ids for `logs --around`, and the last lines of failures
  mainstay events --follow --json        one object a line, as it happens

Works without a running host.")]
    Events {
        /// Only of these services
        #[arg(value_name = "SERVICE")]
        services: Vec<String>,
        /// Go on with new events until Ctrl-C
        #[arg(short, long)]
        follow: bool,
        /// Only the last N events
        #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
        lines: u32,
    },
    /// Register with the system's service manager, so that the stack starts at boot
    #[command(after_help = "Examples:
  sudo mainstay install --now            a unit of systemd: started now, and at every boot
  mainstay install --user                a unit of your own service manager
  mainstay install --dry-run             only show the unit
  mainstay install --env DATABASE_URL    with this variable as it is here
  mainstay install --init runit --output ./sv

Installing again brings the unit up to date; one that somebody else wrote is not touched.")]
    Install(Install),
    /// Stop the stack and remove its registration
    #[command(after_help = "Examples:
  sudo mainstay uninstall                state and logs stay
  sudo mainstay uninstall --purge        they go as well
  mainstay --stack shop uninstall --user")]
    Uninstall(Uninstall),
    /// Let the registered stack start at boot
    #[command(after_help = "Examples:
  sudo mainstay enable")]
    Enable(OfScope),
    /// Keep the registered stack from starting at boot
    #[command(after_help = "Examples:
  sudo mainstay disable                  it runs on until it is stopped")]
    Disable(OfScope),
    /// Show or set what the host's own log tells
    #[command(after_help = "Examples:
  mainstay log-level                     what is told now
  mainstay log-level debug               more, from now on; `mainstay logs --host` shows it
  mainstay log-level warn,mainstay_host=trace

Levels: off, error, warn, info, debug, trace. MAINSTAY_LOG sets it when the host starts.")]
    LogLevel {
        /// A level, or levels by part of the host
        level: Option<String>,
    },
    /// Print a completion script for a shell
    #[command(after_help = "Examples:
  mainstay completions bash > /etc/bash_completion.d/mainstay
  mainstay completions zsh > ~/.zfunc/_mainstay")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the man pages into a folder
    #[command(after_help = "Examples:
  mainstay man /usr/local/share/man/man1")]
    Man {
        /// The folder; made when it is not there
        dir: PathBuf,
    },
    /// The programs of the demonstration
    #[command(hide = true)]
    InternalDemo {
        /// Which
        role: String,
    },
    /// Start at login (not supported yet)
    #[command(hide = true)]
    Autostart(Later),
    /// Find why a service does not run (not supported yet)
    #[command(hide = true)]
    Doctor(Later),
    /// Learn and tighten the sandbox (not supported yet)
    #[command(hide = true)]
    Harden(Later),
    /// Configuration and secrets (not supported yet)
    #[command(hide = true)]
    Settings(Later),
    /// Deploy a release (not supported yet)
    #[command(hide = true)]
    Deploy(Later),
    /// List releases (not supported yet)
    #[command(hide = true)]
    Releases(Later),
    /// Return to the last release (not supported yet)
    #[command(hide = true)]
    Rollback(Later),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum LogStream {
    Stdout,
    Stderr,
}

#[derive(Args, Debug)]
pub(crate) struct Control {
    /// The services
    #[arg(value_name = "SERVICE", required = true)]
    pub(crate) services: Vec<String>,
    /// Return as soon as the request is taken
    #[arg(long, conflicts_with = "timeout")]
    pub(crate) no_wait: bool,
    /// Wait at most this long [default: 60s for start and restart; a stop has its own limit]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Args, Debug)]
pub(crate) struct Reload {
    /// Services that read their configuration again; without any, the stack's file is applied
    #[arg(value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
    /// Only show what applying the file would do
    #[arg(long, conflicts_with_all = ["services", "no_wait", "timeout"])]
    pub(crate) dry_run: bool,
    /// Return as soon as the request is taken
    #[arg(long, conflicts_with = "timeout")]
    pub(crate) no_wait: bool,
    /// Wait at most this long [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Args, Debug)]
pub(crate) struct Install {
    /// When it starts by itself: at boot, at boot after everything else, or never
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = StartAt::Auto)]
    pub(crate) start: StartAt,
    /// With your own service manager instead of the system's
    #[arg(long)]
    pub(crate) user: bool,
    /// Start it now as well, and wait until it is ready
    #[arg(long)]
    pub(crate) now: bool,
    /// The unit is up when its services are, or as soon as they are supervised
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Ready::Services)]
    pub(crate) ready: Ready,
    /// Give the host this variable; without a value, as it is here
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Overwrite a unit of mainstay's that was changed by hand
    #[arg(long)]
    pub(crate) force: bool,
    /// Only show the unit
    #[arg(long, conflicts_with_all = ["now", "force"])]
    pub(crate) dry_run: bool,
    /// The init system; for others than systemd, the files are shown, or written with --output
    #[arg(long, value_enum, value_name = "INIT", default_value_t = InitSystem::Systemd)]
    pub(crate) init: InitSystem,
    /// Write the files of another init system into this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
}

/// What starts the system's services.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum InitSystem {
    Systemd,
    Openrc,
    Runit,
    S6,
}

/// When a registered stack starts by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum StartAt {
    Auto,
    Delayed,
    Manual,
}

#[derive(Args, Debug)]
pub(crate) struct Uninstall {
    /// From your own service manager instead of the system's
    #[arg(long)]
    pub(crate) user: bool,
    /// Remove state and logs as well
    #[arg(long)]
    pub(crate) purge: bool,
}

#[derive(Args, Debug)]
pub(crate) struct OfScope {
    /// With your own service manager instead of the system's
    #[arg(long)]
    pub(crate) user: bool,
}

/// Whatever is given to a command that comes later.
#[derive(Args, Debug)]
pub(crate) struct Later {
    /// Anything
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub(crate) rest: Vec<String>,
}

fn duration(text: &str) -> Result<Duration, mainstay_types::DurationParseError> {
    mainstay_types::parse_duration(text)
}
