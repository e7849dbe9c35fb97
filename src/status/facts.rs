//! The status of the running bot, as a person sees it in `systemctl status` and `pihook status`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::report::{BotReport, Report, Trouble};
use crate::secret::one_line;
use crate::system::lock::lock;

/// The facts that make up the status; all threads share them.
#[derive(Default)]
pub(crate) struct Status(Mutex<Facts>);

struct Facts {
    started: Instant,
    answered: u64,
    last: Option<Instant>,
    /// By the bot's id; None when all is well.
    webhooks: BTreeMap<u64, Option<String>>,
    /// The same of those that poll.
    polls: BTreeMap<u64, Option<String>>,
    /// Why the bots poll.
    polling: Option<String>,
    home: Option<String>,
    /// Telegram has reached the webhook as it is set now.
    is_reached: bool,
    /// Where Telegram calls, and when the certificate ends.
    served: Option<(String, Option<SystemTime>)>,
    /// The last problem of a webhook or of the home, and when it began.
    trouble: Option<(Instant, String)>,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            answered: 0,
            last: None,
            webhooks: BTreeMap::new(),
            polls: BTreeMap::new(),
            polling: None,
            home: None,
            is_reached: false,
            served: None,
            trouble: None,
        }
    }
}

impl Facts {
    fn note_trouble(&mut self, what: Option<String>) {
        if let Some(what) = what {
            self.trouble = Some((Instant::now(), what));
        }
    }
}

impl Status {
    /// Counts a reply that Telegram took.
    pub(crate) fn answered(&self) {
        let mut facts = self.facts();
        facts.answered += 1;
        facts.last = Some(Instant::now());
    }

    /// Notes a bot's webhook: None when it is registered and well, else what is wrong. Returns
    /// whether that is news.
    pub(crate) fn webhook(&self, bot: u64, problem: Option<String>) -> bool {
        let mut facts = self.facts();
        facts.polls.remove(&bot);
        let is_new = facts.webhooks.insert(bot, problem.clone()) != Some(problem.clone());
        if is_new {
            facts.note_trouble(problem);
        }
        is_new
    }

    /// Notes how a bot polls: None when all is well, else what is wrong. Returns whether that is
    /// news.
    pub(crate) fn polling(&self, bot: u64, problem: Option<String>) -> bool {
        let mut facts = self.facts();
        facts.webhooks.remove(&bot);
        let is_new = facts.polls.insert(bot, problem.clone()) != Some(problem.clone());
        if is_new {
            facts.note_trouble(problem);
        }
        is_new
    }

    /// Notes why the bots poll; None when they do not.
    pub(crate) fn polling_reason(&self, reason: Option<String>) {
        self.facts().polling = reason;
    }

    /// Notes what is wrong with this home's address or its router. Returns whether that is news.
    pub(crate) fn home(&self, problem: Option<String>) -> bool {
        let mut facts = self.facts();
        let is_new = std::mem::replace(&mut facts.home, problem.clone()) != problem;
        if is_new {
            facts.note_trouble(problem);
        }
        is_new
    }

    /// Notes whether Telegram has reached the webhook as it is set now.
    pub(crate) fn reached(&self, is_reached: bool) {
        self.facts().is_reached = is_reached;
    }

    /// Notes where Telegram calls (`HOST:PORT`), and when the certificate ends, if there is one
    /// here.
    pub(crate) fn serves(&self, address: String, certificate_end: Option<SystemTime>) {
        self.facts().served = Some((address, certificate_end));
    }

