//! Finding cut points.

use std::fmt;

use fastcdc::v2020;
use zeroize::Zeroizing;

use super::gear::GEAR;
use super::params::{ChunkerAlgorithm, ChunkerError, ChunkerParams};

/// Upstream's fixed masks, made for chunks of 8 KiB.
const FIXED_SMALL: u64 = 0x0003_5907_0353_0000;
const FIXED_LARGE: u64 = 0x0000_d900_0353_0000;
/// The sizes for which also `fastcdc-v1.0.0` takes the fixed masks.
const FIXED_SIZES: (u32, u32, u32) = (2048, 8192, 65536);

/// Finds where contents are cut. Free of state: safe to share between threads.
#[derive(Clone)]
pub struct Chunker {
    params: ChunkerParams,
    min: usize,
    normal: usize,
    max: usize,
    /// The masks before and after the normal size.
    masks: (u64, u64),
    rule: Rule,
}

#[derive(Clone)]
enum Rule {
    Upstream,
    FastCdc2020,
    /// The secret table.
    Keyed(Box<Zeroizing<[u64; 256]>>),
}

impl Chunker {
    /// Creates a chunker of one of the algorithms without a key.
    pub fn new(params: ChunkerParams) -> Result<Self, ChunkerError> {
        Self::with_table(params, None)
    }

    /// Creates a chunker for `fastcdc2020-keyed` with its secret table.
    pub fn keyed(params: ChunkerParams, table: &[u64; 256]) -> Result<Self, ChunkerError> {
        Self::with_table(params, Some(table))
    }

    fn with_table(params: ChunkerParams, table: Option<&[u64; 256]>) -> Result<Self, ChunkerError> {
        params.check()?;
        let algorithm = params.algorithm;
        let rule = match (algorithm, table) {
            (ChunkerAlgorithm::FastCdcV1 | ChunkerAlgorithm::FastCdcLegacy, None) => Rule::Upstream,
            (ChunkerAlgorithm::FastCdc2020, None) => Rule::FastCdc2020,
            (ChunkerAlgorithm::FastCdc2020Keyed, Some(table)) => {
                Rule::Keyed(Box::new(Zeroizing::new(*table)))
            }
            (ChunkerAlgorithm::FastCdc2020Keyed, None) => {
                return Err(ChunkerError::Table { algorithm, wanted: true });
            }
            (_, Some(_)) => return Err(ChunkerError::Table { algorithm, wanted: false }),
        };
        let masks = match algorithm {
            ChunkerAlgorithm::FastCdcLegacy => (FIXED_SMALL, FIXED_LARGE),
            ChunkerAlgorithm::FastCdcV1 if (params.min, params.normal, params.max) == FIXED_SIZES => {
                (FIXED_SMALL, FIXED_LARGE)
            }
            ChunkerAlgorithm::FastCdcV1 => {
                let bits = params.normal.ilog2();
                (spread_mask(bits + 2), spread_mask(bits - 2))
            }
            ChunkerAlgorithm::FastCdc2020 | ChunkerAlgorithm::FastCdc2020Keyed => {
                v2020::select_masks(params.normal as usize, v2020::Normalization::Level1)
            }
        };
        let [min, normal, max] = [params.min, params.normal, params.max].map(|size| size as usize);
        Ok(Self { params, min, normal, max, masks, rule })
    }

    /// Returns the parameters.
    pub fn params(&self) -> ChunkerParams {
        self.params
    }

    /// Returns the largest chunk size: what [`cut`](Self::cut) wants to see unless the content ends before.
    pub fn max_size(&self) -> usize {
        self.max
    }

    /// Returns the length of the first chunk of `data`.
    ///
    /// `data` is the rest of the content, or at least [`max_size`](Self::max_size) bytes of it. With less, a chunk
    /// that is shorter than `data` is the right one all the same, and one as long may only end there because the
    /// buffer does. Returns 0 only for empty data; an empty content is one empty chunk.
    pub fn cut(&self, data: &[u8]) -> usize {
        let data = &data[..data.len().min(self.max)];
        match &self.rule {
            Rule::Upstream => self.cut_before(data, data.len(), &GEAR),
            Rule::FastCdc2020 => self.cut_before(data, data.len() & !1, v2020_table()),
            Rule::Keyed(table) => self.cut_before(data, data.len() & !1, table),
        }
    }

