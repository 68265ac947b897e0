//! Extended headers: POSIX.1-2001, "pax Extended Header", with the keywords of GNU tar, star and libarchive.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::sparse::{Piece, SparseKeys};
use crate::base::Timestamp;
use crate::connector::Xattr;

/// The most extended attributes of one member.
const MOST_XATTRS: usize = 1024;

/// What extended headers say of a member; nothing where they do not.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) user: Option<Vec<u8>>,
    pub(super) group: Option<Vec<u8>>,
    pub(super) mtime: Option<Timestamp>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) sparse: SparseKeys,
}

impl Extended {
    /// Takes the records of an extended header; an error says what is wrong with it.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        const WRONG: &str = "an extended header is malformed";
        while !bytes.is_empty() {
            let blank = bytes.iter().take(20).position(|byte| *byte == b' ').ok_or(WRONG)?;
            let length =
                decimal(&bytes[..blank]).and_then(|length| usize::try_from(length).ok()).ok_or(WRONG)?;
            if length <= blank + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
                return Err(WRONG);
            }
            let record = &bytes[blank + 1..length - 1];
            bytes = &bytes[length..];
            let equals = record.iter().position(|byte| *byte == b'=').ok_or(WRONG)?;
            self.set(&record[..equals], &record[equals + 1..])?;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        // An empty value takes back what a global header said.
        let text = (!value.is_empty()).then(|| value.to_vec());
        let number = |wrong| match value {
            [] => Ok(None),
            _ => decimal(value).map(Some).ok_or(wrong),
        };
        match key {
            b"path" => self.path = text,
            b"linkpath" => self.link = text,
            b"uname" => self.user = text,
            b"gname" => self.group = text,
            b"size" => self.size = number("a size is no number")?,
            b"uid" => self.uid = number("an owner is no number")?,
            b"gid" => self.gid = number("a group is no number")?,
            b"mtime" => {
                self.mtime = match value {
                    [] => None,
                    _ => Some(time(value).ok_or("a time is no number")?),
                };
            }
            b"RHT.security.selinux" => self.xattr(b"security.selinux", value)?,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattr(name, value)?;
                } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    self.libarchive(name, value)?;
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.set(key, value)?;
                }
            }
        }
        Ok(())
    }

    fn xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if name.is_empty() || name.contains(&0) {
            return Ok(());
        }
        self.xattrs.insert(name.to_vec(), value.to_vec());
        if self.xattrs.len() > MOST_XATTRS {
            return Err("a member has more than 1024 extended attributes");
        }
        Ok(())
    }

    /// Takes an attribute in libarchive's spelling, unless it stands there in the other one, too.
    fn libarchive(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let name: Vec<u8> = percent_encoding::percent_decode(name).collect();
        if self.xattrs.contains_key(&name) {
            return Ok(());
        }
        match STANDARD_NO_PAD.decode(value).or_else(|_| STANDARD.decode(value)) {
            Ok(value) => self.xattr(&name, &value),
            Err(_) => Ok(()),
        }
    }

    /// Takes the extended attributes out.
    pub(super) fn take_xattrs(&mut self) -> Vec<Xattr> {
        let xattrs = std::mem::take(&mut self.xattrs);
        xattrs.into_iter().map(|(name, value)| Xattr { name: name.into(), value }).collect()
    }

    /// Returns about how many bytes are held, those of every name and value: what a copy takes.
    pub(super) fn held(&self) -> u64 {
        let texts = [&self.path, &self.link, &self.user, &self.group, &self.sparse.name];
        let texts = texts.into_iter().flatten().map(Vec::len).sum::<usize>();
        let xattrs: usize = self.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        let pieces = self.sparse.map().map_or(0, std::mem::size_of_val);
        (texts + xattrs + pieces) as u64
    }

    /// Takes the map of a sparse file, if there is one.
    pub(super) fn sparse_map(&self) -> Option<&[Piece]> {
        self.sparse.map()
    }
}

/// Reads a decimal number without a sign.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok()
}

