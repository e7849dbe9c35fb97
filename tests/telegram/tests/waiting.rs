//! How long a new chat waits while others flood: `cargo test -p simulated-telegram --test waiting`.
//!
//! Beside each figure stands the one of Telegram's own delivery code. The server here does nothing
//! but wait, so what is seen is Telegram's share. The bot's share comes on top: `cargo test --test
//! waiting` in the project itself.

mod common;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use common::{OK, World};

/// The chat that waits. Its number is lower than all others, so that it wins each tie and only its
/// age counts.
const NEW: i64 = 1;
const FLOOD: i64 = 1000;
/// A busy machine may be late, never early.
const LATE: f64 = f64::INFINITY;
const LONG: Duration = Duration::from_secs(120);

/// Some chats that write `messages` each, one chat after the other, and then the new chat.
#[derive(Clone, Copy)]
struct Case {
    connections: usize,
    chats: i64,
    messages: usize,
    /// What the server does with the flood, and with the new chat.
    server: Server,
    /// The chats write before the webhook is set.
    is_before: bool,
    /// The result with Telegram's own code.
    real: &'static str,
    /// The lowest and the highest result.
    expected: (f64, f64),
    unit: Unit,
}

#[derive(Clone, Copy)]
enum Server {
    /// Takes so many milliseconds for each update.
    Slow(u64),
    /// Defers the first update of each chat of the flood by so many seconds.
    Defers(u64),
}

#[derive(Clone, Copy, PartialEq)]
enum Unit {
    Seconds,
    /// How many of the flood were served before the new chat, by connections that were open.
    Before,
}

fn main() -> ExitCode {
    // `cargo test NAME` passes the name to all tests, also to this one.
    let mut arguments = std::env::args().skip(1);
    if arguments.any(|argument| !argument.starts_with("--no") && !"waiting".contains(&argument)) {
        return ExitCode::SUCCESS;
    }

    let cases = cases();
    let results: Vec<f64> = thread::scope(|scope| {
        let running = cases.map(|case| scope.spawn(move || run(case)));
        running
            .into_iter()
            .map(|case| case.join().unwrap())
            .collect()
    });

    println!("connections  flood        server              a new chat waits  real");
    let mut is_good = true;
    for (case, result) in cases.iter().zip(results) {
        let is_expected = (case.expected.0..=case.expected.1).contains(&result);
        is_good &= is_expected;
        print(case, result, is_expected);
    }
    if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn cases() -> [Case; 10] {
    let slow = |connections, chats, messages, milliseconds, unit, real, expected| Case {
        connections,
        chats,
        messages,
        server: Server::Slow(milliseconds),
        is_before: false,
        real,
        expected,
        unit,
    };
    let stuck = |connections, chats, messages, seconds, real, expected| Case {
        connections,
        chats,
        messages,
        server: Server::Defers(seconds),
        is_before: true,
        real,
        expected,
        unit: Unit::Seconds,
    };
    [
        slow(1, 1, 30, 50, Unit::Before, "30 before it", (30.0, 30.0)),
        slow(2, 2, 10, 50, Unit::Before, "20 before it", (19.0, 20.0)),
        slow(40, 60, 5, 200, Unit::Seconds, "1.67 s", (1.2, LATE)),
        slow(40, 50, 40, 100, Unit::Seconds, "4.03 s", (3.9, LATE)),
        stuck(1, 1, 200, 12, "11.8 s", (11.5, LATE)),
        stuck(40, 1, 100, 15, "0 s", (0.0, 14.0)),
        stuck(40, 1, 300, 15, "0 s", (0.0, 14.0)),
        stuck(40, 1, 600, 15, "14.8 s", (14.5, LATE)),
        stuck(40, 79, 1, 15, "0 s", (0.0, 10.0)),
        stuck(40, 81, 1, 15, "26 s of 30 s", (10.0, LATE)),
    ]
}

/// Prints one line of the table.
fn print(case: &Case, result: f64, is_expected: bool) {
    let waits = match case.unit {
        Unit::Seconds => format!("{result:.2} s"),
        Unit::Before => format!("{result} before it"),
    };
    let server = match case.server {
        Server::Slow(milliseconds) => format!("{milliseconds} ms each"),
        Server::Defers(seconds) => format!("first deferred {seconds} s"),
    };
    let flood = format!("{} x {}", case.chats, case.messages);
    let verdict = if is_expected { "" } else { "  <- not so" };
    println!(
        "{:>11}  {flood:<11}  {server:<18}  {waits:<16}  {}{verdict}",
        case.connections, case.real
    );
}

fn run(case: Case) -> f64 {
    let tried = std::sync::Mutex::new(std::collections::HashSet::new());
    let world = World::start(1.0, move |_, request| match case.server {
        Server::Slow(milliseconds) => {
            thread::sleep(Duration::from_millis(milliseconds));
            Some(OK.to_vec())
        }
        Server::Defers(seconds)
            if chat(request) != NEW && tried.lock().unwrap().insert(chat(request)) =>
        {
            Some(
                format!("HTTP/1.1 503 Busy\r\nRetry-After: {seconds}\r\nContent-Length: 0\r\n\r\n")
                    .into_bytes(),
            )
        }
        Server::Defers(_) => Some(OK.to_vec()),
    });
    let connections = case.connections.to_string();
    let fields = [("max_connections", connections.as_str())];
    if !case.is_before {
        world.set(&fields);
    }
    let mut open = 0;
    if case.unit == Unit::Before {
        for chat in 0..case.chats {
            world.bot.say(FLOOD + chat, "x");
            world.bot.say(FLOOD + chat, "x");
        }
        open = usize::try_from(2 * case.chats).unwrap();
        world.bot.wait_delivered(open, LONG).unwrap();
    }
    for chat in 0..case.chats {
        for _ in 0..case.messages {
            world.bot.say(FLOOD + chat, "x");
        }
    }
    let said = world.bot.say(NEW, "x").update_id;
    let start = Instant::now();
    if case.is_before {
        world.register(&fields);
    }
    let all = open + usize::try_from(case.chats).unwrap() * case.messages + 1;
    let deliveries = world.bot.wait_delivered(all, LONG).unwrap();
    match case.unit {
        Unit::Before => {
            let before = world
                .server
                .requests()
                .iter()
                .skip(open)
                .position(|request| chat(request) == NEW)
                .unwrap();
            f64::from(u32::try_from(before).unwrap())
        }
        Unit::Seconds => {
            let mine = deliveries.iter().find(|one| one.update_id == said).unwrap();
            (mine.started - start).as_secs_f64()
        }
    }
}

/// The chat of a webhook request.
fn chat(request: &str) -> i64 {
    let rest = request.split_once(r#""chat":{"id":"#).unwrap().1;
    rest.split(',').next().unwrap().parse().unwrap()
}
