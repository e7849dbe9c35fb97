//! Telegram's words: what it sends, what it can be asked, and what its refusals mean.

pub mod client;
pub mod error;
mod resolver;
pub mod token;
pub mod types;
