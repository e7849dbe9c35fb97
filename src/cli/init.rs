//! `pihook init`: asks what the bot needs, checks the answers, and writes them. It is safe to run
//! again: an empty answer keeps the old value.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{AccessFlags, access};

use super::failure::Failure;
use super::options::{Kinds, Options, environment};
use super::output::print;
use super::status::{first_cross, told, wait_until_it_works};
use crate::certificate::CertificateError;
use crate::config::{self, Config, Environment, PublicHost, edit};
use crate::delivery::endpoint;
use crate::secret::printable;
use crate::system::{files, program, terminal};
use crate::telegram::client::{Api, Client};
use crate::telegram::error::NEW_TOKEN;
use crate::telegram::token::Token;

/// The settings of the unit.
pub(crate) const SETTINGS: &str = "/etc/pihook/pihook.toml";
/// All settings with their defaults, for a start.
const TEMPLATE: &str = include_str!("../../deploy/pihook.toml");
/// The unit's own folder: it can write nowhere else.
const STATE: &str = "/var/lib/pihook";
/// The token's file, beside the settings.
const TOKEN: &str = "token";
/// Where systemd hands out copies of its credentials.
const CREDENTIALS: &str = "/run/credentials/";
/// For systemctl. The start of a unit can wait until the network is there, which may take 2 minutes
/// after the boot.
const SYSTEMCTL_TIMEOUT: Duration = Duration::from_secs(180);
/// Questions for one answer.
const TRIES: usize = 3;

/// The answer where the unit does not start and the doctor knows no reason.
const NO_START: &str = "The settings are saved, but the bot does not start. Run `sudo journalctl -u pihook -n 20`: the last lines name \
                        the reason and what to do.";

/// What the command line answers already.
pub(crate) struct Given {
    /// `public_host`.
    pub(crate) host: Option<String>,
    /// `port_mapping`.
    pub(crate) port_mapping: Option<String>,
}

impl Given {
    /// Whether the values can be settings, where the Bot API is at `api_url`.
    fn check(&self, api_url: &str) -> Result<(), InitError> {
        if let Some(host) = &self.host {
            config::public_host(host, config::is_own_api(api_url))
                .map_err(|what| wrong(format!("--host {what}.")))?;
        }
        if let Some(value) = &self.port_mapping {
            config::port_mapping(value).map_err(|what| wrong(format!("--port-mapping {what}.")))?;
        }
        Ok(())
    }
}

/// Why nothing was written, one sentence or more.
#[derive(Debug)]
pub(crate) struct InitError(String);

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InitError {}

impl From<io::Error> for InitError {
    fn from(why: io::Error) -> Self {
        Self(format!(
            "The answer cannot be read: {why}. Nothing was changed."
        ))
    }
}

fn wrong(what: impl fmt::Display) -> InitError {
    InitError(format!("{what} Nothing was changed."))
}

/// `pihook init`: writes the settings, starts the bot and waits until it works.
pub(super) fn init(options: &Options, allowed_updates: Kinds) -> Result<(), Failure> {
    let path = options.config.clone().unwrap_or_else(|| SETTINGS.into());
    let given = Given {
        host: options.host.clone(),
        port_mapping: options.port_mapping.clone(),
    };
    let has_changed = write_settings(&path, &given, &environment)
        .map_err(|why| Failure::Other(why.to_string()))?;
    if options.write_only {
        return Ok(());
    }

    let start = if path == Path::new(SETTINGS) {
        start_unit(has_changed)
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
/// What is wrong with an answer, or why nothing could be written.
pub(crate) fn write_settings(
    path: &Path,
    given: &Given,
    environment: Environment,
) -> Result<bool, InitError> {
    may_write(path)?;
    let before = match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(why) if why.kind() == io::ErrorKind::NotFound => None,
        Err(why) => {
            return Err(wrong(format!(
                "{} cannot be read: {why}.{}",
                path.display(),
                as_root(&why)
            )));
        }
    };
    let is_first = before.is_none();
    let text = before.clone().map_or_else(|| template(path), Ok)?;
    let config = config::examine_text(path, &text, environment).0;
    let known = config.bots.first().and_then(|bot| bot.file.clone());
    given.check(&config.api_url)?;
    let place = token_place(path, &text, known.as_deref());
    let token = new_token(&config, known.is_some())?;
    let own = path.with_file_name(TOKEN);
    if place.is_none() && (token.is_some() || is_units(path) && !own.exists()) {
        return Err(wrong(format!(
            "The first [[bot]] in {} has a line `token` or `token_file`. Remove that line, and run this command again: pihook keeps the token in {}.",
            path.display(),
            own.display()
        )));
    }
    let port_mapping = port_mapping(given, is_first)?;
    let has_host = !is_first
        && (config.public_host == PublicHost::Auto || config.public_host.given().is_some());
    let host = host(given, &config.api_url, has_host)?;
    let mut new = text;
    for (key, value) in [("port_mapping", port_mapping), ("public_host", host)] {
        if let Some(value) = value {
            new = edit::set(&new, key, &value).ok_or_else(|| {
                wrong(format!(
                    "{} is not valid TOML. `pihook check` shows the line.",
                    path.display()
                ))
            })?;
        }
    }
    check(path, &new, token.as_ref(), environment)?;
    let is_new = before.as_deref() != Some(&new);
    write(
        path,
        is_new.then_some(&new),
        &place.unwrap_or(own),
        token.as_ref(),
    )
    .map_err(|(file, why)| {
        wrong(format!(
            "{} cannot be written: {why}.{}",
            file.display(),
            as_root(&why)
        ))
    })?;
    Ok(is_new || token.is_some())
}

fn is_units(path: &Path) -> bool {
    path == Path::new(SETTINGS)
}

/// The file for the token of the first bot. None where the settings have it in a place that is not
/// for us to write: in themselves, in systemd's own copy, or, for the unit, in a file that its user
/// cannot read. `known` is where it was read from.
fn token_place(path: &Path, text: &str, known: Option<&Path>) -> Option<PathBuf> {
    match edit::token_file(text) {
        _ if known == Some(path) => None,
        Some((file, _)) if is_units(path) || file.starts_with(CREDENTIALS) => None,
        Some((file, _)) => Some(path.with_file_name(file)),
        None => Some(path.with_file_name(TOKEN)),
    }
}

/// Whether the settings can be written, before anybody answers for nothing.
fn may_write(path: &Path) -> Result<(), InitError> {
    let folder = path
        .ancestors()
        .skip(1)
        .find(|folder| folder.exists())
        .unwrap_or(Path::new("."));
    access(folder, AccessFlags::W_OK).map_err(|why| {
        let why = io::Error::from(why);
        wrong(format!(
            "{} cannot be written: {why}.{}",
            path.display(),
            as_root(&why)
        ))
    })
}

fn as_root(why: &io::Error) -> &'static str {
    if why.kind() == io::ErrorKind::PermissionDenied {
        " Run it with sudo."
    } else {
        ""
    }
}

