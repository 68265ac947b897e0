//! The program as a process: arguments in, exit code and two streams out.

mod archive;
mod bucket;
mod check;
mod completions;
mod configuration;
mod diff;
mod digest;
mod dup;
mod find;
mod looks;
#[cfg(target_os = "linux")]
mod mount;
mod pkg;
mod readers;
mod removal;
mod restore;
mod server;
mod shapes;
mod stores;
mod streams;
mod terminal;
mod usage;

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A user with a home folder of their own and an environment that holds nothing else.
pub(crate) struct User {
    home: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl User {
    pub(crate) fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), variables: Vec::new() }
    }

    /// The same where writing costs nothing, if there is such a place: a folder in memory.
    pub(crate) fn in_memory() -> Self {
        Self { home: memory_dir(), variables: Vec::new() }
    }

    /// Sets an environment variable for the runs that follow.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Returns the variables that were set.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Returns a file of the configuration folder.
    pub(crate) fn config(&self, name: &str) -> PathBuf {
        self.home.path().join(".config/plakar").join(name)
    }

    pub(crate) fn command(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plakar"));
        command.env_clear().env("HOME", self.home.path()).env("PATH", "/usr/bin:/bin");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.args(args).current_dir(self.home.path()).stdin(Stdio::null());
        command
    }

    /// Runs a line, split at spaces.
    pub(crate) fn run(&self, line: &str) -> Ran {
        self.run_args(line.split_whitespace())
    }

    pub(crate) fn run_args(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ran {
        Ran::from(self.command(args).output().unwrap())
    }

    /// Runs a line that has to succeed, and returns what it printed.
    pub(crate) fn ok(&self, line: &str) -> String {
        let ran = self.run(line);
        assert_eq!(ran.code, 0, "plakar {line}: {}", ran.stderr);
        ran.stdout
    }
}

/// What a run left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("what is printed is text");
        Self {
            code: output.status.code().expect("it was not killed"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

/// Reads JSON lines.
pub(crate) fn json(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns the packfiles of a store in a folder.
pub(crate) fn packfiles(store: PathBuf) -> Vec<PathBuf> {
    let shards = std::fs::read_dir(store.join("packfiles")).unwrap();
    shards
        .flat_map(|shard| std::fs::read_dir(shard.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .collect()
}

/// Spells bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

/// A temporary folder in memory, where the system has that.
pub(crate) fn memory_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}
