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
    state: Mutex<State>,
}

struct State {
    minute: Option<Instant>,
    written: u32,
    suppressed: u64,
}

impl LogLimit {
    /// A kind of which so many lines are written in a minute.
    pub(crate) const fn new(per_minute: u32) -> Self {
        Self {
            per_minute,
            state: Mutex::new(State {
                minute: None,
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

    /// Whether a line may be written now; then, how many could not before.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = lock(&self.state);
        if state
            .minute
            .is_none_or(|minute| now.saturating_duration_since(minute) >= MINUTE)
        {
            state.minute = Some(now);
            state.written = 0;
        }
        if state.written < self.per_minute {
            state.written += 1;
            return Some(std::mem::take(&mut state.suppressed));
        }
        state.suppressed += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_few_lines_and_a_number() {
        let (kind, start) = (LogLimit::new(2), Instant::now());
        let first: Vec<_> = (0..1000).map(|_| kind.admit(start)).collect();
        assert_eq!(first[..3], [Some(0), Some(0), None]);
        assert_eq!(kind.admit(start + MINUTE), Some(998));
        assert_eq!(kind.admit(start + MINUTE), Some(0));
        assert_eq!(kind.admit(start + MINUTE), None);
    }
}
