//! What the Bot API said to a reply, and what happens next: the one place that decides it. Pure.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::system::lock::lock;
use crate::telegram::client::CALL;
use crate::telegram::error::Error;

/// All calls and waits for one update end within this; the edge waits a little longer.
const BUDGET: Duration = Duration::from_secs(42);
/// Seconds of a flood wait that are waited out here, below the 10 s that a stop leaves.
const SHORT_WAIT: u64 = 5;
/// Seconds after which Telegram tries again what could not be sent. With a `Retry-After` it comes back exactly then, and
/// its own, growing back-off stays out of it.
const RETRY: u64 = 5;
/// While the Bot API stays away, the tries become as rare as this.
const RETRY_IN_OUTAGE: u64 = 60;
/// The longest wait that Telegram takes (telegram-bot-api, `WebhookActor::on_update_error`).
const LONGEST_RETRY: u64 = 3600;
/// Seconds that Telegram keeps an update after its message was written.
const LIFETIME: i64 = 24 * 3600;

/// What happens next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing: the update is dealt with.
    Done,
    /// Telegram keeps the update, and brings it back after so many seconds.
    Later(u64),
    /// The same call once more, at once.
    Again,
    /// The same call once more, after this wait.
    Wait(Duration),
    /// The same text to this chat.
    SendTo(i64),
}

/// What there was before.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    /// Since the update came.
    pub(crate) elapsed: Duration,
    /// The call was made again at once.
    pub(crate) again: bool,
    /// It went to the chat's new id.
    pub(crate) moved: bool,
    /// How long no call was answered.
    pub(crate) outage: Duration,
    /// Seconds until Telegram drops the update, as far as this machine's clock can tell.
    pub(crate) left: Option<u64>,
}

/// Decides on a reply that was not taken.
#[must_use]
pub(crate) fn next(error: &Error, tried: &Tried) -> Next {
    let in_time = |wait: Duration| tried.elapsed + wait + CALL <= BUDGET;
    match error {
        // A group became a supergroup.
        Error::Refused { migrate_to_chat_id: Some(chat), .. } if !tried.moved => {
            if in_time(Duration::ZERO) {
                Next::SendTo(*chat)
            } else {
                later(RETRY, tried)
            }
        }
        // This reply will never be taken: blocked, kicked, deleted, too long… Others than these may pass with time.
        Error::Refused { code: code @ 400..=499, .. } if ![401, 404, 408, 409, 425, 429].contains(code) => Next::Done,
        Error::Refused { retry_after: Some(seconds), .. } => {
            let wait = Duration::from_secs((*seconds).max(1));
            if *seconds <= SHORT_WAIT && in_time(wait) { Next::Wait(wait) } else { later(*seconds, tried) }
        }
        // Until someone sets another token; then Telegram brings everything back at once.
        Error::Refused { code: 401 | 404, .. } => later(RETRY_IN_OUTAGE, tried),
        Error::Broken(_) if !tried.again && in_time(Duration::ZERO) => Next::Again,
        _ => later((tried.outage.as_secs() / 2).clamp(RETRY, RETRY_IN_OUTAGE), tried),
    }
}

/// A wait that Telegram takes, and at the end of which it still has the update.
fn later(seconds: u64, tried: &Tried) -> Next {
    let longest = tried.left.map_or(LONGEST_RETRY, |left| LONGEST_RETRY.min(left / 2));
    Next::Later(seconds.min(longest).max(1))
}

/// Seconds until Telegram drops an update of this date; none when only a wrong clock can say so.
#[must_use]
pub(crate) fn left(date: i64, now: i64) -> Option<u64> {
    let age = now.checked_sub(date)?;
    (0..LIFETIME).contains(&age).then(|| (LIFETIME - age).unsigned_abs())
}

/// Since when no call was answered; shared by all workers.
#[derive(Default)]
pub(crate) struct Outage(Mutex<Option<Instant>>);

impl Outage {
    /// The Bot API answered, whatever it said.
    pub(crate) fn over(&self) {
        *self.since() = None;
    }

