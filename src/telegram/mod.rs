//! Telegram's words: what it sends, what it can be asked, and what its refusals mean.

pub mod client;
mod clock;
pub mod error;
mod resolver;
pub mod token;
mod transport;
pub mod types;
