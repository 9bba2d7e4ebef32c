//! Points of time as people type them for `--since` and `--until`.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use mainstay_types::{Timestamp, parse_duration};

/// Why a text is no point of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WhenError {
    /// No accepted form.
    #[error(
        "{0:?} is no time: write how long ago (10m, 2h), a time of today (15:20), a date (2026-11-22), both (2026-11-22 15:20) or RFC 3339 (2026-11-22T15:20:01Z)"
    )]
    Unknown(String),
    /// An accepted form, but further away than times reach.
    #[error("{0:?} is too far away: times reach from the year -9999 to 9999")]
    OutOfRange(String),
}

/// Reads a point of time. Forms without a zone are local time:
/// - `10m`, `1h30m`, `10m ago`: so long before `now`
/// - `now`, `today`, `yesterday` (midnight)
/// - `15:20`, `15:20:01`: today, even if that is still to come
/// - `2026-11-22` (midnight), `2026-11-22 15:20`, `2026-11-22T15:20:01.5`
/// - RFC 3339 with a zone: `2026-11-22T15:20:01Z`, `2026-11-22T15:20:01+01:00`
pub fn parse_when(text: &str, now: Timestamp) -> Result<Timestamp, WhenError> {
    parse_in(text, now, &TimeZone::system())
}

fn parse_in(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, WhenError> {
    let trimmed = text.trim();
    let unknown = || WhenError::Unknown(trimmed.to_owned());
    let out_of_range = |_| WhenError::OutOfRange(trimmed.to_owned());
    let here = now.to_zoned(zone.clone());
    let local =
        |time: DateTime| time.to_zoned(zone.clone()).map(|zoned| zoned.timestamp()).map_err(out_of_range);
    match trimmed {
        "now" => return Ok(now),
        "today" => return local(here.date().into()),
        "yesterday" => return local(here.date().yesterday().map_err(out_of_range)?.into()),
        _ => {}
    }
    let ago = trimmed.strip_suffix("ago").map_or(trimmed, str::trim_end);
    if let Ok(duration) = parse_duration(ago) {
        return now.checked_sub(duration).map_err(out_of_range);
    }
    if let Ok(at) = trimmed.parse::<Timestamp>() {
        return Ok(at);
    }
    // jiff's own forms are wider than what is promised (a time as `T15`, a date as `20261122`): asked for by shape.
    let colons = trimmed.matches(':').count();
    if trimmed.contains('-') {
        if colons == 0 {
            return local(trimmed.parse::<Date>().map_err(|_| unknown())?.into());
        }
        return local(trimmed.parse::<DateTime>().map_err(|_| unknown())?);
    }
    if (1..=2).contains(&colons) {
        let time = trimmed.parse::<Time>().map_err(|_| unknown())?;
        return local(here.date().to_datetime(time));
    }
    Err(unknown())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_people_type_them() {
        let now: Timestamp = "2026-11-22T15:20:01.5Z".parse().unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        for (text, expected) in [
            ("now", "2026-11-22T15:20:01.5Z"),
            ("10m", "2026-11-22T15:10:01.5Z"),
            (" 1h30m ago ", "2026-11-22T13:50:01.5Z"),
            ("today", "2026-11-21T22:00:00Z"),
            ("yesterday", "2026-11-20T22:00:00Z"),
            ("15:20", "2026-11-22T13:20:00Z"),
            ("23:59:30", "2026-11-22T21:59:30Z"),
            ("2026-11-22", "2026-11-21T22:00:00Z"),
            ("2026-11-22 15:20", "2026-11-22T13:20:00Z"),
            ("2026-11-22T15:20:01.25", "2026-11-22T13:20:01.25Z"),
            ("2026-11-22T15:20:01Z", "2026-11-22T15:20:01Z"),
            ("2026-11-22T15:20:01+01:00", "2026-11-22T14:20:01Z"),
            ("2026-11-22 15:20:01Z", "2026-11-22T15:20:01Z"),
        ] {
            let expected: Timestamp = expected.parse().unwrap();
            assert_eq!(parse_in(text, now, &zone), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time() {
        let now: Timestamp = "2026-11-22T15:20:01Z".parse().unwrap();
        for text in ["", "soon", "10", "10x", "25:00", "2026-13-01", "2026-11-22 99:00", "12:00:00:00", "ago"]
        {
            assert_eq!(
                parse_in(text, now, &TimeZone::UTC),
                Err(WhenError::Unknown(text.to_owned())),
                "{text}"
            );
        }
        assert_eq!(
            parse_in("9999999d", now, &TimeZone::UTC),
            Err(WhenError::OutOfRange("9999999d".to_owned()))
        );
    }
}
