//! The same registration for init systems that are not systemd: files to be put in their place, nothing more.
//!
//! runit and s6 supervise whatever their `run` becomes, OpenRC has `supervise-daemon` for that; so none of these needs a
//! pid file. The host is ended by SIGTERM, and none of them takes its services away from it.

use std::path::Path;

use crate::registration::Registration;
use crate::stamp::stamped;

/// Above what the stack itself allows for its stop.
const STOP_RESERVE_SECS: u64 = 30;
/// A limit that is never reached: about a year.
const MAX_STOP_SECS: u64 = 365 * 86_400;

/// An init system that is not systemd.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Init {
    /// OpenRC: an init script.
    Openrc,
    /// runit: a service folder.
    Runit,
    /// s6: a service folder.
    S6,
}

/// One file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScriptFile {
    /// Below the folder that is named: `mainstay-shop/run`.
    pub path: String,
    /// What it holds.
    pub text: String,
    /// Whether it is a program.
    pub executable: bool,
}

/// Why there is no script.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} cannot stand in a script: it is not UTF-8 or holds a control character")]
pub struct ScriptError(pub String);

/// The files of this registration for `init`.
///
/// # Errors
/// [`ScriptError`]: a path that no script can hold.
pub fn files(registration: &Registration, init: Init) -> Result<Vec<ScriptFile>, ScriptError> {
    let name = registration.name();
    let script = |path: String, text| ScriptFile { path, text, executable: true };
    match init {
        Init::Openrc => Ok(vec![script(name, openrc(registration)?)]),
        Init::Runit => Ok(vec![script(format!("{name}/run"), run(registration)?)]),
        Init::S6 => {
            let kill = stop_secs(registration) * 1000;
            Ok(vec![
                script(format!("{name}/run"), run(registration)?),
                // servicedir(7): after so many milliseconds, SIGKILL.
                ScriptFile {
                    path: format!("{name}/timeout-kill"),
                    text: format!("{kill}\n"),
                    executable: false,
                },
            ])
        }
    }
}

fn stop_secs(registration: &Registration) -> u64 {
    registration.stop_budget.as_secs().saturating_add(STOP_RESERVE_SECS).min(MAX_STOP_SECS)
}

/// runsv(8), s6-supervise(8).
fn run(registration: &Registration) -> Result<String, ScriptError> {
    let mut body = exports(registration)?;
    // 111: it is tried again after a pause.
    body.push_str(&format!("cd {} || exit 111\n", word(&registration.dir)?));
    body.push_str("exec 2>&1\n");
    body.push_str(&format!(
        "exec {} {}\n",
        word(&registration.program)?,
        arguments(registration, "run --quiet")?
    ));
    Ok(script("#!/bin/sh\n", registration, &body))
}

/// openrc-run(8), supervise-daemon(8).
fn openrc(registration: &Registration) -> Result<String, ScriptError> {
    let (program, stop) = (word(&registration.program)?, stop_secs(registration));
    let mut body = exports(registration)?;
    body.push_str(&format!("description={}\n", quoted(&format!("{} (mainstay stack)", registration.stack))));
    body.push_str("supervisor=supervise-daemon\n");
    // Both are evaluated once more, so their own quotes are quoted.
    body.push_str(&format!("command={}\n", quoted(&program)));
    body.push_str(&format!("command_args={}\n", quoted(&arguments(registration, "run --quiet")?)));
    body.push_str(&format!("directory={}\n", word(&registration.dir)?));
    body.push_str("respawn_delay=1\nrespawn_period=3600\nrespawn_max=20\n");
    body.push_str(&format!("retry=TERM/{stop}/KILL/5\n"));
    body.push_str("extra_started_commands=reload\n\ndepend() {\n\tneed localmount\n");
    let network = if registration.needs_network { "need net" } else { "after net" };
    body.push_str(&format!("\t{network}\n\tuse dns logger\n}}\n\nreload() {{\n"));
    body.push_str("\tebegin \"Applying the file of ${RC_SVCNAME}\"\n");
    body.push_str(&format!("\t{program} {}\n\teend $?\n}}\n", arguments(registration, "reload")?));
    Ok(script("#!/sbin/openrc-run\n", registration, &body))
}

