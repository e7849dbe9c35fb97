//! What Telegram says.

use std::net::{Ipv4Addr, ToSocketAddrs};
use std::time::SystemTime;

use super::Doctor;
use crate::certificate::Certificate;
use crate::config::Config;
use crate::home::route;
use crate::registration::{Difference, Registration};
use crate::telegram::client::{Api, Client};
use crate::telegram::clock;
use crate::telegram::trouble;

/// Whether the Bot API answers, by a name that is found, with a certificate and a time that are right.
pub fn reach(doctor: &mut Doctor, config: &Config, api: &Api) -> bool {
    let host = config.api_url.split("://").nth(1).unwrap_or_default();
    let (host, port) = host.split('/').next().unwrap_or_default().rsplit_once(':').unwrap_or((host, "443"));
    let port: u16 = port.parse().unwrap_or(443);
    if let Err(why) = (host, port).to_socket_addrs() {
        let remedy = match route::gateway(&route::table()) {
            None => "this machine has no network: see to the cable or the Wi-Fi",
            Some(_) => "see which DNS server /etc/resolv.conf names, and whether the router gives another",
        };
        doctor.bad("DNS", format!("{host} is not found: {why}"), remedy);
        return false;
    }
    match api.reach() {
        Ok(date) => {
            match date.as_deref().and_then(|date| clock::difference(date, SystemTime::now())) {
                Some(off) => doctor.bad("clock", off, SET_CLOCK),
                None => doctor.good("clock", "right, by Telegram's"),
            }
            doctor.good("DNS", format!("{host} is found"));
            doctor.good("Bot API", format!("{} answers", config.api_url));
            true
        }
        Err(why) => {
            let words = why.to_string();
            if words.contains("the clock is off") {
                doctor.bad("clock", words, SET_CLOCK);
            } else {
                doctor.good("DNS", format!("{host} is found"));
                doctor.bad(
                    "Bot API",
                    words,
                    "see that no firewall is in the way, and that ca-certificates is installed",
                );
            }
            false
        }
    }
}

const SET_CLOCK: &str = "sudo timedatectl set-ntp true";

/// Whether Telegram knows each token.
pub fn tokens(doctor: &mut Doctor, config: &Config, api: &Api) -> bool {
    const CHECK: &str = "token";
    let mut all = true;
    for bot in &config.bots {
        let id = bot.token.id();
        match Client::new(api.clone(), bot.token.clone()).me() {
            Ok(me) => doctor.good(CHECK, format!("bot {id} is @{}", me.username)),
            Err(why) => {
                all = false;
                let remedy = if why.token_is_refused() { "get a new token from BotFather" } else { "try again later" };
                doctor.bad(CHECK, format!("bot {id}: {why}"), remedy);
            }
        }
    }
    all
}

/// How each webhook is at Telegram.
pub fn webhooks(
    doctor: &mut Doctor,
    config: &Config,
    api: &Api,
    (host, certificate): (&str, &Certificate),
    here: Option<Ipv4Addr>,
) {
    const CHECK: &str = "webhook";
    for bot in &config.bots {
        let registration = Registration::new(config, bot, api, host, certificate.upload());
        let id = registration.bot();
        let info = match registration.info() {
            Ok(info) => info,
            Err(why) => {
                doctor.bad(CHECK, format!("bot {id}: {why}"), "try again later");
                continue;
            }
        };
        let waiting = info.pending_update_count;
        let called = info.ip_address.as_deref().and_then(|address| address.parse::<Ipv4Addr>().ok());
        match (registration.agrees(&info), &info.last_error_message) {
            (Err(Difference::Missing), _) => {
                doctor.bad(CHECK, format!("bot {id}: none is set"), "start the bot: it sets it");
            }
            (Err(difference @ Difference::Other), _) => doctor.bad(
                CHECK,
                format!("bot {id}: {difference}, at {}", place(&info.url)),
                "if that is not this bot of before, stop the other program, or get it a token of its own",
            ),
            (Err(difference), _) => doctor.bad(CHECK, format!("bot {id}: {difference}"), "run `pihook webhook set`"),
            // A later success does not clear the message.
            (Ok(()), Some(message)) if waiting > 0 => {
                let (cause, remedy) = trouble::explain(message).map_or(("", ""), |it| (it.cause, it.remedy));
                doctor.bad(
                    CHECK,
                    format!("bot {id}: {waiting} updates wait; Telegram says \"{message}\": {cause}"),
                    remedy,
                );
            }
            (Ok(()), message) => {
                let past = message.as_ref().map_or(String::new(), |message| format!(", since it said \"{message}\""));
                doctor.good(CHECK, format!("bot {id}: registered, and nothing waits{past}"));
            }
        }
        if let (Some(here), Some(called)) = (here, called)
            && here != called
        {
            let found = format!("bot {id}: Telegram calls {called}, and this home is at {here}");
            doctor.warn(CHECK, found, "with a DNS name this can take half an hour; else run `pihook webhook set`");
        }
    }
}

/// A URL without its path, which can hold a token.
fn place(url: &str) -> String {
    url.split('/').take(3).collect::<Vec<_>>().join("/")
}
