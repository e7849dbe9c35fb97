//! The retry policy: what happens next after a call that failed. The only place that decides it.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::de::IgnoredAny;

use crate::system::lock::lock;
use crate::telegram::client::CALL_TIMEOUT;
use crate::telegram::error::ApiError;
use crate::telegram::types::Update;

/// For all calls and waits of one update; the edge waits a little longer.
pub(super) const UPDATE_TIMEOUT: Duration = Duration::from_secs(42);
/// Seconds of a 429's `retry_after` that a worker waits out itself, below the 10 s that a stop
/// leaves.
const MAX_FLOOD_WAIT: u64 = 5;
/// Seconds after which Telegram is to deliver the update again. With a `Retry-After` it does so
/// exactly then; without one its own wait would grow.
const RETRY_AFTER: u64 = 5;
/// The same, in seconds, during a long outage of the Bot API.
const OUTAGE_RETRY_AFTER: u64 = 60;
/// The longest `Retry-After`, in seconds, that Telegram accepts (telegram-bot-api,
/// `WebhookActor::on_update_error`).
const MAX_RETRY_AFTER: u64 = 3600;
/// The longest wait, in seconds, of updates that Telegram keeps for a short time only: a tenth of
/// that time, or less (telegram-bot-api, `Client.cpp`: 150 s, 150 s, 150 s, 30 s, 600 s). With the
/// first four, a user looks at the screen until the bot answers.
const SHORT_LIVED: [(&str, u64); 5] = [
    ("callback_query", 15),
    ("shipping_query", 15),
    ("pre_checkout_query", 15),
    ("inline_query", 1),
    ("chosen_inline_result", 60),
];
/// Status codes from 400 to 499 of errors that pass with time: the token may be changed, a flood
/// end.
const PASSING_CODES: [u16; 6] = [401, 404, 408, 409, 425, 429];
/// Seconds that Telegram keeps an update after its message was written.
const UPDATE_LIFETIME: i64 = 24 * 3600;

/// What to do next for a call that failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NextStep {
    /// Nothing more: the Bot API will never accept this call.
    GiveUp,
    /// Let Telegram keep the update, and deliver it again after so many seconds.
    Defer(u64),
    /// Make the same call once more, at once.
    Retry,
    /// Make the same call once more, after this wait.
    Wait(Duration),
    /// Make the same call for this chat.
    SendTo(i64),
}

/// What was tried for a call so far, and how long it can wait.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    /// Since the update came.
    pub(crate) elapsed: Duration,
    /// The call was made once more, at once.
    pub(crate) is_retried: bool,
    /// The call went to the chat's new id.
    pub(crate) is_moved: bool,
    /// How long the Bot API has answered no call.
    pub(crate) outage: Duration,
    /// Seconds until Telegram drops the update, as far as this machine's clock can tell.
    pub(crate) seconds_left: Option<u64>,
    /// The longest wait, in seconds, that this kind of update can bear.
    pub(crate) longest_wait: Option<u64>,
}

/// Whether a call that begins so long after its update came ends in time.
pub(crate) fn is_in_time(elapsed: Duration) -> bool {
    elapsed + CALL_TIMEOUT <= UPDATE_TIMEOUT
}

/// Decides on a call that failed.
pub(crate) fn decide(error: &ApiError, attempts: &Attempts) -> NextStep {
    match error {
        // A group became a supergroup.
        ApiError::Refused {
            migrate_to_chat_id: Some(chat),
            ..
        } if !attempts.is_moved => {
            if is_in_time(attempts.elapsed) {
                NextStep::SendTo(*chat)
            } else {
                defer(RETRY_AFTER, attempts)
            }
        }
        // Its code, 404, is also that of a wrong token.
        error if error.is_unknown_method() => NextStep::GiveUp,
        // The user has blocked the bot, the chat is deleted, the text is too long…
        ApiError::Refused {
            code: code @ 400..=499,
            ..
        } if !PASSING_CODES.contains(code) => NextStep::GiveUp,
        ApiError::Refused {
            retry_after: Some(seconds),
            ..
        } => wait_or_defer(*seconds, attempts),
        // The token is not valid. When the user sets another one, the webhook is set again, and
        // Telegram then delivers everything at once.
        ApiError::Refused {
            code: 401 | 404, ..
        } => defer(OUTAGE_RETRY_AFTER, attempts),
        ApiError::StaleConnection(_) if !attempts.is_retried && is_in_time(attempts.elapsed) => {
            NextStep::Retry
        }
        _ => {
            // After an outage, users wait at most half as long as it took.
            let seconds = attempts.outage.as_secs() / 2;
            defer(seconds.clamp(RETRY_AFTER, OUTAGE_RETRY_AFTER), attempts)
        }
    }
}

