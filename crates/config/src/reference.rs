//! The reference page of the file, in Markdown.

use crate::declare::{Key, Options as _, Rule, Shape, Table};
use crate::json_schema::plain;
use crate::keys::StackOptions;
use crate::read::one_of_words;
use crate::value::{size_text, time_text};

/// The reference page: every table with its keys, their types, defaults and examples. Ends with a line break.
#[must_use]
pub fn reference_markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    let mut tables = Vec::new();
    collect(StackOptions::table(), &mut tables);
    page.push_str("\n## Tables\n\n");
    for table in &tables {
        page.push_str(&format!("- [{}](#{})\n", title(table), table.name));
    }
    for table in tables {
        write_table(&mut page, table);
    }
    page
}

const INTRODUCTION: &str = "\
# mainstay.toml

<!-- Generated from the declaration in crates/config/src/keys.rs: change it there. -->

One file in [TOML](https://toml.io) describes a stack: the services, what each of them needs, how it is checked,
restarted, stopped and logged. `mainstay check` reads it and prints every error; `mainstay init` writes a first one.

```toml
stack = \"shop\"

[service.migrate]
command = [\"./migrate\", \"--up\"]
kind    = \"oneshot\"

[service.web]
command = \"./web --listen 127.0.0.1:8080\"
env     = { RUST_LOG = \"info\" }
needs   = [{ service = \"migrate\", is = \"completed\" }, { tcp = \"127.0.0.1:6379\", within = \"30s\" }]

[service.web.readiness]
http = \"http://127.0.0.1:8080/health\"
```

## Values

- **Relative paths** are relative to the folder of the file.
- **Durations** are a number and a unit: `\"500ms\"`, `\"10s\"`, `\"2m\"`, `\"1h30m\"`, `\"1d\"`.
- **Sizes** are a whole number and a unit: `\"64KiB\"`, `\"512MiB\"`, `\"1GB\"`.
- **Variables**: `${NAME}` in any text is replaced by that variable of the environment of mainstay itself, and
  `${NAME:-default}` by the default when it is not set or empty. `$${` stands for a literal `${`. A variable that is not
  set and has no default is an error.
- **Commands** are a list of texts, or one text that is split into words as a POSIX shell splits them. No shell is run;
  for pipes and the like write `[\"sh\", \"-c\", \"...\"]`. The value of a variable is never split.
- **Unknown keys** are errors. A key marked *not supported yet* is part of the format, and refused until a later
  version of mainstay supports it.
- The file is UTF-8 and at most 4 MiB.
";

/// The table and the ones in it, each once, outer before inner.
fn collect(table: &'static Table, tables: &mut Vec<&'static Table>) {
    if tables.iter().any(|known| known.name == table.name) {
        return;
    }
    tables.push(table);
    for key in table.keys {
        if let Some(inner) = inner_table(key.shape) {
            collect(inner, tables);
        }
    }
}

fn inner_table(shape: Shape) -> Option<&'static Table> {
    match shape {
        Shape::Table(inner)
        | Shape::Tables(inner)
        | Shape::Services(inner)
        | Shape::Targets(inner)
        | Shape::Hook(inner) => Some(inner()),
        Shape::Text
        | Shape::Path
        | Shape::Url
        | Shape::Server(_)
        | Shape::Pattern
        | Shape::Address
        | Shape::Bool
        | Shape::Yes
        | Shape::Integer
        | Shape::Number
        | Shape::Duration
        | Shape::Size
        | Shape::Choice(_)
        | Shape::Command
        | Shape::Texts
        | Shape::Patterns
        | Shape::Environment
        | Shape::Listeners
        | Shape::Anything => None,
    }
}

fn title(table: &Table) -> String {
    let headers: Vec<_> = table
        .header
        .split(", ")
        .map(|header| if header.starts_with('[') { format!("`{header}`") } else { header.to_owned() })
        .collect();
    let mut title = headers.join(", ");
    if let Some(first) = title.get(..1).map(str::to_uppercase) {
        title.replace_range(..1, &first);
    }
    title
}

