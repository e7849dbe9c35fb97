//! What another program does with our token. It is taken back at growing intervals: two programs
//! must not fight. Pure.

use std::time::{Duration, Instant};

use crate::system::pause::EscalatingPause;

/// The pauses between two repairs, in `watch_interval`s: 10 min to 6 h by default.
const REPAIR_INTERVALS: (u32, u32) = (2, 72);

/// One bot's repairs.
pub(crate) struct Contest {
    repairs: EscalatingPause,
    /// Another program has the bot, and keeps it until the pause is over.
    is_lost: bool,
}

impl Contest {
    /// Nobody else has been seen yet. Looks follow each other in `interval`.
    pub(crate) fn new(interval: Duration) -> Self {
        let (first, longest) = REPAIR_INTERVALS;
        Self {
            repairs: EscalatingPause::new(interval * first, interval * longest),
            is_lost: false,
        }
    }

    /// Something is wrong at `now`; `is_foreign` when another program did it. Whether it may be
    /// repaired.
    pub(crate) fn may_repair(&mut self, is_foreign: bool, now: Instant) -> bool {
        let is_allowed = self.repairs.is_over(now);
        if is_allowed {
            self.repairs.begin(now);
        }
        self.is_lost = is_foreign && !is_allowed;
        is_allowed
    }

    /// The bot is ours.
    pub(crate) fn won(&mut self) {
        self.is_lost = false;
    }

    /// Until when the bot is left to another program.
    pub(crate) fn lost_until(&self) -> Option<Instant> {
        self.repairs.end().filter(|_| self.is_lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bot_is_left_to_another_program_for_ever_longer() {
        let (start, interval) = (Instant::now(), Duration::from_secs(300));
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut contest = Contest::new(interval);
        assert!(contest.may_repair(true, start) && contest.lost_until().is_none());
        assert!(!contest.may_repair(true, at(599)));
        assert_eq!(contest.lost_until(), Some(at(600)));
        assert!(contest.may_repair(true, at(600)));
        assert_eq!(contest.lost_until(), None, "it was taken back");
        assert!(!contest.may_repair(false, at(601)));
        assert_eq!(contest.lost_until(), None, "nobody took it");
        assert!(!contest.may_repair(true, at(1799)));
        contest.won();
        assert_eq!(contest.lost_until(), None);
    }
}
