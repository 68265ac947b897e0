//! Shell patterns over names, paths and other texts.

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};

/// A pattern that is none.
#[derive(Debug, thiserror::Error)]
#[error("'{}' is not a pattern: {why}", pattern.escape_debug())]
pub struct PatternError {
    /// What was given.
    pub pattern: String,
    /// What is wrong with it.
    pub why: String,
}

/// Some patterns, any of which may match. `*` and `?` stand for any characters, `[a-z]` for one of several, `{a,b}`
/// for either; a backslash takes a character literally.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    sets: Vec<GlobSet>,
}

impl Patterns {
    /// Reads patterns for texts in which a slash is like any other character: names, types, values.
    pub fn texts<T: AsRef<str>>(
        patterns: impl IntoIterator<Item = T>,
        ignore_case: bool,
    ) -> Result<Self, PatternError> {
        Self::read(patterns, ignore_case, false)
    }

    /// Reads patterns for absolute paths: `*` and `?` stop at slashes, `**` does not. A pattern that does not begin
    /// with a slash may begin anywhere below the root.
    pub fn paths<T: AsRef<str>>(
        patterns: impl IntoIterator<Item = T>,
        ignore_case: bool,
    ) -> Result<Self, PatternError> {
        let anchored = patterns.into_iter().map(|pattern| match pattern.as_ref() {
            pattern if pattern.starts_with('/') => pattern.to_owned(),
            pattern => format!("/**/{pattern}"),
        });
        Self::read(anchored, ignore_case, true)
    }

    fn read<T: AsRef<str>>(
        patterns: impl IntoIterator<Item = T>,
        ignore_case: bool,
        paths: bool,
    ) -> Result<Self, PatternError> {
        let mut set = GlobSetBuilder::new();
        let mut given = String::new();
        let fail = |pattern: &str, error: &globset::Error| PatternError {
            pattern: pattern.to_owned(),
            why: error.kind().to_string(),
        };
        for pattern in patterns {
            pattern.as_ref().clone_into(&mut given);
            let glob =
                GlobBuilder::new(&given).literal_separator(paths).case_insensitive(ignore_case).build();
            set.add(glob.map_err(|error| fail(&given, &error))?);
        }
        let set = set.build().map_err(|error| fail(&given, &error))?;
        Ok(Self { sets: if set.is_empty() { Vec::new() } else { vec![set] } })
    }

    /// Adds others.
    #[must_use]
    pub fn or(mut self, others: Self) -> Self {
        self.sets.extend(others.sets);
        self
    }

    /// Returns whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Returns whether a pattern matches the whole of a byte string.
    pub fn fit(&self, text: &[u8]) -> bool {
        let text = Candidate::from_bytes(text);
        self.sets.iter().any(|set| set.is_match_candidate(&text))
    }

    /// Returns whether a pattern matches, or there is none.
    pub fn allow(&self, text: &[u8]) -> bool {
        self.is_empty() || self.fit(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_a_shell() {
        let fits = |pattern: &str, name: &[u8]| Patterns::texts([pattern], false).unwrap().fit(name);
        for (pattern, name) in [
            ("*.pdf", "a.pdf"),
            ("*.pdf", ".pdf"),
            ("a?c", "abc"),
            ("[a-c]x", "bx"),
            ("{a,b}.c", "b.c"),
            ("\\*", "*"),
        ] {
            assert!(fits(pattern, name.as_bytes()), "{pattern} {name}");
        }
        for (pattern, name) in [("*.pdf", "a.pdf.gz"), ("a", "ab"), ("A", "a"), ("\\*", "x")] {
            assert!(!fits(pattern, name.as_bytes()), "{pattern} {name}");
        }
        assert!(fits("caf*", b"caf\xe9"));
        assert!(Patterns::texts(["*.PDF"], true).unwrap().fit(b"a.pdf"));
        assert!(Patterns::texts(["image/*"], false).unwrap().fit(b"image/png"));
        assert!(Patterns::texts(["*a=1*"], false).unwrap().fit(b"x/a=1&y/b=2"));
        assert!(Patterns::texts(["[a"], false).is_err());
    }

    #[test]
    fn paths_match_by_their_segments() {
        let fits =
            |pattern: &str, path: &str| Patterns::paths([pattern], false).unwrap().fit(path.as_bytes());
        assert!(fits("/etc/*.conf", "/etc/x.conf") && !fits("/etc/*.conf", "/etc/a/x.conf"));
        assert!(fits("/etc/**", "/etc/a/x.conf") && fits("/etc/**/x.conf", "/etc/x.conf"));
        assert!(fits("a/*.conf", "/srv/a/x.conf") && fits("a/*.conf", "/a/x.conf"));
        assert!(!fits("a/*.conf", "/srv/ba/x.conf"));
    }

    #[test]
    fn no_pattern_allows_everything_and_fits_nothing() {
        let none = Patterns::default();
        assert!(none.is_empty() && none.allow(b"x") && !none.fit(b"x"));
    }
}
