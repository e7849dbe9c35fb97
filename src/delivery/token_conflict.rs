//! What another program does with our token. It is taken back at growing intervals: two programs
//! must not fight. Pure.

use std::time::{Duration, Instant};

use crate::system::pause::EscalatingPause;

/// The advice when another program uses the token: only one program can.
pub(crate) const STOP_OTHER: &str = "stop the other program, or give it a token of its own from BotFather (the other program can be on \
                                     another computer)";

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

    /// When to look whether another program still has the bot, which it has at `now`: it may leave
    /// before it is time for a repair. Any number is `random`.
    pub(crate) fn next_look(&self, now: Instant, random: u64) -> Instant {
        let look = now + next_look(random);
        self.lost_until().map_or(look, |until| until.min(look))
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
        // It is looked at every minute or two, and when it may be taken back.
        let milliseconds = |time: Instant| time.saturating_duration_since(start).as_millis();
        let looks = [(30, 0), (30, 60_000), (530, 0), (545, 0)];
        let looks =
            looks.map(|(seconds, random)| milliseconds(contest.next_look(at(seconds), random)));
        assert_eq!(looks, [90_000, 150_000, 590_000, 600_000]);
        assert!(contest.may_repair(true, at(600)));
        assert_eq!(contest.lost_until(), None, "it was taken back");
        assert!(!contest.may_repair(false, at(601)));
        assert_eq!(contest.lost_until(), None, "nobody took it");
        assert!(!contest.may_repair(true, at(1799)));
        contest.won();
        assert_eq!(contest.lost_until(), None);
    }
}
