//! JSON Schema (draft 2020-12) of the file, for editors that complete and check TOML.

use serde_json::{Map, Value, json};

use crate::declare::{Key, Options as _, Rule, Shape, Table, Word};
use crate::keys::StackOptions;
use crate::nested::MAX_LISTENERS;

/// A text with a variable in it may stand for anything; what it becomes is checked when the file is read.
const VARIABLE: &str = r"\$\{";
/// What `mainstay_types::parse_duration` reads.
const DURATION: &str = r"^\s*([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+\s*$";
/// What `mainstay_types::parse_size` reads.
const SIZE: &str = r"^\s*[0-9]+\s*(B|KiB|MiB|GiB|TiB|KB|MB|GB|TB)\s*$";
/// What `mainstay_types::ServiceName` accepts.
const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$";

/// The JSON Schema of `mainstay.toml`. Keys that are not supported yet are in it, and say so.
#[must_use]
pub fn json_schema() -> Value {
    let mut defs = Map::new();
    let root = table(StackOptions::table(), &mut defs);
    let mut schema = Map::new();
    schema.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    schema.insert("title".into(), "mainstay.toml".into());
    if let Value::Object(root) = root {
        schema.extend(root);
    }
    schema.insert("$defs".into(), Value::Object(defs));
    Value::Object(schema)
}

fn table(declared: &'static Table, defs: &mut Map<String, Value>) -> Value {
    let mut properties = Map::new();
    let mut dependent = Map::new();
    let mut dependent_on_one = Map::new();
    for key in declared.keys {
        properties.insert(key.name.into(), property(key, defs));
        match key.only_with {
            [] => {}
            [with] => _ = dependent.insert(key.name.into(), json!([with])),
            several => {
                let one: Vec<_> = several.iter().map(|name| json!({ "required": [name] })).collect();
                dependent_on_one.insert(key.name.into(), json!({ "anyOf": one }));
            }
        }
    }
    let mut schema = Map::new();
    schema.insert("description".into(), plain(declared.doc).into());
    schema.insert("type".into(), "object".into());
    schema.insert("properties".into(), Value::Object(properties));
    schema.insert("additionalProperties".into(), false.into());
    let required: Vec<_> = declared.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    if !required.is_empty() {
        schema.insert("required".into(), json!(required));
    }
    if !dependent.is_empty() {
        schema.insert("dependentRequired".into(), Value::Object(dependent));
    }
    if !dependent_on_one.is_empty() {
        schema.insert("dependentSchemas".into(), Value::Object(dependent_on_one));
    }
    if !declared.one_of.is_empty() {
        let kinds: Vec<_> = declared.one_of.iter().map(|name| json!({ "required": [name] })).collect();
        schema.insert("oneOf".into(), Value::Array(kinds));
    }
    Value::Object(schema)
}

/// A reference to a table's schema, which is added to the definitions the first time.
fn reference(declared: &'static Table, defs: &mut Map<String, Value>) -> Value {
    if !defs.contains_key(declared.name) {
        let schema = table(declared, defs);
        defs.insert(declared.name.into(), schema);
    }
    json!({ "$ref": format!("#/$defs/{}", declared.name) })
}

fn property(key: &Key, defs: &mut Map<String, Value>) -> Value {
    let mut schema = match shape(key.shape, key.rule, defs) {
        Value::Object(schema) => schema,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    };
    let mut description = plain(key.doc);
    if !key.supported {
        description = format!("Not supported yet. {description}");
    }
    if let Some(default) = (key.default)() {
        match json_value(&default) {
            Some(value) => _ = schema.insert("default".into(), value),
            None => description.push_str(&format!(" Default: {default}.")),
        }
    }
    if let Some(example) = json_value(key.example) {
        schema.insert("examples".into(), json!([example]));
    }
    schema.insert("description".into(), description.into());
    Value::Object(schema)
}

