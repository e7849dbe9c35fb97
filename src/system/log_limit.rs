//! A rate limit for lines of the log that others can cause: a few a minute, and then a count of
//! those that were left out.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::lock::lock;

const MINUTE: Duration = Duration::from_secs(60);

/// One kind of line. The next line that is written says how many were suppressed.
pub(crate) struct LogLimit {
    per_minute: u32,
    window: Mutex<Window>,
}

/// What is counted in the present minute.
struct Window {
    /// None before the first line.
    start: Option<Instant>,
    written: u32,
    /// Since the last line that was written, in this minute and in those before it.
    suppressed: u64,
}

impl LogLimit {
    /// A kind of line, of which at most `per_minute` are written in a minute.
    pub(crate) const fn new(per_minute: u32) -> Self {
        Self {
            per_minute,
            window: Mutex::new(Window {
                start: None,
                written: 0,
                suppressed: 0,
            }),
        }
    }

    /// Writes the line, or counts it.
    pub(crate) fn log(&self, level: log::Level, line: impl fmt::Display) {
        match self.admit(Instant::now()) {
            Some(0) => log::log!(level, "{line}"),
            Some(suppressed) => log::log!(
                level,
                "{line} ({suppressed} similar lines before this one were not logged)"
            ),
            None => {}
        }
    }

    /// Writes the line as a warning, or counts it.
    pub(crate) fn warn(&self, line: impl fmt::Display) {
        self.log(log::Level::Warn, line);
    }

    /// None where a line must not be written now; else the number of lines that were suppressed
    /// before it.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut window = lock(&self.window);
        let is_over = match window.start {
            Some(start) => now.saturating_duration_since(start) >= MINUTE,
            None => true,
        };
        if is_over {
            window.start = Some(now);
            window.written = 0;
        }

        if window.written < self.per_minute {
            window.written += 1;
            return Some(std::mem::take(&mut window.suppressed));
        }
        window.suppressed += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_lines_is_suppressed_and_counted() {
        let kind = LogLimit::new(2);
        let start = Instant::now();
        let first: Vec<_> = (0..1000).map(|_| kind.admit(start)).collect();
        assert_eq!(first[..3], [Some(0), Some(0), None]);
        assert_eq!(kind.admit(start + MINUTE), Some(998));
        assert_eq!(kind.admit(start + MINUTE), Some(0));
        assert_eq!(kind.admit(start + MINUTE), None);
    }
}
