//! What a probe or gate asks, and what it was answered.

use std::fmt;
use std::time::Duration;

use crate::{CommandLine, Exit, format_duration};

/// Which of the three probes of a service, with Kubernetes' meaning.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ProbeKind {
    /// Has it started? Holds the other two back until it has.
    Startup,
    /// May it get traffic?
    Readiness,
    /// Must it be restarted?
    Liveness,
}

impl ProbeKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Startup, Self::Readiness, Self::Liveness];

    /// The key in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Readiness => "readiness",
            Self::Liveness => "liveness",
        }
    }
}

impl fmt::Display for ProbeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a text is no address or URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetParseError {
    /// No `host:port`.
    #[error("{0:?} is no address: write host:port, such as 127.0.0.1:5432 or [::1]:80")]
    Address(String),
    /// The port is no number from 1 to 65535.
    #[error("{0:?} is no port: use a number from 1 to 65535")]
    Port(String),
    /// Neither http nor https.
    #[error("{0:?} is no http URL: write http://host:port/path")]
    Scheme(String),
    /// https, for which there is no support yet.
    #[error("https is not supported yet")]
    HttpsNotYet,
    /// A character a URL cannot hold.
    #[error("a URL holds no blank or control character; write %20 for a blank")]
    BadCharacter,
}

/// A host name or address and a port.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct HostPort {
    /// A name, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
}

impl HostPort {
    /// Reads `host:port` or `[v6]:port`.
    pub fn parse(text: &str) -> Result<Self, TargetParseError> {
        Self::parse_or(text, None)
    }

    fn parse_or(text: &str, default_port: Option<u16>) -> Result<Self, TargetParseError> {
        let bad = || TargetParseError::Address(text.to_owned());
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, after) = rest.split_once(']').ok_or_else(bad)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or_else(bad)?) })
        } else {
            match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        let host_char = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
        if host.is_empty() || !host.chars().all(host_char) {
            return Err(bad());
        }
        let port = match port {
            Some(port) => match port.parse::<u16>() {
                Ok(number) if number != 0 => number,
                _ => return Err(TargetParseError::Port(port.to_owned())),
            },
            None => default_port.ok_or_else(bad)?,
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// An `http://` URL, split into what a request needs.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct HttpTarget {
    /// Where to connect.
    pub address: HostPort,
    /// Path and query, beginning with `/`.
    pub path: String,
}

impl HttpTarget {
    /// Reads `http://host[:port][/path][?query]`; the port is 80 by default (RFC 9110, 4.2.1).
    pub fn parse(text: &str) -> Result<Self, TargetParseError> {
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(TargetParseError::BadCharacter);
        }
        if text.starts_with("https://") {
            return Err(TargetParseError::HttpsNotYet);
        }
        let rest = text.strip_prefix("http://").ok_or_else(|| TargetParseError::Scheme(text.to_owned()))?;
        let rest = rest.split('#').next().unwrap_or(rest);
        let cut = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(cut);
        let path = match path {
            "" => "/".to_owned(),
            query if query.starts_with('?') => format!("/{query}"),
            path => path.to_owned(),
        };
        Ok(Self { address: HostPort::parse_or(authority, Some(80))?, path })
    }
}

impl fmt::Display for HttpTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.address, self.path)
    }
}

/// What a probe or an outside gate does.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ProbeAction {
    /// GET the URL; passes on `status`, or on any status from 200 to 399 when none is named (Kubernetes' rule).
    Http {
        /// The URL.
        target: HttpTarget,
        /// The one status that passes.
        status: Option<u16>,
    },
    /// Connect; passes when the connection is accepted.
    Tcp(HostPort),
    /// Run; passes on exit code 0.
    Exec(CommandLine),
}

impl fmt::Display for ProbeAction {
    /// `http http://127.0.0.1:8080/health`, `tcp 127.0.0.1:6379`, `exec pg_isready`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { target, .. } => write!(f, "http {target}"),
            Self::Tcp(address) => write!(f, "tcp {address}"),
            Self::Exec(command) => write!(f, "exec {command}"),
        }
    }
}

