//! Speed of the parts that touch every byte: chunkers, MACs, ciphers, compressors, entropy.
//!
//! Everything is measured on one thread, on a chunk of 1 MiB and on a blob of 300 bytes, made from fixed seeds.
//! `cargo bench --bench parts -- seal` measures what has "seal" in its name.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use plakar::base::Id;
use plakar::codec::chunker::ChunkerAlgorithm;
use plakar::codec::{Chunker, ChunkerParams, Compression, entropy};
use plakar::crypto::{Cipher, HashAlgorithm, Item, Key, MacKey, NativeKeys, SubkeyAlgorithm};

const CHUNK: usize = 1 << 20;
const SMALL: usize = 300;
const WORDS: [&str; 16] = [
    "the",
    "snapshot",
    "of",
    "a",
    "folder",
    "holds",
    "entries",
    "and",
    "chunks",
    "that",
    "other",
    "snapshots",
    "share",
    "with",
    "it",
    "\n",
];

fn random(seed: &[u8], len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(seed).finalize_xof().fill(&mut out);
    out
}

/// Text and noise in turn, 4 KiB each: about what a home folder compresses to.
fn mixed(len: usize) -> Vec<u8> {
    let noise = random(b"mixed", len);
    let mut out = Vec::with_capacity(len + 8192);
    for piece in noise.chunks(4096) {
        let end = out.len() + 4096;
        for byte in piece.iter().cycle() {
            if out.len() >= end {
                break;
            }
            out.extend_from_slice(WORDS[usize::from(byte % 16)].as_bytes());
            out.extend_from_slice(if byte < &40 { b"  " } else { b" " });
        }
        out.extend_from_slice(piece);
    }
    out.truncate(len);
    out
}

/// Binary metadata of the size of an entry: field names, small numbers, one identifier.
fn small() -> Vec<u8> {
    let mut out = b"\x8f\xa7version\xce\x00\x01\x00\x00\xabparent_path\xb6/srv/dataset/folder/sub\xa9file_info\x8c\
        \xa4name\xaaa-file.txt\xa4size\xd3\x00\x00\x00\x00\x00\x00\x12\x34\xa4mode\xce\x00\x00\x01\xa4\xa8mod_time\
        \xd7\xff\xe8\xa8\x22\xbc\x6b\x00\xca\xf9\xa3dev\xcf\x00\x00\x00\x00\x00\x00\x00\x01\xa3ino\xcf"
        .to_vec();
    out.extend(random(b"ino", 8));
    out.extend(b"\xa8username\xa4root\xa9groupname\xa4root\xa6object\xc4\x20");
    out.extend(random(b"object", 32));
    out.resize(SMALL, b'x');
    out
}

fn inputs() -> [(&'static str, Vec<u8>); 2] {
    [("1MiB", mixed(CHUNK)), ("300B", small())]
}

fn chunkers(c: &mut Criterion) {
    let data = random(b"chunkers", 32 << 20);
    let keys = NativeKeys::derive(&Key::new([7; 32]), &[1; 16]);
    let legacy = ChunkerParams {
        algorithm: ChunkerAlgorithm::FastCdcLegacy,
        min: 64 << 10,
        normal: 1 << 20,
        max: 4 << 20,
    };
    let chunkers = [
        ("fastcdc-v1.0.0", Chunker::new(ChunkerParams::UPSTREAM)),
        ("fastcdc", Chunker::new(legacy)),
        ("fastcdc2020", Chunker::new(ChunkerParams::NATIVE)),
        ("fastcdc2020-keyed", Chunker::keyed(ChunkerParams::NATIVE_KEYED, &keys.gear_table())),
    ];
    let mut group = c.benchmark_group("chunker");
    group.throughput(Throughput::Bytes(data.len() as u64)).sample_size(20);
    for (name, chunker) in chunkers {
        let chunker = chunker.expect("the defaults are valid");
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut rest = data.as_slice();
                let mut count = 0;
                while !rest.is_empty() {
                    rest = &rest[chunker.cut(rest)..];
                    count += 1;
                }
                count
            });
        });
    }
    group.finish();
}

