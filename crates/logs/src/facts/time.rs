//! Times as loggers spell them in front of a message or in a field.

use jiff::civil::{Date, DateTime, Time};
use mainstay_types::Timestamp;

/// A time found at the beginning of a text.
pub(super) struct Found {
    /// Bytes of it.
    pub(super) length: usize,
    /// The moment, where the zone is named.
    pub(super) at: Option<Timestamp>,
}

const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
const DAYS: [&[u8]; 7] = [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"];

/// The time a text begins with, in any of the forms that real programs write.
pub(super) fn at_start(text: &[u8]) -> Option<Found> {
    iso(text).or_else(|| by_month(text)).or_else(|| time_of_day(text))
}

/// The moment a value means: a text with a zone, or a number counted from 1970.
pub(super) fn value(text: &[u8]) -> Option<Timestamp> {
    let text = text.trim_ascii();
    match at_start(text) {
        Some(found) => found.at.filter(|_| text[found.length..].trim_ascii().is_empty()),
        None => number(text),
    }
}

/// Seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their size: from 1973 to 5138.
fn number(text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    if text.is_empty()
        || text.len() > 32
        || !text.bytes().all(|byte| byte.is_ascii_digit() || b".eE+".contains(&byte))
    {
        return None;
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let scale = |whole: i128| -> Option<i128> {
        match whole {
            100_000_000..100_000_000_000 => Some(1_000_000_000),
            100_000_000_000..100_000_000_000_000 => Some(1_000_000),
            100_000_000_000_000..100_000_000_000_000_000 => Some(1_000),
            100_000_000_000_000_000..100_000_000_000_000_000_000 => Some(1),
            _ => None,
        }
    };
    let nanos =
        if let (Ok(whole), true) = (whole.parse::<i128>(), fraction.bytes().all(|b| b.is_ascii_digit())) {
            let scale = scale(whole)?;
            // As many digits as make a nanosecond; more say nothing that could be kept.
            let mut digits = fraction.bytes().map(|byte| i128::from(byte - b'0'));
            let mut rest = 0;
            let mut unit = scale;
            while unit >= 10 {
                unit /= 10;
                rest += unit * digits.next().unwrap_or(0);
            }
            whole * scale + rest
        } else {
            // An exponent, as zap's default writes: 1.7e9. The digits beyond a double's are lost already.
            let float: f64 = text.parse().ok().filter(|float: &f64| (1e8..1e11).contains(float))?;
            (float * 1e9) as i128
        };
    Timestamp::from_nanosecond(nanos).ok()
}

/// Reads parts of a text from its beginning.
struct Parts<'a> {
    text: &'a [u8],
    place: usize,
}

impl<'a> Parts<'a> {
    const fn new(text: &'a [u8]) -> Self {
        Self { text, place: 0 }
    }

    fn rest(&self) -> &'a [u8] {
        &self.text[self.place..]
    }

    fn byte(&mut self, wanted: &[u8]) -> Option<u8> {
        let byte = self.text.get(self.place).copied().filter(|byte| wanted.contains(byte))?;
        self.place += 1;
        Some(byte)
    }

    /// A number of `least` to `most` digits.
    fn number(&mut self, least: usize, most: usize) -> Option<i32> {
        let digits = self.rest().iter().take(most).take_while(|byte| byte.is_ascii_digit()).count();
        if digits < least {
            return None;
        }
        let value =
            self.rest()[..digits].iter().fold(0_i32, |value, byte| value * 10 + i32::from(byte - b'0'));
        self.place += digits;
        Some(value)
    }

    fn word(&mut self, words: &[&[u8]]) -> Option<usize> {
        let found = words.iter().position(|word| self.rest().starts_with(word))?;
        self.place += words[found].len();
        Some(found)
    }

    /// `15:20:01`, and a fraction behind `.` or `,`.
    fn clock(&mut self) -> Option<Time> {
        let hour = self.number(1, 2)?;
        self.byte(b":")?;
        let minute = self.number(2, 2)?;
        self.byte(b":")?;
        let second = self.number(2, 2)?;
        let mut nanos = 0;
        let mark = self.place;
        if self.byte(b".,").is_some() {
            let digits = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 {
                self.place = mark;
            } else {
                for place in 0..9 {
                    let digit = self.rest().get(place).filter(|_| place < digits);
                    nanos = nanos * 10 + digit.map_or(0, |byte| i32::from(byte - b'0'));
                }
                self.place += digits;
            }
        }
        // A leap second is the last one of its minute to all who do not count them.
        let second = if second == 60 { 59 } else { second };
        Time::new(i8::try_from(hour).ok()?, i8::try_from(minute).ok()?, i8::try_from(second).ok()?, nanos)
            .ok()
    }

    /// A zone: `Z`, `+01:00`, ` +0100`, ` UTC`. In seconds east.
    fn zone(&mut self) -> Option<i32> {
        let mark = self.place;
        let blank = self.byte(b" ").is_some();
        let found = if self.word(&[b"UTC", b"GMT"]).is_some() || (!blank && self.byte(b"Z").is_some()) {
            Some(0)
        } else {
            self.offset()
        };
        // Not the beginning of a longer word.
        let found = found.filter(|_| !self.rest().first().is_some_and(u8::is_ascii_alphanumeric));
        if found.is_none() {
            self.place = mark;
        }
        found
    }

    fn offset(&mut self) -> Option<i32> {
        let sign = if self.byte(b"+-")? == b'-' { -1 } else { 1 };
        let hours = self.number(2, 2)?;
        let mark = self.place;
        self.byte(b":");
        let minutes = self.number(2, 2).unwrap_or_else(|| {
            self.place = mark;
            0
        });
        (hours <= 14 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
    }

    fn found(&self, time: DateTime, zone: Option<i32>) -> Found {
        let at = zone.and_then(|seconds| {
            let offset = jiff::tz::Offset::from_seconds(seconds).ok()?;
            offset.to_timestamp(time).ok()
        });
        Found { length: self.place, at }
    }
}

fn date(year: i32, month: i32, day: i32) -> Option<Date> {
    Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
}

/// `2026-11-22T15:20:01.123Z`, with a blank for `T`, with `/` for `-`, with or without a zone.
fn iso(text: &[u8]) -> Option<Found> {
    let mut parts = Parts::new(text);
    let year = parts.number(4, 4)?;
    let dash = parts.byte(b"-/")?;
    let month = parts.number(2, 2)?;
    parts.byte(&[dash])?;
    let day = parts.number(2, 2)?;
    parts.byte(b"T t_")?;
    let date = date(year, month, day)?;
    let time = parts.clock()?;
    let zone = parts.zone();
    Some(parts.found(date.to_datetime(time), zone))
}

/// `22/Nov/2026:15:20:01 +0000` (web servers), `22 Nov 2026 15:20:01.123` (Redis), `22-Nov-2026 15:20:01` (PHP),
/// `Sun Nov 22 15:20:01.123 2026` (C, Apache), `Nov 22 15:20:01` (syslog).
fn by_month(text: &[u8]) -> Option<Found> {
    let mut parts = Parts::new(text);
    if parts.number(1, 2).is_some() {
        let day = Parts::new(text).number(1, 2)?;
        let mark = parts.byte(b"/ -")?;
        let month = parts.word(&MONTHS)? as i32 + 1;
        parts.byte(&[mark])?;
        let year = parts.number(4, 4)?;
        parts.byte(b": ")?;
        let date = date(year, month, day)?;
        let time = parts.clock()?;
        let zone = parts.zone();
        return Some(parts.found(date.to_datetime(time), zone));
    }
    if parts.word(&DAYS).is_some() {
        parts.byte(b",");
        parts.byte(b" ")?;
    }
    let month = parts.word(&MONTHS)? as i32 + 1;
    parts.byte(b" ")?;
    parts.byte(b" ");
    let day = parts.number(1, 2)?;
    parts.byte(b" ")?;
    let time = parts.clock()?;
    let mark = parts.place;
    let year = parts.byte(b" ").and_then(|_| parts.number(4, 4));
    match year.and_then(|year| date(year, month, day)) {
        Some(date) => Some(parts.found(date.to_datetime(time), None)),
        None => Some(Found { length: mark, at: None }),
    }
}

/// `15:20:01.123` and `3:20PM`: of which day is not said.
fn time_of_day(text: &[u8]) -> Option<Found> {
    let mut parts = Parts::new(text);
    if parts.clock().is_some() {
        return Some(Found { length: parts.place, at: None });
    }
    let mut parts = Parts::new(text);
    parts.number(1, 2)?;
    parts.byte(b":")?;
    parts.number(2, 2)?;
    parts.word(&[b"AM", b"PM"])?;
    Some(Found { length: parts.place, at: None })
}
