//! Level and time in a line of `key=value` pairs, as logrus, slog, go-kit and others write.

use super::json::{is_level_key, is_time_key};
use super::{Head, time, words};

/// Pairs looked at.
const MOST_PAIRS: usize = 64;

/// `None` when the text does not begin with `key=value`, or names neither level nor time among its pairs.
pub(super) fn head(text: &[u8]) -> Option<Head> {
    let mut rest = text;
    let mut head = Head { whole: true, ..Head::default() };
    for number in 0..MOST_PAIRS {
        let Some((key, value, after)) = pair(rest) else {
            if number == 0 {
                return None;
            }
            // A word without `=` among the pairs, as some write behind them.
            let Some(blank) = memchr::memchr(b' ', rest) else { break };
            rest = rest[blank..].trim_ascii_start();
            continue;
        };
        rest = after;
        if is_level_key(key) {
            head.level = head.level.or_else(|| words::value(value));
        } else if is_time_key(key) {
            head.at = head.at.or_else(|| time::value(value));
        }
        if rest.is_empty() {
            break;
        }
    }
    (head.level.is_some() || head.at.is_some()).then_some(head)
}

/// `key=value` or `key="value"`, and what follows.
fn pair(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let equals = text.iter().position(|byte| !byte.is_ascii_alphanumeric() && !b"_.@-".contains(byte))?;
    if equals == 0 || text[equals] != b'=' || !text[0].is_ascii_alphabetic() && text[0] != b'@' {
        return None;
    }
    let (key, value) = (&text[..equals], &text[equals + 1..]);
    if value.first() == Some(&b'"') {
        let mut end = 1;
        loop {
            end += memchr::memchr2(b'"', b'\\', value.get(end..)?)?;
            if value[end] == b'"' {
                return Some((key, &value[1..end], value[end + 1..].trim_ascii_start()));
            }
            end += 2;
        }
    }
    let end = memchr::memchr(b' ', value).unwrap_or(value.len());
    Some((key, &value[..end], value[end..].trim_ascii_start()))
}
