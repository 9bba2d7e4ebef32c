//! The one table of routes: the router, the query reader, the OpenAPI document and the client all go by it.

use crate::Verb;

/// Every path and method of the API.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Route {
    Status,
    Command(Verb),
    Reload,
    Events,
    Logs,
    RotateLogs,
    LogLevel,
    SetLogLevel,
    Metrics,
    Healthz,
    Readyz,
    OpenApi,
}

/// The HTTP methods in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Method {
    Get,
    Post,
}

impl Method {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

/// One query parameter; all are optional.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) kind: ParameterKind,
    pub(crate) doc: &'static str,
}

/// What a query parameter holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ParameterKind {
    /// `true` or `false`; the bare name is `true`.
    Flag,
    /// A whole number, not below this.
    Integer { minimum: i64 },
    /// Any text.
    Text,
    /// Any text, as often as one likes.
    Texts,
    /// An RFC 3339 time.
    Time,
    /// A duration as users write it: `10s`.
    Duration,
    /// One of these words.
    Word(&'static [&'static str]),
}

pub(crate) const WAIT: Parameter = Parameter {
    name: "wait",
    kind: ParameterKind::Flag,
    doc: "answer when the command has come to its end; otherwise as soon as it is taken",
};
pub(crate) const TIMEOUT: Parameter = Parameter {
    name: "timeout",
    kind: ParameterKind::Duration,
    doc: "with wait: after this time (10s, 2m) the answer is timed_out, and the host goes on",
};
pub(crate) const DRY_RUN: Parameter = Parameter {
    name: "dry_run",
    kind: ParameterKind::Flag,
    doc: "only tell what would be done; nothing is changed",
};
pub(crate) const FOLLOW: Parameter = Parameter {
    name: "follow",
    kind: ParameterKind::Flag,
    doc: "go on with what happens, as server-sent events; asking for text/event-stream means the same",
};
pub(crate) const AFTER_ID: Parameter = Parameter {
    name: "after_id",
    kind: ParameterKind::Integer { minimum: 0 },
    doc: "only events after this id; when following, the Last-Event-ID header means the same",
};
pub(crate) const LIMIT: Parameter = Parameter {
    name: "limit",
    kind: ParameterKind::Integer { minimum: 0 },
    doc: "only the last so many of those that match",
};
pub(crate) const EVENT_SERVICE: Parameter =
    Parameter { name: "service", kind: ParameterKind::Text, doc: "only of this service" };
pub(crate) const LOG_SERVICE: Parameter =
    Parameter { name: "service", kind: ParameterKind::Texts, doc: "only of this service; may be repeated" };
pub(crate) const ROTATE_SERVICE: Parameter = Parameter {
    name: "service",
    kind: ParameterKind::Texts,
    doc: "the log files of this service; may be repeated; without one, those of all services",
};
pub(crate) const SINCE: Parameter =
    Parameter { name: "since", kind: ParameterKind::Time, doc: "only lines of this time or later" };
pub(crate) const UNTIL: Parameter = Parameter {
    name: "until",
    kind: ParameterKind::Time,
    doc: "only lines up to this time; when following, it ends then",
};
pub(crate) const LAST: Parameter = Parameter {
    name: "last",
    kind: ParameterKind::Integer { minimum: 0 },
    doc: "only the last so many lines of those that match",
};
pub(crate) const GREP: Parameter = Parameter {
    name: "grep",
    kind: ParameterKind::Text,
    doc: "only lines this regular expression finds something in",
};
pub(crate) const IGNORE_CASE: Parameter = Parameter {
    name: "ignore_case",
    kind: ParameterKind::Flag,
    doc: "with grep: upper and lower case are the same",
};
pub(crate) const LEVEL: Parameter = Parameter {
    name: "level",
    kind: ParameterKind::Word(&["trace", "debug", "info", "warn", "error", "fatal"]),
    doc: "only lines at least this serious; a line of a stack trace counts as the error it belongs to",
};
pub(crate) const STREAM: Parameter = Parameter {
    name: "stream",
    kind: ParameterKind::Word(&["stdout", "stderr"]),
    doc: "only of this stream",
};