/// Settings to begin with. Those of the unit lie where it can read and write.
fn template(path: &Path) -> Result<String, InitError> {
    // It is found beside them all the same; and the unit's user gets it as a credential, and cannot
    // read the file.
    let mut text = TEMPLATE.replace("\ntoken_file = ", "\n# token_file = ");
    if !is_units(path) {
        return Ok(text);
    }
    for (key, file) in [
        ("certificate", "webhook_cert.pem"),
        ("private_key", "webhook_pkey.pem"),
        ("state_dir", ""),
    ] {
        let value = Path::new(STATE).join(file);
        let value = value.to_string_lossy();
        text = edit::set(&text, key, value.trim_end_matches('/'))
            .ok_or_else(|| wrong("The built-in template is not valid TOML. Report this bug."))?;
    }
    Ok(text)
}

/// The token of the answer, after Telegram has accepted it. None when the old token stays.
fn new_token(config: &Config, has_one: bool) -> Result<Option<Token>, InitError> {
    let question = match has_one {
        true => "The bot's token (hidden; press Enter to keep the old token):",
        false => "The bot's token, from @BotFather (hidden):",
    };
    until_right(|| {
        let answer = terminal::ask_hidden(question)?.unwrap_or_default();
        if answer.is_empty() && has_one {
            return Ok(Ok(None));
        }
        Ok(known_token(config, &answer).map(Some))
    })
}

/// Asks a person again after a wrong answer; a script has one try.
fn until_right<T>(ask: impl Fn() -> io::Result<Result<T, String>>) -> Result<T, InitError> {
    let mut tries = 1;
    loop {
        match ask()? {
            Ok(answer) => return Ok(answer),
            Err(why) if tries < TRIES && terminal::is_there() => terminal::say(&why),
            Err(why) => return Err(wrong(why)),
        }
        tries += 1;
    }
}

/// The token of the answer. Prints the name of its bot, if Telegram answers.
fn known_token(config: &Config, answer: &str) -> Result<Token, String> {
    let token = Token::parse(answer).map_err(|why| match answer {
        "" => "The token is missing. Get it from @BotFather.".into(),
        _ => format!("This is not a token: the answer {why}."),
    })?;
    match Client::new(
        Api::new(&config.api_url, config.proxy.as_ref(), 1),
        token.clone(),
    )
    .me()
    {
        Ok(me) => terminal::say(&format!(
            "The token belongs to @{}.",
            printable(&me.username)
        )),
        Err(why) if why.token_is_refused() => {
            return Err(NEW_TOKEN.into());
        }
        // A Pi may have no network yet, or a clock from 1970.
        Err(why) => terminal::say(&format!(
            "pihook could not check the token at Telegram: {}. pihook uses the token anyway.",
            printable(&why.to_string())
        )),
    }
    Ok(token)
}

