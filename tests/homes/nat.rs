//! A home whose router forgets connections that were idle, and says nothing about it, as many do. A
//! bot that polls is written to after some silence; the time until its answer is printed.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use simulated_telegram::Bot;

use crate::common::{Home, Pihook, TOKEN};
use crate::internet::Internet;
use crate::lab::{Lab, run};

/// What routers remember of a connection that is idle, in seconds: the shortest that is common, and
/// one with which no connection lives as long as a poll.
const COMMON_MEMORY: u64 = 30;
const SHORT_MEMORY: u64 = 8;
/// So long nothing is said before each message.
const PAUSES: [u64; 2] = [33, 46];
/// For a bot to find out which polls come through.
const ADAPTATION: u64 = 45;
/// An echo that takes longer was not awaited by a poll that was alive.
const AT_ONCE: Duration = Duration::from_secs(3);

pub fn main() {
    let home = Home::with("", "");
    home.write("pihook.toml", "delivery = 'polling'\n");
    let mut lab = Lab::start(&home.folder);
    let internet = Internet::start(&home.folder);
    lab.address("8.8.100.1");
    lab.halt();
    for command in [
        // What it does not know it does not pass on, in silence.
        "ip netns exec router sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0",
        "ip netns exec router nft insert rule inet miniupnpd filter_forward ct state invalid drop",
    ] {
        run(command);
    }
    remember_for(COMMON_MEMORY);

    let bot = internet.telegram.bot(TOKEN);
    let pihook = Pihook::start_polling(command(&home, &internet));
    pihook.wait_log("updates arrive by polling");

    echo_with_the_common_memory(&bot, &pihook);
    echo_after_lost_probes(&bot, &pihook);
    echo_with_the_short_memory(&bot, &pihook);
    assert!(
        !pihook.log().iter().any(|line| line.contains("[WARN]")),
        "{:#?}",
        pihook.log()
    );
}

/// pihook on the Pi, in an environment that names the token and the roots alone.
fn command(home: &Home, internet: &Internet) -> Command {
    let there = home.command_of("pihook", &["run"]);
    let mut command = Command::new("ip");
    command.args(["netns", "exec", "pi", "env", "-i"]);
    command.arg(format!("TELEGRAM_BOT_TOKEN={TOKEN}"));
    command.arg(format!("SSL_CERT_FILE={}", internet.roots.display()));
    command
        .arg(there.get_program())
        .args(there.get_args())
        .current_dir(&home.folder);
    command
}

fn echo_with_the_common_memory(bot: &Bot, pihook: &Pihook) {
    let times = PAUSES.map(|pause| echo_after(bot, pause));
    row("a router that forgets after 30 s", &times);
    assert!(
        times.iter().all(|time| *time < AT_ONCE),
        "{times:?} {:#?}",
        pihook.log()
    );
}

/// The first three of the probes that begin after 15 s of silence are lost. The poll outlives
/// it: after a cut it would be shorter.
fn echo_after_lost_probes(bot: &Bot, pihook: &Pihook) {
    thread::sleep(Duration::from_secs(14));
    run("ip netns exec router nft add table inet loss");
    run(
        "ip netns exec router nft add chain inet loss forward { type filter hook forward priority -10; policy drop; }",
    );
    thread::sleep(Duration::from_secs(3));
    run("ip netns exec router nft delete table inet loss");

    let time = echo_after(bot, 10);
    let polls: Vec<_> = bot
        .calls()
        .into_iter()
        .filter(|call| call.method == "getUpdates")
        .collect();
    let times: Vec<_> = polls
        .iter()
        .map(|call| (call.at.elapsed(), call.text("timeout")))
        .collect();
    assert!(
        polls.iter().all(|call| call.text("timeout") == "50"),
        "{times:?} {:#?}",
        pihook.log()
    );
    row("… and three lost probes", &[time]);
}

fn echo_with_the_short_memory(bot: &Bot, pihook: &Pihook) {
    remember_for(SHORT_MEMORY);
    echo_after(bot, 0);
    thread::sleep(Duration::from_secs(ADAPTATION));

    let times = [7, 9, 12].map(|pause| echo_after(bot, pause));
    row("a router that forgets after 8 s", &times);
    assert!(
        times.iter().all(|time| *time < AT_ONCE),
        "{times:?} {:#?}",
        pihook.log()
    );
}

/// The time from a message to its answer, after so many seconds of silence.
fn echo_after(bot: &Bot, pause: u64) -> Duration {
    thread::sleep(Duration::from_secs(pause));
    let start = Instant::now();
    let before = bot.sent().len();
    bot.say(42, "hello");
    bot.wait_sent(before + 1, Duration::from_secs(60)).unwrap();
    start.elapsed()
}

fn remember_for(seconds: u64) {
    run(&format!(
        "ip netns exec router sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_established={seconds}"
    ));
}

fn row(what: &str, times: &[Duration]) {
    let longest = times.iter().max().unwrap().as_secs_f64();
    println!("row:    | {what:42} | polling  | {longest:5.1} s");
}
