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

/// Returns what the temporary names of a restore with this number begin with; `-<digits>.tmp` follows.
pub(in super::super) fn restore_prefix(number: u64) -> String {
    format!(".plakar-{number:016x}")
}

/// Returns whether a name is a temporary one of the restore whose names begin so.
pub(in super::super) fn is_of_restore(name: &[u8], prefix: &str) -> bool {
    let rest = name.strip_prefix(prefix.as_bytes()).and_then(|rest| rest.strip_prefix(b"-"));
    rest.and_then(|rest| rest.strip_suffix(b".tmp"))
        .is_some_and(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
}
