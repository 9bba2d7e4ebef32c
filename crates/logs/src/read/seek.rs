//! Places in a file found by time, by bisection: times never go back within a file.
//!
//! Bytes that are no record are passed over. Where a foreign hand has put times out of order, some place is found and
//! nothing worse happens.

use std::io;

use mainstay_types::Timestamp;

use super::text::Text;
use crate::record::{HEADER_BYTES, parse};

/// A place nearer than this is near enough: reading on is faster than looking on.
const NEAR_BYTES: u64 = 64 * 1024;
/// Bytes read at once while looking for the next record.
const PROBE_BYTES: u64 = 4 * 1024;
/// Where the time, the stream and the tag of a record end at the latest, in any spelling of the time.
const LONGEST_HEADER: usize = HEADER_BYTES + 24;

/// The offset of a record for which `is_before` holds, at most about [`NEAR_BYTES`] in front of the first one for which
/// it does not; 0 if there is none.
pub(super) fn near(text: &mut Text, end: u64, is_before: impl Fn(Timestamp) -> bool) -> io::Result<u64> {
    near_by(text, end, NEAR_BYTES, is_before)
}

fn near_by(
    text: &mut Text,
    end: u64,
    near_bytes: u64,
    is_before: impl Fn(Timestamp) -> bool,
) -> io::Result<u64> {
    let (mut low, mut high) = (0, end);
    while high - low > near_bytes.max(1) {
        let middle = low + (high - low) / 2;
        // A record that begins at the middle counts as behind it.
        match record_behind(text, middle - 1, high)? {
            Some((offset, at)) if is_before(at) => low = offset,
            // No record begins between the middle and this one.
            Some(_) | None => high = middle,
        }
    }
    Ok(low)
}

/// The offset of the first record for which `is_before` does not hold; `end` if there is none.
pub(super) fn first_not(text: &mut Text, end: u64, is_before: impl Fn(Timestamp) -> bool) -> io::Result<u64> {
    let mut offset = near(text, end, &is_before)?;
    if offset == 0 {
        let mut first = Vec::new();
        text.read_range(0, end.min(LONGEST_HEADER as u64), &mut first)?;
        if time_of(&first).is_some_and(|at| !is_before(at)) {
            return Ok(0);
        }
    }
    while let Some((next, at)) = record_behind(text, offset, end)? {
        if !is_before(at) {
            return Ok(next);
        }
        offset = next;
    }
    Ok(end)
}

/// The first record that begins behind a newline at or behind `from`, and in front of `to`.
fn record_behind(text: &mut Text, from: u64, to: u64) -> io::Result<Option<(u64, Timestamp)>> {
    let mut block = Vec::new();
    let mut start = from;
    while start < to {
        // A record that begins in front of `to` may have its header behind it.
        text.read_range(start, start + PROBE_BYTES, &mut block)?;
        let whole = block.len() as u64 == PROBE_BYTES;
        let mut place = 0;
        while let Some(found) = memchr::memchr(b'\n', &block[place..]) {
            let begin = place + found + 1;
            if start + begin as u64 >= to {
                return Ok(None);
            }
            if block.len() - begin < LONGEST_HEADER && whole {
                // Its header goes on in the next block, which begins with this newline.
                break;
            }
            if let Some(at) = time_of(&block[begin..]) {
                return Ok(Some((start + begin as u64, at)));
            }
            place = begin;
        }
        if !whole {
            return Ok(None);
        }
        start += match memchr::memchr(b'\n', &block[place..]) {
            Some(newline) => (place + newline) as u64,
            None => PROBE_BYTES,
        };
    }
    Ok(None)
}

/// The time of the record that the bytes begin with.
fn time_of(bytes: &[u8]) -> Option<Timestamp> {
    let head = &bytes[..bytes.len().min(LONGEST_HEADER)];
    let line = memchr::memchr(b'\n', head).map_or(head, |newline| &head[..newline]);
    parse(line).map(|record| record.at)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn places_are_those_of_reading_through(
            lines in prop::collection::vec((0_i64..3, 0_usize..300, any::<bool>()), 0..200),
            wanted in 0_i64..300,
            near_bytes in 1_u64..500,
            zeros in any::<bool>(),
        ) {
            let mut bytes = Vec::new();
            let mut records = Vec::new();
            let mut second = 0;
            for (step, length, foreign) in lines {
                second += step;
                let at = Timestamp::from_second(second).unwrap();
                if foreign {
                    bytes.extend(std::iter::repeat_n(if zeros { 0 } else { b'2' }, length));
                } else {
                    records.push((bytes.len() as u64, at));
                    bytes.extend_from_slice(&crate::record::header(at, crate::Stream::Stdout, false));
                    bytes.extend(std::iter::repeat_n(b'x', length));
                }
                bytes.push(b'\n');
            }
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            let mut text = Text::Plain(file);
            let end = bytes.len() as u64;
            let is_before = |at: Timestamp| at.as_second() < wanted;
            let first = records.iter().find(|(_, at)| !is_before(*at)).map_or(end, |record| record.0);
            prop_assert_eq!(first_not(&mut text, end, is_before).unwrap(), first);
            let found = near_by(&mut text, end, near_bytes, is_before).unwrap();
            prop_assert!(found == 0 || records.iter().any(|(offset, at)| *offset == found && is_before(*at)));
            // All records in front of the place are before, too.
            prop_assert!(found <= first);
            let last_before = records.iter().rev().find(|(_, at)| is_before(*at)).map_or(0, |record| record.0);
            prop_assert!(last_before.saturating_sub(found) <= near_bytes, "{found} {last_before}");
        }
    }
}
