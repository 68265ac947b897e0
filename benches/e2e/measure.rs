//! Running a command and watching it: wall time, CPU time, memory, of it and of everything it starts.
//!
//! Memory is sampled every few milliseconds from `/proc`. `VmHWM` is the kernel's own peak, maps of files included;
//! `RssAnon`, which has no peak of its own, is what the promise is about. CPU time is read from the process while it
//! is dead but not yet waited for, so that it covers everything to its end.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

const INTERVAL: Duration = Duration::from_millis(3);
/// Once a process held this much and then less than half, a key derivation lies behind it.
const KDF: u64 = 150 << 20;

/// What one run of a command took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    pub(crate) wall: f64,
    pub(crate) cpu: f64,
    /// Peak resident memory in bytes, summed over its processes.
    pub(crate) peak: u64,
    /// Peak anonymous resident memory in bytes.
    pub(crate) anonymous: u64,
    /// The same from the moment on when the memory of a key derivation was given back.
    pub(crate) anonymous_after_kdf: u64,
    /// What went wrong, if anything did.
    pub(crate) failure: Option<String>,
}

/// A command line with what it needs around it.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    words: Vec<OsString>,
}

impl Line {
    /// Makes a command line of a program and its arguments.
    pub(crate) fn new(words: &[&dyn AsRef<std::ffi::OsStr>]) -> Self {
        Self { words: words.iter().map(|word| word.as_ref().to_owned()).collect() }
    }

    /// Makes a command line that a shell takes apart.
    pub(crate) fn shell(text: String) -> Self {
        Self { words: ["sh".into(), "-c".into(), text.into()].into() }
    }
}

/// Runs a command to its end, in a home of its own, with at most `data_limit` bytes of data memory.
pub(crate) fn run(line: &Line, home: &Path, data_limit: Option<u64>) -> io::Result<Run> {
    let mut command = match data_limit {
        None => Command::new(&line.words[0]),
        Some(limit) => {
            let mut command = Command::new("sh");
            command
                .arg("-c")
                .arg(format!("ulimit -d {} && exec \"$@\"", limit >> 10))
                .arg("sh")
                .arg(&line.words[0]);
            command
        }
    };
    command.args(&line.words[1..]);
    let log = home.join("log");
    let output = fs::File::create(&log)?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).current_dir(home);
    for (variable, folder) in [
        ("HOME", "home"),
        ("XDG_CACHE_HOME", "cache"),
        ("XDG_DATA_HOME", "data"),
        ("XDG_CONFIG_HOME", "config"),
    ] {
        command.env(variable, home.join(folder));
    }
    let secret = "correct horse battery staple";
    for variable in ["PLAKAR_PASSPHRASE", "RESTIC_PASSWORD", "RUSTIC_PASSWORD", "BORG_PASSPHRASE"] {
        command.env(variable, secret);
    }
    let begun = Instant::now();
    let mut child = command.spawn()?;
    let pid = Pid::from_child(&child);
    let mut memory = Memory::default();
    let dead = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    while waitid(WaitId::Pid(pid), dead)?.is_none() {
        memory.sample(pid.as_raw_pid());
        std::thread::sleep(INTERVAL);
    }
    let wall = begun.elapsed().as_secs_f64();
    let cpu = cpu_seconds(pid.as_raw_pid()).unwrap_or(0.0);
    let status = child.wait()?;
    let failure = (!status.success()).then(|| {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let last = text.lines().rev().take(3).collect::<Vec<_>>().join(" | ");
        format!("{status}: {last}")
    });
    let Memory { high, anonymous, after_kdf, .. } = memory;
    Ok(Run { wall, cpu, peak: high.values().sum(), anonymous, anonymous_after_kdf: after_kdf, failure })
}

#[derive(Default)]
struct Memory {
    /// The kernel's peak of each process.
    high: HashMap<i32, u64>,
    anonymous: u64,
    kdf: bool,
    after_kdf: u64,
}

impl Memory {
    fn sample(&mut self, pid: i32) {
        let now = self.add(pid);
        self.anonymous = self.anonymous.max(now);
        if !self.kdf && self.anonymous > KDF && now < self.anonymous / 2 {
            (self.kdf, self.after_kdf) = (true, 0);
        }
        self.after_kdf = self.after_kdf.max(now);
    }

    /// Adds up a process and its children; returns their anonymous memory.
    fn add(&mut self, pid: i32) -> u64 {
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return 0 };
        if let Some(high) = kib_of(&status, "VmHWM:") {
            self.high.insert(pid, high);
        }
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let below: u64 = children
            .split_whitespace()
            .filter_map(|child| child.parse().ok())
            .map(|child| self.add(child))
            .sum();
        kib_of(&status, "RssAnon:").unwrap_or(0) + below
    }
}

/// Returns a field of `/proc/PID/status` in bytes.
fn kib_of(status: &str, field: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(field))?;
    rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// Returns the CPU time of a process and its waited-for children.
pub(crate) fn cpu_seconds(pid: i32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold spaces.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}