    /// All of it, each fact on one line: Telegram and routers have a say in them. `name` knows the
    /// bots' names.
    pub(crate) fn report(&self, name: impl Fn(u64) -> Option<String>) -> Report {
        let facts = self.facts();
        let bots = || facts.webhooks.iter().chain(&facts.polls);
        let is_well = bots().next().is_some() && bots().all(|(_, problem)| problem.is_none());
        let does_poll = !facts.polls.is_empty();
        // A bot that polls is well once getUpdates has returned.
        let works = is_well && (facts.is_reached || facts.webhooks.is_empty());
        let served = facts.served.as_ref().filter(|_| !does_poll);
        let end = served.and_then(|(_, end)| end.as_ref()?.duration_since(UNIX_EPOCH).ok());
        let trouble = facts.trouble.as_ref();
        Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            running_for: facts.started.elapsed().as_secs(),
            works,
            answered: facts.answered,
            last_answered_ago: facts.last.map(|last| last.elapsed().as_secs()),
            delivery: if does_poll { "polling" } else { "webhook" }.to_owned(),
            delivery_reason: match (&facts.polling, facts.is_reached) {
                (Some(why), _) => one_line(why),
                (None, true) => "Telegram reaches this Pi".to_owned(),
                (None, false) => "Telegram has not called the bot yet".to_owned(),
            },
            address: served.map(|(address, _)| address.clone()),
            certificate_end: end.map(|end| end.as_secs()),
            last_trouble: trouble.map(|(since, what)| Trouble {
                ago: since.elapsed().as_secs(),
                what: one_line(what),
            }),
            bots: bots()
                .map(|(id, problem)| BotReport {
                    id: *id,
                    name: name(*id).as_deref().map(one_line),
                    problem: problem.as_deref().map(one_line),
                })
                .collect(),
        }
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        lock(&self.0)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = self.facts();
        let plural = if facts.answered == 1 { "" } else { "s" };
        write!(f, "{} update{plural} answered", facts.answered)?;
        if let Some(last) = facts.last {
            write!(f, ", the last {} s ago", last.elapsed().as_secs())?;
        }
        // Trouble comes first: what is too long is cut at its end.
        if let Some(why) = &facts.home {
            write!(f, "; {why}")?;
        }
        for (bot, problem) in &facts.webhooks {
            if let Some(why) = problem {
                write!(f, "; bot {bot}: {why}")?;
            }
        }
        for (bot, problem) in &facts.polls {
            if let Some(why) = problem {
                write!(f, "; bot {bot}: {why}")?;
            }
        }
        for (bot, _) in facts
            .webhooks
            .iter()
            .filter(|(_, problem)| problem.is_none())
        {
            write!(f, "; bot {bot}: webhook registered")?;
        }
        for (bot, _) in facts.polls.iter().filter(|(_, problem)| problem.is_none()) {
            write!(f, "; bot {bot}: polling")?;
        }
        if let Some(reason) = &facts.polling {
            write!(f, "; updates arrive by polling: {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_says_how_it_is() {
        let status = Status::default();
        assert_eq!(status.to_string(), "0 updates answered");
        status.webhook(7, Some("the webhook is not registered: no network".into()));
        assert_eq!(
            status.to_string(),
            "0 updates answered; bot 7: the webhook is not registered: no network"
        );
        status.answered();
        status.webhook(7, None);
        assert_eq!(
            status.to_string(),
            "1 update answered, the last 0 s ago; bot 7: webhook registered"
        );
        assert!(status.polling(7, None) && !status.polling(7, None));
        status.polling_reason(Some("nothing arrives".into()));
        assert!(
            status
                .to_string()
                .ends_with(" ago; bot 7: polling; updates arrive by polling: nothing arrives"),
            "{status}"
        );
        assert!(status.polling(7, Some("no network".into())));
        assert!(
            status.to_string().contains("; bot 7: no network;"),
            "{status}"
        );
        assert!(status.webhook(7, None));
        status.polling_reason(None);
        assert!(
            status.to_string().ends_with("; bot 7: webhook registered"),
            "{status}"
        );
    }

    #[test]
    fn it_works_when_telegram_reaches_it_and_no_bot_has_a_problem() {
        let status = Status::default();
        let works = || status.report(|_| None).works;
        status.reached(true);
        assert!(!works(), "no webhook is registered");
        status.webhook(7, None);
        assert!(works());
        status.webhook(8, Some("the token is refused".into()));
        assert!(!works());
        status.webhook(8, None);
        assert!(works());
        status.reached(false);
        assert!(!works());
        // They poll.
        status.polling(7, Some("no network".into()));
        status.polling(8, None);
        assert!(!works());
        status.polling(7, None);
        assert!(works());
        status.polling_reason(Some("nothing arrives".into()));
        let report = status.report(|_| None);
        assert_eq!(
            (report.delivery.as_str(), report.delivery_reason.as_str()),
            ("polling", "nothing arrives")
        );
    }

    #[test]
    fn a_report_has_each_fact_on_one_line() {
        let status = Status::default();
        status.webhook(7, Some("no\nnetwork".into()));
        status.polling_reason(Some("nothing\rarrives".into()));
        let report = status.report(|_| Some("my\x1bbot".into()));
        assert_eq!(report.last_trouble.unwrap().what, "no network");
        assert_eq!(report.delivery_reason, "nothing arrives");
        assert_eq!(
            (
                report.bots[0].name.as_deref(),
                report.bots[0].problem.as_deref()
            ),
            (Some("my bot"), Some("no network"))
        );
    }

    #[test]
    fn the_last_trouble_stays_until_the_next_one() {
        let status = Status::default();
        let last = || {
            status
                .report(|_| None)
                .last_trouble
                .map(|trouble| trouble.what)
        };
        assert_eq!(last(), None);
        status.webhook(7, Some("no network".into()));
        status.webhook(7, None);
        assert_eq!(last().as_deref(), Some("no network"));
        status.home(Some("CGNAT".into()));
        status.webhook(7, None);
        assert_eq!(last().as_deref(), Some("CGNAT"));
    }

    #[test]
    fn trouble_comes_before_what_is_well() {
        let status = Status::default();
        status.webhook(1, None);
        status.webhook(2, Some("no network".into()));
        status.home(Some("no router".into()));
        assert_eq!(
            status.to_string(),
            "0 updates answered; no router; bot 2: no network; bot 1: webhook registered"
        );
    }
}
