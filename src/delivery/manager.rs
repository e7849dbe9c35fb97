//! The manager of the delivery: does for all bots what the policy decides between webhook and
//! polling, and says so.

use std::sync::Arc;
use std::time::Instant;

use super::bot_threads::BotThreads;
use super::endpoint::Endpoint;
use super::manager_message::ManagerMessage;
use super::policy::{Decision, DeliveryPolicy, Event, Reason};
use super::polling_note::PollingNote;
use crate::config::{Config, Delivery};
use crate::edge::reach::Reach;
use crate::status::facts::Status;

/// How the updates of all bots come.
pub(crate) struct DeliveryManager<'c> {
    /// None where the settings have decided.
    policy: Option<DeliveryPolicy>,
    /// None where there is no webhook at all.
    pub(crate) endpoint: Option<Endpoint<'c>>,
    note: PollingNote,
    status: Arc<Status>,
    reach: Arc<Reach>,
}

impl<'c> DeliveryManager<'c> {
    /// Has the bots begin as the settings say, or as they did before the start.
    pub(crate) fn start(
        config: &'c Config,
        endpoint: Option<Endpoint<'c>>,
        threads: &BotThreads,
        status: Arc<Status>,
        reach: Arc<Reach>,
    ) -> Self {
        let mut manager = Self {
            policy: None,
            endpoint,
            note: PollingNote::new(config),
            status,
            reach,
        };
        let Some(endpoint) = &mut manager.endpoint else {
            threads.poll(Vec::new());
            manager.show_polling(&Reason::Settings);
            return manager;
        };
        if config.delivery != Delivery::Auto {
            endpoint.register();
            return manager;
        }

        let now = Instant::now();
        let interval = config.watch_interval;
        let policy = if let Some(words) = manager.note.read() {
            endpoint.poll();
            manager.show_polling(&Reason::Before(words));
            DeliveryPolicy::polling(interval, now)
        } else {
            endpoint.register();
            DeliveryPolicy::new(endpoint.has_host(), interval, now)
        };
        manager.policy = Some(if config.tls {
            policy
        } else {
            policy.behind_proxy()
        });
        manager
    }

    /// Whether it would be news that Telegram reaches this Pi.
    pub(crate) fn awaits_reach(&self) -> bool {
        let policy_awaits = self
            .policy
            .as_ref()
            .is_some_and(DeliveryPolicy::awaits_reach);
        let endpoint_awaits = self.endpoint.as_ref().is_some_and(Endpoint::awaits_reach);
        policy_awaits || endpoint_awaits
    }

    /// Notes that Telegram has reached this Pi.
    pub(crate) fn reached(&mut self) {
        if let Some(endpoint) = &mut self.endpoint
            && endpoint.awaits_reach()
        {
            endpoint.reached();
        }
        self.handle_event(Event::Reached);
    }

    /// Notes that time has passed.
    pub(crate) fn time_passed(&mut self) {
        self.handle_event(Event::Time);
    }

    /// When to call [`DeliveryManager::time_passed`].
    pub(crate) fn due(&self) -> Option<Instant> {
        self.policy.as_ref()?.due()
    }

    /// Does what a thread's message asks for.
    pub(crate) fn handle(&mut self, message: ManagerMessage) {
        match message {
            ManagerMessage::Registered(digest) => {
                if let Some(endpoint) = &mut self.endpoint {
                    endpoint.registered(&digest);
                }
            }
            ManagerMessage::Moved(address) => {
                if let Some(endpoint) = &mut self.endpoint {
                    endpoint.moved(address);
                    self.handle_event(Event::Address);
                }
            }
            ManagerMessage::Set {
                bot,
                reached_before,
            } => {
                // Telegram connects before it answers setWebhook: it may have come before this
                // message.
                let is_reached = self.reach.of(bot).count() > reached_before;
                self.handle_event(Event::Set(is_reached));
            }
            ManagerMessage::Event(event) => self.handle_event(event),
        }
    }

    fn handle_event(&mut self, event: Event) {
        let Some(policy) = &mut self.policy else {
            return;
        };
        let Some(endpoint) = &mut self.endpoint else {
            return;
        };
        match policy.handle(event, Instant::now()) {
            None => {}
            Some(Decision::Try) => {
                log::info!("pihook tries the webhook.");
                endpoint.try_webhook();
            }
            Some(Decision::Poll(reason)) => {
                endpoint.poll();
                let reason = self.reason_seen_here(reason);
                self.explain(&reason);
            }
            Some(Decision::Explain(reason)) => self.explain(&reason),
            Some(Decision::Reachable) => {
                log::info!("Telegram reaches this Pi: updates arrive by webhook.");
                self.note.write(None);
                self.status.polling_reason(None);
            }
        }
    }

    /// A better reason, where connections from the home's own network explain why Telegram does not
    /// reach this Pi.
    fn reason_seen_here(&self, reason: Reason) -> Reason {
        match self.reach.last_from_home() {
            Some(source) if reason == Reason::NotReached => Reason::RewrittenSource(source),
            _ => reason,
        }
    }

    fn explain(&self, reason: &Reason) {
        self.note.write(Some(&reason.to_string()));
        self.show_polling(reason);
    }

    fn show_polling(&self, reason: &Reason) {
        log::info!("Updates arrive by polling: {reason}.");
        self.status.polling_reason(Some(reason.to_string()));
    }
}
