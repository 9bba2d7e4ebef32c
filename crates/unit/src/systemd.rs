//! The unit of a stack for systemd: its text, for the version that is to read it (systemd.unit(5), systemd.service(5),
//! systemd.exec(5)).
//!
//! What is in the unit counts for the services as well: they are children of the host. So nothing here takes from them
//! what some service may need; what one service may do is for the stack's file to say.

use std::path::Path;

use crate::registration::{ReadyWhen, Registration, Scope, Start};
use crate::stamp::stamped;

/// Oldest version whose words are all known: `Delegate=`, `StartLimitIntervalSec=`, state folders with a mode.
pub const OLDEST: u32 = 235;

/// A loop that says nothing for this long hangs. It says something three times as often.
const WATCHDOG_SECS: u64 = 30;
/// Above what the stack itself allows for its stop: for what is left to be written down.
const STOP_RESERVE_SECS: u64 = 30;
/// The host asks for more as long as it lives; so this is for a host that hangs before it is ready.
const START_SECS: u64 = 90;

/// Why a registration cannot be a unit.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TextError {
    /// A line of a unit cannot hold it.
    #[error("{what} {text:?} cannot stand in a unit: {why}")]
    Unfit {
        /// What it is: `the path`.
        what: &'static str,
        /// The text.
        text: String,
        /// Why.
        why: &'static str,
    },
    /// Not all of it is known to it.
    #[error("systemd {version} is too old: units of mainstay need version {OLDEST} or later")]
    TooOld {
        /// Which.
        version: u32,
    },
}

/// `mainstay-shop.service`.
#[must_use]
pub fn unit_filename(registration: &Registration) -> String {
    format!("{}.service", registration.name())
}

/// The text of the unit for this version of systemd.
///
/// # Errors
/// [`TextError`]: a path or a variable that no unit can hold; a version too old.
pub fn text(registration: &Registration, version: u32) -> Result<String, TextError> {
    if version < OLDEST {
        return Err(TextError::TooOld { version });
    }
    let unit = unit_filename(registration);
    let command = Command { registration, version, unit: &unit };
    let mut body = Body(String::new());
    body.section("Unit");
    body.set("Description", &format!("{} (mainstay stack)", registration.stack));
    // Without its file the host has nothing to run: what the file lies on is mounted first.
    body.set("RequiresMountsFor", &quoted(&path(&registration.file)?));
    for (key, value) in order(registration) {
        body.set(key, value);
    }
    // A host that fails again and again is not started for ever: 20 times within an hour.
    body.set("StartLimitIntervalSec", "3600");
    body.set("StartLimitBurst", "20");

    body.section("Service");
    body.set("Type", "notify");
    body.set("NotifyAccess", "main");
    body.set("ExecStart", &command.run()?);
    // Applies the file and waits, so that a file that is wrong makes the reload fail.
    body.set("ExecReload", &command.reload()?);
    body.set("WorkingDirectory", &folder(&registration.dir)?);
    for (name, value) in &registration.env {
        body.set("Environment", &variable(name, value)?);
    }
    body.set("WatchdogSec", &WATCHDOG_SECS.to_string());
    body.set("TimeoutStartSec", &START_SECS.to_string());
    body.set("TimeoutStopSec", &stop_limit(registration));
    // The host stops its services in order; what is left after it has ended is killed.
    body.set("KillMode", "mixed");
    body.set("Restart", "on-failure");
    body.set("RestartSec", "1");
    if version >= 254 {
        body.set("RestartSteps", "6");
        body.set("RestartMaxDelaySec", "60");
    }
    // A wrong file or a missing right does not mend itself by trying again.
    body.set("RestartPreventExitStatus", "2 5");
    // Its own control group to divide: each service gets one, with its limits.
    body.set("Delegate", "yes");
    body.set("TasksMax", "infinity");
    if version >= 243 {
        // A service that the kernel ends for want of memory is restarted by the host.
        body.set("OOMPolicy", "continue");
    }
    if registration.scope == Scope::System {
        if registration.default_state_dir {
            body.set("StateDirectory", &format!("mainstay/{}", registration.stack));
            body.set("StateDirectoryMode", "0700");
        }
        body.comment("What neither the host nor a service of a stack has any business with.");
        body.set("CapabilityBoundingSet", &format!("~{}", REFUSED_CAPABILITIES.join(" ")));
        body.set("SystemCallFilter", &format!("~{}", REFUSED_CALLS.join(" ")));
        body.set("SystemCallErrorNumber", "EPERM");
    }

    body.section("Install");
    body.set("WantedBy", boot_target(registration.scope));
    let head = format!(
        "# Written by mainstay for the stack {}. `mainstay install` writes it anew; add to it with `systemctl edit`.\n",
        registration.stack
    );
    Ok(stamped(&head, &body.0, "# ", ""))
}

/// A year and more is no limit, and systemd's numbers end somewhere.
fn stop_limit(registration: &Registration) -> String {
    match registration.stop_budget.as_secs() {
        secs if secs < 365 * 86_400 => (secs + STOP_RESERVE_SECS).to_string(),
        _ => "infinity".to_owned(),
    }
}

