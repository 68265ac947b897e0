//! Asking for a secret on the console of other systems.

use std::io;

use zeroize::Zeroizing;

use crate::base::Cancel;

/// Asks on the console, without echo, and returns the line without its end.
///
/// # Errors
/// `Interrupted` when the run is to stop, what the console says else.
pub fn ask_secret(prompt: &str, cancel: &Cancel) -> io::Result<Zeroizing<Vec<u8>>> {
    if cancel.is_cancelled() {
        return Err(io::ErrorKind::Interrupted.into());
    }
    rpassword::prompt_password(prompt).map(|typed| Zeroizing::new(typed.into_bytes()))
}
