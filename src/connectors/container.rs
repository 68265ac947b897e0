//! The layout of a single-file archive (`.ptar`, FORMAT.md section 11.2), wherever it lies.
//!
//! | offset | size | content |
//! |---|---|---|
//! | 0 | 8 | `_PLATAR_` |
//! | 8 | 4 | container version, u32 |
//! | 12 | c | CONFIG |
//! | 12+c | p | the one packfile |
//! | 12+c+p | s | the one state |
//! | end-48 | 48 | offset and length of each of the three, as six i64 |

use crate::base::Id;
use crate::connector::{Error, ErrorKind, Kind, Result};

/// The first bytes of an archive.
pub(super) const MAGIC: [u8; 8] = *b"_PLATAR_";
/// The length of magic and version.
pub(super) const HEAD_LEN: u64 = 12;
/// The length of the trailer.
pub(super) const TRAILER_LEN: u64 = 48;
/// The longest CONFIG resource of any store, in bytes.
pub(super) const MAX_CONFIG: u64 = 32 << 10;
/// The shortest resource: an empty payload between a 16-byte header and a 32-byte MAC.
const MIN_RESOURCE: u64 = 48;

/// The id under which an archive presents its state.
pub(super) const STATE_ID: Id = fixed_id([15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
/// The id under which an archive presents its packfile.
pub(super) const PACKFILE_ID: Id = fixed_id([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);

const fn fixed_id(first: [u8; 16]) -> Id {
    let mut id = [0; 32];
    let mut at = 0;
    while at < 16 {
        id[at] = first[at];
        at += 1;
    }
    Id(id)
}

/// A part of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Section {
    /// Where it begins, in bytes from the start of the file.
    pub(super) offset: u64,
    /// Its length in bytes.
    pub(super) len: u64,
}

impl Section {
    /// Returns where in the file a range of the section begins, or the error of a range that ends past it.
    pub(super) fn locate(self, offset: u64, length: usize, target: &str) -> Result<u64> {
        u64::try_from(length)
            .ok()
            .and_then(|length| offset.checked_add(length))
            .filter(|end| *end <= self.len)
            .map(|_| self.offset + offset)
            .ok_or_else(|| past_the_end(target, offset, length, self.len))
    }
}

/// The three parts of an archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sections {
    pub(super) config: Section,
    pub(super) packfile: Section,
    pub(super) state: Section,
}

impl Sections {
    /// Decodes the trailer of an archive of `total` bytes and checks that its sections tile the file.
    pub(super) fn parse(head: &[u8], trailer: &[u8], total: u64, target: &str) -> Result<Self> {
        let (magic, version) = head
            .split_first_chunk::<8>()
            .and_then(|(magic, rest)| Some((magic, u32::from_le_bytes(*rest.first_chunk()?))))
            .ok_or_else(|| not_an_archive(target))?;
        if *magic != MAGIC {
            return Err(not_an_archive(target));
        }
        if version >> 16 > 1 {
            return Err(Error::new(ErrorKind::Unsupported, "open", target).detail(format!(
                "the archive has container version {}.{}.{}, this program reads 1",
                version >> 16,
                version >> 8 & 0xff,
                version & 0xff
            )));
        }
        let mut numbers = [0_u64; 6];
        let mut rest = trailer;
        for number in &mut numbers {
            let (bytes, after) = rest.split_first_chunk::<8>().ok_or_else(|| cut_short(target))?;
            *number = u64::try_from(i64::from_le_bytes(*bytes)).map_err(|_| cut_short(target))?;
            rest = after;
        }
        let [config, packfile, state] =
            [0, 2, 4].map(|at| Section { offset: numbers[at], len: numbers[at + 1] });
        let mut expected = Some(HEAD_LEN);
        for section in [config, packfile, state] {
            if Some(section.offset) != expected || section.len < MIN_RESOURCE {
                return Err(cut_short(target));
            }
            expected = section.offset.checked_add(section.len);
        }
        if expected != total.checked_sub(TRAILER_LEN) {
            return Err(cut_short(target));
        }
        if config.len > MAX_CONFIG {
            return Err(Error::new(ErrorKind::Protocol, "open", target)
                .detail(format!("its CONFIG is {} bytes long, {MAX_CONFIG} are allowed", config.len)));
        }
        Ok(Self { config, packfile, state })
    }

    /// Returns the section that holds a resource. The one packfile answers to any id, a state only to its own.
    pub(super) fn find(&self, kind: Kind, id: Id, op: &'static str, target: &str) -> Result<Section> {
        match kind {
            Kind::Packfile => Ok(self.packfile),
            Kind::State if id == STATE_ID => Ok(self.state),
            Kind::State | Kind::Lock => {
                Err(Error::new(ErrorKind::NotFound, op, format!("{target}: {}/{id}", kind.folder())))
            }
        }
    }

    /// Returns what a listing of a kind shows.
    pub(super) fn listed(&self, kind: Kind) -> Option<(Id, u64)> {
        match kind {
            Kind::Packfile => Some((PACKFILE_ID, self.packfile.len)),
            Kind::State => Some((STATE_ID, self.state.len)),
            Kind::Lock => None,
        }
    }
}

/// Returns the error of a file that does not begin like an archive.
pub(super) fn not_an_archive(target: &str) -> Error {
    Error::new(ErrorKind::Invalid, "open", target).detail("this is not a .ptar archive")
}

/// Returns the error of an archive whose trailer is missing or describes another file.
pub(super) fn cut_short(target: &str) -> Error {
    Error::new(ErrorKind::Protocol, "open", target)
        .detail("the archive is incomplete: its trailer does not describe it, so it was cut short, is still being written, or has bytes appended")
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

#[cfg(test)]
mod tests {
    use super::*;

    fn trailer(numbers: [i64; 6]) -> Vec<u8> {
        numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
    }

    fn parse(head: &[u8], numbers: [i64; 6], total: u64) -> Result<Sections> {
        Sections::parse(head, &trailer(numbers), total, "x.ptar")
    }

    const HEAD: &[u8] = b"_PLATAR_\0\0\x01\0";
    const GOOD: [i64; 6] = [12, 100, 112, 200, 312, 50];

    #[test]
    fn sections_must_tile_the_file() {
        let sections = parse(HEAD, GOOD, 410).unwrap();
        assert_eq!(sections.packfile, Section { offset: 112, len: 200 });
        assert_eq!(sections.state, Section { offset: 312, len: 50 });
        assert_eq!(parse(HEAD, GOOD, 411).unwrap_err().kind, ErrorKind::Protocol);
        assert_eq!(parse(HEAD, GOOD, 40).unwrap_err().kind, ErrorKind::Protocol);
        for (at, value) in
            [(0, 13), (1, 99), (2, 113), (3, -1), (3, i64::MAX), (4, 0), (5, 47), (5, i64::MIN)]
        {
            let mut bad = GOOD;
            bad[at] = value;
            assert_eq!(parse(HEAD, bad, 410).unwrap_err().kind, ErrorKind::Protocol, "{at} {value}");
        }
        let large = [12, 32_769, 32_781, 200, 32_981, 50];
        assert!(parse(HEAD, large, 33_079).unwrap_err().to_string().contains("CONFIG"));
    }

    #[test]
    fn the_head_tells_what_it_is() {
        assert_eq!(parse(b"_PLATAR_", GOOD, 410).unwrap_err().kind, ErrorKind::Invalid);
        assert_eq!(parse(b"_KLOSET_\0\0\x01\0", GOOD, 410).unwrap_err().kind, ErrorKind::Invalid);
        assert_eq!(parse(b"_PLATAR_\0\0\x02\0", GOOD, 410).unwrap_err().kind, ErrorKind::Unsupported);
    }

    #[test]
    fn ranges_stay_within_their_section() {
        let section = Section { offset: 112, len: 200 };
        assert_eq!(section.locate(0, 200, "x").unwrap(), 112);
        assert_eq!(section.locate(200, 0, "x").unwrap(), 312);
        for (offset, length) in [(0, 201), (200, 1), (u64::MAX, 1), (1, usize::MAX)] {
            assert_eq!(section.locate(offset, length, "x").unwrap_err().kind, ErrorKind::Protocol);
        }
    }
}
