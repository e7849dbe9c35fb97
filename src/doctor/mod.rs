//! What is wrong, and what to do about it: every check that a helpful friend would make, in order. Nothing is changed.
//!
//! What would only fail for the same reason is not checked: the first cross is the cause.

mod listener;
mod local;
mod telegram;

use std::path::PathBuf;

use serde::Serialize;

use crate::config::{self, Config, Environment};
use crate::delivery::identity;
use crate::delivery::registration::Registration;
use crate::telegram::client::Api;
use crate::text::printable;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// As it should be.
    Good,
    /// It works, or cannot be known; something is to be thought of.
    Warning,
    /// The bot does not work like this.
    Bad,
}

/// One check, for a person or a script.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// What was checked, in a word or two.
    pub check: &'static str,
    /// How it is.
    pub mark: Mark,
    /// What was found.
    pub found: String,
    /// What to do; empty when there is nothing.
    pub remedy: String,
}

impl Finding {
    /// The finding as a person reads it, in one or two lines, with colours on a terminal.
    #[must_use]
    pub fn line(&self, coloured: bool) -> String {
        let (mark, colour) = match self.mark {
            Mark::Good => ('✓', 32),
            Mark::Warning => ('!', 33),
            Mark::Bad => ('✗', 31),
        };
        let mark = if coloured { format!("\x1b[{colour}m{mark}\x1b[0m") } else { mark.to_string() };
        let remedy = if self.remedy.is_empty() { String::new() } else { format!("\n    → {}", self.remedy) };
        format!("{mark} {}: {}{remedy}", self.check, printable(&self.found))
    }
}

/// Where findings go, as they are made.
pub struct Doctor<'a> {
    say: &'a mut dyn FnMut(Finding),
    bad: bool,
}

impl Doctor<'_> {
    fn good(&mut self, check: &'static str, found: impl Into<String>) {
        self.finding(check, Mark::Good, found.into(), String::new());
    }

    fn warn(&mut self, check: &'static str, found: impl Into<String>, remedy: impl Into<String>) {
        self.finding(check, Mark::Warning, found.into(), remedy.into());
    }

    fn bad(&mut self, check: &'static str, found: impl Into<String>, remedy: impl Into<String>) {
        self.bad = true;
        self.finding(check, Mark::Bad, found.into(), remedy.into());
    }

    fn finding(&mut self, check: &'static str, mark: Mark, found: String, remedy: String) {
        (self.say)(Finding { check, mark, found, remedy });
    }
}

/// Checks all there is, and tells `say`. Whether nothing is bad.
pub fn examine(given: Option<PathBuf>, environment: Environment, say: &mut dyn FnMut(Finding)) -> bool {
    let mut doctor = Doctor { say, bad: false };
    let Some(config) = settings(&mut doctor, given, environment) else { return false };
    local::files(&mut doctor, &config);
    let api = Api::new(&config.api_url, 1);
    let is_there = telegram::reach(&mut doctor, &config, &api);
    let known = if is_there { telegram::tokens(&mut doctor, &config, &api) } else { Vec::new() };
    let certificate = local::certificate(&mut doctor, &config);
    listener::check(&mut doctor, &config, certificate.as_ref());
    let host = match &certificate {
        Some(certificate) => identity::host(&config, certificate),
        None => config.public_host.given().map(str::to_owned),
    };
    let address = local::address(&mut doctor, &config, host.as_deref());
    if let (Some(host), Some(certificate)) = (&host, &certificate) {
        for bot in known {
            let registration = Registration::new(&config, bot, &api, host, certificate.upload());
            telegram::webhook(&mut doctor, &registration, address);
        }
    }
    let unknown = "whether the router lets Telegram in: only Telegram's own calls show that, since many routers do not let \
                   a home call its own address";
    doctor.warn("not known from here", unknown, "write to the bot, and run this again if it does not answer");
    !doctor.bad
}

fn settings(doctor: &mut Doctor, given: Option<PathBuf>, environment: Environment) -> Option<Config> {
    const CHECK: &str = "settings";
    let path = match config::find(given, environment) {
        Ok(path) => path,
        Err(why) => {
            doctor.bad(CHECK, why.to_string(), "deploy/pihook.toml shows how one looks");
            return None;
        }
    };
    let (config, problems) = config::examine(&path, environment);
    for problem in &problems {
        doctor.bad(CHECK, problem, format!("mend it in {}; the rest is checked when this is right", path.display()));
    }
    if !problems.is_empty() {
        return None;
    }
    let bots = config.bots.len();
    doctor.good(CHECK, format!("{}, {bots} bot{}", path.display(), if bots == 1 { "" } else { "s" }));
    Some(config)
}
