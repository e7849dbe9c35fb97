//! Greets a user who writes `/start`, and sends every other text back in reverse: `cargo run
//! --example demo -- greeting`.

use pihook::bot::{Bot, Call, Me, Update};

pub struct Greeting;

impl Bot for Greeting {
    fn handle(&self, update: &Update, me: &Me) -> Vec<Call> {
        let Some(message) = &update.message else {
            return vec![];
        };
        let Some(text) = &message.text else {
            return vec![];
        };
        let answer = match (message.command(me), &message.from) {
            (Some("start"), Some(user)) => format!("Hello, {}! Write something.", user.first_name),
            _ => text.chars().rev().collect(),
        };
        vec![Call::reply(message, &answer)]
    }
}

fn main() -> std::process::ExitCode {
    pihook::cli::main(Greeting, pihook::program!())
}
