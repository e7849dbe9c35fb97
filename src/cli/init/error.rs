//! The reason why `pihook init` wrote nothing.

use std::fmt::Display;
use std::io;
use std::path::Path;

use crate::cli::failure::Failure;

/// The reason why nothing was written, one sentence or more.
#[derive(Debug)]
pub(super) struct InitError(String);

impl InitError {
    /// An error with this reason, one sentence or more.
    pub(super) fn new(reason: impl Display) -> Self {
        Self(format!("{reason} Nothing was changed."))
    }

    pub(super) fn cannot_read(file: &Path, error: &io::Error) -> Self {
        Self::new(format!(
            "{} cannot be read: {error}.{}",
            file.display(),
            as_root(error)
        ))
    }

    pub(super) fn cannot_write(file: &Path, error: &io::Error) -> Self {
        Self::new(format!(
            "{} cannot be written: {error}.{}",
            file.display(),
            as_root(error)
        ))
    }
}

/// An error of the terminal, or of the pipe in place of it.
impl From<io::Error> for InitError {
    fn from(error: io::Error) -> Self {
        Self::new(format!("The answer cannot be read: {error}."))
    }
}

impl From<InitError> for Failure {
    fn from(error: InitError) -> Self {
        Self::Other(error.0)
    }
}

fn as_root(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied {
        " Run it with sudo."
    } else {
        ""
    }
}
