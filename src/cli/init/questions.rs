//! The questions of `pihook init`. An answer is checked at once, and no message shows it: it may be
//! something else, in the wrong place.

use super::error::InitError;
use crate::config::{self, Config};
use crate::secret::printable;
use crate::system::terminal;
use crate::telegram::client::{Api, Client};
use crate::telegram::error::NEW_TOKEN;
use crate::telegram::token::Token;

/// How often a person is asked one question. A script, which cannot read a complaint, is asked once.
const TRIES: usize = 3;

/// What the command line answers already.
pub(super) struct Given {
    /// `public_host`.
    pub(super) host: Option<String>,
    /// `port_mapping`.
    pub(super) port_mapping: Option<String>,
}

impl Given {
    /// Whether the values can be settings, where the Bot API is at `api_url`.
    pub(super) fn check(&self, api_url: &str) -> Result<(), InitError> {
        if let Some(host) = &self.host {
            config::public_host(host, config::is_own_api(api_url))
                .map_err(|reason| InitError::new(format!("--host {reason}.")))?;
        }
        if let Some(value) = &self.port_mapping {
            config::port_mapping(value)
                .map_err(|reason| InitError::new(format!("--port-mapping {reason}.")))?;
        }
        Ok(())
    }
}

/// Asks for the bot's token, and has Telegram check it. None when the old token stays.
pub(super) fn token(config: &Config, has_old: bool) -> Result<Option<Token>, InitError> {
    let question = if has_old {
        "The bot's token (hidden; press Enter to keep the old token):"
    } else {
        "The bot's token, from @BotFather (hidden):"
    };

    let mut tries = 0;
    loop {
        let answer = terminal::ask_hidden(question)?.unwrap_or_default();
        if answer.is_empty() && has_old {
            return Ok(None);
        }
        match checked_token(config, &answer) {
            Ok(token) => return Ok(Some(token)),
            Err(reason) => complain(&reason, &mut tries)?,
        }
    }
}

/// The token of the answer. Prints the name of its bot, if Telegram answers.
fn checked_token(config: &Config, answer: &str) -> Result<Token, String> {
    if answer.is_empty() {
        return Err("The token is missing. Get it from @BotFather.".into());
    }
    let token = Token::parse(answer)
        .map_err(|reason| format!("This is not a token: the answer {reason}."))?;

    let api = Api::new(&config.api_url, config.proxy.as_ref(), 1);
    match Client::new(api, token.clone()).me() {
        Ok(me) => terminal::say(&format!(
            "The token belongs to @{}.",
            printable(&me.username)
        )),
        Err(error) if error.token_is_refused() => return Err(NEW_TOKEN.into()),
        // A Pi may have no network yet, or a clock from 1970.
        Err(error) => terminal::say(&format!(
            "pihook could not check the token at Telegram: {}. pihook uses the token anyway.",
            printable(&error.to_string())
        )),
    }
    Ok(token)
}

/// Asks whether the bot may ask the router, if the command line does not say so. None when the
/// setting stays.
pub(super) fn port_mapping(given: &Given, is_first: bool) -> Result<Option<String>, InitError> {
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
        let Some(answer) = terminal::ask(&question)? else {
            return Ok(None);
        };
        match answer.to_lowercase().as_str() {
            "y" | "yes" | "auto" => return Ok(Some("auto".into())),
            "n" | "no" | "off" => return Ok(Some("off".into())),
            "" if is_first && terminal::is_there() => return Ok(Some("auto".into())),
            "" => return Ok(None),
            _ if terminal::is_there() => terminal::say("Answer y or n."),
            _ => break,
        }
    }
    Err(InitError::new(
        "The answer to the question about the router must be y or n.",
    ))
}

/// Asks for the home's own host name or address, if the command line does not give it. None when
/// the setting stays.
pub(super) fn host(
    given: &Given,
    api_url: &str,
    has_host: bool,
) -> Result<Option<String>, InitError> {
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
    let mut tries = 0;
    loop {
        let host = match terminal::ask(&question)? {
            Some(host) if !host.is_empty() => host,
            _ if has_host => return Ok(None),
            _ => "auto".into(),
        };
        let Err(reason) = config::public_host(&host, config::is_own_api(api_url)) else {
            return Ok(Some(host));
        };
        // The reason can begin with the answer.
        let reason = reason.trim_start_matches(&format!("{host} "));
        complain(&format!("The host name or address {reason}."), &mut tries)?;
    }
}

/// Says what is wrong with an answer to a person, who is asked again. After the last try, and for a
/// script, it is an error.
fn complain(reason: &str, tries: &mut usize) -> Result<(), InitError> {
    *tries += 1;
    if *tries == TRIES || !terminal::is_there() {
        return Err(InitError::new(reason));
    }
    terminal::say(reason);
    Ok(())
}
