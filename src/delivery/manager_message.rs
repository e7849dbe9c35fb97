//! What the threads tell the manager of the delivery.

use std::net::Ipv4Addr;

use super::policy::Event;

/// A message of a thread to the manager.
pub(crate) enum ManagerMessage {
    /// The home has another address.
    Moved(Ipv4Addr),
    /// Telegram has the registration of this digest, or a refused token keeps it from having it.
    Registered(String),
    /// Telegram has accepted the webhook of the bot at this place in the settings.
    Set {
        bot: usize,
        /// How often Telegram had reached the bot before that.
        reached_before: u64,
    },
    /// Something that can decide on webhook or polling.
    Event(Event),
}
