//! The rules about the text of files. Each is a function from one file to its findings.

use super::Finding;
use super::source::{SourceFile, words};

/// Crates that decide: events and the time in, effects out. The list in ARCHITECTURE.md.
pub(super) const DECISION_CRATES: [&str; 4] = ["types", "config", "lifecycle", "unit"];

/// The one crate where `unsafe` and platform `cfg` may stand.
const PLATFORM_CRATE: &str = "os";

/// A longer file says in its header why it is one thing.
const MAX_LINES: usize = 600;

/// The words with which a header says so.
const LONG_FILE_REASON: &str = "one thing because";

/// Modules of `std` that read or change the world.
const WORLD_MODULES: [&str; 5] = ["fs", "process", "env", "thread", "os"];

/// Names that reach the world, a clock or chance, wherever they come from. Address types of `std::net` are only values.
const WORLD_NAMES: [(&str, &str); 14] = [
    ("tokio", "the runtime belongs to the host"),
    ("Instant", "time is an argument, as a Moment"),
    ("SystemTime", "time is an argument"),
    ("TcpStream", "connections belong to probes and the host"),
    ("TcpListener", "connections belong to probes and the host"),
    ("UdpSocket", "connections belong to probes and the host"),
    ("UnixStream", "connections belong to the os crate"),
    ("ToSocketAddrs", "it asks the resolver; names are resolved by probes"),
    ("rand", "chance comes from a seed that is an argument"),
    ("getrandom", "chance comes from a seed that is an argument"),
    ("RandomState", "chance comes from a seed that is an argument"),
    ("println", "output belongs to the binary; return what is to be said"),
    ("eprintln", "output belongs to the binary; return what is to be said"),
    ("dbg", "output belongs to the binary; return what is to be said"),
];

/// Collections without an order; the same events must give the same effects.
const UNORDERED: [&str; 2] = ["HashMap", "HashSet"];

/// The platform predicates of `cfg`.
const PLATFORM_PREDICATES: [&str; 6] =
    ["unix", "windows", "target_os", "target_family", "target_env", "target_vendor"];

/// Words that must not be in any file, split here so that this file does not hold them.
const FORBIDDEN_WORDS: [(&str, &str, &str); 5] = [
    ("FIX", "ME", "finish it, or open an issue and describe the present behaviour"),
    ("X", "XX", "finish it, or open an issue and describe the present behaviour"),
    ("/wo", "rk/", "a path of one machine; use a path below the checkout or a temporary folder"),
    ("/ro", "ot/", "a home folder; use the user's folders through the environment"),
    ("/Us", "ers/", "a home folder; use the user's folders through the environment"),
];

/// All findings of all files.
pub(super) fn check_all(files: &[SourceFile]) -> Vec<Finding> {
    files.iter().flat_map(check).collect()
}

fn check(file: &SourceFile) -> Vec<Finding> {
    let mut findings = forbidden_words(file);
    if file.is_rust() {
        findings.extend(header(file));
        findings.extend(length(file));
        findings.extend(unfinished(file));
        findings.extend(unsafe_code(file));
        findings.extend(platform(file));
        findings.extend(decisions(file));
    }
    findings
}

fn finding(file: &SourceFile, line: usize, rule: &'static str, message: impl Into<String>) -> Finding {
    Finding { path: file.path.clone(), line, rule, message: message.into() }
}

/// The lines of `text` that hold `word` as a whole identifier, from 1.
fn lines_with_word<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.lines()
        .enumerate()
        .filter(move |(_, line)| words(line).any(|found| found == word))
        .map(|(index, _)| index + 1)
}

/// Every file says first what it is for.
fn header(file: &SourceFile) -> Option<Finding> {
    let says = file.text.strip_prefix("//!").is_some_and(|rest| {
        let first = rest.lines().next().unwrap_or_default().trim();
        first.len() > 10 && !first.contains("to come")
    });
    (!says).then(|| {
        finding(file, 1, "header", "does not open with `//!` and a sentence that says what the file is for")
    })
}

fn length(file: &SourceFile) -> Option<Finding> {
    let lines = file.text.lines().count();
    let header: String = file.text.lines().take_while(|line| line.starts_with("//!")).collect();
    (lines > MAX_LINES && !header.contains(LONG_FILE_REASON)).then(|| {
        let message = format!(
            "{lines} lines; split it by nouns, or say in the header that it is `{LONG_FILE_REASON} …`"
        );
        finding(file, 1, "file-length", message)
    })
}

fn unfinished(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in ["todo", "unimplemented"] {
        let call = format!("{name}!");
        for (index, line) in file.code.lines().enumerate() {
            if line.contains(&call) {
                findings.push(finding(
                    file,
                    index + 1,
                    "forbidden-word",
                    format!("{call} must not be committed; finish it"),
                ));
            }
        }
    }
    findings
}

