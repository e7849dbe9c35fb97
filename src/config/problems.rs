//! What is wrong with the settings.

use std::fmt;
use std::io;

/// Everything that is wrong with a configuration, a sentence each.
#[derive(Debug)]
pub struct Problems(pub(crate) Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// The advice for a user that cannot read a file of the bot.
pub(crate) const WITH_SUDO: &str = "run it with sudo, or as the user that the bot runs as";

/// Why a file cannot be read, and what to do; the text continues the file's name.
pub(super) fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("cannot be read ({error}): {WITH_SUDO}")
        }
        _ => format!("cannot be read: {error}"),
    }
}
