//! `install`, `uninstall`, `enable` and `disable`: the stack and the system's service manager.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mainstay_config::Stack;
use mainstay_host::{LoadError, RUNTIME_DIR_VARIABLE, STATE_DIR_VARIABLE};
use mainstay_service::registration::{
    Asked, ManagerError, Place, ServiceManager, StepError, Systemctl, Verb, lingers, set_enablement,
};
use mainstay_types::{ExitCode, StackName};
use mainstay_unit::{Enablement, Existing, Init, Registration, Scope, Start, systemd};

use crate::cli::{Global, InitSystem, Install, Ready, StartAt, Uninstall};
use crate::commands::scripts::scripts;
use crate::context::{addressed, env, file_path, load_failure, load_stack, named_as_asked};
use crate::failure::Failure;
use crate::registration::needs_network;
use crate::terminal::{GOOD, WARN, paint, print};

/// How long `--now` waits until the stack is ready.
const START_LIMIT: Duration = Duration::from_secs(90);
/// Above what the unit itself allows for a stop.
const STOP_LIMIT: Duration = Duration::from_secs(3600);
/// The version whose words `--dry-run` uses where there is no systemd.
const ASSUMED_VERSION: u32 = 252;
/// What a host started by systemd has of the environment (systemd.exec(5), "Environment variables in spawned processes"),
/// as far as a file may refer to it.
const GIVEN_TO_ALL: [&str; 2] = ["PATH", "LANG"];
const GIVEN_TO_USERS: [&str; 6] = ["HOME", "USER", "LOGNAME", "SHELL", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"];

/// Registers the stack.
pub(crate) fn install(global: &Global, asked: &Install) -> Result<(), Failure> {
    supported("install")?;
    let scope = scope(asked.user);
    let given = variables(&asked.env)?;
    let stack = load_for_unit(global, scope, &given)?;
    let registration = registration(&stack, scope, asked, given)?;
    if let Some(init) = other_init(asked)? {
        return scripts(&registration, init, asked.output.as_deref(), asked.force, global.quiet);
    }
    if asked.dry_run {
        return dry_run(&registration);
    }
    permitted(scope)?;
    let manager = Systemctl::of(scope).map_err(|error| manager_failure(&error))?;
    let version = manager.version().map_err(|error| manager_failure(&error))?;
    let text = systemd::text(&registration, version)
        .map_err(|error| Failure::from_error(ExitCode::Failed, &error))?;
    let place = place(&stack.name, scope)?;
    let wanted = Asked { text: &text, start: registration.start, force: asked.force };
    let done = mainstay_service::registration::install(&manager, &place, wanted)
        .map_err(|error| step_failure(&error))?;
    let was_up = manager.show(&place.unit).is_ok_and(|shown| shown.is_up());
    if done.is_empty() {
        say(global, &format!("{} is registered already, just so; nothing was changed", place.unit));
    }
    for words in &done {
        say(global, words);
    }
    if was_up && !done.is_empty() {
        hint(global, &format!("{0} still runs as it was started: `systemctl restart {0}`", place.unit));
    }
    if scope == Scope::User {
        tell_linger(global, registration.start);
    }
    match (asked.now, was_up) {
        (true, false) => start_now(global, &manager, &place),
        (true, true) => Ok(()),
        (false, _) => {
            let words = match registration.start {
                Start::Auto => "starts at the next boot",
                Start::Delayed => "starts at the next boot, after everything else",
                Start::Manual => "starts when it is told to",
            };
            let user = if scope == Scope::User { "--user " } else { "" };
            let now =
                if was_up { String::new() } else { format!("; now: `systemctl {user}start {}`", place.unit) };
            say(global, &format!("{} {words}{now}", place.unit));
            Ok(())
        }
    }
}

/// Takes the registration away.
pub(crate) fn uninstall(global: &Global, asked: &Uninstall) -> Result<(), Failure> {
    supported("uninstall")?;
    let scope = scope(asked.user);
    permitted(scope)?;
    let addressed = addressed(global)?;
    let manager = Systemctl::of(scope).map_err(|error| manager_failure(&error))?;
    let place = place(&addressed.name, scope)?;
    let done = mainstay_service::registration::uninstall(&manager, &place, STOP_LIMIT)
        .map_err(|error| step_failure(&error))?;
    for words in &done {
        say(global, words);
    }
    let drop_ins = place.path.with_file_name(format!("{}.d", place.unit));
    if asked.purge {
        for dir in [&addressed.paths.state_dir, &drop_ins] {
            purge(global, dir)?;
        }
        // A host that ended well has taken it away.
        let _ = std::fs::remove_file(&addressed.paths.socket_path);
    } else {
        for dir in [&addressed.paths.state_dir, &drop_ins].into_iter().filter(|dir| dir.exists()) {
            hint(global, &format!("{} stays; `uninstall --purge` removes it as well", dir.display()));
        }
    }
    Ok(())
}

/// Lets it start at boot, or not.
pub(crate) fn set_boot(global: &Global, user: bool, enabled: bool) -> Result<(), Failure> {
    supported(if enabled { "enable" } else { "disable" })?;
    let scope = scope(user);
    permitted(scope)?;
    let name = addressed(global)?.name;
    let manager = Systemctl::of(scope).map_err(|error| manager_failure(&error))?;
    let place = place(&name, scope)?;
    let shown = manager.show(&place.unit).map_err(|error| manager_failure(&error))?;
    match place.existing(&shown) {
        Ok(Existing::Own { .. }) => {}
        Ok(Existing::Foreign(path)) => return Err(step_failure(&StepError::Foreign(path))),
        Ok(Existing::None) => return Err(step_failure(&StepError::NotRegistered(place.path))),
        Err(source) => {
            let path = place.path;
            return Err(step_failure(&StepError::File { doing: "read", path, source }));
        }
    }
    let wanted = if enabled { Enablement::Enabled } else { Enablement::Disabled };
    let done = set_enablement(&manager, &place, &wanted).map_err(|error| step_failure(&error))?;
    let words = done.unwrap_or_else(|| format!("{} is {} already", place.unit, wanted.as_word()));
    say(global, &words);
    if scope == Scope::User && enabled {
        tell_linger(global, Start::Auto);
    }
    Ok(())
}

/// The init system, when it is not systemd. What is systemd's alone is refused with it.
fn other_init(asked: &Install) -> Result<Option<Init>, Failure> {
    let init = match asked.init {
        InitSystem::Systemd => None,
        InitSystem::Openrc => Some(Init::Openrc),
        InitSystem::Runit => Some(Init::Runit),
        InitSystem::S6 => Some(Init::S6),
    };
    let refused = |option: &str, why: &str| Err(Failure::new(ExitCode::Usage, format!("{option} {why}")));
    if init.is_none() {
        return match asked.output {
            Some(_) => refused("--output", "is for other init systems: name one with --init"),
            None => Ok(None),
        };
    }
    let of_systemd = [
        ("--now", asked.now),
        ("--user", asked.user),
        ("--ready", asked.ready != Ready::Services),
        ("--start", asked.start != StartAt::Auto),
        ("--dry-run", asked.dry_run),
    ];
    if let Some((option, _)) = of_systemd.iter().find(|(_, given)| *given) {
        return refused(option, "is not for --init: its files are made, and nothing is registered with them");
    }
    Ok(init)
}

fn scope(user: bool) -> Scope {
    if user { Scope::User } else { Scope::System }
}

fn supported(command: &str) -> Result<(), Failure> {
    if std::env::consts::OS == "linux" {
        return Ok(());
    }
    let message = format!("`mainstay {command}` is not supported on this system yet; nothing was changed");
    Err(Failure::new(ExitCode::Usage, message))
}

/// Says what is missing before anything is changed, and the command that has it.
fn permitted(scope: Scope) -> Result<(), Failure> {
    if scope == Scope::User || mainstay_os::is_root() {
        return Ok(());
    }
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let program = std::env::current_exe().unwrap_or_else(|_| "mainstay".into());
    let words = shell_words::join(&words);
    let message = format!(
        "only root may change what the system starts; nothing was changed\n  next: sudo {} {words}\n  or: add --user, and it \
         is your own service manager that starts it",
        shell_words::quote(&program.to_string_lossy())
    );
    Err(Failure::new(ExitCode::NotPermitted, message))
}

fn place(stack: &StackName, scope: Scope) -> Result<Place, Failure> {
    Place::of(&mainstay_unit::unit_name(stack), scope).ok_or_else(|| {
        let message = "there is no folder for your units: neither XDG_CONFIG_HOME nor HOME is set";
        Failure::new(ExitCode::Failed, message)
    })
}

/// `NAME=VALUE`, or `NAME` for the value it has here; and the overrides of folders, which the host would miss.
fn variables(asked: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let mut given = Vec::new();
    for word in asked {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => {
                let value = env(word).ok_or_else(|| {
                    let message =
                        format!("--env {word}: there is no variable {word} here; write --env {word}=VALUE");
                    Failure::new(ExitCode::Usage, message)
                })?;
                (word.as_str(), value)
            }
        };
        given.push((name.to_owned(), value));
    }
    for name in [STATE_DIR_VARIABLE, RUNTIME_DIR_VARIABLE] {
        let absolute = env(name).filter(|value| !value.is_empty()).map(std::path::absolute);
        if let Some(Ok(value)) = absolute
            && !given.iter().any(|(given, _)| given == name)
        {
            given.push((name.to_owned(), value.to_string_lossy().into_owned()));
        }
    }
    Ok(given)
}

