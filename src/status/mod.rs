//! How the bot runs: [`facts`] collects that, a [`report`] says it, and [`ask`] gets the report from
//! the running bot.

pub(crate) mod ask;
pub(crate) mod facts;
pub(crate) mod report;
