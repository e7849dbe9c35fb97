//! Inbound: what Telegram sends, from its first TCP packet to the answer.
//!
//! [`edge`] meets the internet, and each [`connection`] is served under limits; [`slots`],
//! [`request`] and [`auth`] say, without any I/O, what is let in, and [`body_budget`] has the
//! memory for large bodies; [`arrivals`] counts what shows that Telegram gets in. [`handover`]
//! carries a request to tiny_http over a [`pipeline`]. A thread of the [`worker_pool`] takes it,
//! and the [`worker`] asks the bot and makes its calls; [`answers`] brings the worker's answer
//! back. [`dedup`] keeps the worker from doing so twice, [`in_flight`] gives its answer to whoever
//! asks for the same meanwhile, [`retry`] decides what happens when a call was not taken, and
//! [`postponed`] keeps the calls that are left until Telegram delivers the update again. [`panic`]
//! ends the process when the bot panics. [`observations`] are for whoever keeps the webhook
//! registered. [`probe`] asks the webhook as Telegram would.

pub(crate) mod answers;
pub mod arrivals;
pub mod auth;
pub(crate) mod body_budget;
pub mod connection;
pub mod dedup;
pub mod edge;
pub mod handover;
pub(crate) mod in_flight;
pub mod observations;
pub(crate) mod panic;
pub(crate) mod pipeline;
pub(crate) mod postponed;
pub(crate) mod probe;
pub mod request;
pub(crate) mod retry;
pub mod slots;
pub(crate) mod worker;
pub(crate) mod worker_pool;
