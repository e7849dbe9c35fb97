//! The figures, and the table that they end up in.

use std::collections::BTreeMap;
use std::fmt;
use std::thread::available_parallelism;

use crate::bot::Kind;

/// What is measured, in the table's order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    CpuPerEcho,
    EchoesPerSecond,
    RoundTripMedian,
    RoundTrip99,
    IdleRss,
    PeakRss,
    ExecToTls,
    IdleCpu,
}

/// The load that it is measured under.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    pub connections: usize,
    pub api_ms: u64,
}

impl Metric {
    fn name(self) -> &'static str {
        match self {
            Self::CpuPerEcho => "CPU per echo, µs",
            Self::EchoesPerSecond => "echoes per second",
            Self::RoundTripMedian => "round trip p50, ms",
            Self::RoundTrip99 => "round trip p99, ms",
            Self::IdleRss => "RSS idle, MiB",
            Self::PeakRss => "RSS peak, MiB",
            Self::ExecToTls => "exec to TLS, ms",
            Self::IdleCpu => "CPU idle, ms per s",
        }
    }

    /// What we allow ourselves, at most.
    fn budget(self, cell: Option<Cell>) -> Option<f64> {
        match (self, cell) {
            (Self::CpuPerEcho, Some(Cell { connections: 40, api_ms: 0 })) => Some(100.0),
            (Self::IdleRss, _) => Some(5.0),
            (Self::PeakRss | Self::ExecToTls, _) => Some(10.0),
            _ => None,
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let api = if self.api_ms == 0 { "at once".to_owned() } else { format!("after {} ms", self.api_ms) };
        write!(f, "{:>2} conn., API {api}", self.connections)
    }
}

/// The values of every round.
pub struct Report {
    rounds: usize,
    values: BTreeMap<(Metric, Option<Cell>), BTreeMap<Kind, Vec<f64>>>,
}

impl Report {
    pub fn new(rounds: usize) -> Self {
        Self { rounds, values: BTreeMap::new() }
    }

    pub fn add(&mut self, kind: Kind, metric: Metric, cell: Option<Cell>, value: f64) {
        self.values.entry((metric, cell)).or_default().entry(kind).or_default().push(value);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cores = available_parallelism().map_or(0, usize::from);
        writeln!(f, "\nMedians of {} rounds. The bot, the load and the Bot API share {cores} cores.\n", self.rounds)?;
        writeln!(f, "{:<20}{:<25}{:>9}{:>9}{:>8}  budget", "", "", "pihook", "bare", "ratio")?;
        for ((metric, cell), values) in &self.values {
            let [ours, bare] = [Kind::Pihook, Kind::Bare].map(|kind| median(&values[&kind]));
            let cell_name = cell.map_or(String::new(), |cell| cell.to_string());
            write!(f, "{:<20}{cell_name:<25}", metric.name())?;
            let ratio = if bare > 0.0 { format!("{:.2}", ours / bare) } else { "–".into() };
            write!(f, "{:>9}{:>9}{ratio:>8}", number(ours), number(bare))?;
            if let Some(budget) = metric.budget(*cell) {
                write!(f, "  {} {budget}", if ours <= budget { "within" } else { "over" })?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Three digits: more would be noise.
fn number(value: f64) -> String {
    let decimals = match value {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}