/// Reads the file as the host will: a variable that is only here is told now, and not at the next boot.
fn load_for_unit(global: &Global, scope: Scope, given: &[(String, String)]) -> Result<Arc<Stack>, Failure> {
    let then = |name: &str| {
        let of_system =
            GIVEN_TO_ALL.contains(&name) || scope == Scope::User && GIVEN_TO_USERS.contains(&name);
        let named = given.iter().find(|(given, _)| given == name).map(|(_, value)| value.clone());
        named.or_else(|| env(name).filter(|_| of_system))
    };
    let error = match mainstay_host::load(&file_path(global), &then) {
        Ok(stack) => return named_as_asked(global, stack),
        Err(error) => error,
    };
    let mut failure = load_failure(&error);
    if matches!(error, LoadError::Invalid(_))
        && let Ok(here) = load_stack(global)
    {
        failure.message.push_str(&format!(
            "\n  the file is valid here, and would not be when {} starts it: variables of this shell are not there\n  \
             next: give them to the unit with --env NAME or --env NAME=VALUE",
            mainstay_unit::unit_name(&here.name)
        ));
    }
    Err(failure)
}

fn registration(
    stack: &Stack,
    scope: Scope,
    asked: &Install,
    env: Vec<(String, String)>,
) -> Result<Registration, Failure> {
    Ok(Registration {
        stack: stack.name.clone(),
        file: stack.file.clone(),
        dir: stack.dir.clone(),
        program: own_program()?,
        scope,
        start: match asked.start {
            StartAt::Auto => Start::Auto,
            StartAt::Delayed => Start::Delayed,
            StartAt::Manual => Start::Manual,
        },
        ready: match asked.ready {
            Ready::Services => mainstay_unit::ReadyWhen::Services,
            Ready::Host => mainstay_unit::ReadyWhen::Host,
        },
        default_state_dir: !env.iter().any(|(name, _)| name == STATE_DIR_VARIABLE),
        env,
        stop_budget: mainstay_host::stop_budget(stack),
        needs_network: needs_network(stack),
    })
}

