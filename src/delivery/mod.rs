//! How updates get here: [`identity`] is what Telegram knows the bot by, [`registration`] registers it, and a [`keeper`] for
//! each bot keeps it so, by what [`health`] says. [`reached`] knows whether Telegram gets in.

pub(crate) mod health;
pub(crate) mod identity;
pub(crate) mod keeper;
mod reached;
pub(crate) mod registration;
