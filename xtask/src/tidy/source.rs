//! Reads the project's text files and tells code from comments, strings and tests, so that rules judge what they mean.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

/// Folders that hold no text of the project; a corpus is bytes of any kind.
const SKIPPED_DIRS: [&str; 4] = ["corpus", "target", ".git", "node_modules"];

/// Files that are the project's own text, by ending; files without an ending (LICENSE, scripts) count too.
const TEXT_ENDINGS: [&str; 11] = ["rs", "toml", "md", "txt", "sh", "py", "js", "c", "yml", "yaml", "json"];

/// One file of the project.
#[derive(Clone, Debug)]
pub(super) struct SourceFile {
    /// Below the root, with forward slashes.
    pub(super) path: String,
    pub(super) text: String,
    /// The same text, for Rust files with comments and the insides of strings blanked; line numbers stay.
    pub(super) code: String,
    /// `code` with every `#[cfg(test)]` module blanked too.
    pub(super) product_code: String,
}

impl SourceFile {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let code = if is_rust(path) { blank_comments_and_strings(text) } else { text.to_owned() };
        let product_code = blank_test_modules(&code);
        Self { path: path.to_owned(), text: text.to_owned(), code, product_code }
    }

    pub(super) fn is_rust(&self) -> bool {
        is_rust(&self.path)
    }

    /// Whether the whole file is test code, by its place or name.
    pub(super) fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs") || self.path.contains("/benches/")
    }

    /// The short name of the crate the file belongs to: `config`, `xtask`; empty outside all crates.
    pub(super) fn crate_name(&self) -> &str {
        let mut parts = self.path.split('/');
        match parts.next() {
            Some("crates") => parts.next().unwrap_or_default(),
            Some("xtask") => "xtask",
            _ => "",
        }
    }
}

fn is_rust(path: &str) -> bool {
    path.ends_with(".rs")
}

/// Reads all text files below the root, sorted by path.
///
/// # Errors
/// When a folder or a text file cannot be read, or a text file is not UTF-8.
pub(super) fn read_all(root_dir: &Path) -> anyhow::Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    collect(root_dir, "", &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn collect(dir: &Path, prefix: &str, files: &mut Vec<SourceFile>) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() && !SKIPPED_DIRS.contains(&&*name) {
            collect(&entry.path(), &format!("{path}/"), files)?;
        } else if kind.is_file() && is_text(&name) {
            let text = fs::read_to_string(entry.path())
                .with_context(|| format!("cannot read {path} as UTF-8 text"))?;
            files.push(SourceFile::new(&path, &text));
        }
    }
    Ok(())
}

fn is_text(name: &str) -> bool {
    match name.rsplit_once('.') {
        None => true,
        Some((_, ending)) => TEXT_ENDINGS.contains(&ending),
    }
}

/// The identifiers of the text, in order.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// Blanks comments and the insides of string and character literals; keeps length in lines.
fn blank_comments_and_strings(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => end_of_line(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => end_of_block_comment(&chars, at),
            '"' => end_of_string(&chars, at + 1),
            'r' | 'b' | 'c' if !follows_word(&chars, at) => match raw_string(&chars, at) {
                Some(end) => end,
                None => copy(&chars, at, &mut out),
            },
            '\'' => match end_of_character(&chars, at) {
                Some(end) => end,
                None => copy(&chars, at, &mut out),
            },
            _ => copy(&chars, at, &mut out),
        };
        if end > at + 1 || is_blanked_single(&chars, at) {
            out.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
        }
        at = end;
    }
    out
}

/// Copies one character through and returns the next position.
fn copy(chars: &[char], at: usize, out: &mut String) -> usize {
    out.push(chars[at]);
    at + 1
}

/// A quote at the very end of a broken file is blanked, not copied; everything else of length one was copied.
fn is_blanked_single(chars: &[char], at: usize) -> bool {
    chars[at] == '"'
}

fn follows_word(chars: &[char], at: usize) -> bool {
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_')
}

fn end_of_line(chars: &[char], from: usize) -> usize {
    chars[from..].iter().position(|&c| c == '\n').map_or(chars.len(), |length| from + length)
}

fn end_of_block_comment(chars: &[char], from: usize) -> usize {
    let mut depth = 0;
    let mut at = from;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    chars.len()
}

