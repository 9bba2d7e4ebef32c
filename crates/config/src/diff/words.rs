//! Values as people wrote them, without what must not be shown.

use std::path::Path;

use mainstay_types::{CaFile, CommandLine, ListenAddress, ProbeAction};

use crate::stack::{
    Condition, Gate, Hook, Kind, Lose, Need, ReloadPolicy, RestartWhen, StopAction, StopPolicy,
};
use crate::value::{Choice as _, time_text};

/// A key that is not there.
pub(super) const NONE: &str = "(none)";
/// In place of a secret.
pub(super) const HIDDEN: &str = "***";
/// Longest value shown: a screen line or two.
const MAX_SHOWN_CHARS: usize = 200;
/// A variable whose name holds one of these holds a secret, or may.
const SECRET_WORDS: [&str; 5] = ["PASS", "SECRET", "TOKEN", "KEY", "CREDENTIAL"];

/// One line of bounded length, without control characters. An empty text is shown as `""`.
pub(super) fn printable(text: &str) -> String {
    if text.is_empty() {
        return "\"\"".to_owned();
    }
    let mut shown = String::new();
    for (index, c) in text.chars().enumerate() {
        if index == MAX_SHOWN_CHARS {
            shown.push('…');
            break;
        }
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// The value of a variable, when it may be seen.
pub(super) fn variable(name: &str, value: &str) -> String {
    let upper = name.to_uppercase();
    if SECRET_WORDS.iter().any(|word| upper.contains(word)) {
        return HIDDEN.to_owned();
    }
    without_password(value)
}

/// A URL with a password loses it; any other text stays.
fn without_password(text: &str) -> String {
    let parts = text.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?)));
    match parts.and_then(|(scheme, (user, host))| Some((scheme, user.split_once(':')?.0, host))) {
        Some((scheme, user, host)) => format!("{scheme}://{user}:{HIDDEN}@{host}"),
        None => text.to_owned(),
    }
}

pub(super) fn kind(kind: Kind) -> &'static str {
    kind.word()
}

pub(super) fn restart_when(when: RestartWhen) -> &'static str {
    when.word()
}

