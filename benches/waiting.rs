//! `cargo bench --bench waiting`: how long a new chat waits for its answer while others flood the
//! bot.
//!
//! Some chats write many messages each, one chat after the other; then a new chat writes one. A Bot
//! API call takes 100 ms. Telegram delivers the oldest messages first, so most of the wait is
//! Telegram's own. `cargo test -p simulated-telegram --test waiting` shows the same table without a
//! bot, beside the figures of the real Telegram.

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::{Home, TOKEN, settings};
use simulated_telegram::{Fault, Options, Telegram};

const NEW: i64 = 1;
const FLOOD: i64 = 1000;
const CALL: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(300);
/// Connections, chats, messages of each.
const CASES: [(usize, i64, usize); 5] = [
    (1, 1, 30),
    (2, 2, 10),
    (2, 20, 2),
    (40, 60, 5),
    (40, 50, 40),
];

fn main() {
    // `cargo test --all-targets` runs this program, too.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("This takes half a minute: `cargo bench --bench waiting` runs it.");
        return;
    }
    println!("connections  chats x messages  a new chat waits  all are answered after");
    for (connections, chats, messages) in CASES {
        let (new, all) = wait(connections, chats, messages);
        let flood = format!("{chats} x {messages}");
        println!(
            "{connections:>11}  {flood:<16}  {:>14.2} s  {:>20.2} s",
            new.as_secs_f64(),
            all.as_secs_f64()
        );
    }
}

/// After how long the new chat has its answer, and after how long all have.
fn wait(connections: usize, chats: i64, messages: usize) -> (Duration, Duration) {
    let telegram = Telegram::start(Options::default()).unwrap();
    telegram.on_call(|call| (call.method == "sendMessage").then_some(Fault::Stall(CALL)));
    let bot = telegram.bot(TOKEN);
    let settings = settings(
        &telegram.api_url(),
        &format!("max_connections = {connections}"),
    );
    let home = Home::with(&settings, &format!("[[bot]]\ntoken = '{TOKEN}'\n"));
    let pihook = home.run_for(&telegram);
    pihook.wait_log("the webhook is registered");
    let start = Instant::now();
    for chat in 0..chats {
        for _ in 0..messages {
            bot.say(FLOOD + chat, "x");
        }
    }
    bot.say(NEW, "x");
    let all = usize::try_from(chats).unwrap() * messages + 1;
    let sent = bot.wait_sent(all, LONG).unwrap();
    assert_eq!(sent.len(), all, "each is answered once");
    let new = sent.iter().find(|sent| sent.chat == NEW).unwrap();
    (
        new.at - start,
        sent.iter().map(|sent| sent.at).max().unwrap() - start,
    )
}
