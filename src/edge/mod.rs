//! What meets the internet, from Telegram's first TCP packet to the whole request.
//!
//! [`accept`] accepts connections from peers that the allowlist names, and serves each
//! [`connection`] under limits. [`slots`], [`request`] and [`auth`] decide, without any I/O, what
//! is authorized. [`reach`] owns the fact that Telegram has reached us. [`probe`] asks the webhook
//! as Telegram would. An authorized request goes to [`updates`](crate::updates).

pub mod accept;
pub mod auth;
pub mod connection;
pub(crate) mod probe;
pub mod reach;
pub mod request;
pub mod slots;
