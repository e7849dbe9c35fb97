//! What is wrong with the settings.

use std::fmt;
use std::io;

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub(crate) kind: ProblemKind,
    /// A sentence that says what is wrong, and what to do.
    pub(crate) words: String,
}

/// The kind of a problem, where something is decided on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProblemKind {
    /// All of these keys are missing, and one of them is needed.
    Missing(&'static [&'static str]),
    /// This user may not read a file.
    Forbidden,
    /// Anything else.
    Other,
}

impl From<String> for Problem {
    fn from(words: String) -> Self {
        let kind = ProblemKind::Other;
        Self { kind, words }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

/// Everything that is wrong with a configuration.
#[derive(Debug)]
pub struct Problems(pub(crate) Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.0.iter().map(|problem| &*problem.words).collect();
        f.write_str(&words.join("\n"))
    }
}

/// Why a file cannot be read, and what to do; the words continue the file's name.
pub(super) fn unreadable(error: &io::Error) -> Problem {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Problem {
            kind: ProblemKind::Forbidden,
            words: format!(
                "cannot be read ({error}): run it with sudo, or as the user that the bot runs as"
            ),
        },
        _ => format!("cannot be read: {error}").into(),
    }
}
