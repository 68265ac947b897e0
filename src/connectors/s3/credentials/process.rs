//! Credentials that a program prints (`credential_process`).

use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::keys::parse_json;
use super::{Credentials, CredentialsError};
use crate::base::Printable;

/// How long the program may run.
const LIMIT: Duration = Duration::from_mins(1);
/// The most that is read of what it prints, in bytes.
const MAX_OUTPUT: u64 = 256 << 10;
/// The most that is shown of its complaint, in characters.
const MAX_COMPLAINT: usize = 200;

/// A program and its arguments.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Process {
    words: Vec<String>,
    origin: String,
}

impl Process {
    /// Splits a command line into words as a shell would, without anything else a shell does.
    pub(super) fn parse(line: &str, profile: &str) -> Result<Self, CredentialsError> {
        let origin = format!("credential_process of profile {profile}");
        let words = split(line).map_err(|what| CredentialsError::invalid(format!("{origin} {what}")))?;
        if words.is_empty() {
            return Err(CredentialsError::invalid(format!("{origin} names no program")));
        }
        Ok(Self { words, origin })
    }

    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// Runs the program; a minute at most.
    pub(super) fn resolve(&self) -> Result<Credentials, CredentialsError> {
        self.run(LIMIT)
    }

    fn run(&self, limit: Duration) -> Result<Credentials, CredentialsError> {
        let denied = |what: String| CredentialsError::denied(format!("{} {what}", self.origin));
        let mut child = Command::new(&self.words[0])
            .args(&self.words[1..])
            .env_remove("PLAKAR_PASSPHRASE")
            .env_remove("PLAKAR_PEER_PASSPHRASE")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| denied(format!("cannot be started: {error}")))?;
        let (output, complaint) = (child.stdout.take().map(drain), child.stderr.take().map(drain));
        let end = Instant::now() + limit;
        let Some(status) = wait(&mut child, end) else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(denied(format!("ran longer than {} seconds", limit.as_secs())));
        };
        // A process of its own may hold the pipes open: it is not waited for any longer than the program itself.
        let receive = |from: Option<Receiver<Vec<u8>>>| {
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
            from.and_then(|from| from.recv_timeout(left).ok()).unwrap_or_default()
        };
        if !status.success() {
            let text = receive(complaint);
            let text = String::from_utf8_lossy(&text);
            let line: String = text.lines().next().unwrap_or_default().chars().take(MAX_COMPLAINT).collect();
            let line = Printable::message(line.trim()).to_string();
            let said = if line.is_empty() { String::new() } else { format!(", saying: {line}") };
            return Err(denied(format!("failed ({status}){said}")));
        }
        parse_json(&receive(output), true, &self.origin)
    }
}

/// Reads a pipe on a thread of its own.
fn drain(pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let mut pipe = pipe;
        let _ = pipe.by_ref().take(MAX_OUTPUT).read_to_end(&mut bytes);
        let _ = send.send(bytes);
        // What is beyond the limit is read and forgotten, so that the program is not stopped by a full pipe.
        let _ = std::io::copy(&mut pipe, &mut std::io::sink());
    });
    receive
}

fn wait(child: &mut std::process::Child, end: Instant) -> Option<ExitStatus> {
    let mut pause = Duration::from_millis(2);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < end => std::thread::sleep(pause),
            _ => return None,
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Splits words at white space; quotes and backslashes keep it, as POSIX (2.2) has it.
fn split(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\\' => word.get_or_insert_default().push(chars.next().ok_or("ends in a backslash")?),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or("does not close a quote")? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or("does not close a quote")? {
                        '"' => break,
                        '\\' => match chars.next().ok_or("does not close a quote")? {
                            c @ ('"' | '\\' | '$' | '`') => word.push(c),
                            c => word.extend(['\\', c]),
                        },
                        c => word.push(c),
                    }
                }
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str, limit: Duration) -> Result<Credentials, String> {
        Process::parse(line, "p").unwrap().run(limit).map_err(|error| error.to_string())
    }

    #[test]
    fn words_are_split_without_a_shell() {
        let cases: [(&str, &[&str]); 6] = [
            ("a  b\tc", &["a", "b", "c"]),
            (r#""/my tool/x" --a='b c' d\ e"#, &["/my tool/x", "--a=b c", "d e"]),
            (r#"'' "" x"#, &["", "", "x"]),
            (r#"a "\"b\\ \n $HOME""#, &["a", r#""b\ \n $HOME"#]),
            ("a;b|c $(d) > e", &["a;b|c", "$(d)", ">", "e"]),
            ("", &[]),
        ];
        for (line, words) in cases {
            assert_eq!(split(line).unwrap(), words, "{line}");
        }
        for line in ["'a", "\"a", "a\\", "\"a\\"] {
            assert!(split(line).is_err(), "{line}");
        }
        assert!(Process::parse(" ", "p").is_err());
    }

    #[test]
    fn what_a_program_prints_is_taken() {
        let line = r#"printf '%s' '{"Version":1,"AccessKeyId":"A","SecretAccessKey":"S"}'"#;
        let got = run(line, LIMIT).unwrap();
        assert_eq!((got.access_key.as_str(), got.origin.as_str()), ("A", "credential_process of profile p"));
    }

    #[test]
    fn failures_tell_one_line_of_the_complaint() {
        let told = run("sh -c 'echo one >&2; echo hush >&2; echo psst; exit 3'", LIMIT).unwrap_err();
        assert!(told.contains("saying: one") && told.contains('3'), "{told}");
        assert!(!told.contains("hush") && !told.contains("psst"), "{told}");
        assert!(run("/nonexistent/tool", LIMIT).unwrap_err().contains("cannot be started"));
        assert!(run("echo hush", LIMIT).is_err_and(|told| !told.contains("hush")));
        // More than a pipe holds does not stop it.
        assert!(run("head -c 1000000 /dev/zero", LIMIT).unwrap_err().contains("not a JSON"));
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let told = run("sleep 1000", Duration::from_millis(50)).unwrap_err();
        assert!(told.contains("ran longer"), "{told}");
    }
}
