//! The body of an answer while it is read.

use std::fmt;
use std::io::{self, Read};

use ureq::BodyReader;

use super::gate::Permit;

/// A body that gives its place among the requests in flight up with its last byte, or when it is dropped.
pub(super) struct Body {
    inner: Option<BodyReader<'static>>,
    /// What is still to come, where the answer told.
    left: Option<u64>,
    /// Whether more than that is an error: the answer did not tell, and was expected to be of this length.
    is_expected: bool,
    permit: Option<Permit>,
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("left", &self.left).finish_non_exhaustive()
    }
}

impl Body {
    /// No body.
    pub(super) fn none() -> Self {
        Self { inner: None, left: Some(0), is_expected: false, permit: None }
    }

    pub(super) fn new(inner: BodyReader<'static>, length: Option<u64>, permit: Option<Permit>) -> Self {
        Self { inner: Some(inner), left: length, is_expected: false, permit }
    }

    /// Sets the length that a body must have whose answer told none, as where it comes in chunks.
    pub(super) fn expect(&mut self, length: u64) {
        (self.left, self.is_expected) = (Some(length), true);
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(inner) = &mut self.inner else { return Ok(0) };
        if buffer.is_empty() {
            return Ok(0);
        }
        let n = match inner.read(buffer) {
            Ok(n) => n,
            Err(error) => {
                // What broke gives its place up at once: whoever reads on needs it.
                if error.kind() != io::ErrorKind::Interrupted {
                    (self.inner, self.permit) = (None, None);
                }
                return Err(error);
            }
        };
        if let Some(permit) = &mut self.permit {
            permit.moved(n as u64);
        }
        self.left = self.left.map(|left| left.saturating_sub(n as u64));
        let ended = n == 0;
        if ended {
            (self.inner, self.permit) = (None, None);
        } else if self.left == Some(0) {
            // The connection goes back to the others only when its end was looked at, which readers that count do not
            // do.
            match inner.read(&mut [0]) {
                Ok(0) => (self.inner, self.permit) = (None, None),
                Ok(_) if self.is_expected => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the answer is longer than it must be",
                    ));
                }
                _ => {}
            }
        }
        Ok(n)
    }
}
