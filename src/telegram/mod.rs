//! The Bot API: the types that Telegram sends, the calls that it takes, and what its errors mean.

pub(crate) mod cached_me;
#[doc(hidden)]
pub mod call;
#[doc(hidden)]
pub mod client;
pub(crate) mod clock_skew;
#[doc(hidden)]
pub mod delivery_error;
pub(crate) mod error;
pub(crate) mod proxy;
pub(crate) mod queue;
mod rich_message;
#[doc(hidden)]
pub mod token;
mod transport;
pub mod types;
