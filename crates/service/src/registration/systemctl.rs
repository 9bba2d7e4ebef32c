//! systemd, asked by its own program systemctl(1): every system with systemd has it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mainstay_unit::{Enablement, Scope, Shown};

use super::manager::{ManagerError, ServiceManager, Verb};

/// Time for a question.
const ASK_LIMIT: Duration = Duration::from_secs(30);
/// Pause between two looks whether the program has ended.
const PAUSE: Duration = Duration::from_millis(5);
/// Most of what it writes is a page.
const MAX_OUTPUT_BYTES: u64 = 64 * 1024;

const PROPERTIES: &str = "LoadState,ActiveState,SubState,UnitFileState,FragmentPath,NeedDaemonReload,DropInPaths,Result,\
                          StatusText,MainPID";

/// The manager of one scope.
#[derive(Debug)]
pub struct Systemctl {
    scope: Scope,
}

impl Systemctl {
    /// The manager of this scope, where systemd runs the system (sd_booted(3)).
    ///
    /// # Errors
    /// [`ManagerError::NotHere`]
    pub fn of(scope: Scope) -> Result<Self, ManagerError> {
        if Path::new("/run/systemd/system").is_dir() {
            return Ok(Self { scope });
        }
        Err(ManagerError::NotHere("this system is not run by systemd".to_owned()))
    }

    fn run(&self, args: &[&str], limit: Duration) -> Result<String, ManagerError> {
        let mut all = vec![if self.scope == Scope::User { "--user" } else { "--system" }];
        all.extend(["--no-ask-password", "--no-pager"]);
        all.extend(args);
        run("systemctl", &all, limit)
    }
}

impl ServiceManager for Systemctl {
    fn version(&self) -> Result<u32, ManagerError> {
        // `systemd 252 (252.39-1~deb12u1)`
        let text = self.run(&["--version"], ASK_LIMIT)?;
        let number = text.split_whitespace().nth(1).map(|word| {
            let digits = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
            word[..digits].parse()
        });
        match number {
            Some(Ok(number)) => Ok(number),
            Some(Err(_)) | None => Err(ManagerError::Refused {
                command: "systemctl --version".to_owned(),
                said: format!("it says nothing of a version: {}", text.trim()),
            }),
        }
    }

    fn show(&self, unit: &str) -> Result<Shown, ManagerError> {
        let properties = format!("--property={PROPERTIES}");
        Ok(parse_shown(&self.run(&["show", &properties, "--", unit], ASK_LIMIT)?))
    }

    fn act(&self, verb: Verb, unit: &str, limit: Duration) -> Result<(), ManagerError> {
        let done = match verb {
            Verb::Reread => self.run(&[verb.as_word()], limit),
            Verb::Enable | Verb::Disable | Verb::Start | Verb::Stop | Verb::ResetFailed => {
                self.run(&[verb.as_word(), "--", unit], limit)
            }
        };
        done.map(drop)
    }
}

/// Whether the services of this user go on without a login; `None` where that cannot be told.
#[must_use]
pub fn lingers(user: &str) -> Option<bool> {
    let text = run("loginctl", &["show-user", "--property=Linger", "--value", "--", user], ASK_LIMIT);
    match text.as_deref().map(str::trim) {
        Ok("yes") => Some(true),
        Ok("no") => Some(false),
        // A user who is not logged in and does not linger is unknown to logind.
        Ok(_) | Err(_) => {
            let dir = Path::new("/var/lib/systemd/linger");
            dir.is_dir().then(|| dir.join(user).exists())
        }
    }
}

