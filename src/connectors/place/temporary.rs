//! What files in the making need on every system.

use std::fs::File;
use std::io::{self, Write as _};

use crate::base::sys::FileAt as _;

/// Returns 16 random hexadecimal digits, for a temporary name.
pub(in super::super) fn random_digits() -> io::Result<String> {
    Ok(format!("{:016x}", getrandom::u64().map_err(io::Error::from)?))
}

/// Copies the first `length` bytes of a file, wherever its cursor stands.
///
/// Fails with `UnexpectedEof` when there are fewer.
pub(in super::super) fn copy(from: &File, mut to: &File, length: u64) -> io::Result<()> {
    let mut buffer = vec![0; usize::try_from(length.min(1 << 20)).expect("at most 1 MiB")];
    let mut done = 0;
    while done < length {
        let part = usize::try_from(length - done).map_or(buffer.len(), |left| left.min(buffer.len()));
        from.read_exact_at(&mut buffer[..part], done)?;
        to.write_all(&buffer[..part])?;
        done += part as u64;
    }
    Ok(())
}
