//! From `SNAPSHOT[:PATH]` and query flags to snapshots.

use std::ffi::{OsStr, OsString};

use super::context::Context;
use super::error::CommandError;
use super::query::{Facts, QueryArgs};
use crate::base::{Id, Printable, RawString};
use crate::format::snapshot::Header;
use crate::snapshot::{self, Signatures, SnapshotInfo, message_of};
use crate::store::Repository;

/// A snapshot, or a part of one.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Chosen {
    /// The snapshot.
    pub(crate) info: SnapshotInfo,
    /// The absolute, clean path of the part; nothing for the whole.
    pub(crate) path: Option<Vec<u8>>,
}

/// Finds what `SNAPSHOT[:PATH]` names. Nothing before the colon means the latest.
pub(crate) fn find(repository: &Repository, text: &OsStr) -> Result<Chosen, CommandError> {
    find_with(repository, text, Signatures::Verify)
}

fn find_with(repository: &Repository, text: &OsStr, signatures: Signatures) -> Result<Chosen, CommandError> {
    let (name, path) = split(text);
    let info = snapshot::find_with(repository, &name, signatures)?;
    let path = path.map(|path| absolute(&info.header, path));
    Ok(Chosen { info, path })
}

fn split(text: &OsStr) -> (String, Option<&[u8]>) {
    let bytes = text.as_encoded_bytes();
    let (name, path) = match bytes.iter().position(|&b| b == b':') {
        Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
        None => (bytes, None),
    };
    let name =
        if name.is_empty() && path.is_some() { "latest".into() } else { String::from_utf8_lossy(name) };
    (name.into_owned(), path.filter(|path| !path.is_empty()))
}

/// Makes a path absolute (one without a leading slash is relative to the backed-up root) and clean.
fn absolute(header: &Header, path: &[u8]) -> Vec<u8> {
    let root: &[u8] = match header.source() {
        Some(source) if !path.starts_with(b"/") => &source.importer.directory,
        _ => b"",
    };
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in root.split(|&b| b == b'/').chain(path.split(|&b| b == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let mut clean = Vec::with_capacity(root.len() + path.len() + 1);
    for part in parts {
        clean.push(b'/');
        clean.extend_from_slice(part);
    }
    if clean.is_empty() { b"/".to_vec() } else { clean }
}

/// Finds the snapshots that are named, or those that the query flags leave, oldest first. Both at once make no sense.
pub(crate) fn choose(
    context: &Context,
    repository: &Repository,
    named: &[OsString],
    query: &QueryArgs,
) -> Result<Vec<Chosen>, CommandError> {
    choose_with(context, repository, named, query, Signatures::Verify)
}

/// Finds as [`choose`] does, and does with signatures what is asked for.
pub(crate) fn choose_with(
    context: &Context,
    repository: &Repository,
    named: &[OsString],
    query: &QueryArgs,
    signatures: Signatures,
) -> Result<Vec<Chosen>, CommandError> {
    if !named.is_empty() {
        if !query.is_empty() {
            return Err(CommandError::usage("snapshots were named, and query flags given, too")
                .hint("use one or the other"));
        }
        return named.iter().map(|text| find_with(repository, text, signatures)).collect();
    }
    let (chosen, _) = query_with(context, repository, query, signatures)?;
    Ok(chosen.into_iter().map(|info| Chosen { info, path: None }).collect())
}

/// Finds the snapshots that the query flags leave, oldest first, and the ids of those whose header cannot be read:
/// they may fit or not.
pub(crate) fn query_all(
    context: &Context,
    repository: &Repository,
    query: &QueryArgs,
) -> Result<(Vec<SnapshotInfo>, Vec<Id>), CommandError> {
    query_with(context, repository, query, Signatures::Verify)
}

fn query_with(
    context: &Context,
    repository: &Repository,
    query: &QueryArgs,
    signatures: Signatures,
) -> Result<(Vec<SnapshotInfo>, Vec<Id>), CommandError> {
    let filter = query.filter(&context.now)?;
    let (snapshots, failed) = list_with(context, repository, signatures);
    let chosen = filter.select(snapshots, facts, |by, info| by.key(repository, info));
    if let Some(latest) = chosen.last().filter(|_| query.latest) {
        snapshot::assert_latest(repository, latest, failed.iter().copied())?;
    }
    Ok((chosen, failed))
}

/// Lists the snapshots, oldest first, and warns of those whose header cannot be read, and returns the ids of those.
pub(crate) fn list(context: &Context, repository: &Repository) -> (Vec<SnapshotInfo>, Vec<Id>) {
    list_with(context, repository, Signatures::Verify)
}

fn list_with(
    context: &Context,
    repository: &Repository,
    signatures: Signatures,
) -> (Vec<SnapshotInfo>, Vec<Id>) {
    let (snapshots, failed) = snapshot::list_with(repository, signatures);
    for (id, error) in &failed {
        context.output.warn(format!("snapshot {} cannot be read: {}", id.short(), message_of(error)));
    }
    (snapshots, failed.into_iter().map(|(id, _)| id).collect())
}

/// Names the source of a snapshot as lists do: a local folder by its path, everything else as `kind://origin/root`.
/// Nothing for a snapshot without a source.
pub(crate) fn source_name(header: &Header) -> Option<String> {
    let importer = &header.source()?.importer;
    let root = Printable::new(&importer.directory).to_string();
    if importer.kind == "fs" {
        return Some(root);
    }
    let (kind, origin) = (Printable::new(&importer.kind), Printable::new(&importer.origin));
    Some(format!("{kind}://{origin}{}", root.trim_end_matches('/')))
}

/// Returns what a query looks at.
pub(crate) fn facts(info: &SnapshotInfo) -> Facts<'_> {
    let header = &info.header;
    Facts {
        timestamp: header.timestamp,
        name: &header.name,
        category: &header.category,
        environment: &header.environment,
        perimeter: &header.perimeter,
        job: &header.job,
        tags: header.tags().iter().map(RawString::as_bytes).collect(),
        roots: header.sources().iter().map(|source| source.importer.directory.as_bytes()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::format::snapshot::{Importer, Roots, Source};
    use crate::format::summary::Summary;

    #[test]
    fn a_snapshot_and_a_path_part_at_the_first_colon() {
        assert_eq!(split("abc".as_ref()), ("abc".into(), None));
        assert_eq!(split("abc:".as_ref()), ("abc".into(), None));
        assert_eq!(split("abc:/a:b".as_ref()), ("abc".into(), Some(&b"/a:b"[..])));
        assert_eq!(split(":a".as_ref()), ("latest".into(), Some(&b"a"[..])));
        assert_eq!(split(crate::base::sys::os_str(b"a:\xff").unwrap()), ("a".into(), Some(&b"\xff"[..])));
    }

    #[test]
    fn paths_start_at_the_backed_up_root_and_stay_in_the_tree() {
        let mut header = Header::new(Id::ZERO, Timestamp::EPOCH);
        let importer = Importer { kind: "fs".into(), origin: "host".into(), directory: "/srv/data".into() };
        let source = Source {
            importer,
            context: None,
            root: Roots::default(),
            indexes: None,
            summary: Summary::default(),
        };
        header.sources = Some(vec![source]);
        for (path, wanted) in [
            ("a/b", "/srv/data/a/b"),
            ("./a/../b/", "/srv/data/b"),
            ("/etc//ssh/", "/etc/ssh"),
            ("/", "/"),
            (".", "/srv/data"),
            ("../../../..", "/"),
        ] {
            assert_eq!(absolute(&header, path.as_bytes()), wanted.as_bytes(), "{path}");
        }
    }
}
