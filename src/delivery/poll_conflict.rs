//! The conflict with another program that polls with our token. Of two long polls, Telegram ends
//! the older one with a 409; a page that is there at once goes to both. So a 409 can be somebody's
//! single call, or the begin of a fight in which both programs answer the same updates. When both
//! programs are pihook, the fight must end, too: chance decides which one gives way. Pure.
//! `token_conflict` has the conflict over a webhook.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::token_conflict::{between, next_look};

/// A conflict is over when the bot has polled for so long without a 409. A second pihook asks at
/// least once in this time.
const CALM: Duration = Duration::from_secs(30);
/// The bot gives way when 409s have come for this long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Before the next try after a 409, in milliseconds: at random between these.
const NEXT_TRY: (u64, u64) = (5_000, 15_000);
/// A page that comes sooner may have been there before it was asked for.
const AT_ONCE: Duration = Duration::from_millis(500);
/// An update that is still there after this is not being answered by the other program. Shorter
/// than the shortest pause after a 409: so a program that was just ended by our call does not come
/// back while we wait.
const HANDLING: Duration = Duration::from_secs(3);

/// What is known of the other program that polls.
pub(crate) struct PollConflict {
    /// When the first 409 came; None without a conflict.
    since: Option<Instant>,
    has_given_way: bool,
    /// The poller asks nothing before this time.
    next_try: Option<Instant>,
    ownership: Ownership,
}

/// Whose the updates of the next page are.
enum Ownership {
    Ours,
    /// The other program was asked for them before: those that come at once may be in its hands.
    Unknown,
    /// These were there at the last look.
    Seen(BTreeSet<i64>),
}

/// What becomes of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageOwner {
    /// It is ours.
    Ours,
    /// It may be the other program's: it is asked for once more.
    Unknown,
    /// The other program has confirmed what was there before, so it polls.
    Other,
}

impl PollConflict {
    /// No other program was seen yet.
    pub(crate) fn new() -> Self {
        Self {
            since: None,
            has_given_way: false,
            next_try: None,
            ownership: Ownership::Ours,
        }
    }

    /// Whether another program was seen and may still poll.
    pub(crate) fn is_on(&self) -> bool {
        self.since.is_some()
    }

    /// Whether the bot leaves the updates to the other program, and only looks whether it is still
    /// there.
    pub(crate) fn has_given_way(&self) -> bool {
        self.has_given_way
    }

    /// The poller asks nothing before this time; None without a conflict.
    pub(crate) fn next_try(&self) -> Option<Instant> {
        self.next_try
    }

    /// When the conflict is over, if no 409 comes.
    pub(crate) fn end(&self) -> Option<Instant> {
        self.since?;
        Some(self.next_try? + CALM)
    }

    /// The other program has shown itself at `now`, by a 409 or by a page that it confirmed.
    /// `random` is any number.
    pub(crate) fn refused(&mut self, now: Instant, random: u64) {
        let since = *self.since.get_or_insert(now);
        self.has_given_way |= now.saturating_duration_since(since) >= PATIENCE;
        let pause = if self.has_given_way {
            next_look(random)
        } else {
            between(NEXT_TRY, random)
        };
        self.next_try = Some(now + pause);
        self.ownership = Ownership::Unknown;
    }

    /// Judges whose the updates of this page are; it came at `now`, and was waited for so long. One
    /// whose owner is unknown is asked for again at [`PollConflict::next_try`].
    pub(crate) fn judge(
        &mut self,
        page: &BTreeSet<i64>,
        waited: Duration,
        now: Instant,
    ) -> PageOwner {
        // An update that comes while a program waits for it goes to that program alone.
        let is_waited_for = page.is_empty() || waited >= AT_ONCE;
        let is_abandoned = match &self.ownership {
            Ownership::Ours => true,
            Ownership::Unknown => false,
            Ownership::Seen(before) => !before.is_disjoint(page),
        };
        if is_waited_for || is_abandoned {
            self.ownership = Ownership::Ours;
            return PageOwner::Ours;
        }
        if matches!(self.ownership, Ownership::Seen(_)) {
            return PageOwner::Other;
        }
        self.next_try = Some(now + HANDLING);
        self.ownership = Ownership::Seen(page.clone());
        PageOwner::Unknown
    }

