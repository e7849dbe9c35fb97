//! Where the settings come from.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use nix::unistd;

use super::problems::Problems;
use crate::system::files;

/// Where the token may come from, for a bot that names none.
pub(crate) const TOKEN_VARIABLE: &str = "TELEGRAM_BOT_TOKEN";
/// Where settings are looked for.
const PLACES: [&str; 2] = ["pihook.toml", "/etc/pihook/pihook.toml"];

/// The environment, so that tests bring their own.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Where the settings come from.
pub(crate) enum Source {
    /// This file.
    File(PathBuf),
    /// There is none: the token comes from the environment, and all else has its default.
    Defaults,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Defaults => write!(f, "no settings file; the token is in {TOKEN_VARIABLE}"),
        }
    }
}

/// Finds the configuration file: `given`, `$PIHOOK_CONFIG`, `./pihook.toml`,
/// `/etc/pihook/pihook.toml`. With a token in the environment, none is needed.
///
/// # Errors
/// When there is neither, or root finds a file that is not root's.
pub(crate) fn find(given: Option<PathBuf>, environment: Environment) -> Result<Source, Problems> {
    look(given, environment)?.ok_or_else(|| {
        Problems(vec![format!(
            "No settings found: neither {} exists. Write a settings file, give its path with --config, or put the bot's token into \
             {TOKEN_VARIABLE}.",
            PLACES.join(" nor ")
        )])
    })
}

/// Like [`find`]; None when there is neither.
///
/// # Errors
/// When root finds one that is not root's.
pub(crate) fn look(
    given: Option<PathBuf>,
    environment: Environment,
) -> Result<Option<Source>, Problems> {
    if let Some(path) = given.or_else(|| environment("PIHOOK_CONFIG").map(PathBuf::from)) {
        return Ok(Some(Source::File(path)));
    }
    let found = PLACES
        .iter()
        .map(PathBuf::from)
        .find(|path| path.symlink_metadata().is_ok());
    // The owner of the file decides where root sends the token.
    match found {
        Some(path) if unistd::geteuid().is_root() && !is_roots(&path) => {
            Err(Problems(vec![format!(
                "pihook does not read {} in this folder as root, because other users can change the file or the folder. To use it \
             anyway, add --config ./{}.",
                path.display(),
                path.display()
            )]))
        }
        Some(path) => Ok(Some(Source::File(path))),
        None => Ok(environment(TOKEN_VARIABLE).map(|_| Source::Defaults)),
    }
}

/// Whether only root can change the file at `path`.
fn is_roots(path: &Path) -> bool {
    if path.is_absolute() {
        return true;
    }
    [Path::new(".").metadata(), path.symlink_metadata()]
        .into_iter()
        .all(|there| there.is_ok_and(|there| files::is_private_to(0, &there)))
}
