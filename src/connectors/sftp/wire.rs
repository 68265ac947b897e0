//! Packets of SFTP version 3 (draft-ietf-secsh-filexfer-02): a length, a type, a request's number, then fields.
//!
//! Every length is checked against what is there before anything is taken or allocated; a packet that does not parse
//! is an error of the connection, because what follows it cannot be trusted either.
#![expect(clippy::big_endian_bytes, reason = "SFTP is big-endian by definition")]

/// The longest packet that is accepted, in bytes, its length field left aside: what OpenSSH sends at most.
pub(super) const MAX_PACKET: usize = (256 << 10) + 1024;
/// The longest packet that any server must take, in bytes.
pub(super) const SURE_PACKET: usize = 34_000;
/// The version spoken.
pub(super) const VERSION: u32 = 3;

/// Types of packets.
pub(super) mod kind {
    pub(in super::super) const INIT: u8 = 1;
    pub(in super::super) const VERSION: u8 = 2;
    pub(in super::super) const OPEN: u8 = 3;
    pub(in super::super) const CLOSE: u8 = 4;
    pub(in super::super) const READ: u8 = 5;
    pub(in super::super) const WRITE: u8 = 6;
    pub(in super::super) const LSTAT: u8 = 7;
    pub(in super::super) const FSTAT: u8 = 8;
    pub(in super::super) const SETSTAT: u8 = 9;
    pub(in super::super) const FSETSTAT: u8 = 10;
    pub(in super::super) const OPENDIR: u8 = 11;
    pub(in super::super) const READDIR: u8 = 12;
    pub(in super::super) const REMOVE: u8 = 13;
    pub(in super::super) const MKDIR: u8 = 14;
    pub(in super::super) const REALPATH: u8 = 16;
    pub(in super::super) const STAT: u8 = 17;
    pub(in super::super) const RENAME: u8 = 18;
    pub(in super::super) const READLINK: u8 = 19;
    pub(in super::super) const SYMLINK: u8 = 20;
    pub(in super::super) const STATUS: u8 = 101;
    pub(in super::super) const HANDLE: u8 = 102;
    pub(in super::super) const DATA: u8 = 103;
    pub(in super::super) const NAME: u8 = 104;
    pub(in super::super) const ATTRS: u8 = 105;
    pub(in super::super) const EXTENDED: u8 = 200;
    pub(in super::super) const EXTENDED_REPLY: u8 = 201;
}

/// Codes of a status: those of version 3, and later ones that some servers send all the same.
pub(super) mod status {
    pub(in super::super) const OK: u32 = 0;
    pub(in super::super) const EOF: u32 = 1;
    pub(in super::super) const NO_SUCH_FILE: u32 = 2;
    pub(in super::super) const PERMISSION_DENIED: u32 = 3;
    pub(in super::super) const BAD_MESSAGE: u32 = 5;
    pub(in super::super) const NO_CONNECTION: u32 = 6;
    pub(in super::super) const CONNECTION_LOST: u32 = 7;
    pub(in super::super) const UNSUPPORTED: u32 = 8;
    pub(in super::super) const NO_SUCH_PATH: u32 = 10;
    pub(in super::super) const ALREADY_EXISTS: u32 = 11;
    pub(in super::super) const WRITE_PROTECT: u32 = 12;
    pub(in super::super) const NO_SPACE: u32 = 14;
    pub(in super::super) const QUOTA: u32 = 15;
}

/// How a file is opened.
pub(super) mod open {
    pub(in super::super) const READ: u32 = 1;
    pub(in super::super) const WRITE: u32 = 2;
    pub(in super::super) const CREATE: u32 = 8;
    pub(in super::super) const EXCLUSIVE: u32 = 0x20;
}

const HAS_SIZE: u32 = 1;
const HAS_OWNER: u32 = 2;
const HAS_MODE: u32 = 4;
const HAS_TIMES: u32 = 8;
const HAS_MORE: u32 = 0x8000_0000;

/// What a server tells of a file, or is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Attrs {
    /// The length in bytes.
    pub(super) size: Option<u64>,
    /// User and group.
    pub(super) owner: Option<(u32, u32)>,
    /// `st_mode`, type bits included where the server sends them.
    pub(super) mode: Option<u32>,
    /// Access and modification in Unix seconds.
    pub(super) times: Option<(u32, u32)>,
}

impl Attrs {
    /// Returns attributes that are nothing but permissions.
    pub(super) fn permissions(mode: u32) -> Self {
        Self { mode: Some(mode), ..Self::default() }
    }

