//! The whole way, end to end, beside others: `cargo bench --bench e2e`.
//!
//! Makes a data set from a seed ([`data`]), measures what the bare parts take on it ([`floor`]), and runs this
//! crate's program and whatever else is installed on the same data, one after the other, in one run ([`tools`]).
//! What is restored is compared with what went in: names, modes, times, contents. Absolute times are printed and
//! never judged: what counts is the ratio to the floor and to the others, all measured by the same machine in the
//! same minutes. Run it twice on an idle machine; on ext4 without a journal, not right after a large deletion, which
//! makes the kernel search long for inodes and restores slow.
//!
//! | Variable | Meaning |
//! |---|---|
//! | `PLAKAR_BENCH_MIB` | size of the data in MiB; 1024 when not set |
//! | `PLAKAR_BENCH_DATA` | a folder for the data, made there unless it exists, and kept |
//! | `PLAKAR_BENCH_TOOLS` | only what has one of these words (comma-separated) in its name |
//! | `UPSTREAM_PLAKAR` | path of upstream's binary, which is run if this is set |
//! | `TMPDIR` | where everything happens; a folder of it, removed at the end: for 1 GiB about 4 GiB a tool |
//!
//! Columns: seconds on the clock; of processors; MiB of content a second; peak resident memory, which counts mapped
//! pages of the store; peak anonymous memory, and the same behind the key derivation, whose memory is given back
//! before any buffer exists; the clock less that of `open` (key derivation and opening), over the floor's. A second
//! pass repeats our operations with `RLIMIT_DATA` at 256 MiB and what the key derivation demands.

mod data;
mod floor;
mod measure;
mod tools;

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use data::DataSet;
use floor::{Floors, Timing};
use measure::Run;
use tools::{Operation, Places, Tool};

type Failure = Box<dyn std::error::Error>;

const MIB: f64 = 1_048_576.0;
/// What the program promises, in bytes of anonymous memory.
const PROMISE: u64 = 256 << 20;

fn main() -> Result<(), Failure> {
    // `cargo test --benches` and `cargo nextest` start this without `--bench`: there is nothing to test then.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let mib = match std::env::var("PLAKAR_BENCH_MIB") {
        Ok(text) => text.parse::<u64>()?,
        Err(_) => 1024,
    };
    let scratch = tempfile::Builder::new().prefix("plakar-bench-").tempdir()?;
    let kept = std::env::var_os("PLAKAR_BENCH_DATA");
    let root = kept.map_or_else(|| scratch.path().join("data"), Into::into);
    let data = if root.exists() { data::measure(&root)? } else { data::generate(&root, mib)? };
    let manifest = data::manifest(&root)?;
    say(&format!("{} files, {} folders, {:.0} MiB", data.files, data.folders, data.bytes as f64 / MIB))?;
    let floors = floor::measure(&root, &scratch.path().join("floor"))?;
    print_floors(&floors, data.bytes)?;
    let wanted = std::env::var("PLAKAR_BENCH_TOOLS").unwrap_or_default();
    let wanted: Vec<&str> = wanted.split(',').filter(|word| !word.is_empty()).collect();
    let mut failed = false;
    for tool in tools::tools(Path::new(env!("CARGO_BIN_EXE_plakar"))) {
        if !wanted.is_empty() && !wanted.iter().any(|word| tool.name.contains(word)) {
            continue;
        }
        for limit in [None, Some(PROMISE + tool.kdf_memory)] {
            if limit.is_some() && !tool.limited {
                continue;
            }
            let bench = Bench { tool: &tool, data: &data, manifest, floors: &floors, limit };
            failed |= !bench.run(scratch.path())?;
        }
    }
    if failed {
        Err("an operation failed, restored something else, or broke the promise of memory".into())
    } else {
        Ok(())
    }
}

/// One tool under one limit.
struct Bench<'a> {
    tool: &'a Tool,
    data: &'a DataSet,
    manifest: blake3::Hash,
    floors: &'a Floors,
    limit: Option<u64>,
}

