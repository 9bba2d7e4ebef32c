//! Times for people: in the local time zone.

use mainstay_types::Timestamp;

/// `2026-11-22 15:20:01.123`, local.
pub(crate) fn local_time(at: Timestamp) -> String {
    let zoned = at.to_zoned(jiff::tz::TimeZone::system());
    zoned.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string()
}
