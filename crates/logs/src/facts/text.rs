//! Level and time in front of a plain message.
//!
//! What stands there is a row of fields: a time, a level, numbers of processes, names, brackets around each. They are
//! passed one by one; the first that is none of these is the message, and ends the search.

use mainstay_types::Level;

use super::{Head, time, words};

/// Bytes looked at: what stands in front of a message is shorter.
const HEAD_BYTES: usize = 512;
/// Fields looked at.
const MOST_FIELDS: usize = 12;
/// Longest content of brackets that is a field.
const LONGEST_GROUP: usize = 80;

/// Beginnings of what runtimes print when a program ends in an error.
const REPORTS: [(&[u8], Level); 10] = [
    (b"Traceback (most recent call last):", Level::Error),
    (b"Exception in thread ", Level::Error),
    (b"Unhandled exception", Level::Fatal),
    (b"terminate called ", Level::Fatal),
    (b"Segmentation fault", Level::Fatal),
    (b"fatal error: ", Level::Fatal),
    (b"Fatal error: ", Level::Fatal),
    (b"Parse error: ", Level::Error),
    (b"=ERROR REPORT=", Level::Error),
    (b"=CRASH REPORT=", Level::Error),
];

/// Beginnings of lines that say more about an error in front of them.
const MORE: [&[u8]; 11] = [
    b"Caused by:",
    b"Suppressed:",
    b"The above exception was ",
    b"During handling of the above ",
    b"goroutine ",
    b"created by ",
    b"[signal ",
    b"stack backtrace:",
    b"note: run with `RUST_BACKTRACE",
    b"}",
    b"])",
];

/// Behind PostgreSQL's usual head: more about the message before it.
const POSTGRES_MORE: [&[u8]; 6] = [b"DETAIL", b"HINT", b"STATEMENT", b"CONTEXT", b"QUERY", b"LOCATION"];

/// In upper case in front of these a level's word is an ordinary one: "ERROR count: 0".
const NOT_AFTER_A_LEVEL: [&[u8]; 10] =
    [b"count", b"counts", b"rate", b"mode", b"level", b"levels", b"page", b"pages", b"log", b"logging"];

pub(super) fn head(line: &[u8]) -> Head {
    let line = &line[..line.len().min(HEAD_BYTES)];
    let uncolored;
    let text = if memchr::memchr(0x1b, line).is_some() {
        uncolored = without_colors(line);
        &uncolored[..]
    } else {
        line
    };
    // tracing without times puts one blank in front of a short level; more is the indent of a trace.
    let text = text.strip_prefix(b" ").unwrap_or(text);
    if text.first().is_none_or(u8::is_ascii_whitespace) {
        return Head { continues: true, ..Head::default() };
    }
    let (priority, text) = match priority(text) {
        Some((level, rest)) => (Some(level), rest),
        None => (None, text),
    };
    let mut head = special(text).unwrap_or_else(|| Fields::new(text, priority.is_some()).walk());
    if priority.is_some() {
        head.level = priority;
        head.continues = false;
    }
    head
}

/// Takes `ESC [ ... m` out.
fn without_colors(line: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some((&first, after)) = rest.split_first() {
        if let Some(parameters) = rest.strip_prefix(b"\x1b[") {
            let end = parameters.iter().position(|byte| !(byte.is_ascii_digit() || b";:".contains(byte)));
            if let Some(end) = end.filter(|end| parameters[*end] == b'm') {
                rest = &parameters[end + 1..];
                continue;
            }
        }
        out.push(first);
        rest = after;
    }
    out
}

/// `<N>` in front of a message: sd-daemon and syslog; and the version behind it (RFC 5424).
fn priority(text: &[u8]) -> Option<(Level, &[u8])> {
    let inside = text.strip_prefix(b"<")?;
    let digits = inside.iter().take(3).take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 || inside.get(digits) != Some(&b'>') {
        return None;
    }
    let number = inside[..digits].iter().fold(0, |value, byte| value * 10 + u32::from(byte - b'0'));
    let rest = &inside[digits + 1..];
    Some((words::priority(number)?, rest.strip_prefix(b"1 ").unwrap_or(rest)))
}

