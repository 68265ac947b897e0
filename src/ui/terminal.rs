//! What the terminal says of itself.

#[cfg(unix)]
use std::io;

/// Returns whether the terminal on standard error is ours to draw on: not while the shell has put this program in the
/// background. What has no controlling terminal (a test, say) is in nobody's background, and other systems than Unix
/// have none of this kind.
pub(super) fn is_in_foreground() -> bool {
    #[cfg(unix)]
    return rustix::termios::tcgetpgrp(io::stderr())
        .map_or(true, |group| group == rustix::process::getpgrp());
    #[cfg(not(unix))]
    true
}

/// Returns the width of the terminal behind standard error or standard output, in columns.
pub(super) fn width() -> Option<usize> {
    #[cfg(unix)]
    {
        let size = rustix::termios::tcgetwinsize(io::stderr())
            .or_else(|_| rustix::termios::tcgetwinsize(io::stdout()));
        size.ok().map(|size| usize::from(size.ws_col)).filter(|&columns| columns > 0)
    }
    #[cfg(not(unix))]
    terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))
}