    /// Ends the conflict when its time has come. Whether it ended now.
    pub(crate) fn ends(&mut self, now: Instant) -> bool {
        let is_over = self.end().is_some_and(|end| end <= now);
        if is_over {
            *self = Self::new();
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    /// As random numbers: the shortest pause, and the longest one.
    const SHORTEST: u64 = 0;
    const LONGEST: u64 = 10_000;
    const LONGEST_LOOK: u64 = 60_000;

    fn page(ids: &[i64]) -> BTreeSet<i64> {
        ids.iter().copied().collect()
    }

    #[test]
    fn a_poll_conflict_is_over_30_s_after_the_last_409() {
        let start = Instant::now();
        let mut conflict = PollConflict::new();
        assert!(!conflict.is_on() && conflict.next_try().is_none() && !conflict.ends(start));
        conflict.refused(start, SHORTEST);
        assert_eq!(conflict.next_try(), Some(start + 5 * SECOND));
        let second = start + 6 * SECOND;
        conflict.refused(second, LONGEST);
        assert_eq!(conflict.next_try(), Some(second + 15 * SECOND));
        // The time in which nothing was asked proves nothing, and a page proves nothing either.
        assert_eq!(
            conflict.judge(&page(&[]), SECOND, second + 16 * SECOND),
            PageOwner::Ours
        );
        let end = second + 45 * SECOND;
        assert!(
            conflict.is_on() && conflict.end() == Some(end) && !conflict.ends(end - SECOND / 2)
        );
        assert!(
            conflict.ends(end)
                && !conflict.is_on()
                && conflict.next_try().is_none()
                && !conflict.ends(end)
        );
    }

    #[test]
    fn the_bot_gives_way_after_a_minute_of_409s_and_looks_every_minute_or_two() {
        let start = Instant::now();
        let mut conflict = PollConflict::new();
        for seconds in [0, 20, 40, 59] {
            conflict.refused(start + seconds * SECOND, LONGEST);
            assert!(!conflict.has_given_way(), "{seconds}");
        }
        let given = start + 60 * SECOND;
        conflict.refused(given, LONGEST_LOOK);
        assert!(conflict.has_given_way());
        assert_eq!(conflict.next_try(), Some(given + 120 * SECOND));
        // While it does not ask, it is no wonder that no 409 comes.
        let look = given + 120 * SECOND;
        assert!(!conflict.ends(look));
        conflict.refused(look + 3 * SECOND, SHORTEST);
        assert!(conflict.has_given_way());
        let look = look + 63 * SECOND;
        assert_eq!(conflict.next_try(), Some(look));
        // The other program is gone.
        assert!(conflict.ends(look + CALM) && !conflict.has_given_way());
        conflict.refused(look + 2 * CALM, SHORTEST);
        assert!(!conflict.has_given_way(), "this is another conflict");
    }

    #[test]
    fn a_page_that_the_other_program_may_have_is_left_to_it() {
        let start = Instant::now();
        let at_once = SECOND / 10;
        let refused = || {
            let mut conflict = PollConflict::new();
            conflict.refused(start, SHORTEST);
            conflict
        };
        assert_eq!(
            PollConflict::new().judge(&page(&[1]), at_once, start),
            PageOwner::Ours,
            "nobody else is there"
        );
        assert_eq!(
            refused().judge(&page(&[1]), AT_ONCE, start),
            PageOwner::Ours,
            "it came while we waited"
        );

        let again = start + 6 * SECOND;
        for (second_page, waited, owner) in [
            (&[1, 2, 3][..], at_once, PageOwner::Ours),
            (&[2, 3], at_once, PageOwner::Ours),
            (&[3], at_once, PageOwner::Other),
            (&[3], AT_ONCE, PageOwner::Ours),
            (&[], at_once, PageOwner::Ours),
        ] {
            let mut conflict = refused();
            assert_eq!(
                conflict.judge(&page(&[1, 2]), at_once, again),
                PageOwner::Unknown
            );
            assert_eq!(conflict.next_try(), Some(again + HANDLING));
            assert_eq!(
                conflict.judge(&page(second_page), waited, again + HANDLING),
                owner,
                "{second_page:?}"
            );
            if owner == PageOwner::Ours {
                assert_eq!(
                    conflict.judge(&page(&[9]), at_once, again + CALM),
                    owner,
                    "what follows is ours, too"
                );
            }
        }
    }
}
