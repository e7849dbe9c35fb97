//! What is done with an update, pushed or polled.
//!
//! [`handover`] carries a request to tiny_http over a [`pipeline`]; [`body_budget`] has the memory
//! for large ones. A thread of the [`worker_pool`] gets it, and the [`worker`] asks the bot and
//! makes its calls; [`answers`] brings the outcome back. [`dedup`] keeps the worker from handling
//! an update twice, and [`in_flight`] gives a second delivery the answer of the first. [`retry`]
//! decides what happens after a call that failed, and [`deferred_calls`] keeps the deferred calls
//! until Telegram delivers the update again. [`panic`] ends the process when the bot panics.
//! [`webhook_signals`] are for the thread that keeps the webhook registered.

pub(crate) mod answers;
pub(crate) mod body_budget;
pub mod dedup;
pub(crate) mod deferred_calls;
pub mod handover;
pub(crate) mod in_flight;
pub(crate) mod panic;
pub(crate) mod pipeline;
pub(crate) mod retry;
pub mod webhook_signals;
pub(crate) mod worker;
pub(crate) mod worker_pool;
