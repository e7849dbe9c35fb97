//! Counts each chat's messages, in memory: `cargo run --example demo -- counter`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use pihook::bot::{Bot, Call, Me, Update};

#[derive(Default)]
pub struct Counter {
    /// By bot and chat: one value serves all tokens of the settings.
    counts: Mutex<HashMap<(i64, i64), u64>>,
}

impl Bot for Counter {
    fn handle(&self, update: &Update, me: &Me) -> Vec<Call> {
        let Some(message) = &update.message else {
            return vec![];
        };
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry((me.id, message.chat.id)).or_default();
        *count += 1;
        vec![Call::reply(
            message,
            &format!("Message {count} in this chat."),
        )]
    }
}

fn main() -> std::process::ExitCode {
    pihook::cli::main(Counter::default(), pihook::program!())
}
