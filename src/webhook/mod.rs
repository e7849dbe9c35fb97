//! Inbound: what Telegram sends, from its first TCP packet to the answer.
//!
//! [`edge`] meets the internet and shows it the certificate that is on [`offer`]; [`connections`], [`request`] and [`door`]
//! say, without any I/O, what is let in;
//! [`handover`] carries it to tiny_http, where [`worker`] answers it: [`once`] keeps it from doing so twice, and [`outcome`]
//! decides what happens when a reply was not taken.

pub mod auth;
pub mod dedup;
pub mod edge;
pub mod handover;
pub mod outage;
pub mod probe;
pub mod request;
pub mod retry;
pub mod slots;
pub mod worker;
