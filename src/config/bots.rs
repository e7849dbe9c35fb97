//! The `[[bot]]` tables: token and path.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::file::Table;
use super::problems::{Problem, ProblemKind, unreadable};
use super::settings::BotSettings;
use super::source::{Environment, TOKEN_VARIABLE};
use crate::secret::Secret;
use crate::system::text::decode;
use crate::telegram::token::Token;

/// The bytes of a path. Telegram builds its request head in 4096 bytes, and falls silent when it
/// does not fit.
const PATH_LIMIT: usize = 1024;

/// The characters that a path may have, beside letters and digits.
const PATH_SIGNS: &str = "-._~!$&'()*+,;=:@%/";

/// Reads all bots in `table`.
pub(super) fn bots(table: &mut Table, folder: &Path, environment: Environment) -> Vec<BotSettings> {
    let mut bots: Vec<BotSettings> = Vec::new();
    table.tables("bot", |table| {
        let found = token(table, folder, environment);
        // Read in any case: otherwise the key would count as unknown.
        let pattern = table.string("path", "/{token}/");
        let Some((token, file)) = found else { return };

        let Some(path) = webhook_path(&pattern, &token) else {
            let what = format!(
                "must begin with / and have at most {PATH_LIMIT} of these characters: letters, digits and {PATH_SIGNS}"
            );
            return table.problem("path", &what);
        };
        if bots.iter().any(|bot| bot.token.id() == token.id()) {
            let id = token.id();
            let what = format!("has the token of bot {id} again: give each bot its own token");
            table.problem("[[bot]]", &what);
        } else if bots.iter().any(|bot| bot.path == path) {
            table.problem("path", "is the same for two bots: give each bot its own path");
        }
        bots.push(BotSettings { token, file, path });
    });
    bots
}

/// The path that Telegram calls; None where it is too long, or not one.
fn webhook_path(pattern: &str, token: &Token) -> Option<Secret> {
    let path = pattern.replace("{token}", token.expose());
    let is_allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || PATH_SIGNS.as_bytes().contains(&byte);
    if path.starts_with('/') && path.len() <= PATH_LIMIT && path.bytes().all(is_allowed) {
        Some(path.into())
    } else {
        None
    }
}

/// A text that should be a token.
struct TokenText {
    text: io::Result<String>,
    /// What a message calls the place where it was found.
    source: String,
    /// The file that holds it, if it is in one.
    file: Option<PathBuf>,
}

impl TokenText {
    fn read(path: PathBuf, source: String) -> Self {
        Self {
            text: fs::read(&path).map(|text| decode(&text)),
            source,
            file: Some(path),
        }
    }
}

/// The token of one `[[bot]]`, and the file that holds it, if it is in one. Reports what is wrong.
fn token(
    table: &mut Table,
    folder: &Path,
    environment: Environment,
) -> Option<(Token, Option<PathBuf>)> {
    let found = token_text(table, folder, environment)?;
    let parsed = match found.text {
        Ok(text) => Token::parse(&text).map_err(Problem::from),
        Err(error) => Err(unreadable(&error)),
    };
    match parsed {
        Ok(token) => Some((token, found.file)),
        Err(what) => {
            table.problem_of(what.kind, &found.source, &what.words);
            None
        }
    }
}

/// Finds the text of a token: `token`, `token_file`, `$TELEGRAM_BOT_TOKEN`, systemd's credential
/// `token`, or the file `token` beside the settings.
fn token_text(table: &mut Table, folder: &Path, environment: Environment) -> Option<TokenText> {
    let given = table.string("token", "");
    let file = table.string("token_file", "");
    if !given.is_empty() && !file.is_empty() {
        table.problem("token", "and token_file are both set: remove one of them");
        return None;
    }
    if !given.is_empty() {
        return Some(TokenText {
            text: Ok(given),
            source: "token".to_owned(),
            file: Some(table.path()),
        });
    }
    if !file.is_empty() {
        let source = format!("token_file {file}");
        return Some(TokenText::read(folder.join(file), source));
    }

    if let Some(text) = environment(TOKEN_VARIABLE) {
        return Some(TokenText {
            text: Ok(text.to_string_lossy().into_owned()),
            source: TOKEN_VARIABLE.to_owned(),
            file: None,
        });
    }

    // systemd's credential, if this is its unit; else the file that it is made from.
    let path = match environment("CREDENTIALS_DIRECTORY") {
        Some(credentials) => Path::new(&credentials).join("token"),
        None => folder.join("token"),
    };
    if path.exists() {
        let source = path.display().to_string();
        return Some(TokenText::read(path, source));
    }
    table.problem_of(
        ProblemKind::Missing(&["token", "token_file"]),
        "token_file",
        "is missing: put the token from @BotFather into a file named token next to the settings file",
    );
    None
}