/// Forms that are no row of fields.
fn special(text: &[u8]) -> Option<Head> {
    let level = |level| Some(Head { level: Some(level), ..Head::default() });
    let php = text.strip_prefix(b"PHP ").unwrap_or(text);
    if let Some((_, found)) = REPORTS.iter().find(|(begin, _)| php.starts_with(begin)) {
        return level(*found);
    }
    if php.len() < text.len() {
        return Some(Fields::new(php, false).walk());
    }
    if text.starts_with(b"thread '") && contains(text, b"panicked at ") {
        return level(Level::Error);
    }
    if let Some(rest) = text.strip_prefix(b"npm ") {
        let word = rest.split(|byte| matches!(byte, b' ' | b'!')).next().unwrap_or(rest);
        return words::certain(word).and_then(level);
    }
    if MORE.iter().any(|begin| text.starts_with(begin)) || is_go_frame(text) {
        return Some(Head { continues: true, ..Head::default() });
    }
    if is_exception(text) {
        return level(Level::Error);
    }
    klog(text).or_else(|| redis(text)).or_else(|| ruby(text))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

/// `main.(*Server).run(0xc000, 0x1)`, a line of a Go trace.
fn is_go_frame(text: &[u8]) -> bool {
    let name = text.split(|byte| matches!(byte, b' ' | b'=' | b'"' | b':')).next().unwrap_or(text);
    text.ends_with(b")") && name.contains(&b'.') && name.contains(&b'(') && name[0].is_ascii_lowercase()
}

/// `ValueError: x`, `java.lang.IllegalStateException: x`: the name of an exception at the beginning.
fn is_exception(text: &[u8]) -> bool {
    let end = text.iter().position(|byte| !byte.is_ascii_alphanumeric() && !b"._$".contains(byte));
    let name = &text[..end.unwrap_or(text.len())];
    let class = name.rsplit(|byte| *byte == b'.').next().unwrap_or(name);
    let suffix = class.strip_suffix(b"Error").or_else(|| class.strip_suffix(b"Exception"));
    suffix.is_some_and(|stem| !stem.is_empty() || class.len() < name.len())
        && class[0].is_ascii_uppercase()
        && text[name.len()..].starts_with(b": ")
}

/// `E1122 15:20:01.123456    1234 file.go:12] message` of klog and glog.
fn klog(text: &[u8]) -> Option<Head> {
    let level = words::letter(text.get(..1)?)?;
    let (date, rest) = text.get(1..)?.split_at_checked(4)?;
    let clock = rest.strip_prefix(b" ")?;
    let timed = date.iter().all(u8::is_ascii_digit) && time::at_start(clock).is_some();
    timed.then_some(Head { level: Some(level), timed, ..Head::default() })
}

/// `1234:M 22 Nov 2026 15:20:01.123 * message` of Redis.
fn redis(text: &[u8]) -> Option<Head> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = text[digits..].strip_prefix(b":").filter(|_| digits > 0)?;
    let (role, rest) = rest.split_first().filter(|(role, _)| b"MSCX".contains(role))?;
    let _ = role;
    let rest = rest.strip_prefix(b" ")?;
    let found = time::at_start(rest)?;
    let level = match rest.get(found.length..found.length + 3)? {
        b" . " | b" - " => Level::Debug,
        b" * " => Level::Info,
        b" # " => Level::Warn,
        _ => return None,
    };
    Some(Head { level: Some(level), at: found.at, timed: true, ..Head::default() })
}

