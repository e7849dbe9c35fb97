//! A home that loses its public address and gets it back, under load, while the bot is killed again
//! and again: CGNAT, a router that forwards, CGNAT. Nothing may be lost, and each chat keeps its
//! order.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use simulated_telegram::{Bot, Delivery};

use crate::common::{Home, Pihook, TOKEN, eventually};
use crate::internet::Internet;
use crate::lab::{Lab, Speech};

const ALL: Speech = Speech {
    packets: true,
    upnp: true,
};
const CGNAT: &str = "100.64.0.2";
const PUBLIC: &str = "8.8.100.1";
const CHATS: i64 = 5;
/// The time between two messages of each chat.
const PACE: Duration = Duration::from_millis(100);
/// How long the bot lives at least; at most it lives five times as long. A change-over needs the
/// seconds that Telegram gets to call.
const LIFE: Duration = Duration::from_millis(2500);
/// Kills in each of the three homes.
const KILLS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(120);

struct Changes {
    lab: Lab,
    internet: Internet,
    bot: Bot,
    home: Home,
    pihook: Option<Pihook>,
    kills: usize,
    last_kill: Instant,
}

pub fn main() {
    let home = Home::with("", "");
    // With a short interval a change is found in seconds. The folder is on a tmpfs.
    home.write("pihook.toml", "port_mapping = 'auto'\nwatch_interval = 5\n");
    let mut lab = Lab::start(&home.folder);
    let internet = Internet::start(&home.folder);
    lab.carrier("100.64.0.0/10");
    lab.address(CGNAT);
    lab.boot(ALL);
    let bot = internet.telegram.bot(TOKEN);
    let mut changes = Changes {
        lab,
        internet,
        bot,
        home,
        pihook: None,
        kills: 0,
        last_kill: Instant::now(),
    };
    let is_over = Arc::new(AtomicBool::new(false));
    let writer = write(changes.internet.telegram.bot(TOKEN), Arc::clone(&is_over));

    changes.live(|changes| !changes.is_webhook() && changes.kills >= KILLS);

    let start = Instant::now();
    changes.move_to(PUBLIC);
    changes.live(Changes::is_webhook);
    println!(
        "          {:.1} s from CGNAT to the webhook",
        start.elapsed().as_secs_f64()
    );
    let before = changes.kills;
    changes.live(|changes| changes.kills >= before + KILLS);

    let start = Instant::now();
    changes.move_to(CGNAT);
    let before = changes.answers();
    changes.live(|changes| !changes.is_webhook() && changes.answers() > before + 100);
    println!(
        "          {:.1} s from the webhook to 100 polled answers",
        start.elapsed().as_secs_f64()
    );
    let before = changes.kills;
    changes.live(|changes| changes.kills >= before + KILLS);

    is_over.store(true, Ordering::Relaxed);
    let count: usize = writer.join().unwrap();
    changes
        .bot
        .wait_none_pending(PATIENCE)
        .unwrap_or_else(|error| panic!("{error}: {:#?}", changes.log()));
    changes.judge(count);
}

/// Writes to all chats until `is_over`; returns the count of messages in each.
fn write(bot: Bot, is_over: Arc<AtomicBool>) -> JoinHandle<usize> {
    thread::spawn(move || {
        let mut count = 0;
        while !is_over.load(Ordering::Relaxed) {
            for chat in 1..=CHATS {
                bot.say(chat, &count.to_string());
            }
            count += 1;
            thread::sleep(PACE);
        }
        count
    })
}

impl Changes {
    fn start(&mut self) {
        let there = self.home.command_of("pihook", &["run"]);
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", "pi", "env", "-i"])
            .arg(format!("TELEGRAM_BOT_TOKEN={TOKEN}"));
        command.arg(format!("SSL_CERT_FILE={}", self.internet.roots.display()));
        command
            .arg(there.get_program())
            .args(there.get_args())
            .current_dir(&self.home.folder);
        self.pihook = Some(Pihook::start(command));
        self.last_kill = Instant::now();
    }

    /// The bot lives, and is killed and started again after each [`LIFE`], until `is_done`.
    fn live(&mut self, is_done: impl Fn(&Changes) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_done(self) {
            assert!(Instant::now() < end, "{:#?}", self.log());
            if self.pihook.is_none() {
                self.start();
            }
            if self.last_kill.elapsed() > LIFE * u32::try_from(1 + self.kills % 5).unwrap() {
                // SIGKILL.
                self.pihook = None;
                self.kills += 1;
                self.start();
            }
            thread::sleep(PACE);
        }
    }

    fn move_to(&mut self, address: &str) {
        self.lab.address(address);
        self.lab.boot(ALL);
    }

    fn is_webhook(&self) -> bool {
        let url = self.bot.webhook_info()["url"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        url.contains(PUBLIC)
            && self
                .bot
                .deliveries()
                .last()
                .is_some_and(Delivery::succeeded)
    }

    fn answers(&self) -> usize {
        self.bot.sent().len()
    }

    fn log(&self) -> Vec<String> {
        self.pihook.as_ref().map(Pihook::log).unwrap_or_default()
    }

    fn judge(&self, count: usize) {
        let mut by_chat: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        for sent in self.bot.sent() {
            by_chat
                .entry(sent.chat)
                .or_default()
                .push(sent.text.parse().unwrap());
        }
        let mut twice = 0;
        for (chat, numbers) in &by_chat {
            let mut firsts = Vec::new();
            for number in numbers {
                if firsts.contains(number) {
                    twice += 1;
                } else {
                    firsts.push(*number);
                }
            }
            assert_eq!(
                firsts,
                (0..count).collect::<Vec<_>>(),
                "chat {chat}: nothing lost, in order"
            );
        }
        assert_eq!(by_chat.len(), 5);
        eventually("the router is as it was", || {
            !self.lab.mappings().is_empty() || !self.lab.forwards()
        });
        // A kill can come after Telegram has answered the call, and before the bot has noted that.
        assert!(
            twice <= self.kills,
            "{twice} answers twice, after {} kills",
            self.kills
        );
        let all = count * by_chat.len();
        let kills = self.kills;
        println!(
            "row:    | 5 becomes 2 and back: {all} messages, {kills} kills, lost 0, order kept, twice {twice}"
        );
    }
}
