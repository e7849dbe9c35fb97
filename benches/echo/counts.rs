//! Two figures without noise: an echo's system calls, which strace counts, and its instructions
//! outside the kernel, which valgrind counts. Without one of these tools its line is missing, and a
//! warning says so.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::sleep;

use crate::api::Api;
use crate::bot::{Kind, Running};
use crate::load::Load;
use crate::report::{Cell, Metric, Report};
use crate::{Result, WARM_UP};

const ECHOES: usize = 1000;
const CELL: Cell = Cell {
    connections: 1,
    api_ms: 0,
    handshakes: false,
};

pub async fn measure(kind: Kind, api: &Api, report: &mut Report) -> Result<()> {
    api.answer_after(Duration::ZERO);
    if is_there("strace") {
        report.add(
            kind,
            Metric::SystemCalls,
            Some(CELL),
            system_calls(kind, api).await?,
        );
    }
    if is_there("valgrind") {
        // The start and the end of the bot cost the same in two runs: they are not in the difference.
        let short = instructions(kind, api, ECHOES / 4).await?;
        let long = instructions(kind, api, ECHOES).await?;
        report.add(
            kind,
            Metric::Instructions,
            Some(CELL),
            (long.0 - short.0) / (long.1 - short.1) / 1e3,
        );
    }
    Ok(())
}

fn is_there(tool: &str) -> bool {
    let is_there = Command::new(tool)
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok();
    if !is_there {
        eprintln!(
            "WARNING: there is no {tool}, so its line is missing from the table. Install it: apt install {tool}"
        );
    }
    is_there
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(format!("{}/{name}", env!("CARGO_TARGET_TMPDIR")))
}

async fn system_calls(kind: Kind, api: &Api) -> Result<f64> {
    let (bot, _) = Running::start(kind, api).await?;
    let mut load = Load::open(&bot, 1).await?;
    load.run(WARM_UP, api).await?;
    let pid = bot.pid()?.to_string();
    let counted = file("system-calls");
    let mut strace = Command::new("strace")
        .args(["-qq", "-f", "-c", "-p", &pid, "-o"])
        .arg(&counted)
        .stderr(Stdio::null())
        .spawn()?;
    while bot.status("TracerPid")? == "0" {
        if strace.try_wait()?.is_some() {
            return Err("strace cannot look at the bot: is ptrace allowed?".into());
        }
        sleep(Duration::from_millis(10)).await;
    }
    // strace attaches to the first thread, and then to the others.
    sleep(WARM_UP).await;
    let echoes = run(&mut load, ECHOES, api).await?;
    kill(Pid::from_raw(strace.id().try_into()?), Signal::SIGINT)?;
    strace.wait()?;
    let text = fs::read_to_string(counted)?;
    let total = text
        .lines()
        .find(|line| line.ends_with(" total"))
        .and_then(|line| line.split_whitespace().nth(3));
    let total: f64 = total.ok_or("strace has no sum")?.parse()?;
    Ok(total / echoes)
}

/// Starts a bot, has it echo at least so many updates, and ends it. Returns its instructions and its
/// echoes.
async fn instructions(kind: Kind, api: &Api, at_least: usize) -> Result<(f64, f64)> {
    let counted = file("instructions");
    let log = format!("--log-file={}", counted.display());
    let valgrind = [
        "valgrind",
        "--tool=cachegrind",
        "--cache-sim=no",
        "--cachegrind-out-file=/dev/null",
        &log,
    ];
    let (bot, _) = Running::start_with(kind, api, &valgrind).await?;
    let mut load = Load::open(&bot, 1).await?;
    let echoes = run(&mut load, at_least, api).await?;
    drop(load);
    bot.end()?;
    let text = fs::read_to_string(counted)?;
    let sum = text
        .lines()
        .find_map(|line| line.split("I   refs:").nth(1))
        .ok_or("valgrind has no sum")?;
    Ok((sum.trim().replace(',', "").parse()?, echoes))
}

/// Has at least so many updates echoed. Returns how many there were.
async fn run(load: &mut Load<'_>, at_least: usize, api: &Api) -> Result<f64> {
    let mut echoes = 0;
    while echoes < at_least {
        echoes += load.run(WARM_UP, api).await?.round_trips.len();
    }
    Ok(echoes as f64)
}