/// What to do when the Bot API says how many seconds to wait.
fn wait_or_defer(retry_after: u64, attempts: &Attempts) -> NextStep {
    let longest = match attempts.longest_wait {
        Some(longest) => longest.min(MAX_FLOOD_WAIT),
        None => MAX_FLOOD_WAIT,
    };
    let wait = Duration::from_secs(retry_after.max(1));
    if retry_after <= longest && is_in_time(attempts.elapsed + wait) {
        NextStep::Wait(wait)
    } else {
        defer(retry_after, attempts)
    }
}

/// Defers for a time that Telegram accepts, and after which it still has the update.
fn defer(seconds: u64, attempts: &Attempts) -> NextStep {
    let mut longest = MAX_RETRY_AFTER;
    if let Some(left) = attempts.seconds_left {
        // Half of it leaves time for one more delivery.
        longest = longest.min(left / 2);
    }
    if let Some(longest_wait) = attempts.longest_wait {
        longest = longest.min(longest_wait);
    }
    NextStep::Defer(seconds.min(longest).max(1))
}

/// The longest wait, in seconds, that an update of this kind can bear. None for those that Telegram
/// keeps for a day.
pub(crate) fn longest_wait(update: &Update) -> Option<u64> {
    if update.any_message().is_some() {
        return None;
    }
    for (kind, seconds) in SHORT_LIVED {
        if update.get::<IgnoredAny>(kind).is_some() {
            return Some(seconds);
        }
    }
    None
}

/// Seconds until Telegram drops an update whose message has this date. Both times are Unix times in
/// seconds. None when the age cannot be true, so that this machine's clock must be wrong.
pub(crate) fn seconds_left(date: i64, now: i64) -> Option<u64> {
    let age = now.checked_sub(date)?;
    if !(0..UPDATE_LIFETIME).contains(&age) {
        return None;
    }
    Some((UPDATE_LIFETIME - age).unsigned_abs())
}

/// An outage of the Bot API: since when it has answered no call. All workers share it.
#[derive(Default)]
pub(crate) struct Outage(Mutex<Option<Instant>>);

impl Outage {
    /// Notes that the Bot API answered, whatever it said.
    pub(crate) fn ended(&self) {
        *self.since() = None;
    }