/// The answer to one probe or one gate check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProbeOutcome {
    /// It passed; the text is the evidence (`HTTP 200`, `connected`, `exit code 0`).
    Passed(String),
    /// It did not pass.
    Failed(ProbeFailure),
}

impl ProbeOutcome {
    /// Whether it passed.
    #[must_use]
    pub const fn is_passed(&self) -> bool {
        matches!(self, Self::Passed(_))
    }
}

impl fmt::Display for ProbeOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed(evidence) => f.write_str(evidence),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

/// Why a probe did not pass. The kinds a user must tell apart are variants.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProbeFailure {
    /// Nobody listens there.
    #[error("connection to {0} refused: nobody listens there")]
    Refused(HostPort),
    /// No route, network down and the like.
    #[error("cannot reach {address}: {message}")]
    Unreachable {
        /// Where to.
        address: HostPort,
        /// The system's answer.
        message: String,
    },
    /// The name does not resolve.
    #[error("cannot resolve {host}: {message}")]
    Dns {
        /// The name.
        host: String,
        /// The resolver's answer.
        message: String,
    },
    /// No connection within the time allowed: what is there takes none, or a firewall drops it.
    #[error("no connection to {address} within {}", format_duration(*.within))]
    ConnectTimedOut {
        /// Where to.
        address: HostPort,
        /// The time allowed.
        within: Duration,
    },
    /// Connected, or begun, and no answer within the time allowed.
    #[error("no answer within {}", format_duration(*.0))]
    TimedOut(Duration),
    /// It answered with another status than wanted.
    #[error("{}", http_status_words(*.status, .wanted.as_ref().copied(), .body))]
    HttpStatus {
        /// What came.
        status: u16,
        /// What was asked for; `None` is 200 to 399.
        wanted: Option<u16>,
        /// The beginning of the body, at most 200 bytes, made printable.
        body: String,
    },
    /// The connection was there, and broke, or spoke no HTTP.
    #[error("{0}")]
    Protocol(String),
    /// The command ended otherwise than with code 0; with the last line it wrote.
    #[error("the command {exit}{}", if .last_line.is_empty() { String::new() } else { format!(": {}", .last_line) })]
    Exit {
        /// How it ended.
        exit: Exit,
        /// The last line of its output, at most 200 bytes; empty when it wrote none.
        last_line: String,
    },
    /// The command could not be started.
    #[error("{0}")]
    NotStarted(String),
}

fn http_status_words(status: u16, wanted: Option<u16>, body: &str) -> String {
    let mut words = format!("HTTP {status}");
    if let Some(wanted) = wanted {
        words.push_str(&format!(" instead of {wanted}"));
    }
    if !body.is_empty() {
        words.push_str(&format!(": {body}"));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses() {
        assert_eq!(HostPort::parse("[::1]:80").unwrap().to_string(), "[::1]:80");
        assert_eq!(HostPort::parse("localhost:5432").unwrap().port, 5432);
        for bad in ["", "localhost", ":80", "a:0", "a:99999", "::1:80", "[::1", "a b:80", "[x]:80"] {
            assert!(HostPort::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reads_urls() {
        let target = HttpTarget::parse("http://127.0.0.1:8080/health?x=1#top").unwrap();
        assert_eq!(target.to_string(), "http://127.0.0.1:8080/health?x=1");
        assert_eq!(HttpTarget::parse("http://localhost").unwrap().to_string(), "http://localhost:80/");
        assert_eq!(HttpTarget::parse("http://localhost?q").unwrap().path, "/?q");
        assert_eq!(HttpTarget::parse("https://x/"), Err(TargetParseError::HttpsNotYet));
        for bad in ["", "x", "ftp://x", "http://", "http://a b/", "http://user:pw@x/"] {
            assert!(HttpTarget::parse(bad).is_err(), "{bad}");
        }
    }
}
