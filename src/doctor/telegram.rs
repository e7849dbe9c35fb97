//! The checks at Telegram: the Bot API, the clock, the tokens and the webhooks.

use std::net::Ipv4Addr;
use std::time::SystemTime;

use super::dns::LookUp;
use super::finding::Doctor;
use crate::config::{BotSettings, Config};
use crate::delivery::health::Difference;
use crate::delivery::registration::Registration;
use crate::system::clock::unix_now;
use crate::telegram::client::{Api, Client};
use crate::telegram::clock_skew;
use crate::telegram::delivery_error;
use crate::telegram::error::ApiError;
use crate::telegram::proxy::{Proxy, host_of};
use crate::telegram::types::WebhookInfo;

const CHECK: &str = "webhook";
const READ_LOG: &str = "read the bot's log: `journalctl -u pihook`";
const SET_CLOCK: &str = "set the clock: `sudo timedatectl set-ntp true`";
/// In seconds. A delivery error from longer ago is over.
const RECENT_SECONDS: u64 = 3600;

/// Whether the Bot API answers: its name is found, its certificate is right, and this machine's clock
/// agrees with its own.
pub(crate) fn reach(doctor: &mut Doctor, config: &Config, api: &Api) -> bool {
    // A proxy looks the Bot API's name up, and this home can be without DNS.
    let proxy = config.proxy.as_ref();
    let host = match proxy {
        Some(proxy) => proxy.host(),
        None => host_of(&config.api_url),
    };
    let look_up = LookUp::of(&host);
    if !look_up.is_of_use() {
        look_up.tell(doctor);
        return false;
    }

    match api.reach() {
        Ok(date) => {
            clock(doctor, date.as_deref());
            look_up.tell(doctor);
            let way = match proxy {
                Some(proxy) => format!(", through the proxy {proxy}"),
                None => String::new(),
            };
            doctor.good("Bot API", format!("{} answers{way}", config.api_url));
            true
        }
        Err(error) => {
            unreachable(doctor, &look_up, proxy, &error);
            false
        }
    }
}

/// Compares the clock with the `Date` of the Bot API's answer.
fn clock(doctor: &mut Doctor, date: Option<&str>) {
    let skew = date.and_then(|date| clock_skew::skew(date, SystemTime::now()));
    match skew {
        Some(skew) => doctor.bad("clock", skew, SET_CLOCK),
        None => doctor.good("clock", "right, compared with Telegram's clock"),
    }
}

/// Says why the Bot API, or the proxy before it, cannot be reached.
fn unreachable(doctor: &mut Doctor, look_up: &LookUp, proxy: Option<&Proxy>, error: &ApiError) {
    if let ApiError::WrongClock(_) = error {
        return doctor.bad("clock", error.to_string(), SET_CLOCK);
    }
    look_up.tell(doctor);
    let remedy = match proxy {
        None => {
            "check that no firewall blocks the connection, and that ca-certificates is installed"
        }
        Some(_) => {
            "check that the proxy runs, and that it lets this machine connect to the Bot API"
        }
    };
    doctor.bad("Bot API", error.to_string(), remedy);
}

/// Checks whether Telegram accepts each token. Returns the bots with an accepted one.
pub(crate) fn tokens<'c>(
    doctor: &mut Doctor,
    config: &'c Config,
    api: &Api,
) -> Vec<&'c BotSettings> {
    const CHECK: &str = "token";
    let mut known = Vec::new();
    for bot in &config.bots {
        let id = bot.token.id();
        match Client::new(api.clone(), bot.token.clone()).me() {
            Ok(me) => {
                doctor.good(CHECK, format!("bot {id} is @{}", me.username));
                known.push(bot);
            }
            Err(error) => {
                let remedy = if error.token_is_refused() {
                    "get a new token from BotFather"
                } else {
                    "try again later"
                };
                doctor.bad(CHECK, format!("bot {id}: {error}"), remedy);
            }
        }
    }
    known
}

/// Compares a webhook at Telegram with the settings, and with this home's address.
pub(crate) fn webhook(doctor: &mut Doctor, registration: &Registration, here: Option<Ipv4Addr>) {
    let id = registration.bot();
    let info = match registration.info() {
        Ok(info) => info,
        Err(error) => return doctor.bad(CHECK, format!("bot {id}: {error}"), "try again later"),
    };

    match registration.agrees(&info) {
        Err(Difference::Missing) => doctor.bad(
            CHECK,
            format!("bot {id}: no webhook is set"),
            "start the bot: it sets the webhook",
        ),
        Err(difference @ Difference::Other) => doctor.bad(
            CHECK,
            format!("bot {id}: {difference}, at {}", place(&info.url)),
            "if another program set this webhook, stop that program, or give it a token of its own",
        ),
        Err(difference) => doctor.bad(
            CHECK,
            format!("bot {id}: {difference}"),
            "run `pihook webhook set`",
        ),
        Ok(()) => delivery(doctor, id, &info),
    }

    if let Some(here) = here
        && let Some(called) = &info.ip_address
        && let Ok(called) = called.parse::<Ipv4Addr>()
        && here != called
    {
        let found = format!("bot {id}: Telegram calls {called}, but this home's address is {here}");
        let remedy =
            "if public_host is a DNS name, wait half an hour; if not, run `pihook webhook set`";
        doctor.warn(CHECK, found, remedy);
    }
}

/// Checks that no webhook is in the way of a bot that polls.
pub(crate) fn no_webhook(doctor: &mut Doctor, bot: &BotSettings, api: &Api) {
    let id = bot.token.id();
    match Client::new(api.clone(), bot.token.clone()).webhook_info() {
        Ok(info) if info.url.is_empty() => {
            let waiting = info.pending_update_count;
            let found = format!(
                "bot {id}: no webhook is set, which is right for polling; {waiting} updates wait at Telegram"
            );
            doctor.good(CHECK, found);
        }
        Ok(info) => doctor.warn(
            CHECK,
            format!("bot {id}: a webhook is set, at {}, but the bot polls", place(&info.url)),
            "wait some minutes: the bot may be testing the webhook; if it stays, another program set it: stop that \
             program, or give it a token of its own",
        ),
        Err(error) => doctor.bad(CHECK, format!("bot {id}: {error}"), "try again later"),
    }
}

/// Whether Telegram's calls arrive. Telegram keeps its last error also after a later success.
fn delivery(doctor: &mut Doctor, id: u64, info: &WebhookInfo) {
    let waiting = info.pending_update_count;
    let date = info.last_error_date.map_or(0, i64::unsigned_abs);
    let is_recent = unix_now().saturating_sub(date) < RECENT_SECONDS;
    let found =
        format!("bot {id}: the webhook is registered, and {waiting} updates wait at Telegram");

    match &info.last_error_message {
        Some(message) if is_recent => {
            let (cause, remedy) = match delivery_error::explain(message) {
                Some(known) => (known.cause, known.remedy),
                None => ("pihook does not know this error", READ_LOG),
            };
            let found = format!("{found}; Telegram says \"{message}\": {cause}");
            if waiting > 0 {
                doctor.bad(CHECK, found, remedy);
            } else {
                doctor.warn(CHECK, found, remedy);
            }
        }
        _ if waiting > 0 => {
            doctor.warn(CHECK, found, format!("if the number grows, {READ_LOG}"));
        }
        _ => {
            let found = format!("bot {id}: the webhook is registered, and no updates wait");
            doctor.good(CHECK, found);
        }
    }
}

/// The scheme and the host of a URL. Its path can hold a token.
fn place(url: &str) -> String {
    url.split('/').take(3).collect::<Vec<_>>().join("/")
}
