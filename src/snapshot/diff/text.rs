//! How a text reads before and after: unified diffs.

use std::io::Write as _;
use std::ops::Range;

use imara_diff::{Algorithm, Diff, Hunk, InternedInput};

use crate::connector::ContentSource as _;
use crate::format::entry::Entry;
use crate::store::{Error, Repository};

use super::super::restore::ObjectContent;

/// Lines shown around a change.
const CONTEXT: u32 = 3;
/// Where a NUL is looked for: a file that has one this early is no text.
const HEAD: usize = 8000;

/// What can be shown of a changed content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TextDiff {
    /// The hunks of a unified diff, without the two lines of names.
    Text(Vec<u8>),
    /// One of the two is no text.
    Binary,
    /// One of the two is larger than the limit, in bytes.
    TooLarge(u64),
    /// There is no difference.
    Equal,
}

/// Compares the contents of two files as text; a side that is not there counts as empty. Files of more than `limit`
/// bytes are not read.
pub fn text_diff(
    repository: &Repository,
    old: Option<&Entry>,
    new: Option<&Entry>,
    limit: u64,
) -> Result<TextDiff, Error> {
    let (Some(before), Some(after)) = (text(repository, old, limit)?, text(repository, new, limit)?) else {
        return Ok(TextDiff::TooLarge(limit));
    };
    if before == after {
        return Ok(TextDiff::Equal);
    }
    let is_binary = |bytes: &[u8]| bytes[..bytes.len().min(HEAD)].contains(&0);
    if is_binary(&before) || is_binary(&after) {
        return Ok(TextDiff::Binary);
    }
    Ok(TextDiff::Text(unified(&before, &after)))
}

/// Reads a whole content; nothing when it is larger than the limit.
fn text(repository: &Repository, entry: Option<&Entry>, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    let Some(entry) = entry.filter(|entry| !entry.object.is_zero()) else { return Ok(Some(Vec::new())) };
    let content = ObjectContent::open(repository, &entry.object)?;
    if content.size() > limit {
        return Ok(None);
    }
    let mut bytes = vec![0; usize::try_from(content.size()).expect("within the limit")];
    content.read_at(0, &mut bytes)?;
    Ok(Some(bytes))
}

/// Returns the hunks of a unified diff, three lines of context around each, as `diff -u` writes them.
pub fn unified(before: &[u8], after: &[u8]) -> Vec<u8> {
    let input = InternedInput::new(before, after);
    let mut diff = Diff::compute(Algorithm::Histogram, &input);
    diff.postprocess_lines(&input);
    let line = |before: bool, number: u32| {
        let tokens = if before { &input.before } else { &input.after };
        input.interner[tokens[number as usize]]
    };
    let count = u32::try_from(input.before.len()).unwrap_or(u32::MAX);
    let mut out = Vec::new();
    for group in groups(diff.hunks()) {
        let (first, last) = (&group[0], &group[group.len() - 1]);
        let lead = first.before.start.min(CONTEXT);
        let trail = (count - last.before.end).min(CONTEXT);
        let old = first.before.start - lead..last.before.end + trail;
        let new = first.after.start - lead..last.after.end + trail;
        // A vector takes everything that is written to it.
        let _ = writeln!(out, "@@ -{} +{} @@", range(&old), range(&new));
        let mut at = old.start;
        for hunk in &group {
            (at..hunk.before.start).for_each(|number| push(&mut out, b' ', line(true, number)));
            hunk.before.clone().for_each(|number| push(&mut out, b'-', line(true, number)));
            hunk.after.clone().for_each(|number| push(&mut out, b'+', line(false, number)));
            at = hunk.before.end;
        }
        (at..old.end).for_each(|number| push(&mut out, b' ', line(true, number)));
    }
    out
}

/// Joins changes whose contexts touch.
fn groups(hunks: impl Iterator<Item = Hunk>) -> Vec<Vec<Hunk>> {
    let mut groups: Vec<Vec<Hunk>> = Vec::new();
    for hunk in hunks {
        match groups.last_mut() {
            Some(group)
                if group.last().is_some_and(|last| hunk.before.start - last.before.end <= 2 * CONTEXT) =>
            {
                group.push(hunk);
            }
            _ => groups.push(vec![hunk]),
        }
    }
    groups
}

/// Spells a range as `diff -u` does: from one, the length left out when it is one, the line before when it is none.
fn range(lines: &Range<u32>) -> String {
    match lines.end - lines.start {
        0 => format!("{},0", lines.start),
        1 => format!("{}", lines.start + 1),
        length => format!("{},{length}", lines.start + 1),
    }
}

fn push(out: &mut Vec<u8>, sign: u8, line: &[u8]) {
    out.push(sign);
    out.extend_from_slice(line);
    if !line.ends_with(b"\n") {
        out.extend_from_slice(b"\n\\ No newline at end of file\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(before: &str, after: &str) -> String {
        String::from_utf8(unified(before.as_bytes(), after.as_bytes())).unwrap()
    }

    #[test]
    fn hunks_look_like_those_of_diff() {
        assert_eq!(shown("a\nb\nc\n", "a\nx\nc\n"), "@@ -1,3 +1,3 @@\n a\n-b\n+x\n c\n");
        assert_eq!(shown("", "a\n"), "@@ -0,0 +1 @@\n+a\n");
        assert_eq!(shown("a\n", ""), "@@ -1 +0,0 @@\n-a\n");
        assert_eq!(shown("a", "b\n"), "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+b\n");
        assert_eq!(shown("same\n", "same\n"), "");
    }

    #[test]
    fn near_changes_share_a_hunk_and_far_ones_do_not() {
        let lines = |changed: &[usize]| -> String {
            (0..40)
                .map(|i| if changed.contains(&i) { format!("new {i}\n") } else { format!("{i}\n") })
                .collect()
        };
        let count = |changed: &[usize]| shown(&lines(&[]), &lines(changed)).matches("@@ -").count();
        assert_eq!(count(&[10, 17]), 1);
        assert_eq!(count(&[10, 18]), 2);
        assert!(
            shown(&lines(&[]), &lines(&[10])).starts_with("@@ -8,7 +8,7 @@\n 7\n 8\n 9\n-10\n+new 10\n 11\n")
        );
    }
}
