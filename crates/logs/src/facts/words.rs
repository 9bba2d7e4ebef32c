//! The words and numbers with which loggers name levels.

use mainstay_types::Level;

/// Words that mean a level wherever a level stands, in lower case.
const WORDS: [(&str, Level); 46] = [
    ("trace", Level::Trace),
    ("trac", Level::Trace),
    ("trc", Level::Trace),
    ("trce", Level::Trace),
    ("finest", Level::Trace),
    ("finer", Level::Trace),
    ("verbose", Level::Trace),
    ("vrb", Level::Trace),
    ("debug", Level::Debug),
    ("debu", Level::Debug),
    ("dbg", Level::Debug),
    ("dbug", Level::Debug),
    ("debug1", Level::Debug),
    ("debug2", Level::Debug),
    ("debug3", Level::Debug),
    ("debug4", Level::Debug),
    ("debug5", Level::Debug),
    ("info", Level::Info),
    ("inf", Level::Info),
    ("information", Level::Info),
    ("informational", Level::Info),
    ("notice", Level::Info),
    ("success", Level::Info),
    ("warn", Level::Warn),
    ("warning", Level::Warn),
    ("wrn", Level::Warn),
    ("error", Level::Error),
    ("erro", Level::Error),
    ("err", Level::Error),
    ("severe", Level::Error),
    ("fatal", Level::Fatal),
    ("fata", Level::Fatal),
    ("ftl", Level::Fatal),
    ("critical", Level::Fatal),
    ("crit", Level::Fatal),
    ("panic", Level::Fatal),
    ("pani", Level::Fatal),
    ("pnc", Level::Fatal),
    ("dpanic", Level::Fatal),
    ("alert", Level::Fatal),
    ("emerg", Level::Fatal),
    ("emergency", Level::Fatal),
    // From here on also ordinary words: only in brackets, or in upper case with a colon.
    ("note", Level::Info),
    ("system", Level::Info),
    ("log", Level::Info),
    ("fine", Level::Debug),
];

/// How many of [`WORDS`] are nothing but levels.
const CERTAIN: usize = 42;

/// Longest word of the table.
const LONGEST: usize = 13;

fn find(word: &[u8], table: &[(&str, Level)]) -> Option<Level> {
    if word.len() > LONGEST {
        return None;
    }
    table.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(word)).map(|(_, level)| *level)
}

/// The level a word means that is nothing but a level.
pub(super) fn certain(word: &[u8]) -> Option<Level> {
    find(word, &WORDS[..CERTAIN])
}

/// The level a word means that stands where only levels do.
pub(super) fn any(word: &[u8]) -> Option<Level> {
    find(word, &WORDS)
}

/// The level in the value of a key for levels: a word, `INFO+2` (Go's slog), or a number.
pub(super) fn value(text: &[u8]) -> Option<Level> {
    let text = text.trim_ascii();
    if text.first().is_some_and(u8::is_ascii_digit) {
        return number(std::str::from_utf8(text).ok()?.parse().ok()?);
    }
    let word = text.split(|byte| matches!(byte, b'+' | b'-')).next().unwrap_or(text);
    match word {
        // MongoDB; journald's and others' single letters.
        b"D" | b"D1" | b"D2" | b"D3" | b"D4" | b"D5" => Some(Level::Debug),
        _ => any(word).or_else(|| letter(word)),
    }
}

/// Numbers of pino and bunyan (10 to 60), and of syslog and GELF (0 to 7).
fn number(number: u32) -> Option<Level> {
    match number {
        0..=7 => priority(number),
        10..20 => Some(Level::Trace),
        20..30 => Some(Level::Debug),
        30..40 => Some(Level::Info),
        40..50 => Some(Level::Warn),
        50..60 => Some(Level::Error),
        60 => Some(Level::Fatal),
        _ => None,
    }
}

/// The severity of a syslog priority (RFC 5424, 6.2.1); the facility does not matter.
pub(super) const fn priority(priority: u32) -> Option<Level> {
    if priority > 191 {
        return None;
    }
    Some(match priority % 8 {
        0..=2 => Level::Fatal,
        3 => Level::Error,
        4 => Level::Warn,
        5 | 6 => Level::Info,
        _ => Level::Debug,
    })
}

/// The letter with which klog, glog, Ruby and others name a level.
pub(super) const fn letter(word: &[u8]) -> Option<Level> {
    match word {
        b"D" => Some(Level::Debug),
        b"I" => Some(Level::Info),
        b"W" => Some(Level::Warn),
        b"E" => Some(Level::Error),
        b"F" | b"C" => Some(Level::Fatal),
        _ => None,
    }
}
