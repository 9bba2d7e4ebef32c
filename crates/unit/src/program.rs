//! The unit of a program that is a service by itself, written on `mainstay-service`: its text for the version of systemd that is
//! to read it (systemd.unit(5), systemd.service(5)).

use std::path::PathBuf;
use std::time::Duration;

use crate::registration::{Scope, Start};
use crate::stamp::stamped;
use crate::systemd::{Body, OLDEST, TextError, boot_target, path, quoted};

/// Above what the program has for its stop: for what is left to be said.
const STOP_RESERVE: Duration = Duration::from_secs(5);

/// All that the text depends on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProgramUnit {
    /// The unit's name, without `.service`.
    pub name: String,
    /// One line about it.
    pub description: String,
    /// The program; absolute.
    pub program: PathBuf,
    /// What it is started with.
    pub arguments: Vec<String>,
    /// Whose service manager.
    pub scope: Scope,
    /// When it starts by itself.
    pub start: Start,
    /// Who it runs as, where that is not the manager's own user.
    pub user: Option<String>,
    /// Until when a start has to say something.
    pub start_within: Duration,
    /// What a stop may take.
    pub stop_within: Duration,
    /// How often it has to give a sign of life.
    pub watchdog: Option<Duration>,
}

impl ProgramUnit {
    /// The text of the unit for this version of systemd.
    ///
    /// # Errors
    /// [`TextError`]: a path or a word that no unit can hold; a version too old.
    pub fn text(&self, version: u32) -> Result<String, TextError> {
        if version < OLDEST {
            return Err(TextError::TooOld { version });
        }
        let mut body = Body(String::new());
        body.section("Unit");
        body.set("Description", &line("the description", &self.description)?.replace('%', "%%"));
        if self.scope == Scope::System {
            body.set("After", "network.target nss-user-lookup.target time-sync.target");
        }
        if self.start == Start::Delayed {
            body.set("After", boot_target(self.scope));
        }
        body.section("Service");
        // From 253 on systemd sends SIGHUP itself, and waits until the program says that it has read its settings.
        let reloads = version >= 253;
        body.set("Type", if reloads { "notify-reload" } else { "notify" });
        body.set("NotifyAccess", "main");
        body.set("ExecStart", &self.command(version)?);
        if !reloads {
            body.set("ExecReload", "/bin/kill -HUP $MAINPID");
        }
        if let Some(user) = &self.user {
            body.set("User", &line("the user", user)?.replace('%', "%%"));
        }
        if let Some(watchdog) = self.watchdog {
            body.set("WatchdogSec", &format!("{}ms", watchdog.as_millis()));
        }
        body.set("TimeoutStartSec", &format!("{}ms", self.start_within.as_millis()));
        let stop_within = self.stop_within.saturating_add(STOP_RESERVE);
        body.set("TimeoutStopSec", &format!("{}ms", stop_within.as_millis()));
        // The program is asked; what is left after it has ended is killed.
        body.set("KillMode", "mixed");
        body.set("Restart", "on-failure");
        body.set("RestartSec", "1");
        body.section("Install");
        body.set("WantedBy", boot_target(self.scope));
        let head = format!(
            "# Written by the service {} itself, when it was installed; add to it with `systemctl edit`.\n",
            line("the name", &self.name)?
        );
        Ok(stamped(&head, &body.0, "# ", ""))
    }

    fn command(&self, version: u32) -> Result<String, TextError> {
        // A colon before the program turns the replacing of `$` off; older versions want it doubled.
        let knows_colon = version >= 244;
        let program = quoted(&path(&self.program)?);
        let mut command = if knows_colon { format!(":{program}") } else { program };
        for argument in &self.arguments {
            let word = quoted(&line("the argument", argument)?);
            command.push(' ');
            command.push_str(&if knows_colon { word } else { word.replace('$', "$$") });
        }
        Ok(command)
    }
}

fn line(what: &'static str, text: &str) -> Result<String, TextError> {
    if text.chars().any(char::is_control) {
        return Err(TextError::Unfit { what, text: text.to_owned(), why: "it holds a control character" });
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::{Stamp, stamp};

    fn clock() -> ProgramUnit {
        ProgramUnit {
            name: "clock".to_owned(),
            description: "tells the time, 100%".to_owned(),
            program: "/opt/a b/clock".into(),
            arguments: vec!["--words".to_owned(), "$5 a \"tick\"".to_owned()],
            scope: Scope::System,
            start: Start::Auto,
            user: Some("clock".to_owned()),
            start_within: Duration::from_secs(25),
            stop_within: Duration::from_secs(10),
            watchdog: Some(Duration::from_secs(30)),
        }
    }

    #[test]
    fn the_whole_unit_reads_like_this() {
        let text = clock().text(252).unwrap();
        assert_eq!(stamp(&text), Stamp::Intact);
        let body: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            body,
            [
                "[Unit]",
                "Description=tells the time, 100%%",
                "After=network.target nss-user-lookup.target time-sync.target",
                "",
                "[Service]",
                "Type=notify",
                "NotifyAccess=main",
                "ExecStart=:\"/opt/a b/clock\" --words \"$5 a \\\"tick\\\"\"",
                "ExecReload=/bin/kill -HUP $MAINPID",
                "User=clock",
                "WatchdogSec=30000ms",
                "TimeoutStartSec=25000ms",
                "TimeoutStopSec=15000ms",
                "KillMode=mixed",
                "Restart=on-failure",
                "RestartSec=1",
                "",
                "[Install]",
                "WantedBy=multi-user.target",
            ]
        );
    }

    #[test]
    fn a_newer_systemd_reloads_by_itself_and_an_older_one_has_other_words() {
        let newer = clock().text(253).unwrap();
        assert!(newer.contains("Type=notify-reload\n") && !newer.contains("ExecReload"));
        assert!(clock().text(243).unwrap().contains("ExecStart=\"/opt/a b/clock\" --words \"$$5 a"));
        assert_eq!(clock().text(234), Err(TextError::TooOld { version: 234 }));
        let mut own = clock();
        (own.scope, own.start, own.user) = (Scope::User, Start::Delayed, None);
        let own = own.text(252).unwrap();
        assert!(own.contains("After=default.target\n") && own.contains("WantedBy=default.target\n"));
        assert!(!own.contains("network") && !own.contains("User="));
    }

    #[test]
    fn no_word_gets_out_of_its_line() {
        for change in [
            (|unit| unit.description = "x\nExecStart=/bin/sh".to_owned()) as fn(&mut ProgramUnit),
            |unit| unit.arguments = vec!["a\nUser=root".to_owned()],
            |unit| unit.user = Some("x\ny".to_owned()),
            |unit| unit.name = "x\ny".to_owned(),
            |unit| unit.program = "/a\nb".into(),
        ] {
            let mut unit = clock();
            change(&mut unit);
            assert!(matches!(unit.text(252), Err(TextError::Unfit { .. })), "{unit:?}");
        }
    }
}
