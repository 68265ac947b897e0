//! ZIP (PKWARE's APPNOTE 6.3): deflated files with their sizes behind them, so that nothing is sought; Unix modes
//! and symbolic links as Info-ZIP writes them. Records of the directory at the end spill to disk until then.

use std::io::Write;

use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

use crate::base::Timestamp;
use crate::base::spill::{SpillDir, SpillWriter};
use crate::format::entry::FileInfo;
use crate::store::Error;

use super::read::Member;
use super::run::{ExportError, Format};

const LOCAL: u32 = 0x0403_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END_64: u32 = 0x0606_4b50;
const LOCATOR_64: u32 = 0x0706_4b50;
const END: u32 = 0x0605_4b50;
/// General purpose bits: sizes follow the content; the name is UTF-8.
const SIZES_FOLLOW: u16 = 1 << 3;
const UTF8: u16 = 1 << 11;
const DEFLATED: u16 = 8;
/// Versions needed to extract: folders and deflate; the 64-bit extension.
const PLAIN: u16 = 20;
const LARGE: u16 = 45;
/// Where 32-bit numbers end, and one that says "look into the extension".
const LIMIT: u64 = 0xffff_ffff;
/// Contents from this size on get 64-bit sizes: deflated noise grows by a few bytes in every 16 KiB.
const LARGE_SIZE: u64 = 0xff00_0000;

/// Writes a ZIP archive.
pub(super) struct ZipWriter<'a> {
    out: &'a mut dyn Write,
    offset: u64,
    directory: Option<SpillWriter>,
    count: u64,
    open: Option<Open>,
}

/// A member whose content comes.
struct Open {
    record: Record,
    encoder: DeflateEncoder<Vec<u8>>,
    crc: Crc,
}

/// What both ends say of a member.
struct Record {
    name: Vec<u8>,
    flags: u16,
    method: u16,
    time: (u16, u16),
    extra: Vec<u8>,
    attributes: u32,
    crc: u32,
    size: u64,
    packed: u64,
    offset: u64,
    large: bool,
}

impl<'a> ZipWriter<'a> {
    pub(super) fn new(out: &'a mut dyn Write, spills: &SpillDir) -> Result<Self, Error> {
        Ok(Self { out, offset: 0, directory: Some(spills.create()?), count: 0, open: None })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        self.out.write_all(bytes).map_err(ExportError::Write)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn keep(&mut self, record: &Record) -> Result<(), ExportError> {
        self.count += 1;
        let directory = self.directory.as_mut().expect("there until the archive is finished");
        Ok(directory.push(&[&record.central()]).map_err(Error::from)?)
    }

    /// Writes what the encoder has made so far.
    fn drain(&mut self, open: &mut Open) -> Result<(), ExportError> {
        let made = std::mem::take(open.encoder.get_mut());
        open.record.packed += made.len() as u64;
        self.write(&made)
    }
}

impl Format for ZipWriter<'_> {
    fn begin(&mut self, member: &Member) -> Result<Result<(), &'static str>, ExportError> {
        let (entry, mode) = (&member.entry, member.entry.info.mode);
        if !(mode.is_dir() || mode.is_regular() || mode.is_symlink()) {
            return Ok(Err("zip holds no special files"));
        }
        if mode.is_dir() && member.name.is_empty() {
            // The root has no name; its members stand for it.
            return Ok(Ok(()));
        }
        let mut record = Record::new(member, self.offset);
        if record.name.len() > usize::from(u16::MAX) {
            return Ok(Err("zip holds no names of more than 65535 bytes"));
        }
        if mode.is_regular() {
            let local = record.local();
            let encoder = DeflateEncoder::new(Vec::new(), Compression::default());
            self.write(&local)?;
            self.open = Some(Open { record, encoder, crc: Crc::new() });
            return Ok(Ok(()));
        }
        // Folders and links are short: their sizes stand in front.
        let content: &[u8] = if mode.is_symlink() { &entry.symlink_target } else { b"" };
        let mut crc = Crc::new();
        crc.update(content);
        (record.crc, record.size, record.packed) = (crc.sum(), content.len() as u64, content.len() as u64);
        let local = record.local();
        self.write(&local)?;
        self.write(content)?;
        self.keep(&record)?;
        Ok(Ok(()))
    }

    fn content(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        open.crc.update(bytes);
        open.record.size += bytes.len() as u64;
        open.encoder.write_all(bytes).map_err(ExportError::Write)?;
        self.drain(&mut open)?;
        self.open = Some(open);
        Ok(())
    }

    fn end(&mut self) -> Result<(), ExportError> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        open.encoder.try_finish().map_err(ExportError::Write)?;
        self.drain(&mut open)?;
        let mut record = open.record;
        record.crc = open.crc.sum();
        self.write(&record.descriptor())?;
        self.keep(&record)
    }

    fn finish(&mut self) -> Result<(), ExportError> {
        let start = self.offset;
        if let Some(directory) = self.directory.take() {
            let mut records = directory.finish().map_err(Error::from)?.forward();
            while let Some(record) = records.next().map_err(Error::from)? {
                self.out.write_all(record).map_err(ExportError::Write)?;
                self.offset += record.len() as u64;
            }
        }
        let end = end(self.count, start, self.offset - start);
        self.write(&end)
    }
}

