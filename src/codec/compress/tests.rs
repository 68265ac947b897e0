use std::io::{self, Read, Write};

use super::*;

const ALL: [Compression; 4] =
    [Compression::None, Compression::Lz4, Compression::Gzip, Compression::Zstd { level: 1 }];
const FRAMED: [Compression; 3] = [Compression::Lz4, Compression::Gzip, Compression::Zstd { level: 3 }];

fn bytes(hex: &str) -> Vec<u8> {
    let digits: String = hex.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn xof(len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(b"compression").finalize_xof().fill(&mut out);
    out
}

/// Half random, half text.
fn mixed(len: usize) -> Vec<u8> {
    let random = xof(len);
    let mut out = Vec::with_capacity(len + 1024);
    for (at, piece) in random.chunks(512).enumerate() {
        out.extend_from_slice(piece);
        (0..40).for_each(|line| writeln!(out, "line {}", line * at).unwrap());
    }
    out.truncate(len);
    out
}

fn compress(compression: Compression, data: &[u8]) -> Vec<u8> {
    let mut out = b"before".to_vec();
    compression.compress(data, &mut out);
    assert_eq!(&out[..6], b"before");
    out.split_off(6)
}

/// Decodes as a whole, behind other bytes and at the start of a buffer, and as a stream: all must agree.
fn decompress(compression: Compression, data: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
    let mut out = b"before".to_vec();
    let result = compression.decompress(data, limit, &mut out);
    assert_eq!(&out[..6], b"before");
    assert!(result.is_ok() || out.len() == 6);
    let mut fresh = Vec::new();
    assert_eq!(compression.decompress(data, limit, &mut fresh), result);
    assert_eq!(fresh, out[6..]);
    if !matches!(result, Err(CompressionError::TooLong { .. })) {
        let streamed = stream(compression, data);
        match &result {
            Ok(()) => assert_eq!(streamed.unwrap(), fresh),
            Err(_) => assert!(CompressionError::in_io(&streamed.unwrap_err()).is_some()),
        }
    }
    result.map(|()| fresh)
}

fn stream(compression: Compression, data: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    FrameReader::new(compression, data).read_to_end(&mut out).map(|_| out)
}

const ANY: usize = 1 << 30;

#[test]
fn lz4_examples_of_the_format() {
    for (content, frame) in [
        (b"".as_slice(), "04224d186470b9 00000000 055dcc02"),
        (b"x", "04224d186470b9 01000080 78 00000000 ea30c42e"),
        (b"hello\n", "04224d186470b9 06000080 68656c6c6f0a 00000000 f95b6b94"),
    ] {
        assert_eq!(compress(Compression::Lz4, content), bytes(frame));
        assert_eq!(decompress(Compression::Lz4, &bytes(frame), 6).unwrap(), content);
    }
    let quirk = bytes("04224d186470b9 00000080 00000000 055dcc02");
    assert_eq!(decompress(Compression::Lz4, &quirk, 0).unwrap(), b"");
    let quirk = bytes("04224d186470b9 00000080 06000080 68656c6c6f0a 00000080 00000000 f95b6b94");
    assert_eq!(decompress(Compression::Lz4, &quirk, 6).unwrap(), b"hello\n");
    // The checksum behind a zero-length block is looked at.
    let wrong = bytes("04224d186470b9 00000080 00000000 055dcc03");
    assert_eq!(decompress(Compression::Lz4, &wrong, 0), Err(CompressionError::Checksum { algorithm: "LZ4" }));
}

#[test]
fn gzip_and_zstd_examples_of_the_format() {
    let empty = bytes("1f8b08000000000000ff 010000ffff 00000000 00000000");
    assert_eq!(compress(Compression::Gzip, b""), empty);
    assert_eq!(decompress(Compression::Gzip, &empty, 0).unwrap(), b"");
    let hello = bytes("28b52ffd 0400 310000 68656c6c6f0a 5388bd91");
    let zstd = Compression::zstd(1);
    assert_eq!(compress(zstd, b"hello\n"), hello);
    assert_eq!(decompress(zstd, &hello, 6).unwrap(), b"hello\n");
    assert_eq!(compress(zstd, b""), b"");
    assert_eq!(decompress(zstd, b"", 0).unwrap(), b"");
    // An empty frame, with a checksum and with a content size.
    assert_eq!(decompress(zstd, &bytes("28b52ffd 0400 010000 99e9d851"), 0).unwrap(), b"");
    assert_eq!(decompress(zstd, &bytes("28b52ffd 2000 010000"), 0).unwrap(), b"");
}

#[test]
fn everything_comes_back() {
    for compression in ALL.into_iter().chain([-50, 9, 19].map(Compression::zstd)) {
        for len in [0, 1, 31, 300, 65534, 65535, 65536, 200_000] {
            let data = mixed(len);
            let frame = compress(compression, &data);
            assert!(decompress(compression, &frame, len).unwrap() == data, "{compression} {len}");
            assert!(decompress(compression, &frame, ANY).unwrap() == data, "{compression} {len}");
            if len > 0 {
                let limit = len - 1;
                assert!(decompress(compression, &frame, limit) == Err(CompressionError::TooLong { limit }));
            }
            assert!(compression.is_single_canonical_frame(&frame), "{compression} {len}");
        }
    }
}

#[test]
fn contents_beyond_a_block() {
    for compression in FRAMED {
        for data in [mixed((9 << 20) + 17), vec![0; 8 << 20], xof(4 << 20)] {
            let frame = compress(compression, &data);
            assert!(decompress(compression, &frame, data.len()).unwrap() == data, "{compression}");
            assert!(compression.is_single_canonical_frame(&frame));
        }
    }
    let frame = compress(Compression::Lz4, &xof(8 << 20));
    assert_eq!(frame.len(), 7 + 2 * (4 + (4 << 20)) + 8);
}

#[test]
fn zstd_frames_are_canonical() {
    for level in [1, 3, 19] {
        let data = vec![7; 9 << 20];
        for frame in [compress(Compression::zstd(level), &data), {
            let mut writer = FrameWriter::new(Compression::zstd(level), Vec::new());
            writer.write_all(&data).unwrap();
            writer.finish().unwrap()
        }] {
            assert_eq!(frame[4], 0b100, "checksum, no content size, no dictionary, no single segment");
            assert!(frame[5] >> 3 <= 13, "a window of at most 8 MiB");
        }
    }
}

#[test]
fn every_flipped_bit_is_found_or_harmless() {
    for compression in FRAMED {
        let data = mixed(300);
        let frame = compress(compression, &data);
        for bit in 0..frame.len() * 8 {
            let mut damaged = frame.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // Header bits that say nothing about the content (times, windows) may differ; content never does.
            let mut content = Vec::new();
            if compression.decompress(&damaged, 1 << 16, &mut content).is_ok() {
                assert_eq!(content, data, "{compression} bit {bit}");
                assert!(bit / 8 < 18, "{compression} bit {bit}");
            }
        }
    }
}

#[test]
fn no_prefix_and_no_longer_frame_decodes() {
    for compression in FRAMED {
        let data = mixed(300);
        let frame = compress(compression, &data);
        for cut in 0..frame.len() {
            let cut_frame = &frame[..cut];
            if cut == 0 && matches!(compression, Compression::Zstd { .. }) {
                continue;
            }
            let error = decompress(compression, cut_frame, ANY).unwrap_err();
            assert!(matches!(error, CompressionError::Truncated { .. }), "{compression} {cut}: {error}");
            assert!(!compression.is_single_canonical_frame(cut_frame), "{compression} {cut}");
        }
        for tail in [&[0][..], b"x", b"something longer than a header"] {
            let longer = [&frame, tail].concat();
            assert!(decompress(compression, &longer, ANY).is_err(), "{compression}");
            assert!(!compression.is_single_canonical_frame(&longer));
        }
        let twice = [frame.as_slice(), &frame].concat();
        assert!(!compression.is_single_canonical_frame(&twice));
        // Of two frames upstream would lose the second, except in gzip.
        let decoded = decompress(compression, &twice, ANY);
        if compression == Compression::Gzip {
            assert_eq!(decoded.unwrap(), [data.as_slice(), &data].concat());
        } else {
            assert!(matches!(decoded, Err(CompressionError::Trailing { .. })), "{compression}");
        }
    }
}

#[test]
fn bombs_stay_within_the_limit() {
    let zeros = vec![0; 16 << 20];
    for compression in [Compression::Lz4, Compression::Gzip, Compression::zstd(3)] {
        let bomb = compress(compression, &zeros);
        for limit in [0, 1, 1000, 1 << 20, (16 << 20) - 1] {
            let mut out = Vec::new();
            assert_eq!(
                compression.decompress(&bomb, limit, &mut out),
                Err(CompressionError::TooLong { limit })
            );
            assert!(out.capacity() <= 3 * limit.max(64 << 10), "{compression} {limit}: {}", out.capacity());
        }
        // A stream hands out what it decodes bit by bit.
        let mut reader = FrameReader::new(compression, bomb.as_slice());
        let mut some = vec![1; 100_000];
        reader.read_exact(&mut some).unwrap();
        assert!(some.iter().all(|&byte| byte == 0));
    }
}

/// Frames of other writers: linked blocks, all block sizes, block checksums, content size, no content checksum.
#[test]
fn lz4_frames_of_other_writers() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let data = mixed(300_000);
    for block_size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB] {
        for mode in [BlockMode::Independent, BlockMode::Linked] {
            for flags in 0..8 {
                let info = FrameInfo::new()
                    .block_size(block_size)
                    .block_mode(mode)
                    .block_checksums(flags & 1 != 0)
                    .content_checksum(flags & 2 != 0)
                    .content_size((flags & 4 != 0).then_some(300_000));
                let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
                encoder.write_all(&data).unwrap();
                let frame = encoder.finish().unwrap();
                assert!(decompress(Compression::Lz4, &frame, data.len()).unwrap() == data);
                assert!(decompress(Compression::Lz4, &frame, ANY).unwrap() == data);
                let limit = data.len() - 1;
                assert_eq!(
                    decompress(Compression::Lz4, &frame, limit),
                    Err(CompressionError::TooLong { limit })
                );
                let as_ours =
                    flags == 2 && matches!((block_size, mode), (BlockSize::Max4MB, BlockMode::Independent));
                assert_eq!(Compression::Lz4.is_single_canonical_frame(&frame), as_ours);
            }
        }
    }
}

