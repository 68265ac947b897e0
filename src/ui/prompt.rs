//! Asking for a secret on the terminal.
//!
//! The terminal goes on working by lines, so that what was typed can be corrected, but does not echo. Ctrl-C is a
//! signal like everywhere else; that one and any other that ends the run end the waiting, too, and the terminal is left
//! as it was.

use std::fs::File;
use std::io::{self, Read as _, Write as _};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::base::Cancel;

/// The most bytes of one line; terminals take no more themselves.
const MOST: usize = 4096;
/// How long a signal that another thread received may go unnoticed, in nanoseconds.
const GLANCE: i64 = 100_000_000;

/// Puts the modes of a terminal back when dropped.
struct Quiet<'a> {
    terminal: &'a File,
    modes: Termios,
}

impl<'a> Quiet<'a> {
    fn begin(terminal: &'a File) -> io::Result<Self> {
        let modes = tcgetattr(terminal)?;
        let mut quiet = modes.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        // The end of the line is seen: what follows belongs below.
        quiet.local_modes.insert(LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(terminal, OptionalActions::Now, &quiet)?;
        Ok(Self { terminal, modes })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // A terminal that is gone has no modes to put back.
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.modes);
    }
}

/// Asks on the controlling terminal, without echo, and returns the line without its end.
///
/// # Errors
/// `Interrupted` when the run is to stop, `UnexpectedEof` when nothing more will be typed (Ctrl-D, a closed terminal).
pub fn ask_secret(prompt: &str, cancel: &Cancel) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut terminal = File::options().read(true).write(true).open("/dev/tty")?;
    let mut writer = terminal.try_clone()?;
    let quiet = Quiet::begin(&terminal)?;
    let answer = write_all(&mut writer, prompt).and_then(|()| line(&mut &terminal, cancel));
    drop(quiet);
    if answer.is_err() {
        // The prompt's line is not ended by what was not typed.
        let _ = write_all(&mut terminal, "\n");
    }
    answer
}

fn write_all(terminal: &mut File, text: &str) -> io::Result<()> {
    terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush())
}

fn line(terminal: &mut &File, cancel: &Cancel) -> io::Result<Zeroizing<Vec<u8>>> {
    // Reserved at once: a growing vector would leave copies of the secret behind.
    let mut line = Zeroizing::new(Vec::with_capacity(MOST));
    let mut byte = Zeroizing::new([0]);
    loop {
        if cancel.is_cancelled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let glance = Timespec { tv_sec: 0, tv_nsec: GLANCE };
        match poll(&mut [PollFd::new(terminal, PollFlags::IN)], Some(&glance)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        match terminal.read(&mut *byte) {
            Ok(0) if line.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(0) => return Ok(line),
            Ok(_) if byte[0] == b'\n' => return Ok(line),
            Ok(_) if line.len() == MOST => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "the line is longer than 4096 bytes",
                ));
            }
            Ok(_) => line.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
