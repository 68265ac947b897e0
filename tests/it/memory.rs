//! The promise of `-memory`: what the program holds does not grow with what it is given.
//!
//! Every command runs on 3,000 files and one of 300 MiB with a small budget, under a limit of its data memory that
//! makes it fail rather than grow, while its anonymous memory is watched. The store is not encrypted: a key
//! derivation takes what its parameters say, whatever the budget.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::cli::User;

const MIB: u64 = 1 << 20;
const FILES: u64 = 3000;
const LARGE: u64 = 300 * MIB;
/// The budget of the runs.
const BUDGET: &str = "64MiB";
/// The budget, and what the program itself takes: its relocated data, stacks, the allocator's slack.
const RESIDENT: u64 = 96 * MIB;
/// Address space for data. Stacks of threads and arenas of the allocator count here before they are touched.
const LIMIT: u64 = 256 * MIB;

/// Makes small files and a large one that is noise, repetition and holes.
fn make_tree(root: &Path) {
    let mut noise = blake3::Hasher::new().update(b"noise").finalize_xof();
    let mut bytes = vec![0; 64 << 10];
    for number in 0..FILES {
        let folder = root.join(format!("{:02}/{}", number % 100, number % 7));
        if number < 700 {
            fs::create_dir_all(&folder).unwrap();
        }
        let length = usize::try_from(number * 7919 % 12_000).unwrap();
        noise.fill(&mut bytes[..length]);
        fs::write(folder.join(format!("file-{number}")), &bytes[..length]).unwrap();
    }
    let large = File::create(root.join("large")).unwrap();
    large.set_len(LARGE).unwrap();
    let mut bytes = vec![0; 8 << 20];
    for start in (0..LARGE).step_by(40 << 20) {
        // Noise, then the same once more, then a hole.
        noise.fill(&mut bytes);
        large.write_all_at(&bytes, start).unwrap();
        large.write_all_at(&bytes, start + (8 << 20)).unwrap();
    }
}

/// The most memory that a process was seen to have, in bytes.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Peaks {
    /// Pages that it touched and no file stands behind.
    pub(crate) anonymous: u64,
    /// What the limit of data counts: stacks, and all that the allocator took from the system.
    pub(crate) data: u64,
}

impl Peaks {
    /// Raises the peaks to what `/proc/PID/status` says.
    fn raise(&mut self, status: &str) {
        let raise = |peak: &mut u64, name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = value.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
            *peak = (*peak).max(kib.unwrap_or(0) << 10);
        };
        raise(&mut self.anonymous, "RssAnon:");
        raise(&mut self.data, "VmData:");
    }
}

/// Runs a command under the limit; returns its peak of anonymous memory, in bytes.
fn watched(user: &User, line: &str) -> u64 {
    watched_below(LIMIT, user, line).anonymous
}

/// Runs a command under a limit of its data memory in bytes, and watches it.
pub(crate) fn watched_below(limit: u64, user: &User, line: &str) -> Peaks {
    let log = user.home().join("log");
    let mut command = user.command(line.split_whitespace());
    command.stdout(File::create(&log).unwrap()).stderr(File::options().append(true).open(&log).unwrap());
    let mut child = command.spawn().unwrap();
    let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
    // Set while it starts: what counts is what it asks for from then on.
    prlimit(Some(Pid::from_child(&child)), Resource::Data, limit).unwrap();
    let mut peaks = Peaks::default();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        peaks.raise(&fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(2));
    };
    assert!(status.success(), "plakar {line}: {status}: {}", fs::read_to_string(&log).unwrap());
    assert!(peaks.anonymous > MIB && peaks.data > MIB, "plakar {line}: it was watched");
    peaks
}

/// Returns every file below a folder with the hash of its content.
fn contents(root: &Path) -> Vec<(PathBuf, blake3::Hash)> {
    let (mut found, mut folders) = (Vec::new(), vec![root.to_owned()]);
    let mut buffer = vec![0; 1 << 20];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let (mut hasher, mut file) = (blake3::Hasher::new(), File::open(entry.path()).unwrap());
            loop {
                match file.read(&mut buffer).unwrap() {
                    0 => break,
                    read => hasher.write_all(&buffer[..read]).unwrap(),
                }
            }
            found.push((entry.path().strip_prefix(root).unwrap().to_owned(), hasher.finalize()));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

#[test]
fn every_command_stays_within_its_budget() {
    let user = User::new();
    let tree = user.home().join("tree");
    make_tree(&tree);
    let wanted = contents(&tree);
    assert_eq!(wanted.len() as u64, FILES + 1);
    let small = format!("-memory {BUDGET}");
    user.ok("at ./store create -plaintext");
    let peaks: Vec<(&str, u64)> = [
        ("backup", format!("{small} at ./store backup {}", tree.display())),
        ("backup, unchanged", format!("{small} at ./store backup {}", tree.display())),
        ("check", format!("{small} at ./store check")),
        ("restore", format!("{small} at ./store restore -to ./restored")),
        ("archive", format!("{small} ptar -plaintext -o ./a.ptar {}", tree.display())),
        ("export", format!("{small} ptar -plaintext -o ./b.ptar -k ./store")),
        ("archive check", format!("{small} at ./a.ptar check")),
        ("archive restore", format!("{small} at ./a.ptar restore -to ./unpacked")),
    ]
    .into_iter()
    .map(|(name, line)| (name, watched(&user, &line)))
    .collect();
    for restored in ["restored", "unpacked"] {
        let root = user.home().join(restored);
        assert!(contents(&root) == wanted, "{restored} holds something else");
        let allocated = fs::metadata(root.join("large")).unwrap().blocks() * 512;
        assert!(allocated < LARGE * 3 / 4, "holes stay holes: {allocated} bytes are allocated");
    }
    let over: Vec<_> = peaks.iter().filter(|(_, peak)| *peak > RESIDENT).collect();
    assert!(over.is_empty(), "with a budget of {BUDGET}, in bytes: {peaks:?}");
}
