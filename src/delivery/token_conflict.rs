//! The conflict with another program that has our token and sets or removes the bot's webhook. The
//! bot repairs that at growing intervals: two programs must not fight. Pure.
//! `poll_conflict` has the conflict with a program that polls.

use std::time::{Duration, Instant};

use crate::system::pause::EscalatingPause;

/// The pauses between two repairs, in `watch_interval`s: 10 min to 6 h by default.
const REPAIR_INTERVALS: (u32, u32) = (2, 72);

/// Before the next look whether another program still has the bot, in milliseconds: at random
/// between these.
const NEXT_LOOK: (u64, u64) = (60_000, 120_000);

/// The time before the next look at a bot that another program has; any number is `random`.
pub(crate) fn next_look(random: u64) -> Duration {
    between(NEXT_LOOK, random)
}

/// A time between these two, in milliseconds, which any number chooses.
pub(crate) fn between((shortest, longest): (u64, u64), random: u64) -> Duration {
    Duration::from_millis(shortest + random % (longest - shortest + 1))
}

/// One bot's repairs of what another program did.
pub(crate) struct TokenConflict {
    repairs: EscalatingPause,
    /// Another program has the bot, and keeps it until the pause between two repairs is over.
    is_lost: bool,
}

impl TokenConflict {
    /// No other program has been seen yet. `interval` is the `watch_interval`.
    pub(crate) fn new(interval: Duration) -> Self {
        let (first, longest) = REPAIR_INTERVALS;
        Self {
            repairs: EscalatingPause::new(interval * first, interval * longest),
            is_lost: false,
        }
    }

    /// Notes that something is wrong at `now`; `is_foreign` when another program did it. Whether it
    /// may be repaired now: a repair is counted then.
    pub(crate) fn may_repair(&mut self, is_foreign: bool, now: Instant) -> bool {
        let is_allowed = self.repairs.is_over(now);
        if is_allowed {
            self.repairs.begin(now);
        }
        self.is_lost = is_foreign && !is_allowed;
        is_allowed
    }

    /// Nothing is wrong: the bot is ours.
    pub(crate) fn resolved(&mut self) {
        self.is_lost = false;
    }

    /// When to look whether another program still has the bot, which it has at `now`: it may leave
    /// before it is time for a repair. Any number is `random`.
    pub(crate) fn next_look(&self, now: Instant, random: u64) -> Instant {
        let look = now + next_look(random);
        match self.lost_until() {
            Some(until) => until.min(look),
            None => look,
        }
    }

    /// The end of the time for which the bot is left to another program; None when it is not.
    pub(crate) fn lost_until(&self) -> Option<Instant> {
        if self.is_lost {
            self.repairs.end()
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_of_a_token_conflict_come_at_growing_intervals() {
        let start = Instant::now();
        let interval = Duration::from_secs(300);
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut conflict = TokenConflict::new(interval);
        assert!(conflict.may_repair(true, start) && conflict.lost_until().is_none());
        assert!(!conflict.may_repair(true, at(599)));
        assert_eq!(conflict.lost_until(), Some(at(600)));
        // It is looked at every minute or two, and when it may be taken back.
        let milliseconds = |time: Instant| time.saturating_duration_since(start).as_millis();
        let looks = [(30, 0), (30, 60_000), (530, 0), (545, 0)];
        let looks =
            looks.map(|(seconds, random)| milliseconds(conflict.next_look(at(seconds), random)));
        assert_eq!(looks, [90_000, 150_000, 590_000, 600_000]);
        assert!(conflict.may_repair(true, at(600)));
        assert_eq!(conflict.lost_until(), None, "it was taken back");
        assert!(!conflict.may_repair(false, at(601)));
        assert_eq!(conflict.lost_until(), None, "nobody took it");
        assert!(!conflict.may_repair(true, at(1799)));
        conflict.resolved();
        assert_eq!(conflict.lost_until(), None);
    }
}
