//! What a check looks at, as it is read from the file: URLs, names and regular expressions. No message repeats a text
//! that may hold a password.

use mainstay_types::{HostPort, HttpTarget, ServerKind, ServerUrl, TargetParseError};
use toml::Spanned;
use toml::de::DeValue;

use crate::declare::{Key, Shape};
use crate::diagnostic::Found;
use crate::read::{Reader, shown};
use crate::value::{Value, clipped};

/// Longest name that DNS can carry, in characters (RFC 1035, 2.3.4: 255 octets on the wire).
const MAX_NAME_CHARS: usize = 253;
/// Longest part between two dots (RFC 1035, 2.3.4).
const MAX_LABEL_CHARS: usize = 63;

impl Value for HostPort {
    const SHAPE: Shape = Shape::Address;

    fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        let text = reader.text(key, Self::SHAPE, value)?;
        Self::parse(&text).map_err(|error| report(reader, key, value, &error)).ok()
    }
}

impl Value for HttpTarget {
    const SHAPE: Shape = Shape::Url;

    fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        let text = reader.text(key, Self::SHAPE, value)?;
        if authority(&text).0.contains('@') {
            let message =
                format!("`{}` holds a user or a password, which the check would not send", key.name);
            let help = "take out what stands before the `@`; for a page behind a password, check with `exec`";
            reader.report(Found::invalid(value.span(), message).help(help));
            return None;
        }
        Self::parse(&text).map_err(|error| report(reader, key, value, &error)).ok()
    }
}

fn report(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>, error: &TargetParseError) {
    let found = Found::invalid(value.span(), clipped(&error.to_string()))
        .help(format!("for example: {} = {}", key.name, key.example));
    reader.report(found);
}

/// The part of a URL with user, password, host and port, and what follows it (RFC 3986, 3.2).
fn authority(url: &str) -> (&str, &str) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()))
}

/// Declares the URL of one kind of server.
macro_rules! server_urls {
    ($($(#[doc = $doc:literal])* $name:ident => $kind:expr;)*) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Debug)]
        pub(crate) struct $name(pub(crate) ServerUrl);

        impl Value for $name {
            const SHAPE: Shape = Shape::Server($kind);

            fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
                server(reader, key, value, $kind).map(Self)
            }
        }
    )*};
}
server_urls! {
    /// `postgres://` or `postgresql://`.
    PostgresUrl => ServerKind::Postgres;
    /// `redis://` or `rediss://`.
    RedisUrl => ServerKind::Redis;
    /// `amqp://` or `amqps://`.
    AmqpUrl => ServerKind::Amqp;
    /// `mysql://`.
    MysqlUrl => ServerKind::Mysql;
}

fn server(
    reader: &mut Reader<'_>,
    key: &Key,
    value: &Spanned<DeValue<'_>>,
    kind: ServerKind,
) -> Option<ServerUrl> {
    const ESCAPES: &str =
        "a `/`, `?`, `#`, `%` or `@` in a user or password is written %2F, %3F, %23, %25 or %40";
    let text = reader.text(key, Shape::Server(kind), value)?;
    // A `/` in a password ends the host for every reader of URLs, and the rest of the password would become the path.
    let path = authority(&text).1.split('?').next().unwrap_or_default();
    let (message, help) = match ServerUrl::parse(kind, &text) {
        Ok(_) if path.contains('@') => {
            (format!("the `@` in `{}` comes after the host", key.name), ESCAPES.to_owned())
        }
        Ok(url) => return Some(url),
        Err(TargetParseError::BadCharacter) => (
            format!("`{}` holds a blank or a control character, which no URL does", key.name),
            "write %20 for a blank".to_owned(),
        ),
        Err(TargetParseError::Server { .. } | TargetParseError::Scheme(_)) => {
            let schemes: Vec<_> = kind.schemes().iter().map(|(scheme, _)| format!("{scheme}://")).collect();
            let scheme = kind.as_str();
            (
                format!("`{}` does not begin with {}", key.name, schemes.join(" or ")),
                format!("write {scheme}://[user[:password]@]host[:port][/name]"),
            )
        }
        Err(TargetParseError::Address(_)) => (
            format!("`{}` names no host, or one with a character that no host has", key.name),
            ESCAPES.to_owned(),
        ),
        Err(TargetParseError::Port(_)) => {
            (format!("the port in `{}` is no number from 1 to 65535", key.name), ESCAPES.to_owned())
        }
    };
    reader.report(Found::invalid(value.span(), message).help(help));
    None
}

/// A name that can be looked up.
#[derive(Clone, Debug)]
pub(crate) struct HostName(pub(crate) String);

impl Value for HostName {
    const SHAPE: Shape = Shape::Text;

    fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        let text = reader.text(key, Self::SHAPE, value)?;
        let name = text.strip_suffix('.').unwrap_or(&text);
        let label = |label: &str| {
            (1..=MAX_LABEL_CHARS).contains(&label.len())
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        };
        if name.len() > MAX_NAME_CHARS || !name.split('.').all(label) {
            let message = format!("\"{}\" is no name to look up", shown(&text));
            let help = "write the name alone, without scheme and port: letters, digits, `-`, `_` and dots";
            reader.report(Found::invalid(value.span(), message).help(help));
            return None;
        }
        Some(Self(text))
    }
}

/// A regular expression in the syntax of the `regex` crate, valid and not empty.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(pub(crate) String);

/// A list of regular expressions for single lines; one text is a list of one. None matches nothing: that would be
/// everywhere.
#[derive(Clone, Default, Debug)]
pub(crate) struct PatternList(pub(crate) Vec<String>);

impl Value for PatternList {
    const SHAPE: Shape = Shape::Patterns;

    fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        let patterns = reader.list_of_texts(key, Self::SHAPE, value, |reader, item| {
            let Pattern(text) = Pattern::read(reader, key, item)?;
            // Read a moment ago: it is valid.
            if regex::Regex::new(&text).is_ok_and(|pattern| pattern.is_match("")) {
                let message = format!("`{}` cannot match nothing: it would match everywhere", key.name);
                let help = "write + where there is a *, or leave out a trailing ?";
                reader.report(Found::invalid(item.span(), message).help(help));
                return None;
            }
            Some(text)
        })?;
        Some(Self(patterns))
    }
}

impl Value for Pattern {
    const SHAPE: Shape = Shape::Pattern;

    fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        let text = reader.text(key, Self::SHAPE, value)?;
        if text.is_empty() {
            let message = format!("`{}` cannot be empty: that matches everything", key.name);
            let help = format!("for example: {} = {}", key.name, key.example);
            reader.report(Found::invalid(value.span(), message).help(help));
            return None;
        }
        if let Err(error) = regex::Regex::new(&text) {
            let message = format!("`{}` is no regular expression: {}", key.name, reason(&error));
            let help = "a `\\` before one of . + * ? ( ) [ ] { } ^ $ | takes its meaning from it; in 'single quotes' TOML \
                        leaves every `\\` as it is";
            reader.report(Found::invalid(value.span(), message).help(help));
            return None;
        }
        Some(Self(text))
    }
}

/// Why it is none, on one line.
fn reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(limit) => {
            format!("it is too large: more than {limit} bytes when it is made ready")
        }
        // The pattern with a caret below it, and then the reason; the pattern is shown from the file already.
        error @ (regex::Error::Syntax(_) | _) => {
            let text = error.to_string();
            let last = text.lines().next_back().unwrap_or_default();
            clipped(last.strip_prefix("error: ").unwrap_or(last))
        }
    }
}