fn forbidden_words(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (first, second, advice) in FORBIDDEN_WORDS {
        let word = format!("{first}{second}");
        for (index, line) in file.text.lines().enumerate() {
            if holds(line, &word) {
                findings.push(finding(file, index + 1, "forbidden-word", format!("{word}: {advice}")));
            }
        }
    }
    findings
}

/// Whether the line holds the word on its own, not as part of a longer name or below another folder.
fn holds(line: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_' || c == '.' || c == '}' || c == '*';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(joins)
            && (word.ends_with('/') || !after.is_some_and(|c| c.is_alphanumeric() || c == '_'))
    })
}

fn unsafe_code(file: &SourceFile) -> Vec<Finding> {
    if file.crate_name() == PLATFORM_CRATE {
        return Vec::new();
    }
    let message = "unsafe stands only in crates/os; add a safe function there";
    lines_with_word(&file.code, "unsafe")
        .map(|line| finding(file, line, "unsafe-outside-os", message))
        .collect()
}

/// Platform `cfg`, `cfg!`, `cfg_attr` and `std::os`, tests included.
fn platform(file: &SourceFile) -> Vec<Finding> {
    if file.crate_name() == PLATFORM_CRATE {
        return Vec::new();
    }
    let message = "platform differences stand only in crates/os; ask it for the ability instead";
    let mut findings: Vec<Finding> = lines_of_cfg(&file.code, &PLATFORM_PREDICATES)
        .into_iter()
        .map(|line| finding(file, line, "platform-outside-os", message))
        .collect();
    for (line, module) in std_modules(&file.code) {
        if module == "os" {
            findings.push(finding(file, line, "platform-outside-os", format!("std::os: {message}")));
        }
    }
    findings
}

/// The lines where a `cfg(…)`, `cfg!(…)` or `cfg_attr(…)` holds one of the predicates, over line breaks too.
fn lines_of_cfg(code: &str, predicates: &[&str]) -> Vec<usize> {
    let mut lines = Vec::new();
    for opening in ["cfg(", "cfg!(", "cfg_attr("] {
        for (at, _) in code.match_indices(opening) {
            let joined = code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
            let inside = inside_parentheses(&code[at + opening.len()..]);
            if !joined && words(inside).any(|word| predicates.contains(&word)) {
                lines.push(line_at(code, at));
            }
        }
    }
    lines
}

/// The text up to the parenthesis that closes the one already open.
fn inside_parentheses(text: &str) -> &str {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[..at];
        }
    }
    text
}

fn line_at(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Each module of `std` that the code names, with its line: `std::fs::read`, `use std::{fs, net::IpAddr}`.
fn std_modules(code: &str) -> Vec<(usize, &str)> {
    const PREFIX: &str = "std::";
    let mut modules = Vec::new();
    for (at, _) in code.match_indices(PREFIX) {
        if code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + PREFIX.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            modules.extend(words(rest).next().map(|module| (line_at(code, at), module)));
            continue;
        };
        // The first word of each entry of the outermost braces is a module.
        let mut depth = 0;
        let mut at_start = true;
        for (offset, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => at_start = true,
                c if at_start && !c.is_whitespace() => {
                    at_start = false;
                    let line = line_at(code, at + PREFIX.len() + 1 + offset);
                    modules.extend(words(&group[offset..]).next().map(|module| (line, module)));
                }
                _ => {}
            }
        }
    }
    modules
}

/// What decision crates must not touch; their tests may.
fn decisions(file: &SourceFile) -> Vec<Finding> {
    let name = file.crate_name();
    if !DECISION_CRATES.contains(&name) || file.is_test() {
        return Vec::new();
    }
    let code = &file.product_code;
    let mut findings = Vec::new();
    for (line, module) in std_modules(code) {
        if WORLD_MODULES.contains(&module) {
            let message =
                format!("{name} decides and must not use std::{module}; take what it needs as an argument");
            findings.push(finding(file, line, "decision-crate", message));
        }
    }
    for (word, why) in WORLD_NAMES {
        for line in lines_with_word(code, word) {
            findings.push(finding(
                file,
                line,
                "decision-crate",
                format!("{name} decides and must not use {word}: {why}"),
            ));
        }
    }
    for (index, line) in code.lines().enumerate() {
        if line.contains("Timestamp::now") || line.contains("Zoned::now") {
            let message = format!("{name} decides and must not read the clock; time is an argument");
            findings.push(finding(file, index + 1, "decision-crate", message));
        }
    }
    if name == "lifecycle" {
        for word in UNORDERED {
            for line in lines_with_word(code, word) {
                let message = format!(
                    "{word} has no order, so the same events could give other effects; use the BTree one"
                );
                findings.push(finding(file, line, "decision-crate", message));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests;
