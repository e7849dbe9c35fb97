//! The status of the running bot: all threads note their facts here. `systemctl status` shows them in
//! one line, and `pihook status` as a report.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::report::{BotReport, POLLING, Report, Trouble};
use crate::secret::one_line;
use crate::system::lock::lock;

/// The facts that the status consists of; all threads share them.
#[derive(Default)]
pub(crate) struct Status(Mutex<Facts>);

struct Facts {
    started: Instant,
    answered: u64,
    last_answered: Option<Instant>,
    /// The problem of each bot with a webhook, by its id; None when all is well.
    webhooks: BTreeMap<u64, Option<String>>,
    /// The problem of each bot that polls, by its id; None when all is well.
    polls: BTreeMap<u64, Option<String>>,
    /// The bots whose token Telegram refuses: that is their problem.
    refused_tokens: BTreeSet<u64>,
    /// When another program last polled with a bot's token.
    conflicts: BTreeMap<u64, Instant>,
    /// The reason why the bots poll; None when they do not.
    polling_reason: Option<String>,
    /// The problem of this home's address or router.
    home: Option<String>,
    /// Telegram has reached the webhook as it is set now.
    is_reached: bool,
    /// Where Telegram calls: `HOST:PORT`.
    address: Option<String>,
    certificate_end: Option<SystemTime>,
    /// The last problem of a bot or of the home, over or not, and when it began.
    last_trouble: Option<(Instant, String)>,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            answered: 0,
            last_answered: None,
            webhooks: BTreeMap::new(),
            polls: BTreeMap::new(),
            refused_tokens: BTreeSet::new(),
            conflicts: BTreeMap::new(),
            polling_reason: None,
            home: None,
            is_reached: false,
            address: None,
            certificate_end: None,
            last_trouble: None,
        }
    }
}

impl Facts {
    /// Keeps a problem that is new; None is the end of one.
    fn note_trouble(&mut self, problem: Option<String>) {
        if let Some(problem) = problem {
            self.last_trouble = Some((Instant::now(), problem));
        }
    }
}

impl Status {
    /// Counts a reply that Telegram took.
    pub(crate) fn answered(&self) {
        let mut facts = self.facts();
        facts.answered += 1;
        facts.last_answered = Some(Instant::now());
    }

    /// Notes a bot's webhook: None when it is registered and well, else what is wrong. Returns
    /// whether that is news.
    pub(crate) fn webhook(&self, bot: u64, problem: Option<String>) -> bool {
        let mut facts = self.facts();
        facts.polls.remove(&bot);
        facts.refused_tokens.remove(&bot);
        let before = facts.webhooks.insert(bot, problem.clone());
        let is_new = before != Some(problem.clone());
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
        facts.refused_tokens.remove(&bot);
        let before = facts.polls.insert(bot, problem.clone());
        let is_new = before != Some(problem.clone());
        if is_new {
            facts.note_trouble(problem);
        }
        is_new
    }

    /// Notes that the problem of this bot, which was noted before, is its token.
    pub(crate) fn token_refused(&self, bot: u64) {
        self.facts().refused_tokens.insert(bot);
    }

    /// Notes that another program polls with this bot's token.
    pub(crate) fn poll_conflict(&self, bot: u64) {
        self.facts().conflicts.insert(bot, Instant::now());
    }

    /// Notes why the bots poll; None when they do not.
    pub(crate) fn polling_reason(&self, reason: Option<String>) {
        self.facts().polling_reason = reason;
    }

    /// Notes what is wrong with this home's address or its router. Returns whether that is news.
    pub(crate) fn home(&self, problem: Option<String>) -> bool {
        let mut facts = self.facts();
        let is_new = facts.home != problem;
        if is_new {
            facts.home.clone_from(&problem);
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
        let mut facts = self.facts();
        facts.address = Some(address);
        facts.certificate_end = certificate_end;
    }

    /// All of it, each fact on one line: some of the text is from Telegram and from routers. `name`
    /// knows the bots' names.
    pub(crate) fn report(&self, name: impl Fn(u64) -> Option<String>) -> Report {
        let facts = self.facts();

        let mut bots = Vec::new();
        for (id, problem) in facts.webhooks.iter().chain(&facts.polls) {
            bots.push(BotReport {
                id: *id,
                name: name(*id).as_deref().map(one_line),
                problem: problem.as_deref().map(one_line),
                token_is_refused: facts.refused_tokens.contains(id),
                conflict_ago: facts.conflicts.get(id).map(|last| last.elapsed().as_secs()),
            });
        }
        let is_well = !bots.is_empty() && bots.iter().all(|bot| bot.problem.is_none());

        let delivery_reason = match (&facts.polling_reason, facts.is_reached) {
            (Some(reason), _) => one_line(reason),
            (None, true) => "Telegram reaches this Pi".to_owned(),
            (None, false) => "Telegram has not called the bot yet".to_owned(),
        };
        let mut report = Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            running_for: facts.started.elapsed().as_secs(),
            // A bot that polls is well once getUpdates has returned.
            works: is_well && (facts.is_reached || facts.webhooks.is_empty()),
            answered: facts.answered,
            last_answered_ago: facts.last_answered.map(|last| last.elapsed().as_secs()),
            delivery: POLLING.to_owned(),
            delivery_reason,
            address: None,
            certificate_end: None,
            last_trouble: None,
            bots,
        };

        if facts.polls.is_empty() {
            report.delivery = "webhook".to_owned();
            report.address.clone_from(&facts.address);
            report.certificate_end = facts.certificate_end.and_then(unix_time);
        }
        if let Some((since, what)) = &facts.last_trouble {
            report.last_trouble = Some(Trouble {
                ago: since.elapsed().as_secs(),
                what: one_line(what),
            });
        }
        report
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        lock(&self.0)
    }
}

/// In whole seconds; None for a time before 1970.
fn unix_time(time: SystemTime) -> Option<u64> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    Some(since.as_secs())
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = self.facts();
        let plural = if facts.answered == 1 { "" } else { "s" };
        write!(f, "{} update{plural} answered", facts.answered)?;
        if let Some(last) = facts.last_answered {
            write!(f, ", the last {} s ago", last.elapsed().as_secs())?;
        }

        // Problems come first: a line that is too long is cut at its end.
        if let Some(problem) = &facts.home {
            write!(f, "; {problem}")?;
        }
        for (bot, problem) in facts.webhooks.iter().chain(&facts.polls) {
            if let Some(problem) = problem {
                write!(f, "; bot {bot}: {problem}")?;
            }
        }

        for (bot, problem) in &facts.webhooks {
            if problem.is_none() {
                write!(f, "; bot {bot}: webhook registered")?;
            }
        }
        for (bot, problem) in &facts.polls {
            if problem.is_none() {
                write!(f, "; bot {bot}: polling")?;
            }
        }
        if let Some(reason) = &facts.polling_reason {
            write!(f, "; updates arrive by polling: {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_line_has_the_count_each_bot_and_the_reason_for_polling() {
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
    fn a_bot_works_when_telegram_reaches_it_and_no_bot_has_a_problem() {
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
        // The bots poll now.
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
    fn a_refused_token_is_told_from_other_problems() {
        let status = Status::default();
        let is_refused = || status.report(|_| None).bots[0].token_is_refused;
        status.webhook(7, Some("no network".into()));
        assert!(!is_refused());
        status.token_refused(7);
        assert!(is_refused());
        status.polling(7, None);
        assert!(!is_refused());
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
    fn the_status_line_has_problems_first() {
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