/// `E, [2026-11-22T15:20:01.123456 #123] ERROR -- : message` of Ruby.
fn ruby(text: &[u8]) -> Option<Head> {
    let level = words::letter(text.get(..1)?)?;
    let rest = text.get(1..)?.strip_prefix(b", ").filter(|rest| rest.starts_with(b"["))?;
    let found = Fields::new(rest, false).walk();
    found.timed.then_some(Head { level: found.level.or(Some(level)), ..found })
}

/// The row of fields.
struct Fields<'a> {
    text: &'a [u8],
    place: usize,
    head: Head,
    /// A program's own head is in front: numbers and names are passed over only then.
    begun: bool,
}

/// What became of one field.
enum Field {
    Passed,
    /// The level was found, or the message begins.
    Last,
}

impl<'a> Fields<'a> {
    fn new(text: &'a [u8], begun: bool) -> Self {
        Self { text, place: 0, head: Head::default(), begun }
    }

    fn rest(&self) -> &'a [u8] {
        &self.text[self.place..]
    }

    fn blanks(&mut self) {
        while self.rest().first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
            self.place += 1;
        }
    }

    fn walk(mut self) -> Head {
        for _ in 0..MOST_FIELDS {
            self.blanks();
            let Some(&first) = self.rest().first() else { break };
            let field = if self.time() {
                Field::Passed
            } else if matches!(first, b'[' | b'(' | b'<') {
                self.group(first)
            } else {
                self.word()
            };
            if matches!(field, Field::Last) {
                break;
            }
        }
        if self.head.level.is_some() && !self.head.timed {
            // `[ERROR] 2026-11-22T15:20:01Z message`
            self.blanks();
            self.time();
        }
        self.head
    }

    fn time(&mut self) -> bool {
        let Some(found) = time::at_start(self.rest()).filter(|_| !self.head.timed) else { return false };
        self.place += found.length;
        while self.rest().first().is_some_and(|byte| b":,|".contains(byte)) {
            self.place += 1;
        }
        // The zone in letters, as PostgreSQL writes it: which one it is, only its place knows.
        let letters = self.rest().strip_prefix(b" ").unwrap_or_default();
        let zone = letters.iter().take(6).take_while(|byte| byte.is_ascii_uppercase()).count();
        let named = (3..=5).contains(&zone) && words::certain(&letters[..zone]).is_none();
        if named && letters[zone..].starts_with(b" [") {
            self.place += zone + 1;
        }
        self.head.at = found.at;
        self.head.timed = true;
        self.begun = true;
        true
    }

    /// A field in brackets: its content may be a level, a time, both, or anything else.
    fn group(&mut self, open: u8) -> Field {
        let close = match open {
            b'[' => b']',
            b'(' => b')',
            _ => b'>',
        };
        let rest = &self.rest()[1..];
        let Some(end) = rest.iter().take(LONGEST_GROUP).position(|byte| *byte == close) else {
            return Field::Last;
        };
        let inside = rest[..end].trim_ascii();
        self.place += end + 2;
        if open == b'<' && !inside.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.') {
            return Field::Last;
        }
        if open == b'[' && self.bracketed(inside) {
            return Field::Last;
        }
        // A prefix in brackets, as ` [main] ` or `[1] `: what follows may be a level.
        self.begun |= open == b'[';
        Field::Passed
    }

    /// Looks for a level in square brackets.
    fn bracketed(&mut self, inside: &[u8]) -> bool {
        let mut inner = Fields::new(inside, false);
        // `[I 15:20:01.123 ServerApp]`
        if inside.get(1) == Some(&b' ')
            && let Some(level) = words::letter(&inside[..1])
            && inside.get(2).is_some_and(u8::is_ascii_digit)
        {
            self.head.level = Some(level);
            self.head.timed = true;
            return true;
        }
        if inner.time() && !self.head.timed {
            self.head = inner.head;
            self.begun = true;
        }
        let rest = inner.rest().trim_ascii();
        // `[2026-11-22T15:20:01Z ERROR app::module]`, `[2026-11-22 15:20:01,123: INFO/MainProcess]`, `[core:error]`
        let word = if inner.head.timed {
            rest.split(|byte| matches!(byte, b' ' | b'/' | b']')).next().unwrap_or(rest)
        } else {
            let last = rest.rsplit(|byte| *byte == b':').next().unwrap_or(rest);
            last.split(|byte| *byte == b'/').next().unwrap_or(last)
        };
        self.head.level = words::any(word);
        self.head.level.is_some()
    }

    fn word(&mut self) -> Field {
        let rest = self.rest();
        let end = rest.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(rest.len());
        let token = &rest[..end];
        if token.iter().all(u8::is_ascii_punctuation) && !token.iter().any(|byte| b"\"'{}<>".contains(byte)) {
            self.place += end;
            return Field::Passed;
        }
        let name_end = token.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(token.len());
        let (name, after) = (&token[..name_end], &token[name_end..]);
        if self.level(name, after, &rest[end..]) {
            self.place += name_end;
            while self.rest().first().is_some_and(|byte| b":]|-".contains(byte)) {
                self.place += 1;
            }
            return Field::Last;
        }
        if self.begun && after.first() == Some(&b':') && POSTGRES_MORE.contains(&name) {
            self.head.continues = true;
            return Field::Last;
        }
        // A web server's client: `127.0.0.1 - - [22/Nov/2026:15:20:01 +0000]`.
        let client = rest[end..].starts_with(b" - ") && contains(&rest[end..], b" [");
        if !client && (!self.begun || !self.is_name(token, &rest[end..])) {
            return Field::Last;
        }
        self.place += end;
        Field::Passed
    }

    /// Whether a word is a level: `ERROR`, `ERROR:root:`, `error:`, `ERRO[0012]`, `app.ERROR:`, `error - `.
    fn level(&mut self, name: &[u8], after: &[u8], behind: &[u8]) -> bool {
        let upper = name.len() >= 3
            && name[0].is_ascii_uppercase()
            && name.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        let next = next_word(behind);
        let delimited = matches!(next, b"-" | b"|" | b"--" | b"---" | b":");
        self.head.level = match after.first() {
            None if upper && !self.begun => words::certain(name).filter(|_| {
                let word = next.strip_suffix(b":").unwrap_or(next);
                !NOT_AFTER_A_LEVEL.contains(&word)
            }),
            None if upper || (delimited && self.begun) => words::certain(name),
            Some(b':') if upper => words::any(name),
            Some(b':') if after.len() == 1 => {
                if name == b"fail" {
                    Some(Level::Error)
                } else {
                    words::certain(name)
                }
            }
            Some(b'[' | b']' | b'|' | b',') if upper => words::certain(name),
            Some(b'.') if self.begun => monolog(after),
            Some(_) | None => None,
        };
        self.head.level.is_some()
    }

    /// Whether a word in front of a message is the name of a host, a program, a module or a user.
    fn is_name(&self, token: &[u8], behind: &[u8]) -> bool {
        let structured = token[0].is_ascii_digit()
            || token[0] == b'#'
            || token.ends_with(b":")
            || token.ends_with(b"]")
            || token.contains(&b'@')
            || contains(token, b"::");
        let dotted = token.iter().any(|byte| b"._/".contains(byte)) && !token.ends_with(b".");
        let next = next_word(behind);
        // `myapp - ERROR - ...`; a host's name in front of `app[123]:`.
        let delimited = matches!(next, b"-" | b"|") || next.ends_with(b"]:");
        structured || dotted || delimited
    }
}

fn next_word(behind: &[u8]) -> &[u8] {
    let behind = behind.trim_ascii_start();
    behind.split(|byte| matches!(byte, b' ' | b'\t')).next().unwrap_or(behind)
}

/// `.ERROR:` behind the name of a channel.
fn monolog(after: &[u8]) -> Option<Level> {
    let word = after.strip_prefix(b".")?.strip_suffix(b":")?;
    words::certain(word).filter(|_| word.iter().all(u8::is_ascii_uppercase))
}
