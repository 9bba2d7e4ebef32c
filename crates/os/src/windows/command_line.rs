//! One command line from a program and its arguments, so that the program finds each argument as it was.
//!
//! A process of Windows gets one text and splits it itself. Programs use the rules of the C runtime. A batch file is run by
//! `cmd.exe`, which splits by rules of its own and carries out what an argument smuggles past them (CVE-2024-24576); its
//! arguments are quoted so that nothing in them has a meaning.

/// Longest command line with its closing NUL, in UTF-16 units.
/// <https://learn.microsoft.com/en-us/windows/win32/api/processthreadsapi/nf-processthreadsapi-createprocessw>
pub(crate) const MAX_UNITS: usize = 32_767;

/// Longest command line that `cmd.exe` takes.
/// <https://learn.microsoft.com/en-us/troubleshoot/windows-client/shell-experience/command-line-string-limitation>
const MAX_BATCH_UNITS: usize = 8_191;

/// Why there is no command line.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum CommandLineError {
    /// A text of Windows ends at NUL.
    #[error("an argument holds a NUL character, which no argument can")]
    Nul,
    /// `cmd.exe` takes the rest for another command, or drops it.
    #[error("an argument holds a line break, which cannot be passed to a batch file")]
    LineBreak,
    /// It is more than the system takes.
    #[error("the command line has {units} characters, and Windows takes at most {most}")]
    TooLong {
        /// Its length.
        units: usize,
        /// The longest.
        most: usize,
    },
    /// No file has such a name.
    #[error("the program's path holds a quotation mark or ends with a backslash")]
    Program,
}

const QUOTE: u16 = b'"' as u16;
const BACKSLASH: u16 = b'\\' as u16;

/// The line for a program that splits it as the C runtime does, closed by NUL.
/// <https://learn.microsoft.com/en-us/cpp/c-language/parsing-c-command-line-arguments>
pub(crate) fn of_program(program: &[u16], args: &[Vec<u16>]) -> Result<Vec<u16>, CommandLineError> {
    let mut line = Vec::new();
    push_program(&mut line, program)?;
    for arg in args {
        no_nul(arg)?;
        line.push(u16::from(b' '));
        push_argument(&mut line, arg);
    }
    close(line, MAX_UNITS)
}

/// The line for `cmd.exe`, `interpreter`, to run the batch file `script`, closed by NUL: with extensions, without delayed
/// expansion and without what AutoRun of the registry would run first.
pub(crate) fn of_batch_file(
    interpreter: &[u16],
    script: &[u16],
    args: &[Vec<u16>],
) -> Result<Vec<u16>, CommandLineError> {
    let mut line = Vec::new();
    push_program(&mut line, interpreter)?;
    line.extend(" /e:ON /v:OFF /d /c \"".encode_utf16());
    push_program(&mut line, script)?;
    for arg in args {
        no_nul(arg)?;
        if arg.iter().any(|unit| matches!(unit, 10 | 13)) {
            return Err(CommandLineError::LineBreak);
        }
        line.push(u16::from(b' '));
        push_batch_argument(&mut line, arg);
    }
    line.push(QUOTE);
    close(line, MAX_BATCH_UNITS)
}

/// The first word is read by simpler rules: up to the next quotation mark, backslashes mean themselves.
fn push_program(line: &mut Vec<u16>, program: &[u16]) -> Result<(), CommandLineError> {
    no_nul(program)?;
    if program.contains(&QUOTE) || program.last() == Some(&BACKSLASH) {
        return Err(CommandLineError::Program);
    }
    line.push(QUOTE);
    line.extend_from_slice(program);
    line.push(QUOTE);
    Ok(())
}

fn push_argument(line: &mut Vec<u16>, arg: &[u16]) {
    let quoted = arg.is_empty() || arg.iter().any(|unit| matches!(unit, 9..=13 | 32));
    if quoted {
        line.push(QUOTE);
    }
    let mut backslashes = 0;
    for unit in arg {
        if *unit == BACKSLASH {
            backslashes += 1;
        } else {
            if *unit == QUOTE {
                // 2n+1 backslashes before a quotation mark are n backslashes and the mark itself.
                line.extend(std::iter::repeat_n(BACKSLASH, backslashes + 1));
            }
            backslashes = 0;
        }
        line.push(*unit);
    }
    if quoted {
        line.extend(std::iter::repeat_n(BACKSLASH, backslashes));
        line.push(QUOTE);
    }
}

