//! What the threads tell the supervisor.

use std::net::Ipv4Addr;

use crate::delivery::policy::Seen;

/// A message of a thread to the supervisor.
pub(super) enum Event {
    /// The home has another address.
    Moved(Ipv4Addr),
    /// Telegram has the registration of this digest.
    Registered(String),
    /// Telegram has taken the webhook of the bot at this place; before that there had been so many
    /// arrivals.
    Set { bot: usize, arrived_before: u64 },
    /// What decides on webhook or polling.
    Seen(Seen),
}