    /// Cut point of FORMAT.md, chunking: the first `min` bytes never enter the fingerprint, and the byte that
    /// triggers a cut begins the next chunk. Bytes from `end` on trigger none.
    ///
    /// Why not by the `fastcdc` crate, whose algorithm two of the three are: it looks at bytes in pairs, which gives
    /// the same cuts but that the last of an odd number of bytes is not looked at, and waits twice in each pair for
    /// what was computed before.
    fn cut_before(&self, data: &[u8], end: usize, gear: &[u64; 256]) -> usize {
        if data.len() <= self.min {
            return data.len();
        }
        let middle = self.normal.min(end);
        let mut fingerprint = 0;
        if let Some(at) = scan(&data[self.min..middle], gear, &mut fingerprint, self.masks.0) {
            return self.min + at;
        }
        match scan(&data[middle..end], gear, &mut fingerprint, self.masks.1) {
            Some(at) => middle + at,
            None => data.len(),
        }
    }
}

impl fmt::Debug for Chunker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunker").field("params", &self.params).finish_non_exhaustive()
    }
}

/// A mask of `count` one bits at positions 63, 63 - s, 63 - 2s, … with s = ⌊64 / count⌋.
fn spread_mask(count: u32) -> u64 {
    (0..count).fold(0, |mask, at| mask | 1 << (63 - at * (64 / count)))
}

/// Rolls over `data`, f = 2f + G\[byte\], and returns the first place where f & mask = 0.
///
/// Four bytes at a time: each step depends on the one before through two instructions, which would bound the
/// speed. Expanded, f after four bytes is 16f + (8a + 4b + 2c + d), where only the first term waits.
fn scan(data: &[u8], gear: &[u64; 256], fingerprint: &mut u64, mask: u64) -> Option<usize> {
    let gear = |byte: u8| gear[usize::from(byte)];
    let mut f = *fingerprint;
    let (quads, rest) = data.as_chunks::<4>();
    for (at, &[a, b, c, d]) in quads.iter().enumerate() {
        let ahead1 = gear(a);
        let ahead2 = (ahead1 << 1).wrapping_add(gear(b));
        let ahead3 = (ahead2 << 1).wrapping_add(gear(c));
        let ahead4 = (ahead3 << 1).wrapping_add(gear(d));
        let steps = [
            (f << 1).wrapping_add(ahead1),
            (f << 2).wrapping_add(ahead2),
            (f << 3).wrapping_add(ahead3),
            (f << 4).wrapping_add(ahead4),
        ];
        for (offset, step) in steps.into_iter().enumerate() {
            if step & mask == 0 {
                return Some(at * 4 + offset);
            }
        }
        f = steps[3];
    }
    for (offset, &byte) in rest.iter().enumerate() {
        f = (f << 1).wrapping_add(gear(byte));
        if f & mask == 0 {
            return Some(quads.len() * 4 + offset);
        }
    }
    *fingerprint = f;
    None
}

