//! What an answer of a target means for what was sent; pure.

use std::time::Duration;

/// What came of sending some records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// All were taken, as far as the protocol tells.
    Taken,
    /// An answer of HTTP.
    Http {
        status: u16,
        /// What `Retry-After` says.
        retry_after: Option<Duration>,
        /// Records that were refused although the rest was taken.
        rejected: u64,
        /// What the answer says, for people; one line, bounded.
        words: String,
    },
    /// No answer, or one that makes no sense. So many of the first records were taken.
    Failed { taken: usize, words: String },
}

/// What follows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It is done; so many of the records were refused, and are lost.
    Done { rejected: u64 },
    /// The same again, without so many of the first records, not before this time.
    Again { taken: usize, not_before: Option<Duration>, words: String },
    /// Something in it is refused for good: each half by itself.
    Halves { words: String },
    /// It is refused for good.
    Dropped { words: String },
}

/// Decides what follows an answer to `records` records. Without `may_split`, what is refused for good is dropped as a whole.
///
/// | answer | means |
/// |---|---|
/// | 200 to 299 | taken, save what the answer says was rejected |
/// | 400, 413, 415, 422, 431 | something in the request is refused: halves, at last the one record |
/// | 408, 425, 429, 500 to 599 | not now: again, after `Retry-After` if there is one |
/// | every other | nothing is wrong with the records, but with the way to the target (a token that ran out, a path that is not there): again, until somebody has put it right or the spool is full |
pub(crate) fn verdict(answer: Answer, records: usize, may_split: bool) -> Verdict {
    match answer {
        Answer::Taken => Verdict::Done { rejected: 0 },
        Answer::Failed { taken, words } => {
            Verdict::Again { taken: taken.min(records), not_before: None, words }
        }
        Answer::Http { status, retry_after, rejected, words } => match status {
            200..=299 => Verdict::Done { rejected: rejected.min(records as u64) },
            400 | 413 | 415 | 422 | 431 if may_split && records > 1 => {
                Verdict::Halves { words: told(status, &words) }
            }
            400 | 413 | 415 | 422 | 431 => Verdict::Dropped { words: told(status, &words) },
            _ => Verdict::Again { taken: 0, not_before: retry_after, words: told(status, &words) },
        },
    }
}

fn told(status: u16, words: &str) -> String {
    let hint = match status {
        300..=399 => " (a redirection, which is not followed: write the address itself)",
        401 | 407 => " (it asks who we are: look at `token_file` and `headers`)",
        403 => " (it does not let us: look at `token_file` and `headers`)",
        404 | 405 => " (nothing takes logs there: look at the path of `url`)",
        _ => "",
    };
    if words.is_empty() {
        format!("it answered HTTP {status}{hint}")
    } else {
        format!("it answered HTTP {status}{hint}: {words}")
    }
}

/// Reads `Retry-After` (RFC 9110, 10.2.3): seconds, or a date.
pub(crate) fn retry_after(value: &str, now: mainstay_types::Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let at = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Duration::try_from(at.duration_since(now)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(status: u16, records: usize, may_split: bool) -> Verdict {
        let retry_after = Some(Duration::from_secs(7));
        verdict(Answer::Http { status, retry_after, rejected: 2, words: "so".into() }, records, may_split)
    }

    #[test]
    fn each_status_has_its_consequence() {
        for status in [200, 204, 299] {
            assert_eq!(http(status, 10, true), Verdict::Done { rejected: 2 });
        }
        assert_eq!(http(200, 1, true), Verdict::Done { rejected: 1 });
        for status in [400, 413, 415, 422, 431] {
            assert!(matches!(http(status, 2, true), Verdict::Halves { .. }), "{status}");
            assert!(matches!(http(status, 1, true), Verdict::Dropped { .. }), "{status}");
            assert!(matches!(http(status, 2, false), Verdict::Dropped { .. }), "{status}");
        }
        for status in [101, 301, 401, 403, 404, 408, 425, 429, 500, 503, 599] {
            let Verdict::Again { taken: 0, not_before, words } = http(status, 2, true) else {
                panic!("{status}");
            };
            assert_eq!(not_before, Some(Duration::from_secs(7)));
            assert!(words.contains(&status.to_string()) && words.ends_with(": so"), "{words}");
        }
    }

    #[test]
    fn no_answer_is_tried_again_from_where_it_broke() {
        let answer = Answer::Failed { taken: 3, words: "gone".into() };
        let again = |taken| Verdict::Again { taken, not_before: None, words: "gone".into() };
        assert_eq!(verdict(answer.clone(), 5, true), again(3));
        assert_eq!(verdict(answer, 2, true), again(2));
        assert_eq!(verdict(Answer::Taken, 5, true), Verdict::Done { rejected: 0 });
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = "2026-11-22T15:20:00Z".parse().unwrap();
        for (value, seconds) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("Sun, 22 Nov 2026 15:20:30 GMT", Some(30)),
            ("Sun, 22 Nov 2026 15:19:30 GMT", None),
            ("-1", None),
            ("soon", None),
            ("", None),
            ("99999999999999", None),
        ] {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value}");
        }
    }
}
