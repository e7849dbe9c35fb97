//! What the running bot says of itself to `pihook status`: JSON over the workers' socket, and a
//! screen that a person reads.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::UtcDateTime;
use time::macros::format_description;

use crate::system::clock::unix_now;

/// The path that the workers answer with a report.
pub(crate) const PATH: &str = "/status";
/// For a worker to be free, and its answer. All may wait for a Bot API that is slow.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a report that are read.
const LIMIT: u64 = 1024 * 1024;

/// The running bot's own account. Times are in seconds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The release that runs.
    pub(crate) version: String,
    /// Since its start.
    pub(crate) running_for: u64,
    /// Updates get here, and no bot has a problem.
    pub(crate) works: bool,
    /// Updates answered since the start.
    pub(crate) answered: u64,
    /// Since the last of them.
    pub(crate) last_answered_ago: Option<u64>,
    /// How updates come: `webhook`.
    pub(crate) delivery: String,
    /// Why so.
    pub(crate) delivery_reason: String,
    /// Where Telegram calls, `HOST:PORT`.
    pub(crate) address: Option<String>,
    /// When the certificate ends, since 1970.
    pub(crate) certificate_end: Option<u64>,
    /// The last problem that there was, over or not.
    pub(crate) last_trouble: Option<Trouble>,
    /// Those that Telegram was asked about.
    pub(crate) bots: Vec<BotReport>,
}

/// A problem that there is or was.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Trouble {
    /// Since it began.
    pub(crate) ago: u64,
    /// In words.
    pub(crate) what: String,
}

/// How one bot is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BotReport {
    /// The public half of its token.
    pub(crate) id: u64,
    /// Its name at Telegram, without the @.
    pub(crate) name: Option<String>,
    /// None when all is well.
    pub(crate) problem: Option<String>,
}

impl Report {
    /// Asks the bot whose workers listen at `socket`.
    ///
    /// # Errors
    /// When nobody listens there, or the answer is none.
    pub(crate) fn ask(socket: &Path) -> io::Result<Self> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.write_all(format!("GET {PATH} HTTP/1.1\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut answer = Vec::new();
        stream.take(LIMIT).read_to_end(&mut answer)?;
        let head = answer
            .windows(4)
            .position(|part| part == b"\r\n\r\n")
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(serde_json::from_slice(&answer[head + 4..])?)
    }

    /// The problem of the first bot that has one.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.bots.iter().find_map(|bot| bot.problem.as_deref())
    }

    /// The name of the first bot whose name is known.
    pub(crate) fn name(&self) -> Option<&str> {
        self.bots.iter().find_map(|bot| bot.name.as_deref())
    }
}

impl fmt::Display for Report {
    /// One screen that a person reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "pihook {}, running for {} (since {})",
            self.version,
            Span(self.running_for),
            Date(unix_now().saturating_sub(self.running_for))
        )?;
        for bot in &self.bots {
            match &bot.name {
                Some(name) => write!(f, "bot          @{name}: https://t.me/{name}")?,
                None => write!(f, "bot          {}", bot.id)?,
            }
            writeln!(
                f,
                "{}",
                bot.problem
                    .as_ref()
                    .map(|problem| format!(" ({problem})"))
                    .unwrap_or_default()
            )?;
        }
        let plural = if self.answered == 1 { "" } else { "s" };
        write!(f, "answered     {} update{plural}", self.answered)?;
        if let Some(ago) = self.last_answered_ago {
            write!(f, ", the last {} ago", Span(ago))?;
        }
        writeln!(
            f,
            "\ndelivery     {}: {}",
            self.delivery, self.delivery_reason
        )?;
        if let Some(address) = &self.address {
            writeln!(f, "address      {address}")?;
        }
        if let Some(end) = self.certificate_end {
            writeln!(f, "certificate  ends {}", Date(end))?;
        }
        match &self.last_trouble {
            None => write!(f, "last problem none since the start"),
            Some(trouble) => write!(
                f,
                "last problem {} ago: {}",
                Span(trouble.ago),
                trouble.what
            ),
        }
    }
}

/// Seconds, in the two units that a person wants.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (minutes, hours, days) = (self.0 / 60, self.0 / 3600, self.0 / 86400);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{} s", self.0),
            (0, 0, _) => write!(f, "{minutes} min"),
            (0, ..) => write!(f, "{hours} h {} min", minutes % 60),
            _ => write!(f, "{days} d {} h", hours % 24),
        }
    }
}

/// Seconds since 1970, as a date.
struct Date(u64);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = format_description!("[year]-[month]-[day] [hour]:[minute]Z");
        let date = i64::try_from(self.0)
            .ok()
            .and_then(|seconds| UtcDateTime::from_unix_timestamp(seconds).ok());
        f.write_str(
            &date
                .and_then(|date| date.format(form).ok())
                .unwrap_or_default(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_the_units_of_their_size() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3599, "59 min"),
            (3600, "1 h 0 min"),
            (86399, "23 h 59 min"),
            (86400, "1 d 0 h"),
            (8 * 86400 + 7200, "8 d 2 h"),
        ] {
            assert_eq!(Span(seconds).to_string(), text);
        }
    }

    #[test]
    fn a_screen_says_it_all() {
        let report = Report {
            version: "1.2.3".into(),
            running_for: 61,
            works: true,
            answered: 12,
            last_answered_ago: Some(5),
            delivery: "webhook".into(),
            delivery_reason: "Telegram reaches this Pi".into(),
            address: Some("80.100.95.20:8443".into()),
            certificate_end: Some(2_000_000_000),
            last_trouble: Some(Trouble {
                ago: 7200,
                what: "no network".into(),
            }),
            bots: vec![
                BotReport {
                    id: 7,
                    name: Some("my_bot".into()),
                    problem: None,
                },
                BotReport {
                    id: 8,
                    name: None,
                    problem: Some("the token is refused".into()),
                },
            ],
        };
        let text = report.to_string();
        let mut lines = text.lines();
        assert!(
            lines
                .next()
                .is_some_and(|line| line.starts_with("pihook 1.2.3, running for 1 min (since 20"))
        );
        assert_eq!(
            lines.collect::<Vec<_>>(),
            [
                "bot          @my_bot: https://t.me/my_bot",
                "bot          8 (the token is refused)",
                "answered     12 updates, the last 5 s ago",
                "delivery     webhook: Telegram reaches this Pi",
                "address      80.100.95.20:8443",
                "certificate  ends 2033-05-18 03:33Z",
                "last problem 2 h 0 min ago: no network",
            ]
        );
        let read: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!((read.to_string(), read.name()), (text, Some("my_bot")));
    }
}
