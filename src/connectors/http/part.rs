//! What the headers of an answer say about the part it carries.

use ureq::http::HeaderMap;
use ureq::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderName, LAST_MODIFIED};

/// What tells two versions of a file apart.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Version {
    pub(super) etag: Option<String>,
    pub(super) modified: Option<String>,
}

impl Version {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self { etag: text(headers, ETAG), modified: text(headers, LAST_MODIFIED) }
    }

    /// Returns the header that makes a server refuse to serve another version, if it gave anything to hold it to.
    /// Weak tags cannot be matched.
    pub(super) fn condition(&self) -> Option<(&'static str, &str)> {
        match (&self.etag, &self.modified) {
            (Some(etag), _) if !etag.starts_with("W/") => Some(("If-Match", etag)),
            (_, Some(modified)) => Some(("If-Unmodified-Since", modified)),
            _ => None,
        }
    }

    /// Returns whether another answer contradicts this version; what it leaves out says nothing.
    pub(super) fn differs(&self, other: &Self) -> bool {
        let differs = |a: &Option<String>, b: &Option<String>| a.is_some() && b.is_some() && a != b;
        differs(&self.etag, &other.etag) || differs(&self.modified, &other.modified)
    }
}

/// The place of a part in the whole: `bytes first-last/total`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ContentRange {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) total: u64,
}

impl ContentRange {
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        Self::parse(&text(headers, CONTENT_RANGE)?)
    }

    fn parse(value: &str) -> Option<Self> {
        let (unit, rest) = value.trim().split_once(' ')?;
        let (range, total) = rest.trim().split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let number =
            |digits: &str| digits.bytes().all(|c| c.is_ascii_digit()).then(|| digits.parse().ok())?;
        let range = Self { first: number(first)?, last: number(last)?, total: number(total)? };
        let sound =
            unit.eq_ignore_ascii_case("bytes") && range.first <= range.last && range.last < range.total;
        sound.then_some(range)
    }

    /// Returns the length of the part in bytes.
    pub(super) fn length(self) -> u64 {
        self.last - self.first + 1
    }
}

/// Returns the length of the body in bytes, where it was told.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    text(headers, CONTENT_LENGTH)?.trim().parse().ok()
}

/// Returns whether the body is the file's own bytes.
pub(super) fn is_plain(headers: &HeaderMap) -> bool {
    text(headers, CONTENT_ENCODING).is_none_or(|coding| coding.trim().eq_ignore_ascii_case("identity"))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_taken_at_their_word_or_not_at_all() {
        let good = ContentRange { first: 5, last: 9, total: 10 };
        assert_eq!(ContentRange::parse("bytes 5-9/10"), Some(good));
        assert_eq!(ContentRange::parse("Bytes 5-9/10 "), Some(good));
        assert_eq!(good.length(), 5);
        for bad in [
            "",
            "bytes",
            "bytes 5-9",
            "bytes 5-9/*",
            "bytes */10",
            "bytes 9-5/10",
            "bytes 5-10/10",
            "bytes -5/10",
            "bytes +5-9/10",
            "lines 5-9/10",
            "bytes 5-9/99999999999999999999",
            "bytes 5/10",
        ] {
            assert_eq!(ContentRange::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_what_was_told_can_differ() {
        let version = |etag: &str, modified: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Version { etag: some(etag), modified: some(modified) }
        };
        assert_eq!(version("\"a\"", "Mon").condition(), Some(("If-Match", "\"a\"")));
        assert_eq!(version("W/\"a\"", "Mon").condition(), Some(("If-Unmodified-Since", "Mon")));
        assert_eq!(version("W/\"a\"", "").condition(), None);
        assert!(version("a", "x").differs(&version("b", "x")));
        assert!(version("a", "x").differs(&version("a", "y")));
        assert!(
            !version("a", "x").differs(&version("a", "")) && !version("", "").differs(&version("a", "x"))
        );
    }
}
