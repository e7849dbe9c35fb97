//! Where this Pi is at home: the address that the internet sees, and the router in between.
//!
//! [`watch`] looks again and again: it asks the [`router`] and outside [`services`], and [`address`] decides what to believe.

pub mod address;
pub mod route;
pub mod router;
pub mod services;
pub mod upnp;
pub mod watch;
