//! The system's `ssh`, which knows keys, agents, known hosts, jump hosts and everything else of `~/.ssh/config`.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::connection::{Carrier, Connection, Death};
use super::options::Options;
use crate::base::{Cancel, Printable};
use crate::connector::ErrorKind;

/// How much of what `ssh` says is kept, in bytes: the end of it.
const KEPT: usize = 4 << 10;
/// How long a connection without a person may take to come about.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long one may take where somebody types a password.
const PATIENCE_WITH_PEOPLE: Duration = Duration::from_mins(3);
/// How long `ssh` may take to end, and to have said why.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What `ssh` said last.
#[derive(Debug, Default)]
struct Said {
    text: Mutex<VecDeque<u8>>,
    ended: AtomicBool,
}

/// A running `ssh`.
#[derive(Debug)]
struct Process {
    child: Mutex<Child>,
    said: Arc<Said>,
    program: String,
}

impl Process {
    /// Returns the code that it ended with, waiting a little for it.
    fn code(&self) -> Option<std::process::ExitStatus> {
        let begun = Instant::now();
        loop {
            let waited = self.child.lock().unwrap_or_else(PoisonError::into_inner).try_wait();
            match waited {
                Ok(Some(status)) => return Some(status),
                Ok(None) if begun.elapsed() < LAST_WORDS => std::thread::sleep(Duration::from_millis(10)),
                _ => return None,
            }
        }
    }
}

impl Carrier for Process {
    fn end(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        // It may have ended by itself; then there is nothing to kill, and waiting is over at once.
        let _ = child.kill();
        let _ = child.wait();
    }

    fn why(&self) -> Death {
        let status = self.code();
        let begun = Instant::now();
        while !self.said.ended.load(Ordering::Acquire) && begun.elapsed() < LAST_WORDS {
            std::thread::sleep(Duration::from_millis(10));
        }
        let text: Vec<u8> =
            self.said.text.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        let ended = match status {
            Some(status) => format!("{} ended ({status})", self.program),
            None => "the connection ended".into(),
        };
        explain(&String::from_utf8_lossy(&text), &ended)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Says what became of a connection from what `ssh` said before it ended.
fn explain(said: &str, ended: &str) -> Death {
    let lines: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    // The last lines tell the reason; a banner comes before them.
    let words = lines[lines.len().saturating_sub(3)..].join("; ");
    let has = |part: &str| said.contains(part);
    let (kind, advice) = if has("Host key verification failed")
        || has("REMOTE HOST IDENTIFICATION HAS CHANGED")
    {
        let advice = if has("IDENTIFICATION HAS CHANGED") {
            "the server's key is not the known one: somebody may be listening; if it was replaced on purpose, \
             remove the old one with ssh-keygen -R HOST"
        } else {
            "the server's key is not known: connect once with ssh and compare its fingerprint"
        };
        (ErrorKind::Denied, advice)
    } else if has("Permission denied") || has("Too many authentication failures") {
        let advice = "a key that the server accepts is needed: identity=FILE, an agent, or ~/.ssh/config";
        (ErrorKind::Denied, advice)
    } else if has("Identity file") && has("not accessible") {
        (ErrorKind::Denied, "the identity cannot be read")
    } else if has("subsystem request failed") {
        (ErrorKind::Unsupported, "the server has no SFTP")
    } else if has("Bad configuration option") || has("no argument after") {
        (ErrorKind::Invalid, "")
    } else {
        (ErrorKind::Transport, "")
    };
    let mut parts =
        vec![if words.is_empty() { ended.to_owned() } else { Printable::message(&words).to_string() }];
    if !advice.is_empty() {
        parts.push(advice.to_owned());
    }
    Death::new(kind, parts.join(" – "))
}

/// Starts `ssh` and greets the server. With `ask`, `ssh` may ask a person at the terminal.
pub(super) fn connect(options: &Options, cancel: &Cancel, ask: bool) -> Result<Connection, Death> {
    let mut command = Command::new(&options.program);
    command.args(options.arguments(!ask)).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if !ask {
        // Who interrupts this program does not interrupt ssh, so that locks can still be taken back. Where ssh asks,
        // it has to belong to the terminal.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
    }
    let program = options.program.to_string_lossy().into_owned();
    let failed = |error: io::Error| {
        let advice =
            if error.kind() == io::ErrorKind::NotFound { "; install the OpenSSH client" } else { "" };
        Death::new(ErrorKind::Unsupported, format!("{program} cannot be started: {error}{advice}"))
    };
    let mut child = command.spawn().map_err(failed)?;
    let (Some(input), Some(output), Some(errors)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(Death::new(ErrorKind::Io, "the pipes to ssh are missing"));
    };
    let said = Arc::new(Said::default());
    collect(errors, Arc::clone(&said));
    let process = Process { child: Mutex::new(child), said, program };
    let patience = if ask { PATIENCE_WITH_PEOPLE } else { PATIENCE };
    open(output, input, process, cancel, patience)
}

fn open(
    output: ChildStdout,
    input: ChildStdin,
    process: Process,
    cancel: &Cancel,
    patience: Duration,
) -> Result<Connection, Death> {
    Connection::open(output, input, Box::new(process), cancel, patience)
}

/// Keeps the end of what a stream says.
fn collect(mut stream: impl Read + Send + 'static, said: Arc<Said>) {
    let read = move || {
        let mut buffer = [0; 1024];
        while let Ok(count) = stream.read(&mut buffer) {
            if count == 0 {
                break;
            }
            let mut text = said.text.lock().unwrap_or_else(PoisonError::into_inner);
            text.extend(&buffer[..count]);
            let over = text.len().saturating_sub(KEPT);
            text.drain(..over);
        }
        said.ended.store(true, Ordering::Release);
    };
    // Without the thread errors are told in fewer words.
    let _ = std::thread::Builder::new().name("ssh errors".into()).stack_size(128 << 10).spawn(read);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ssh_says_becomes_a_reason() {
        for (said, kind, words) in [
            ("u@h: Permission denied (publickey).\r\n", ErrorKind::Denied, "identity="),
            ("Host key verification failed.\n", ErrorKind::Denied, "fingerprint"),
            (
                "@@@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @@@\nHost key verification failed.\n",
                ErrorKind::Denied,
                "ssh-keygen -R",
            ),
            ("ssh: connect to host h port 22: Connection refused\n", ErrorKind::Transport, "refused"),
            ("subsystem request failed on channel 0\n", ErrorKind::Unsupported, "no SFTP"),
            ("\x1b[2Jodd\n", ErrorKind::Transport, "\\x1b[2Jodd"),
            ("", ErrorKind::Transport, "it ended"),
        ] {
            let death = explain(said, "it ended");
            assert!(death.kind == kind && death.detail.contains(words), "{said}: {death:?}");
        }
    }
}
