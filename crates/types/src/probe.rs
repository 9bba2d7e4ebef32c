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
    /// Not a URL of the server asked for.
    #[error("{text:?} is no {scheme} URL: write {scheme}://[user[:password]@]host[:port][/name]")]
    Server {
        /// The text.
        text: String,
        /// The scheme that was expected.
        scheme: &'static str,
    },
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

    /// Reads `host[:port]` or `[v6][:port]` where there is a default; without one the port is needed.
    pub fn parse_or(text: &str, default_port: Option<u16>) -> Result<Self, TargetParseError> {
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

/// An `http://` or `https://` URL, split into what a request needs.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct HttpTarget {
    /// Whether it is `https`.
    pub tls: bool,
    /// Where to connect.
    pub address: HostPort,
    /// Path and query, beginning with `/`.
    pub path: String,
}

impl HttpTarget {
    /// Reads `http[s]://host[:port][/path][?query]`; the port is 80 or 443 by default (RFC 9110, 4.2.1 and 4.2.2).
    pub fn parse(text: &str) -> Result<Self, TargetParseError> {
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(TargetParseError::BadCharacter);
        }
        let (tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return Err(TargetParseError::Scheme(text.to_owned())),
        };
        let rest = rest.split('#').next().unwrap_or(rest);
        let cut = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(cut);
        let path = match path {
            "" => "/".to_owned(),
            query if query.starts_with('?') => format!("/{query}"),
            path => path.to_owned(),
        };
        let port = if tls { 443 } else { 80 };
        Ok(Self { tls, address: HostPort::parse_or(authority, Some(port))?, path })
    }
}

impl fmt::Display for HttpTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http{}://{}{}", if self.tls { "s" } else { "" }, self.address, self.path)
    }
}

/// The servers whose own protocol a check speaks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ServerKind {
    /// PostgreSQL, `postgres://` or `postgresql://`.
    Postgres,
    /// Redis and Valkey, `redis://` or `rediss://` (TLS).
    Redis,
    /// RabbitMQ and other AMQP 0-9-1 brokers, `amqp://` or `amqps://` (TLS).
    Amqp,
    /// MySQL and MariaDB, `mysql://`.
    Mysql,
}

impl ServerKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Postgres, Self::Redis, Self::Amqp, Self::Mysql];

    /// The key in the file, which is the scheme of the URL too.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Amqp => "amqp",
            Self::Mysql => "mysql",
        }
    }

    /// Every scheme that names it, and whether it asks for TLS.
    #[must_use]
    pub const fn schemes(self) -> &'static [(&'static str, bool)] {
        match self {
            Self::Postgres => &[("postgres", false), ("postgresql", false)],
            Self::Redis => &[("redis", false), ("rediss", true)],
            Self::Amqp => &[("amqp", false), ("amqps", true)],
            Self::Mysql => &[("mysql", false)],
        }
    }

    /// The port when the URL names none, as registered with IANA.
    #[must_use]
    pub const fn default_port(self, tls: bool) -> u16 {
        match (self, tls) {
            (Self::Postgres, _) => 5432,
            (Self::Redis, _) => 6379,
            (Self::Amqp, false) => 5672,
            (Self::Amqp, true) => 5671,
            (Self::Mysql, _) => 3306,
        }
    }
}

/// The URL of a server that is asked in its own protocol. The whole text is kept for the client that speaks it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ServerUrl {
    /// What it is.
    pub kind: ServerKind,
    /// Where to connect.
    pub address: HostPort,
    /// As written, with the password if there is one: for the client only.
    pub url: String,
    /// The URL without its password, for people.
    shown: String,
}

impl ServerUrl {
    /// Reads `scheme://[user[:password]@]host[:port][/name][?options]`.
    pub fn parse(kind: ServerKind, text: &str) -> Result<Self, TargetParseError> {
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(TargetParseError::BadCharacter);
        }
        let bad = || TargetParseError::Server { text: without_password(text), scheme: kind.as_str() };
        let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
        let (_, tls) = kind.schemes().iter().find(|(name, _)| *name == scheme).ok_or_else(bad)?;
        let cut = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let authority = &rest[..cut];
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let address = HostPort::parse_or(host, Some(kind.default_port(*tls)))?;
        Ok(Self { kind, address, url: text.to_owned(), shown: without_password(text) })
    }

    /// The path with its `/`, which names a database or virtual host; empty where there is none.
    #[must_use]
    pub fn path(&self) -> &str {
        let rest = self.shown.split_once("://").map_or("", |(_, rest)| rest);
        let rest = &rest[..rest.find(['?', '#']).unwrap_or(rest.len())];
        let path = rest.find('/').map_or("", |start| &rest[start..]);
        if path == "/" { "" } else { path }
    }

    /// Whether the scheme asks for TLS.
    #[must_use]
    pub fn tls(&self) -> bool {
        let scheme = self.url.split_once("://").map_or("", |(scheme, _)| scheme);
        self.kind.schemes().iter().any(|(name, tls)| *name == scheme && *tls)
    }
}

impl fmt::Display for ServerUrl {
    /// The URL without its password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerUrl({})", self.shown)
    }
}

/// Takes `:password` out of the user part, and the value of a `password=` option.
fn without_password(text: &str) -> String {
    let (before, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
    let cut = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(cut);
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => format!("{}@{host}", user.split_once(':').map_or(user, |(name, _)| name)),
        None => authority.to_owned(),
    };
    let tail = match tail.split_once('?') {
        Some((path, query)) => {
            let shown = |pair: &str| {
                let (name, _) = pair.split_once('=').unwrap_or((pair, ""));
                if name.eq_ignore_ascii_case("password") { format!("{name}=***") } else { pair.to_owned() }
            };
            format!("{path}?{}", query.split('&').map(shown).collect::<Vec<_>>().join("&"))
        }
        None => tail.to_owned(),
    };
    if before.is_empty() { format!("{authority}{tail}") } else { format!("{before}://{authority}{tail}") }
}

