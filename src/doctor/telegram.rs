//! What Telegram says.

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
use crate::telegram::proxy::{Proxy, host_of};
use crate::telegram::types::WebhookInfo;

const CHECK: &str = "webhook";
const SET_CLOCK: &str = "set the clock: `sudo timedatectl set-ntp true`";
/// What went wrong longer ago is over.
const RECENT_SECONDS: u64 = 3600;

/// Whether the Bot API answers, by a name that is found, with a certificate and a time that are
/// right.
pub(crate) fn reach(doctor: &mut Doctor, config: &Config, api: &Api) -> bool {
    // The proxy looks the Bot API's name up, and here is perhaps no DNS.
    let proxy = config.proxy.as_ref();
    let host = proxy.map_or_else(|| host_of(&config.api_url), Proxy::host);
    let look_up = LookUp::of(&host);
    if !look_up.is_of_use() {
        look_up.tell(doctor);
        return false;
    }
    match api.reach() {
        Ok(date) => {
            match date
                .as_deref()
                .and_then(|date| clock_skew::skew(date, SystemTime::now()))
            {
                Some(off) => doctor.bad("clock", off, SET_CLOCK),
                None => doctor.good("clock", "right, compared with Telegram's clock"),
            }
            look_up.tell(doctor);
            let way = proxy.map_or(String::new(), |proxy| {
                format!(", through the proxy {proxy}")
            });
            doctor.good("Bot API", format!("{} answers{way}", config.api_url));
            true
        }
        Err(why) => {
            let words = why.to_string();
            if words.contains(clock_skew::WRONG) {
                doctor.bad("clock", words, SET_CLOCK);
            } else {
                look_up.tell(doctor);
                let remedy = match proxy {
                    None => {
                        "check that no firewall blocks the connection, and that ca-certificates is installed"
                    }
                    Some(_) => {
                        "check that the proxy runs, and that it lets this machine connect to the Bot API"
                    }
                };
                doctor.bad("Bot API", words, remedy);
            }
            false
        }
    }
}

/// Whether Telegram knows each token; the bots whose it knows.
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
            Err(why) => {
                let remedy = if why.token_is_refused() {
                    "get a new token from BotFather"
                } else {
                    "try again later"
                };
                doctor.bad(CHECK, format!("bot {id}: {why}"), remedy);
            }
        }
    }
    known
}

/// How a webhook is at Telegram.
pub(crate) fn webhook(doctor: &mut Doctor, registration: &Registration, here: Option<Ipv4Addr>) {
    let id = registration.bot();
    let info = match registration.info() {
        Ok(info) => info,
        Err(why) => return doctor.bad(CHECK, format!("bot {id}: {why}"), "try again later"),
    };
    match registration.agrees(&info) {
        Err(Difference::Missing) => {
            doctor.bad(
                CHECK,
                format!("bot {id}: no webhook is set"),
                "start the bot: it sets the webhook",
            );
        }
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
    let called = info
        .ip_address
        .and_then(|address| address.parse::<Ipv4Addr>().ok());
    if let (Some(here), Some(called)) = (here, called)
        && here != called
    {
        let found = format!("bot {id}: Telegram calls {called}, but this home's address is {here}");
        doctor.warn(
            CHECK,
            found,
            "if public_host is a DNS name, wait half an hour; if not, run `pihook webhook set`",
        );
    }
}

/// Whether no webhook is in the way of a bot that polls.
pub(crate) fn no_webhook(doctor: &mut Doctor, bot: &BotSettings, api: &Api) {
    let id = bot.token.id();
    match Client::new(api.clone(), bot.token.clone()).webhook_info() {
        Ok(info) if info.url.is_empty() => {
            doctor.good(
                CHECK,
                format!(
                    "bot {id}: no webhook is set, which is right for polling; {} updates wait at Telegram",
                    info.pending_update_count
                ),
            );
        }
        Ok(info) => doctor.warn(
            CHECK,
            format!("bot {id}: a webhook is set, at {}, but the bot polls", place(&info.url)),
            "wait some minutes: the bot may be testing the webhook; if it stays, another program set it: stop that \
             program, or give it a token of its own",
        ),
        Err(why) => doctor.bad(CHECK, format!("bot {id}: {why}"), "try again later"),
    }
}

/// Whether Telegram's calls arrive. A later success does not clear its last message.
fn delivery(doctor: &mut Doctor, id: u64, info: &WebhookInfo) {
    let waiting = info.pending_update_count;
    let date = info.last_error_date.map_or(0, i64::unsigned_abs);
    let is_recent = unix_now().saturating_sub(date) < RECENT_SECONDS;
    let found =
        format!("bot {id}: the webhook is registered, and {waiting} updates wait at Telegram");
    match &info.last_error_message {
        Some(message) if is_recent => {
            let (cause, remedy) = delivery_error::explain(message).map_or(
                (
                    "pihook does not know this error",
                    "read the bot's log: `journalctl -u pihook`",
                ),
                |it| (it.cause, it.remedy),
            );
            let found = format!("{found}; Telegram says \"{message}\": {cause}");
            if waiting > 0 {
                doctor.bad(CHECK, found, remedy);
            } else {
                doctor.warn(CHECK, found, remedy);
            }
        }
        _ if waiting > 0 => {
            doctor.warn(
                CHECK,
                found,
                "if the number grows, read the bot's log: `journalctl -u pihook`",
            );
        }
        _ => doctor.good(
            CHECK,
            format!("bot {id}: the webhook is registered, and no updates wait"),
        ),
    }
}

/// A URL without its path, which can hold a token.
fn place(url: &str) -> String {
    url.split('/').take(3).collect::<Vec<_>>().join("/")
}