/// Returns the records behind the directory.
fn end(count: u64, start: u64, length: u64) -> Vec<u8> {
    let mut out = Fields::default();
    if count >= u64::from(u16::MAX) || start >= LIMIT || length >= LIMIT {
        out.u32(END_64).u64(44).u16(3 << 8 | LARGE).u16(LARGE).u32(0).u32(0);
        out.u64(count).u64(count).u64(length).u64(start);
        out.u32(LOCATOR_64).u32(0).u64(start + length).u32(1);
    }
    let short = u16::try_from(count).unwrap_or(u16::MAX);
    out.u32(END).u16(0).u16(0).u16(short).u16(short).u32(low(length)).u32(low(start)).u16(0);
    out.0
}

impl Record {
    fn new(member: &Member, offset: u64) -> Self {
        let (info, mode) = (&member.entry.info, member.entry.info.mode);
        let mut name = member.name.clone();
        let mut attributes = mode.to_unix() << 16;
        if mode.is_dir() {
            name.push(b'/');
            attributes |= 0x10;
        }
        let utf8 = if std::str::from_utf8(&name).is_ok() { UTF8 } else { 0 };
        let (flags, method) = if mode.is_regular() { (SIZES_FOLLOW | utf8, DEFLATED) } else { (utf8, 0) };
        Self {
            name,
            flags,
            method,
            time: dos_time(info.modified),
            extra: unix_extra(info),
            attributes,
            crc: 0,
            size: 0,
            packed: 0,
            offset,
            large: member.size >= LARGE_SIZE,
        }
    }

    fn local(&self) -> Vec<u8> {
        let mut out = Fields::default();
        let version = if self.large { LARGE } else { PLAIN };
        let follow = self.flags & SIZES_FOLLOW != 0;
        let mut extra = Fields::default();
        let size = match (self.large, follow) {
            (true, _) => {
                extra.u16(1).u16(16).u64(0).u64(0);
                LIMIT
            }
            (false, true) => 0,
            (false, false) => self.size,
        };
        extra.0.extend_from_slice(&self.extra);
        out.u32(LOCAL).u16(version).u16(self.flags).u16(self.method).u16(self.time.0).u16(self.time.1);
        out.u32(if follow { 0 } else { self.crc }).u32(low(size)).u32(low(size));
        out.u16(length(&self.name)).u16(length(&extra.0));
        [out.0, self.name.clone(), extra.0].concat()
    }

    fn descriptor(&self) -> Vec<u8> {
        let mut out = Fields::default();
        out.u32(DESCRIPTOR).u32(self.crc);
        if self.large {
            out.u64(self.packed).u64(self.size);
        } else {
            out.u32(low(self.packed)).u32(low(self.size));
        }
        out.0
    }