/// `1.5` for 1500.
pub(super) fn cores(millis: u64) -> String {
    let text = format!("{}.{:03}", millis / 1000, millis % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// All of a gate, with the password of its URL: for comparing only.
pub(super) fn exact_need(need: &Need) -> String {
    let url = match &need.gate {
        Gate::Outside(ProbeAction::Server { url, .. }) => url.url.as_str(),
        Gate::Outside(_) | Gate::Service { .. } => "",
    };
    format!("{need:?}{url:?}")
}

/// One key of a check.
pub(super) struct Part {
    pub(super) key: &'static str,
    /// For comparing only: may hold a password.
    pub(super) exact: String,
    /// For people.
    pub(super) shown: String,
}

impl Part {
    fn new(key: &'static str, exact: impl Into<String>, shown: impl Into<String>) -> Self {
        Self { key, exact: exact.into(), shown: shown.into() }
    }

    /// A value that is shown as it is.
    fn plain(key: &'static str, value: &impl ToString) -> Self {
        Self::new(key, value.to_string(), value.to_string())
    }
}

/// Values that paths are in.
pub(super) struct Words<'d> {
    /// The folder of the file, which paths are shown relative to.
    pub(super) dir: &'d Path,
}

impl Words<'_> {
    /// As it was written, as far as that can be told: `.`, `./data` or `/var/lib/shop`.
    pub(super) fn path(&self, path: &Path) -> String {
        match path.strip_prefix(self.dir) {
            Ok(inner) if inner.as_os_str().is_empty() => ".".to_owned(),
            // With slashes everywhere, as files are written.
            Ok(inner) => {
                let parts = inner.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
                std::iter::once(".".to_owned()).chain(parts).collect::<Vec<_>>().join("/")
            }
            Err(_) => path.display().to_string(),
        }
    }

    pub(super) fn command(&self, command: &CommandLine) -> String {
        let program = Path::new(&command.program);
        let program =
            if program.starts_with(self.dir) { self.path(program) } else { command.program.clone() };
        CommandLine { program, args: command.args.clone() }.to_string()
    }

    pub(super) fn hook(&self, Hook { command, timeout }: &Hook) -> String {
        format!("{} within {}", self.command(command), time_text(*timeout))
    }

    pub(super) fn reload(&self, reload: &ReloadPolicy) -> String {
        match reload {
            ReloadPolicy::Rolling => "rolling".to_owned(),
            ReloadPolicy::Signal(signal) => signal.to_string(),
            ReloadPolicy::Command(hook) => self.hook(hook),
        }
    }

    pub(super) fn address(&self, address: &ListenAddress) -> String {
        match address {
            ListenAddress::Unix(path) => format!("unix:{}", self.path(path)),
            ListenAddress::UnixDatagram(path) => format!("unixgram:{}", self.path(path)),
            ListenAddress::Tcp(_) | ListenAddress::Udp(_) => address.to_string(),
        }
    }

    /// `run ./drain, wait 5s, SIGTERM, kill after 15s`.
    pub(super) fn stop(&self, stop: &StopPolicy) -> String {
        let mut words = String::new();
        for step in &stop.steps {
            match &step.action {
                StopAction::Signal(signal) => words.push_str(signal.as_str()),
                StopAction::Command(command) => words.push_str(&format!("run {}", self.command(command))),
            }
            words.push_str(", ");
            if let Some(wait) = step.wait {
                words.push_str(&format!("wait {}, ", time_text(wait)));
            }
        }
        format!("{words}kill after {}", time_text(stop.grace))
    }

    /// `service db is ready`, `tcp 127.0.0.1:6379 within 30s`.
    pub(super) fn need(&self, Need { gate, within, lose, period }: &Need) -> String {
        let mut words = match gate {
            Gate::Service { service, is } => format!("service {service} is {}", condition(*is)),
            Gate::Outside(action) => {
                let parts: Vec<_> = self
                    .action(action)
                    .into_iter()
                    .map(|part| format!("{} {}", part.key, part.shown))
                    .collect();
                parts.join(" ")
            }
        };
        if let Some(within) = within {
            words.push_str(&format!(" within {}", time_text(*within)));
        }
        match lose {
            Lose::Ignore => {}
            Lose::Stop | Lose::Restart => words.push_str(&format!(" lose {}", lose.word())),
        }
        if *period != Need::DEFAULT_PERIOD {
            words.push_str(&format!(" period {}", time_text(*period)));
        }
        words
    }

    /// A check as the keys it is written with.
    pub(super) fn action(&self, action: &ProbeAction) -> Vec<Part> {
        let path = |key, path: &Path| Part::new(key, format!("{path:?}"), self.path(path));
        let authority = |ca: &Option<CaFile>| ca.as_ref().map(|CaFile(file)| path("ca", file));
        match action {
            ProbeAction::Http { target, status, body, ca } => {
                let mut parts = vec![Part::plain("http", target)];
                parts.extend(status.map(|status| Part::plain("status", &status)));
                parts.extend(body.as_ref().map(|body| Part::plain("body", body)));
                parts.extend(authority(ca));
                parts
            }
            ProbeAction::Server { url, ca } => {
                let mut parts = vec![Part::new(url.kind.as_str(), url.url.as_str(), url.to_string())];
                parts.extend(authority(ca));
                parts
            }
            ProbeAction::Grpc { address, service } => {
                let mut parts = vec![Part::plain("grpc", address)];
                if !service.is_empty() {
                    parts.push(Part::plain("grpc_service", service));
                }
                parts
            }
            ProbeAction::Dns(name) => vec![Part::plain("dns", name)],
            ProbeAction::File(file) => vec![path("file", file)],
            ProbeAction::Tcp(address) => vec![Part::plain("tcp", address)],
            ProbeAction::Exec(command) => {
                vec![Part::new("exec", format!("{command:?}"), self.command(command))]
            }
        }
    }
}

fn condition(is: Condition) -> &'static str {
    is.word()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_variables_are_hidden() {
        for (name, value, want) in [
            ("PORT", "80", "80"),
            ("EMPTY", "", ""),
            ("DB_PASSWORD", "x", HIDDEN),
            ("pgpassword", "x", HIDDEN),
            ("Aws_Secret", "x", HIDDEN),
            ("API_KEY", "x", HIDDEN),
            ("GITHUB_TOKEN", "x", HIDDEN),
            ("DATABASE_URL", "postgres://app:p/w@x@db/shop", "postgres://app:***@db/shop"),
            ("SITE", "http://example.org/@me", "http://example.org/@me"),
            ("MAIL", "a:b@c", "a:b@c"),
        ] {
            assert_eq!(variable(name, value), want, "{name}");
        }
    }

    #[test]
    fn values_are_one_short_line() {
        assert_eq!(printable(""), "\"\"");
        assert_eq!(printable("a\nb\u{1b}[31m é"), "a\\nb\\u{1b}[31m é");
        let long = printable(&"é".repeat(5000));
        assert_eq!(long.chars().count(), MAX_SHOWN_CHARS + 1);
    }

    #[test]
    fn paths_are_shown_as_they_were_written() {
        let words = Words { dir: Path::new("/srv/shop") };
        for (path, want) in [
            ("/srv/shop", "."),
            ("/srv/shop/data/x", "./data/x"),
            ("/srv/shopping", "/srv/shopping"),
            ("/srv/shop/../x", "./../x"),
        ] {
            assert_eq!(words.path(Path::new(path)).replace('\\', "/"), want);
        }
        let line = |program: &str| CommandLine { program: program.to_owned(), args: vec!["a b".to_owned()] };
        assert_eq!(words.command(&line("web")), "web 'a b'");
    }

    #[test]
    fn cores_are_numbers_again() {
        for (millis, want) in [(10, "0.01"), (1500, "1.5"), (1000, "1"), (20_000, "20")] {
            assert_eq!(cores(millis), want);
        }
    }
}
