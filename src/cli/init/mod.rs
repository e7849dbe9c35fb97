//! `pihook init`: asks what the bot needs, checks the answers, writes them, and starts the bot. It
//! is safe to run again: an empty answer keeps the old value.

mod error;
mod questions;
mod unit;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use self::error::InitError;
use self::questions::Given;
use self::unit::Start;
use super::failure::Failure;
use super::options::{Kinds, Options, environment};
use super::output::print;
use super::status::{first_cross, told, wait_until_it_works};
use crate::certificate::CertificateError;
use crate::config::{self, Environment, PublicHost, edit};
use crate::delivery::endpoint;
use crate::system::{files, terminal};
use crate::telegram::token::Token;

/// All settings with their defaults, for a start.
const TEMPLATE: &str = include_str!("../../../deploy/pihook.toml");
/// The token's file, beside the settings.
const TOKEN: &str = "token";
/// Where systemd hands out copies of its credentials.
const CREDENTIALS: &str = "/run/credentials/";

/// The answer where the unit does not start and the doctor knows no reason.
const NO_START: &str = "The settings are saved, but the bot does not start. Run `sudo journalctl -u pihook -n 20`: the last lines name \
                        the reason and what to do.";

/// `pihook init`: writes the settings, starts the bot and waits until it works.
pub(super) fn init(options: &Options, allowed_updates: Kinds) -> Result<(), Failure> {
    let path = match &options.config {
        Some(path) => path.clone(),
        None => unit::SETTINGS.into(),
    };
    let given = Given {
        host: options.host.clone(),
        port_mapping: options.port_mapping.clone(),
    };
    let has_changed = write_settings(&path, &given, &environment)?;
    if options.write_only {
        return Ok(());
    }

    let start = if unit::reads(&path) {
        unit::start(has_changed)
    } else {
        Start::NoUnit
    };
    let saved = format!(
        "The settings are saved. To start the bot, run: pihook run --config {}",
        path.display()
    );
    let options = Options {
        config: Some(path),
        ..Options::default()
    };
    match start {
        Start::NoUnit => print(&saved),
        Start::Ready => wait_until_it_works(&options, allowed_updates),
        // That the bot does not run is known already: the reason is missing.
        Start::Failed => Err(match first_cross(&options, allowed_updates) {
            Some(cross) if !cross.is_not_running => told(&cross),
            _ => Failure::Other(NO_START.into()),
        }),
    }
}

/// Asks for the answers that are not `given`, and writes the settings to `path` and the token
/// beside them. Returns whether anything has changed.
///
/// # Errors
/// What is wrong with an answer, or the reason why nothing could be written.
fn write_settings(path: &Path, given: &Given, environment: Environment) -> Result<bool, InitError> {
    may_write(path)?;
    let before = read(path)?;
    let is_first = before.is_none();
    let old = match &before {
        Some(text) => text.clone(),
        None => template(path)?,
    };
    let config = config::examine_text(path, &old, environment).0;
    given.check(&config.api_url)?;

    let known = config.bots.first().and_then(|bot| bot.file.clone());
    let token = questions::token(&config, known.is_some())?;
    let own = path.with_file_name(TOKEN);
    let token_file = match token_place(path, &old, known.as_deref()) {
        Some(file) => file,
        None if token.is_some() || unit::reads(path) && !own.exists() => {
            return Err(InitError::new(format!(
                "The first [[bot]] in {} has a line `token` or `token_file`. Remove that line, and run this command again: pihook keeps the token in {}.",
                path.display(),
                own.display()
            )));
        }
        // The old token stays: nothing is written.
        None => own,
    };

    let has_host = !is_first
        && (config.public_host == PublicHost::Auto || config.public_host.given().is_some());
    let port_mapping = questions::port_mapping(given, is_first)?;
    let host = questions::host(given, &config.api_url, has_host)?;
    let mut new = old;
    if let Some(value) = port_mapping {
        new = set(path, &new, "port_mapping", &value)?;
    }
    if let Some(value) = host {
        new = set(path, &new, "public_host", &value)?;
    }
    check(path, &new, token.as_ref(), environment)?;

    // The token is written last: without a token, no unit starts.
    let is_new = before.as_ref() != Some(&new);
    if is_new {
        create_folder_of(path)?;
        write(path, &new, 0o644)?;
    }
    if let Some(token) = &token {
        write(&token_file, &format!("{}\n", token.expose()), 0o600)?;
    }
    Ok(is_new || token.is_some())
}

/// Whether the settings can be written, before anybody answers for nothing.
fn may_write(path: &Path) -> Result<(), InitError> {
    let folder = path
        .ancestors()
        .skip(1)
        .find(|folder| folder.exists())
        .unwrap_or(Path::new("."));
    access(folder, AccessFlags::W_OK)
        .map_err(|error| InitError::cannot_write(path, &io::Error::from(error)))
}

/// The settings as they are; None before the first ones.
fn read(path: &Path) -> Result<Option<String>, InitError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(InitError::cannot_read(path, &error)),
    }
}

