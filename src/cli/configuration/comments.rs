//! Comments survive a rewrite.
//!
//! The files are maps of maps of text, so a line is known by the keys that lead to it. A comment belongs to the key on
//! its line, or else to the next one below; it is put there again in the new text, and goes with its key. What cannot
//! be told apart that way (another style of YAML) is left out rather than put in the wrong place.

use std::collections::BTreeMap;

use serde_norway::Value;

/// Keys from the outermost to the line's own.
type Path = Vec<String>;

/// The comments of one key.
#[derive(Default)]
struct Comments {
    above: Vec<String>,
    behind: Option<String>,
}

/// A line of YAML in block style that holds a key.
struct Line {
    path: Path,
    indent: usize,
    comment: Option<String>,
}

/// Returns `new` with the comments of `old`, or `new` as it is where they would change its meaning.
pub(super) fn carry(old: &str, new: &str) -> String {
    let (mut comments, tail) = collect(old);
    if comments.is_empty() && tail.is_empty() {
        return new.to_owned();
    }
    let mut out = String::new();
    let mut reader = Reader::default();
    for text in new.lines() {
        let line = reader.read(text);
        let found = line.and_then(|line| Some((comments.remove(&line.path)?, line.indent)));
        let (found, indent) = found.unwrap_or_default();
        for comment in found.above {
            out.push_str(&" ".repeat(indent));
            out.push_str(&comment);
            out.push('\n');
        }
        out.push_str(text);
        if let Some(comment) = found.behind {
            out.push(' ');
            out.push_str(&comment);
        }
        out.push('\n');
    }
    for comment in tail {
        out.push_str(&comment);
        out.push('\n');
    }
    let meaning = |text: &str| serde_norway::from_str::<Value>(text).ok();
    if meaning(&out) == meaning(new) { out } else { new.to_owned() }
}

/// Returns the comments of a text by the key that they belong to, and those after the last key.
fn collect(text: &str) -> (BTreeMap<Path, Comments>, Vec<String>) {
    let mut comments: BTreeMap<Path, Comments> = BTreeMap::new();
    let mut above = Vec::new();
    let mut reader = Reader::default();
    for text in text.lines() {
        if text.trim_start().starts_with('#') && !reader.is_in_block(text) {
            above.push(text.trim().to_owned());
        } else if let Some(line) = reader.read(text)
            && (!above.is_empty() || line.comment.is_some())
        {
            let above = std::mem::take(&mut above);
            comments.insert(line.path, Comments { above, behind: line.comment });
        }
    }
    (comments, above)
}

/// Follows the indentation of a text in block style.
#[derive(Default)]
struct Reader {
    /// Keys that are open, with their indentation.
    open: Vec<(usize, String)>,
    /// The indentation of a key whose value is a block of lines.
    block: Option<usize>,
}

impl Reader {
    /// Returns whether a line is part of a block of text.
    fn is_in_block(&self, text: &str) -> bool {
        self.block.is_some_and(|indent| text.trim().is_empty() || indent_of(text) > indent)
    }

    /// Reads one line; nothing when it begins no key.
    fn read(&mut self, text: &str) -> Option<Line> {
        if self.is_in_block(text) {
            return None;
        }
        self.block = None;
        let indent = indent_of(text);
        let (key, rest) = split_key(text.trim())?;
        let rest = rest.trim_start();
        let comment = behind(rest);
        if rest.starts_with(['|', '>']) {
            self.block = Some(indent);
        }
        while self.open.last().is_some_and(|(outer, _)| *outer >= indent) {
            self.open.pop();
        }
        self.open.push((indent, key));
        let path = self.open.iter().map(|(_, key)| key.clone()).collect();
        Some(Line { path, indent, comment })
    }
}

fn indent_of(text: &str) -> usize {
    text.len() - text.trim_start_matches(' ').len()
}

/// Splits `key: rest`; a key may stand in quotes.
fn split_key(text: &str) -> Option<(String, &str)> {
    let (key, rest) = match text.chars().next()? {
        quote @ ('"' | '\'') => text[1..].split_once(quote)?,
        '-' | '#' | '{' | '[' | '%' | '&' | '*' | '!' => return None,
        _ => {
            let end = text
                .find(": ")
                .or_else(|| text.find(":\t"))
                .or_else(|| text.strip_suffix(':').map(str::len))?;
            text.split_at(end)
        }
    };
    let rest = rest.trim_start().strip_prefix(':')?;
    Some((key.trim().to_owned(), rest))
}

/// Returns the comment behind a value on one line.
fn behind(value: &str) -> Option<String> {
    let rest = match value.chars().next()? {
        '#' => return Some(value.to_owned()),
        '\'' => {
            // Two of them are one of the text's own.
            let end = value[1..].replace("''", "  ").find('\'')? + 2;
            &value[end..]
        }
        '"' => {
            let mut escaped = false;
            let end = value[1..].char_indices().find(|(_, c)| {
                let ends = *c == '"' && !escaped;
                escaped = *c == '\\' && !escaped;
                ends
            })?;
            &value[end.0 + 2..]
        }
        _ => value,
    };
    let at = rest.find(" #")?;
    Some(rest[at + 1..].trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_stay_at_their_keys() {
        let old = "# my stores\nversion: v1.0.0 # fixed\n\nstores:\n  # the old one\n  # keep it\n  a:\n    location: /a # here\n    passphrase: 'it''s # no comment' # but this is\n    note: |\n      # not a comment\n      text\n    # gone with its key\n    root: x\n  b: # second\n    location: \"/b # x\\\" #\"\n# the end\n";
        let new = "version: v1.0.0\nstores:\n  a:\n    location: /a\n    note: |\n      # not a comment\n      text\n    passphrase: 'it''s # no comment'\n  b:\n    location: '/b # x\" #'\n    use_tls: 'true'\n";
        let carried = carry(old, new);
        assert_eq!(
            carried,
            "# my stores\nversion: v1.0.0 # fixed\nstores:\n  # the old one\n  # keep it\n  a:\n    location: /a # here\n    note: |\n      # not a comment\n      text\n    passphrase: 'it''s # no comment' # but this is\n  b: # second\n    location: '/b # x\" #'\n    use_tls: 'true'\n# the end\n"
        );
        // Once more changes nothing.
        assert_eq!(carry(&carried, new), carried);
    }

    #[test]
    fn what_cannot_be_placed_is_left_out() {
        let new = "version: v1.0.0\nstores:\n  a:\n    location: /a\n";
        for old in [
            "{version: v1.0.0, stores: {a: {location: /a}}} # flow\n",
            "",
            "version: v1.0.0\nstores:\n- x # list\n",
            "stores:\n  a:\n    location: >\n      /a\n      # text\n",
        ] {
            assert_eq!(carry(old, new), new, "{old}");
        }
        // A comment behind the key of a block would not be one in the new text.
        let block = "a:\n  b: |\n    text\n";
        assert_eq!(carry("a:\n  b: x # y\n", block), "a:\n  b: | # y\n    text\n");
    }
}