/// The public table of the `fastcdc` crate, which hands it out as a slice.
fn v2020_table() -> &'static [u64; 256] {
    static TABLE: std::sync::LazyLock<Box<[u64; 256]>> = std::sync::LazyLock::new(|| {
        let (gear, _) = v2020::get_gear_with_seed(0);
        Box::new(gear.as_ref().try_into().expect("the crate's tables have 256 entries"))
    });
    &TABLE
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn upstream(algorithm: ChunkerAlgorithm, min: u32, normal: u32, max: u32) -> Chunker {
        Chunker::new(ChunkerParams { algorithm, min, normal, max }).unwrap()
    }

    fn lengths(chunker: &Chunker, mut data: &[u8]) -> Vec<usize> {
        let mut lengths = Vec::new();
        while !data.is_empty() {
            let len = chunker.cut(&data[..data.len().min(chunker.max_size())]);
            assert!(len > 0);
            lengths.push(len);
            data = &data[len..];
        }
        lengths
    }

    fn input_a() -> Vec<u8> {
        let mut data = vec![0; 32 << 20];
        blake3::Hasher::new().update(b"kloset chunking vector").finalize_xof().fill(&mut data);
        assert_eq!(data[..4], [0xed, 0x36, 0xb3, 0x54]);
        data
    }

    fn input_b() -> Vec<u8> {
        let mut data = Vec::new();
        (0..2_200_000).for_each(|number| writeln!(data, "{number}").unwrap());
        assert_eq!(data.len(), 16_488_890);
        data
    }

    #[test]
    fn boundaries_of_the_format_default() {
        let chunker = Chunker::new(ChunkerParams::UPSTREAM).unwrap();
        assert_eq!(chunker.masks, (0xaaaa_aaaa_aaa0_0000, 0x9249_2492_4924_9000));
        let a = [
            1_057_579, 1_894_482, 1_064_792, 1_493_831, 1_247_037, 1_241_257, 1_231_193, 1_053_671,
            1_075_324, 1_074_155, 1_597_728, 1_821_961, 1_435_440, 1_367_936, 1_252_563, 1_770_762,
            1_405_592, 1_572_164, 1_201_469, 1_085_507, 1_088_746, 1_141_619, 1_294_445, 1_216_437,
            1_075_692, 793_050,
        ];
        assert_eq!(lengths(&chunker, &input_a()), a);
        let b = [
            1_849_477, 1_264_803, 660_303, 533_381, 1_170_688, 1_163_808, 1_224_951, 1_285_237, 1_365_410,
            1_238_324, 1_066_285, 1_639_927, 1_014_927, 1_011_369,
        ];
        assert_eq!(lengths(&chunker, &input_b()), b);
        assert_eq!(lengths(&chunker, &vec![0; 32 << 20]), [8_388_608; 4]);
        assert_eq!(chunker.cut(b""), 0);
    }

    #[test]
    fn boundaries_of_the_legacy_chunker() {
        let chunker = upstream(ChunkerAlgorithm::FastCdcLegacy, 64 << 10, 1 << 20, 4 << 20);
        let a = [70822, 154_706, 77721, 73724, 80194, 73924, 73569, 76031, 72351, 78928, 85592, 71461];
        assert_eq!(lengths(&chunker, &input_a())[..12], a);
        let b = [76554, 81453, 82227, 76566, 164_173, 81483, 103_273, 75554, 95138, 77273, 67286, 119_982];
        assert_eq!(lengths(&chunker, &input_b())[..12], b);
        assert_eq!(lengths(&chunker, &vec![0; 32 << 20]), [4_194_304; 8]);
    }

    #[test]
    fn boundaries_with_the_fixed_masks() {
        let chunker = upstream(ChunkerAlgorithm::FastCdcV1, 2048, 8192, 65536);
        let found = lengths(&chunker, &input_a()[..1 << 20]);
        let first = [
            10610, 9648, 8501, 13173, 9727, 11561, 7602, 7119, 8523, 10311, 12032, 9278, 24244, 9547, 11180,
            8271,
        ];
        assert_eq!(found[..16], first);
        assert_eq!(found.len(), 115);
    }

    /// The rule as FORMAT.md states it, byte by byte.
    fn plain_rule(chunker: &Chunker, data: &[u8]) -> usize {
        let n = data.len().min(chunker.max);
        let (mut fingerprint, mut mask) = (0_u64, chunker.masks.0);
        for (at, &byte) in data[..n].iter().enumerate().skip(chunker.min) {
            if at == chunker.normal {
                mask = chunker.masks.1;
            }
            fingerprint = (fingerprint << 1).wrapping_add(GEAR[usize::from(byte)]);
            if fingerprint & mask == 0 {
                return at;
            }
        }
        n
    }

    #[test]
    fn the_fast_scan_follows_the_plain_rule() {
        let data = &input_a()[..256 << 10];
        for (min, normal, max) in [(64, 256, 1024), (65, 257, 1025), (67, 1003, 4999), (256, 256, 2000)] {
            let chunker = upstream(ChunkerAlgorithm::FastCdcV1, min, normal, max);
            let mut rest = data;
            while !rest.is_empty() {
                let len = chunker.cut(rest);
                assert_eq!(len, plain_rule(&chunker, rest));
                rest = &rest[len..];
            }
            for len in 0..2 * max as usize {
                assert_eq!(chunker.cut(&data[..len]), plain_rule(&chunker, &data[..len]));
            }
        }
    }

    #[test]
    fn no_mask_of_the_crate_has_the_bit_that_its_pairs_lose() {
        for bits in 8..=22 {
            for level in [v2020::Normalization::Level0, v2020::Normalization::Level1] {
                let (small, large) = v2020::select_masks(1 << bits, level);
                assert_eq!((small | large) >> 63, 0, "{bits}");
            }
        }
    }

    #[test]
    fn v2020_cuts_as_its_crate_does() {
        let data = &input_a()[..8 << 20];
        let params =
            ChunkerParams { min: 16 << 10, normal: 64 << 10, max: 256 << 10, ..ChunkerParams::NATIVE };
        let chunker = Chunker::new(params).unwrap();
        let theirs: Vec<usize> =
            v2020::FastCDC::new(data, 16 << 10, 64 << 10, 256 << 10).map(|c| c.length).collect();
        assert_eq!(lengths(&chunker, data), theirs);
        let native = Chunker::new(ChunkerParams::NATIVE).unwrap();
        let theirs: Vec<usize> =
            v2020::FastCDC::new(data, 512 << 10, 1 << 20, 8 << 20).map(|c| c.length).collect();
        assert_eq!(lengths(&native, data), theirs);
    }

    #[test]
    fn keyed_cuts_are_those_of_the_crate_whatever_the_length() {
        let data = &input_a()[..16 << 10];
        let table: [u64; 256] = std::array::from_fn(|i| {
            let hash = blake3::hash(&i.to_le_bytes());
            u64::from_le_bytes(*hash.as_bytes().first_chunk().unwrap())
        });
        let shifted = table.map(|value| value << 1);
        for (min, normal, max) in [(64, 256, 1024), (66, 1002, 4998), (256, 258, 2000)] {
            let params = ChunkerParams { algorithm: ChunkerAlgorithm::FastCdc2020Keyed, min, normal, max };
            let chunker = Chunker::keyed(params, &table).unwrap();
            let (small, large) = chunker.masks;
            let sizes = [min, normal, max].map(|size| size as usize);
            let theirs = |data: &[u8]| {
                let ([min, normal, max], masks) = (sizes, (small << 1, large << 1));
                v2020::cut_gear(data, min, normal, max, small, large, masks.0, masks.1, &table, &shifted).1
            };
            for start in (0..data.len()).step_by(1997) {
                for length in (0..=data.len() - start).rev().step_by(7).take(70) {
                    let part = &data[start..start + length];
                    assert_eq!(chunker.cut(part), theirs(part), "{length} from {start}: {params:?}");
                }
                for length in 0..=(data.len() - start).min(1100) {
                    let part = &data[start..start + length];
                    assert_eq!(chunker.cut(part), theirs(part), "{length} from {start}: {params:?}");
                }
            }
        }
    }

    #[test]
    fn a_chunk_that_ends_before_the_buffer_does_ends_there_in_a_longer_one() {
        let data = &input_a()[..12 << 10];
        let table = std::array::from_fn(|i| {
            let hash = blake3::hash(&i.to_le_bytes());
            u64::from_le_bytes(*hash.as_bytes().first_chunk().unwrap())
        });
        for (min, normal, max) in [(64, 256, 1024), (66, 1002, 4998), (256, 258, 2000)] {
            let of = |algorithm| ChunkerParams { algorithm, min, normal, max };
            for chunker in [
                Chunker::new(of(ChunkerAlgorithm::FastCdcV1)).unwrap(),
                Chunker::new(of(ChunkerAlgorithm::FastCdc2020)).unwrap(),
                Chunker::keyed(of(ChunkerAlgorithm::FastCdc2020Keyed), &table).unwrap(),
            ] {
                let mut start = 0;
                while start + max as usize <= data.len() {
                    let rest = &data[start..];
                    let whole = chunker.cut(rest);
                    for length in (0..=max as usize).step_by(3) {
                        let part = chunker.cut(&rest[..length]);
                        assert!(
                            part == length || part == whole,
                            "{part} of {length}, not {whole}: {chunker:?}"
                        );
                    }
                    start += whole;
                }
            }
        }
    }

    #[test]
    fn keys_move_boundaries() {
        let data = &input_a()[..8 << 20];
        let params =
            ChunkerParams { min: 16 << 10, normal: 64 << 10, max: 256 << 10, ..ChunkerParams::NATIVE_KEYED };
        let [one, two] = [1_u64, 2].map(|seed| {
            let table = std::array::from_fn(|i| {
                let hash = blake3::hash(&[seed.to_le_bytes(), (i as u64).to_le_bytes()].concat());
                u64::from_le_bytes(*hash.as_bytes().first_chunk().unwrap())
            });
            Chunker::keyed(params, &table).unwrap()
        });
        let (one, two) = (lengths(&one, data), lengths(&two, data));
        assert_ne!(one, two);
        for lengths in [one, two] {
            assert_eq!(lengths.iter().sum::<usize>(), data.len());
            assert!(lengths[..lengths.len() - 1].iter().all(|len| (16 << 10..=256 << 10).contains(len)));
        }
        // With the crate's own table it is the unkeyed algorithm.
        let same = Chunker::keyed(params, v2020_table()).unwrap();
        let plain =
            Chunker::new(ChunkerParams { algorithm: ChunkerAlgorithm::FastCdc2020, ..params }).unwrap();
        assert_eq!(lengths(&same, data), lengths(&plain, data));
    }

    #[test]
    fn tables_go_with_the_keyed_algorithm_only() {
        let wanted = |result: Result<Chunker, _>| match result.unwrap_err() {
            ChunkerError::Table { wanted, .. } => wanted,
            other => panic!("{other}"),
        };
        assert!(wanted(Chunker::new(ChunkerParams::NATIVE_KEYED)));
        assert!(!wanted(Chunker::keyed(ChunkerParams::NATIVE, &[0; 256])));
        assert!(!wanted(Chunker::keyed(ChunkerParams::UPSTREAM, &[0; 256])));
    }

    #[test]
    fn debug_shows_no_table() {
        let chunker = Chunker::keyed(ChunkerParams::NATIVE_KEYED, &[0x4142_4344; 256]).unwrap();
        assert!(!format!("{chunker:?}").contains("1094861636"));
    }
}
