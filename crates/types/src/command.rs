//! A program and its arguments.

use std::fmt;

/// A program and its arguments, as written in the file: nothing resolved, no shell involved.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct CommandLine {
    /// A path (it holds a separator), or a name to be looked for on the service's own PATH.
    pub program: String,
    /// The arguments after the program.
    pub args: Vec<String>,
}

impl fmt::Display for CommandLine {
    /// As one would type it into a POSIX shell.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_word(f, &self.program)?;
        for arg in &self.args {
            f.write_str(" ")?;
            write_word(f, arg)?;
        }
        Ok(())
    }
}

fn write_word(f: &mut fmt::Formatter<'_>, word: &str) -> fmt::Result {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        f.write_str(word)
    } else {
        write!(f, "'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_typed() {
        let command = CommandLine {
            program: "./web".into(),
            args: vec!["--x".into(), "a b".into(), "it's".into(), String::new()],
        };
        assert_eq!(command.to_string(), r"./web --x 'a b' 'it'\''s' ''");
    }
}
