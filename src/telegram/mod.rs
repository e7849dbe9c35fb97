//! Telegram's words: what it sends, what it can be asked, and what its refusals mean.

pub mod client;
pub mod clock;
pub mod error;
mod resolver;
pub mod token;
mod transport;
pub mod trouble;
pub mod types;
