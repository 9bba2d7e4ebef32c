//! The schema, the reference page and the template agree with what the parser reads.

use mainstay_config::{json_schema, reference_markdown, template};
use serde_json::Value;

use super::{errors, good, read};

/// Every key of the schema: the table, the name, and its schema.
fn keys() -> Vec<(String, String, Value)> {
    let schema = json_schema();
    let mut tables = vec![("stack".to_owned(), schema.clone())];
    tables.extend(
        schema["$defs"].as_object().unwrap().iter().map(|(name, table)| (name.clone(), table.clone())),
    );
    let keys_of = |(table, schema): (String, Value)| {
        let properties = schema["properties"].as_object().unwrap().clone();
        assert_eq!(schema["additionalProperties"], false, "{table}");
        properties.into_iter().map(move |(key, schema)| (table.clone(), key, schema))
    };
    tables.into_iter().flat_map(keys_of).collect()
}

/// A file in which the table of that name holds this line for that key, and all else is right. An empty line leaves
/// the key out.
fn file_with(table: &str, key: &str, line: &str) -> String {
    let base = "[service.web]\ncommand = \"x\"\n";
    let others = "[service.db]\ncommand = \"x\"\n[service.job]\ncommand = \"x\"\nkind = \"oneshot\"\n";
    let kinds = [
        "service",
        "tcp",
        "http",
        "exec",
        "postgres",
        "redis",
        "amqp",
        "mysql",
        "grpc",
        "dns",
        "file",
        "log",
        "notify",
        "notify_fd",
    ];
    let entry = match key {
        "is" => format!("{{ service = \"job\", {line} }}"),
        "status" | "body" => format!("{{ http = \"http://a/\", {line} }}"),
        "ca" => format!("{{ http = \"https://a/\", {line} }}"),
        "grpc_service" => format!("{{ grpc = \"a:1\", {line} }}"),
        "period" if table == "need" => format!("{{ tcp = \"a:1\", lose = \"stop\", {line} }}"),
        kind if kinds.contains(&kind) => format!("{{ {line} }}"),
        _ => format!("{{ tcp = \"a:1\", {line} }}"),
    };
    match (table, key) {
        ("stack", "service") => format!("{base}{others}"),
        ("stack", _) => format!("{line}\n{base}"),
        ("service", "command") => format!("[service.web]\n{line}\n"),
        ("service", _) => format!("{base}{line}\n{others}"),
        ("need", _) => format!("{base}needs = [{entry}]\n{others}"),
        ("probe", _) => format!("{base}readiness = {entry}\n"),
        ("hook", "command") => format!("{base}before_start = {{ {line} }}\n"),
        ("hook", _) => format!("{base}before_start = {{ command = \"x\", {line} }}\n"),
        ("reload", "timeout") => format!("{base}reload = {{ command = \"x\", {line} }}\n"),
        ("step", "wait") => format!("{base}stop.steps = [{{ signal = \"SIGINT\", {line} }}]\n"),
        ("step", _) => format!("{base}stop.steps = [{{ {line} }}]\n"),
        ("forward", "to") => format!("[forward.x]\n{line}\nurl = \"http://127.0.0.1\"\n{base}"),
        ("forward", "url") => format!("[forward.x]\nto = \"loki\"\n{line}\n{base}"),
        ("forward", "ca") => format!("[forward.x]\nto = \"loki\"\nurl = \"https://a\"\n{line}\n{base}"),
        ("forward", _) => format!("[forward.x]\nto = \"loki\"\nurl = \"http://a\"\n{line}\n{base}"),
        ("forward-batch" | "forward-backoff", _) => {
            let inner = table.trim_start_matches("forward-");
            format!("[forward.x]\nto = \"journald\"\n[forward.x.{inner}]\n{line}\n{base}")
        }
        ("stack-log", _) => format!("[log]\n{line}\n{base}"),
        ("backoff" | "give_up", _) => format!("{base}[service.web.restart.{table}]\n{line}\n"),
        ("rotate", _) => format!("{base}[service.web.log.rotate]\n{line}\n"),
        (table, _) => format!("{base}[service.web.{table}]\n{line}\n"),
    }
}

