//! How updates get here: [`identity`] is what Telegram knows the bot by, [`registration`] registers it, and a [`keeper`] for
//! each bot keeps it so, by what [`health`] says.

pub(crate) mod health;
pub(crate) mod identity;
pub(crate) mod keeper;
pub(crate) mod polled;
pub(crate) mod registration;
