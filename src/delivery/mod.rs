//! How updates get here. [`policy`] decides between the webhook and polling, and [`manager`]
//! does it, for all bots at once. For each bot, [`bot_thread`] is the thread that has a
//! [`monitor`] for the webhook or a [`poller`]. [`endpoint`] is what Telegram knows the bot by,
//! [`registration`] registers it, [`health`] judges the webhook, [`reachability`] whether
//! Telegram's calls still get to it, and [`polled`] keeps the book of what getUpdates returned;
//! [`poll_length`] says how long a poll may take, and [`poll_conflict`] when another program polls.
//! [`reached`] knows whether Telegram has reached the webhook. [`look_turns`] has the bots'
//! webhooks looked at one after the other.

pub(crate) mod bot_thread;
pub(crate) mod endpoint;
pub(crate) mod health;
pub(crate) mod look_turns;
pub(crate) mod manager;
pub(crate) mod monitor;
pub(crate) mod policy;
pub(crate) mod poll_conflict;
pub(crate) mod poll_length;
pub(crate) mod polled;
pub(crate) mod poller;
pub(crate) mod polling_note;
pub(crate) mod reachability;
mod reached;
pub(crate) mod registration;
pub(crate) mod retry_pause;
pub(crate) mod token_conflict;
