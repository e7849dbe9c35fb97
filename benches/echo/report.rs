//! The figures, and their table in Markdown, as benches/README.md has it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::thread::available_parallelism;

use crate::bot::Kind;

/// The figures, in the order of the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    CpuPerEcho,
    SystemCalls,
    Instructions,
    EchoesPerSecond,
    RoundTripMedian,
    RoundTrip99,
    IdleRss,
    PeakRss,
    ExecToTls,
    IdleCpu,
}

/// The load during which a figure is measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    pub api_ms: u64,
    pub handshakes: bool,
    pub connections: usize,
}

impl Metric {
    fn name(self) -> &'static str {
        match self {
            Self::CpuPerEcho => "CPU, µs",
            Self::SystemCalls => "system calls",
            Self::Instructions => "instructions, thousands",
            Self::EchoesPerSecond => "echoes per second",
            Self::RoundTripMedian => "round trip p50, ms",
            Self::RoundTrip99 => "round trip p99, ms",
            Self::IdleRss => "RSS idle, MiB (budget 5)",
            Self::PeakRss => "RSS peak, MiB (budget 10)",
            Self::ExecToTls => "exec to TLS, ms (budget 10)",
            Self::IdleCpu => "CPU idle, ms per s",
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self {
                handshakes: true, ..
            } => f.write_str("a handshake each")?,
            Self { connections: 1, .. } => f.write_str("1 connection")?,
            Self { connections, .. } => write!(f, "{connections} connections")?,
        }
        if self.api_ms > 0 {
            write!(f, ", API after {} ms", self.api_ms)
        } else {
            Ok(())
        }
    }
}

/// The values of every round.
pub struct Report {
    rounds: usize,
    with_tls: bool,
    values: BTreeMap<(Metric, Option<Cell>), BTreeMap<Kind, Vec<f64>>>,
}

impl Report {
    pub fn new(rounds: usize, with_tls: bool) -> Self {
        Self {
            rounds,
            with_tls,
            values: BTreeMap::new(),
        }
    }

    pub fn add(&mut self, kind: Kind, metric: Metric, cell: Option<Cell>, value: f64) {
        self.values
            .entry((metric, cell))
            .or_default()
            .entry(kind)
            .or_default()
            .push(value);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cores = available_parallelism().map_or(0, usize::from);
        let way = if self.with_tls { "TLS" } else { "plain HTTP" };
        let medians = if self.rounds > 0 {
            format!("Medians of {} rounds. ", self.rounds)
        } else {
            String::new()
        };
        let machine = processor();
        writeln!(
            f,
            "\n{medians}The bot, the load and the Bot API ({way}) share {cores} cores: {machine}.\n"
        )?;
        let [bare, axum, to_bare, to_axum] =
            ["tiny_http + ureq", "frankenstein + axum", "ratio", "ratio"];
        writeln!(
            f,
            "| {:<56} | {:>6} | {bare} | {to_bare} | {axum} | {to_axum} |",
            "an echo's", "pihook"
        )?;
        writeln!(
            f,
            "|{:-<58}|{:->8}|{:->18}|{:->7}|{:->21}|{:->7}|",
            "", ":", ":", ":", ":", ":"
        )?;
        for ((metric, cell), values) in &self.values {
            let [ours, bare, axum] = Kind::ALL.map(|kind| median(&values[&kind]));
            let name = cell.map_or(metric.name().into(), |cell| {
                format!("{}: {cell}", metric.name())
            });
            let to_bare = ratio(ours, bare);
            let to_axum = ratio(ours, axum);
            let [ours, bare, axum] = [ours, bare, axum].map(number);
            writeln!(
                f,
                "| {name:<56} | {ours:>6} | {bare:>16} | {to_bare:>5} | {axum:>19} | {to_axum:>5} |"
            )?;
        }
        Ok(())
    }
}

fn ratio(ours: f64, theirs: f64) -> String {
    if theirs > 0.0 {
        format!("{:.2}", ours / theirs)
    } else {
        "–".into()
    }
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or_default();
    name.trim_start_matches([' ', '\t', ':']).to_owned()
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The value with about three digits: more would be noise.
fn number(value: f64) -> String {
    let decimals = match value {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}
