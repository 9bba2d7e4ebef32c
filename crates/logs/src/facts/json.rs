//! Level and time in a line that is a JSON object.
//!
//! The line is not taken apart further than needed, and need not be whole: one that was cut still says what it says in
//! front of the cut. Only what stands at the top counts, and what stands in `log` (ECS) and in MongoDB's `t`.

use super::{Head, time, words};

/// Keys of the level, in lower case. Sources: pino, bunyan, zap, zerolog, slog, logrus, logback, log4j (`level`), Python
/// (`levelname`), Stackdriver (`severity`), ECS (`log.level`), Serilog (`@l`), .NET (`LogLevel`), OpenTelemetry
/// (`severity_text`), MongoDB (`s`), journald (`PRIORITY`).
const LEVEL_KEYS: [&[u8]; 11] = [
    b"level",
    b"lvl",
    b"severity",
    b"loglevel",
    b"levelname",
    b"log.level",
    b"@l",
    b"severity_text",
    b"severitytext",
    b"s",
    b"priority",
];

/// Keys of the time, in lower case.
const TIME_KEYS: [&[u8]; 8] =
    [b"time", b"ts", b"timestamp", b"@timestamp", b"@t", b"datetime", b"t", b"asctime"];

/// Whether the key, as written, is that of a level.
pub(super) fn is_level_key(key: &[u8]) -> bool {
    LEVEL_KEYS.iter().any(|known| known.eq_ignore_ascii_case(key))
}

/// Whether the key, as written, is that of a time.
pub(super) fn is_time_key(key: &[u8]) -> bool {
    TIME_KEYS.iter().any(|known| known.eq_ignore_ascii_case(key))
}

/// `None` when the text is no JSON object.
pub(super) fn head(text: &[u8]) -> Option<Head> {
    let mut scan = Scan { text, place: 1 };
    let mut found = Found::default();
    scan.blank();
    match scan.peek() {
        // An object begins with a key, or ends.
        Some(b'"') => scan.object(1, &mut found),
        Some(b'}') => {}
        Some(_) | None => return None,
    }
    // A line of JSON is a message even if it says neither.
    found.keys.then_some(Head { level: found.level, at: found.at, whole: true, ..Head::default() })
}

#[derive(Default)]
struct Found {
    level: Option<mainstay_types::Level>,
    at: Option<mainstay_types::Timestamp>,
    /// A key with its colon was there.
    keys: bool,
}

struct Scan<'a> {
    text: &'a [u8],
    place: usize,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.place).copied()
    }

    fn blank(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.place += 1;
        }
    }

    /// The members of an object whose brace was passed; stops where it is no JSON.
    fn object(&mut self, depth: u8, found: &mut Found) {
        loop {
            self.blank();
            let Some(key) = self.string() else { return };
            self.blank();
            if self.peek() != Some(b':') {
                return;
            }
            self.place += 1;
            self.blank();
            found.keys = true;
            let level_key = (depth == 1 && is_level_key(key)) || (depth == 2 && key == b"level");
            let time_key = (depth == 1 && is_time_key(key)) || (depth == 2 && key == b"$date");
            match self.peek() {
                Some(b'"') => {
                    let Some(value) = self.string() else { return };
                    if level_key {
                        found.level = found.level.or_else(|| words::value(value));
                    } else if time_key {
                        found.at = found.at.or_else(|| time::value(value));
                    }
                }
                // One level deeper, in order to read ECS' `log` and MongoDB's `t`.
                Some(b'{') if depth == 1 && (key == b"log" || key == b"t") => {
                    self.place += 1;
                    self.object(2, found);
                    self.blank();
                    if self.peek() == Some(b'}') {
                        self.place += 1;
                    }
                }
                Some(b'{' | b'[') => self.skip(),
                Some(_) => {
                    let value = self.scalar();
                    if level_key {
                        found.level = found.level.or_else(|| words::value(value));
                    } else if time_key {
                        found.at = found.at.or_else(|| time::value(value));
                    }
                }
                None => return,
            }
            self.blank();
            if self.peek() != Some(b',') {
                return;
            }
            self.place += 1;
        }
    }

    /// A string, without its quotes, escapes as they are: no level, time or key of ours has one.
    fn string(&mut self) -> Option<&'a [u8]> {
        if self.peek() != Some(b'"') {
            return None;
        }
        let start = self.place + 1;
        let mut place = start;
        loop {
            place += memchr::memchr2(b'"', b'\\', self.text.get(place..)?)?;
            if self.text[place] == b'"' {
                self.place = place + 1;
                return Some(&self.text[start..place]);
            }
            place += 2;
        }
    }

    fn scalar(&mut self) -> &'a [u8] {
        let start = self.place;
        while self
            .peek()
            .is_some_and(|byte| !matches!(byte, b',' | b'}' | b']') && !byte.is_ascii_whitespace())
        {
            self.place += 1;
        }
        &self.text[start..self.place]
    }

    /// Passes over an object or a list, however deep.
    fn skip(&mut self) {
        let mut depth = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    if self.string().is_none() {
                        self.place = self.text.len();
                    }
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.place += 1;
            if depth == 0 {
                return;
            }
        }
    }
}
