//! A pause between attempts that grows while they come one soon after another. Pure.

use std::time::{Duration, Instant};

/// The pause after something that must not happen too often. The pause doubles each time. It is
/// short again once nothing has happened for the pause itself and the longest one.
pub(crate) struct EscalatingPause {
    first: Duration,
    longest: Duration,
    current: Duration,
    last: Option<Instant>,
}

impl EscalatingPause {
    /// Nothing has happened yet. The pause is `first` after the first time, and never more than
    /// `longest`.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            current: Duration::ZERO,
            last: None,
        }
    }

    /// Whether the pause is over at `now`.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.since_last(now)
            .is_none_or(|since| since >= self.current)
    }

    /// When the pause is over; None when nothing has happened yet.
    pub(crate) fn end(&self) -> Option<Instant> {
        self.last.map(|last| last + self.current)
    }

    /// It happens at `now`: a pause begins.
    pub(crate) fn begin(&mut self, now: Instant) {
        let is_calm = self
            .since_last(now)
            .is_none_or(|since| since >= self.current + self.longest);
        self.current = if is_calm {
            self.first
        } else {
            (self.current * 2).min(self.longest)
        };
        self.last = Some(now);
    }

    fn since_last(&self, now: Instant) -> Option<Duration> {
        self.last.map(|last| now.saturating_duration_since(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_pause_doubles_up_to_its_limit_and_is_short_again_after_a_calm() {
        let mut now = Instant::now();
        let mut pause = EscalatingPause::new(SECOND, 5 * SECOND);
        assert!(
            pause.is_over(now) && pause.end().is_none(),
            "nothing has happened yet"
        );
        for seconds in [1, 2, 4, 5, 5] {
            pause.begin(now);
            assert!(
                !pause.is_over(now + seconds * SECOND - SECOND / 2),
                "{seconds}"
            );
            now += seconds * SECOND;
            assert!(pause.is_over(now) && pause.end() == Some(now), "{seconds}");
        }
        // One moment less than the pause and the longest one is no calm yet.
        pause.begin(now + 5 * SECOND - SECOND / 2);
        now += 10 * SECOND - SECOND / 2;
        assert!(!pause.is_over(now - SECOND / 2));
        pause.begin(now + 5 * SECOND);
        assert!(pause.is_over(now + 6 * SECOND));
    }
}
