//! The doctor finds what is wrong and says what to do: every check that a helpful friend would make,
//! in order. It changes nothing.
//!
//! A check that would only fail for the same reason is left out: the first cross is the cause.

mod dns;
mod finding;
mod listener;
mod local;
mod telegram;

use std::path::PathBuf;

use self::finding::Doctor;
pub(crate) use self::finding::Finding;
use crate::config::{self, BotSettings, Config, Delivery, Environment, ProblemKind};
use crate::delivery::endpoint;
use crate::delivery::polling_note;
use crate::delivery::registration::Registration;
use crate::telegram::client::Api;

/// Checks everything for a bot of these kinds of update, and passes each finding to `say`. Returns
/// whether nothing is bad.
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
    let known = if telegram::reach(&mut doctor, &config, &api) {
        telegram::tokens(&mut doctor, &config, &api)
    } else {
        Vec::new()
    };

    let polling = polling_note::reason(&config);
    if let Some(reason) = &polling {
        doctor.good("delivery", format!("updates arrive by polling: {reason}"));
    }
    let polls = polling.is_some();

    // With the setting "polling" the bot has no listener, and needs neither address nor router.
    if config.delivery == Delivery::Polling {
        local::process(&mut doctor, &config);
        local::polling(&mut doctor, &config);
        no_webhooks(&mut doctor, &known, &api);
        return doctor.is_well();
    }

    let certificate = if config.tls {
        local::certificate(&mut doctor, &config)
    } else {
        None
    };
    listener::examine(&mut doctor, &config, certificate.as_ref());

    let host = endpoint::known_host(&config, certificate.as_ref());
    // A bot that polls works without a public address and without the router.
    doctor.is_lenient = polls;
    // Without TLS a proxy or a tunnel is in front of the bot. It can be in another network.
    let address = if config.tls {
        local::address(&mut doctor, &config, host.as_deref())
    } else {
        None
    };
    doctor.is_lenient = false;

    let can_serve = certificate.is_some() || !config.tls;
    if polls {
        local::polling(&mut doctor, &config);
        no_webhooks(&mut doctor, &known, &api);
    } else if let Some(host) = &host
        && can_serve
    {
        for bot in known {
            let upload = certificate.as_ref().and_then(|it| it.upload(host));
            let registration = Registration::new(&config, bot, &api, host, upload, allowed_updates);
            telegram::webhook(&mut doctor, &registration, address);
        }
    }

    not_tested(&mut doctor, config.tls);
    doctor.is_well()
}

/// Checks that no webhook is in the way of bots that poll.
fn no_webhooks(doctor: &mut Doctor, bots: &[&BotSettings], api: &Api) {
    for bot in bots {
        telegram::no_webhook(doctor, bot, api);
    }
}

/// Says what the doctor cannot test from here.
fn not_tested(doctor: &mut Doctor, tls: bool) {
    let found = if tls {
        "the doctor cannot test whether the router lets Telegram's calls in, because many routers block \
         calls from a home to its own address"
    } else {
        "the doctor cannot test whether the proxy or the tunnel passes on Telegram's calls"
    };
    let remedy = "write to the bot; if it does not answer, run the doctor again";
    doctor.warn("not tested", found, remedy);
}

/// The settings, where they have no problem.
fn settings(
    doctor: &mut Doctor,
    given: Option<PathBuf>,
    environment: Environment,
) -> Option<Config> {
    const CHECK: &str = "settings";
    let source = match config::find(given, environment) {
        Ok(source) => source,
        Err(error) => {
            let remedy =
                "write the settings with `pihook init`; the file deploy/pihook.toml is an example";
            doctor.bad(CHECK, error.to_string(), remedy);
            return None;
        }
    };

    let (config, problems) = config::examine(&source, environment);
    for problem in &problems {
        let remedy = if problem.kind == ProblemKind::Forbidden {
            "run the doctor with sudo: then it checks the rest, too".to_owned()
        } else {
            format!("correct it in {source}: then the doctor checks the rest, too")
        };
        doctor.bad(CHECK, &problem.words, remedy);
    }
    if !problems.is_empty() {
        return None;
    }

    let bots = config.bots.len();
    let plural = if bots == 1 { "" } else { "s" };
    doctor.good(CHECK, format!("{source}, {bots} bot{plural}"));
    Some(config)
}
