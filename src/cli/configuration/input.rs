//! Where `import` reads from: a file, a URL, or standard input.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use super::super::error::CommandError;
use super::import::Import;
use crate::base::{At as _, Cancel, Printable};
use crate::connectors::http::fetch_document;
use crate::connectors::redact;
use crate::store;
use crate::ui::Output;

/// The most that is read, in bytes.
const MOST: u64 = 4 << 20;
/// How often a run that waits for input looks whether it is to stop.
const GLANCE: Duration = Duration::from_millis(50);

/// A text, and the name of what it came from.
pub(super) struct Input {
    pub(super) text: String,
    /// For messages: a path, a URL without secrets, or `standard input`.
    pub(super) from: String,
}

/// Reads what `-config` names: a file, an http or https URL, or, when it is `-` or missing, standard input. With
/// `-rclone` and no `-config`, the first of `rclone_files` that exists.
pub(super) fn read(
    import: &Import,
    rclone_files: &[PathBuf],
    cancel: &Cancel,
    output: &Output,
) -> Result<Input, CommandError> {
    let named = import.config.as_deref();
    match named.filter(|path| *path != Path::new("-")) {
        Some(path) => match path.to_str().filter(|text| text.contains("://")) {
            Some(url) => from_url(url, cancel, output),
            None => from_file(path.to_owned(), cancel),
        },
        None if import.rclone && named.is_none() => {
            let found = rclone_files.iter().find(|path| path.exists());
            let Some(path) = found else { return Err(no_rclone(rclone_files)) };
            from_file(path.clone(), cancel)
        }
        None => {
            let stdin = io::stdin();
            if stdin.is_terminal() {
                return Err(CommandError::usage("nothing to import: standard input is a terminal")
                    .hint("give a file or a URL with -config, or pipe one in"));
            }
            let from = "standard input".to_owned();
            let text = interruptible(cancel, move || bounded(stdin, "-".into()))?;
            Ok(Input { text, from })
        }
    }
}

fn no_rclone(tried: &[PathBuf]) -> CommandError {
    let tried: Vec<String> = tried.iter().map(|path| Printable::os(path).to_string()).collect();
    let tried = if tried.is_empty() { "HOME is not set".to_owned() } else { tried.join(", ") };
    CommandError::usage(format!("there is no rclone configuration ({tried})"))
        .hint("-config PATH names the file; 'rclone config file' prints where it is")
}

fn from_file(path: PathBuf, cancel: &Cancel) -> Result<Input, CommandError> {
    let from = Printable::os(&path).to_string();
    // A pipe with a name is opened when somebody writes to it.
    let text = interruptible(cancel, move || bounded(File::open(&path).at("open", &path)?, path.clone()))?;
    Ok(Input { text, from })
}

fn from_url(url: &str, cancel: &Cancel, output: &Output) -> Result<Input, CommandError> {
    let from = redact(url);
    if url.starts_with("http://") {
        output.warn(format!(
            "{} is not protected on its way: anybody there can read and change it",
            Printable::new(&from)
        ));
    }
    let url = url.to_owned();
    let bytes = interruptible(cancel, move || Ok(fetch_document(&url, MOST)?))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| CommandError::usage(format!("{} is not text in UTF-8", Printable::new(&from))))?;
    Ok(Input { text, from })
}

fn bounded(input: impl Read, path: PathBuf) -> Result<String, CommandError> {
    let mut bytes = Vec::new();
    input.take(MOST + 1).read_to_end(&mut bytes).at("read", &path)?;
    if bytes.len() as u64 > MOST {
        return Err(CommandError::usage(format!("{} is larger than 4 MiB", Printable::os(&path))));
    }
    String::from_utf8(bytes)
        .map_err(|_| CommandError::usage(format!("{} is not text in UTF-8", Printable::os(&path))))
}

/// Waits for something that may take for ever, unless the run is to stop.
fn interruptible<T: Send + 'static>(
    cancel: &Cancel,
    run: impl FnOnce() -> Result<T, CommandError> + Send + 'static,
) -> Result<T, CommandError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    // The thread is left behind when the run ends first: the process ends then.
    std::thread::spawn(move || {
        let _ = sender.send(run());
    });
    loop {
        match receiver.recv_timeout(GLANCE) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Timeout) if cancel.is_cancelled() => {
                return Err(store::Error::Cancelled.into());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(CommandError::failed("the thread that reads the input died"));
            }
        }
    }
}
