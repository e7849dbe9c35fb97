//! `cargo bench --bench echo`: the cost of an echo, beside two other bots that only echo.
//!
//! * `benches/bare`: the simple way on tiny_http and ureq, without our edge, our limits and our
//!   memory of updates;
//! * `benches/frankenstein`: frankenstein and axum, as their documentation has them.
//!
//! All are built with LTO; the others at opt-level 3 throughout. They take turns, several rounds,
//! each started afresh, and a line of the table is the median of the rounds. Updates come over
//! keep-alive TLS connections with one in flight on each, or each on a new connection. A Bot API on
//! this machine answers at once or after 50 ms: by plain HTTP, or over TLS as the real one does,
//! with `cargo bench --bench echo -- tls`. With `-- counts` only system calls and instructions are
//! counted. Every update must be answered 200 and echoed exactly once; otherwise there is no table.
//!
//! How to read it:
//! * `CPU` is what the bot's process used, all threads, user and system, divided by its echoes. It
//!   hardly depends on what else the machine does.
//! * `system calls` and `instructions` are an echo's, at one connection; the instructions are those
//!   outside the kernel. What else the machine does has no part in them, so they are the lines to
//!   compare changes by.
//! * `echoes per second` and `round trip` are with bot, load and Bot API sharing the cores: on two
//!   cores the load side is part of what they measure. With one connection they follow from the
//!   latency, with a Bot API of 50 ms they are bounded by connections / 50 ms.
//! * `RSS idle` is after registration, before the first update; `RSS peak` is the kernel's
//!   high-water mark after 100 connections under load.
//! * `exec to TLS` is from before the fork to a completed handshake, tried again and again.
//! * `CPU idle` is what the bot uses while nobody connects.
//! * A ratio is ours divided by theirs.
//!
//! `PIHOOK_BINARY` names another binary of ours to measure.

mod api;
mod bot;
#[path = "../../tests/common/mod.rs"]
mod common;
mod counts;
mod load;
mod report;

use std::time::Duration;

use tokio::time::sleep;

use api::Api;
use bot::{Kind, Running};
use load::Load;
use report::{Cell, Metric, Report};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// An odd number: the median is one of them.
const ROUNDS: usize = 5;
const CELLS: [Cell; 5] = [
    Cell {
        connections: 40,
        api_ms: 0,
        handshakes: false,
    },
    Cell {
        connections: 1,
        api_ms: 0,
        handshakes: false,
    },
    Cell {
        connections: 1,
        api_ms: 0,
        handshakes: true,
    },
    Cell {
        connections: 40,
        api_ms: 50,
        handshakes: false,
    },
    Cell {
        connections: 1,
        api_ms: 50,
        handshakes: false,
    },
];
/// The most connections that Telegram opens.
const CROWD: usize = 100;
/// Starts in each round.
const STARTS: usize = 4;

const WARM_UP: Duration = Duration::from_millis(200);
const MEASURE: Duration = Duration::from_millis(1200);
/// The time after which opened or closed connections no longer change the figures.
const SETTLE: Duration = Duration::from_millis(200);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    // `cargo test --all-targets` runs this program, too.
    if !has("--bench") {
        println!("This takes four minutes: `cargo bench --bench echo` runs it.");
        return Ok(());
    }
    Kind::ALL.into_iter().try_for_each(Kind::build)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(measure(has("tls"), if has("counts") { 0 } else { ROUNDS }))?;
    print!("{report}");
    Ok(())
}

async fn measure(with_tls: bool, rounds: usize) -> Result<Report> {
    let api = Api::start(with_tls).await?;
    let mut report = Report::new(rounds, with_tls);
    for kind in Kind::ALL {
        eprintln!("counting: {kind:?}");
        counts::measure(kind, &api, &mut report).await?;
    }
    for round in 0..rounds {
        let mut kinds = Kind::ALL;
        // A bot that runs later finds a warmer machine.
        kinds.rotate_left(round % Kind::ALL.len());
        for kind in kinds {
            eprintln!("round {} of {rounds}: {kind:?}", round + 1);
            api.answer_after(Duration::ZERO);
            for _ in 0..STARTS {
                let (_, time) = Running::start(kind, &api).await?;
                report.add(kind, Metric::ExecToTls, None, time.as_secs_f64() * 1e3);
            }
            one_life(kind, &api, &mut report).await?;
        }
    }
    Ok(report)
}

/// Measures a bot from its start to its end.
async fn one_life(kind: Kind, api: &Api, report: &mut Report) -> Result<()> {
    let (bot, _) = Running::start(kind, api).await?;
    sleep(SETTLE).await;
    report.add(kind, Metric::IdleRss, None, bot.memory("VmRSS")?);
    for cell in CELLS {
        one_cell(&bot, cell, api, report).await?;
    }
    api.answer_after(Duration::ZERO);
    let mut crowd = Load::open(&bot, CROWD).await?;
    crowd.run(MEASURE / 2, api).await?;
    drop(crowd);
    report.add(kind, Metric::PeakRss, None, bot.memory("VmHWM")?);
    sleep(SETTLE).await;
    let before = bot.cpu()?;
    sleep(MEASURE).await;
    let used = bot.cpu()? - before;
    report.add(
        kind,
        Metric::IdleCpu,
        None,
        used.as_secs_f64() * 1e3 / MEASURE.as_secs_f64(),
    );
    Ok(())
}

async fn one_cell(bot: &Running, cell: Cell, api: &Api, report: &mut Report) -> Result<()> {
    api.answer_after(Duration::from_millis(cell.api_ms));
    let mut load = match cell.handshakes {
        true => Load::with_handshakes(bot).await?,
        false => Load::open(bot, cell.connections).await?,
    };
    load.run(WARM_UP, api).await?;
    let before = bot.cpu()?;
    let run = load.run(MEASURE, api).await?;
    let used = bot.cpu()? - before;
    let echoes = run.round_trips.len() as f64;
    let mut add = |metric, value| report.add(bot.kind, metric, Some(cell), value);
    add(Metric::CpuPerEcho, used.as_secs_f64() * 1e6 / echoes);
    add(Metric::EchoesPerSecond, echoes / run.time.as_secs_f64());
    add(Metric::RoundTripMedian, run.percentile(50));
    add(Metric::RoundTrip99, run.percentile(99));
    drop(load);
    sleep(SETTLE).await;
    Ok(())
}
