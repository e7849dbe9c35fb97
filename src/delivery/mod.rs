//! How updates get here.

pub mod health;
pub mod identity;
pub mod registration;