    fn encode(&self, to: &mut Vec<u8>) {
        let flag = |is: bool, bit: u32| if is { bit } else { 0 };
        let flags = flag(self.size.is_some(), HAS_SIZE)
            | flag(self.owner.is_some(), HAS_OWNER)
            | flag(self.mode.is_some(), HAS_MODE)
            | flag(self.times.is_some(), HAS_TIMES);
        to.extend(flags.to_be_bytes());
        if let Some(size) = self.size {
            to.extend(size.to_be_bytes());
        }
        if let Some((user, group)) = self.owner {
            to.extend(user.to_be_bytes());
            to.extend(group.to_be_bytes());
        }
        if let Some(mode) = self.mode {
            to.extend(mode.to_be_bytes());
        }
        if let Some((accessed, modified)) = self.times {
            to.extend(accessed.to_be_bytes());
            to.extend(modified.to_be_bytes());
        }
    }

    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let flags = fields.u32()?;
        let mut attrs = Self::default();
        if flags & HAS_SIZE != 0 {
            attrs.size = Some(fields.u64()?);
        }
        if flags & HAS_OWNER != 0 {
            attrs.owner = Some((fields.u32()?, fields.u32()?));
        }
        if flags & HAS_MODE != 0 {
            attrs.mode = Some(fields.u32()?);
        }
        if flags & HAS_TIMES != 0 {
            attrs.times = Some((fields.u32()?, fields.u32()?));
        }
        if flags & HAS_MORE != 0 {
            for _ in 0..fields.u32()? {
                fields.string()?;
                fields.string()?;
            }
        }
        Some(attrs)
    }
}

/// A request in the making. Its number is filled in when it is sent.
#[derive(Clone, Debug)]
pub(super) struct Packet(Vec<u8>);

impl Packet {
    /// Begins a request of a type.
    pub(super) fn new(kind: u8) -> Self {
        Self(vec![0, 0, 0, 0, kind, 0, 0, 0, 0])
    }

    /// Begins a request of an extension.
    pub(super) fn extended(name: &str) -> Self {
        Self::new(kind::EXTENDED).string(name)
    }