/// Upstream computes block checksums over the content, the specification over the compressed block.
#[test]
fn lz4_block_checksums_of_both_kinds() {
    use twox_hash::XxHash32;
    let content = [b'a'; 100];
    let block = lz4_flex::block::compress(&content);
    for sum_of in [block.as_slice(), &content] {
        let descriptor = [0b0111_0100, 0x70];
        let mut frame = vec![0x04, 0x22, 0x4d, 0x18];
        frame.extend(descriptor);
        frame.push(XxHash32::oneshot(0, &descriptor).to_le_bytes()[1]);
        frame.extend(u32::try_from(block.len()).unwrap().to_le_bytes());
        frame.extend(&block);
        frame.extend(XxHash32::oneshot(0, sum_of).to_le_bytes());
        frame.extend([0; 4]);
        frame.extend(XxHash32::oneshot(0, &content).to_le_bytes());
        assert_eq!(decompress(Compression::Lz4, &frame, 100).unwrap(), content);
        let at = frame.len() - 12;
        frame[at] ^= 1;
        assert_eq!(
            decompress(Compression::Lz4, &frame, 100),
            Err(CompressionError::Checksum { algorithm: "LZ4" })
        );
    }
}

#[test]
fn hostile_lz4_headers() {
    for frame in [
        "04224d19 6470b9 00000000 055dcc02",
        "04224d18 6470b8 00000000 055dcc02",
        "04224d18 2470b9 00000000 055dcc02",
        "04224d18 6430b9 00000000 055dcc02",
        // A block longer than 4 MiB is announced.
        "04224d18 6470b9 01004000",
        "04224d18 6470b9 ffffffff",
        "04224d18 6470b9 ffffff7f",
    ] {
        let error = decompress(Compression::Lz4, &bytes(frame), ANY).unwrap_err();
        assert!(matches!(error, CompressionError::Malformed { .. }), "{frame}: {error}");
    }
}

