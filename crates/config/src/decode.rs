//! Bytes of a file to text: UTF-8, a byte order mark dropped, a limit on the size.

use std::path::Path;

use mainstay_types::format_size;

use crate::diagnostic::Diagnostics;

/// Largest file that is read, in bytes: some ten thousand services; more is the wrong file.
pub const MAX_FILE_BYTES: usize = 4 << 20;

/// The text of a file. Errors name the first byte that is no UTF-8, or the size.
pub fn decode(bytes: &[u8], file: &Path) -> Result<String, Diagnostics> {
    if bytes.len() > MAX_FILE_BYTES {
        let size = u64::try_from(bytes.len()).map_or_else(|_| "too large".to_owned(), format_size);
        let limit = format_size(MAX_FILE_BYTES as u64);
        let message = format!("the file is {size}, more than the {limit} a mainstay.toml may have");
        let help = "is this the right file? give another one with --file";
        return Err(Diagnostics::whole_file(file, String::new(), 0..0, message, help));
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        let message = "the file is UTF-16, not UTF-8".to_owned();
        let help = "save it as UTF-8; in Windows PowerShell: Set-Content -Encoding utf8";
        return Err(Diagnostics::whole_file(file, String::new(), 0..0, message, help));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => {
            let at = error.valid_up_to();
            let message =
                format!("byte 0x{:02x} is no UTF-8 text", bytes.get(at).copied().unwrap_or_default());
            // Up to the bad byte the text is the same, so that its offset still holds; there it has U+FFFD.
            let text = String::from_utf8_lossy(bytes).into_owned();
            let span = at..at + char::REPLACEMENT_CHARACTER.len_utf8();
            Err(Diagnostics::whole_file(file, text, span, message, "save the file as UTF-8"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_dropped() {
        assert_eq!(decode(b"\xef\xbb\xbfa = 1", Path::new("f")).unwrap(), "a = 1");
        assert_eq!(decode(b"", Path::new("f")).unwrap(), "");
    }

    #[test]
    fn the_first_bad_byte_is_named_with_its_place() {
        let error = decode(
            "a = 1\nü = \"".as_bytes().iter().chain(b"\xe9\"\xff").copied().collect::<Vec<_>>().as_slice(),
            Path::new("f"),
        )
        .unwrap_err();
        let bad = &error.list[0];
        assert_eq!((bad.line, bad.column, bad.message.as_str()), (2, 6, "byte 0xe9 is no UTF-8 text"));
        assert_eq!(&error.text[bad.span.clone()], "\u{fffd}");
        assert!(error.render(false).contains("f:2:6"));
    }

    #[test]
    fn other_encodings_and_sizes_are_refused() {
        assert!(decode(b"\xff\xfea\0", Path::new("f")).unwrap_err().to_string().contains("UTF-16"));
        assert!(decode(&vec![b'#'; MAX_FILE_BYTES], Path::new("f")).is_ok());
        let error = decode(&vec![b'#'; MAX_FILE_BYTES + 1], Path::new("f")).unwrap_err();
        assert!(error.to_string().contains("more than the 4.0 MiB"), "{error}");
        assert!(!error.render(false).is_empty());
    }
}
