//! The floor: what the bare parts take on the same data with the same cores, and nothing around them.
//!
//! No names, no trees, no deduplication, no index: files are read, cut, hashed, compressed, sealed, and written one
//! behind the other, by as many threads as there are cores, the largest files first so that no thread is left with
//! one at the end. What a backup takes beyond that is its own.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use fastcdc::v2020::FastCDC;

const MIN: usize = 512 << 10;
const NORMAL: usize = 1 << 20;
const MAX: usize = 8 << 20;
const KEY: [u8; 32] = [7; 32];
const TAG: usize = 16;

/// Seconds that the bare parts take.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Floors {
    /// Walk, read, cut, hash, compress, seal, write: a backup or an archive.
    pub(crate) store: Timing,
    /// Walk and look at every file: an unchanged backup.
    pub(crate) walk: Timing,
    /// Read, open, decompress, hash: a check.
    pub(crate) check: Timing,
    /// The same, and write every file: a restore.
    pub(crate) restore: Timing,
    /// Bytes stored for one byte of content.
    pub(crate) ratio: f64,
}

/// Wall and CPU seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timing {
    pub(crate) wall: f64,
    pub(crate) cpu: f64,
}

/// One sealed chunk: which thread's file it is in, where, and how long it was.
#[derive(Clone, Copy, Debug)]
struct Stored {
    file: usize,
    offset: u64,
    length: usize,
    plain: usize,
}

/// Measures all floors on the files below `root`, in the folder `scratch`.
pub(crate) fn measure(root: &Path, scratch: &Path) -> io::Result<Floors> {
    fs::create_dir_all(scratch)?;
    let (walk, files) = timed(|| walk(root))?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let outputs: Vec<File> = (0..threads)
        .map(|thread| {
            File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(scratch.join(format!("floor-{thread}")))
        })
        .collect::<Result<_, _>>()?;
    let mut found = Vec::new();
    let (store, ()) = timed(|| {
        let mut files = self::walk(root)?;
        files.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
        found = store_all(&files, &outputs)?;
        Ok(())
    })?;
    let plain: u64 = files.iter().map(|(_, size)| size).sum();
    let stored: u64 = found.iter().flatten().map(|chunk| chunk.length as u64).sum();
    let (check, ()) = timed(|| load_all(&found, &outputs, None))?;
    let (restore, ()) = timed(|| load_all(&found, &outputs, Some(scratch)))?;
    Ok(Floors { store, walk, check, restore, ratio: stored as f64 / plain.max(1) as f64 })
}

fn timed<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<(Timing, T)> {
    let (begun, cpu) = (Instant::now(), cpu_now());
    let result = work()?;
    Ok((Timing { wall: begun.elapsed().as_secs_f64(), cpu: cpu_now() - cpu }, result))
}

/// Returns the CPU seconds of this process so far.
fn cpu_now() -> f64 {
    let own = i32::try_from(std::process::id()).expect("process ids are positive 32-bit numbers");
    crate::measure::cpu_seconds(own).unwrap_or(0.0)
}

fn walk(root: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let (mut files, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                folders.push(entry.path());
            } else {
                files.push((entry.path(), metadata.size()));
            }
        }
    }
    Ok(files)
}

/// Runs a closure on as many threads as there are outputs.
fn on_threads(outputs: &[File], work: &(dyn Fn(usize) -> io::Result<()> + Sync)) -> io::Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..outputs.len()).map(|thread| scope.spawn(move || work(thread))).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().map_err(|_| io::Error::other("a thread of the floor failed"))?
        })
    })
}