    /// Notes that the Bot API did not answer. Returns how long it has answered no call.
    pub(crate) fn goes_on(&self, now: Instant) -> Duration {
        let since = *self.since().get_or_insert(now);
        now.saturating_duration_since(since)
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
    fn each_error_of_the_bot_api_has_its_next_step() {
        let seconds = Duration::from_secs;
        for (error, expected) in [
            (refused(400, None, None), NextStep::GiveUp),
            (refused(400, None, Some(-1001)), NextStep::SendTo(-1001)),
            (refused(401, None, None), NextStep::Defer(60)),
            (refused(404, None, None), NextStep::Defer(60)),
            (refused(403, None, None), NextStep::GiveUp),
            (refused(402, None, None), NextStep::GiveUp),
            (refused(408, None, None), NextStep::Defer(5)),
            (refused(409, None, None), NextStep::Defer(5)),
            (refused(413, None, None), NextStep::GiveUp),
            (refused(425, None, None), NextStep::Defer(5)),
            (refused(499, None, None), NextStep::GiveUp),
            (ApiError::Foreign { status: 413 }, NextStep::Defer(5)),
            (refused(429, Some(0), None), NextStep::Wait(seconds(1))),
            (refused(429, Some(5), None), NextStep::Wait(seconds(5))),
            (refused(429, Some(6), None), NextStep::Defer(6)),
            (refused(429, Some(100_000), None), NextStep::Defer(3600)),
            (refused(429, None, None), NextStep::Defer(5)),
            (refused(500, None, None), NextStep::Defer(5)),
            (ApiError::Foreign { status: 502 }, NextStep::Defer(5)),
            (ApiError::Foreign { status: 200 }, NextStep::Defer(5)),
            (ApiError::Unreachable(String::new()), NextStep::Defer(5)),
            (ApiError::StaleConnection(String::new()), NextStep::Retry),
            (unanswered(), NextStep::Defer(5)),
        ] {
            assert_eq!(decide(&error, &Attempts::default()), expected, "{error:?}");
        }
    }

    #[test]
    fn an_unknown_method_is_given_up() {
        let unknown = ApiError::Refused {
            code: 404,
            description: "Not Found: method not found".into(),
            retry_after: None,
            migrate_to_chat_id: None,
        };
        assert_eq!(decide(&unknown, &Attempts::default()), NextStep::GiveUp);
    }

    #[test]
    fn retry_after_is_limited_for_short_lived_updates() {
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
                    seconds_left: Some(86_400),
                    ..Attempts::default()
                },
            )
        };
        let wait = |seconds| NextStep::Wait(Duration::from_secs(seconds));
        assert_eq!(
            within(15, &refused(429, Some(17), None)),
            NextStep::Defer(15)
        );
        assert_eq!(within(15, &refused(429, Some(7), None)), NextStep::Defer(7));
        assert_eq!(within(15, &refused(429, Some(5), None)), wait(5));
        assert_eq!(within(15, &refused(401, None, None)), NextStep::Defer(15));
        assert_eq!(within(1, &unanswered()), NextStep::Defer(1));
        assert_eq!(within(1, &refused(429, Some(2), None)), NextStep::Defer(1));
        assert_eq!(within(1, &refused(429, Some(1), None)), wait(1));
    }

    #[test]
    fn a_call_begins_only_when_it_can_end_in_time() {
        assert!(is_in_time(Duration::from_secs(22)));
        assert!(!is_in_time(Duration::from_millis(22_001)));
    }

    #[test]
    fn a_call_is_retried_once_and_moved_once() {
        let retried = Attempts {
            is_retried: true,
            ..Attempts::default()
        };
        assert_eq!(
            decide(&ApiError::StaleConnection(String::new()), &retried),
            NextStep::Defer(5)
        );
        let moved = Attempts {
            is_moved: true,
            ..Attempts::default()
        };
        assert_eq!(
            decide(&refused(400, None, Some(-1001)), &moved),
            NextStep::GiveUp
        );
    }

    #[test]
    fn a_retry_that_would_not_end_in_time_is_deferred() {
        let late = |seconds| Attempts {
            elapsed: Duration::from_secs(seconds),
            ..Attempts::default()
        };
        assert_eq!(
            decide(&refused(429, Some(2), None), &late(20)),
            NextStep::Wait(Duration::from_secs(2))
        );
        assert_eq!(
            decide(&refused(429, Some(2), None), &late(21)),
            NextStep::Defer(2)
        );
        assert_eq!(
            decide(&ApiError::StaleConnection(String::new()), &late(23)),
            NextStep::Defer(5)
        );
        assert_eq!(
            decide(&refused(400, None, Some(-1001)), &late(23)),
            NextStep::Defer(5)
        );
    }

    #[test]
    fn retry_after_grows_with_an_outage() {
        let after = |seconds| {
            decide(
                &unanswered(),
                &Attempts {
                    outage: Duration::from_secs(seconds),
                    ..Attempts::default()
                },
            )
        };
        assert_eq!(after(0), NextStep::Defer(5));
        assert_eq!(after(60), NextStep::Defer(30));
        assert_eq!(after(36_000), NextStep::Defer(60));
    }

    #[test]
    fn retry_after_is_at_most_half_of_the_time_that_is_left() {
        let with = |seconds_left| {
            decide(
                &refused(429, Some(3000), None),
                &Attempts {
                    seconds_left,
                    ..Attempts::default()
                },
            )
        };
        assert_eq!(with(Some(86_400)), NextStep::Defer(3000));
        assert_eq!(with(Some(2000)), NextStep::Defer(1000));
        assert_eq!(with(Some(0)), NextStep::Defer(1));
        assert_eq!(with(None), NextStep::Defer(3000));

        assert_eq!(seconds_left(1_000_000, 1_000_100), Some(86_300));
        assert_eq!(seconds_left(1_000_000, 1_086_399), Some(1));
        // An age that cannot be true shows a wrong clock.
        assert_eq!(seconds_left(1_000_000, 1_086_400), None);
        assert_eq!(seconds_left(1_000_000, 0), None);
        assert_eq!(seconds_left(0, i64::MIN), None);
    }
}
