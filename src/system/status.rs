//! How the running bot is: what a person sees in `systemctl status`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use super::lock::lock;

/// Shared by all who have something to tell.
#[derive(Default)]
pub(crate) struct Status(Mutex<Facts>);

#[derive(Default)]
struct Facts {
    answered: u64,
    last: Option<Instant>,
    /// By the bot's id; None when all is well.
    webhooks: BTreeMap<u64, Option<String>>,
    home: Option<String>,
}

impl Status {
    /// A reply is out.
    pub(crate) fn answered(&self) {
        let mut facts = self.facts();
        facts.answered += 1;
        facts.last = Some(Instant::now());
    }

    /// How a bot's webhook is: None when it is registered and well, else what is wrong. Whether that is news.
    pub(crate) fn webhook(&self, bot: u64, trouble: Option<String>) -> bool {
        let told = trouble.clone();
        self.facts().webhooks.insert(bot, trouble) != Some(told)
    }

    /// What is wrong with this home's address or its router. Whether that is news.
    pub(crate) fn home(&self, trouble: Option<String>) -> bool {
        let told = trouble.clone();
        std::mem::replace(&mut self.facts().home, trouble) != told
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
        for (bot, trouble) in &facts.webhooks {
            match trouble {
                None => write!(f, "; bot {bot}: webhook registered")?,
                Some(why) => write!(f, "; bot {bot}: {why}")?,
            }
        }
        match &facts.home {
            None => Ok(()),
            Some(why) => write!(f, "; {why}"),
        }
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
    }
}