fn own_program() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe().map_err(|error| {
        Failure::new(ExitCode::Failed, format!("cannot find the mainstay program itself: {error}"))
    })?;
    if program.is_file() {
        return Ok(program);
    }
    // The kernel appends " (deleted)".
    let message = format!("the program was replaced while it runs ({}): call it again", program.display());
    Err(Failure::new(ExitCode::Failed, message))
}

fn dry_run(registration: &Registration) -> Result<(), Failure> {
    let version =
        Systemctl::of(registration.scope).and_then(|manager| manager.version()).unwrap_or(ASSUMED_VERSION);
    let text = systemd::text(registration, version)
        .map_err(|error| Failure::from_error(ExitCode::Failed, &error))?;
    let place = place(&registration.stack, registration.scope)?;
    anstream::eprintln!("{} would be, for systemd {version}:", place.path.display());
    // A reader that has gone needs no answer.
    let _ = print(&text);
    Ok(())
}

fn start_now(global: &Global, manager: &Systemctl, place: &Place) -> Result<(), Failure> {
    match manager.act(Verb::Start, &place.unit, START_LIMIT) {
        Ok(()) => {
            say(global, &paint(GOOD, &format!("{} is up, its services are ready", place.unit)));
            Ok(())
        }
        Err(error @ ManagerError::TimedOut { .. }) => {
            let status = manager.show(&place.unit).map_or_else(|_| String::new(), |shown| shown.status_text);
            let message =
                format!("{error}; it goes on: {status}\n  next: `mainstay status` shows how far it is");
            Err(Failure::new(ExitCode::TimedOut, message))
        }
        Err(error) => {
            let message = format!("{} is registered, and does not start: {error}", place.unit);
            Err(Failure::new(ExitCode::Failed, message))
        }
    }
}

