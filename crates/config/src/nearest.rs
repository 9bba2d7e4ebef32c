//! The nearest known name to one that is not known.

/// Longest name that is compared: longer than any key or service there is, and a bound on the work.
const MAX_COMPARED_BYTES: usize = 80;

/// The candidate that a typing mistake would most likely have turned into `name`, if one is near enough: at most a
/// third of its characters differ, counted as Damerau and Levenshtein do.
pub(crate) fn nearest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if name.len() > MAX_COMPARED_BYTES {
        return None;
    }
    let folded = name.to_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= MAX_COMPARED_BYTES / 4)
        .map(|candidate| {
            // What differs only in case or in `-` against `_` is as good as equal.
            let distance = strsim::damerau_levenshtein(&folded, &candidate.to_lowercase().replace('-', "_"));
            (distance, candidate)
        })
        .filter(|(distance, candidate)| {
            let length = candidate.chars().count().max(folded.chars().count());
            *distance <= (length / 3).max(1) && *distance < length
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn typing_mistakes_find_their_name() {
        let keys = ["command", "env", "env_file", "inherit_env", "is", "kind", "needs", "user"];
        for (typed, want) in [
            ("comand", Some("command")),
            ("commnad", Some("command")),
            ("Command", Some("command")),
            ("envfile", Some("env_file")),
            ("env-file", Some("env_file")),
            ("usr", Some("user")),
            ("need", Some("needs")),
            ("zzzzzz", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, keys), want, "{typed}");
        }
        assert_eq!(nearest(&"command".repeat(100_000), keys), None);
    }
}