#[test]
fn zstd_frames_of_other_writers() {
    let data = mixed(700_000);
    // With content size, without checksum, in a single segment; and with checksum and unknown size.
    let sized = zstd_crate(&data, false);
    assert!(decompress(Compression::zstd(1), &sized, data.len()).unwrap() == data);
    assert!(!Compression::zstd(1).is_single_canonical_frame(&sized));
    let limit = data.len() - 1;
    assert_eq!(decompress(Compression::zstd(1), &sized, limit), Err(CompressionError::TooLong { limit }));
    assert!(decompress(Compression::zstd(1), &zstd_crate(&data, true), data.len()).unwrap() == data);
    // Skippable frames are not content.
    let skippable = [bytes("502a4d18 04000000 00000000"), sized].concat();
    assert!(decompress(Compression::zstd(1), &skippable, ANY).is_err());
}

fn zstd_crate(data: &[u8], checksum: bool) -> Vec<u8> {
    let mut encoder = ::zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(checksum).unwrap();
    if !checksum {
        encoder.set_pledged_src_size(Some(data.len() as u64)).unwrap();
    }
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn gzip_members_with_names_and_extras() {
    let content = mixed(5000);
    let plain = compress(Compression::Gzip, &content);
    let mut with_all = bytes("1f8b08 1e 00000000 00 03 0300 010203");
    with_all.extend(b"name\0comment\0\xaa\xbb");
    with_all.extend(&plain[10..]);
    assert_eq!(decompress(Compression::Gzip, &with_all, 5000).unwrap(), content);
    assert!(!Compression::Gzip.is_single_canonical_frame(&with_all));
    for cut in 0..with_all.len() {
        assert!(decompress(Compression::Gzip, &with_all[..cut], 5000).is_err());
    }
    let reserved = [&bytes("1f8b08 80 00000000 00 03"), &plain[10..]].concat();
    assert!(decompress(Compression::Gzip, &reserved, 5000).is_err());
}

#[test]
fn streams_and_strings_are_the_same_format() {
    for compression in ALL {
        for len in [0, 1, 100, 70_000, 1 << 20, (1 << 20) + 1, (4 << 20) + 5] {
            let data = mixed(len);
            for piece in [7919, usize::MAX] {
                let mut writer = FrameWriter::new(compression, Vec::new());
                data.chunks(piece).for_each(|piece| writer.write_all(piece).unwrap());
                writer.flush().unwrap();
                let frame = writer.finish().unwrap();
                assert!(decompress(compression, &frame, len).unwrap() == data, "{compression} {len}");
                assert!(compression.is_single_canonical_frame(&frame), "{compression} {len}");
            }
        }
    }
    assert_eq!(FrameWriter::new(Compression::zstd(1), Vec::new()).finish().unwrap(), b"");
}

/// Upstream reads the first 32 bytes of a state in one go.
#[test]
fn the_first_unit_of_a_stream_is_large() {
    let mut writer = FrameWriter::new(Compression::Lz4, Vec::new());
    for byte in xof(100) {
        writer.write_all(&[byte]).unwrap();
        writer.flush().unwrap();
    }
    let frame = writer.finish().unwrap();
    assert_eq!(frame[7..11], (0x64_u32 | 1 << 31).to_le_bytes());
}

struct Breaks<'a>(&'a [u8]);

