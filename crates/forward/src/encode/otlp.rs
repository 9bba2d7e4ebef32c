//! OpenTelemetry's logs as OTLP/HTTP with JSON (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>): the mapping of protobuf to
//! JSON, in which 64-bit numbers are texts and keys are in lowerCamelCase. Names of attributes are those of the semantic
//! conventions where they have one.

use std::collections::BTreeMap;

use mainstay_types::{Level, ReplicaId};
use serde_json::{Value, json};

use super::Context;
use crate::record::Record;

/// The body of an `ExportLogsServiceRequest`: one resource a replica.
pub(crate) fn request(records: &[Record], context: &Context) -> Value {
    let mut replicas: BTreeMap<&ReplicaId, Vec<Value>> = BTreeMap::new();
    for record in records {
        replicas.entry(&record.replica).or_default().push(log_record(record));
    }
    let scope = json!({ "name": "mainstay", "version": env!("CARGO_PKG_VERSION") });
    let resources: Vec<Value> = replicas
        .into_iter()
        .map(|(replica, records)| {
            json!({
                "resource": { "attributes": resource(replica, context) },
                "scopeLogs": [{ "scope": scope, "logRecords": records }],
            })
        })
        .collect();
    json!({ "resourceLogs": resources })
}

fn resource(replica: &ReplicaId, context: &Context) -> Vec<Value> {
    let mut attributes = vec![
        text("service.name", replica.service.as_str()),
        text("service.namespace", context.stack.as_str()),
        text("service.instance.id", &instance(replica, context)),
    ];
    attributes.extend(context.host.as_deref().map(|host| text("host.name", host)));
    attributes.extend(context.labels.iter().map(|(name, value)| text(name, value)));
    attributes
}

/// Unique among all instances of a service, and the same after a restart.
fn instance(replica: &ReplicaId, context: &Context) -> String {
    match &context.host {
        Some(host) => format!("{}/{replica}@{host}", context.stack),
        None => format!("{}/{replica}", context.stack),
    }
}

fn log_record(record: &Record) -> Value {
    let mut attributes = vec![text("log.iostream", record.stream.as_str())];
    if record.partial {
        attributes.push(json!({ "key": "mainstay.partial", "value": { "boolValue": true } }));
    }
    let mut log = json!({
        "timeUnixNano": record.time().as_nanosecond().max(0).to_string(),
        "observedTimeUnixNano": record.at.as_nanosecond().max(0).to_string(),
        "body": { "stringValue": String::from_utf8_lossy(&record.text) },
        "attributes": attributes,
    });
    if let Some(level) = record.level {
        log["severityNumber"] = severity_number(level).into();
        log["severityText"] = level.as_str().to_uppercase().into();
    }
    log
}

/// The first number of each range (<https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber>).
const fn severity_number(level: Level) -> u8 {
    match level {
        Level::Trace => 1,
        Level::Debug => 5,
        Level::Info => 9,
        Level::Warn => 13,
        Level::Error => 17,
        Level::Fatal => 21,
    }
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// How many records the answer to a request that succeeded says were refused, and why.
pub(crate) fn rejected(body: &[u8]) -> Option<(u64, String)> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let partial = answer.get("partialSuccess")?;
    let count = match partial.get("rejectedLogRecords")? {
        Value::String(text) => text.parse().ok()?,
        Value::Number(number) => number.as_u64()?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    let words = partial.get("errorMessage").and_then(Value::as_str).unwrap_or_default();
    (count > 0).then(|| (count, words.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::context;
    use super::*;
    use crate::record::tests::record;

    #[test]
    fn a_request_is_what_the_specification_says() {
        let mut line = record("it broke");
        line.level = Some(Level::Error);
        line.said_at = Some("2026-11-22T15:20:00Z".parse().unwrap());
        let attribute = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
        assert_eq!(
            request(&[line], &context()),
            json!({ "resourceLogs": [{
                "resource": { "attributes": [
                    attribute("service.name", "web"),
                    attribute("service.namespace", "shop"),
                    attribute("service.instance.id", "shop/web@machine-1"),
                    attribute("host.name", "machine-1"),
                    attribute("env", "prod"),
                ] },
                "scopeLogs": [{
                    "scope": { "name": "mainstay", "version": env!("CARGO_PKG_VERSION") },
                    "logRecords": [{
                        "timeUnixNano": "1795360800000000000",
                        "observedTimeUnixNano": "1795360801123456789",
                        "body": { "stringValue": "it broke" },
                        "attributes": [attribute("log.iostream", "stdout")],
                        "severityNumber": 17,
                        "severityText": "ERROR",
                    }],
                }],
            }] })
        );
        let plain = request(&[record("plain")], &context());
        let found = &plain["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
        assert!(found.get("severityNumber").is_none());
        assert_eq!(found["timeUnixNano"], found["observedTimeUnixNano"]);
    }

    #[test]
    fn partial_success_is_counted() {
        for (body, count) in [
            (r#"{"partialSuccess":{"rejectedLogRecords":"5","errorMessage":"too long"}}"#, Some(5)),
            (r#"{"partialSuccess":{"rejectedLogRecords":5}}"#, Some(5)),
            (r#"{"partialSuccess":{"rejectedLogRecords":"0"}}"#, None),
            (r#"{"partialSuccess":{}}"#, None),
            ("{}", None),
            ("", None),
            ("<html>", None),
        ] {
            assert_eq!(rejected(body.as_bytes()).map(|(count, _)| count), count, "{body}");
        }
    }
}
