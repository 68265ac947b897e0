//! The members of an archive, one after the other.

use super::fields::{self, BLOCK, Block, Fields};
use super::input::Input;
use super::pax::Extended;
use super::sparse::{self, MapReader, Piece};
use crate::base::{RawString, Timestamp};
use crate::connector::{Result, Xattr};
use crate::format::entry::Mode;

/// The most that stands before one member, extended headers and long names together, in bytes.
const LONGEST_HEADERS: u64 = 8 << 20;
/// The most that is held of global headers, in bytes: every member behind them has a copy of it.
const MOST_GLOBAL: u64 = 64 << 10;

/// What a member is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MemberKind {
    /// Something of the mode's type.
    Plain,
    /// Another name of an earlier member.
    HardLink,
}

/// One member.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: Vec<u8>,
    pub(super) kind: MemberKind,
    pub(super) mode: Mode,
    pub(super) link: Vec<u8>,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) user: RawString,
    pub(super) group: RawString,
    pub(super) modified: Timestamp,
    pub(super) xattrs: Vec<Xattr>,
    pub(super) content: Stored,
}

/// Where a content stands.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Stored {
    /// Where it begins.
    pub(super) start: u64,
    /// The size of the file.
    pub(super) size: u64,
    /// The parts of a sparse file that are stored, one after the other; nothing for a file that is stored whole.
    pub(super) pieces: Option<Vec<Piece>>,
}

/// Reads members.
#[derive(Debug)]
pub(super) struct Members {
    input: Input,
    global: Extended,
    /// Bytes of extended headers and long names since the last member.
    before: u64,
    /// Where something stands behind the end marker.
    follows: Option<u64>,
}

impl Members {
    pub(super) fn new(input: Input) -> Self {
        Self { input, global: Extended::default(), before: 0, follows: None }
    }

    /// Returns the archive, whose end was reached.
    pub(super) fn into_input(self) -> Input {
        self.input
    }

    /// Reads up to the next member; nothing at the end marker, behind which all is read, too.
    pub(super) fn next(&mut self) -> Result<Option<Member>> {
        let mut extended = self.global.clone();
        let mut block = [0; BLOCK];
        let mut prefixed = false;
        self.before = 0;
        loop {
            if !self.input.block(&mut block)? {
                let what = if self.input.position() == 0 {
                    "it is empty"
                } else {
                    "it has no end marker: it breaks off"
                };
                return Err(self.input.malformed(what));
            }
            if fields::is_zero(&block) {
                if prefixed {
                    return Err(self.input.malformed("it ends behind an extended header"));
                }
                return self.end().map(|()| None);
            }
            let fields = fields::parse(&block).map_err(|why| self.no_header(why))?;
            prefixed = true;
            match fields.kind {
                b'x' | b'X' => {
                    let bytes = self.header_bytes(fields.size)?;
                    extended.take(&bytes).map_err(|why| self.input.malformed(why))?;
                }
                b'g' => {
                    let bytes = self.header_bytes(fields.size)?;
                    self.take_global(&bytes)?;
                    extended.take(&bytes).map_err(|why| self.input.malformed(why))?;
                }
                b'L' => extended.path = Some(self.long_name(fields.size)?),
                b'K' => extended.link = Some(self.long_name(fields.size)?),
                // A volume's label, and what only other systems understand.
                b'V' | b'A' | b'E' | b'I' => {
                    self.header_bytes(fields.size)?;
                    extended = self.global.clone();
                    self.before = 0;
                    prefixed = false;
                }
                b'M' => {
                    return Err(self
                        .input
                        .malformed("it is one volume of several, and begins within a file"));
                }
                _ => return self.member(&block, fields, extended).map(Some),
            }
        }
    }

    fn no_header(&self, why: &str) -> crate::connector::Error {
        // The block was read already.
        if self.input.position() <= BLOCK as u64 {
            self.input.malformed("it is no tar archive")
        } else {
            self.input.malformed(why)
        }
    }

    /// Returns where something stands behind the end marker, which was reached.
    pub(super) fn follows(&self) -> Option<u64> {
        self.follows
    }

    /// Reads what follows the first block of zeros.
    fn end(&mut self) -> Result<()> {
        let mut block = [0; BLOCK];
        // An archive that ends with one block of zeros lacks nothing of its members.
        if self.input.block(&mut block)? && !fields::is_zero(&block) {
            return Err(self.input.malformed("a lone block of zeros stands before more of it"));
        }
        self.follows = self.input.drain()?;
        Ok(())
    }

