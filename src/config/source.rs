//! Where the settings come from.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use nix::unistd;

use super::problems::Problems;
use crate::system::files;

/// The variable with the token of a bot whose settings name none.
pub(crate) const TOKEN_VARIABLE: &str = "TELEGRAM_BOT_TOKEN";
/// Where settings are looked for.
const PLACES: [&str; 2] = ["pihook.toml", "/etc/pihook/pihook.toml"];

/// Looks up a variable of the environment; tests bring their own.
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
        let words = format!(
            "No settings found: neither {} exists. Write a settings file, give its path with --config, or put the bot's token into \
             {TOKEN_VARIABLE}.",
            PLACES.join(" nor ")
        );
        Problems(vec![words.into()])
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

    let mut places = PLACES.iter().map(PathBuf::from);
    let found = places.find(|path| path.symlink_metadata().is_ok());
    // The owner of the file decides where root sends the token.
    match found {
        Some(path) if unistd::geteuid().is_root() && !is_roots(&path) => {
            let words = format!(
                "pihook does not read {} in this folder as root, because other users can change the file or the folder. To use it \
             anyway, add --config ./{}.",
                path.display(),
                path.display()
            );
            Err(Problems(vec![words.into()]))
        }
        Some(path) => Ok(Some(Source::File(path))),
        None if environment(TOKEN_VARIABLE).is_some() => Ok(Some(Source::Defaults)),
        None => Ok(None),
    }
}

/// Whether only root can change the file at `path`.
fn is_roots(path: &Path) -> bool {
    if path.is_absolute() {
        return true;
    }
    // Whoever can change the folder can put another file there.
    for metadata in [Path::new(".").metadata(), path.symlink_metadata()] {
        match metadata {
            Ok(metadata) if files::is_private_to(0, &metadata) => {}
            _ => return false,
        }
    }
    true
}
