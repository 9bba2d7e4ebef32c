//! What another program sent, made fit for a line of text.

/// `bytes` as one printable line of at most `max_bytes` bytes: invalid UTF-8 becomes U+FFFD, control characters and
/// runs of blanks become one blank; `…` at the end says that something was cut off. `max_bytes` is 3 or more.
pub(crate) fn printable(bytes: &[u8], max_bytes: usize) -> String {
    const CUT: char = '…';
    let text = String::from_utf8_lossy(bytes);
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let mut line = String::new();
    for word in words {
        let gap = usize::from(!line.is_empty());
        if line.len() + gap + word.len() > max_bytes {
            if gap == 1 {
                line.push(' ');
            }
            line.push_str(word);
            let end = line.floor_char_boundary(max_bytes - CUT.len_utf8());
            line.truncate(end);
            line.push(CUT);
            return line;
        }
        if gap == 1 {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_one_short_line() {
        for (bytes, line) in [
            (&b""[..], ""),
            (b"  ok \r\n", "ok"),
            (b"a\n\tb\x1b[1m\0c", "a b [1m c"),
            (b"\xff", "\u{fffd}"),
            (b"0123456789", "0123456789"),
            (b"0123456789a", "0123456…"),
            (b"01234 56789", "01234 5…"),
            ("ééééé".as_bytes(), "ééééé"),
            ("éééééé".as_bytes(), "ééé…"),
        ] {
            assert_eq!(printable(bytes, 10), line, "{bytes:?}");
            assert!(printable(bytes, 10).len() <= 10);
        }
    }
}