fn push_batch_argument(line: &mut Vec<u16>, arg: &[u16]) {
    // Whatever is not known to mean nothing is quoted; a backslash at the end would take the quotation mark of a script that
    // writes "%~1" along.
    let plain = |unit: &u16| {
        u8::try_from(*unit)
            .map_or(*unit > 0x9f, |byte| byte.is_ascii_alphanumeric() || br"#$*+-./:?@\_".contains(&byte))
    };
    let quoted = arg.is_empty() || arg.last() == Some(&BACKSLASH) || !arg.iter().all(plain);
    if quoted {
        line.push(QUOTE);
    }
    let mut backslashes = 0;
    for unit in arg {
        if *unit == BACKSLASH {
            backslashes += 1;
        } else {
            if *unit == QUOTE {
                // The program behind the script counts backslashes; cmd.exe itself wants the mark twice.
                line.extend(std::iter::repeat_n(BACKSLASH, backslashes));
                line.push(QUOTE);
            } else if *unit == u16::from(b'%') {
                // %NAME% would be replaced even within quotes. `%cd:~,%` is always empty and keeps the two marks apart.
                line.extend("%%cd:~,".encode_utf16());
            }
            backslashes = 0;
        }
        line.push(*unit);
    }
    if quoted {
        line.extend(std::iter::repeat_n(BACKSLASH, backslashes));
        line.push(QUOTE);
    }
}

fn no_nul(text: &[u16]) -> Result<(), CommandLineError> {
    if text.contains(&0) { Err(CommandLineError::Nul) } else { Ok(()) }
}

