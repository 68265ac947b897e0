//! The data set: a tree of files made from a seed, and the manifest that a restored copy must equal.
//!
//! | What | For 1 GiB |
//! |---|---|
//! | folders, eight below each | 10,000 |
//! | one large file of all kinds in turn | 200 MB |
//! | medium files of 4 to 12 MiB | 16 |
//! | files of 128 KiB to 1 MiB | 400 |
//! | small files, most of a few KiB | the rest of 41,500 |
//!
//! Three kinds of content take turns: text (words of a skewed vocabulary), records (counters beside noise, as in
//! tables and binaries) and noise that nothing compresses. Their shares are chosen so that zstd at level 1, file by
//! file, leaves about 0.43 of the whole. Smaller sets scale the counts; the shape stays.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

const FILES_PER_GIB: u64 = 41_500;
const FOLDERS_PER_GIB: u64 = 10_000;
const LARGE: u64 = 200_000_000;
const MIB: u64 = 1 << 20;

/// A generator of numbers: splitmix64, which needs no warming up and is the same everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Starts a sequence of its own for every seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).expect("below a length")
    }
}

/// What a file holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Content {
    Text,
    Records,
    Noise,
}

/// Makes contents.
struct Maker {
    words: Vec<String>,
}

impl Maker {
    fn new() -> Self {
        let mut random = Random::new(7);
        let syllables = [
            "ka", "lo", "mi", "ter", "an", "sel", "or", "in", "ple", "dra", "tu", "es", "vi", "on", "shi",
            "re",
        ];
        let word = |_| (0..=random.below(3)).map(|_| syllables[random.index(syllables.len())]).collect();
        Self { words: (0..6000).map(word).collect() }
    }

    fn fill(&self, content: Content, random: &mut Random, length: usize, out: &mut Vec<u8>) {
        out.clear();
        match content {
            Content::Text => self.text(random, length, out),
            Content::Records => records(random, length, out),
            Content::Noise => noise(random, length, out),
        }
        out.truncate(length);
    }