pub(crate) const OWN_LEVEL: Parameter = Parameter {
    name: "level",
    kind: ParameterKind::Text,
    doc: "off, error, warn, info, debug or trace; or by part of the host: warn,mainstay_host=debug",
};

impl Route {
    /// All routes.
    pub(crate) const ALL: [Self; 15] = [
        Self::Status,
        Self::Command(Verb::Start),
        Self::Command(Verb::Stop),
        Self::Command(Verb::Restart),
        Self::Command(Verb::Reload),
        Self::Reload,
        Self::Events,
        Self::Logs,
        Self::RotateLogs,
        Self::LogLevel,
        Self::SetLogLevel,
        Self::Metrics,
        Self::Healthz,
        Self::Readyz,
        Self::OpenApi,
    ];

    /// The path; `{name}` stands for a service's name.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Status => "/v1/status",
            Self::Command(Verb::Start) => "/v1/services/{name}/start",
            Self::Command(Verb::Stop) => "/v1/services/{name}/stop",
            Self::Command(Verb::Restart) => "/v1/services/{name}/restart",
            Self::Command(Verb::Reload) => "/v1/services/{name}/reload",
            Self::Reload => "/v1/reload",
            Self::Events => "/v1/events",
            Self::Logs => "/v1/logs",
            Self::RotateLogs => "/v1/logs/rotate",
            Self::LogLevel | Self::SetLogLevel => "/v1/log-level",
            Self::Metrics => "/metrics",
            Self::Healthz => "/healthz",
            Self::Readyz => "/readyz",
            Self::OpenApi => "/openapi.json",
        }
    }

    pub(crate) const fn method(self) -> Method {
        match self {
            Self::Command(_) | Self::Reload | Self::RotateLogs | Self::SetLogLevel => Method::Post,
            Self::Status
            | Self::Events
            | Self::Logs
            | Self::LogLevel
            | Self::Metrics
            | Self::Healthz
            | Self::Readyz
            | Self::OpenApi => Method::Get,
        }
    }

    /// One sentence for the document.
    pub(crate) const fn summary(self) -> &'static str {
        match self {
            Self::Status => "The state of the host and of every service",
            Self::Command(Verb::Start) => "Start a service and all it needs",
            Self::Command(Verb::Stop) => "Stop a service, and first all that depend on it",
            Self::Command(Verb::Restart) => "Stop and start a service",
            Self::Command(Verb::Reload) => "Have a service read its configuration again",
            Self::Reload => "Read the file again, and start, stop and restart what changed",
            Self::Events => "The stack's timeline, oldest first",
            Self::Logs => "What the services wrote, merged by time, oldest first",
            Self::RotateLogs => "Close the current log files, each between two lines, and begin new ones",
            Self::LogLevel => "What the host's own log tells",
            Self::SetLogLevel => "Change what the host's own log tells, from now on",
            Self::Metrics => "Metrics in the Prometheus text format",
            Self::Healthz => "Whether the host works",
            Self::Readyz => "Whether the stack is up: every service with autostart is ready or completed",
            Self::OpenApi => "This document",
        }
    }

    /// The query parameters it takes; any other is refused.
    pub(crate) const fn parameters(self) -> &'static [Parameter] {
        match self {
            Self::Command(_) => &[WAIT, TIMEOUT],
            Self::Reload => &[DRY_RUN, WAIT, TIMEOUT],
            Self::Events => &[AFTER_ID, LIMIT, EVENT_SERVICE, FOLLOW],
            Self::Logs => &[LOG_SERVICE, SINCE, UNTIL, LAST, GREP, IGNORE_CASE, LEVEL, STREAM, FOLLOW],
            Self::RotateLogs => &[ROTATE_SERVICE],
            Self::SetLogLevel => &[OWN_LEVEL],
            Self::Status | Self::LogLevel | Self::Metrics | Self::Healthz | Self::Readyz | Self::OpenApi => {
                &[]
            }
        }
    }
}
