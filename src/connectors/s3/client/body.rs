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
        Self { inner: None, left: Some(0), permit: None }
    }

    pub(super) fn new(inner: BodyReader<'static>, length: Option<u64>, permit: Option<Permit>) -> Self {
        Self { inner: Some(inner), left: length, permit }
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
        // The connection goes back to the others only when its end was looked at, which readers that count do not do.
        if ended || (self.left == Some(0) && inner.read(&mut [0]).is_ok_and(|n| n == 0)) {
            (self.inner, self.permit) = (None, None);
        }
        Ok(n)
    }
}
