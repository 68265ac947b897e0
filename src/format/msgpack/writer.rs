//! Writing the canonical form.
#![expect(clippy::big_endian_bytes, reason = "msgpack is big-endian by definition")]

use crate::base::{Id, Timestamp};

/// Appends canonical msgpack to a buffer.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    /// Creates a writer that appends to `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    fn tagged<const N: usize>(&mut self, tag: u8, bytes: [u8; N]) {
        self.out.push(tag);
        self.out.extend_from_slice(&bytes);
    }

    /// Writes null.
    pub fn nil(&mut self) {
        self.out.push(0xc0);
    }

    /// Writes a boolean.
    pub fn bool(&mut self, value: bool) {
        self.out.push(if value { 0xc3 } else { 0xc2 });
    }

    /// Writes a `u8` field: always two bytes.
    pub fn u8(&mut self, value: u8) {
        self.tagged(0xcc, [value]);
    }

    /// Writes a `u16` field: always three bytes.
    pub fn u16(&mut self, value: u16) {
        self.tagged(0xcd, value.to_be_bytes());
    }

    /// Writes a `u32` field: always five bytes.
    pub fn u32(&mut self, value: u32) {
        self.tagged(0xce, value.to_be_bytes());
    }

    /// Writes a `u64` field: always nine bytes.
    pub fn u64(&mut self, value: u64) {
        self.tagged(0xcf, value.to_be_bytes());
    }

    /// Writes an `i64` field: always nine bytes.
    pub fn i64(&mut self, value: i64) {
        self.tagged(0xd3, value.to_be_bytes());
    }

    /// Writes an `f64` field: always nine bytes.
    pub fn f64(&mut self, value: f64) {
        self.tagged(0xcb, value.to_bits().to_be_bytes());
    }

    /// Writes an `int` field: the shortest form.
    pub fn int(&mut self, value: i64) {
        if let Ok(value) = u64::try_from(value) {
            if let Ok(byte) = u8::try_from(value) {
                if byte < 0x80 { self.out.push(byte) } else { self.u8(byte) }
            } else if let Ok(value) = u16::try_from(value) {
                self.u16(value);
            } else if let Ok(value) = u32::try_from(value) {
                self.u32(value);
            } else {
                self.u64(value);
            }
        } else if let Ok(value) = i8::try_from(value) {
            let [byte] = value.to_be_bytes();
            if value >= -32 { self.out.push(byte) } else { self.tagged(0xd0, [byte]) }
        } else if let Ok(value) = i16::try_from(value) {
            self.tagged(0xd1, value.to_be_bytes());
        } else if let Ok(value) = i32::try_from(value) {
            self.tagged(0xd2, value.to_be_bytes());
        } else {
            self.i64(value);
        }
    }

    /// Writes a length in the shortest of up to three widths.
    fn length(&mut self, len: usize, tag8: Option<u8>, tag16: u8, tag32: u8) {
        if let (Ok(len), Some(tag)) = (u8::try_from(len), tag8) {
            self.tagged(tag, [len]);
        } else if let Ok(len) = u16::try_from(len) {
            self.tagged(tag16, len.to_be_bytes());
        } else {
            let len = u32::try_from(len).expect("no field of a record reaches 4 GiB");
            self.tagged(tag32, len.to_be_bytes());
        }
    }

    /// Writes a string, which need not be UTF-8. It must be shorter than 4 GiB.
    pub fn str(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        match u8::try_from(bytes.len()) {
            Ok(len) if len < 32 => self.out.push(0xa0 | len),
            _ => self.length(bytes.len(), Some(0xd9), 0xda, 0xdb),
        }
        self.out.extend_from_slice(bytes);
    }

    /// Writes a byte string shorter than 4 GiB.
    pub fn bin(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.length(bytes.len(), Some(0xc4), 0xc5, 0xc6);
        self.out.extend_from_slice(bytes);
    }

    /// Writes a byte string, null when it is empty.
    pub fn bin_or_nil(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        if bytes.is_empty() { self.nil() } else { self.bin(bytes) }
    }

    /// Writes an identifier.
    pub fn id(&mut self, id: &Id) {
        self.bin(id.as_bytes());
    }

    /// Writes the header of an array; the items follow.
    pub fn array(&mut self, len: usize) {
        match u8::try_from(len) {
            Ok(len) if len < 16 => self.out.push(0x90 | len),
            _ => self.length(len, None, 0xdc, 0xdd),
        }
    }

    /// Writes an array, empty or not.
    pub fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Writer<'_>, &T)) {
        self.array(items.len());
        for item in items {
            each(self, item);
        }
    }

    /// Writes an array, null when it is empty.
    pub fn list_or_nil<T>(&mut self, items: &[T], each: impl FnMut(&mut Writer<'_>, &T)) {
        if items.is_empty() { self.nil() } else { self.list(items, each) }
    }

    /// Writes the header of a map; the keys and values follow.
    pub fn map_header(&mut self, len: usize) {
        match u8::try_from(len) {
            Ok(len) if len < 16 => self.out.push(0x80 | len),
            _ => self.length(len, None, 0xde, 0xdf),
        }
    }

    /// Writes a map; its length is what `fill` writes.
    pub fn map(&mut self, fill: impl FnOnce(&mut MapWriter<'_>)) {
        let start = self.out.len();
        self.out.push(0x80);
        let mut map = MapWriter { out: self.out, count: 0 };
        fill(&mut map);
        let count = map.count;
        if count < 16 {
            self.out[start] |= u8::try_from(count).expect("below 16");
        } else {
            // Rare (headers, busy summaries): the one-byte header was too short, so everything moves.
            let mut header = Vec::with_capacity(5);
            Writer::new(&mut header).map_header(count);
            self.out.splice(start..=start, header);
        }
    }

    /// Writes a timestamp (extension type -1) in the shortest of its three forms.
    pub fn time(&mut self, time: Timestamp) {
        let nanos = time.nanos;
        match (u32::try_from(time.secs), u64::try_from(time.secs)) {
            (Ok(secs), _) if nanos == 0 => {
                self.out.extend_from_slice(&[0xd6, 0xff]);
                self.out.extend_from_slice(&secs.to_be_bytes());
            }
            (_, Ok(secs)) if secs < 1 << 34 => {
                self.out.extend_from_slice(&[0xd7, 0xff]);
                self.out.extend_from_slice(&(u64::from(nanos) << 34 | secs).to_be_bytes());
            }
            _ => {
                self.out.extend_from_slice(&[0xc7, 0x0c, 0xff]);
                self.out.extend_from_slice(&nanos.to_be_bytes());
                self.out.extend_from_slice(&time.secs.to_be_bytes());
            }
        }
    }
}

/// Writes the keys of one map, counting them.
#[derive(Debug)]
pub struct MapWriter<'a> {
    out: &'a mut Vec<u8>,
    count: usize,
}