fn close(mut line: Vec<u16>, most: usize) -> Result<Vec<u16>, CommandLineError> {
    line.push(0);
    if line.len() > most {
        return Err(CommandLineError::TooLong { units: line.len(), most });
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wide(text: &str) -> Vec<u16> {
        text.encode_utf16().collect()
    }

    fn text(line: &[u16]) -> String {
        assert_eq!(line.last(), Some(&0));
        String::from_utf16(&line[..line.len() - 1]).unwrap()
    }

    /// The C runtime's rules, as the page of Microsoft states them, without the doubled quotation mark within a quoted part
    /// (which only says how to write what is never written here).
    fn split(line: &[u16]) -> Vec<Vec<u16>> {
        let mut rest = &line[..line.len() - 1];
        let end = rest.iter().skip(1).position(|unit| *unit == QUOTE).unwrap() + 1;
        let mut words = vec![rest[1..end].to_vec()];
        rest = &rest[end + 1..];
        loop {
            while let [9 | 32, tail @ ..] = rest {
                rest = tail;
            }
            if rest.is_empty() {
                return words;
            }
            let mut word = Vec::new();
            let mut inside = false;
            loop {
                let backslashes = rest.iter().take_while(|unit| **unit == BACKSLASH).count();
                rest = &rest[backslashes..];
                if rest.first() == Some(&QUOTE) {
                    word.extend(std::iter::repeat_n(BACKSLASH, backslashes / 2));
                    rest = &rest[1..];
                    if backslashes % 2 == 1 {
                        word.push(QUOTE);
                    } else {
                        inside = !inside;
                    }
                    continue;
                }
                word.extend(std::iter::repeat_n(BACKSLASH, backslashes));
                match rest.first() {
                    None => break,
                    Some(9 | 32) if !inside => break,
                    Some(unit) => word.push(*unit),
                }
                rest = &rest[1..];
            }
            words.push(word);
        }
    }

    #[test]
    fn arguments_are_quoted_where_they_must_be() {
        for (args, expected) in [
            (&["a", "b c"][..], r#""C:\p q\x.exe" a "b c""#),
            (&[""], r#""C:\p q\x.exe" """#),
            (&[r#"say "hi""#], r#""C:\p q\x.exe" "say \"hi\"""#),
            (&[r"C:\dir\"], r#""C:\p q\x.exe" C:\dir\"#),
            (&[r"C:\my dir\"], r#""C:\p q\x.exe" "C:\my dir\\""#),
            (&[r#"\""#], r#""C:\p q\x.exe" \\\""#),
        ] {
            let args: Vec<Vec<u16>> = args.iter().map(|arg| wide(arg)).collect();
            assert_eq!(text(&of_program(&wide(r"C:\p q\x.exe"), &args).unwrap()), expected);
        }
    }

    #[test]
    fn what_cannot_be_passed_is_refused() {
        let program = wide("x.exe");
        assert_eq!(of_program(&program, &[wide("a\0b")]), Err(CommandLineError::Nul));
        assert_eq!(of_program(&wide("a\"b"), &[]), Err(CommandLineError::Program));
        let long = vec![wide(&"x".repeat(40_000))];
        assert!(matches!(
            of_program(&program, &long),
            Err(CommandLineError::TooLong { most: MAX_UNITS, .. })
        ));
        let cmd = wide(r"C:\Windows\System32\cmd.exe");
        for arg in ["a\nb", "a\rb"] {
            let made = of_batch_file(&cmd, &wide("x.bat"), &[wide(arg)]);
            assert_eq!(made, Err(CommandLineError::LineBreak));
        }
        assert_eq!(of_batch_file(&cmd, &wide("dir\\"), &[]), Err(CommandLineError::Program));
        let long = vec![wide(&"x".repeat(9000))];
        let made = of_batch_file(&cmd, &wide("x.bat"), &long);
        assert!(matches!(made, Err(CommandLineError::TooLong { most: MAX_BATCH_UNITS, .. })));
    }

    #[test]
    fn nothing_in_an_argument_of_a_batch_file_means_anything() {
        let line = |args: &[&str]| {
            let args: Vec<Vec<u16>> = args.iter().map(|arg| wide(arg)).collect();
            text(&of_batch_file(&wide("cmd.exe"), &wide(r"C:\a b\x.cmd"), &args).unwrap())
        };
        let head = r#""cmd.exe" /e:ON /v:OFF /d /c ""C:\a b\x.cmd""#;
        assert_eq!(line(&["plain"]), format!(r#"{head} plain""#));
        assert_eq!(line(&["a&calc.exe"]), format!(r#"{head} "a&calc.exe"""#));
        assert_eq!(line(&[r#"a"&calc.exe"#]), format!(r#"{head} "a""&calc.exe"""#));
        assert_eq!(line(&["%PATH%"]), format!(r#"{head} "%%cd:~,%PATH%%cd:~,%"""#));
        assert_eq!(line(&[r"dir\", ""]), format!(r#"{head} "dir\\" """"#));
    }

    proptest! {
        #[test]
        fn a_program_finds_its_arguments_as_they_were(
            args in prop::collection::vec(r#"[a-c"\\ \t^%&äx]{0,8}"#, 0..6)
        ) {
            let args: Vec<Vec<u16>> = args.iter().map(|arg| wide(arg)).collect();
            let line = of_program(&wide(r"C:\p q\x.exe"), &args).unwrap();
            let words = split(&line);
            prop_assert_eq!(&words[1..], &args[..]);
        }

        /// Outside of quotation marks, cmd.exe gives a meaning to these; an argument never gets there with one.
        #[test]
        fn no_character_with_a_meaning_stands_outside_of_quotes(
            args in prop::collection::vec(r#"[a-c"\\ ^%&|<>()!äx]{0,8}"#, 0..6)
        ) {
            let args: Vec<Vec<u16>> = args.iter().map(|arg| wide(arg)).collect();
            let line = text(&of_batch_file(&wide("cmd.exe"), &wide("x.bat"), &args).unwrap());
            // cmd.exe takes off the outer pair; each mark turns quoting on or off.
            let command = line.split_once("/c \"").unwrap().1.strip_suffix('"').unwrap();
            let mut inside = false;
            for character in command.chars() {
                if character == '"' {
                    inside = !inside;
                }
                prop_assert!(inside || !"&|<>()^!%".contains(character), "{}", line);
            }
            prop_assert!(!inside);
        }
    }
}