/// A user's services start with the user's first login, and end with the last one, unless the user lingers.
fn tell_linger(global: &Global, start: Start) {
    let user = mainstay_os::account(None).name;
    if start == Start::Manual || lingers(&user) == Some(true) {
        return;
    }
    hint(
        global,
        &format!(
            "it starts when {user} logs in, and ends with the last session: `loginctl enable-linger {}` lets it start at boot",
            shell_words::quote(&user)
        ),
    );
}

fn purge(global: &Global, dir: &Path) -> Result<(), Failure> {
    match std::fs::remove_dir_all(dir) {
        Ok(()) => say(global, &format!("removed {}", dir.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            let message =
                format!("the stack is not registered any more, but {} stays: {error}", dir.display());
            return Err(Failure::new(ExitCode::Failed, message));
        }
    }
    Ok(())
}

fn say(global: &Global, words: &str) {
    if !global.quiet {
        anstream::eprintln!("{words}");
    }
}

fn hint(global: &Global, words: &str) {
    say(global, &paint(WARN, words));
}

fn manager_failure(error: &ManagerError) -> Failure {
    let code = match error {
        ManagerError::NotHere(_) | ManagerError::Refused { .. } => ExitCode::Failed,
        ManagerError::TimedOut { .. } => ExitCode::TimedOut,
    };
    Failure::from_error(code, error)
}

fn step_failure(error: &StepError) -> Failure {
    let code = match error {
        StepError::NotRegistered(_) => ExitCode::NotFound,
        StepError::Manager(error) => return manager_failure(error),
        StepError::File { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            ExitCode::NotPermitted
        }
        StepError::Foreign(_)
        | StepError::Edited { .. }
        | StepError::File { .. }
        | StepError::NotAsWritten { .. }
        | StepError::RolledBack { .. } => ExitCode::Failed,
    };
    match error {
        StepError::RolledBack { cause, .. } => {
            let failure = step_failure(cause);
            Failure { message: format!("{}\n  {error}", failure.message), ..failure }
        }
        StepError::Foreign(_) => told_how(code, error, "a stack's name is `stack = \"...\"` in its file"),
        StepError::Edited { .. } => told_how(code, error, "`mainstay install --force`"),
        StepError::NotRegistered(_)
        | StepError::File { .. }
        | StepError::Manager(_)
        | StepError::NotAsWritten { .. } => Failure::from_error(code, error),
    }
}

/// What is to be done next, in the words of this command line.
fn told_how(code: ExitCode, error: &StepError, how: &str) -> Failure {
    let failure = Failure::from_error(code, error);
    Failure { message: format!("{}: {how}", failure.message), ..failure }
}
