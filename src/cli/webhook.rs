//! `pihook webhook info|set|delete`.

use std::fmt::Display;
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
const REMOVED: &str = "the webhook is removed";

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
            let is_set = if info.url.is_empty() {
                "the webhook is not set"
            } else {
                "a webhook is set, but the settings have delivery = \"polling\": `pihook webhook delete` removes it"
            };
            Ok(format!("{is_set}\n{}", describe(&info)))
        });
    }
    each_bot(&config, allowed_updates, |registration| {
        let info = registration.info()?;
        let ours = match registration.agrees(&info) {
            Ok(()) => "the webhook matches the settings".to_owned(),
            Err(Difference::Missing) => "the webhook is not set".to_owned(),
            Err(difference) => difference.to_string(),
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
        set_in_time(registration)?;
        Ok("the webhook is set".into())
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
            client.delete_webhook()?;
            Ok(REMOVED.into())
        });
    }
    each_bot(&config, allowed_updates, |registration| {
        registration.delete()?;
        Ok(REMOVED.into())
    })
}

/// Sets the webhook, and waits as long as Telegram asks for: it takes one set a second, and a bot
/// may just have made one.
fn set_in_time(registration: &Registration) -> Result<(), RegistrationError> {
    let end = Instant::now() + SET_TIMEOUT;
    loop {
        let Err(error) = registration.set() else {
            return Ok(());
        };
        let Some(seconds) = retry_after(&error) else {
            return Err(error);
        };
        let pause = Duration::from_secs(seconds.max(1));
        if pause >= end.saturating_duration_since(Instant::now()) {
            return Err(error);
        }

        warn(&format!(
            "bot {}: Telegram got too many requests. pihook tries again in {seconds} s.",
            registration.bot()
        ));
        thread::sleep(pause);
    }
}

/// The seconds that Telegram asks a bot to wait.
fn retry_after(error: &RegistrationError) -> Option<u64> {
    match error {
        RegistrationError::Api(ApiError::Refused { retry_after, .. })
        | RegistrationError::Set(ApiError::Refused { retry_after, .. }) => *retry_after,
        _ => None,
    }
}

/// Calls `act` for each bot, and prints the result, also if the bot before it failed.
fn each_bot(
    config: &Config,
    allowed_updates: &'static [&'static str],
    act: impl Fn(&Registration) -> Result<String, RegistrationError>,
) -> Result<(), Failure> {
    let certificate = if config.tls {
        Some(certificate::load(&config.certificate_files).map_err(RunError::from)?)
    } else {
        None
    };
    let Some(host) = endpoint::known_host(config, certificate.as_ref()) else {
        return Err(Failure::Other(
            "The public address of your home is not known yet. Run `pihook run`: it finds the address.".into(),
        ));
    };
    let api = Api::new(&config.api_url, config.proxy.as_ref(), 1);

    let mut failures = Vec::new();
    for bot in &config.bots {
        let upload = certificate
            .as_ref()
            .and_then(|certificate| certificate.upload(&host));
        let registration = Registration::new(config, bot, &api, &host, upload, allowed_updates);
        show(registration.bot(), act(&registration), &mut failures)?;
    }
    end(&failures)
}

/// Like [`each_bot`], where there is no certificate, and so no registration.
fn each_poller(
    config: &Config,
    act: impl Fn(&Client) -> Result<String, ApiError>,
) -> Result<(), Failure> {
    let api = Api::new(&config.api_url, config.proxy.as_ref(), 1);

    let mut failures = Vec::new();
    for bot in &config.bots {
        let client = Client::new(api.clone(), bot.token.clone());
        show(bot.token.id(), act(&client), &mut failures)?;
    }
    end(&failures)
}

/// Prints the result of a bot, or adds its error to `failures`.
fn show(
    bot: u64,
    result: Result<String, impl Display>,
    failures: &mut Vec<String>,
) -> Result<(), Failure> {
    match result {
        Ok(text) => print(&format!("bot {bot}: {text}")),
        Err(error) => {
            failures.push(format!("bot {bot}: {error}."));
            Ok(())
        }
    }
}

fn end(failures: &[String]) -> Result<(), Failure> {
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