/// `KEY=VALUE` lines, as systemctl(1) `show` prints them.
fn parse_shown(text: &str) -> Shown {
    let mut shown = Shown::default();
    for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
        match key {
            "LoadState" => value.clone_into(&mut shown.load_state),
            "ActiveState" => value.clone_into(&mut shown.active_state),
            "SubState" => value.clone_into(&mut shown.sub_state),
            "UnitFileState" => shown.enablement = Enablement::from_word(value),
            "FragmentPath" => shown.fragment_path = (!value.is_empty()).then(|| PathBuf::from(value)),
            "NeedDaemonReload" => shown.needs_reload = value == "yes",
            "DropInPaths" => {
                // Names with blanks come in quotes, as a shell would read them.
                let paths = shell_words::split(value).unwrap_or_else(|_| vec![value.to_owned()]);
                shown.drop_ins = paths.into_iter().map(PathBuf::from).collect();
            }
            "Result" => value.clone_into(&mut shown.result),
            "StatusText" => value.clone_into(&mut shown.status_text),
            "MainPID" => shown.main_pid = value.parse().ok().filter(|pid| *pid != 0),
            _ => {}
        }
    }
    shown
}

/// Runs it to its end, at most that long; what it writes to standard output.
fn run(program: &str, args: &[&str], limit: Duration) -> Result<String, ManagerError> {
    let shown: Vec<&str> = args
        .iter()
        .copied()
        .filter(|arg| !matches!(*arg, "--system" | "--no-ask-password" | "--no-pager" | "--"))
        .filter(|arg| !arg.starts_with("--property"))
        .collect();
    let command = format!("{program} {}", shown.join(" "));
    let cannot = |error: std::io::Error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            ManagerError::NotHere(format!("{program} is not installed"))
        } else {
            ManagerError::Refused { command: command.clone(), said: error.to_string() }
        }
    };
    let mut child = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .env("SYSTEMD_COLORS", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(cannot)?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let read = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // What came before an error is all there is.
            let _ = pipe.map(|pipe| pipe.take(MAX_OUTPUT_BYTES).read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let out = read(out.map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let err = read(err.map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let ends = Instant::now() + limit;
    let status = loop {
        match child.try_wait().map_err(cannot)? {
            Some(status) => break status,
            None if Instant::now() >= ends => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(ManagerError::TimedOut { command, limit });
            }
            None => std::thread::sleep(PAUSE),
        }
    };
    let (out, err) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
    if status.success() {
        return Ok(out);
    }
    let said = [err.trim(), out.trim()].into_iter().find(|text| !text.is_empty()).map_or_else(
        || status.to_string(),
        // It writes several lines, of which the later ones say where to look further.
        |text| text.lines().collect::<Vec<_>>().join("; "),
    );
    Err(ManagerError::Refused { command, said })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_read() {
        let shown = parse_shown(
            "LoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\n\
             FragmentPath=/etc/systemd/system/mainstay-shop.service\nNeedDaemonReload=yes\n\
             DropInPaths=/etc/x.d/a.conf \"/etc/x.d/b c.conf\"\nResult=success\nStatusText=a=b\nMainPID=7\nOther=x\n",
        );
        assert_eq!((shown.main_pid, shown.needs_reload, shown.status_text.as_str()), (Some(7), true, "a=b"));
        assert_eq!(shown.drop_ins, [Path::new("/etc/x.d/a.conf"), Path::new("/etc/x.d/b c.conf")]);
        assert_eq!(shown.enablement, Some(Enablement::Enabled));
        let unknown = parse_shown("LoadState=not-found\nUnitFileState=\nFragmentPath=\nMainPID=0\n");
        assert_eq!((unknown.enablement, unknown.fragment_path, unknown.main_pid), (None, None, None));
    }

    #[test]
    fn a_program_that_fails_hangs_or_is_not_there_is_an_error() {
        let refused = run("sh", &["-c", "echo first >&2; echo second >&2; exit 3"], ASK_LIMIT).unwrap_err();
        assert!(refused.to_string().ends_with("failed: first; second"), "{refused}");
        let silent = run("sh", &["-c", "exit 3"], ASK_LIMIT).unwrap_err();
        assert!(silent.to_string().contains("exit status: 3"), "{silent}");
        let missing = run("mainstay-no-such-program", &[], ASK_LIMIT).unwrap_err();
        assert!(matches!(missing, ManagerError::NotHere(_)), "{missing}");
        let slow = run("sleep", &["100000"], Duration::from_millis(50)).unwrap_err();
        assert!(matches!(slow, ManagerError::TimedOut { .. }), "{slow}");
    }
}
