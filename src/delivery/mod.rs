//! How updates get here. [`switch`] decides between the webhook and polling, and [`changeover`]
//! does it, for all bots at once. For each bot, [`bot_delivery`] is the thread that has a
//! [`keeper`] for the webhook or a [`poller`]. [`identity`] is what Telegram knows the bot by,
//! [`registration`] registers it, [`health`] judges the webhook, and [`polled`] keeps the book of
//! what getUpdates returned. [`reached`] knows whether Telegram has reached the webhook.

pub(crate) mod bot_delivery;
pub(crate) mod changeover;
pub(crate) mod contest;
pub(crate) mod health;
pub(crate) mod identity;
pub(crate) mod keeper;
pub(crate) mod polled;
pub(crate) mod poller;
pub(crate) mod polling_note;
mod reached;
pub(crate) mod registration;
pub(crate) mod retry_pause;
pub(crate) mod switch;
