//! Where output is sent to: how `[forward.NAME]` is read, and what takes more than one of its keys to check.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mainstay_types::{CaFile, HostPort, HttpTarget, ServiceName};
use toml::Spanned;
use toml::de::DeValue;

use crate::declare::{At, Key, Options, Shape};
use crate::diagnostic::Found;
use crate::graph;
use crate::keys::{
    ForwardBackoffOptions, ForwardBatchOptions, ForwardCompression, ForwardOptions, ForwardTo,
};
use crate::nearest::nearest;
use crate::nested::NamedService;
use crate::read::{Reader, shown};
use crate::stack::{Destination, Forward, ForwardBackoff, ForwardBatch, Headers};
use crate::value::{Value, clipped, time_text};

/// Targets of one stack: each has a thread of its own.
const MAX_TARGETS: usize = 16;
/// Labels of one target: Loki takes 15 of a stream by default, of which mainstay has some of its own.
const MAX_LABELS: usize = 10;
/// Longest value of a label (Loki's `max_label_value_length`).
const MAX_LABEL_VALUE_BYTES: usize = 2048;
/// Names that lines have anyway.
const OWN_LABELS: [&str; 8] =
    ["stack", "service", "replica", "stream", "level", "service_name", "detected_level", "message"];
/// Longest path of a local socket in bytes: 108 with the closing NUL (unix(7)).
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// A list of names; one text is a list of one.
#[derive(Clone, Default, Debug)]
pub(crate) struct NameList(pub(crate) Vec<At<String>>);

impl Value for NameList {
    const SHAPE: Shape = Shape::Texts;

    fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        if value.get_ref().as_array().is_some_and(|array| array.is_empty()) {
            let message = format!("`{}` cannot be empty: nothing would be sent", key.name);
            let help = "take the key out to use its default";
            reader.report(Found::invalid(value.span(), message).help(help));
            return None;
        }
        let names = reader.list_of_texts(key, Self::SHAPE, value, |reader, item| {
            let value = reader.text(key, Shape::Texts, item)?;
            Some(At { value, span: item.span(), key: item.span() })
        })?;
        Some(Self(names))
    }
}

/// Which of the two outputs; never neither.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct StreamList {
    stdout: bool,
    stderr: bool,
}

impl Value for StreamList {
    const SHAPE: Shape = Shape::Texts;

    fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        const STREAMS: [&str; 2] = ["stdout", "stderr"];
        let names = NameList::read(reader, key, value)?;
        let mut whole = true;
        for name in names.0.iter().filter(|name| !STREAMS.contains(&name.value.as_str())) {
            let accepted = "accepted: \"stdout\", \"stderr\"";
            let help = match nearest(&name.value, STREAMS) {
                Some(near) => format!("did you mean \"{near}\"? {accepted}"),
                None => accepted.to_owned(),
            };
            let message = format!("`{}` cannot hold \"{}\"", key.name, shown(&name.value));
            reader.report(Found::invalid(name.span.clone(), message).help(help));
            whole = false;
        }
        let has = |stream: &str| names.0.iter().any(|name| name.value == stream);
        whole.then(|| Self { stdout: has("stdout"), stderr: has("stderr") })
    }
}

/// Names and texts that go with every line.
#[derive(Clone, Default, Debug)]
pub(crate) struct LabelTable(BTreeMap<String, String>);

impl Value for LabelTable {
    const SHAPE: Shape = Shape::Environment;

    fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        let labels = texts(reader, key, value, |name, text| {
            let is_name = !name.starts_with(|c: char| c.is_ascii_digit())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if name.is_empty() || name.len() > 32 || name.starts_with('_') || !is_name {
                return Some(
                    "a name has letters, digits and `_`, begins with a letter, and has at most 32 of them",
                );
            }
            if OWN_LABELS.contains(&name.to_ascii_lowercase().as_str()) {
                return Some("every line has one of that name anyway");
            }
            (text.len() > MAX_LABEL_VALUE_BYTES || text.chars().any(char::is_control))
                .then_some("a value has at most 2048 bytes, and no control characters")
        })?;
        if labels.len() > MAX_LABELS {
            let message = format!("`{}` holds at most {MAX_LABELS} names, not {}", key.name, labels.len());
            reader.report(Found::invalid(value.span(), message));
            return None;
        }
        Some(Self(labels))
    }
}

