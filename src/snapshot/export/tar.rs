//! POSIX tar (pax): IEEE Std 1003.1, "pax", ustar and pax interchange formats. Extended attributes are
//! `SCHILY.xattr.NAME` records, which GNU tar, bsdtar and star read.

use std::io::Write;

use crate::base::Timestamp;
use crate::format::entry::Entry;

use super::read::Member;
use super::run::{ExportError, Format};

const BLOCK: usize = 512;
/// Where the fields of a header begin and end.
const NAME: std::ops::Range<usize> = 0..100;
const MODE: std::ops::Range<usize> = 100..108;
const UID: std::ops::Range<usize> = 108..116;
const GID: std::ops::Range<usize> = 116..124;
const SIZE: std::ops::Range<usize> = 124..136;
const MTIME: std::ops::Range<usize> = 136..148;
const CHECKSUM: std::ops::Range<usize> = 148..156;
const TYPE: usize = 156;
const LINK: std::ops::Range<usize> = 157..257;
const MAGIC: std::ops::Range<usize> = 257..265;
const USER: std::ops::Range<usize> = 265..297;
const GROUP: std::ops::Range<usize> = 297..329;
const MAJOR: std::ops::Range<usize> = 329..337;
const MINOR: std::ops::Range<usize> = 337..345;

/// Writes a tar archive.
pub(super) struct TarWriter<'a> {
    out: &'a mut dyn Write,
    /// Bytes of the current member's content so far.
    position: u64,
}

impl<'a> TarWriter<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, position: 0 }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        self.out.write_all(bytes).map_err(ExportError::Write)
    }

    fn pad(&mut self, length: u64) -> Result<(), ExportError> {
        let over = usize::try_from(length % BLOCK as u64).expect("less than a block");
        if over == 0 { Ok(()) } else { self.write(&[0; BLOCK][over..]) }
    }

    /// Writes the records that the next header has no place for.
    fn extended(&mut self, of: &[u8], records: &[u8]) -> Result<(), ExportError> {
        let mut header = Header::new();
        let base = of.rsplit(|&byte| byte == b'/').find(|part| !part.is_empty()).unwrap_or(b"root");
        let name = [b"PaxHeaders/", &base[..base.len().min(80)]].concat();
        header.text(NAME, &name);
        header.number(MODE, 0o644);
        header.number(UID, 0);
        header.number(GID, 0);
        header.number(SIZE, records.len() as u64);
        header.number(MTIME, 0);
        self.write(&header.finish(b'x'))?;
        self.write(records)?;
        self.pad(records.len() as u64)
    }
}

impl Format for TarWriter<'_> {
    fn begin(&mut self, member: &Member) -> Result<Result<(), &'static str>, ExportError> {
        let (entry, mode) = (&member.entry, member.entry.info.mode);
        let kind = match mode {
            _ if member.link.is_some() => b'1',
            mode if mode.is_regular() => b'0',
            mode if mode.is_symlink() => b'2',
            mode if mode.is_char_device() => b'3',
            mode if mode.is_device() => b'4',
            mode if mode.is_dir() => b'5',
            mode if mode.is_pipe() => b'6',
            mode if mode.is_socket() => return Ok(Err("tar holds no sockets")),
            _ => return Ok(Err("tar holds nothing of this kind")),
        };
        let mut header = Header::new();
        if let b'3' | b'4' = kind {
            let Some((major, minor)) = device_number(entry) else {
                return Ok(Err("the snapshot does not know the number of the device"));
            };
            header.number(MAJOR, major);
            header.number(MINOR, minor);
        }
        let mut records = Records::default();
        header.describe(member, kind, &mut records);
        for xattr in &member.xattrs {
            records.push(&[b"SCHILY.xattr.", xattr.name.as_bytes()].concat(), &xattr.value);
        }
        let records = records.finish();
        if !records.is_empty() {
            self.extended(&member.name, &records)?;
        }
        self.position = 0;
        self.write(&header.finish(kind))?;
        Ok(Ok(()))
    }

    fn content(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        self.position += bytes.len() as u64;
        self.write(bytes)
    }

    fn end(&mut self) -> Result<(), ExportError> {
        self.pad(self.position)
    }

    fn finish(&mut self) -> Result<(), ExportError> {
        self.write(&[0; 2 * BLOCK])
    }
}