/// Returns for each file where its chunks are.
fn store_all(files: &[(PathBuf, u64)], outputs: &[File]) -> io::Result<Vec<Vec<Stored>>> {
    let next = AtomicUsize::new(0);
    let found: Vec<Mutex<Vec<Stored>>> = files.iter().map(|_| Mutex::default()).collect();
    on_threads(outputs, &|thread| {
        let cipher = XChaCha20Poly1305::new(&Key::from(KEY));
        let mut compressor = zstd::bulk::Compressor::new(1)?;
        let (mut content, mut sealed, mut pending, mut written) = (Vec::new(), Vec::new(), Vec::new(), 0_u64);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some((path, size)) = files.get(number) else { break };
            content.clear();
            content.reserve(usize::try_from(*size).map_err(io::Error::other)?);
            File::open(path)?.read_to_end(&mut content)?;
            let mut chunks = Vec::new();
            for length in cuts(&content) {
                let plain = &content[length.clone()];
                let id = blake3::keyed_hash(&KEY, plain);
                sealed.resize(zstd::zstd_safe::compress_bound(plain.len()), 0);
                let compressed = compressor.compress_to_buffer(plain, &mut sealed)?;
                sealed.truncate(compressed);
                cipher
                    .encrypt_in_place(&nonce(), id.as_bytes(), &mut sealed)
                    .map_err(|_| io::Error::other("sealing failed"))?;
                let offset = written + pending.len() as u64;
                chunks.push(Stored { file: thread, offset, length: sealed.len(), plain: plain.len() });
                pending.extend_from_slice(id.as_bytes());
                pending.extend_from_slice(&sealed);
                if pending.len() > 1 << 20 {
                    (&outputs[thread]).write_all(&pending)?;
                    written += pending.len() as u64;
                    pending.clear();
                }
            }
            *found[number].lock().map_err(|_| io::Error::other("a thread of the floor failed"))? = chunks;
        }
        (&outputs[thread]).write_all(&pending)
    })?;
    Ok(found.into_iter().map(|chunks| chunks.into_inner().unwrap_or_default()).collect())
}

fn nonce() -> XNonce {
    // The key seals nothing but this scratch file, which is read back at once.
    XNonce::from([9; 24])
}

fn cuts(content: &[u8]) -> Vec<std::ops::Range<usize>> {
    if content.len() <= MIN {
        return std::iter::once(0..content.len()).collect();
    }
    FastCDC::new(content, MIN, NORMAL, MAX).map(|chunk| chunk.offset..chunk.offset + chunk.length).collect()
}

/// Reads everything back, verifies it, and writes it to files below `target` if there is one.
fn load_all(found: &[Vec<Stored>], outputs: &[File], target: Option<&Path>) -> io::Result<()> {
    const PER_FOLDER: usize = 4;
    let next = AtomicUsize::new(0);
    on_threads(outputs, &|_| {
        let cipher = XChaCha20Poly1305::new(&Key::from(KEY));
        let mut decompressor = zstd::bulk::Decompressor::new()?;
        let (mut bytes, mut plain) = (Vec::new(), Vec::new());
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(chunks) = found.get(number) else { return Ok(()) };
            let mut file = match target {
                None => None,
                Some(target) => {
                    let folder = target.join(format!("f{}", number / PER_FOLDER));
                    if number.is_multiple_of(PER_FOLDER) || !folder.exists() {
                        fs::create_dir_all(&folder)?;
                    }
                    Some(File::create(folder.join(number.to_string()))?)
                }
            };
            for chunk in chunks {
                bytes.resize(32 + chunk.length, 0);
                outputs[chunk.file].read_exact_at(&mut bytes, chunk.offset)?;
                let (id, sealed) = bytes.split_at_mut(32);
                let (text, tag) = sealed.split_at_mut(sealed.len() - TAG);
                let tag = chacha20poly1305::Tag::try_from(&*tag).map_err(io::Error::other)?;
                cipher
                    .decrypt_inout_detached(&nonce(), id, text.into(), &tag)
                    .map_err(|_| io::Error::other("opening failed"))?;
                plain.resize(chunk.plain, 0);
                decompressor.decompress_to_buffer(&*text, &mut plain)?;
                if blake3::keyed_hash(&KEY, &plain).as_bytes() != &*id {
                    return Err(io::Error::other("the floor read back something else"));
                }
                if let Some(file) = &mut file {
                    file.write_all(&plain)?;
                }
            }
        }
    })
}
