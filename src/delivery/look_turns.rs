//! One look a minute for the whole process: the bots' webhooks are looked at in turn. Pure.

use std::time::{Duration, Instant};

/// Looks follow each other in a `watch_interval` divided by this: 1 min by default.
const LOOK_DIVISOR: u32 = 5;

/// The times at which it is one bot's turn.
#[derive(Clone, Copy)]
pub(crate) struct LookTurns {
    first: Instant,
    period: Duration,
}

impl LookTurns {
    /// The turns of the bot at place `index` among `bots`; `start` is the same for all of them.
    pub(crate) fn new(start: Instant, interval: Duration, index: usize, bots: usize) -> Self {
        let gap = interval / LOOK_DIVISOR;
        let times = |count: usize| gap.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
        Self {
            first: start + times(index),
            period: times(bots.max(1)),
        }
    }

    /// How long it is from `now` to the bot's next turn.
    pub(crate) fn next_in(&self, now: Instant) -> Duration {
        let Some(since) = now.checked_duration_since(self.first) else {
            return self.first - now;
        };
        let period = self.period.as_nanos().max(1);
        let over = u64::try_from(since.as_nanos() % period).unwrap_or_default();
        self.period.saturating_sub(Duration::from_nanos(over))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(300);

    /// The seconds at which these bots have their turns.
    fn turns(bots: usize, until: u64) -> Vec<(u64, usize)> {
        let start = Instant::now();
        let mut all = Vec::new();
        for index in 0..bots {
            let turns = LookTurns::new(start, INTERVAL, index, bots);
            let mut second = 0;
            while second < until {
                second += turns.next_in(start + Duration::from_secs(second)).as_secs();
                all.push((second, index));
            }
        }
        all.sort_unstable();
        all.retain(|(second, _)| *second < until);
        all
    }

    #[test]
    fn one_bot_is_looked_at_each_minute_and_several_in_turn() {
        assert_eq!(turns(1, 200), [(60, 0), (120, 0), (180, 0)]);
        assert_eq!(
            turns(3, 400),
            [(60, 1), (120, 2), (180, 0), (240, 1), (300, 2), (360, 0)]
        );
        let many = turns(40, 7200);
        assert!(
            many.windows(2).all(|pair| pair[1].0 - pair[0].0 == 60),
            "{many:?}"
        );
    }
}
