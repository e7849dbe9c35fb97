//! `cargo bench`: what an echo costs, beside the same bot written the obvious way (`benches/bare`).
//!
//! Both bots take turns, several rounds, each started afresh, and a line of the table is the median of the rounds.
//! A cell is a number of keep-alive TLS connections with one update in flight each, and a Bot API (plain HTTP, on
//! this machine) that answers at once or after 50 ms. Every update must be answered 200 and echoed exactly once;
//! otherwise there is no table.
//!
//! How to read it:
//! * `CPU per echo` is what the bot's process used, all threads, user and system, divided by its echoes. It hardly
//!   depends on what else the machine does, so it is the line to compare changes by.
//! * `echoes per second` and `round trip` are with bot, load and Bot API sharing the cores: on two cores the load
//!   side is part of what they measure. With one connection they follow from the latency, with a Bot API of 50 ms
//!   they are bounded by connections / 50 ms.
//! * `RSS idle` is after registration, before the first update; `RSS peak` is the kernel's high-water mark after 100
//!   connections under load.
//! * `exec to TLS` is from before the fork to a completed handshake, tried again and again.
//! * `CPU idle` is what the bot uses while nobody connects.
//! * `ratio` is ours divided by bare's. A budget that is `over` does not fail: time depends on the machine.
//!
//! `PIHOOK_BINARY` names another binary of ours to measure.

mod api;
mod bot;
#[path = "../../tests/common/mod.rs"]
mod common;
mod load;
mod report;

use std::time::Duration;

use tokio::time::sleep;

use api::Api;
use bot::{Kind, Running};
use load::Load;
use report::{Cell, Metric, Report};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const ROUNDS: usize = 5;
const CELLS: [Cell; 4] = [
    Cell { connections: 1, api_ms: 0 },
    Cell { connections: 1, api_ms: 50 },
    Cell { connections: 40, api_ms: 0 },
    Cell { connections: 40, api_ms: 50 },
];
/// The most that Telegram opens.
const CROWD: usize = 100;
/// Starts in each round.
const STARTS: usize = 4;

const WARM_UP: Duration = Duration::from_millis(300);
const MEASURE: Duration = Duration::from_millis(1500);
/// Until what was opened or closed has had its effect.
const SETTLE: Duration = Duration::from_millis(200);

fn main() -> Result<()> {
    // `cargo test --all-targets` comes by here too.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("This takes two minutes: `cargo bench` runs it.");
        return Ok(());
    }
    bot::build_bare()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(measure())?;
    print!("{report}");
    Ok(())
}

async fn measure() -> Result<Report> {
    let api = Api::start().await?;
    let mut report = Report::new(ROUNDS);
    for round in 0..ROUNDS {
        let mut kinds = [Kind::Pihook, Kind::Bare];
        // Whoever comes second finds the machine warmer.
        kinds.rotate_left(round % 2);
        for kind in kinds {
            eprintln!("round {} of {ROUNDS}: {kind:?}", round + 1);
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

/// A bot from its start to its end.
async fn one_life(kind: Kind, api: &Api, report: &mut Report) -> Result<()> {
    let (bot, _) = Running::start(kind, api).await?;
    sleep(SETTLE).await;
    report.add(kind, Metric::IdleRss, None, bot.memory("VmRSS")?);
    for cell in CELLS {
        one_cell(&bot, cell, api, report).await?;
    }
    let mut crowd = Load::open(&bot, CROWD).await?;
    crowd.run(MEASURE / 2, api).await?;
    drop(crowd);
    report.add(kind, Metric::PeakRss, None, bot.memory("VmHWM")?);
    sleep(SETTLE).await;
    let before = bot.cpu()?;
    sleep(MEASURE).await;
    let used = bot.cpu()? - before;
    report.add(kind, Metric::IdleCpu, None, used.as_secs_f64() * 1e3 / MEASURE.as_secs_f64());
    Ok(())
}

async fn one_cell(bot: &Running, cell: Cell, api: &Api, report: &mut Report) -> Result<()> {
    api.answer_after(Duration::from_millis(cell.api_ms));
    let mut load = Load::open(bot, cell.connections).await?;
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
