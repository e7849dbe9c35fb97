//! The log: whole lines on standard error, for a terminal or for the journal.

use std::env;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use log::LevelFilter;
use nix::sys::stat::fstat;
use nix::unistd;
use simplelog::{ConfigBuilder, LevelPadding, WriteLogger};
use time::macros::format_description;

use crate::secret::mask;

static IS_JOURNAL: AtomicBool = AtomicBool::new(false);

/// Starts logging to standard error: lines with a time for a person, lines with a priority for the
/// journal, which adds the time itself. Beside our own lines there are those of the crate `bot`.
pub fn start(bot: &str) {
    let journal = is_journal();
    IS_JOURNAL.store(journal, Ordering::Relaxed);
    let mut config = ConfigBuilder::new();
    config
        .set_time_level(if journal { LevelFilter::Off } else { LevelFilter::Error })
        .set_time_format_custom(format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z"))
        .set_level_padding(LevelPadding::Off)
        .set_thread_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        // ureq and rustls write URLs, and so tokens, at the levels below.
        .add_filter_allow_str("pihook")
        .add_filter_allow(bot.to_owned());
    let lines = Lines { line: Vec::new(), journal };
    // It fails only when logging was started before.
    let _ = WriteLogger::init(LevelFilter::Info, config.build(), lines);
}

/// Writes an error as the last line of a process that panicked. Unlike the log it takes no lock, which that process may hold
/// for ever; nor does it say the time.
pub(crate) fn last_line(line: &str) {
    let line = mask(&format!("[ERROR] {line}\n")).into_bytes();
    let line = if IS_JOURNAL.load(Ordering::Relaxed) { with_priority(&line) } else { line };
    // There is nobody left to tell.
    let _ = unistd::write(io::stderr().as_fd(), &line);
}

/// Whether standard error is the journal: systemd names its device and inode.
fn is_journal() -> bool {
    let Ok(named) = env::var("JOURNAL_STREAM") else { return false };
    fstat(io::stderr()).is_ok_and(|file| named == format!("{}:{}", file.st_dev, file.st_ino))
}

/// Gathers what the logger writes in pieces, and writes each line whole.
struct Lines {
    line: Vec<u8>,
    journal: bool,
}

impl Write for Lines {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(piece);
        if piece.ends_with(b"\n") {
            self.flush()?;
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let line = mask(&String::from_utf8_lossy(&std::mem::take(&mut self.line))).into_bytes();
        let line = if self.journal { with_priority(&line) } else { line };
        io::stderr().write_all(&line)
    }
}

/// The logger's `[WARN] ` as sd-daemon(3) has it: `<4>`.
fn with_priority(line: &[u8]) -> Vec<u8> {
    for (level, priority) in [("[ERROR] ", "<3>"), ("[WARN] ", "<4>"), ("[INFO] ", "<6>"), ("[DEBUG] ", "<7>")] {
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
        assert_eq!(with_priority(b"[WARN] the port is closed\n"), b"<4>the port is closed\n");
        assert_eq!(with_priority(b"[INFO] [WARN] x\n"), b"<6>[WARN] x\n");
        assert_eq!(with_priority(b"plain\n"), b"plain\n");
    }
}
