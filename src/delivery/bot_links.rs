//! The links of one bot's thread to the rest of the program.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use tokio::sync::mpsc::UnboundedSender;

use super::manager_message::ManagerMessage;
use super::policy::Event;
use crate::certificate::rollover::Rollover;
use crate::edge::reach::{Reach, ReachRecord};
use crate::home::watch::Hint;
use crate::status::facts::Status;
use crate::updates::webhook_signals::WebhookSignals;

/// What the thread of one bot asks, and who hears from it.
pub(crate) struct BotLinks {
    /// The bot, by its place in the settings.
    pub(crate) index: usize,
    /// Shows the webhook's state to a person.
    pub(crate) status: Arc<Status>,
    /// Knows how Telegram has reached the bots.
    pub(crate) reach: Arc<Reach>,
    /// What the edge and the workers notice of this bot.
    pub(crate) signals: Arc<WebhookSignals>,
    /// The certificates that the edge shows; None where TLS does not end here.
    pub(crate) rollover: Option<Arc<Rollover>>,
    /// The way to the manager.
    pub(crate) manager: UnboundedSender<ManagerMessage>,
    /// The way to the thread that watches the home, where there is one.
    pub(crate) home: Option<Sender<Hint>>,
    /// The settings have decided between webhook and polling.
    pub(crate) is_decided: bool,
}

impl BotLinks {
    /// How Telegram has reached this bot until now.
    pub(super) fn reach_record(&self) -> ReachRecord {
        self.reach.of(self.index)
    }

    /// The webhook may be set at once. Telegram connects before it answers, and must see the new
    /// certificate then.
    pub(super) fn before_set(&self) {
        if let Some(rollover) = &self.rollover {
            rollover.show_new();
        }
    }

    /// Telegram has the registration of this digest, or the token can hardly bring it about.
    pub(super) fn registered(&self, digest: &str) {
        self.tell(ManagerMessage::Registered(digest.to_owned()));
    }

    /// Telegram has accepted the webhook, and had reached the bot so often before.
    pub(super) fn set(&self, reached_before: u64) {
        self.tell(ManagerMessage::Set {
            bot: self.index,
            reached_before,
        });
    }

    /// Reports what can decide on webhook or polling. False when the settings have decided.
    pub(super) fn report(&self, event: Event) -> bool {
        !self.is_decided && self.manager.send(ManagerMessage::Event(event)).is_ok()
    }

    /// Telegram's calls do not reach this Pi: its address may have changed.
    pub(super) fn unreachable(&self) {
        if let Some(home) = &self.home {
            let _ = home.send(Hint::CheckNow);
        }
    }

    fn tell(&self, message: ManagerMessage) {
        // The manager lives as long as the program.
        let _ = self.manager.send(message);
    }
}