/// Fields of HTTP requests.
#[derive(Clone, Default)]
pub(crate) struct HeaderTable(BTreeMap<String, String>);

impl std::fmt::Debug for HeaderTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Value for HeaderTable {
    const SHAPE: Shape = Shape::Environment;

    fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        const OURS: [&str; 6] =
            ["host", "content-type", "content-length", "content-encoding", "transfer-encoding", "connection"];
        let headers = texts(reader, key, value, |name, text| {
            // token of RFC 9110, 5.6.2.
            let is_token = name.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c));
            if name.is_empty() || !is_token {
                return Some("it is no name of an HTTP field");
            }
            if OURS.contains(&name.to_ascii_lowercase().as_str()) {
                return Some("the request has that field anyway");
            }
            // A line break would begin another field.
            (!text.chars().all(|c| c == ' ' || c == '\t' || c.is_ascii_graphic()))
                .then_some("its value holds something else than printable ASCII characters")
        })?;
        Some(Self(headers))
    }
}

/// A table of names and texts; `wrong` says what is wrong with one. No message repeats a value.
fn texts(
    reader: &mut Reader<'_>,
    key: &Key,
    value: &Spanned<DeValue<'_>>,
    wrong: impl Fn(&str, &str) -> Option<&'static str>,
) -> Option<BTreeMap<String, String>> {
    let Some(table) = value.get_ref().as_table() else {
        reader.wrong_type(key, Shape::Environment, value, None);
        return None;
    };
    let mut found = BTreeMap::new();
    let mut whole = true;
    for (name, value) in table {
        let toml = value.get_ref();
        let text = if toml.is_str() {
            reader.text(key, Shape::Text, value)
        } else if let Some(integer) = toml.as_integer() {
            i128::from_str_radix(integer.as_str(), integer.radix()).ok().map(|number| number.to_string())
        } else if let Some(flag) = toml.as_bool() {
            Some(flag.to_string())
        } else {
            let message = format!("`{}` must be a text, a whole number or a boolean", shown(name.get_ref()));
            reader.report(Found::invalid(value.span(), message));
            None
        };
        let Some(text) = text else {
            whole = false;
            continue;
        };
        if let Some(why) = wrong(name.get_ref(), &text) {
            let message = format!("`{}` cannot stand in `{}`: {why}", shown(name.get_ref()), key.name);
            reader.report(Found::invalid(name.span(), message));
            whole = false;
            continue;
        }
        found.insert(name.get_ref().clone().into_owned(), text);
    }
    whole.then_some(found)
}

/// One `[forward.NAME]` table.
#[derive(Clone, Debug)]
pub(crate) struct NamedForward {
    name: ServiceName,
    /// The bytes of the name.
    span: std::ops::Range<usize>,
    options: ForwardOptions,
}

/// The targets, in the order of the file.
#[derive(Clone, Default, Debug)]
pub(crate) struct Forwards(Vec<NamedForward>);

impl Value for Forwards {
    const SHAPE: Shape = Shape::Targets(ForwardOptions::table);

    fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        let Some(table) = value.get_ref().as_table() else {
            let help = "write each target as a table of its own: [forward.NAME]".to_owned();
            reader.wrong_type(key, Self::SHAPE, value, Some(help));
            return None;
        };
        let mut forwards = Vec::with_capacity(table.len());
        let mut whole = true;
        for (name, value) in table {
            let parsed = ServiceName::parse(name.get_ref());
            if let Err(error) = &parsed {
                reader.report(Found::invalid(name.span(), error.to_string()));
            }
            let Some(table) = value.get_ref().as_table() else {
                let message = format!("the target `{}` must be a table", shown(name.get_ref()));
                let help = if ForwardOptions::table().key(name.get_ref()).is_some() {
                    format!("`{}` belongs into a target: write [forward.NAME] above it", name.get_ref())
                } else {
                    format!("write [forward.{}], with single brackets", shown(name.get_ref()))
                };
                reader.report(Found::invalid(name.span(), message).help(help));
                whole = false;
                continue;
            };
            let entries = reader.entries(ForwardOptions::table(), table, &name.span());
            let options = ForwardOptions::from_entries(reader, &entries);
            match parsed {
                Ok(name_) => forwards.push(NamedForward { name: name_, span: name.span(), options }),
                Err(_) => whole = false,
            }
        }
        if forwards.len() > MAX_TARGETS {
            let message =
                format!("`{}` holds at most {MAX_TARGETS} targets, not {}", key.name, forwards.len());
            reader.report(Found::invalid(forwards[0].span.clone(), message));
            whole = false;
        }
        // The parser's tables are in the order of their names.
        forwards.sort_by_key(|forward| forward.span.start);
        whole.then_some(Self(forwards))
    }
}

