//! The report of the running bot to `pihook status`: JSON over the workers' socket, and a screen
//! that a person reads.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::UtcDateTime;
use time::macros::format_description;

use crate::system::clock::unix_now;
use crate::system::runtime_dir;

/// The unit's folder for the workers' socket (`RuntimeDirectory` of deploy/pihook.service).
const UNIT_RUNTIME_DIR: &str = "/run/pihook";
/// The path at the workers' socket that is answered with a report.
pub(crate) const PATH: &str = "/status";
/// The name of polling in a report.
pub(crate) const POLLING: &str = "polling";
/// Time until a worker is free, and for its answer. All workers may wait for a slow Bot API.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a report that are read.
const LIMIT: u64 = 1024 * 1024;

/// The workers' socket: in the folder of the settings, or in that of the unit.
pub(crate) fn socket(runtime_dir: &Path) -> PathBuf {
    let configured = runtime_dir.join(runtime_dir::SOCKET);
    let of_unit = Path::new(UNIT_RUNTIME_DIR).join(runtime_dir::SOCKET);
    if is_absent(&configured) && !is_absent(&of_unit) {
        of_unit
    } else {
        configured
    }
}

/// Whether nothing is at `path`. A socket that this user may not see is not absent.
fn is_absent(path: &Path) -> bool {
    fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// How the bot runs, by its own account. Times are in seconds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The version of pihook.
    pub(crate) version: String,
    /// Since its start.
    pub(crate) running_for: u64,
    /// Whether updates arrive, and no bot has a problem.
    pub(crate) works: bool,
    /// Updates answered since the start.
    pub(crate) answered: u64,
    /// Since the last answer.
    pub(crate) last_answered_ago: Option<u64>,
    /// How updates come: `webhook` or `polling`.
    pub(crate) delivery: String,
    /// Why the bot polls, or whether Telegram calls the webhook.
    pub(crate) delivery_reason: String,
    /// Where Telegram calls, `HOST:PORT`.
    pub(crate) address: Option<String>,
    /// When the certificate ends: Unix time.
    pub(crate) certificate_end: Option<u64>,
    /// The last problem since the start, over or not.
    pub(crate) last_trouble: Option<Trouble>,
    /// The bots whose webhook was checked, or that have polled.
    pub(crate) bots: Vec<BotReport>,
}

/// A problem, over or not.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Trouble {
    /// Since it began.
    pub(crate) ago: u64,
    /// The problem in words.
    pub(crate) what: String,
}

/// One bot in a report.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BotReport {
    /// The public half of its token.
    pub(crate) id: u64,
    /// Its name at Telegram, without the @.
    pub(crate) name: Option<String>,
    /// None when all is well.
    pub(crate) problem: Option<String>,
    /// Whether the problem is the token, which Telegram refuses: only another token helps.
    #[serde(default)]
    pub(crate) token_is_refused: bool,
    /// Since another program last polled with its token.
    #[serde(default)]
    pub(crate) conflict_ago: Option<u64>,
}

impl Report {
    /// Asks the bot whose workers listen at `socket`.
    ///
    /// # Errors
    /// When nobody listens at the socket, or the answer is no report.
    pub(crate) fn ask(socket: &Path) -> io::Result<Self> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let request = format!("GET {PATH} HTTP/1.1\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;

        let mut answer = Vec::new();
        stream.take(LIMIT).read_to_end(&mut answer)?;
        let head = answer
            .windows(4)
            .position(|part| part == b"\r\n\r\n")
            .ok_or(io::ErrorKind::UnexpectedEof)?;

        Ok(serde_json::from_slice(&answer[head + 4..])?)
    }

    /// Whether updates come by polling.
    pub(crate) fn does_poll(&self) -> bool {
        self.delivery == POLLING
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
            if let Some(problem) = &bot.problem {
                write!(f, " ({problem})")?;
            }
            writeln!(f)?;
        }

        let plural = if self.answered == 1 { "" } else { "s" };
        write!(f, "answered     {} update{plural}", self.answered)?;
        if let Some(ago) = self.last_answered_ago {
            write!(f, ", the last {} ago", Span(ago))?;
        }
        writeln!(f)?;

        let reason = &self.delivery_reason;
        writeln!(f, "delivery     {}: {reason}", self.delivery)?;
        if let Some(address) = &self.address {
            writeln!(f, "address      {address}")?;
        }
        if let Some(end) = self.certificate_end {
            writeln!(f, "certificate  ends {}", Date(end))?;
        }

        match &self.last_trouble {
            None => write!(f, "last problem none since the start"),
            Some(Trouble { ago, what }) => write!(f, "last problem {} ago: {what}", Span(*ago)),
        }
    }
}

/// Seconds, shown in the one or two largest units.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.0 / 60;
        let hours = self.0 / 3600;
        let days = self.0 / 86400;
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{} s", self.0),
            (0, 0, _) => write!(f, "{minutes} min"),
            (0, ..) => write!(f, "{hours} h {} min", minutes % 60),
            _ => write!(f, "{days} d {} h", hours % 24),
        }
    }
}

/// Unix time in seconds, shown as a date; empty for a year that no calendar has.
struct Date(u64);

impl Date {
    fn format(&self) -> Option<String> {
        let form = format_description!("[year]-[month]-[day] [hour]:[minute]Z");
        let seconds = i64::try_from(self.0).ok()?;
        let date = UtcDateTime::from_unix_timestamp(seconds).ok()?;
        date.format(form).ok()
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_in_its_largest_units() {
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
    fn a_report_is_one_screen_and_survives_json() {
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
                    token_is_refused: false,
                    conflict_ago: None,
                },
                BotReport {
                    id: 8,
                    name: None,
                    problem: Some("the token is refused".into()),
                    token_is_refused: true,
                    conflict_ago: Some(3),
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