impl Bench<'_> {
    /// Runs all operations; returns whether all did what they should.
    fn run(&self, scratch: &Path) -> Result<bool, Failure> {
        // Nothing is removed before the end: some file systems look long for inodes when many were freed just now.
        let home = tempfile::tempdir_in(scratch)?.keep();
        let (store, archive, target) = (home.join("store"), home.join("a.ptar"), home.join("target"));
        let places = Places { data: &self.data.root, store: &store, archive: &archive, target: &target };
        self.head()?;
        let (mut good, mut opening) = (true, 0.0);
        for operation in Operation::ALL {
            let Some(line) = self.tool.line(operation, &places) else { continue };
            let run = measure::run(&line, &home, self.limit)?;
            if operation == Operation::Info && self.tool.derives {
                opening = run.wall;
            }
            self.row(operation, &run, opening)?;
            let mut complaint = run.failure.clone();
            if complaint.is_none() && operation.restores() {
                complaint = self.compare(&target)?;
                fs::rename(&target, home.join(operation.name()))?;
            }
            if self.tool.limited && run.anonymous_after_kdf > PROMISE {
                complaint = complaint.or(Some("more anonymous memory than promised".into()));
            }
            if let Some(complaint) = complaint {
                say(&format!("    {}: {complaint}", operation.name()))?;
                good = false;
            }
        }
        if store.exists() || archive.exists() {
            let archive_bytes = fs::metadata(&archive).map_or(0, |metadata| metadata.len());
            let store_bytes = data::size(&store).unwrap_or(0);
            let share = |bytes: u64| bytes as f64 / self.data.bytes as f64;
            say(&format!(
                "    stored: {:.3} of the data in the store, {:.3} in the archive",
                share(store_bytes),
                share(archive_bytes)
            ))?;
        }
        Ok(good)
    }

    /// Compares what was restored, wherever below the target the tool put it.
    fn compare(&self, target: &Path) -> Result<Option<String>, Failure> {
        let nested = target.join(self.data.root.strip_prefix("/").unwrap_or(&self.data.root));
        let found = data::manifest(if nested.exists() { &nested } else { target })?;
        Ok((found != self.manifest).then(|| "what was restored is not what went in".into()))
    }

    fn head(&self) -> io::Result<()> {
        let limit =
            self.limit.map_or(String::new(), |limit| format!(", at most {} MiB of data memory", limit >> 20));
        say("")?;
        say(&format!(
            "{:<20} {:>8} {:>8} {:>8} {:>9} {:>9} {:>9} {:>9}",
            format!("{}{limit}", self.tool.name),
            "clock s",
            "cpu s",
            "MiB/s",
            "peak MiB",
            "anon MiB",
            "after KDF",
            "x floor"
        ))
    }

    fn row(&self, operation: Operation, run: &Run, opening: f64) -> io::Result<()> {
        let mib = |bytes: u64| bytes as f64 / MIB;
        let (rate, ratio) = match self.floor_of(operation) {
            None => (String::new(), String::new()),
            Some(floor) => {
                let net = (run.wall - opening).max(0.001);
                let rate = format!("{:.0}", self.data.bytes as f64 / MIB / run.wall);
                (rate, format!("{:.2}", net / floor.wall.max(0.001)))
            }
        };
        say(&format!(
            "{:<20} {:>8.2} {:>8.2} {rate:>8} {:>9.0} {:>9.0} {:>9.0} {ratio:>9}",
            operation.name(),
            run.wall,
            run.cpu,
            mib(run.peak),
            mib(run.anonymous),
            mib(run.anonymous_after_kdf)
        ))
    }

    fn floor_of(&self, operation: Operation) -> Option<Timing> {
        match operation {
            Operation::Create | Operation::Info => None,
            Operation::Backup | Operation::Archive => Some(self.floors.store),
            Operation::Unchanged => Some(self.floors.walk),
            Operation::Check | Operation::ArchiveCheck => Some(self.floors.check),
            Operation::Restore | Operation::ArchiveRestore => Some(self.floors.restore),
        }
    }
}

fn print_floors(floors: &Floors, bytes: u64) -> io::Result<()> {
    say(&format!("{:<20} {:>8} {:>8} {:>8}", "floor", "clock s", "cpu s", "MiB/s"))?;
    for (name, timing) in
        [("store", floors.store), ("walk", floors.walk), ("check", floors.check), ("restore", floors.restore)]
    {
        let rate = bytes as f64 / MIB / timing.wall.max(0.001);
        say(&format!("{name:<20} {:>8.2} {:>8.2} {rate:>8.0}", timing.wall, timing.cpu))?;
    }
    say(&format!("    stored: {:.3} of the data", floors.ratio))
}

fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}