/// Whether the bot may ask the router. None when the setting stays.
fn port_mapping(given: &Given, is_first: bool) -> Result<Option<String>, InitError> {
    if given.port_mapping.is_some() {
        return Ok(given.port_mapping.clone());
    }
    let hint = if is_first {
        "[Y/n]"
    } else {
        "[y/n; press Enter to keep the setting]"
    };
    let question =
        format!("May pihook ask your router to forward the port to this machine? {hint}");
    for _ in 0..TRIES {
        match terminal::ask(&question)?
            .map(|answer| answer.to_lowercase())
            .as_deref()
        {
            Some("y" | "yes" | "auto") => return Ok(Some("auto".into())),
            Some("n" | "no" | "off") => return Ok(Some("off".into())),
            Some("") if is_first && terminal::is_there() => return Ok(Some("auto".into())),
            None | Some("") => return Ok(None),
            Some(_) if terminal::is_there() => terminal::say("Answer y or n."),
            Some(_) => break,
        }
    }
    Err(wrong(
        "The answer to the question about the router must be y or n.",
    ))
}

/// The home's own host name or address. None when the setting stays.
fn host(given: &Given, api_url: &str, has_host: bool) -> Result<Option<String>, InitError> {
    if given.host.is_some() {
        return Ok(given.host.clone());
    }
    let hint = if has_host {
        "to keep the setting"
    } else {
        "if you do not know: pihook finds the address"
    };
    let question = format!(
        "Your public IPv4 address or domain name, if it never changes (press Enter {hint}):"
    );
    until_right(|| {
        let host = match terminal::ask(&question)? {
            Some(host) if !host.is_empty() => host,
            _ if has_host => return Ok(Ok(None)),
            _ => "auto".into(),
        };
        // No message shows an answer: it may be something else, in the wrong place.
        let checked = config::public_host(&host, config::is_own_api(api_url)).map_err(|what| {
            format!(
                "The host name or address {}.",
                what.trim_start_matches(&format!("{host} "))
            )
        });
        Ok(checked.map(|_| Some(host)))
    })
}

/// Checks what would be written, with the token that would be.
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
        // The file is not written yet.
        text.replace_range(place, "''");
    }
    let with_token = |name: &str| match token {
        Some(token) if name == config::TOKEN_VARIABLE => Some(token.expose().into()),
        _ => environment(name),
    };
    let (config, mut problems) = config::examine_text(path, &text, &with_token);
    match endpoint::judge_files(&config) {
        // A Pi may start in 1970.
        Err(why @ CertificateError::NotYetValid(_)) => terminal::say(&why.to_string()),
        Err(error) => problems.push(error.to_string()),
        Ok(Some(doubt)) => terminal::say(&doubt),
        Ok(None) => {}
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(wrong(format!(
            "{}\nThe settings are wrong.",
            problems.join("\n")
        )))
    }
}

/// Each file is replaced in one step, the token last: without a token, no unit starts.
fn write(
    path: &Path,
    text: Option<&String>,
    place: &Path,
    token: Option<&Token>,
) -> Result<(), (PathBuf, io::Error)> {
    let at = |file: &Path| {
        let file = file.to_owned();
        move |why| (file, why)
    };
    if let Some(folder) = path.parent() {
        files::create_folder(folder).map_err(at(folder))?;
    }
    if let Some(text) = text {
        files::replace(path, text.as_bytes(), 0o644).map_err(at(path))?;
    }
    if let Some(token) = token {
        files::replace(place, format!("{}\n", token.expose()).as_bytes(), 0o600)
            .map_err(at(place))?;
    }
    Ok(())
}

/// What became of the bot's unit.
pub(crate) enum Start {
    /// systemd does not run, or has no unit of the bot.
    NoUnit,
    /// The bot has told systemd that it is ready.
    Ready,
    /// The bot has ended, or is not ready yet.
    Failed,
}

/// Lets systemd start the bot, or restart it after a change.
pub(crate) fn start_unit(has_changed: bool) -> Start {
    let systemctl = |words: &[&str]| {
        program::succeeds("systemctl", words, SYSTEMCTL_TIMEOUT).is_ok_and(|succeeded| succeeded)
    };
    if !Path::new("/run/systemd/system").exists() || !systemctl(&["cat", "pihook.service"]) {
        return Start::NoUnit;
    }

    // The bot also starts without the socket: it binds the port itself.
    systemctl(&["start", "pihook.socket"]);

    let verb = if has_changed { "restart" } else { "start" };
    if systemctl(&[verb, "pihook.service"]) {
        Start::Ready
    } else {
        Start::Failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_kept_where_it_is_read() {
        let (own, units) = (Path::new("/home/pi/pihook.toml"), Path::new(SETTINGS));
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
    fn the_units_settings_lie_where_it_can_read_and_write() {
        let text = template(Path::new(SETTINGS)).unwrap();
        let token = |name: &str| (name == config::TOKEN_VARIABLE).then(|| "1:a".into());
        let (config, problems) = config::examine_text(Path::new(SETTINGS), &text, &token);
        assert_eq!(problems, Vec::<String>::new());
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
