//! Durations as users write them: `500ms`, `10s`, `2m`, `1h30m`, `1d`.

use std::time::Duration;

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationParseError {
    /// No text.
    #[error("a duration cannot be empty")]
    Empty,
    /// A number without a unit.
    #[error("{0:?} has no unit: write {0}s for seconds, {0}ms for milliseconds, {0}m for minutes")]
    NoUnit(String),
    /// A unit nobody knows.
    #[error("{0:?} is no unit of time: use ms, s, m, h or d")]
    BadUnit(String),
    /// Not a number where one belongs.
    #[error("{0:?} is no duration: write a number and a unit, such as 500ms, 10s, 2m")]
    BadNumber(String),
    /// More than the type holds.
    #[error("{0:?} is too long a time")]
    TooLong(String),
}

/// Reads one or more `<number><unit>` parts, units `ms s m h d`, the number with an optional fraction.
pub fn parse_duration(text: &str) -> Result<Duration, DurationParseError> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(DurationParseError::Empty);
    }
    let mut total = Duration::ZERO;
    let mut rest = trimmed;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_len);
        let unit_len = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_len);
        if number.is_empty() || number.starts_with('.') || number.ends_with('.') {
            return Err(DurationParseError::BadNumber(trimmed.to_owned()));
        }
        let value: f64 = number.parse().map_err(|_| DurationParseError::BadNumber(trimmed.to_owned()))?;
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "" => return Err(DurationParseError::NoUnit(number.to_owned())),
            other => return Err(DurationParseError::BadUnit(other.to_owned())),
        };
        let part = Duration::try_from_secs_f64(value * seconds)
            .map_err(|_| DurationParseError::TooLong(trimmed.to_owned()))?;
        total = total.checked_add(part).ok_or_else(|| DurationParseError::TooLong(trimmed.to_owned()))?;
        rest = next;
    }
    Ok(total)
}

/// For people: two significant units at most, `850ms`, `1.2s`, `12s`, `3m 5s`, `2h 10m`, `4d 3h`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms < 1000 {
        return format!("{ms}ms");
    }
    let tenths = ms / 100;
    if tenths < 100 {
        return if tenths.is_multiple_of(10) {
            format!("{}s", tenths / 10)
        } else {
            format!("{}.{}s", tenths / 10, tenths % 10)
        };
    }
    let seconds = duration.as_secs();
    let (big, big_unit, small, small_unit) = match seconds {
        0..60 => return format!("{seconds}s"),
        60..3600 => (seconds / 60, "m", seconds % 60, "s"),
        3600..86_400 => (seconds / 3600, "h", seconds % 3600 / 60, "m"),
        _ => (seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    };
    if small == 0 { format!("{big}{big_unit}") } else { format!("{big}{big_unit} {small}{small_unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, ms) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("2m", 120_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1500),
            ("1d", 86_400_000),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!(parse_duration("10"), Err(DurationParseError::NoUnit("10".into())));
        assert_eq!(parse_duration("10x"), Err(DurationParseError::BadUnit("x".into())));
        assert_eq!(parse_duration("-1s"), Err(DurationParseError::BadNumber("-1s".into())));
        assert_eq!(parse_duration(""), Err(DurationParseError::Empty));
        assert_eq!(parse_duration("1..2s"), Err(DurationParseError::BadNumber("1..2s".into())));
        assert!(matches!(parse_duration("99999999999999999999999d"), Err(DurationParseError::TooLong(_))));
    }

    #[test]
    fn shows_two_units_at_most() {
        for (ms, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1000, "1s"),
            (1234, "1.2s"),
            (9999, "9.9s"),
            (12_345, "12s"),
            (60_000, "1m"),
            (185_000, "3m 5s"),
            (7_800_000, "2h 10m"),
            (356_400_000, "4d 3h"),
        ] {
            assert_eq!(format_duration(Duration::from_millis(ms)), text);
        }
    }
}
