//! How long Telegram is asked to hold a poll. Something on the way may cut calls that wait long: a
//! router that forgets idle connections, a proxy, a gateway that answers 504. Shorter polls get
//! through there. Pure.

use std::time::{Duration, Instant};

use crate::system::pause::EscalatingPause;
use crate::telegram::client::LONGEST_POLL;
use crate::telegram::error::ApiError;

/// In seconds. When even such a poll is cut, it is taken for an outage.
const SHORTEST_POLL: u32 = 5;
/// A call that ended sooner was not cut while it waited.
const LASTED: Duration = Duration::from_secs(2);
/// The wait after a cut before the longest poll is tried again: the network may be another one by
/// then. It doubles up to the longest one.
const FIRST_RETRY: Duration = Duration::from_secs(600);
const MAX_RETRY: Duration = Duration::from_secs(6 * 3600);

/// The length of one bot's polls.
pub(crate) struct PollLength {
    seconds: u32,
    retry: EscalatingPause,
}

impl PollLength {
    /// Nothing was cut yet.
    pub(crate) fn new() -> Self {
        Self {
            seconds: LONGEST_POLL,
            retry: EscalatingPause::new(FIRST_RETRY, MAX_RETRY),
        }
    }

    /// The seconds of a poll that begins at `now`.
    pub(crate) fn seconds(&mut self, now: Instant) -> u32 {
        if self.retry.is_over(now) {
            self.seconds = LONGEST_POLL;
        }
        self.seconds
    }

    /// Notes that a poll ended with `error` at `now`, after it had lasted this long. Whether it was
    /// cut while it waited: then the next one is shorter and may follow at once. A poll that is the
    /// shortest already has failed instead.
    pub(crate) fn was_cut(&mut self, error: &ApiError, lasted: Duration, now: Instant) -> bool {
        if lasted < LASTED || !is_cut(error) || self.seconds == SHORTEST_POLL {
            return false;
        }
        let lasted = u32::try_from(lasted.as_secs()).unwrap_or(LONGEST_POLL);
        self.seconds = (self.seconds.min(lasted) / 2).max(SHORTEST_POLL);
        self.retry.begin(now);
        true
    }
}

/// Whether something on the way may have ended the call: the connection broke, or a gateway lost
/// its patience.
fn is_cut(error: &ApiError) -> bool {
    match error {
        ApiError::StaleConnection(_) | ApiError::Unanswered(_) => true,
        ApiError::Foreign { status } => *status >= 500,
        ApiError::Refused {
            code, retry_after, ..
        } => *code >= 500 && retry_after.is_none(),
        ApiError::TooLarge | ApiError::Unreachable(_) | ApiError::WrongClock(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16) -> ApiError {
        ApiError::Refused {
            code,
            description: String::new(),
            retry_after: None,
            migrate_to_chat_id: None,
        }
    }

    #[test]
    fn a_poll_that_was_cut_makes_the_next_one_shorter() {
        let now = Instant::now();
        let reset = ApiError::Unanswered(String::new());
        // Seconds that polls lasted, one after the other, and the next poll's.
        for (lasted, next) in [
            (&[30][..], 15),
            (&[60], 25),
            (&[20, 10], 5),
            (&[7], 5),
            (&[2], 5),
            (&[45, 20], 10),
        ] {
            let mut length = PollLength::new();
            for seconds in lasted {
                assert!(
                    length.was_cut(&reset, Duration::from_secs(*seconds), now),
                    "{lasted:?}"
                );
            }
            assert_eq!(length.seconds(now), next, "{lasted:?}");
        }
    }

    #[test]
    fn only_a_poll_that_broke_while_it_waited_was_cut() {
        let now = Instant::now();
        let words = String::new;
        for (error, milliseconds, expected) in [
            (ApiError::Unanswered(words()), 30_000, true),
            (ApiError::StaleConnection(words()), 20_000, true),
            (ApiError::Foreign { status: 504 }, 30_000, true),
            (refused(502), 30_000, true),
            (ApiError::Unanswered(words()), 1999, false),
            (ApiError::StaleConnection(words()), 10, false),
            (ApiError::Foreign { status: 404 }, 30_000, false),
            (refused(409), 30_000, false),
            (refused(401), 30_000, false),
            (ApiError::Unreachable(words()), 5000, false),
            (ApiError::TooLarge, 30_000, false),
        ] {
            let mut length = PollLength::new();
            let lasted = Duration::from_millis(milliseconds);
            assert_eq!(
                length.was_cut(&error, lasted, now),
                expected,
                "{error:?} after {lasted:?}"
            );
            assert_eq!(
                length.seconds(now) < LONGEST_POLL,
                expected,
                "{error:?} after {lasted:?}"
            );
        }
    }

    #[test]
    fn the_shortest_poll_fails_and_the_longest_is_tried_again_at_growing_intervals() {
        let start = Instant::now();
        let reset = ApiError::Unanswered(String::new());
        let lasted = Duration::from_secs(5);
        let mut length = PollLength::new();
        assert!(length.was_cut(&reset, lasted, start));
        assert!(!length.was_cut(&reset, lasted, start), "it is an outage");
        assert_eq!(length.seconds(start + FIRST_RETRY - lasted), SHORTEST_POLL);
        let again = start + FIRST_RETRY;
        assert_eq!(length.seconds(again), LONGEST_POLL);
        assert!(length.was_cut(&reset, lasted, again));
        assert_eq!(
            length.seconds(again + 2 * FIRST_RETRY - lasted),
            SHORTEST_POLL
        );
        assert_eq!(length.seconds(again + 2 * FIRST_RETRY), LONGEST_POLL);
    }
}
