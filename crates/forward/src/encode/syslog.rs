//! Syslog's messages: RFC 5424, and their counting in a stream: RFC 6587, 3.4.1, and RFC 5425, 4.3.
//!
//! ```text
//! <30>1 2026-11-22T15:20:01.123456Z machine-1 web - stdout [mainstay@32473 stack="shop" service="web" env="prod"] the line
//! ```

use super::{Context, severity};
use crate::record::Record;

/// "system daemons" (RFC 5424, 6.2.1).
const FACILITY: u8 = 3;
/// The number of our structured data: the one that RFC 5612 sets aside for whoever has none of his own.
const DATA_ID: &str = "mainstay@32473";
/// Longest APP-NAME and HOSTNAME (RFC 5424, 6).
const MAX_APP_NAME: usize = 48;
const MAX_HOST_NAME: usize = 255;
/// In front of a text that is UTF-8 (RFC 5424, 6.4).
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// One message.
pub(crate) fn message(record: &Record, context: &Context) -> Vec<u8> {
    let priority = FACILITY * 8 + severity(record.level);
    // TIME-SECFRAC has six digits at most.
    let time = format!("{:.6}", record.time());
    let host = printable(context.host.as_deref().unwrap_or_default(), MAX_HOST_NAME);
    let app = printable(record.replica.service.as_str(), MAX_APP_NAME);
    let mut text = format!("<{priority}>1 {time} {host} {app} - {} [{DATA_ID}", record.stream);
    let own = [
        ("stack", context.stack.to_string()),
        ("service", record.replica.service.to_string()),
        ("replica", record.replica.index.to_string()),
    ];
    for (name, value) in &own {
        parameter(&mut text, name, value);
    }
    if record.partial {
        parameter(&mut text, "partial", "true");
    }
    for (name, value) in &context.labels {
        parameter(&mut text, name, value);
    }
    text.push_str("] ");
    let mut bytes = text.into_bytes();
    if !record.text.is_ascii() && std::str::from_utf8(&record.text).is_ok() {
        bytes.extend_from_slice(BOM);
    }
    bytes.extend_from_slice(&record.text);
    bytes
}

/// The message with its length in front.
pub(crate) fn counted(message: &[u8], into: &mut Vec<u8>) {
    into.extend_from_slice(message.len().to_string().as_bytes());
    into.push(b' ');
    into.extend_from_slice(message);
}

/// PRINTUSASCII, or the value for nothing.
fn printable(text: &str, most: usize) -> String {
    let printable: String = text.chars().filter(char::is_ascii_graphic).take(most).collect();
    if printable.is_empty() { "-".to_owned() } else { printable }
}

/// RFC 5424, 6.3.3: in a value, `"`, `\` and `]` have a `\` in front.
fn parameter(text: &mut String, name: &str, value: &str) {
    text.push(' ');
    text.push_str(name);
    text.push_str("=\"");
    for c in value.chars() {
        if matches!(c, '"' | '\\' | ']') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use mainstay_types::Level;
    use proptest::prelude::*;

    use super::super::tests::context;
    use super::*;
    use crate::record::tests::record;

    #[test]
    fn a_message_is_what_the_standard_says() {
        let mut line = record("the line");
        line.level = Some(Level::Error);
        let expected = "<27>1 2026-11-22T15:20:01.123456Z machine-1 web - stdout \
                        [mainstay@32473 stack=\"shop\" service=\"web\" replica=\"0\" env=\"prod\"] the line";
        assert_eq!(String::from_utf8(message(&line, &context())).unwrap(), expected);
        line.partial = true;
        assert!(String::from_utf8(message(&line, &context())).unwrap().contains(" partial=\"true\" env="));
    }

    #[test]
    fn only_text_beyond_ascii_that_is_utf8_has_the_mark() {
        let ends = |text: &[u8], end: &[u8]| {
            let mut line = record("");
            line.text = text.to_vec();
            assert!(message(&line, &context()).ends_with(&[b"\"] ", end].concat()), "{text:?}");
        };
        ends(b"plain", b"plain");
        ends(b"", b"");
        ends("zu spät".as_bytes(), "\u{FEFF}zu spät".as_bytes());
        ends(b"\xFF\xFE", b"\xFF\xFE");
    }

    #[test]
    fn a_machine_without_a_name_has_a_dash() {
        let mut context = context();
        for host in [None, Some(String::new()), Some("ü ".to_owned())] {
            context.host = host;
            assert!(message(&record("x"), &context).windows(7).any(|found| found == b"Z - web"));
        }
    }

    /// Reads parameters as RFC 5424 has them.
    fn parameters(text: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut rest = text;
        while let Some((name, behind)) = rest.trim_start().split_once("=\"") {
            let (mut value, mut escaped, mut end) = (String::new(), false, None);
            for (at, c) in behind.char_indices() {
                match c {
                    _ if escaped => {
                        escaped = false;
                        value.push(c);
                    }
                    '\\' => escaped = true,
                    '"' => {
                        end = Some(at + 1);
                        break;
                    }
                    ']' => panic!("a bracket that closes"),
                    c => value.push(c),
                }
            }
            found.push((name.to_owned(), value));
            rest = &behind[end.unwrap()..];
        }
        found
    }

    proptest! {
        #[test]
        fn any_value_survives_its_quotes(value in "\\PC{0,40}") {
            let mut text = String::new();
            parameter(&mut text, "a", &value);
            parameter(&mut text, "b", "x");
            let expected = vec![("a".to_owned(), value), ("b".to_owned(), "x".to_owned())];
            prop_assert_eq!(parameters(&text), expected);
        }

        #[test]
        fn counted_messages_are_found_again(messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..10)) {
            let mut stream = Vec::new();
            for message in &messages {
                counted(message, &mut stream);
            }
            let mut rest = stream.as_slice();
            let mut found = Vec::new();
            while !rest.is_empty() {
                let blank = rest.iter().position(|byte| *byte == b' ').unwrap();
                let length: usize = std::str::from_utf8(&rest[..blank]).unwrap().parse().unwrap();
                found.push(rest[blank + 1..=blank + length].to_vec());
                rest = &rest[blank + 1 + length..];
            }
            prop_assert_eq!(found, messages);
        }
    }
}
