//! The retry policy: what happens next when the Bot API did not take a call. The only place that
//! decides it.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::de::IgnoredAny;

use crate::system::lock::lock;
use crate::telegram::client::CALL_TIMEOUT;
use crate::telegram::error::ApiError;
use crate::telegram::types::Update;

/// For all calls and waits of one update; the edge waits a little longer.
pub(super) const UPDATE_TIMEOUT: Duration = Duration::from_secs(42);
/// Seconds of a flood wait that a worker waits out itself, below the 10 s that a stop leaves.
const MAX_FLOOD_WAIT: u64 = 5;
/// Seconds after which Telegram is to deliver the update again. With a `Retry-After` it does so
/// exactly then, and not after its own, growing back-off.
const RETRY_AFTER: u64 = 5;
/// The same, in seconds, during a long outage of the Bot API.
const OUTAGE_RETRY_AFTER: u64 = 60;
/// The longest wait that Telegram takes (telegram-bot-api, `WebhookActor::on_update_error`).
const MAX_RETRY_AFTER: u64 = 3600;
/// The longest wait, in seconds, of updates that Telegram keeps for a short time only: a tenth of
/// that, or less (telegram-bot-api, `Client.cpp`: 150 s, 150 s, 150 s, 30 s, 600 s). The first four
/// also wait for an answer on somebody's screen.
const SHORT_LIVED: [(&str, u64); 5] = [
    ("callback_query", 15),
    ("shipping_query", 15),
    ("pre_checkout_query", 15),
    ("inline_query", 1),
    ("chosen_inline_result", 60),
];
/// Seconds that Telegram keeps an update after its message was written.
const UPDATE_LIFETIME: i64 = 24 * 3600;

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Nothing more: this call will never be taken.
    Done,
    /// Let Telegram keep the update, and deliver it again after so many seconds.
    Later(u64),
    /// Make the same call once more, at once.
    Again,
    /// Make the same call once more, after this wait.
    Wait(Duration),
    /// Make the same call for this chat.
    SendTo(i64),
}

/// What was tried for this call so far.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
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
    /// The longest wait, in seconds, that this kind of update can bear.
    pub(crate) longest_wait: Option<u64>,
}

/// Whether a call that begins so long after its update came ends in time.
pub(crate) fn is_in_time(elapsed: Duration) -> bool {
    elapsed + CALL_TIMEOUT <= UPDATE_TIMEOUT
}

/// Decides on a call that was not taken.
pub(crate) fn decide(error: &ApiError, attempts: &Attempts) -> Decision {
    let in_time = |wait: Duration| is_in_time(attempts.elapsed + wait);
    match error {
        // A group became a supergroup.
        ApiError::Refused {
            migrate_to_chat_id: Some(chat),
            ..
        } if !attempts.moved => {
            if in_time(Duration::ZERO) {
                Decision::SendTo(*chat)
            } else {
                later(RETRY_AFTER, attempts)
            }
        }
        error if error.is_unknown_method() => Decision::Done,
        // This call will never be taken: blocked, kicked, deleted, too long… Others than these may
        // pass with time.
        ApiError::Refused {
            code: code @ 400..=499,
            ..
        } if ![401, 404, 408, 409, 425, 429].contains(code) => Decision::Done,
        ApiError::Refused {
            retry_after: Some(seconds),
            ..
        } => {
            let wait = Duration::from_secs((*seconds).max(1));
            if *seconds <= MAX_FLOOD_WAIT.min(attempts.longest_wait.unwrap_or(MAX_RETRY_AFTER))
                && in_time(wait)
            {
                Decision::Wait(wait)
            } else {
                later(*seconds, attempts)
            }
        }
        // Until someone sets another token; then Telegram brings everything back at once.
        ApiError::Refused {
            code: 401 | 404, ..
        } => later(OUTAGE_RETRY_AFTER, attempts),
        ApiError::StaleConnection(_) if !attempts.again && in_time(Duration::ZERO) => {
            Decision::Again
        }
        _ => later(
            (attempts.outage.as_secs() / 2).clamp(RETRY_AFTER, OUTAGE_RETRY_AFTER),
            attempts,
        ),
    }
}

