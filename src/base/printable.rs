//! Foreign strings on their way to a person.
//!
//! Why one type: names, tags, host names, slot labels, S3 messages and CONFIG values are chosen by others. Printed
//! raw, they can move the cursor, rename the window, reorder the line or hide what follows. Whatever shows such a
//! string wraps it here; nothing else in this crate decides what is safe to print.

use std::fmt::{self, Write as _};

use unicode_width::UnicodeWidthChar as _;

use super::RawString;

/// A byte string that prints without harm and without loss.
///
/// Text prints as it stands. Escaped are: the backslash (`\\`), newline, return and tab (`\n`, `\r`, `\t`), other C0
/// controls, DEL and bytes that are not UTF-8 (`\x1b`), and characters that cannot be seen or change how others are
/// shown: C1 controls, bidirectional and zero-width characters, line separators, tags (`\u{202e}`). The spelling is
/// reversible: [`Printable::parse`] gives the bytes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Printable<'a> {
    text: &'a [u8],
    backslash: &'static str,
}

impl<'a> Printable<'a> {
    /// Wraps a string.
    pub fn new<T: AsRef<[u8]> + ?Sized>(text: &'a T) -> Self {
        Self { text: text.as_ref(), backslash: "\\\\" }
    }

    /// Wraps an operating-system string, such as a path.
    pub fn os(text: &'a (impl AsRef<std::ffi::OsStr> + ?Sized)) -> Self {
        Self::new(text.as_ref().as_encoded_bytes())
    }

    /// Wraps a finished message whose foreign parts may be spelt out already: its backslashes stand, so nothing is
    /// escaped twice, and the result need not be reversible.
    pub fn message(text: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self { text: text.as_ref(), backslash: "\\" }
    }

    /// Returns the number of terminal columns that the printed form takes.
    pub fn width(&self) -> usize {
        let mut counter = Columns(0);
        write!(counter, "{self}").expect("counting cannot fail");
        counter.0
    }

    /// Reads a printed form back. Returns nothing when it is not one: an unknown escape, a trailing backslash.
    pub fn parse(text: &str) -> Option<RawString> {
        let mut out = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('\\') {
            out.extend_from_slice(&rest.as_bytes()[..at]);
            let mut chars = rest[at + 1..].chars();
            match chars.next()? {
                '\\' => out.push(b'\\'),
                'n' => out.push(b'\n'),
                'r' => out.push(b'\r'),
                't' => out.push(b'\t'),
                'x' => {
                    let digits = chars.as_str().get(..2)?;
                    out.push(u8::from_str_radix(digits, 16).ok()?);
                    chars = chars.as_str()[2..].chars();
                }
                'u' => {
                    let (digits, after) = chars.as_str().strip_prefix('{')?.split_once('}')?;
                    let c = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
                    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    chars = after.chars();
                }
                _ => return None,
            }
            rest = chars.as_str();
        }
        out.extend_from_slice(rest.as_bytes());
        Some(RawString::from(out))
    }
}

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.text.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => f.write_str(self.backslash)?,
                    '\n' => f.write_str("\\n")?,
                    '\r' => f.write_str("\\r")?,
                    '\t' => f.write_str("\\t")?,
                    '\0'..='\x1f' | '\x7f' => write!(f, "\\x{:02x}", u32::from(c))?,
                    c if is_harmful(c) => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                    c => f.write_char(c)?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Returns whether a character beyond ASCII hides itself or changes how others are shown.
pub(crate) fn is_harmful(c: char) -> bool {
    matches!(c,
        '\u{80}'..='\u{9f}'         // C1 controls: some terminals obey them like ESC sequences
        | '\u{ad}'                  // soft hyphen
        | '\u{34f}'                 // combining grapheme joiner
        | '\u{61c}'                 // Arabic letter mark (bidirectional)
        | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' // Hangul fillers
        | '\u{17b4}' | '\u{17b5}'   // invisible Khmer vowels
        | '\u{180b}'..='\u{180f}'   // Mongolian selectors and separator
        | '\u{200b}'..='\u{200f}'   // zero-width, directional marks
        | '\u{2028}'..='\u{202e}'   // separators, embeddings and overrides
        | '\u{2060}'..='\u{206f}'   // joiners, isolates, deprecated format characters
        | '\u{feff}'                // byte order mark
        | '\u{fff9}'..='\u{fffb}'   // interlinear annotation
        | '\u{1bca0}'..='\u{1bca3}' // shorthand format controls
        | '\u{1d173}'..='\u{1d17a}' // musical format controls
        | '\u{e0000}'..='\u{e0fff}' // tags, supplementary selectors
    )
}

/// Counts terminal columns of what is written to it.
struct Columns(usize);

impl fmt::Write for Columns {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.chars().map(|c| c.width().unwrap_or(0)).sum::<usize>();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(bytes: &[u8]) -> String {
        Printable::new(bytes).to_string()
    }

    #[test]
    fn text_stands_and_controls_are_spelt() {
        assert_eq!(shown("café/日本/a b".as_bytes()), "café/日本/a b");
        assert_eq!(shown(b"\x1b[31mred\x07"), "\\x1b[31mred\\x07");
        assert_eq!(shown(b"a\nb\rc\td\0"), "a\\nb\\rc\\td\\x00");
        assert_eq!(shown(b"caf\xe9"), "caf\\xe9");
        assert_eq!(shown("\u{9b}31m".as_bytes()), "\\u{9b}31m");
        assert_eq!(shown("cod\u{202e}gpj.exe".as_bytes()), "cod\\u{202e}gpj.exe");
        assert_eq!(
            shown("a\u{200b}b\u{feff}\u{2028}\u{7f}".as_bytes()),
            "a\\u{200b}b\\u{feff}\\u{2028}\\x7f"
        );
        assert_eq!(shown(b"C:\\x41"), "C:\\\\x41");
        assert_eq!(Printable::message("a\\x1b\x1b").to_string(), "a\\x1b\\x1b");
    }

    #[test]
    fn width_counts_columns() {
        assert_eq!(Printable::new("ab").width(), 2);
        assert_eq!(Printable::new("日本").width(), 4);
        assert_eq!(Printable::new("e\u{301}").width(), 1);
        assert_eq!(Printable::new("\x1b").width(), 4);
    }

    #[test]
    fn what_is_no_spelling_is_refused() {
        for text in ["\\", "\\q", "\\x1", "\\u{110000}", "\\u{1f", "\\xé"] {
            assert_eq!(Printable::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_byte_string_comes_back_and_shows_no_control(bytes: Vec<u8>) {
            let text = shown(&bytes);
            prop_assert!(text.chars().all(|c| !c.is_control() && !is_harmful(c)));
            prop_assert_eq!(Printable::parse(&text).unwrap().into_bytes(), bytes);
        }

        #[test]
        fn every_text_comes_back(text: String) {
            prop_assert_eq!(Printable::parse(&shown(text.as_bytes())).unwrap(), text.as_str());
        }
    }
}
