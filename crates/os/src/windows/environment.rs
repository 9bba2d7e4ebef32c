//! The block of variables that a new process of Windows gets.
//!
//! Names are the same whatever the case of their letters. The block is sorted by name, as programs that search it expect, and
//! always has what the system's own libraries cannot do without.

/// Why there is no block.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum EnvironmentError {
    /// It has no name, or the name holds `=` or NUL.
    #[error("a variable has the name {0:?}, which none can have")]
    Name(String),
    /// The value holds NUL.
    #[error("the value of the variable {0} holds a NUL character")]
    Value(String),
}

/// One block, closed by two NULs: of variables with one name the last counts; those of `kept` are taken when no other one
/// has their name.
pub(crate) fn block(
    variables: &[(Vec<u16>, Vec<u16>)],
    kept: &[(Vec<u16>, Vec<u16>)],
) -> Result<Vec<u16>, EnvironmentError> {
    let mut sorted = std::collections::BTreeMap::new();
    for (name, value) in kept.iter().chain(variables) {
        let shown = || String::from_utf16_lossy(name);
        if name.is_empty() || name.iter().any(|unit| *unit == 0 || *unit == u16::from(b'=')) {
            return Err(EnvironmentError::Name(shown()));
        }
        if value.contains(&0) {
            return Err(EnvironmentError::Value(shown()));
        }
        sorted.insert(folded(name), (name, value));
    }
    let mut block = Vec::new();
    for (name, value) in sorted.values() {
        block.extend_from_slice(name);
        block.push(u16::from(b'='));
        block.extend_from_slice(value);
        block.push(0);
    }
    if block.is_empty() {
        block.push(0);
    }
    block.push(0);
    Ok(block)
}

/// A name as it is compared: in upper case, character by character where that is one character.
pub(crate) fn folded(name: &[u16]) -> Vec<u16> {
    name.iter()
        .map(|unit| {
            let upper = char::from_u32(u32::from(*unit)).map(char::to_uppercase);
            match upper.map(|mut upper| (upper.next(), upper.next())) {
                Some((Some(one), None)) => u16::try_from(u32::from(one)).unwrap_or(*unit),
                Some((_, Some(_)) | (None, None)) | None => *unit,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(Vec<u16>, Vec<u16>)> {
        pairs
            .iter()
            .map(|(name, value)| (name.encode_utf16().collect(), value.encode_utf16().collect()))
            .collect()
    }

    #[test]
    fn a_block_is_sorted_and_each_name_stands_once() {
        let variables = pairs(&[("zeta", "1"), ("Path", "old"), ("alpha", ""), ("PATH", "new"), ("ä", "x")]);
        let kept = pairs(&[("SystemRoot", r"C:\Windows"), ("Alpha", "kept")]);
        let block = String::from_utf16(&block(&variables, &kept).unwrap()).unwrap();
        assert_eq!(block, "alpha=\0PATH=new\0SystemRoot=C:\\Windows\0zeta=1\0ä=x\0\0");
    }

    #[test]
    fn an_empty_block_still_ends() {
        assert_eq!(block(&[], &[]).unwrap(), [0, 0]);
    }

    #[test]
    fn what_cannot_be_a_variable_is_refused() {
        for (name, value) in [("", "x"), ("a=b", "x"), ("a\0", "x")] {
            assert_eq!(block(&pairs(&[(name, value)]), &[]), Err(EnvironmentError::Name(name.to_owned())));
        }
        assert_eq!(block(&pairs(&[("a", "x\0y")]), &[]), Err(EnvironmentError::Value("a".to_owned())));
    }
}