/// Reads seconds with a fraction, such as `-1.5`.
fn time(text: &[u8]) -> Option<Timestamp> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let secs = i64::try_from(decimal(parts.next()?)?).ok()?;
    let mut nanos = 0_u32;
    if let Some(fraction) = parts.next().filter(|fraction| !fraction.is_empty()) {
        decimal(&fraction[..fraction.len().min(18)])?;
        for at in 0..9 {
            nanos = nanos * 10 + u32::from(fraction.get(at).map_or(0, |digit| digit - b'0'));
        }
    }
    Some(match (negative, nanos) {
        (false, _) => Timestamp { secs, nanos },
        (true, 0) => Timestamp { secs: -secs, nanos: 0 },
        (true, _) => Timestamp { secs: -secs - 1, nanos: 1_000_000_000 - nanos },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(bytes: &[u8]) -> Result<Extended, &'static str> {
        let mut extended = Extended::default();
        extended.take(bytes).map(|()| extended)
    }

    /// A record with the length of itself before it.
    fn record(text: &[u8]) -> Vec<u8> {
        let length = (0..=text.len() + 24)
            .find(|length: &usize| *length == length.to_string().len() + 2 + text.len())
            .unwrap();
        [length.to_string().as_bytes(), b" ", text, b"\n"].concat()
    }

    #[test]
    fn records_say_what_fields_cannot() {
        let texts = [&b"path=a/b"[..], b"mtime=1.5000000001", b"size=10", b"uname=x=y"];
        let found = taken(&texts.map(record).concat()).unwrap();
        assert_eq!(found.path.as_deref(), Some(&b"a/b"[..]));
        assert_eq!(found.user.as_deref(), Some(&b"x=y"[..]));
        assert_eq!((found.size, found.mtime), (Some(10), Some(Timestamp { secs: 1, nanos: 500_000_000 })));
        assert_eq!(time(b"-1.25"), Some(Timestamp { secs: -2, nanos: 750_000_000 }));
        assert_eq!(time(b"-3"), Some(Timestamp { secs: -3, nanos: 0 }));
        let xattr = |name: &str, value: &[u8]| Xattr { name: name.into(), value: value.to_vec() };
        let mut found = taken(&record(b"SCHILY.xattr.user.a=x\n=\0\xff\xfe ")).unwrap();
        assert_eq!(found.take_xattrs(), [xattr("user.a", b"x\n=\0\xff\xfe ")]);
        let mut found = taken(&record(b"LIBARCHIVE.xattr.user.a%20b=aGk=")).unwrap();
        assert_eq!(found.take_xattrs(), [xattr("user.a b", b"hi")]);
        // Of two spellings libarchive's gives way, of one the last counts.
        let texts = [
            &b"LIBARCHIVE.xattr.user.a=aGk="[..],
            b"SCHILY.xattr.user.a=one",
            b"LIBARCHIVE.xattr.user.a=aGk",
        ];
        let mut found = taken(&texts.map(record).concat()).unwrap();
        assert_eq!(found.take_xattrs(), [xattr("user.a", b"one")]);
        let texts = [&b"SCHILY.xattr.user.a=one"[..], b"SCHILY.xattr.user.a=two"];
        assert_eq!(taken(&texts.map(record).concat()).unwrap().take_xattrs(), [xattr("user.a", b"two")]);
    }

    #[test]
    fn attributes_of_a_member_are_counted() {
        for spelling in ["SCHILY", "LIBARCHIVE"] {
            let records = |count: usize| -> Vec<u8> {
                (0..count)
                    .flat_map(|n| record(format!("{spelling}.xattr.user.{n}=aGk=").as_bytes()))
                    .collect()
            };
            assert_eq!(taken(&records(MOST_XATTRS)).unwrap().take_xattrs().len(), MOST_XATTRS);
            assert!(taken(&records(MOST_XATTRS + 1)).unwrap_err().contains("more than 1024"));
            let twice = [records(MOST_XATTRS), records(MOST_XATTRS)].concat();
            assert_eq!(
                taken(&twice).unwrap().take_xattrs().len(),
                MOST_XATTRS,
                "the same once more is no other"
            );
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        for wrong in [
            &b"x"[..],
            b"12 path=a/b",
            b"99 path=a/b\n",
            b"3 \n",
            b"0 path=a/b\n",
            b"11 pathab/c\n",
            b"11 size=-1\n",
            b"99999999999999999999 a=b\n",
            b"12 mtime=1x\n",
        ] {
            assert!(taken(wrong).is_err(), "{}", wrong.escape_ascii());
        }
    }
}
