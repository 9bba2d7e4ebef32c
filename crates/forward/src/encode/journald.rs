//! Entries of systemd's journal in its own protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).
//!
//! | field | holds |
//! |---|---|
//! | `MESSAGE` | the line, byte for byte |
//! | `PRIORITY` | the level, as syslog's severity |
//! | `SYSLOG_IDENTIFIER`, `SERVICE_NAME` | the service |
//! | `STACK`, `SERVICE_REPLICA`, `STREAM` | whose and from where |
//! | `LINE_TIME` | when it was read or, if it says that, written: journald's own time is that of the entry |
//! | `LINE_PARTIAL` | `1` for a piece of a long line |
//! | `LABEL_NAME` | each label, in capitals |

use super::{Context, severity};
use crate::record::Record;

/// One entry.
pub(crate) fn entry(record: &Record, context: &Context) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(record.text.len() + 300);
    field(&mut bytes, "MESSAGE", &record.text);
    field(&mut bytes, "PRIORITY", severity(record.level).to_string().as_bytes());
    let service = record.replica.service.as_str().as_bytes();
    field(&mut bytes, "SYSLOG_IDENTIFIER", service);
    field(&mut bytes, "STACK", context.stack.as_str().as_bytes());
    field(&mut bytes, "SERVICE_NAME", service);
    field(&mut bytes, "SERVICE_REPLICA", record.replica.index.to_string().as_bytes());
    field(&mut bytes, "STREAM", record.stream.as_str().as_bytes());
    field(&mut bytes, "LINE_TIME", record.time().to_string().as_bytes());
    if record.partial {
        field(&mut bytes, "LINE_PARTIAL", b"1");
    }
    for (name, value) in &context.labels {
        field(&mut bytes, &format!("LABEL_{}", name.to_ascii_uppercase()), value.as_bytes());
    }
    bytes
}

/// `NAME=value` and a newline; a value that has a newline, or is no plain text, has its length in front instead.
fn field(bytes: &mut Vec<u8>, name: &str, value: &[u8]) {
    bytes.extend_from_slice(name.as_bytes());
    let is_plain =
        std::str::from_utf8(value).is_ok_and(|text| !text.chars().any(|c| c.is_control() && c != '\t'));
    if is_plain {
        bytes.push(b'=');
    } else {
        bytes.push(b'\n');
        bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    }
    bytes.extend_from_slice(value);
    bytes.push(b'\n');
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use mainstay_types::Level;
    use proptest::prelude::*;

    use super::super::tests::context;
    use super::*;
    use crate::record::tests::record;

    /// Reads an entry as journald does.
    fn fields(mut bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        while !bytes.is_empty() {
            let end = bytes.iter().position(|byte| matches!(byte, b'=' | b'\n')).unwrap();
            let name = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let (value, rest) = if bytes[end] == b'=' {
                let newline = bytes.iter().position(|byte| *byte == b'\n').unwrap();
                (&bytes[end + 1..newline], &bytes[newline + 1..])
            } else {
                let length = u64::from_le_bytes(bytes[end + 1..end + 9].try_into().unwrap());
                let length = usize::try_from(length).unwrap();
                (&bytes[end + 9..end + 9 + length], &bytes[end + 10 + length..])
            };
            found.insert(name, value.to_vec());
            bytes = rest;
        }
        found
    }

    #[test]
    fn an_entry_has_its_fields() {
        let mut line = record("it broke");
        line.level = Some(Level::Fatal);
        line.partial = true;
        let found = fields(&entry(&line, &context()));
        let shown: Vec<String> =
            found.iter().map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value))).collect();
        assert_eq!(
            shown,
            [
                "LABEL_ENV=prod",
                "LINE_PARTIAL=1",
                "LINE_TIME=2026-11-22T15:20:01.123456789Z",
                "MESSAGE=it broke",
                "PRIORITY=2",
                "SERVICE_NAME=web",
                "SERVICE_REPLICA=0",
                "STACK=shop",
                "STREAM=stdout",
                "SYSLOG_IDENTIFIER=web",
            ]
        );
    }

    proptest! {
        #[test]
        fn every_byte_of_a_line_survives(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut line = record("");
            line.text.clone_from(&text);
            prop_assert_eq!(&fields(&entry(&line, &context()))["MESSAGE"], &text);
        }
    }
}
