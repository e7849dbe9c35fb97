//! How updates get here: [`identity`] is what Telegram knows the bot by, [`registration`] registers it, and a [`keeper`] for
//! each bot keeps it so, by what [`health`] says.

pub mod health;
pub mod identity;
pub mod keeper;
pub mod registration;