/// Resolves all targets; `None` when one of them is not complete, which has been reported.
pub(crate) fn resolve(
    reader: &mut Reader<'_>,
    written: Option<&At<Forwards>>,
    services: &[NamedService],
) -> Option<Vec<Forward>> {
    let Some(written) = written else { return Some(Vec::new()) };
    let resolved: Vec<_> =
        written.value.0.iter().map(|forward| resolve_one(reader, forward, services)).collect();
    resolved.into_iter().collect()
}

fn resolve_one(reader: &mut Reader<'_>, named: &NamedForward, services: &[NamedService]) -> Option<Forward> {
    let options = &named.options;
    let destination = destination(reader, named);
    if let Some(destination) = &destination {
        check_keys(reader, options, destination);
    }
    let mut chosen = Vec::new();
    for target in options.services.iter().flat_map(|at| &at.value.0) {
        match services.iter().find(|service| service.name.as_str() == target.value) {
            Some(service) if chosen.contains(&service.name) => {}
            Some(service) => chosen.push(service.name.clone()),
            None => {
                graph::no_such_service(reader, target, services.iter().map(|service| service.name.as_str()));
            }
        }
    }
    let streams = options.streams.as_ref().map_or(StreamList { stdout: true, stderr: true }, |at| at.value);
    let batch = options.batch.as_ref().map(|at| at.value.clone()).unwrap_or_default();
    let backoff = options.backoff.as_ref().map(|at| at.value.clone()).unwrap_or_default();
    Some(Forward {
        name: named.name.clone(),
        destination: destination?,
        services: chosen,
        stdout: streams.stdout,
        stderr: streams.stderr,
        level: options.level.as_ref().map(|at| at.value),
        labels: options.labels.as_ref().map(|at| at.value.0.clone()).unwrap_or_default(),
        headers: Headers(options.headers.as_ref().map(|at| at.value.0.clone()).unwrap_or_default()),
        token_file: options.token_file.as_ref().map(|at| at.value.clone()),
        ca: options.ca.as_ref().map(|at| CaFile(at.value.clone())),
        gzip: options.compress() == ForwardCompression::Gzip,
        spool_bytes: options.spool().0,
        batch: resolve_batch(&batch),
        timeout: options.timeout(),
        backoff: resolve_backoff(reader, &backoff),
    })
}

fn resolve_batch(options: &ForwardBatchOptions) -> ForwardBatch {
    ForwardBatch { records: options.records(), bytes: options.bytes().0, wait: options.wait() }
}

fn resolve_backoff(reader: &mut Reader<'_>, options: &ForwardBackoffOptions) -> ForwardBackoff {
    let (first, max) = (options.first(), options.max());
    if max < first
        && let Some(written) = options.max.as_ref().or(options.first.as_ref())
    {
        let message =
            format!("`max` ({}) must not be shorter than `first` ({})", time_text(max), time_text(first));
        reader.report(Found::invalid(written.span.clone(), message));
    }
    ForwardBackoff { first, factor: options.factor(), max, jitter: options.jitter() }
}

