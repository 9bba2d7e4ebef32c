//! Times as log files spell them: in front of lines and as file names, both of fixed width so that they sort as text.

use mainstay_types::Timestamp;

/// Bytes of `2026-11-22T15:20:01.123456789Z`.
pub(crate) const STAMP_BYTES: usize = 30;

/// The time in front of a line. Years outside 0000 to 9999 do not fit the width and become the nearest that does.
pub(crate) fn stamp(at: Timestamp) -> [u8; STAMP_BYTES] {
    let seconds = at.as_second();
    let nanos = at.subsec_nanosecond();
    // Floor, so that times before 1970 keep a fraction that counts upwards.
    let (seconds, nanos) = if nanos < 0 { (seconds - 1, nanos + 1_000_000_000) } else { (seconds, nanos) };
    let (days, second_of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil_from_days(days);
    let mut text = *b"0000-00-00T00:00:00.000000000Z";
    let year = year.clamp(0, 9999);
    digits(&mut text[0..4], year);
    digits(&mut text[5..7], month);
    digits(&mut text[8..10], day);
    digits(&mut text[11..13], second_of_day / 3600);
    digits(&mut text[14..16], second_of_day / 60 % 60);
    digits(&mut text[17..19], second_of_day % 60);
    digits(&mut text[20..29], i64::from(nanos));
    text
}

fn digits(place: &mut [u8], mut value: i64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value.rem_euclid(10)).unwrap_or(0);
        value /= 10;
    }
}

/// The time in front of a line: the fixed form quickly, any other RFC 3339 form (from a foreign hand) as well.
pub(crate) fn parse_stamp(text: &[u8]) -> Option<Timestamp> {
    if let Some(at) = parse_fixed(text, b':') {
        return Some(at);
    }
    let text = std::str::from_utf8(text).ok()?;
    (text.len() >= 20).then(|| text.parse().ok()).flatten()
}

/// The file name of a closed log without its extension: the stamp with `-` for `:`, which Windows does not allow.
pub(crate) fn file_stem(at: Timestamp) -> String {
    let mut text = stamp(at);
    text[13] = b'-';
    text[16] = b'-';
    String::from_utf8_lossy(&text).into_owned()
}

/// Reads what [`file_stem`] writes, and nothing else.
pub(crate) fn parse_file_stem(stem: &str) -> Option<Timestamp> {
    parse_fixed(stem.as_bytes(), b'-')
}

fn parse_fixed(text: &[u8], colon: u8) -> Option<Timestamp> {
    let text: &[u8; STAMP_BYTES] = text.try_into().ok()?;
    for (place, expected) in
        [(4, b'-'), (7, b'-'), (10, b'T'), (13, colon), (16, colon), (19, b'.'), (29, b'Z')]
    {
        if text[place] != expected {
            return None;
        }
    }
    let number = |from: usize, to: usize| -> Option<i64> {
        text[from..to]
            .iter()
            .try_fold(0_i64, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0')))
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let nanos = i32::try_from(number(20, 29)?).ok()?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_from_civil(year, month, day);
    if civil_from_days(days) != (year, month, day) {
        return None;
    }
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second;
    // Before 1970 jiff wants second and fraction to have the same sign.
    if seconds < 0 && nanos > 0 {
        return Timestamp::new(seconds + 1, nanos - 1_000_000_000).ok();
    }
    Timestamp::new(seconds, nanos).ok()
}

/// Days since 1970-01-01 to year, month, day of the proleptic Gregorian calendar.
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The inverse of [`civil_from_days`], from the same source.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = (month + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn stamps_and_names_read_back_and_agree_with_jiff(
            // 0000-01-01 to 9999-12-30, as far as both the width and jiff reach.
            nanos in -62_167_219_200_000_000_000_i128..253_402_207_200_000_000_000,
        ) {
            let at = Timestamp::from_nanosecond(nanos).unwrap();
            let text = stamp(at);
            prop_assert_eq!(String::from_utf8_lossy(&text), format!("{at:.9}"));
            prop_assert_eq!(parse_stamp(&text), Some(at));
            prop_assert_eq!(parse_file_stem(&file_stem(at)), Some(at));
        }
    }

    #[test]
    fn other_spellings_of_a_time_are_read_and_no_time_is_not() {
        let at = "2026-11-22T15:20:01Z".parse::<Timestamp>().unwrap();
        assert_eq!(parse_stamp(b"2026-11-22T15:20:01.000000000Z"), Some(at));
        assert_eq!(parse_stamp(b"2026-11-22T16:20:01+01:00"), Some(at));
        for bad in [
            "",
            "now",
            "2026-02-30T15:20:01.000000000Z",
            "2026-11-22T15:20:01.00000000xZ",
            "2026-13-22T15:20:01.000000000Z",
        ] {
            assert_eq!(parse_stamp(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(parse_file_stem("2026-11-22T15:20:01.000000000Z"), None);
    }
}
