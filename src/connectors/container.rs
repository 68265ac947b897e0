//! What an archive (`.ptar`) presents as a store, wherever the file lies: the layer between
//! [`format::ptar`](crate::format::ptar) and the connectors that read archives.

use crate::base::Id;
use crate::connector::{Error, ErrorKind, Kind, Result};
use crate::format::config::MAX_CONFIG_LEN;
use crate::format::ptar::{self, HEAD_LEN, Layout, PACKFILE_ID, STATE_ID, Section, TRAILER_LEN};

/// The longest CONFIG resource of any store, in bytes.
pub(super) const MAX_CONFIG: u64 = MAX_CONFIG_LEN as u64;
/// The length of magic and version in bytes.
pub(super) const HEAD: u64 = HEAD_LEN as u64;
/// The length of the table at the end in bytes.
pub(super) const TRAILER: u64 = TRAILER_LEN as u64;

/// Reads the layout of an archive of `total` bytes from its first and its last bytes.
///
/// Fails with `Invalid` when it does not begin like an archive, with `Unsupported` when its version is newer than
/// this program, with `Protocol` when the table at its end does not describe it.
pub(super) fn parse(head: &[u8], trailer: &[u8], total: u64, target: &str) -> Result<Layout> {
    let head = head.first_chunk().ok_or_else(|| no_archive(head, target))?;
    ptar::check_head(head).map_err(|error| match error {
        crate::format::Error::Version { .. } => {
            Error::new(ErrorKind::Unsupported, "open", target).because(error)
        }
        _ => no_archive(head, target),
    })?;
    let trailer = trailer.first_chunk().ok_or_else(|| cut_short(target))?;
    Layout::parse(trailer, total).map_err(|error| cut_short(target).because(error))
}

/// Returns the error of a file too short for an archive, or that does not begin like one.
pub(super) fn no_archive(head: &[u8], target: &str) -> Error {
    let magic = &ptar::head()[..8];
    if !head.is_empty() && magic.starts_with(&head[..head.len().min(8)]) {
        return cut_short(target);
    }
    Error::new(ErrorKind::Invalid, "open", target).detail("this is not a .ptar archive")
}

fn cut_short(target: &str) -> Error {
    Error::new(ErrorKind::Protocol, "open", target).detail(
        "the archive is incomplete: what stands at its end does not describe it. \
         It was cut short, is still being written, or has bytes appended",
    )
}

/// Returns the section that holds a resource. The one packfile answers to any id, a state only to its own.
pub(super) fn find(layout: &Layout, kind: Kind, id: Id, target: &str) -> Result<Section> {
    match kind {
        Kind::Packfile => Ok(layout.packfile),
        Kind::State if id == STATE_ID => Ok(layout.state),
        Kind::State | Kind::Lock => {
            Err(Error::new(ErrorKind::NotFound, "read", format!("{target}: {}/{id}", kind.folder())))
        }
    }
}

/// Returns the id and the length in bytes of what a listing of a kind shows.
pub(super) fn listed(layout: &Layout, kind: Kind) -> Option<(Id, u64)> {
    match kind {
        Kind::Packfile => Some((PACKFILE_ID, layout.packfile.length)),
        Kind::State => Some((STATE_ID, layout.state.length)),
        Kind::Lock => None,
    }
}

/// Returns where in the file a range of a section begins, or the error of a range that ends past it.
pub(super) fn locate(section: Section, offset: u64, length: usize, target: &str) -> Result<u64> {
    u64::try_from(length)
        .ok()
        .and_then(|length| offset.checked_add(length))
        .filter(|end| *end <= section.length)
        .map(|_| section.offset + offset)
        .ok_or_else(|| past_the_end(target, offset, length, section.length))
}

/// Returns the error of whatever would change an archive.
pub(super) fn read_only(op: &'static str, target: &str) -> Error {
    Error::new(ErrorKind::ReadOnly, op, target).detail("an archive is written once and never changed")
}

/// Returns the error of a range that ends past the end of a resource.
pub(super) fn past_the_end(target: &str, offset: u64, length: usize, total: u64) -> Error {
    Error::new(ErrorKind::Protocol, "read", target)
        .detail(format!("{length} bytes at {offset} end past the end, at {total}"))
}

/// Returns the length of a resource that is to be read whole. One that is longer than any real one is an error, before
/// anything is allocated by it.
pub(super) fn whole_length(kind: Kind, length: u64, target: &str) -> Result<usize> {
    let limit = kind.most_whole();
    usize::try_from(length).ok().filter(|_| length <= limit).ok_or_else(|| {
        Error::new(ErrorKind::Protocol, "read", target)
            .detail(format!("it has {length} bytes, where {limit} are the most"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(head: &[u8], trailer: &[u8], total: u64) -> ErrorKind {
        parse(head, trailer, total, "x.ptar").unwrap_err().kind
    }

    #[test]
    fn says_what_is_wrong() {
        let good = Layout::new(100, 200, 50);
        let (head, trailer, total) = (ptar::head(), good.encode_trailer(), good.file_len());
        assert_eq!(parse(&head, &trailer, total, "x").unwrap(), good);
        assert_eq!(kind_of(&head, &trailer, total + 1), ErrorKind::Protocol);
        assert_eq!(kind_of(&head, &trailer[1..], total), ErrorKind::Protocol);
        assert_eq!(kind_of(&head[..5], &trailer, total), ErrorKind::Protocol);
        assert_eq!(kind_of(b"_KLOSET_\0\0\x01\0", &trailer, total), ErrorKind::Invalid);
        assert_eq!(kind_of(b"_PLATAR_\0\0\x02\0", &trailer, total), ErrorKind::Unsupported);
        assert_eq!(kind_of(b"", &trailer, total), ErrorKind::Invalid);
    }

    #[test]
    fn ranges_stay_within_their_section() {
        let section = Section { offset: 112, length: 200 };
        assert_eq!(locate(section, 0, 200, "x").unwrap(), 112);
        assert_eq!(locate(section, 200, 0, "x").unwrap(), 312);
        for (offset, length) in [(0, 201), (200, 1), (u64::MAX, 1), (1, usize::MAX)] {
            assert_eq!(locate(section, offset, length, "x").unwrap_err().kind, ErrorKind::Protocol);
        }
    }
}