impl Read for Breaks<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.0.read(out)? {
            0 => Err(io::ErrorKind::ConnectionReset.into()),
            len => Ok(len),
        }
    }
}

#[test]
fn a_transport_fault_is_not_called_damage() {
    for compression in ALL {
        let data = mixed(300_000);
        let frame = compress(compression, &data);
        for cut in [0, 5, 1000, 100_000] {
            let error = FrameReader::new(compression, Breaks(&frame[..cut]))
                .read_to_end(&mut Vec::new())
                .unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{compression} {cut}");
        }
    }
}

#[test]
fn names_and_levels() {
    for compression in FRAMED {
        assert_eq!(Compression::from_name(compression.name().unwrap(), 3).unwrap(), compression);
    }
    assert_eq!(Compression::from_name("ZSTD", 131_072).unwrap(), Compression::Zstd { level: 19 });
    assert_eq!(Compression::from_name("ZSTD", i64::MIN).unwrap(), Compression::Zstd { level: -50 });
    assert_eq!(Compression::None.name(), None);
    for name in ["BROTLI", "lz4", ""] {
        let error = Compression::from_name(name, 1).unwrap_err();
        assert_eq!(error, CompressionError::Unsupported { name: name.to_owned() });
    }
}

#[test]
fn streams_refuse_windows_beyond_what_is_written() {
    // A raw block behind a window descriptor of 16 MiB, without a checksum.
    let wide = bytes("28b52ffd 00 70 310000 68656c6c6f0a");
    let mut out = Vec::new();
    Compression::zstd(1).decompress(&wide, 6, &mut out).unwrap();
    assert_eq!(out, b"hello\n");
    let error = stream(Compression::zstd(1), &wide).unwrap_err();
    assert_eq!(error.to_string(), "malformed ZSTD data: its window is larger than 8 MiB");
}