/// The position after the closing quote of a string whose inside starts at `from`.
fn end_of_string(chars: &[char], from: usize) -> usize {
    let mut at = from;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// The end of `r"…"`, `r#"…"#`, `br"…"`, `b"…"` and the like that start at `at`; none when this is an identifier.
fn raw_string(chars: &[char], at: usize) -> Option<usize> {
    let mut open = at;
    let mut raw = false;
    while let Some('r' | 'b' | 'c') = chars.get(open) {
        raw |= chars[open] == 'r';
        open += 1;
    }
    let hashes = chars[open..].iter().take_while(|&&c| c == '#').count();
    if open > at + 2 || chars.get(open + hashes) != Some(&'"') || (hashes > 0 && !raw) {
        return None;
    }
    let inside = open + hashes + 1;
    if !raw {
        return Some(end_of_string(chars, inside));
    }
    let closes = |&end: &usize| {
        chars[end] == '"' && chars[end + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes
    };
    Some((inside..chars.len()).find(closes).map_or(chars.len(), |end| end + 1 + hashes))
}

/// The end of a character literal that starts at the quote; none when the quote begins a lifetime.
fn end_of_character(chars: &[char], at: usize) -> Option<usize> {
    match (chars.get(at + 1), chars.get(at + 2)) {
        // The character after the backslash may itself be a quote, so the search starts behind it.
        (Some('\\'), _) => {
            chars.get(at + 3..)?.iter().take(10).position(|&c| c == '\'').map(|length| at + 3 + length + 1)
        }
        (Some(_), Some('\'')) => Some(at + 3),
        _ => None,
    }
}

/// Blanks each module that stands under `#[cfg(test)]`, from the attribute to its closing brace.
fn blank_test_modules(code: &str) -> String {
    const ATTRIBUTE: &str = "#[cfg(test)]";
    let mut out = code.to_owned();
    let mut from = 0;
    while let Some(found) = out[from..].find(ATTRIBUTE) {
        let start = from + found;
        let end = end_of_item(&out, start + ATTRIBUTE.len());
        let blank: String = out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..end, &blank);
        from = start + blank.len();
    }
    out
}

/// The byte after the item that starts at `from`: its `;`, or the brace that closes its first `{`.
fn end_of_item(code: &str, from: usize) -> usize {
    let mut depth = 0;
    for (offset, c) in code[from..].char_indices() {
        match c {
            ';' if depth == 0 => return from + offset + 1,
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth <= 0 {
                    return from + offset + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_blanked_and_lines_stay() {
        let cases = [
            ("a // unsafe\nb", "a          \nb"),
            ("a /* x /* unsafe */ y */ b", "a                        b"),
            ("f(\"un\\\"safe\")", "f(          )"),
            ("f(r#\"un\"safe\"#, 1)", "f(            , 1)"),
            ("f(b\"unsafe\", br\"x\")", "f(         ,      )"),
            ("let c = '\"'; x", "let c =    ; x"),
            ("let c = '\\''; x", "let c =     ; x"),
            ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
            ("for r in br { error }", "for r in br { error }"),
            ("\"line\nunsafe\" x", "     \n        x"),
        ];
        for (text, expected) in cases {
            assert_eq!(blank_comments_and_strings(text), expected, "{text}");
        }
    }

    #[test]
    fn test_modules_are_blanked_and_what_follows_stays() {
        let file = SourceFile::new(
            "crates/config/src/a.rs",
            "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() { HashMap }\n}\nfn c() {}\n#[cfg(test)]\nmod more;\nfn d() {}",
        );
        let kept: Vec<&str> = words(&file.product_code).collect();
        assert_eq!(kept, ["fn", "a", "fn", "c", "fn", "d"]);
        assert_eq!(file.product_code.lines().count(), file.text.lines().count());
        assert!(words(&file.code).any(|word| word == "HashMap"));
    }

    #[test]
    fn a_file_knows_its_crate_and_whether_it_is_a_test() {
        let file = |path| SourceFile::new(path, "");
        assert_eq!(file("crates/os/src/lib.rs").crate_name(), "os");
        assert_eq!(file("xtask/src/main.rs").crate_name(), "xtask");
        assert_eq!(file("docs/a.md").crate_name(), "");
        assert!(file("crates/os/tests/it.rs").is_test());
        assert!(file("crates/os/src/a/tests.rs").is_test());
        assert!(!file("crates/os/src/a.rs").is_test());
    }
}