/// Keys that mean nothing for this target.
fn check_keys(reader: &mut Reader<'_>, options: &ForwardOptions, destination: &Destination) {
    let (http, tls) = match destination {
        Destination::Otlp(target) | Destination::Loki(target) => (true, target.tls),
        Destination::SyslogTls(_) => (false, true),
        Destination::Journald(_)
        | Destination::SyslogLocal(_)
        | Destination::SyslogUdp(_)
        | Destination::SyslogTcp(_) => (false, false),
    };
    let http_keys = [
        ("headers", options.headers.as_ref().map(|at| at.key.clone())),
        ("token_file", options.token_file.as_ref().map(|at| at.key.clone())),
        ("compress", options.compress.as_ref().map(|at| at.key.clone())),
    ];
    for (name, span) in http_keys.into_iter().filter(|_| !http) {
        if let Some(span) = span {
            let message = format!("`{name}` is of HTTP, and this target is none");
            reader.report(Found::invalid(span, message).help(format!("take `{name}` out")));
        }
    }
    if let Some(ca) = options.ca.as_ref().filter(|_| !tls) {
        let message = "`ca` is of TLS, and this target has none";
        let help = "write https:// or tls:// in `url`, or take `ca` out";
        reader.report(Found::invalid(ca.key.clone(), message).help(help));
    }
}

fn destination(reader: &mut Reader<'_>, named: &NamedForward) -> Option<Destination> {
    let to = named.options.to.as_ref()?;
    let (wanted, example) = match to.value {
        ForwardTo::Journald => ("unix://", "unix:///run/systemd/journal/socket"),
        ForwardTo::Syslog => {
            ("udp://, tcp://, tls:// or unix://", "\"udp://127.0.0.1:514\" or \"unix:///dev/log\"")
        }
        ForwardTo::Otlp => ("http:// or https://", "\"http://127.0.0.1:4318\""),
        ForwardTo::Loki => ("http:// or https://", "\"http://127.0.0.1:3100\""),
    };
    let Some(url) = &named.options.url else {
        if to.value == ForwardTo::Journald {
            return Some(Destination::Journald(None));
        }
        let message = "`url` is missing: where is this target?";
        let help = format!("for example: url = {}", example.split(" or ").next().unwrap_or(example));
        reader.report(Found::invalid(named.span.clone(), message).help(help).absence());
        return None;
    };
    let text = url.value.as_str();
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let mut refuse = |message: String, help: String| {
        reader.report(Found::invalid(url.span.clone(), message).help(help));
        None
    };
    if rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@')) {
        let message = "`url` holds a user or a password, which would not be sent".to_owned();
        return refuse(
            message,
            "write them as `headers`, or name a file with a token as `token_file`".to_owned(),
        );
    }
    let address = |port| HostPort::parse_or(rest, Some(port)).map_err(|error| clipped(&error.to_string()));
    let http = |path: &str| {
        let target = HttpTarget::parse(text).map_err(|error| clipped(&error.to_string()))?;
        let path = if target.path == "/" { path.to_owned() } else { target.path };
        Ok(HttpTarget { path, ..target })
    };
    let outcome = match (to.value, scheme) {
        (ForwardTo::Journald, "unix") => socket_path(rest).map(|path| Destination::Journald(Some(path))),
        (ForwardTo::Syslog, "unix") => socket_path(rest).map(Destination::SyslogLocal),
        (ForwardTo::Syslog, "udp") => address(514).map(Destination::SyslogUdp),
        (ForwardTo::Syslog, "tcp") => address(601).map(Destination::SyslogTcp),
        (ForwardTo::Syslog, "tls") => address(6514).map(Destination::SyslogTls),
        (ForwardTo::Otlp, "http" | "https") => http("/v1/logs").map(Destination::Otlp),
        (ForwardTo::Loki, "http" | "https") => http("/loki/api/v1/push").map(Destination::Loki),
        (ForwardTo::Journald | ForwardTo::Syslog | ForwardTo::Otlp | ForwardTo::Loki, _) => {
            Err(format!("`url` of this target does not begin with {wanted}"))
        }
    };
    match outcome {
        Ok(destination) => Some(destination),
        Err(message) => refuse(message, format!("for example: {example}")),
    }
}

fn socket_path(text: &str) -> Result<PathBuf, String> {
    if !text.starts_with('/') {
        return Err("the path of a socket begins at the root: unix:///dev/log".to_owned());
    }
    if text.len() > MAX_SOCKET_PATH_BYTES {
        return Err(format!("the path of a socket has at most {MAX_SOCKET_PATH_BYTES} bytes"));
    }
    Ok(PathBuf::from(text))
}