/// Settings to begin with. Those of the unit name files that it can read and write.
fn template(path: &Path) -> Result<String, InitError> {
    // The bot finds the token beside the settings without this line. And the unit's user gets the
    // token as a credential: he cannot read the file.
    let mut text = TEMPLATE.replace("\ntoken_file = ", "\n# token_file = ");
    if !unit::reads(path) {
        return Ok(text);
    }

    for (key, file) in [
        ("certificate", "webhook_cert.pem"),
        ("private_key", "webhook_pkey.pem"),
        ("state_dir", ""),
    ] {
        let value = Path::new(unit::STATE).join(file);
        let value = value.to_string_lossy();
        text = edit::set(&text, key, value.trim_end_matches('/')).ok_or_else(|| {
            InitError::new("The built-in template is not valid TOML. Report this bug.")
        })?;
    }
    Ok(text)
}

/// The file for the token of the first bot, which was read from the file `known`. None where
/// pihook must not write it: it is in the settings themselves, in systemd's own copy, or, for the
/// unit, in a file that the unit's user cannot read.
fn token_place(path: &Path, text: &str, known: Option<&Path>) -> Option<PathBuf> {
    if known == Some(path) {
        return None;
    }
    match edit::token_file(text) {
        Some((file, _)) if unit::reads(path) || file.starts_with(CREDENTIALS) => None,
        Some((file, _)) => Some(path.with_file_name(file)),
        None => Some(path.with_file_name(TOKEN)),
    }
}

/// The settings of `path` with this value for `key`.
fn set(path: &Path, text: &str, key: &str, value: &str) -> Result<String, InitError> {
    edit::set(text, key, value).ok_or_else(|| {
        InitError::new(format!(
            "{} is not valid TOML. `pihook check` shows the line.",
            path.display()
        ))
    })
}

/// Checks the settings before they are written, with the token that will be beside them.
fn check(
    path: &Path,
    text: &str,
    token: Option<&Token>,
    environment: Environment,
) -> Result<(), InitError> {
    let mut text = text.to_owned();
    if token.is_some()
        && let Some((_, place)) = edit::token_file(&text)
    {
        // That file is not written yet: the token is taken from the variable below.
        text.replace_range(place, "''");
    }
    let with_token = |name: &str| match token {
        Some(token) if name == config::TOKEN_VARIABLE => Some(token.expose().into()),
        _ => environment(name),
    };

    let (config, mut problems) = config::examine_text(path, &text, &with_token);
    match endpoint::judge_files(&config) {
        // A Pi may start in 1970.
        Err(error @ CertificateError::NotYetValid(_)) => terminal::say(&error.to_string()),
        Err(error) => problems.push(error.to_string().into()),
        Ok(Some(doubt)) => terminal::say(&doubt),
        Ok(None) => {}
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(InitError::new(format!(
            "{}\nThe settings are wrong.",
            config::Problems(problems)
        )))
    }
}

fn create_folder_of(path: &Path) -> Result<(), InitError> {
    let Some(folder) = path.parent() else {
        return Ok(());
    };
    files::create_folder(folder).map_err(|error| InitError::cannot_write(folder, &error))
}

/// Replaces the file in one step.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), InitError> {
    files::replace(path, text.as_bytes(), mode)
        .map_err(|error| InitError::cannot_write(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_place_is_where_the_settings_read_the_token() {
        let own = Path::new("/home/pi/pihook.toml");
        let units = Path::new(unit::SETTINGS);
        let place = |path, text, known: Option<&str>| token_place(path, text, known.map(Path::new));
        let at = |place: &str| Some(PathBuf::from(place));
        assert_eq!(place(own, "[[bot]]\n", None), at("/home/pi/token"));
        assert_eq!(
            place(own, "[[bot]]\ntoken_file = 'a/b'", Some("/home/pi/a/b")),
            at("/home/pi/a/b")
        );
        assert_eq!(
            place(
                own,
                "[[bot]]\ntoken_file = '/run/credentials/x.service/t'",
                None
            ),
            None
        );
        assert_eq!(
            place(own, "[[bot]]\ntoken = '1:a'", Some("/home/pi/pihook.toml")),
            None
        );
        assert_eq!(
            place(units, "[[bot]]\n", Some("/etc/pihook/token")),
            at("/etc/pihook/token")
        );
        // The unit's user cannot read it.
        assert_eq!(
            place(
                units,
                "[[bot]]\ntoken_file = 'token'",
                Some("/etc/pihook/token")
            ),
            None
        );
    }

    #[test]
    fn template_of_the_unit_names_files_that_it_can_read_and_write() {
        let text = template(Path::new(unit::SETTINGS)).unwrap();
        let token = |name: &str| (name == config::TOKEN_VARIABLE).then(|| "1:a".into());
        let (config, problems) = config::examine_text(Path::new(unit::SETTINGS), &text, &token);
        assert_eq!(problems, []);
        let files = &config.certificate_files;
        assert_eq!(
            [&files.certificate, &files.private_key, &config.state_dir]
                .map(|path| path.to_str().unwrap()),
            [
                "/var/lib/pihook/webhook_cert.pem",
                "/var/lib/pihook/webhook_pkey.pem",
                "/var/lib/pihook"
            ]
        );
        // Not by the file, which only root can read.
        assert_eq!(config.bots[0].file, None);
        let text = template(Path::new("/home/pi/pihook.toml")).unwrap();
        assert!(
            text.contains("# token_file = ") && text.contains("# certificate = "),
            "{text}"
        );
    }
}