fn macs(c: &mut Criterion) {
    let mut group = c.benchmark_group("mac");
    for (size, data) in inputs() {
        group.throughput(Throughput::Bytes(data.len() as u64));
        for algorithm in [HashAlgorithm::Blake3, HashAlgorithm::Sha256] {
            let key = MacKey::new(algorithm, [7; 32]);
            group.bench_function(BenchmarkId::new(algorithm.name(), size), |b| {
                b.iter(|| key.mac(black_box(&data)));
            });
        }
    }
    group.finish();
}

fn ciphers() -> [(&'static str, Cipher); 2] {
    let master = Key::new([7; 32]);
    let native = Cipher::native(&NativeKeys::derive(&master, &[1; 16]), 65536);
    let aes = Cipher::aes(&master, SubkeyAlgorithm::Kw, 65536);
    [("native", native.expect("a valid size")), ("aes", aes.expect("a valid size"))]
}

fn sealing(c: &mut Criterion) {
    let item = Item::blob(9, Id([3; 32]));
    for (size, data) in inputs() {
        for (name, cipher) in ciphers() {
            let mut sealed = Vec::new();
            cipher.seal(item, &data, &mut sealed).expect("it is not too long");
            let mut out = Vec::with_capacity(2 * sealed.len());
            let mut group = c.benchmark_group("cipher");
            group.throughput(Throughput::Bytes(data.len() as u64));
            group.bench_function(BenchmarkId::new(format!("seal/{name}"), size), |b| {
                b.iter(|| {
                    out.clear();
                    cipher.seal(item, black_box(&data), &mut out)
                });
            });
            group.bench_function(BenchmarkId::new(format!("open/{name}"), size), |b| {
                b.iter(|| {
                    out.clear();
                    cipher.open(item, black_box(&sealed), &mut out)
                });
            });
            group.finish();
        }
    }
}

fn compressors(c: &mut Criterion) {
    let all = [
        ("lz4", Compression::Lz4),
        ("gzip", Compression::Gzip),
        ("zstd-3", Compression::zstd(-3)),
        ("zstd1", Compression::zstd(1)),
        ("zstd3", Compression::zstd(3)),
    ];
    for (size, data) in inputs().into_iter().chain([("1MiB-noise", random(b"noise", CHUNK))]) {
        for (name, compression) in all {
            let mut frame = Vec::new();
            compression.compress(&data, &mut frame);
            let mut out = Vec::with_capacity(2 * data.len());
            let mut group = c.benchmark_group("compression");
            group.throughput(Throughput::Bytes(data.len() as u64));
            group.bench_function(BenchmarkId::new(format!("compress/{name}"), size), |b| {
                b.iter(|| {
                    out.clear();
                    compression.compress(black_box(&data), &mut out);
                });
            });
            group.bench_function(BenchmarkId::new(format!("decompress/{name}"), size), |b| {
                b.iter(|| {
                    out.clear();
                    compression.decompress(black_box(&frame), data.len(), &mut out)
                });
            });
            group.finish();
        }
    }
}

/// What a small blob costs on its way out: named, compressed, sealed.
fn blobs(c: &mut Criterion) {
    let data = small();
    let key = MacKey::new(HashAlgorithm::Blake3, [7; 32]);
    let [(_, cipher), _] = ciphers();
    let (mut frame, mut out) = (Vec::new(), Vec::new());
    let mut group = c.benchmark_group("blob");
    group.throughput(Throughput::Bytes(data.len() as u64));
    group.bench_function("mac+zstd1+seal/300B", |b| {
        b.iter(|| {
            frame.clear();
            out.clear();
            let id = key.mac(black_box(&data));
            Compression::zstd(1).compress(&data, &mut frame);
            cipher.seal(Item::blob(12, id), &frame, &mut out)
        });
    });
    group.finish();
}

fn descriptions(c: &mut Criterion) {
    let mut group = c.benchmark_group("entropy");
    for (size, data) in inputs() {
        group.throughput(Throughput::Bytes(data.len() as u64));
        group.bench_function(size, |b| b.iter(|| entropy(black_box(&data))));
    }
    group.finish();
}

criterion_group! {
    name = parts;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(1));
    targets = chunkers, macs, sealing, compressors, blobs, descriptions
}
criterion_main!(parts);