/// Takes the number of a device apart as Linux puts it together (makedev(3)).
fn device_number(entry: &Entry) -> Option<(u64, u64)> {
    let number = u64::from_le_bytes(entry.metadata("unix.rdev")?.try_into().ok()?);
    let major = (number >> 8 & 0xfff) | (number >> 32 & !0xfff);
    let minor = (number & 0xff) | (number >> 12 & 0xffff_ff00);
    Some((major, minor))
}

/// The header of a member.
struct Header([u8; BLOCK]);

impl Header {
    fn new() -> Self {
        let mut header = Self([0; BLOCK]);
        header.0[MAGIC].copy_from_slice(b"ustar\x0000");
        header
    }

    /// Fills the fields; what they cannot hold becomes a record.
    fn describe(&mut self, member: &Member, kind: u8, records: &mut Records) {
        let info = &member.entry.info;
        let mut name = if member.name.is_empty() { b".".to_vec() } else { member.name.clone() };
        if kind == b'5' {
            name.push(b'/');
        }
        self.text_or(NAME, &name, "path", records);
        let target = member.link.as_deref().unwrap_or(&member.entry.symlink_target);
        if let b'1' | b'2' = kind {
            self.text_or(LINK, target, "linkpath", records);
        }
        self.text_or(USER, &info.user, "uname", records);
        self.text_or(GROUP, &info.group, "gname", records);
        self.number(MODE, u64::from(info.mode.to_unix() & 0o7777));
        self.number_or(UID, info.uid, "uid", records);
        self.number_or(GID, info.gid, "gid", records);
        self.number_or(SIZE, member.size, "size", records);
        let seconds = u64::try_from(info.modified.secs).ok().filter(|secs| fits(&MTIME, *secs));
        self.number(MTIME, seconds.unwrap_or(0));
        if seconds.is_none() || info.modified.nanos > 0 {
            records.push(b"mtime", decimal(info.modified).as_bytes());
        }
    }

    fn text(&mut self, field: std::ops::Range<usize>, text: &[u8]) {
        let length = text.len().min(field.len());
        self.0[field.start..field.start + length].copy_from_slice(&text[..length]);
    }

    fn text_or(&mut self, field: std::ops::Range<usize>, text: &[u8], key: &str, records: &mut Records) {
        // The names of users and groups end in a NUL; paths may fill their field.
        let room = if field == USER || field == GROUP { field.len() - 1 } else { field.len() };
        if text.len() > room || !text.is_ascii() {
            records.push(key.as_bytes(), text);
        }
        self.text(field.start..field.start + room, text);
    }

    /// Writes an octal number that is known to fit.
    fn number(&mut self, field: std::ops::Range<usize>, number: u64) {
        let digits = format!("{number:0width$o}", width = field.len() - 1);
        self.text(field.clone(), &digits.as_bytes()[digits.len().saturating_sub(field.len() - 1)..]);
    }

    fn number_or(&mut self, field: std::ops::Range<usize>, number: u64, key: &str, records: &mut Records) {
        if fits(&field, number) {
            self.number(field, number);
        } else {
            records.push(key.as_bytes(), number.to_string().as_bytes());
            self.number(field, 0);
        }
    }

    fn finish(mut self, kind: u8) -> [u8; BLOCK] {
        self.0[TYPE] = kind;
        self.0[CHECKSUM].fill(b' ');
        let sum: u64 = self.0.iter().map(|&byte| u64::from(byte)).sum();
        let digits = format!("{sum:06o}\0 ");
        self.0[CHECKSUM].copy_from_slice(digits.as_bytes());
        self.0
    }
}

/// Returns whether a number fits a field of octal digits and a NUL.
fn fits(field: &std::ops::Range<usize>, number: u64) -> bool {
    number < 1 << (3 * (field.len() - 1))
}

