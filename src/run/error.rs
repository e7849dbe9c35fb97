//! Why the bot cannot run.

use std::fmt;
use std::io;

use crate::certificate::CertificateError;
use crate::system::runtime_dir::RuntimeDirError;

/// Why the bot cannot run.
#[derive(Debug)]
pub enum RunError {
    /// The settings must be changed first.
    Config(String),
    /// The machine refuses something.
    System(String),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(sentence) | Self::System(sentence) => f.write_str(sentence),
        }
    }
}

impl std::error::Error for RunError {}

impl From<CertificateError> for RunError {
    fn from(error: CertificateError) -> Self {
        Self::Config(error.to_string())
    }
}

impl From<RuntimeDirError> for RunError {
    fn from(error: RuntimeDirError) -> Self {
        match error {
            RuntimeDirError::Shared(_) => Self::Config(error.to_string()),
            RuntimeDirError::Folder(..) | RuntimeDirError::Taken(_) => {
                Self::System(error.to_string())
            }
        }
    }
}

/// Makes the error for a refusal of the operating system; `what` says which step failed.
pub(super) fn system(what: impl fmt::Display) -> impl FnOnce(io::Error) -> RunError {
    move |error| RunError::System(format!("{what}: {error}."))
}
