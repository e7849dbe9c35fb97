//! How updates get here: by webhook or by polling.
//!
//! [`policy`] decides between the two, and [`manager`] does it for all bots at once; threads tell
//! the manager by a [`manager_message`]. Each bot has a [`bot_thread`], which runs a [`monitor`] for
//! the webhook or a [`poller`]; [`bot_threads`] has all of them, and [`bot_links`] what one needs of
//! the rest of the program.
//!
//! For the webhook: [`endpoint`] is the host and certificate that Telegram knows, [`registration`]
//! registers them, [`health`] judges the webhook by what Telegram says of it, [`reachability`]
//! whether Telegram still reaches it, and [`token_conflict`] when it may be repaired.
//! [`look_turns`] has the bots' webhooks looked at one after the other, and [`reached_note`] keeps
//! across a restart that Telegram has reached them.
//!
//! For polling: [`polled`] keeps the book of what getUpdates returned, [`poll_length`] says how long
//! a poll may take, [`poll_conflict`] when another program polls, and [`polling_note`] keeps across
//! a restart that the bots poll. [`retry_pause`] has the waits after calls that failed.

pub(crate) mod bot_links;
pub(crate) mod bot_thread;
pub(crate) mod bot_threads;
pub(crate) mod endpoint;
pub(crate) mod health;
pub(crate) mod look_turns;
pub(crate) mod manager;
pub(crate) mod manager_message;
pub(crate) mod monitor;
pub(crate) mod policy;
pub(crate) mod poll_conflict;
pub(crate) mod poll_length;
pub(crate) mod polled;
pub(crate) mod poller;
pub(crate) mod polling_note;
pub(crate) mod reachability;
mod reached_note;
pub(crate) mod registration;
pub(crate) mod retry_pause;
pub(crate) mod token_conflict;