/// A wait that Telegram takes, and at the end of which it still has the update.
fn later(seconds: u64, attempts: &Attempts) -> Decision {
    let limits = [attempts.left.map(|left| left / 2), attempts.longest_wait];
    let longest = limits.into_iter().flatten().fold(MAX_RETRY_AFTER, u64::min);
    Decision::Later(seconds.min(longest).max(1))
}

/// The longest wait, in seconds, that an update of this kind can bear; None for those that Telegram
/// keeps for a day.
pub(crate) fn longest_wait(update: &Update) -> Option<u64> {
    if update.any_message().is_some() {
        return None;
    }
    let is_there = |(name, _): &&(&str, u64)| update.get::<IgnoredAny>(name).is_some();
    SHORT_LIVED
        .iter()
        .find(is_there)
        .map(|(_, seconds)| *seconds)
}

/// Seconds until Telegram drops an update of this date; none when only a wrong clock can say so.
pub(crate) fn seconds_left(date: i64, now: i64) -> Option<u64> {
    let age = now.checked_sub(date)?;
    (0..UPDATE_LIFETIME)
        .contains(&age)
        .then(|| (UPDATE_LIFETIME - age).unsigned_abs())
}

/// An outage of the Bot API: since when no call was answered. All workers share it.
#[derive(Default)]
pub(crate) struct Outage(Mutex<Option<Instant>>);

impl Outage {
    /// Notes that the Bot API answered, whatever it said.
    pub(crate) fn ended(&self) {
        *self.since() = None;
    }

    /// Notes that it did not answer. Returns how long it has not.
    pub(crate) fn lasts(&self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.since().get_or_insert(now))
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        lock(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, retry_after: Option<u64>, migrate_to_chat_id: Option<i64>) -> ApiError {
        ApiError::Refused {
            code,
            description: String::new(),
            retry_after,
            migrate_to_chat_id,
        }
    }

    fn unanswered() -> ApiError {
        ApiError::Unanswered(String::new())
    }

    #[test]
    fn every_answer_has_its_consequence() {
        let seconds = Duration::from_secs;
        for (error, expected) in [
            (refused(400, None, None), Decision::Done),
            (refused(400, None, Some(-1001)), Decision::SendTo(-1001)),
            (refused(401, None, None), Decision::Later(60)),
            (refused(404, None, None), Decision::Later(60)),
            (refused(403, None, None), Decision::Done),
            (refused(402, None, None), Decision::Done),
            (refused(408, None, None), Decision::Later(5)),
            (refused(409, None, None), Decision::Later(5)),
            (refused(413, None, None), Decision::Done),
            (refused(425, None, None), Decision::Later(5)),
            (refused(499, None, None), Decision::Done),
            (ApiError::Foreign { status: 413 }, Decision::Later(5)),
            (refused(429, Some(0), None), Decision::Wait(seconds(1))),
            (refused(429, Some(5), None), Decision::Wait(seconds(5))),
            (refused(429, Some(6), None), Decision::Later(6)),
            (refused(429, Some(100_000), None), Decision::Later(3600)),
            (refused(429, None, None), Decision::Later(5)),
            (refused(500, None, None), Decision::Later(5)),
            (ApiError::Foreign { status: 502 }, Decision::Later(5)),
            (ApiError::Foreign { status: 200 }, Decision::Later(5)),
            (ApiError::Unreachable(String::new()), Decision::Later(5)),
            (ApiError::StaleConnection(String::new()), Decision::Again),
            (unanswered(), Decision::Later(5)),
        ] {
            assert_eq!(decide(&error, &Attempts::default()), expected, "{error:?}");
        }
    }

    #[test]
    fn an_unknown_method_will_never_be_taken() {
        let unknown = ApiError::Refused {
            code: 404,
            description: "Not Found: method not found".into(),
            retry_after: None,
            migrate_to_chat_id: None,
        };
        assert_eq!(decide(&unknown, &Attempts::default()), Decision::Done);
    }

