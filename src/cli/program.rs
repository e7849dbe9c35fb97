//! The program that the command line belongs to.

use std::sync::Arc;

use crate::bot::Bot;

/// The bot, and the crate that it comes from, whose lines the log shows.
pub(super) struct Program {
    pub(super) bot: Arc<dyn Bot>,
    pub(super) crate_name: &'static str,
}
