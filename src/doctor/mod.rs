//! What is wrong, and what to do about it: every check that a helpful friend would make, in order.
//! Nothing is changed.
//!
//! What would only fail for the same reason is not checked: the first cross is the cause.

mod dns;
mod finding;
mod listener;
mod local;
mod telegram;

use std::path::PathBuf;

use self::finding::Doctor;
pub(crate) use self::finding::Finding;
use crate::config::{self, Config, Delivery, Environment};
use crate::delivery::endpoint;
use crate::delivery::polling_note;
use crate::delivery::registration::Registration;
use crate::telegram::client::Api;

/// Checks all there is for a bot of these kinds of update, and tells `say`. Whether nothing is bad.
pub(crate) fn examine(
    given: Option<PathBuf>,
    environment: Environment,
    allowed_updates: &'static [&'static str],
    say: &mut dyn FnMut(Finding),
) -> bool {
    let mut doctor = Doctor::new(say);
    let Some(config) = settings(&mut doctor, given, environment) else {
        return false;
    };
    local::files(&mut doctor, &config);
    let api = Api::new(&config.api_url, config.proxy.as_ref(), 1);
    let is_there = telegram::reach(&mut doctor, &config, &api);
    let known = if is_there {
        telegram::tokens(&mut doctor, &config, &api)
    } else {
        Vec::new()
    };
    let polling = polling_note::reason(&config);
    if let Some(reason) = &polling {
        doctor.good("delivery", format!("updates arrive by polling: {reason}"));
    }
    if config.delivery == Delivery::Polling {
        local::process(&mut doctor, &config);
        known
            .iter()
            .for_each(|bot| telegram::no_webhook(&mut doctor, bot, &api));
        return doctor.is_well();
    }
    let certificate = if config.tls {
        local::certificate(&mut doctor, &config)
    } else {
        None
    };
    listener::examine(&mut doctor, &config, certificate.as_ref());
    let host = endpoint::known_host(&config, certificate.as_ref());
    // What the home lacks is told, but a bot that polls works without it.
    doctor.is_lenient = polling.is_some();
    // A proxy or a tunnel before the bot can be anywhere.
    let address = if config.tls {
        local::address(&mut doctor, &config, host.as_deref())
    } else {
        None
    };
    doctor.is_lenient = false;
    match &host {
        Some(host) if polling.is_none() && (certificate.is_some() || !config.tls) => {
            for bot in known {
                let upload = certificate
                    .as_ref()
                    .and_then(|certificate| certificate.upload(host));
                let registration =
                    Registration::new(&config, bot, &api, host, upload, allowed_updates);
                telegram::webhook(&mut doctor, &registration, address);
            }
        }
        _ if polling.is_some() => known
            .iter()
            .for_each(|bot| telegram::no_webhook(&mut doctor, bot, &api)),
        _ => {}
    }
    if !config.tls {
        let unknown =
            "the doctor cannot test whether the proxy or the tunnel passes on Telegram's calls";
        doctor.warn(
            "not tested",
            unknown,
            "write to the bot; if it does not answer, run the doctor again",
        );
        return doctor.is_well();
    }
    let unknown = "the doctor cannot test whether the router lets Telegram's calls in, because many routers block \
                   calls from a home to its own address";
    doctor.warn(
        "not tested",
        unknown,
        "write to the bot; if it does not answer, run the doctor again",
    );
    doctor.is_well()
}

fn settings(
    doctor: &mut Doctor,
    given: Option<PathBuf>,
    environment: Environment,
) -> Option<Config> {
    const CHECK: &str = "settings";
    let source = match config::find(given, environment) {
        Ok(source) => source,
        Err(why) => {
            doctor.bad(
                CHECK,
                why.to_string(),
                "write the settings with `pihook init`; the file deploy/pihook.toml is an example",
            );
            return None;
        }
    };
    let (config, problems) = config::examine(&source, environment);
    for problem in &problems {
        let remedy = if problem.contains(config::WITH_SUDO) {
            "run the doctor with sudo: then it checks the rest, too".to_owned()
        } else {
            format!("correct it in {source}: then the doctor checks the rest, too")
        };
        doctor.bad(CHECK, problem, remedy);
    }
    if !problems.is_empty() {
        return None;
    }
    let bots = config.bots.len();
    doctor.good(
        CHECK,
        format!("{source}, {bots} bot{}", if bots == 1 { "" } else { "s" }),
    );
    Some(config)
}
