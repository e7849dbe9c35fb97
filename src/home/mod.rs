//! Where this Pi is at home: the address that the internet sees, and the router in between.
//!
//! [`watch`] looks again and again: it asks the [`router`] and outside [`services`], and
//! [`address`] decides what to believe.

pub(crate) mod address;
pub(crate) mod route;
pub(crate) mod router;
pub(crate) mod services;
pub mod upnp;
pub(crate) mod watch;