/// The machine as a whole: loading code into the kernel, reaching past it to the hardware, turning it off, changing its
/// rules of access and its record. No mount namespace is made for the host: services may mount for all to see.
const REFUSED_CAPABILITIES: [&str; 9] = [
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_BOOT",
    "CAP_SYS_PACCT",
    "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE",
    "CAP_AUDIT_CONTROL",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
];
const REFUSED_CALLS: [&str; 4] = ["@module", "@raw-io", "@reboot", "@swap"];

/// The target that stands for "up".
#[must_use]
pub const fn boot_target(scope: Scope) -> &'static str {
    match scope {
        Scope::System => "multi-user.target",
        Scope::User => "default.target",
    }
}

fn order(registration: &Registration) -> Vec<(&'static str, &'static str)> {
    let mut order = Vec::new();
    if registration.scope == Scope::System {
        if registration.needs_network {
            order.push(("Wants", "network-online.target"));
            order.push(("After", "network-online.target"));
        }
        // At shutdown the order is the other way round: the services stop while there is still a network.
        order.push(("After", "network.target nss-user-lookup.target time-sync.target"));
    }
    if registration.start == Start::Delayed {
        order.push(("After", boot_target(registration.scope)));
    }
    order
}

/// The lines that run mainstay.
struct Command<'a> {
    registration: &'a Registration,
    version: u32,
    unit: &'a str,
}

impl Command<'_> {
    fn run(&self) -> Result<String, TextError> {
        let mut words = vec!["run", "--quiet", "--unit", self.unit];
        if self.registration.ready == ReadyWhen::Host {
            words.extend(["--ready", "host"]);
        }
        self.line(&words)
    }

    fn reload(&self) -> Result<String, TextError> {
        self.line(&["reload"])
    }

    fn line(&self, words: &[&str]) -> Result<String, TextError> {
        // A colon before the program turns the replacing of `$` off; older versions want it doubled.
        let knows_colon = self.version >= 244;
        let program = quoted(&path(&self.registration.program)?);
        let mut line = if knows_colon { format!(":{program}") } else { program };
        let file = path(&self.registration.file)?;
        for word in words.iter().copied().chain(["--file", &file]) {
            line.push(' ');
            let word = quoted(word);
            line.push_str(&if knows_colon { word } else { word.replace('$', "$$") });
        }
        Ok(line)
    }
}

pub(crate) struct Body(pub(crate) String);

impl Body {
    pub(crate) fn section(&mut self, name: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        self.0.push_str(&format!("{gap}[{name}]\n"));
    }

    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.0.push_str(&format!("{key}={value}\n"));
    }

    fn comment(&mut self, words: &str) {
        self.0.push_str(&format!("# {words}\n"));
    }
}

pub(crate) fn path(path: &Path) -> Result<String, TextError> {
    let unfit = |why| TextError::Unfit { what: "the path", text: path.display().to_string(), why };
    let text = path.to_str().ok_or_else(|| unfit("it is not UTF-8"))?;
    if text.chars().any(char::is_control) {
        return Err(unfit("it holds a control character"));
    }
    Ok(text.to_owned())
}

/// A folder stands as it is on the rest of its line, but for specifiers.
fn folder(dir: &Path) -> Result<String, TextError> {
    let text = path(dir)?;
    let unfit = |why| TextError::Unfit { what: "the folder", text: text.clone(), why };
    if text.ends_with('\\') {
        return Err(unfit("it ends with a backslash"));
    }
    if text.ends_with(char::is_whitespace) {
        return Err(unfit("it ends with a blank"));
    }
    Ok(text.replace('%', "%%"))
}

fn variable(name: &str, value: &str) -> Result<String, TextError> {
    let fits = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !fits {
        let why = "the name of a variable has letters, digits and underscores";
        return Err(TextError::Unfit { what: "the variable", text: name.to_owned(), why });
    }
    if value.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        let why = "its value holds a control character";
        return Err(TextError::Unfit { what: "the variable", text: name.to_owned(), why });
    }
    Ok(quoted(&format!("{name}={value}")))
}