    #[test]
    fn an_update_that_is_soon_too_old_waits_no_longer_than_it_can() {
        let limit = |json: &str| longest_wait(&Update::parse(json.as_bytes().to_vec()).unwrap());
        for (kind, seconds) in [
            ("callback_query", Some(15)),
            ("shipping_query", Some(15)),
            ("pre_checkout_query", Some(15)),
            ("inline_query", Some(1)),
            ("chosen_inline_result", Some(60)),
            ("my_chat_member", None),
        ] {
            let of_user = r#"{"id":"1","from":{"id":42}}"#;
            assert_eq!(
                limit(&format!(r#"{{"update_id":7,"{kind}":{of_user}}}"#)),
                seconds,
                "{kind}"
            );
        }
        assert_eq!(
            limit(r#"{"update_id":7,"message":{"message_id":1,"chat":{"id":42}}}"#),
            None
        );

        let within = |longest_wait, error: &ApiError| {
            decide(
                error,
                &Attempts {
                    longest_wait: Some(longest_wait),
                    left: Some(86_400),
                    ..Attempts::default()
                },
            )
        };
        let wait = |seconds| Decision::Wait(Duration::from_secs(seconds));
        assert_eq!(
            within(15, &refused(429, Some(17), None)),
            Decision::Later(15)
        );
        assert_eq!(within(15, &refused(429, Some(7), None)), Decision::Later(7));
        assert_eq!(within(15, &refused(429, Some(5), None)), wait(5));
        assert_eq!(within(15, &refused(401, None, None)), Decision::Later(15));
        assert_eq!(within(1, &unanswered()), Decision::Later(1));
        assert_eq!(within(1, &refused(429, Some(2), None)), Decision::Later(1));
        assert_eq!(within(1, &refused(429, Some(1), None)), wait(1));
    }

    #[test]
    fn the_last_call_of_an_update_begins_in_time() {
        assert!(is_in_time(Duration::from_secs(22)));
        assert!(!is_in_time(Duration::from_millis(22_001)));
    }

    #[test]
    fn nothing_is_tried_for_ever() {
        let again = Attempts {
            again: true,
            ..Attempts::default()
        };
        assert_eq!(
            decide(&ApiError::StaleConnection(String::new()), &again),
            Decision::Later(5)
        );
        let moved = Attempts {
            moved: true,
            ..Attempts::default()
        };
        assert_eq!(
            decide(&refused(400, None, Some(-1001)), &moved),
            Decision::Done
        );
    }

    #[test]
    fn what_would_not_end_in_time_is_left_to_telegram() {
        let late = |seconds| Attempts {
            elapsed: Duration::from_secs(seconds),
            ..Attempts::default()
        };
        assert_eq!(
            decide(&refused(429, Some(2), None), &late(20)),
            Decision::Wait(Duration::from_secs(2))
        );
        assert_eq!(
            decide(&refused(429, Some(2), None), &late(21)),
            Decision::Later(2)
        );
        assert_eq!(
            decide(&ApiError::StaleConnection(String::new()), &late(23)),
            Decision::Later(5)
        );
        assert_eq!(
            decide(&refused(400, None, Some(-1001)), &late(23)),
            Decision::Later(5)
        );
    }

    #[test]
    fn a_long_outage_makes_the_tries_rare() {
        let after = |seconds| {
            decide(
                &unanswered(),
                &Attempts {
                    outage: Duration::from_secs(seconds),
                    ..Attempts::default()
                },
            )
        };
        assert_eq!(after(0), Decision::Later(5));
        assert_eq!(after(60), Decision::Later(30));
        assert_eq!(after(36_000), Decision::Later(60));
    }

    #[test]
    fn no_wait_outlives_the_update() {
        let with = |left| {
            decide(
                &refused(429, Some(3000), None),
                &Attempts {
                    left,
                    ..Attempts::default()
                },
            )
        };
        assert_eq!(with(Some(86_400)), Decision::Later(3000));
        assert_eq!(with(Some(2000)), Decision::Later(1000));
        assert_eq!(with(Some(0)), Decision::Later(1));
        assert_eq!(with(None), Decision::Later(3000));

        assert_eq!(seconds_left(1_000_000, 1_000_100), Some(86_300));
        assert_eq!(seconds_left(1_000_000, 1_086_399), Some(1));
        // A clock that says what cannot be, says nothing.
        assert_eq!(seconds_left(1_000_000, 1_086_400), None);
        assert_eq!(seconds_left(1_000_000, 0), None);
        assert_eq!(seconds_left(0, i64::MIN), None);
    }
}