fn shape(shape: Shape, rule: Rule, defs: &mut Map<String, Value>) -> Value {
    let text_or_variable =
        |pattern: &str| json!({ "type": "string", "pattern": format!("{pattern}|{VARIABLE}") });
    match shape {
        Shape::Text => match rule {
            Rule::NotEmpty => json!({ "type": "string", "minLength": 1 }),
            Rule::Free | Rule::Integer(..) | Rule::Number(..) | Rule::Time(..) | Rule::Size(..) => {
                json!({ "type": "string" })
            }
        },
        Shape::Path => json!({ "type": "string", "minLength": 1 }),
        Shape::Url => text_or_variable("^https?://"),
        Shape::Server(kind) => {
            let schemes: Vec<_> = kind.schemes().iter().map(|(scheme, _)| *scheme).collect();
            text_or_variable(&format!("^({})://", schemes.join("|")))
        }
        Shape::Pattern => json!({ "type": "string", "format": "regex", "minLength": 1 }),
        Shape::Address => text_or_variable(":[0-9]+$"),
        Shape::Bool => json!({ "type": "boolean" }),
        Shape::Yes => json!({ "const": true }),
        Shape::Integer => match rule {
            Rule::Integer(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
            Rule::Free | Rule::NotEmpty | Rule::Number(..) | Rule::Time(..) | Rule::Size(..) => {
                json!({ "type": "integer", "minimum": 0 })
            }
        },
        Shape::Number => match rule {
            Rule::Number(min, max) => json!({ "type": "number", "minimum": min, "maximum": max }),
            Rule::Free | Rule::NotEmpty | Rule::Integer(..) | Rule::Time(..) | Rule::Size(..) => {
                json!({ "type": "number" })
            }
        },
        Shape::Duration => text_or_variable(DURATION),
        Shape::Size => text_or_variable(SIZE),
        Shape::Choice(words) => {
            let mut choices: Vec<_> = words.iter().map(word).collect();
            choices.push(json!({ "type": "string", "pattern": VARIABLE }));
            json!({ "anyOf": choices })
        }
        Shape::Command => json!({ "anyOf": [
            { "type": "array", "items": { "type": "string" }, "minItems": 1 },
            { "type": "string", "minLength": 1 },
        ] }),
        Shape::Texts => {
            json!({ "anyOf": [{ "type": "array", "items": { "type": "string" } }, { "type": "string" }] })
        }
        Shape::Patterns => {
            let pattern = json!({ "type": "string", "format": "regex", "minLength": 1 });
            json!({ "anyOf": [{ "type": "array", "items": pattern }, pattern] })
        }
        Shape::Environment => json!({
            "type": "object",
            "propertyNames": { "pattern": "^[^=]+$" },
            "additionalProperties": { "type": ["string", "integer", "boolean"] },
        }),
        Shape::Listeners => json!({
            "type": "object",
            "propertyNames": { "pattern": "^[ -9;-~]{1,255}$" },
            "additionalProperties": text_or_variable("^(tcp:|udp:)?[0-9.]+:[0-9]+$|^(tcp:|udp:)?\\[.+\\]:[0-9]+$|^unix(gram)?:."),
            "maxProperties": MAX_LISTENERS,
        }),
        Shape::Hook(declared) => json!({ "anyOf": [
            { "type": "array", "items": { "type": "string" }, "minItems": 1 },
            { "type": "string", "minLength": 1 },
            reference(declared(), defs),
        ] }),
        Shape::Table(declared) => reference(declared(), defs),
        Shape::Tables(declared) => json!({ "type": "array", "items": reference(declared(), defs) }),
        Shape::Services(declared) => json!({
            "type": "object",
            "propertyNames": { "pattern": NAME },
            "additionalProperties": reference(declared(), defs),
            "minProperties": 1,
        }),
        Shape::Targets(declared) => json!({
            "type": "object",
            "propertyNames": { "pattern": NAME },
            "additionalProperties": reference(declared(), defs),
        }),
        Shape::Anything => json!({ "type": "object" }),
    }
}

fn word(word: &Word) -> Value {
    let later = if word.supported { "" } else { "Not supported yet. " };
    json!({ "const": word.name, "description": format!("{later}{}", word.doc) })
}

/// Doc text as one paragraph.
pub(crate) fn plain(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A value written as TOML, as JSON; `None` for words that are no TOML.
fn json_value(toml: &str) -> Option<Value> {
    let value = toml::de::DeValue::parse(toml).ok()?;
    Some(to_json(value.get_ref()))
}

fn to_json(value: &toml::de::DeValue<'_>) -> Value {
    use toml::de::DeValue;
    match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(integer) => {
            i64::from_str_radix(integer.as_str(), integer.radix()).unwrap_or_default().into()
        }
        DeValue::Float(float) => float.as_str().parse::<f64>().unwrap_or_default().into(),
        DeValue::Boolean(flag) => (*flag).into(),
        DeValue::Datetime(datetime) => datetime.to_string().into(),
        DeValue::Array(array) => array.iter().map(|item| to_json(item.get_ref())).collect(),
        DeValue::Table(table) => {
            let entry =
                |(key, value): (&toml::Spanned<std::borrow::Cow<'_, str>>, &toml::Spanned<DeValue<'_>>)| {
                    (key.get_ref().clone().into_owned(), to_json(value.get_ref()))
                };
            Value::Object(table.iter().map(entry).collect())
        }
    }
}