    fn text(&self, random: &mut Random, length: usize, out: &mut Vec<u8>) {
        let mut column = 0;
        while out.len() < length {
            let bits = random.next();
            // The square of a uniform number: a few words are frequent, most are rare.
            let uniform = (bits & 0xffff_ffff) as f64 / 4_294_967_296.0;
            let skewed = uniform * uniform * uniform * self.words.len() as f64;
            let word = &self.words[truncated(skewed).min(self.words.len() - 1)];
            out.extend_from_slice(word.as_bytes());
            column += word.len() + 1;
            if bits >> 60 == 0 {
                out.extend_from_slice((bits >> 40 & 0xffff).to_string().as_bytes());
            }
            if column > 88 {
                out.push(b'\n');
                column = 0;
            } else {
                out.push(b' ');
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a product of a length and a number below one")]
fn truncated(number: f64) -> usize {
    number as usize
}

/// Records of 32 bytes: a counter, flags, a name out of few, and noise.
fn records(random: &mut Random, length: usize, out: &mut Vec<u8>) {
    let mut counter = random.below(1 << 30);
    while out.len() < length {
        let bits = random.next();
        counter += bits & 15;
        out.extend_from_slice(&counter.to_be_bytes_portable());
        out.extend_from_slice(&(bits >> 8 & 3).to_be_bytes_portable());
        out.extend_from_slice(
            [&b"alpha---"[..], b"beta----", b"gamma---", b"delta---"]
                [usize::try_from(bits >> 4 & 3).expect("below 4")],
        );
        out.extend_from_slice(&random.next().to_be_bytes_portable());
    }
}

/// Big-endian bytes without the methods that the crate's lints keep for formats.
trait Portable {
    fn to_be_bytes_portable(self) -> [u8; 8];
}

impl Portable for u64 {
    fn to_be_bytes_portable(self) -> [u8; 8] {
        self.swap_bytes().to_le_bytes()
    }
}

fn noise(random: &mut Random, length: usize, out: &mut Vec<u8>) {
    while out.len() < length {
        out.extend_from_slice(&random.next().to_le_bytes());
    }
}

/// The data set on disk.
#[derive(Clone, Debug)]
pub(crate) struct DataSet {
    /// Its folder.
    pub(crate) root: PathBuf,
    /// Bytes of content.
    pub(crate) bytes: u64,
    /// Regular files.
    pub(crate) files: u64,
    /// Folders below the root.
    pub(crate) folders: u64,
}

/// Makes about `mib` MiB of data in a new folder.
pub(crate) fn generate(root: &Path, mib: u64) -> io::Result<DataSet> {
    let total = mib * MIB;
    let folder_count = (FOLDERS_PER_GIB * mib / 1024).max(8);
    let folders = make_folders(root, folder_count)?;
    let sizes = sizes(mib, total);
    let maker = Maker::new();
    let (mut bytes, mut buffer) = (0, Vec::new());
    for (number, size) in sizes.iter().enumerate() {
        let mut random = Random::new(0x00f1_1e00_0000 + number as u64);
        let folder = &folders[if number < 20 { number % folders.len() } else { random.index(folders.len()) }];
        let content = match random.below(100) {
            0..74 => Content::Text,
            74..94 => Content::Records,
            _ => Content::Noise,
        };
        let extension = ["txt", "dat", "bin"][content as usize];
        let mut file =
            File::create(folder.join(format!("{}-{number:05}.{extension}", maker.words[number % 500])))?;
        let mut left = *size;
        let mut first = true;
        while left > 0 {
            let piece = left.min(4 * MIB);
            // What is larger than a piece changes its kind as it goes on.
            let content = match random.below(10) {
                _ if first => content,
                0..2 => Content::Noise,
                2..5 => Content::Records,
                _ => Content::Text,
            };
            first = false;
            maker.fill(content, &mut random, usize::try_from(piece).expect("at most 4 MiB"), &mut buffer);
            file.write_all(&buffer)?;
            left -= piece;
        }
        bytes += size;
    }
    Ok(DataSet { root: root.to_owned(), bytes, files: sizes.len() as u64, folders: folder_count })
}

fn make_folders(root: &Path, count: u64) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(root)?;
    let mut folders = vec![root.to_owned()];
    for number in 0..usize::try_from(count).expect("fewer than 2^32") {
        let path = folders[number.div_ceil(8).min(folders.len() - 1)].join(format!("folder-{number:05}"));
        fs::create_dir(&path)?;
        folders.push(path);
    }
    Ok(folders)
}

/// Returns the sizes of all files: the large ones first, the small ones filling up what is left.
fn sizes(mib: u64, total: u64) -> Vec<u64> {
    let mut random = Random::new(mib);
    let count = (FILES_PER_GIB * mib / 1024).max(32);
    let mut sizes = vec![LARGE.min(total / 5)];
    sizes.extend(
        (0..(16 * mib / 1024).max(1))
            .map(|_| 4 * MIB.min(total / 64) + random.below(8 * MIB.min(total / 64))),
    );
    sizes.extend((0..400 * mib / 1024).map(|_| MIB / 8 + random.below(MIB * 7 / 8)));
    let used: u64 = sizes.iter().sum();
    let small = count.saturating_sub(sizes.len() as u64);
    let weights: Vec<u64> = (0..small).map(|_| weight(&mut random)).collect();
    let sum: u64 = weights.iter().sum::<u64>().max(1);
    let left = u128::from(total.saturating_sub(used));
    let share =
        |weight: &u64| u64::try_from(left * u128::from(*weight) / u128::from(sum)).expect("part of a u64");
    sizes.extend(weights.iter().map(share));
    sizes
}

/// A skewed size: a sum of doublings, so that most are small and some a hundred times larger; a few are empty.
fn weight(random: &mut Random) -> u64 {
    if random.below(100) == 0 {
        return 0;
    }
    let doublings = random.below(4) + random.below(4) + random.below(3);
    (1 << doublings) * (256 + random.below(256))
}

/// Counts what is in a folder that holds a data set already.
pub(crate) fn measure(root: &Path) -> io::Result<DataSet> {
    let mut found = DataSet { root: root.to_owned(), bytes: 0, files: 0, folders: 0 };
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                found.folders += 1;
                folders.push(entry.path());
            } else {
                found.files += 1;
                found.bytes += metadata.len();
            }
        }
    }
    Ok(found)
}

/// Returns the bytes of all files in a folder.
pub(crate) fn size(root: &Path) -> io::Result<u64> {
    measure(root).map(|found| found.bytes)
}

/// Describes a tree: for every path what it is, its mode, its time and a hash of its content, hashed together.
pub(crate) fn manifest(root: &Path) -> io::Result<blake3::Hash> {
    let mut whole = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    describe(root, Path::new(""), &mut whole, &mut buffer)?;
    Ok(whole.finalize())
}

fn describe(root: &Path, path: &Path, whole: &mut blake3::Hasher, buffer: &mut [u8]) -> io::Result<()> {
    let full = root.join(path);
    let metadata = fs::symlink_metadata(&full)?;
    let mode = metadata.permissions().mode();
    let (seconds, nanos) = (metadata.mtime(), metadata.mtime_nsec());
    write!(whole, "{}\0{mode:o}\0{seconds}.{nanos}\0", path.display())?;
    if metadata.is_dir() {
        let mut names: Vec<_> = fs::read_dir(&full)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<Result<_, _>>()?;
        names.sort();
        return names.iter().try_for_each(|name| describe(root, &path.join(name), whole, buffer));
    }
    let mut content = blake3::Hasher::new();
    let mut file = File::open(&full)?;
    loop {
        match file.read(buffer)? {
            0 => break,
            read => content.update(&buffer[..read]),
        };
    }
    whole.update(content.finalize().as_bytes());
    Ok(())
}