fn write_table(page: &mut String, table: &Table) {
    page.push_str(&format!("\n## <a id=\"{}\"></a>{}\n\n{}\n", table.name, title(table), plain(table.doc)));
    let (now, later): (Vec<&Key>, Vec<&Key>) = table.keys.iter().partition(|key| key.supported);
    for key in now {
        write_key(page, table, key);
    }
    if later.is_empty() {
        return;
    }
    page.push_str(
        "\n**Not supported yet**\n\n| key | type | what it will do | example |\n|---|---|---|---|\n",
    );
    for key in later {
        let (name, doc) = (key.name, plain(key.doc));
        page.push_str(&format!("| `{name}` | {} | {doc} | `{name} = {}` |\n", type_words(key), key.example));
    }
}

fn write_key(page: &mut String, table: &Table, key: &Key) {
    page.push_str(&format!("\n### `{}`\n\n{}\n\n", key.name, plain(key.doc)));
    page.push_str(&format!("- type: {}\n", type_words(key)));
    if let Shape::Choice(words) = key.shape {
        for word in words {
            let later = if word.supported { "" } else { " (not supported yet)" };
            page.push_str(&format!("  - `\"{}\"`: {}{later}\n", word.name, word.doc));
        }
    }
    if key.required {
        page.push_str("- **required**\n");
    }
    if let Some(default) = (key.default)() {
        let is_toml = toml::de::DeValue::parse(&default).is_ok();
        let shown = if is_toml { format!("`{default}`") } else { default.replace('"', "`") };
        page.push_str(&format!("- default: {shown}\n"));
    }
    if table.one_of.contains(&key.name) {
        page.push_str("- one of the kinds: excludes the others\n");
    }
    if !key.only_with.is_empty() {
        page.push_str(&format!("- only with {}\n", one_of_words(key.only_with)));
    }
    if matches!(key.shape, Shape::Services(_)) {
        page.push_str("- example: `[service.web]`\n");
    } else if matches!(key.shape, Shape::Targets(_)) {
        page.push_str("- example: `[forward.central]`\n");
    } else {
        page.push_str(&format!("- example: `{} = {}`\n", key.name, key.example));
    }
}

fn type_words(key: &Key) -> String {
    let range = match key.rule {
        Rule::Free => String::new(),
        Rule::NotEmpty => ", not empty".to_owned(),
        Rule::Integer(min, max) => format!(", {min} to {max}"),
        Rule::Number(min, max) => format!(", {min} to {max}"),
        Rule::Time(min, max) => format!(", {} to {}", time_text(min), time_text(max)),
        Rule::Size(min, max) => format!(", {} to {}", size_text(min), size_text(max)),
    };
    if let Shape::Server(kind) = key.shape {
        let schemes: Vec<_> = kind.schemes().iter().map(|(scheme, _)| format!("`{scheme}://`")).collect();
        return format!("a URL that begins with {}", schemes.join(" or "));
    }
    let words = if matches!(key.shape, Shape::Choice(_)) {
        "one of these texts:"
    } else if matches!(key.shape, Shape::Environment) {
        "a table of names and values; a value is a text, a whole number or a boolean"
    } else if matches!(key.shape, Shape::Listeners) {
        "a table of names and addresses"
    } else if matches!(key.shape, Shape::Yes) {
        "`true`"
    } else if matches!(key.shape, Shape::Pattern) {
        "a [regular expression](https://docs.rs/regex/1/regex/#syntax)"
    } else if matches!(key.shape, Shape::Services(_) | Shape::Targets(_)) {
        "a table of tables"
    } else {
        key.shape.words()
    };
    match inner_table(key.shape) {
        Some(inner) => format!("{words}: [{}](#{})", title(inner), inner.name),
        None => format!("{words}{range}"),
    }
}
