//! The webhook's certificate: made, loaded, and held against what Telegram checks.

mod load;
mod make;
pub mod rollover;

pub use load::{Certificate, Error, load};
pub use make::{DAYS, make, renew, write};
