//! Telegram's side: connections, each of which sends one update after the other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use simulated_telegram::client::{Connection, Target};
use tokio::task::JoinSet;

use crate::Result;
use crate::api::Api;
use crate::bot::Running;

/// The number of the next update, for all bots together. The numbers only grow, as Telegram's do.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Connections to one bot.
pub struct Load<'b> {
    bot: &'b Running,
    connections: Vec<Connection>,
    /// Each update is sent on a new connection.
    handshakes: bool,
}

/// The figures of one run of a load.
pub struct Run {
    pub time: Duration,
    /// The round trip of each update, sorted.
    pub round_trips: Vec<Duration>,
}

impl Run {
    /// A percentile of the round trips, in milliseconds.
    pub fn percentile(&self, percent: usize) -> f64 {
        self.round_trips[(self.round_trips.len() - 1) * percent / 100].as_secs_f64() * 1e3
    }
}

impl<'b> Load<'b> {
    /// Opens one connection after the other: after a burst of them, the bot `bare` can have too few
    /// threads.
    pub async fn open(bot: &'b Running, count: usize) -> Result<Self> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            connections.push(bot.connect().await?);
        }
        Ok(Load {
            bot,
            connections,
            handshakes: false,
        })
    }

    /// Sends each update on a connection of its own, one after the other.
    pub async fn with_handshakes(bot: &'b Running) -> Result<Self> {
        Ok(Load {
            handshakes: true,
            ..Load::open(bot, 1).await?
        })
    }

    /// Sends updates for so long, and checks that each was answered and echoed once.
    pub async fn run(&mut self, time: Duration, api: &Api) -> Result<Run> {
        let first = NEXT.load(Ordering::Relaxed);
        let start = Instant::now();
        let mut round_trips = Vec::new();
        if self.handshakes {
            while start.elapsed() < time {
                let begin = Instant::now();
                send(&mut self.bot.connect().await?, &self.bot.target()).await?;
                round_trips.push(begin.elapsed());
            }
        } else {
            let mut tasks = JoinSet::new();
            for connection in self.connections.drain(..) {
                tasks.spawn(keep_sending(connection, self.bot.target(), start + time));
            }
            while let Some(task) = tasks.join_next().await {
                let (connection, times) = task??;
                self.connections.push(connection);
                round_trips.extend(times);
            }
        }
        let time = start.elapsed();
        let mut echoes = api.take_echoes();
        echoes.sort_unstable();
        if !echoes
            .iter()
            .copied()
            .eq(first..NEXT.load(Ordering::Relaxed))
        {
            return Err(format!(
                "{} updates came back as {} echoes",
                round_trips.len(),
                echoes.len()
            )
            .into());
        }
        round_trips.sort_unstable();
        Ok(Run { time, round_trips })
    }
}

async fn keep_sending(
    mut connection: Connection,
    target: Target,
    end: Instant,
) -> Result<(Connection, Vec<Duration>)> {
    let mut times = Vec::new();
    while Instant::now() < end {
        times.push(send(&mut connection, &target).await?);
    }
    Ok((connection, times))
}

/// Sends one update. Returns how long its answer took.
async fn send(connection: &mut Connection, target: &Target) -> Result<Duration> {
    let update = update(NEXT.fetch_add(1, Ordering::Relaxed));
    let start = Instant::now();
    let response = connection.post(target, update.as_bytes()).await?;
    if response.code != 200 {
        return Err(format!(
            "an update was answered {} {}",
            response.code, response.reason
        )
        .into());
    }
    Ok(start.elapsed())
}

/// A private text message. Its echo is recognized by the number at the end.
fn update(number: u64) -> String {
    let id = 471_000_000 + number;
    let user = 5_000_000_000 + number % 1000;
    let message = number / 1000 + 1;
    let names = r#""first_name":"Ada","last_name":"Lovelace","username":"ada_l""#;
    format!(
        r#"{{"update_id":{id},"message":{{"message_id":{message},"from":{{"id":{user},"is_bot":false,{names},"language_code":"en"}},"chat":{{"id":{user},{names},"type":"private"}},"date":1764000000,"text":"Shall we meet at nine, at the usual place? 🙂 {number}"}}}}"#
    )
}