/// Spells a time in decimal seconds. Before 1970, the whole is negative and so is its fraction.
fn decimal(time: Timestamp) -> String {
    let (secs, nanos) = (time.secs, time.nanos);
    let text = match (secs < 0, nanos) {
        (_, 0) => return secs.to_string(),
        (false, nanos) => format!("{secs}.{nanos:09}"),
        (true, nanos) => format!("-{}.{:09}", -(secs + 1), 1_000_000_000 - nanos),
    };
    text.trim_end_matches('0').to_owned()
}

/// The records of an extended header: `LENGTH KEY=VALUE\n`, the length counting itself.
#[derive(Default)]
struct Records {
    bytes: Vec<u8>,
    /// Whether a value is not UTF-8, which has to be announced.
    binary: bool,
}

impl Records {
    fn push(&mut self, key: &[u8], value: &[u8]) {
        // Attributes are bytes by their nature.
        self.binary |= !key.starts_with(b"SCHILY.") && std::str::from_utf8(value).is_err();
        let record = Self::record(key, value);
        self.bytes.extend_from_slice(&record);
    }

    fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + rest.to_string().len();
        if length.to_string().len() > rest.to_string().len() {
            length = rest + length.to_string().len();
        }
        [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
    }

    fn finish(self) -> Vec<u8> {
        if self.binary { [Self::record(b"hdrcharset", b"BINARY"), self.bytes].concat() } else { self.bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::{CustomMetadata, FileInfo, Mode};

    #[test]
    fn records_count_themselves() {
        for length in 0..2000 {
            let record = Records::record(b"path", &vec![b'x'; length]);
            let digits = record.split(|&byte| byte == b' ').next().unwrap();
            assert_eq!(std::str::from_utf8(digits).unwrap().parse(), Ok(record.len()));
        }
        assert_eq!(Records::record(b"mtime", b"1.5"), b"13 mtime=1.5\n");
    }

    #[test]
    fn times_before_1970_are_negative() {
        let time = |secs, nanos| decimal(Timestamp { secs, nanos });
        assert_eq!(time(5, 500_000_000), "5.5");
        assert_eq!(time(-1, 0), "-1");
        assert_eq!(time(-1, 750_000_000), "-0.25");
        assert_eq!(time(-2, 1), "-1.999999999");
    }

    #[test]
    fn headers_are_those_of_ustar() {
        let mut info = FileInfo::new("a", Mode::from_unix(0o104_755));
        (info.uid, info.gid, info.modified) = (1000, u64::from(u32::MAX), Timestamp::from_secs(1));
        let entry = Entry::new("/", info);
        let name = b"a".to_vec();
        let member = Member { name, entry, xattrs: Vec::new(), size: 3, link: None };
        let mut out = Vec::new();
        let mut tar = TarWriter::new(&mut out);
        assert_eq!(tar.begin(&member).unwrap(), Ok(()));
        tar.content(b"abc").unwrap();
        tar.end().unwrap();
        tar.finish().unwrap();
        assert_eq!(out.len(), 6 * BLOCK);
        assert_eq!(&out[BLOCK..BLOCK + 18], b"18 gid=4294967295\n");
        let header = &out[2 * BLOCK..3 * BLOCK];
        assert_eq!(&header[MODE], b"0004755\0");
        assert_eq!(&header[UID], b"0001750\0");
        assert_eq!(&header[SIZE], b"00000000003\0");
        assert_eq!(&out[3 * BLOCK..3 * BLOCK + 4], b"abc\0");
    }

    #[test]
    fn devices_have_two_numbers() {
        let mut entry = Entry::new("/", FileInfo::new("d", Mode::from_unix(0o020_600)));
        assert_eq!(device_number(&entry), None);
        let number = 0x0000_0801_u64.to_le_bytes().to_vec();
        entry.metadata.push(CustomMetadata { key: "unix.rdev".into(), value: number });
        assert_eq!(device_number(&entry), Some((8, 1)));
    }
}