mod hostile {
    use proptest::prelude::*;

    use super::*;

    /// Decodes whatever it is, in all ways: nothing may panic, nothing may pass the limit, both ways must agree.
    fn survive(compression: Compression, data: &[u8]) {
        const LIMIT: usize = 100_000;
        let mut out = Vec::new();
        let whole = compression.decompress(data, LIMIT, &mut out);
        assert!(out.len() <= LIMIT && out.capacity() <= 3 * LIMIT);
        let mut streamed = Vec::new();
        let read = FrameReader::new(compression, data).take(LIMIT as u64 + 1).read_to_end(&mut streamed);
        if whole.is_ok() && read.is_ok() {
            assert!(out == streamed);
        }
        if compression.is_single_canonical_frame(data) {
            assert_ne!(whole, Err(CompressionError::Trailing { algorithm: compression.name().unwrap() }));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        #[test]
        fn arbitrary_bytes(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            for (compression, start) in FRAMED.into_iter().zip([
                &[0x04, 0x22, 0x4d, 0x18, 0x64, 0x70, 0xb9][..],
                &[0x1f, 0x8b, 8],
                &[0x28, 0xb5, 0x2f, 0xfd],
            ]) {
                survive(compression, &data);
                survive(compression, &[start, &data].concat());
            }
        }

        #[test]
        fn changed_frames(len in 0..5000_usize, changes in proptest::collection::vec(any::<(u16, u8)>(), 1..5)) {
            for compression in FRAMED {
                let mut frame = compress(compression, &mixed(len));
                let frame_len = frame.len().max(1);
                for &(at, value) in &changes {
                    if let Some(byte) = frame.get_mut(usize::from(at) % frame_len) {
                        *byte = value;
                    }
                }
                survive(compression, &frame);
            }
        }
    }
}
