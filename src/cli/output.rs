//! What a command prints.

use std::env;
use std::io::{self, IsTerminal, Write};

use super::failure::Failure;
use crate::secret::{lines, mask};
use crate::system::terminal;

/// Prints a warning: the command can still succeed.
pub(super) fn warn(text: &str) {
    terminal::say(&lines(&mask(text)));
}

/// Prints a command's result. A reader that closes the pipe has read enough: the command still runs
/// to its end.
///
/// # Errors
/// When the output cannot be written, for example on a full disk.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    write_out(&lines(&mask(text)))
}

/// Like [`print`], for what is clean.
pub(super) fn write_out(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Other(format!("Cannot write the output: {error}.")))
        }
        _ => Ok(()),
    }
}

/// Whether standard output shows colours (<https://no-color.org>).
pub(super) fn is_coloured() -> bool {
    io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none()
}
