//! The `[[bot]]` tables: token and path.

use std::fs;
use std::path::{Path, PathBuf};

use super::file::Table;
use super::problems::unreadable;
use super::settings::BotSettings;
use super::source::{Environment, TOKEN_VARIABLE};
use crate::secret::Secret;
use crate::system::text::decode;
use crate::telegram::token::Token;

/// Telegram builds its request head in 4096 bytes and falls silent when it does not fit.
const PATH_LIMIT: usize = 1024;

/// Takes all bots out of `table`.
pub(super) fn bots(table: &mut Table, folder: &Path, environment: Environment) -> Vec<BotSettings> {
    let mut bots: Vec<BotSettings> = Vec::new();
    table.tables("bot", |table| {
        let (token, file) = token(table, folder, environment);
        // Taken in any case: otherwise it would count as unknown.
        let pattern = table.string("path", "/{token}/");
        let Some(token) = token else { return };
        let Some(path) = webhook_path(&pattern, &token) else {
            return table.problem(
                "path",
                &format!("must begin with / and have at most {PATH_LIMIT} of these characters: letters, digits and -._~!$&'()*+,;=:@%/"),
            );
        };
        if bots.iter().any(|bot| bot.token.id() == token.id()) {
            table.problem("[[bot]]", &format!("has the token of bot {} again: give each bot its own token", token.id()));
        } else if bots.iter().any(|bot| bot.path == path) {
            table.problem("path", "is the same for two bots: give each bot its own path");
        }
        bots.push(BotSettings { token, file, path });
    });
    bots
}

fn webhook_path(pattern: &str, token: &Token) -> Option<Secret> {
    let path = pattern.replace("{token}", token.expose());
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/".contains(&b);
    (path.starts_with('/') && path.len() <= PATH_LIMIT && path.bytes().all(allowed))
        .then(|| path.into())
}

/// The token of one `[[bot]]`: `token`, `token_file`, `$TELEGRAM_BOT_TOKEN`, systemd's credential
/// `token`, or the file `token` beside the settings.
fn token(
    table: &mut Table,
    folder: &Path,
    environment: Environment,
) -> (Option<Token>, Option<PathBuf>) {
    let (given, file) = (table.string("token", ""), table.string("token_file", ""));
    // systemd's credential, if this is its unit; else the file that it is made from.
    let credential = environment("CREDENTIALS_DIRECTORY")
        .map_or(folder.to_owned(), PathBuf::from)
        .join("token");
    let mut path = None;
    let read = |path: &mut Option<PathBuf>, from: PathBuf| {
        fs::read(&*path.insert(from)).map(|text| decode(&text))
    };
    let (text, source) = match (given.is_empty(), file.is_empty()) {
        (false, false) => {
            table.problem("token", "and token_file are both set: remove one of them");
            return (None, None);
        }
        (false, true) => {
            path = Some(table.path());
            (Ok(given), "token".to_owned())
        }
        (true, false) => (
            read(&mut path, folder.join(&file)),
            format!("token_file {file}"),
        ),
        (true, true) => match (
            environment(TOKEN_VARIABLE),
            Some(credential).filter(|path| path.exists()),
        ) {
            (Some(text), _) => (
                Ok(text.to_string_lossy().into_owned()),
                TOKEN_VARIABLE.to_owned(),
            ),
            (None, Some(from)) => (read(&mut path, from.clone()), from.display().to_string()),
            (None, None) => {
                table.problem(
                    "token_file",
                    "is missing: put the token from @BotFather into a file named token next to the settings file",
                );
                return (None, None);
            }
        },
    };
    match text.map(|text| Token::parse(&text)) {
        Ok(Ok(token)) => return (Some(token), path),
        Ok(Err(what)) => table.problem(&source, &what),
        Err(why) => table.problem(&source, &unreadable(&why)),
    }
    (None, None)
}
