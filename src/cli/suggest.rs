//! The nearest name to what was typed.

/// Returns the candidate that was most likely meant, if any is near: a longer form of what was typed, or one with at
/// most a quarter of its letters wrong (swapped neighbours counting once).
pub(crate) fn nearest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed = typed.to_ascii_lowercase();
    if typed.is_empty() {
        return None;
    }
    let letters = typed.chars().count();
    let allowed = if letters < 2 { 0 } else { letters.div_ceil(4) };
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let distance = strsim::damerau_levenshtein(&typed, candidate);
            let begins = typed.len() > 1 && candidate.starts_with(&typed);
            (begins || distance <= allowed).then_some((distance, !begins, candidate))
        })
        .min()
        .map(|(_, _, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let commands = ["backup", "restore", "ls", "check", "create", "version"];
        for (typed, meant) in [
            ("bakcup", Some("backup")),
            ("backups", Some("backup")),
            ("restroe", Some("restore")),
            ("ver", Some("version")),
            ("LS", Some("ls")),
            ("mount", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(typed, commands), meant, "{typed}");
        }
    }
}