/// One word of a line, as systemd takes words apart: in quotes where it needs them, specifiers doubled.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@,=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let mut text = String::from("\"");
    for c in word.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '%' => text.push_str("%%"),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use crate::stamp::{Stamp, stamp};
    use crate::tests::registration;

    fn lines(registration: &Registration, version: u32) -> Vec<String> {
        text(registration, version).unwrap().lines().map(str::to_owned).collect()
    }

    fn has(registration: &Registration, version: u32, line: &str) -> bool {
        lines(registration, version).iter().any(|is| is == line)
    }

    #[test]
    fn the_whole_unit_reads_like_this() {
        let text = text(&registration(), 252).unwrap();
        assert_eq!(stamp(&text), Stamp::Intact);
        let body: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            body,
            [
                "[Unit]",
                "Description=shop (mainstay stack)",
                "RequiresMountsFor=/srv/shop/mainstay.toml",
                "After=network.target nss-user-lookup.target time-sync.target",
                "StartLimitIntervalSec=3600",
                "StartLimitBurst=20",
                "",
                "[Service]",
                "Type=notify",
                "NotifyAccess=main",
                "ExecStart=:/usr/bin/mainstay run --quiet --unit mainstay-shop.service --file /srv/shop/mainstay.toml",
                "ExecReload=:/usr/bin/mainstay reload --file /srv/shop/mainstay.toml",
                "WorkingDirectory=/srv/shop",
                "WatchdogSec=30",
                "TimeoutStartSec=90",
                "TimeoutStopSec=45",
                "KillMode=mixed",
                "Restart=on-failure",
                "RestartSec=1",
                "RestartPreventExitStatus=2 5",
                "Delegate=yes",
                "TasksMax=infinity",
                "OOMPolicy=continue",
                "StateDirectory=mainstay/shop",
                "StateDirectoryMode=0700",
                "# What neither the host nor a service of a stack has any business with.",
                "CapabilityBoundingSet=~CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_BOOT CAP_SYS_PACCT CAP_MAC_ADMIN \
                 CAP_MAC_OVERRIDE CAP_AUDIT_CONTROL CAP_WAKE_ALARM CAP_BLOCK_SUSPEND",
                "SystemCallFilter=~@module @raw-io @reboot @swap",
                "SystemCallErrorNumber=EPERM",
                "",
                "[Install]",
                "WantedBy=multi-user.target",
            ]
        );
    }

    #[test]
    fn words_that_a_version_does_not_know_are_not_written() {
        let shop = registration();
        assert!(has(&shop, 254, "RestartSteps=6") && !has(&shop, 253, "RestartSteps=6"));
        assert!(has(&shop, 243, "OOMPolicy=continue") && !has(&shop, 242, "OOMPolicy=continue"));
        assert_eq!(text(&shop, 234), Err(TextError::TooOld { version: 234 }));
    }

    #[test]
    fn blanks_and_signs_of_systemd_are_kept_from_it() {
        let mut shop = registration();
        shop.file = PathBuf::from("/srv/Café 100%/it's \"$HOME\"/a\\b.toml");
        shop.dir = PathBuf::from("/srv/Café 100%");
        let file = "\"/srv/Café 100%%/it's \\\"$HOME\\\"/a\\\\b.toml\"";
        assert!(has(&shop, 252, &format!("RequiresMountsFor={file}")));
        assert!(has(&shop, 252, &format!("ExecReload=:/usr/bin/mainstay reload --file {file}")));
        assert!(has(&shop, 252, "WorkingDirectory=/srv/Café 100%%"));
        // The colon is younger than 243: there the sign is doubled, but not in the program's path.
        shop.program = PathBuf::from("/opt/a$b/mainstay");
        let file = file.replace('$', "$$");
        assert!(has(&shop, 243, &format!("ExecReload=\"/opt/a$b/mainstay\" reload --file {file}")));
    }

    #[test]
    fn what_no_unit_can_hold_is_refused() {
        for path in ["/srv/a\nb", "/srv/a\u{7}b"] {
            let mut shop = registration();
            shop.file = PathBuf::from(path);
            assert!(text(&shop, 252).is_err(), "{path:?}");
        }
        for dir in ["/srv/a\\", "/srv/a "] {
            let mut shop = registration();
            shop.dir = PathBuf::from(dir);
            assert!(text(&shop, 252).is_err(), "{dir:?}");
        }
        for name in ["", "1A", "A B", "A=B", "Ä"] {
            let mut shop = registration();
            shop.env = vec![(name.to_owned(), "x".to_owned())];
            assert!(text(&shop, 252).is_err(), "{name:?}");
        }
    }

    #[test]
    fn variables_are_one_word_each() {
        let mut shop = registration();
        shop.env = vec![("A".to_owned(), "x y%z".to_owned()), ("B".to_owned(), "1\n2".to_owned())];
        assert!(has(&shop, 252, "Environment=\"A=x y%%z\"") && has(&shop, 252, "Environment=\"B=1\\n2\""));
    }

    #[test]
    fn a_users_unit_asks_for_nothing_of_the_system() {
        let mut shop = registration();
        (shop.scope, shop.needs_network) = (Scope::User, true);
        let text = lines(&shop, 252).join("\n");
        for word in ["network", "CapabilityBoundingSet", "SystemCallFilter", "StateDirectory", "multi-user"] {
            assert!(!text.contains(word), "{word}");
        }
        assert!(text.contains("WantedBy=default.target"));
    }

    #[test]
    fn the_order_follows_what_the_stack_needs() {
        let mut shop = registration();
        (shop.needs_network, shop.start) = (true, Start::Delayed);
        for line in ["Wants=network-online.target", "After=network-online.target", "After=multi-user.target"]
        {
            assert!(has(&shop, 252, line), "{line}");
        }
        shop.ready = ReadyWhen::Host;
        assert!(lines(&shop, 252).iter().any(|line| line.contains(" --ready host --file ")));
        shop.stop_budget = Duration::MAX;
        assert!(has(&shop, 252, "TimeoutStopSec=infinity"));
    }
}