fn script(head: &str, registration: &Registration, body: &str) -> String {
    let stack = &registration.stack;
    let head = format!(
        "{head}# Written by mainstay for the stack {stack}; `mainstay install --init` writes it anew.\n"
    );
    stamped(&head, body, "# ", "")
}

fn exports(registration: &Registration) -> Result<String, ScriptError> {
    let mut text = String::new();
    for (name, value) in &registration.env {
        let fits = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && name.starts_with(|c: char| !c.is_ascii_digit())
            && !value.contains('\0');
        if !fits {
            return Err(ScriptError(name.clone()));
        }
        text.push_str(&format!("export {name}={}\n", quoted(value)));
    }
    Ok(text)
}

fn arguments(registration: &Registration, words: &str) -> Result<String, ScriptError> {
    Ok(format!("{words} --file {}", word(&registration.file)?))
}

fn word(path: &Path) -> Result<String, ScriptError> {
    match path.to_str() {
        Some(text) if !text.chars().any(char::is_control) => Ok(quoted(text)),
        Some(_) | None => Err(ScriptError(path.display().to_string())),
    }
}

/// One word of a shell (POSIX.1-2017, XCU 2.2.2).
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::{Stamp, stamp};
    use crate::tests::registration;

    #[test]
    fn a_service_folder_reads_like_this() {
        let mut shop = registration();
        shop.dir = "/srv/Café 100%".into();
        shop.file = "/srv/Café 100%/it's.toml".into();
        shop.env = vec![("A".to_owned(), "x y".to_owned())];
        let made = files(&shop, Init::S6).unwrap();
        assert_eq!(stamp(&made[0].text), Stamp::Intact);
        let lines: Vec<&str> = made[0].text.lines().collect();
        assert_eq!(
            (lines[0], made[0].path.as_str(), made[0].executable),
            ("#!/bin/sh", "mainstay-shop/run", true)
        );
        assert_eq!(
            lines[3..],
            [
                "export A='x y'",
                "cd '/srv/Café 100%' || exit 111",
                "exec 2>&1",
                "exec /usr/bin/mainstay run --quiet --file '/srv/Café 100%/it'\\''s.toml'",
            ]
        );
        assert_eq!((made[1].path.as_str(), made[1].text.as_str()), ("mainstay-shop/timeout-kill", "45000\n"));
        assert_eq!(files(&shop, Init::Runit).unwrap(), made[..1]);
    }

    #[test]
    fn an_init_script_quotes_what_is_evaluated_twice() {
        let mut shop = registration();
        shop.file = "/srv/a b.toml".into();
        let made = files(&shop, Init::Openrc).unwrap();
        let text = &made[0].text;
        assert!(text.starts_with("#!/sbin/openrc-run\n") && stamp(text) == Stamp::Intact);
        assert!(text.contains("command_args='run --quiet --file '\\''/srv/a b.toml'\\'''\n"), "{text}");
        assert!(text.contains("retry=TERM/45/KILL/5\n") && text.contains("\tafter net\n"), "{text}");
        shop.needs_network = true;
        assert!(files(&shop, Init::Openrc).unwrap()[0].text.contains("\tneed net\n"));
    }

    #[test]
    fn what_no_script_can_hold_is_refused() {
        let mut shop = registration();
        shop.file = "/srv/a\nb".into();
        for init in [Init::Openrc, Init::Runit, Init::S6] {
            assert!(files(&shop, init).is_err());
        }
        let mut shop = registration();
        shop.env = vec![("A;rm".to_owned(), "x".to_owned())];
        assert!(files(&shop, Init::Runit).is_err());
    }
}
