//! The change-over between webhook and polling: does for all bots what the switch decides, and says
//! so.

use std::sync::Arc;
use std::time::Instant;

use super::endpoint::{Identity, Registrar};
use super::policy::{Change, Reason, Seen, Switch};
use super::polling_note::PollingNote;
use crate::config::{Config, Delivery};
use crate::edge::arrivals::Arrivals;
use crate::status::facts::Status;

/// How the updates of all bots come.
pub(crate) struct ChangeOver<'c> {
    /// None where the settings have decided.
    switch: Option<Switch>,
    /// None where there is no webhook at all.
    pub(crate) identity: Option<Identity<'c>>,
    note: PollingNote,
    status: Arc<Status>,
    arrivals: Arc<Arrivals>,
}

impl<'c> ChangeOver<'c> {
    /// Begins as the settings say, or as it was before the start.
    pub(crate) fn begin(
        config: &'c Config,
        identity: Option<Identity<'c>>,
        registrar: &Registrar,
        status: Arc<Status>,
        arrivals: Arc<Arrivals>,
    ) -> Self {
        let (note, now) = (PollingNote::new(config), Instant::now());
        let before = note.read().filter(|_| config.delivery == Delivery::Auto);
        let mut this = Self {
            switch: None,
            identity,
            note,
            status,
            arrivals,
        };
        let here = |switch: Switch| {
            if config.tls {
                switch
            } else {
                switch.behind_proxy()
            }
        };
        match (&mut this.identity, before) {
            (None, _) => {
                registrar.poll(|_| None);
                this.say_polling(&Reason::Settings);
            }
            (Some(identity), Some(words)) => {
                identity.poll();
                this.switch = Some(here(Switch::polling(config.watch_interval, now)));
                this.say_polling(&Reason::Before(words));
            }
            (Some(identity), None) => {
                identity.register();
                let switch = here(Switch::new(identity.has_host(), config.watch_interval, now));
                this.switch = Some(switch).filter(|_| config.delivery == Delivery::Auto);
            }
        }
        this
    }

    /// Whether arrivals matter now.
    pub(crate) fn awaits_arrival(&self) -> bool {
        self.switch.as_ref().is_some_and(Switch::awaits_arrival)
            || self.identity.as_ref().is_some_and(Identity::awaits_arrival)
    }

    /// Takes in that Telegram, or somebody with path and secret, got in.
    pub(crate) fn arrived(&mut self) {
        if let Some(identity) = self
            .identity
            .as_mut()
            .filter(|identity| identity.awaits_arrival())
        {
            identity.arrived();
        }
        self.see(Seen::Arrival);
    }

    /// Takes in that Telegram has taken the webhook of the bot at this place. Before that there had
    /// been so many arrivals: those since count, also when they were faster than this news.
    pub(crate) fn set(&mut self, bot: usize, arrived_before: u64) {
        let has_arrived = self.arrivals.of(bot).count() > arrived_before;
        self.see(Seen::Set(has_arrived));
    }

    /// When to say that time has passed.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.switch.as_ref()?.due()
    }

    /// Takes in what was seen.
    pub(crate) fn see(&mut self, seen: Seen) {
        let (Some(switch), Some(identity)) = (&mut self.switch, &mut self.identity) else {
            return;
        };
        match switch.see(seen, Instant::now()) {
            None => {}
            Some(Change::Try) => {
                log::info!("pihook tries the webhook.");
                identity.try_webhook();
            }
            Some(Change::Poll(reason)) => {
                identity.poll();
                let source = self
                    .arrivals
                    .last_from_home()
                    .filter(|_| reason == Reason::NothingArrives);
                self.explain(&source.map_or(reason, Reason::RewrittenSource));
            }
            Some(Change::Explain(reason)) => self.explain(&reason),
            Some(Change::Proven) => {
                log::info!("Telegram reaches this Pi: updates arrive by webhook.");
                self.note.write(None);
                self.status.polling_reason(None);
            }
        }
    }

    fn explain(&self, reason: &Reason) {
        self.note.write(Some(&reason.to_string()));
        self.say_polling(reason);
    }

    fn say_polling(&self, reason: &Reason) {
        log::info!("Updates arrive by polling: {reason}.");
        self.status.polling_reason(Some(reason.to_string()));
    }
}
