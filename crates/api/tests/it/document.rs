//! The OpenAPI document and the router say the same.

use std::collections::BTreeSet;

use mainstay_api::openapi;
use serde_json::Value;

use crate::fake_host::{Host, event, line, status};

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];

#[tokio::test]
async fn the_router_takes_what_the_document_lists_and_nothing_else() {
    let host = Host::start();
    let document = host.ask("GET", "/openapi.json").await.json();
    assert_eq!(document, openapi());
    for (path, item) in document["paths"].as_object().unwrap() {
        let listed: BTreeSet<String> =
            item.as_object().unwrap().keys().map(|key| key.to_uppercase()).collect();
        for method in METHODS {
            let status = host.ask(method, &path.replace("{name}", "web")).await.status;
            // HEAD comes with every GET (RFC 9110, 9.3.2).
            let expected = listed.contains(method) || (method == "HEAD" && listed.contains("GET"));
            assert_eq!(status != 405 && status != 404, expected, "{method} {path}: {status}");
        }
    }
}

#[test]
fn the_contracts_routes_are_listed() {
    let paths = openapi()["paths"].clone();
    let mut listed: Vec<String> = Vec::new();
    for (path, item) in paths.as_object().unwrap() {
        listed.extend(item.as_object().unwrap().keys().map(|method| format!("{method} {path}")));
    }
    listed.sort();
    assert_eq!(
        listed,
        [
            "get /healthz",
            "get /metrics",
            "get /openapi.json",
            "get /readyz",
            "get /v1/events",
            "get /v1/log-level",
            "get /v1/logs",
            "get /v1/status",
            "post /v1/log-level",
            "post /v1/logs/rotate",
            "post /v1/reload",
            "post /v1/services/{name}/reload",
            "post /v1/services/{name}/restart",
            "post /v1/services/{name}/start",
            "post /v1/services/{name}/stop",
        ]
    );
}

#[tokio::test]
async fn every_listed_parameter_is_taken() {
    let host = Host::start();
    let document = openapi();
    let mut tried = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            for parameter in operation["parameters"].as_array().unwrap() {
                let (name, schema) = (parameter["name"].as_str().unwrap(), &parameter["schema"]);
                if parameter["in"] == "path" || name == "follow" {
                    continue;
                }
                let value = match (schema["type"].as_str().unwrap(), schema["format"].as_str()) {
                    ("string", Some("date-time")) => "2026-11-22T15:20:01Z",
                    ("string", _) => {
                        schema["examples"][0].as_str().or(schema["enum"][0].as_str()).unwrap_or("web")
                    }
                    ("integer", _) => "1",
                    ("boolean", _) => "true",
                    ("array", _) => "web",
                    (other, _) => panic!("{other}"),
                };
                let more = match name {
                    "timeout" => "&wait=true",
                    "ignore_case" => "&grep=x",
                    _ => "",
                };
                let target = format!("{}?{name}={value}{more}", path.replace("{name}", "web"));
                let answer = host.ask(&method.to_uppercase(), &target).await;
                assert!(answer.status < 300 || answer.status == 501, "{method} {target}: {answer:?}");
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 4 * 2 + 3 + 3 + 8 + 1 + 1);
}

/// Every value is described, and described as always there: the contract leaves none out.
#[test]
fn the_schemas_describe_the_shapes() {
    let document = openapi();
    let schemas = &document["components"]["schemas"];
    for (name, schema) in schemas.as_object().unwrap() {
        if let Some(properties) = schema["properties"].as_object() {
            let required: BTreeSet<&str> =
                schema["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            let described: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
            assert_eq!(required, described, "{name}");
        }
    }
    for (name, value) in [
        ("Status", serde_json::to_value(status()).unwrap()),
        ("Event", serde_json::to_value(event(1)).unwrap()),
        ("LogEntry", serde_json::to_value(line("x")).unwrap()),
    ] {
        fits(&document, &schemas[name], &value, name);
    }
    // What the check below would not notice by itself: words are closed lists, times are times.
    assert_eq!(schemas["ServiceStatus"]["properties"]["state"]["enum"].as_array().unwrap().len(), 9);
    assert_eq!(schemas["ServiceStatus"]["properties"]["phase"]["enum"].as_array().unwrap().len(), 4);
    assert_eq!(schemas["Event"]["properties"]["at"]["format"], "date-time");
    assert_eq!(schemas["EventKind"]["enum"].as_array().unwrap().len(), 11);
}

#[test]
fn every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(target)) = map.get("$ref") {
                    found.insert(target.clone());
                }
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let document = openapi();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 8, "{found:?}");
    for target in found {
        assert!(document.pointer(target.strip_prefix('#').unwrap()).is_some(), "{target}");
    }
}

/// Whether `value` fits `schema`, as far as this document's schemas go: type, properties, items, enum, references.
fn fits(document: &Value, schema: &Value, value: &Value, place: &str) {
    if let Some(target) = schema["$ref"].as_str() {
        return fits(document, document.pointer(&target[1..]).unwrap(), value, place);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let null = |choice: &&Value| choice["type"] == "null";
        let choice = choices.iter().find(|choice| null(choice) == value.is_null());
        return fits(document, choice.unwrap_or_else(|| panic!("{place}: {schema}")), value, place);
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kinds = schema["type"].as_array().cloned().unwrap_or_else(|| vec![schema["type"].clone()]);
    assert!(kinds.iter().any(|each| each == kind), "{place} is {kind}: {schema}");
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{place} is {value}: {words:?}");
    }
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let place = format!("{place}.{name}");
                let property =
                    schema["properties"].get(name).unwrap_or_else(|| panic!("{place} is not described"));
                fits(document, property, value, &place);
            }
        }
        Value::Array(items) => {
            for item in items {
                fits(document, &schema["items"], item, &format!("{place}[]"));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
