//! The log: whole lines on standard error, for a terminal or for the journal.

use std::env;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use log::{LevelFilter, Log, Metadata, Record};
use nix::sys::stat::fstat;
use nix::unistd;
use simplelog::{ConfigBuilder, LevelPadding, WriteLogger};
use time::macros::format_description;

use crate::secret::{cut, mask, one_line};

/// Bytes of a line. Ours are far below it; what others say in them is cut before.
const LINE_BYTES: usize = 1024;

static IS_JOURNAL: AtomicBool = AtomicBool::new(false);

/// Starts logging to standard error: lines with a time for a person, lines with a priority for the
/// journal, which adds the time itself. Beside our own lines there are those of the crate `bot`,
/// from `level` on.
pub fn start(bot: &'static str, level: LevelFilter) {
    let journal = is_journal();
    IS_JOURNAL.store(journal, Ordering::Relaxed);

    // A level of simplelog is the one from which on a line has that part.
    let time_level = if journal {
        LevelFilter::Off
    } else {
        LevelFilter::Error
    };
    let mut config = ConfigBuilder::new();
    config
        .set_time_level(time_level)
        .set_time_format_custom(format_description!(
            "[year]-[month]-[day] [hour]:[minute]:[second]Z"
        ))
        .set_level_padding(LevelPadding::Off)
        .set_thread_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off);

    let lines = Lines {
        line: Vec::new(),
        journal,
    };
    let crates = Crates { bot, level };
    let max_level = crates.max_level();
    let logger = Allowlist {
        crates,
        lines: WriteLogger::new(max_level, config.build(), lines),
    };
    // It fails only when logging was started before: then that one stays.
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        log::set_max_level(max_level);
    }
}

/// Our own level, in whatever program we are.
const LEVEL: LevelFilter = LevelFilter::Info;

/// The crates whose lines are logged. There are no others: ureq and rustls write URLs, and so
/// tokens, below info.
struct Crates {
    bot: &'static str,
    level: LevelFilter,
}

impl Crates {
    /// The level of the crate in which `target` is. The name must be the whole one: a bot can be
    /// called `ure`.
    fn level_of(&self, target: &str) -> LevelFilter {
        match target.split("::").next() {
            Some(name) if name == self.bot => self.level,
            Some("pihook") => LEVEL,
            _ => LevelFilter::Off,
        }
    }

    /// The level below which no crate has a line.
    fn max_level(&self) -> LevelFilter {
        self.level.max(LEVEL)
    }
}

/// Passes on the lines of these crates, and drops all others.
struct Allowlist {
    crates: Crates,
    lines: Box<WriteLogger<Lines>>,
}

impl Log for Allowlist {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.crates.level_of(metadata.target())
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.lines.log(record);
        }
    }

    fn flush(&self) {
        self.lines.flush();
    }
}

/// Writes an error as the last line of a process that panicked. Unlike the log it takes no lock,
/// which that process may hold for ever; nor does it say the time.
pub(crate) fn last_line(line: &str) {
    let line = shown(
        format!("[ERROR] {line}").as_bytes(),
        IS_JOURNAL.load(Ordering::Relaxed),
    );
    // Where standard error fails, there is nobody left to tell.
    let _ = unistd::write(io::stderr().as_fd(), &line);
}

/// Whether standard error is the journal: systemd names its device and inode.
fn is_journal() -> bool {
    let Ok(named) = env::var("JOURNAL_STREAM") else {
        return false;
    };
    fstat(io::stderr()).is_ok_and(|file| named == format!("{}:{}", file.st_dev, file.st_ino))
}

/// Gathers what the logger writes in pieces, and writes each line whole.
struct Lines {
    line: Vec<u8>,
    journal: bool,
}

impl Write for Lines {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        // The logger ends each line by a piece of its own; what others say can have line ends, too.
        if piece == b"\n" {
            self.flush()?;
        } else {
            self.line.extend_from_slice(piece);
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let line = shown(&std::mem::take(&mut self.line), self.journal);
        io::stderr().write_all(&line)
    }
}

/// A line as it may be seen: without tokens, without anything that steers a terminal or makes two
/// lines of it, and not endless.
fn shown(line: &[u8], journal: bool) -> Vec<u8> {
    let text = one_line(&String::from_utf8_lossy(line));
    let line = cut(&mask(&text), LINE_BYTES).into_bytes();
    let mut line = if journal { with_priority(&line) } else { line };
    line.push(b'\n');
    line
}

/// The logger's `[WARN] ` as sd-daemon(3) has it: `<4>`.
fn with_priority(line: &[u8]) -> Vec<u8> {
    for (level, priority) in [
        ("[ERROR] ", "<3>"),
        ("[WARN] ", "<4>"),
        ("[INFO] ", "<6>"),
        ("[DEBUG] ", "<7>"),
        ("[TRACE] ", "<7>"),
    ] {
        if let Some(message) = line.strip_prefix(level.as_bytes()) {
            return [priority.as_bytes(), message].concat();
        }
    }
    line.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_gets_priorities_in_place_of_levels() {
        assert_eq!(
            with_priority(b"[WARN] the port is closed"),
            b"<4>the port is closed"
        );
        assert_eq!(with_priority(b"[INFO] [WARN] x"), b"<6>[WARN] x");
        assert_eq!(with_priority(b"[TRACE] x"), b"<7>x");
        assert_eq!(with_priority(b"plain"), b"plain");
    }

    #[test]
    fn level_of_a_crate_is_off_but_for_ours_and_the_bots() {
        let crates = Crates {
            bot: "ure",
            level: LevelFilter::Trace,
        };
        for (target, level) in [
            ("ure", LevelFilter::Trace),
            ("ure::door", LevelFilter::Trace),
            ("pihook::edge::accept", LEVEL),
            ("ureq::run", LevelFilter::Off),
            ("rustls::client", LevelFilter::Off),
            ("pihook_helper", LevelFilter::Off),
            ("", LevelFilter::Off),
        ] {
            assert_eq!(crates.level_of(target), level, "{target}");
        }
        assert_eq!(crates.max_level(), LevelFilter::Trace);
        assert_eq!(
            Crates {
                bot: "quiet",
                level: LevelFilter::Off
            }
            .max_level(),
            LEVEL
        );
    }

    #[test]
    fn a_line_with_foreign_words_is_masked_cut_and_stays_one_line() {
        let line = format!("[WARN] \n[ERROR] \u{1b}[2J\u{202e}{}", "x".repeat(10_000));
        for (journal, start) in [
            (false, "[WARN]  [ERROR]  [2J xxx"),
            (true, "<4> [ERROR]  [2J xxx"),
        ] {
            let line = String::from_utf8(shown(line.as_bytes(), journal)).unwrap();
            assert!(
                line.starts_with(start) && line.ends_with("x…\n") && line.len() <= LINE_BYTES + 1,
                "{line}"
            );
        }
        assert_eq!(shown(b"1:abcdefghijklmnopqrst", false), b"1:***\n");
    }
}
