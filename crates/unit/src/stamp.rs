//! The first lines of every file this crate makes: who wrote it, and a digest that shows whether anybody changed it since.
//!
//! The digest is against accidents, not against forgery: whoever may change a unit may do anything anyway.

/// Begins the line with the digest, after the sign of a comment.
const MARK: &str = "mainstay-unit 1 digest ";

/// Lines in which the mark is looked for: a script has its `#!` first, a plist its declaration.
const MARK_WITHIN: usize = 6;

/// What a file says about where it came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stamp {
    /// Mainstay wrote it, and it is as it was written.
    Intact,
    /// Mainstay wrote it, and it was changed since.
    Edited,
    /// Somebody else wrote it.
    Foreign,
}

/// `body` with the mark after its first `head_lines` lines; `open` and `close` make a line a comment.
#[must_use]
pub fn stamped(head: &str, body: &str, open: &str, close: &str) -> String {
    let digest = digest(head, body);
    format!("{head}{open}{MARK}{digest:016x}{close}\n{body}")
}

/// What this file says about itself.
#[must_use]
pub fn stamp(text: &str) -> Stamp {
    let mut from = 0;
    for line in text.split_inclusive('\n').take(MARK_WITHIN) {
        if let Some((_, rest)) = line.split_once(MARK) {
            let written = rest.get(..16).and_then(|hex| u64::from_str_radix(hex, 16).ok());
            let now = digest(&text[..from], &text[from + line.len()..]);
            return if written == Some(now) { Stamp::Intact } else { Stamp::Edited };
        }
        from += line.len();
    }
    Stamp::Foreign
}

/// FNV-1a of 64 bits (RFC 9923) over both parts.
fn digest(head: &str, body: &str) -> u64 {
    head.bytes().chain(body.bytes()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_told_from_what_was_changed() {
        let text = stamped("# Written by mainstay.\n", "[Unit]\nDescription=x\n", "# ", "");
        assert_eq!(stamp(&text), Stamp::Intact);
        assert_eq!(stamp(&text.replace("=x", "=y")), Stamp::Edited);
        assert_eq!(stamp(&format!("{text}\n")), Stamp::Edited);
        assert_eq!(stamp(&text.replace("Written", "written")), Stamp::Edited);
        assert_eq!(stamp(&text.replace(MARK, "no mark ")), Stamp::Foreign);
        assert_eq!(stamp(""), Stamp::Foreign);
        assert_eq!(stamp(&format!("# {MARK}")), Stamp::Edited, "cut off in the middle of the mark");
        assert_eq!(stamp(&format!("# {MARK}ääääääääääää\n")), Stamp::Edited);
    }
}