    fn take_global(&mut self, bytes: &[u8]) -> Result<()> {
        self.global.take(bytes).map_err(|why| self.input.malformed(why))?;
        if self.global.held() > MOST_GLOBAL {
            return Err(self.input.malformed("global headers say more than 64 KiB of every member"));
        }
        Ok(())
    }

    fn header_bytes(&mut self, size: u64) -> Result<Vec<u8>> {
        // Headers without a byte are blocks that are read all the same.
        self.before = self.before.saturating_add(size.max(1));
        if self.before > LONGEST_HEADERS {
            return Err(self.input.malformed("the extended headers of a member are longer than 8 MiB"));
        }
        self.input.bytes(usize::try_from(size).expect("at most 8 MiB"))
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>> {
        let bytes = self.header_bytes(size)?;
        Ok(fields::text(&bytes).to_vec())
    }

    fn member(&mut self, block: &Block, fields: Fields, mut extended: Extended) -> Result<Member> {
        let mut name = extended.path.clone().unwrap_or(fields.name);
        if let Some(real) = &extended.sparse.name {
            name.clone_from(real);
        }
        let (kind, type_bits) = match fields.kind {
            b'1' => (MemberKind::HardLink, Mode(0)),
            b'2' => (MemberKind::Plain, Mode::SYMLINK),
            b'3' => (MemberKind::Plain, Mode::DEVICE.with(Mode::CHAR_DEVICE)),
            b'4' => (MemberKind::Plain, Mode::DEVICE),
            b'5' | b'D' => (MemberKind::Plain, Mode::DIR),
            b'6' => (MemberKind::Plain, Mode::PIPE),
            // As programs wrote folders that knew of no types.
            b'0' | 0 if name.ends_with(b"/") => (MemberKind::Plain, Mode::DIR),
            // POSIX: what is unknown is a regular file.
            _ => (MemberKind::Plain, Mode(0)),
        };
        let stored = extended.size.unwrap_or(fields.size);
        let is_file = kind == MemberKind::Plain && type_bits.is_regular();
        let content = if is_file {
            self.content(block, fields.kind, stored, &extended)?
        } else {
            // GNU's folders carry the names in them. Of others a size says nothing: nothing follows.
            self.input.content(if fields.kind == b'D' { stored } else { 0 })?;
            Stored::default()
        };
        let xattrs = extended.take_xattrs();
        let permissions = Mode::from_unix(0o100_000 | fields.mode);
        Ok(Member {
            name,
            kind,
            mode: Mode(permissions.0 | type_bits.0),
            link: extended.link.unwrap_or(fields.link),
            uid: extended.uid.unwrap_or(fields.uid),
            gid: extended.gid.unwrap_or(fields.gid),
            user: extended.user.unwrap_or(fields.user).into(),
            group: extended.group.unwrap_or(fields.group).into(),
            modified: extended.mtime.unwrap_or(Timestamp::from_secs(fields.mtime)),
            xattrs,
            content,
        })
    }

    /// Passes the content of a regular file, its map included.
    fn content(&mut self, block: &Block, kind: u8, stored: u64, extended: &Extended) -> Result<Stored> {
        let mut left = stored;
        let (mut size, mut pieces) = (stored, None);
        if kind == b'S' {
            let mut map = Vec::new();
            let malformed = |input: &Input, why| input.malformed(why);
            let mut more =
                sparse::of_block(block, true, &mut map).map_err(|why| malformed(&self.input, why))?;
            while more {
                let mut next = [0; BLOCK];
                if !self.input.block(&mut next)? {
                    return Err(self.input.malformed("it breaks off"));
                }
                more = sparse::of_block(&next, false, &mut map).map_err(|why| malformed(&self.input, why))?;
            }
            size = sparse::real_size(block).ok_or_else(|| self.input.malformed("a size is no number"))?;
            pieces = Some(map);
        } else if extended.sparse.is_in_content() {
            let mut reader = MapReader::default();
            let map = loop {
                let mut next = [0; BLOCK];
                let after = left.checked_sub(BLOCK as u64);
                if after.is_none() || !self.input.block(&mut next)? {
                    return Err(self.input.malformed("the map of a sparse file breaks off"));
                }
                left = after.unwrap_or(0);
                if let Some(map) = reader.take(&next).map_err(|why| self.input.malformed(why))? {
                    break map;
                }
            };
            pieces = Some(map);
        } else if let Some(map) = extended.sparse_map() {
            pieces = Some(map.to_vec());
        }
        if let Some(map) = &pieces {
            size = extended.sparse.size.unwrap_or(size);
            sparse::check(map, size, left).map_err(|why| self.input.malformed(why))?;
        }
        let start = self.input.content(left)?;
        Ok(Stored { start, size, pieces })
    }
}