/// A certificate authority and the name to expect, for checks over TLS; without one the system's authorities count.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct CaFile(pub std::path::PathBuf);

/// What a probe or an outside gate does.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ProbeAction {
    /// GET the URL; passes on `status`, or on any status from 200 to 399 when none is named (Kubernetes' rule), and
    /// when the body matches `body`.
    Http {
        /// The URL.
        target: HttpTarget,
        /// The one status that passes.
        status: Option<u16>,
        /// A regular expression that the first MiB of the body must match, valid.
        body: Option<String>,
        /// PEM file of the authority that signed the server's certificate; `None` trusts the system's.
        ca: Option<CaFile>,
    },
    /// Speak the server's own protocol; passes when it is ready and accepts the credentials of the URL.
    Server {
        /// The server.
        url: ServerUrl,
        /// As for `Http`; only with TLS.
        ca: Option<CaFile>,
    },
    /// Ask `grpc.health.v1.Health/Check`; passes on SERVING.
    Grpc {
        /// Where to connect, without TLS.
        address: HostPort,
        /// The service's name in the request; empty asks for the server as a whole.
        service: String,
    },
    /// Resolve the name; passes when there is an address.
    Dns(String),
    /// Look for a file or folder; passes when it is there.
    File(std::path::PathBuf),
    /// Connect; passes when the connection is accepted.
    Tcp(HostPort),
    /// Run; passes on exit code 0.
    Exec(CommandLine),
}

impl fmt::Display for ProbeAction {
    /// `http://127.0.0.1:8080/health`, `tcp 127.0.0.1:6379`, `postgres 127.0.0.1:5432/shop`, `exec pg_isready`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { target, .. } => target.fmt(f),
            Self::Server { url, .. } => write!(f, "{} {}{}", url.kind.as_str(), url.address, url.path()),
            Self::Grpc { address, service } if service.is_empty() => write!(f, "grpc {address}"),
            Self::Grpc { address, service } => write!(f, "grpc {address}/{service}"),
            Self::Dns(name) => write!(f, "dns {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
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
    /// The status was right and the body was not.
    #[error("HTTP {status}, but its body does not match {pattern:?}: {body}")]
    HttpBody {
        /// What came.
        status: u16,
        /// What the body was to match.
        pattern: String,
        /// The beginning of the body, at most 200 bytes, made printable.
        body: String,
    },
    /// It can be reached and speaks its protocol, and is not ready to work: starting up, in recovery, loading.
    #[error("it answers, but {0}")]
    NotReady(String),
    /// It is ready, and does not accept the credentials of the URL, or has no such database.
    #[error("it is ready, but does not let us in: {0}")]
    Credentials(String),
    /// There is no agreement on TLS: an unknown authority, another name, an expired certificate.
    #[error("no TLS with {address}: {message}")]
    Tls {
        /// Where to.
        address: HostPort,
        /// Why, and what to do.
        message: String,
    },
    /// The file is not there, or may not be looked at.
    #[error("{}: {message}", .path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// The system's answer.
        message: String,
    },
    /// A probe the program itself answers (`notify`, `log`) has not been answered in time, or was answered with no.
    #[error("{0}")]
    NotSaid(String),
    /// The connection was there, and broke, or spoke another protocol.
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
    /// The command was still there when its time was up, and nobody had asked it for an answer.
    #[error("did not end within {}", format_duration(*.0))]
    DidNotEnd(Duration),
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
        let secure = HttpTarget::parse("https://x/").unwrap();
        assert_eq!((secure.tls, secure.to_string().as_str()), (true, "https://x:443/"));
        for bad in ["", "x", "ftp://x", "http://", "http://a b/", "http://user:pw@x/", "https://"] {
            assert!(HttpTarget::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reads_servers_and_hides_passwords() {
        let url = "postgres://app:s3:cr@t@db:5433/shop?sslmode=require&password=x#y";
        let server = ServerUrl::parse(ServerKind::Postgres, url).unwrap();
        assert_eq!((server.address.to_string().as_str(), server.url.as_str()), ("db:5433", url));
        assert_eq!(server.to_string(), "postgres://app@db:5433/shop?sslmode=require&password=***");
        assert!(!format!("{server:?}").contains("cr@t"));
        let shown = |kind, url| {
            let url = ServerUrl::parse(kind, url).unwrap();
            ProbeAction::Server { url, ca: None }.to_string()
        };
        assert_eq!(shown(ServerKind::Postgres, url), "postgres db:5433/shop");
        assert_eq!(shown(ServerKind::Redis, "redis://:pw@h?x=/y"), "redis h:6379");
        let broker = ServerUrl::parse(ServerKind::Amqp, "amqps://[::1]").unwrap();
        assert_eq!((broker.address.port, broker.tls()), (5671, true));
        for (kind, bad) in [
            (ServerKind::Postgres, "127.0.0.1"),
            (ServerKind::Postgres, "mysql://x"),
            (ServerKind::Redis, "redis://"),
            (ServerKind::Mysql, "mysql://u:p@h:0/"),
        ] {
            let error = ServerUrl::parse(kind, bad).unwrap_err().to_string();
            assert!(!error.contains("u:p"), "{error}");
        }
    }
}