    fn central(&self) -> Vec<u8> {
        let mut large = Fields::default();
        for number in [self.size, self.packed, self.offset] {
            if number >= LIMIT {
                large.u64(number);
            }
        }
        let mut extra = Fields::default();
        if !large.0.is_empty() {
            extra.u16(1).u16(length(&large.0));
            extra.0.extend_from_slice(&large.0);
        }
        let version = if self.large || !large.0.is_empty() { LARGE } else { PLAIN };
        extra.0.extend_from_slice(&self.extra);
        let mut out = Fields::default();
        out.u32(CENTRAL).u16(3 << 8 | LARGE).u16(version).u16(self.flags).u16(self.method);
        out.u16(self.time.0).u16(self.time.1).u32(self.crc).u32(low(self.packed)).u32(low(self.size));
        out.u16(length(&self.name)).u16(length(&extra.0)).u16(0).u16(0).u16(0);
        out.u32(self.attributes).u32(low(self.offset));
        [out.0, self.name.clone(), extra.0].concat()
    }
}

/// Returns a number for a field of 32 bits, or what says that it is elsewhere.
fn low(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn length(bytes: &[u8]) -> u16 {
    u16::try_from(bytes.len()).expect("names are checked, the rest is short")
}

/// Little-endian numbers, one after the other.
#[derive(Default)]
struct Fields(Vec<u8>);

impl Fields {
    fn u16(&mut self, number: u16) -> &mut Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn u32(&mut self, number: u32) -> &mut Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn u64(&mut self, number: u64) -> &mut Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }
}

/// Info-ZIP's fields: the time to the second in UTC, and the numbers of owner and group.
fn unix_extra(info: &FileInfo) -> Vec<u8> {
    let mut out = Fields::default();
    if let Ok(seconds) = i32::try_from(info.modified.secs) {
        out.u16(0x5455).u16(5);
        out.0.push(1);
        out.0.extend_from_slice(&seconds.to_le_bytes());
    }
    if let (Ok(uid), Ok(gid)) = (u32::try_from(info.uid), u32::try_from(info.gid)) {
        out.u16(0x7875).u16(11);
        out.0.extend_from_slice(&[1, 4]);
        out.u32(uid);
        out.0.push(4);
        out.u32(gid);
    }
    out.0
}

/// Returns time and date as MS-DOS has them, in UTC, held within 1980 to 2107.
fn dos_time(time: Timestamp) -> (u16, u16) {
    let earliest = (0, 1 << 5 | 1);
    let Ok(instant) = jiff::Timestamp::from_second(time.secs) else { return earliest };
    let at = instant.to_zoned(jiff::tz::TimeZone::UTC);
    let number = |value: i8| u16::try_from(value).unwrap_or(0);
    match u16::try_from(at.year()).unwrap_or(0) {
        0..1980 => earliest,
        2108.. => (0xbf7d, 0xff9f),
        year => (
            number(at.hour()) << 11 | number(at.minute()) << 5 | (number(at.second()) / 2),
            (year - 1980) << 9 | number(at.month()) << 5 | number(at.day()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::{Entry, Mode};

    #[test]
    fn dos_times_are_held_in_their_range() {
        assert_eq!(dos_time(Timestamp::from_secs(0)), (0, 0x21));
        // 2025-01-02 03:04:05 UTC.
        let (time, date) = dos_time(Timestamp::from_secs(1_735_787_045));
        assert_eq!((time, date), (3 << 11 | 4 << 5 | 2, 45 << 9 | 1 << 5 | 2));
        assert_eq!(dos_time(Timestamp::from_secs(10_000_000_000)).1 >> 9, 127);
    }

    #[test]
    fn large_numbers_go_into_the_extension() {
        let entry = Entry::new("/", FileInfo::new("f", Mode::regular(0o644)));
        let name = b"f".to_vec();
        let member = Member { name, entry, xattrs: Vec::new(), size: 5 << 32, link: None };
        let mut record = Record::new(&member, 6 << 32);
        (record.size, record.packed) = (5 << 32, 7);
        let central = record.central();
        assert_eq!(&central[20..28], &[7, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        let extra = &central[47..];
        assert_eq!(&extra[..4], &[1, 0, 16, 0]);
        assert_eq!(&extra[4..12], &(5_u64 << 32).to_le_bytes());
        assert_eq!(&extra[12..20], &(6_u64 << 32).to_le_bytes());
        assert_eq!(record.descriptor().len(), 24);
        assert_eq!(end(3, 5, 7).len(), 22);
        assert_eq!(end(70_000, 5, 7).len(), 56 + 20 + 22);
    }
}
