//! Standard input and output as they are, without the standard library's buffers.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};

use crate::base::Cancel;
use crate::connector::{Error, ErrorKind, Result};

/// Standard input while it is read.
#[derive(Debug)]
pub(super) struct Pipe {
    file: File,
    cancel: Cancel,
}

impl Pipe {
    /// Takes standard input.
    pub(super) fn open(cancel: &Cancel) -> io::Result<Self> {
        #[cfg(unix)]
        let owned = std::os::fd::AsFd::as_fd(&io::stdin()).try_clone_to_owned()?;
        #[cfg(windows)]
        let owned = std::os::windows::io::AsHandle::as_handle(&io::stdin()).try_clone_to_owned()?;
        Ok(Self { file: File::from(owned), cancel: cancel.clone() })
    }

    /// Fails where a person would have to type what is to be read.
    pub(super) fn assert_none_types() -> Result<()> {
        if !io::stdin().is_terminal() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Invalid, "read", "standard input")
            .detail("it is a terminal; send the output of a program here: pg_dump db | plakar …"))
    }

    /// Waits until there is something to read, or everything is to end: a program that writes nothing must not keep
    /// this one from ending.
    #[cfg(unix)]
    fn wait(&self) -> io::Result<()> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        const NAP: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        loop {
            if self.cancel.is_cancelled() {
                return Err(io::Error::other("cancelled"));
            }
            match poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&NAP)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Does not wait: the read does.
    #[cfg(not(unix))]
    fn wait(&self) -> io::Result<()> {
        if self.cancel.is_cancelled() { Err(io::Error::other("cancelled")) } else { Ok(()) }
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait()?;
        self.file.read(buffer)
    }
}

/// Returns standard output.
pub(super) fn standard_output() -> io::Result<File> {
    #[cfg(unix)]
    let owned = std::os::fd::AsFd::as_fd(&io::stdout()).try_clone_to_owned()?;
    #[cfg(windows)]
    let owned = std::os::windows::io::AsHandle::as_handle(&io::stdout()).try_clone_to_owned()?;
    Ok(File::from(owned))
}