/// JSON as TOML; both have the same scalars and lists.
fn toml(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let pairs: Vec<_> =
                object.iter().map(|(key, value)| format!("{key:?} = {}", toml(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

#[test]
fn every_declared_key_is_known_to_the_parser_and_its_example_is_right() {
    let keys = keys();
    assert!(keys.len() > 100, "{}", keys.len());
    for (table, key, schema) in keys {
        let example = schema["examples"].get(0).unwrap_or_else(|| panic!("no example: {table}.{key}"));
        let text = file_with(&table, &key, &format!("{key} = {}", toml(example)));
        if schema["description"].as_str().unwrap().starts_with("Not supported yet.") {
            let errors = errors(&text);
            assert!(
                matches!(errors.as_slice(), [one] if one.contains("is not supported yet")),
                "{text}{errors:?}"
            );
        } else {
            good(&text);
        }
    }
}

#[test]
fn every_declared_default_is_what_the_parser_fills_in() {
    let mut checked = 0;
    for (table, key, schema) in keys() {
        let Some(default) = schema.get("default") else { continue };
        let mut written = good(&file_with(&table, &key, &format!("{key} = {}", toml(default))));
        let mut absent = good(&file_with(&table, &key, ""));
        for service in written.services.iter_mut().chain(&mut absent.services) {
            service.line = 0;
        }
        assert_eq!(written, absent, "{table}.{key}");
        checked += 1;
    }
    assert!(checked >= 20, "{checked}");
}

#[test]
fn ranges_of_the_schema_are_those_of_the_parser() {
    let mut checked = 0;
    for (table, key, schema) in keys() {
        if schema["description"].as_str().unwrap().starts_with("Not supported yet.") {
            continue;
        }
        let (Some(min), Some(max)) = (schema["minimum"].as_f64(), schema["maximum"].as_f64()) else {
            continue;
        };
        let of = |value: f64| file_with(&table, &key, &format!("{key} = {value}"));
        good(&of(min));
        // A restart limit beyond what is accepted, a status of 600: one past each end is refused.
        good(&of(max));
        assert!(read(&of(min - 1.0)).is_err() && read(&of(max + 1.0)).is_err(), "{table}.{key}");
        checked += 1;
    }
    assert!(checked >= 8, "{checked}");
}

#[test]
fn the_schema_says_which_keys_exclude_each_other() {
    let schema = json_schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let need = &schema["$defs"]["need"];
    assert_eq!(need["oneOf"].as_array().unwrap().len(), 11);
    assert_eq!(need["dependentRequired"]["is"][0], "service");
    assert_eq!(schema["$defs"]["service"]["required"][0], "command");
    for pointer in schema.to_string().split("\"#/$defs/").skip(1) {
        let name = pointer.split('"').next().unwrap();
        assert!(schema["$defs"].get(name).is_some(), "{name}");
    }
}

#[test]
fn the_reference_holds_every_key() {
    let page = reference_markdown();
    for (table, key, schema) in keys() {
        let later = schema["description"].as_str().unwrap().starts_with("Not supported yet.");
        let heading = if later { format!("| `{key}` |") } else { format!("### `{key}`") };
        let section =
            page.split(&format!("<a id=\"{table}\"></a>")).nth(1).unwrap_or_else(|| panic!("{table}"));
        assert!(section.split("\n## ").next().unwrap().contains(&heading), "{table}.{key}");
    }
    assert!(
        page.ends_with('\n') && !page.contains("\n\n\n") && !page.lines().any(|line| line.ends_with(' '))
    );
}

#[test]
fn the_template_parses_for_any_command() {
    for (command, name) in [
        (&["./server", "--port", "8080"][..], "server"),
        (&["/usr/bin/python3.11", "-m", "http.server"], "python3"),
        (&["C:\\app\\My App.exe", "a \"b\"\n\u{7f}\u{1}é"], "My-App"),
        (&["x", "${HOME}", "$${A}", "'", "@SERVICE@", "|"], "x"),
        (&[".hidden"], "hidden"),
        (&["日本"], "app"),
    ] {
        let words: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let text = template(Some(&words), "my shop");
        let stack = good(&text);
        assert_eq!(stack.name.as_str(), "my-shop");
        let service = &stack.services[0];
        assert_eq!(service.name.as_str(), name, "{command:?}");
        assert_eq!(service.command.args, words[1..], "{command:?}");
    }
    let stack = good(&template(None, ""));
    assert_eq!(stack.services[0].command.to_string(), "sleep infinity");
}

#[test]
fn the_commented_parts_of_the_template_parse_too() {
    let text = template(None, "shop");
    let (head, rest) = text.split_once("# description").unwrap();
    let uncommented: String = format!("# description{rest}")
        .lines()
        .map(|line| {
            let bare = line.strip_prefix("# ").unwrap_or(line);
            let is_toml = bare.starts_with(['[', ' ', ']'])
                || bare
                    .split_once(" = ")
                    .is_some_and(|(key, _)| key.trim().chars().all(|c| c.is_ascii_lowercase() || c == '_'));
            format!("{}\n", if is_toml { bare } else { line })
        })
        .collect();
    let text = format!("{head}{uncommented}[service.db]\ncommand = \"db\"\n");
    let stack = good(&text);
    let app = stack.service("app").unwrap();
    assert_eq!((app.needs.len(), app.replicas, app.listen.len()), (5, 2, 1));
    assert_eq!(app.limits.pids, Some(512));
    assert!(app.readiness.is_some() && stack.service("migrate").is_some(), "{text}");
}