    /// It did not; for how long now.
    pub(crate) fn goes_on(&self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.since().get_or_insert(now))
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        lock(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, retry_after: Option<u64>, migrate_to_chat_id: Option<i64>) -> Error {
        Error::Refused { code, description: String::new(), retry_after, migrate_to_chat_id }
    }

    fn unanswered() -> Error {
        Error::Unanswered(String::new())
    }

    #[test]
    fn every_answer_has_its_consequence() {
        let seconds = Duration::from_secs;
        for (error, expected) in [
            (refused(400, None, None), Next::Done),
            (refused(400, None, Some(-1001)), Next::SendTo(-1001)),
            (refused(401, None, None), Next::Later(60)),
            (refused(404, None, None), Next::Later(60)),
            (refused(403, None, None), Next::Done),
            (refused(402, None, None), Next::Done),
            (refused(408, None, None), Next::Later(5)),
            (refused(409, None, None), Next::Later(5)),
            (refused(413, None, None), Next::Done),
            (refused(425, None, None), Next::Later(5)),
            (refused(499, None, None), Next::Done),
            (Error::Foreign { status: 413 }, Next::Later(5)),
            (refused(429, Some(0), None), Next::Wait(seconds(1))),
            (refused(429, Some(5), None), Next::Wait(seconds(5))),
            (refused(429, Some(6), None), Next::Later(6)),
            (refused(429, Some(100_000), None), Next::Later(3600)),
            (refused(429, None, None), Next::Later(5)),
            (refused(500, None, None), Next::Later(5)),
            (Error::Foreign { status: 502 }, Next::Later(5)),
            (Error::Foreign { status: 200 }, Next::Later(5)),
            (Error::Unreachable(String::new()), Next::Later(5)),
            (Error::Broken(String::new()), Next::Again),
            (unanswered(), Next::Later(5)),
        ] {
            assert_eq!(next(&error, &Tried::default()), expected, "{error:?}");
        }
    }

    #[test]
    fn nothing_is_tried_for_ever() {
        let again = Tried { again: true, ..Tried::default() };
        assert_eq!(next(&Error::Broken(String::new()), &again), Next::Later(5));
        let moved = Tried { moved: true, ..Tried::default() };
        assert_eq!(next(&refused(400, None, Some(-1001)), &moved), Next::Done);
    }

    #[test]
    fn what_would_not_end_in_time_is_left_to_telegram() {
        let late = |seconds| Tried { elapsed: Duration::from_secs(seconds), ..Tried::default() };
        assert_eq!(next(&refused(429, Some(2), None), &late(20)), Next::Wait(Duration::from_secs(2)));
        assert_eq!(next(&refused(429, Some(2), None), &late(21)), Next::Later(2));
        assert_eq!(next(&Error::Broken(String::new()), &late(23)), Next::Later(5));
        assert_eq!(next(&refused(400, None, Some(-1001)), &late(23)), Next::Later(5));
    }

    #[test]
    fn a_long_outage_makes_the_tries_rare() {
        let after = |seconds| next(&unanswered(), &Tried { outage: Duration::from_secs(seconds), ..Tried::default() });
        assert_eq!(after(0), Next::Later(5));
        assert_eq!(after(60), Next::Later(30));
        assert_eq!(after(36_000), Next::Later(60));
    }

    #[test]
    fn no_wait_outlives_the_update() {
        let with = |left| next(&refused(429, Some(3000), None), &Tried { left, ..Tried::default() });
        assert_eq!(with(Some(86_400)), Next::Later(3000));
        assert_eq!(with(Some(2000)), Next::Later(1000));
        assert_eq!(with(Some(0)), Next::Later(1));
        assert_eq!(with(None), Next::Later(3000));

        assert_eq!(left(1_000_000, 1_000_100), Some(86_300));
        assert_eq!(left(1_000_000, 1_086_399), Some(1));
        // A clock that says what cannot be, says nothing.
        assert_eq!(left(1_000_000, 1_086_400), None);
        assert_eq!(left(1_000_000, 0), None);
        assert_eq!(left(0, i64::MIN), None);
    }
}
