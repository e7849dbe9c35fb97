//! Inbound: what Telegram sends, from its first TCP packet to the answer.
//!
//! [`edge`] meets the internet, and each [`connection`] is served under limits; [`slots`], [`request`] and [`auth`] say,
//! without any I/O, what is let in. [`handover`] carries a request to tiny_http, where a [`worker`] answers it: [`dedup`] keeps
//! the worker from doing so twice, and [`retry`] decides what happens when a reply was not taken. [`probe`] asks the webhook as
//! Telegram would.

pub mod auth;
pub mod connection;
pub mod dedup;
pub mod edge;
pub mod handover;
pub(crate) mod probe;
pub mod request;
pub(crate) mod retry;
pub mod slots;
pub(crate) mod worker;
