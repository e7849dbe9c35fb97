//! The status of the running bot, as a person sees it in `systemctl status`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use super::lock::lock;

/// The facts that make up the status line; all threads share them.
#[derive(Default)]
pub(crate) struct Status(Mutex<Facts>);

#[derive(Default)]
struct Facts {
    answered: u64,
    last: Option<Instant>,
    /// By the bot's id; None when all is well.
    webhooks: BTreeMap<u64, Option<String>>,
    /// The same of those that poll.
    polls: BTreeMap<u64, Option<String>>,
    /// Why the bots poll.
    polling: Option<String>,
    home: Option<String>,
}

impl Status {
    /// Counts a reply that Telegram took.
    pub(crate) fn answered(&self) {
        let mut facts = self.facts();
        facts.answered += 1;
        facts.last = Some(Instant::now());
    }

    /// Notes a bot's webhook: None when it is registered and well, else what is wrong. Returns whether that is news.
    pub(crate) fn webhook(&self, bot: u64, problem: Option<String>) -> bool {
        let mut facts = self.facts();
        facts.polls.remove(&bot);
        let new = Some(problem.clone());
        facts.webhooks.insert(bot, problem) != new
    }

    /// Notes how a bot polls: None when all is well, else what is wrong. Returns whether that is news.
    pub(crate) fn polling(&self, bot: u64, problem: Option<String>) -> bool {
        let mut facts = self.facts();
        facts.webhooks.remove(&bot);
        let new = Some(problem.clone());
        facts.polls.insert(bot, problem) != new
    }

    /// Notes why the bots poll; None when they do not.
    pub(crate) fn polling_reason(&self, reason: Option<String>) {
        self.facts().polling = reason;
    }

    /// Notes what is wrong with this home's address or its router. Returns whether that is news.
    pub(crate) fn home(&self, problem: Option<String>) -> bool {
        let new = problem.clone();
        std::mem::replace(&mut self.facts().home, problem) != new
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        lock(&self.0)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = self.facts();
        write!(f, "{} updates answered", facts.answered)?;
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
        for (bot, _) in facts.webhooks.iter().filter(|(_, problem)| problem.is_none()) {
            write!(f, "; bot {bot}: webhook registered")?;
        }
        for (bot, _) in facts.polls.iter().filter(|(_, problem)| problem.is_none()) {
            write!(f, "; bot {bot}: polling")?;
        }
        if let Some(reason) = &facts.polling {
            write!(f, "; updates are polled: {reason}")?;
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
        assert_eq!(status.to_string(), "0 updates answered; bot 7: the webhook is not registered: no network");
        status.answered();
        status.webhook(7, None);
        assert_eq!(status.to_string(), "1 updates answered, the last 0 s ago; bot 7: webhook registered");
        assert!(status.polling(7, None) && !status.polling(7, None));
        status.polling_reason(Some("nothing arrives".into()));
        assert!(status.to_string().ends_with(" ago; bot 7: polling; updates are polled: nothing arrives"), "{status}");
        assert!(status.polling(7, Some("no network".into())));
        assert!(status.to_string().contains("; bot 7: no network;"), "{status}");
        assert!(status.webhook(7, None));
        status.polling_reason(None);
        assert!(status.to_string().ends_with("; bot 7: webhook registered"), "{status}");
    }

    #[test]
    fn trouble_comes_before_what_is_well() {
        let status = Status::default();
        status.webhook(1, None);
        status.webhook(2, Some("no network".into()));
        status.home(Some("no router".into()));
        assert_eq!(status.to_string(), "0 updates answered; no router; bot 2: no network; bot 1: webhook registered");
    }
}