    /// Appends a number.
    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// Appends a long number.
    pub(super) fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// Appends a string of bytes.
    pub(super) fn string(mut self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.0.reserve(bytes.len() + 4);
        self.0.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends attributes.
    pub(super) fn attrs(mut self, attrs: &Attrs) -> Self {
        attrs.encode(&mut self.0);
        self
    }

    /// Returns the bytes to send under a number; `None` where the packet is too long for any server.
    pub(super) fn seal(mut self, id: u32) -> Option<Vec<u8>> {
        let length = u32::try_from(self.0.len() - 4).ok().filter(|length| *length as usize <= MAX_PACKET)?;
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        self.0[5..9].copy_from_slice(&id.to_be_bytes());
        Some(self.0)
    }

    /// Returns the first packet of a connection, which has a version where others have a number.
    pub(super) fn hello() -> Vec<u8> {
        [&5_u32.to_be_bytes()[..], &[kind::INIT], &VERSION.to_be_bytes()].concat()
    }
}

/// Returns a number as it is sent.
pub(super) fn bytes_of(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

/// Returns the length that a packet's first bytes tell; `None` where it is none that is accepted.
pub(super) fn length(head: [u8; 4]) -> Option<usize> {
    usize::try_from(u32::from_be_bytes(head)).ok().filter(|length| (1..=MAX_PACKET).contains(length))
}

/// One name in a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Named {
    /// The name as the server sends it: whatever it likes.
    pub(super) name: Vec<u8>,
    /// What it tells of it.
    pub(super) attrs: Attrs,
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Reply {
    /// How it went.
    Status {
        /// The code.
        code: u32,
        /// The server's words.
        message: String,
    },
    /// An opened file or folder.
    Handle(Vec<u8>),
    /// A part of a file: what follows `from` in the packet.
    Data {
        /// The whole packet, so that nothing is copied.
        packet: Vec<u8>,
        /// Where the data begin.
        from: usize,
    },
    /// Names.
    Names(Vec<Named>),
    /// Attributes.
    Attrs(Attrs),
    /// What an extension answers.
    Extended(Vec<u8>),
}

impl Reply {
    /// Decodes a packet without its length. Returns the request's number as well; `None` where it does not parse.
    pub(super) fn decode(packet: Vec<u8>) -> Option<(u32, Self)> {
        let mut fields = Fields(&packet);
        let kind = fields.u8()?;
        let id = fields.u32()?;
        let reply = match kind {
            kind::STATUS => {
                let code = fields.u32()?;
                // Servers older than version 3 send no words.
                let message = fields.string().map(|text| String::from_utf8_lossy(text).into_owned());
                Self::Status { code, message: message.unwrap_or_default() }
            }
            kind::HANDLE => Self::Handle(fields.string().filter(|handle| handle.len() <= 256)?.to_vec()),
            kind::DATA => {
                let length = fields.string()?.len();
                let from = packet.len() - fields.0.len() - length;
                let mut packet = packet;
                packet.truncate(from + length);
                return Some((id, Self::Data { packet, from }));
            }
            kind::NAME => {
                let count = fields.u32()?;
                let mut names = Vec::new();
                for _ in 0..count {
                    let name = fields.string()?.to_vec();
                    fields.string()?;
                    names.push(Named { name, attrs: Attrs::decode(&mut fields)? });
                }
                Self::Names(names)
            }
            kind::ATTRS => Self::Attrs(Attrs::decode(&mut fields)?),
            kind::EXTENDED_REPLY => Self::Extended(fields.0.to_vec()),
            _ => return None,
        };
        Some((id, reply))
    }
}

/// What a server can do besides the draft, by name, with the version of each.
pub(super) type Extensions = std::collections::BTreeMap<String, Vec<u8>>;

/// Reads the answer to [`Packet::hello`], without its length: the version and the extensions.
pub(super) fn decode_version(packet: &[u8]) -> Option<(u32, Extensions)> {
    let mut fields = Fields(packet);
    if fields.u8()? != kind::VERSION {
        return None;
    }
    let version = fields.u32()?;
    let mut extensions = Extensions::new();
    while !fields.0.is_empty() {
        let name = String::from_utf8_lossy(fields.string()?).into_owned();
        extensions.insert(name, fields.string()?.to_vec());
    }
    Some((version, extensions))
}

/// What is left of a packet.
#[derive(Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    /// Takes a number.
    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    /// Takes a long number.
    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    /// Takes a string of bytes.
    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(kind: u8, fields: &[&[u8]]) -> Vec<u8> {
        [&[kind, 0, 0, 0, 7][..], &fields.concat()].concat()
    }

    fn string(bytes: &[u8]) -> Vec<u8> {
        [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
    }

    #[test]
    fn attributes_round_trip_in_every_combination() {
        for bits in 0..16_u32 {
            let attrs = Attrs {
                size: (bits & 1 != 0).then_some(1 << 40),
                owner: (bits & 2 != 0).then_some((0o644, 0)),
                mode: (bits & 4 != 0).then_some(0o644),
                times: (bits & 8 != 0).then_some((0o644, 0)),
            };
            let mut bytes = Vec::new();
            attrs.encode(&mut bytes);
            let mut fields = Fields(&bytes);
            assert_eq!(Attrs::decode(&mut fields), Some(attrs));
            assert!(fields.0.is_empty());
        }
    }

    #[test]
    fn answers_are_decoded() {
        let data = packet(kind::DATA, &[&string(b"abc"), b"trailing"]);
        let Some((7, Reply::Data { packet: bytes, from })) = Reply::decode(data) else { panic!() };
        assert_eq!(&bytes[from..], b"abc");
        let names = packet(kind::NAME, &[&[0, 0, 0, 1], &string(b"n"), &string(b"long"), &[0; 4]]);
        let wanted = Reply::Names(vec![Named { name: b"n".to_vec(), attrs: Attrs::default() }]);
        assert_eq!(Reply::decode(names), Some((7, wanted)));
        let status = packet(kind::STATUS, &[&[0, 0, 0, 3]]);
        assert_eq!(Reply::decode(status), Some((7, Reply::Status { code: 3, message: String::new() })));
    }

    #[test]
    fn what_is_cut_short_or_lies_about_its_length_is_refused() {
        let whole = packet(kind::NAME, &[&[0, 0, 0, 2], &string(b"n"), &string(b""), &[0, 0, 0, 1], &[0; 8]]);
        for end in 0..=whole.len() {
            assert_eq!(Reply::decode(whole[..end].to_vec()), None, "{end}");
        }
        let endless = [0xff; 4];
        for kind in [kind::HANDLE, kind::DATA, kind::NAME, kind::ATTRS] {
            assert_eq!(Reply::decode(packet(kind, &[&endless])), None, "{kind}");
        }
        assert_eq!(Reply::decode(packet(99, &[])), None);
        for (head, wanted) in [([0; 4], None), ([0xff; 4], None), ([0, 0, 1, 0], Some(256))] {
            assert_eq!(length(head), wanted);
        }
        assert_eq!(Packet::new(kind::WRITE).string(vec![0; MAX_PACKET]).seal(1), None);
    }

    #[test]
    fn a_version_comes_with_extensions() {
        let hello = [&[kind::VERSION, 0, 0, 0, 3][..], &string(b"a@b"), &string(b"1")].concat();
        let (version, extensions) = decode_version(&hello).unwrap();
        assert_eq!((version, extensions.get("a@b").map(Vec::as_slice)), (3, Some(&b"1"[..])));
        assert_eq!(decode_version(&hello[..hello.len() - 1]), None);
        assert_eq!(decode_version(&[kind::STATUS, 0, 0, 0, 3]), None);
    }
}