impl MapWriter<'_> {
    /// Writes a key; exactly one value must be written to the writer returned.
    pub fn key(&mut self, key: &str) -> Writer<'_> {
        self.count += 1;
        let mut writer = Writer::new(self.out);
        writer.str(key);
        writer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut Writer::new(&mut out));
        out
    }

    #[test]
    fn integers_take_the_shortest_form() {
        for (value, bytes) in [
            (0, &[0][..]),
            (127, &[0x7f]),
            (128, &[0xcc, 0x80]),
            (256, &[0xcd, 1, 0]),
            (131_072, &[0xce, 0, 2, 0, 0]),
            (1 << 32, &[0xcf, 0, 0, 0, 1, 0, 0, 0, 0]),
            (-1, &[0xff]),
            (-32, &[0xe0]),
            (-33, &[0xd0, 0xdf]),
            (-129, &[0xd1, 0xff, 0x7f]),
            (-32_769, &[0xd2, 0xff, 0xff, 0x7f, 0xff]),
        ] {
            assert_eq!(written(|w| w.int(value)), bytes, "{value}");
        }
        assert_eq!(written(|w| w.int(i64::MIN))[..2], [0xd3, 0x80]);
    }

    #[test]
    fn lengths_take_the_shortest_form() {
        assert_eq!(written(|w| w.str([b'x'; 31]))[0], 0xbf);
        assert_eq!(written(|w| w.str([b'x'; 32]))[..2], [0xd9, 32]);
        assert_eq!(written(|w| w.str([b'x'; 256]))[..3], [0xda, 1, 0]);
        assert_eq!(written(|w| w.str(vec![b'x'; 65_536]))[..5], [0xdb, 0, 1, 0, 0]);
        assert_eq!(written(|w| w.bin([])), [0xc4, 0]);
        assert_eq!(written(|w| w.bin([0; 256]))[..3], [0xc5, 1, 0]);
        assert_eq!(written(|w| w.array(15)), [0x9f]);
        assert_eq!(written(|w| w.array(16)), [0xdc, 0, 16]);
        assert_eq!(written(|w| w.map_header(65_536)), [0xdf, 0, 1, 0, 0]);
    }

    #[test]
    fn a_map_grows_past_fifteen_keys() {
        let bytes = written(|w| {
            w.map(|m| {
                for _ in 0..17 {
                    m.key("k").nil();
                }
            });
        });
        assert_eq!(bytes[..5], [0xde, 0, 17, 0xa1, b'k']);
        assert_eq!(bytes.len(), 3 + 17 * 3);
    }

    #[test]
    fn times_take_one_of_three_forms() {
        assert_eq!(written(|w| w.time(Timestamp::from_secs(1))), [0xd6, 0xff, 0, 0, 0, 1]);
        assert_eq!(
            written(|w| w.time(Timestamp { secs: 1_700_000_000, nanos: 5 })),
            [0xd7, 0xff, 0, 0, 0, 0x14, 0x65, 0x53, 0xf1, 0]
        );
        assert_eq!(written(|w| w.time(Timestamp::from_secs(1 << 32)))[..2], [0xd7, 0xff]);
        assert_eq!(
            written(|w| w.time(Timestamp::ZERO)),
            [0xc7, 0x0c, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xf1, 0x88, 0x6e, 0x09, 0]
        );
        assert_eq!(written(|w| w.time(Timestamp::from_secs(1 << 34)))[..3], [0xc7, 0x0c, 0xff]);
    }
}
