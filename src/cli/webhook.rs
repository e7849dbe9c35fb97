//! `pihook webhook info|set|delete`.

use std::thread;
use std::time::{Duration, Instant};

use super::failure::Failure;
use super::options::Options;
use super::output::{print, warn};
use crate::certificate;
use crate::config::{Config, Delivery, Environment};
use crate::delivery::endpoint;
use crate::delivery::health::Difference;
use crate::delivery::polling_note;
use crate::delivery::registration::{Registration, RegistrationError};
use crate::run::RunError;
use crate::system::clock::unix_now;
use crate::telegram::client::{Api, Client};
use crate::telegram::delivery_error;
use crate::telegram::error::ApiError;
use crate::telegram::types::WebhookInfo;

/// For `webhook set`, with the waits that Telegram asks for. A longer wait is an error.
const SET_TIMEOUT: Duration = Duration::from_secs(60);

/// `pihook webhook info`.
pub(super) fn info(
    options: &Options,
    environment: Environment,
    allowed_updates: &'static [&'static str],
) -> Result<(), Failure> {
    let config = options.load(environment)?;
    if let Some(reason) = polling_note::reason(&config) {
        print(&format!("Updates arrive by polling: {reason}."))?;
    }
    if config.delivery == Delivery::Polling {
        return each_poller(&config, |client| {
            let info = client.webhook_info()?;
            let is_set = match info.url.as_str() {
                "" => "the webhook is not set",
                _ => {
                    "a webhook is set, but the settings have delivery = \"polling\": `pihook webhook delete` removes it"
                }
            };
            Ok(format!("{is_set}\n{}", describe(&info)))
        });
    }
    each_bot(&config, allowed_updates, |registration| {
        let info = registration.info()?;
        let ours = match registration.agrees(&info) {
            Ok(()) => "the webhook matches the settings".to_owned(),
            Err(Difference::Missing) => "the webhook is not set".to_owned(),
            Err(what) => what.to_string(),
        };
        Ok(format!("{ours}\n{}", describe(&info)))
    })
}

/// `pihook webhook set`.
pub(super) fn set(
    options: &Options,
    environment: Environment,
    allowed_updates: &'static [&'static str],
) -> Result<(), Failure> {
    let config = options.load(environment)?;
    if config.delivery == Delivery::Polling {
        return Err(Failure::Config(
            "The settings have delivery = \"polling\", so there is no webhook. Set delivery to \"auto\" or \"webhook\" first.".into(),
        ));
    }
    each_bot(&config, allowed_updates, |registration| {
        set_in_time(registration).map(|_| "the webhook is set".into())
    })
}

/// `pihook webhook delete`.
pub(super) fn delete(
    options: &Options,
    environment: Environment,
    allowed_updates: &'static [&'static str],
) -> Result<(), Failure> {
    let config = options.load(environment)?;
    if config.delivery == Delivery::Polling {
        return each_poller(&config, |client| {
            client
                .delete_webhook()
                .map(|()| "the webhook is removed".into())
        });
    }
    each_bot(&config, allowed_updates, |registration| {
        registration
            .delete()
            .map(|()| "the webhook is removed".into())
    })
}

/// Sets the webhook, and waits as long as Telegram asks for: it takes one set a second, and a bot
/// may just have made one.
fn set_in_time(registration: &Registration) -> Result<WebhookInfo, RegistrationError> {
    let end = Instant::now() + SET_TIMEOUT;
    loop {
        match registration.set() {
            Err(
                RegistrationError::Api(ApiError::Refused {
                    retry_after: Some(seconds),
                    ..
                })
                | RegistrationError::Set(ApiError::Refused {
                    retry_after: Some(seconds),
                    ..
                }),
            ) if Instant::now() + Duration::from_secs(seconds.clamp(1, SET_TIMEOUT.as_secs()))
                < end =>
            {
                warn(&format!(
                    "bot {}: Telegram got too many requests. pihook tries again in {seconds} s.",
                    registration.bot()
                ));
                thread::sleep(Duration::from_secs(seconds.max(1)));
            }
            done => return done,
        }
    }
}

/// Calls `act` for each bot, also if the bot before it failed.
fn each_bot(
    config: &Config,
    allowed_updates: &'static [&'static str],
    act: impl Fn(&Registration) -> Result<String, RegistrationError>,
) -> Result<(), Failure> {
    let certificate = config
        .tls
        .then(|| certificate::load(&config.certificate_files))
        .transpose()
        .map_err(RunError::from)?;
    let host = endpoint::known_host(config, certificate.as_ref()).ok_or_else(|| {
        Failure::Other(
            "The public address of your home is not known yet. Run `pihook run`: it finds the address.".into(),
        )
    })?;
    let api = Api::new(&config.api_url, config.proxy.as_ref(), 1);
    all(config.bots.iter().map(|bot| {
        let upload = certificate
            .as_ref()
            .and_then(|certificate| certificate.upload(&host));
        let registration = Registration::new(config, bot, &api, &host, upload, allowed_updates);
        (
            registration.bot(),
            act(&registration).map_err(|why| why.to_string()),
        )
    }))
}

/// Like [`each_bot`], where there is no certificate, and so no registration.
fn each_poller(
    config: &Config,
    act: impl Fn(&Client) -> Result<String, ApiError>,
) -> Result<(), Failure> {
    let api = Api::new(&config.api_url, config.proxy.as_ref(), 1);
    all(config.bots.iter().map(|bot| {
        let said = act(&Client::new(api.clone(), bot.token.clone()));
        (bot.token.id(), said.map_err(|why| why.to_string()))
    }))
}

/// Prints the result of each bot, also if the bot before it failed.
fn all(said: impl Iterator<Item = (u64, Result<String, String>)>) -> Result<(), Failure> {
    let mut failures = Vec::new();
    for (bot, said) in said {
        match said {
            Ok(text) => print(&format!("bot {bot}: {text}"))?,
            Err(why) => failures.push(format!("bot {bot}: {why}.")),
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Failure::Other(failures.join("\n")))
    }
}

/// Everything that Telegram knows of a webhook, except its URL, which contains the token.
fn describe(info: &WebhookInfo) -> String {
    let mut lines = vec![format!("  waiting updates: {}", info.pending_update_count)];
    if let Some(address) = &info.ip_address {
        lines.push(format!("  IP address: {address}"));
    }
    if let Some(connections) = info.max_connections {
        lines.push(format!("  maximum of connections: {connections}"));
    }
    if let (Some(date), Some(message)) = (info.last_error_date, &info.last_error_message) {
        let ago = unix_now().saturating_sub(date.unsigned_abs());
        lines.push(format!(
            "  last error, {ago} s ago: {}",
            delivery_error::sentence(message)
        ));
    }
    lines.join("\n")
}
