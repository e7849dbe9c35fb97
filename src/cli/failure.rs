//! How a command ends without success.

use crate::config;
use crate::run::RunError;

/// How a command ends without success. The codes are those of sysexits.h.
pub(super) enum Failure {
    /// 64: the command line is wrong.
    Usage(String),
    /// 78: the settings are wrong.
    Config(String),
    /// 1: something else is.
    Other(String),
}

impl From<config::Problems> for Failure {
    fn from(problems: config::Problems) -> Self {
        Self::Config(problems.to_string())
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Config(reason) => Self::Config(reason),
            RunError::System(reason) => Self::Other(reason),
        }
    }
}

impl From<lexopt::Error> for Failure {
    fn from(error: lexopt::Error) -> Self {
        Self::Usage(format!("The command line is wrong: {error}."))
    }
}
