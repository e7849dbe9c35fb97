//! Inbound: what Telegram sends, from its first TCP packet to the answer.
//!
//! [`edge`] meets the internet; [`request`] and [`door`] say, without any I/O, what is let in;
//! [`handover`] carries it to tiny_http, where [`worker`] answers it.

pub mod door;
pub mod edge;
pub mod handover;
pub mod request;
pub mod worker;
