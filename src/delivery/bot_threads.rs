//! The threads of all bots, which get their orders together.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use super::bot_thread::{BotThread, Order};
use super::registration::Registration;

/// The threads, in the order of the settings.
pub(crate) struct BotThreads(Vec<BotThread>);

impl BotThreads {
    /// These threads, in the order of the settings.
    pub(crate) fn new(threads: Vec<BotThread>) -> Self {
        Self(threads)
    }

    /// Has each bot keep its webhook registered. With `must_set` it is set also if Telegram has it
    /// already.
    pub(super) fn register(&self, registrations: Vec<Registration>, must_set: bool) {
        for (thread, registration) in self.0.iter().zip(registrations) {
            thread.order(Order::Webhook(registration, must_set));
        }
    }

    /// Has each bot poll; `registrations` are the webhooks that would be theirs, empty while no
    /// host is known for them.
    pub(super) fn poll(&self, registrations: Vec<Registration>) {
        let mut registrations = registrations.into_iter();
        for thread in &self.0 {
            thread.order(Order::Poll(registrations.next()));
        }
    }

    /// Has the updates that were polled end, and takes no new ones. Whether they ended within
    /// `limit`.
    pub(crate) fn end(&self, limit: Duration) -> bool {
        let (done, all_done) = mpsc::channel::<()>();
        for thread in &self.0 {
            thread.order(Order::End(done.clone()));
        }

        // Each thread drops its end when it has ended; the last one closes the channel.
        drop(done);
        let end = all_done.recv_timeout(limit);
        matches!(end, Err(RecvTimeoutError::Disconnected))
    }
}
