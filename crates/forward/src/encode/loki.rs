//! Loki's push API, version 1, in JSON (<https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs>).
//!
//! A stream of Loki is a set of labels; the fewer values a label has, the better. Ours are `stack`, `service`, `replica`,
//! `stream`, `level` where the line says it, and those of the file.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Context;
use crate::record::Record;

/// The body of a push. Lines keep their order within a stream.
pub(crate) fn push(records: &[Record], context: &Context) -> Value {
    let mut streams: BTreeMap<BTreeMap<&str, String>, Vec<Value>> = BTreeMap::new();
    for record in records {
        let mut labels: BTreeMap<&str, String> =
            context.labels.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        labels.insert("stack", context.stack.to_string());
        labels.insert("service", record.replica.service.to_string());
        labels.insert("replica", record.replica.index.to_string());
        labels.insert("stream", record.stream.to_string());
        if let Some(level) = record.level {
            labels.insert("level", level.to_string());
        }
        // The time of reading: it never goes back within a replica, which keeps Loki from refusing lines as out of order.
        let at = record.at.as_nanosecond().to_string();
        let line = String::from_utf8_lossy(&record.text);
        streams.entry(labels).or_default().push(json!([at, line]));
    }
    let streams: Vec<Value> =
        streams.into_iter().map(|(labels, values)| json!({ "stream": labels, "values": values })).collect();
    json!({ "streams": streams })
}

#[cfg(test)]
mod tests {
    use mainstay_logs::Stream;
    use mainstay_types::Level;

    use super::super::tests::context;
    use super::*;
    use crate::record::tests::record;

    #[test]
    fn lines_are_grouped_by_their_labels_in_order() {
        let mut error = record("\u{1b}[31mbroke\u{1b}[0m");
        error.level = Some(Level::Error);
        error.stream = Stream::Stderr;
        let mut bytes = record("");
        bytes.text = b"\xFFx".to_vec();
        let labels = |stream: &str| json!({"env": "prod", "stack": "shop", "service": "web", "replica": "0", "stream": stream});
        let mut of_error = labels("stderr");
        of_error["level"] = "error".into();
        let at = "1795360801123456789";
        assert_eq!(
            push(&[record("one"), error, record("two"), bytes], &context()),
            json!({ "streams": [
                { "stream": of_error, "values": [[at, "\u{1b}[31mbroke\u{1b}[0m"]] },
                { "stream": labels("stdout"), "values": [[at, "one"], [at, "two"], [at, "\u{FFFD}x"]] },
            ] })
        );
    }
}
