//! The waits between tries of a call of the Bot API. Pure.

use std::time::Duration;

use crate::telegram::error::ApiError;

const FIRST_RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// The longest wait that a 429 can ask for, in seconds; Telegram's own are below it but for the
/// rarest.
const MAX_RETRY_AFTER: u64 = 3600;

/// The waits while Telegram says that it does not know the token: it can be mistaken.
const FIRST_TOKEN_RETRY_INTERVAL: Duration = Duration::from_secs(10);
const MAX_TOKEN_RETRY_INTERVAL: Duration = Duration::from_secs(3600);

/// How long to wait after the token was refused, and so often before, one time after the other.
pub(crate) fn token_pause(refusals_before: u32) -> Duration {
    FIRST_TOKEN_RETRY_INTERVAL
        .saturating_mul(1 << refusals_before.min(16))
        .min(MAX_TOKEN_RETRY_INTERVAL)
}

/// The waits of one kind of call: they double from 1 s to a longest one, or are what a 429 asks for.
pub(crate) struct RetryPause {
    longest: Duration,
    last: Option<Duration>,
}

impl RetryPause {
    /// Nothing has failed yet.
    pub(crate) fn new(longest: Duration) -> Self {
        Self {
            longest,
            last: None,
        }
    }

    /// How long to wait after this error; None where it is no error of the Bot API.
    pub(crate) fn after(&mut self, error: Option<&ApiError>) -> Duration {
        if let Some(ApiError::Refused {
            retry_after: Some(seconds),
            ..
        }) = error
        {
            return Duration::from_secs((*seconds).clamp(1, MAX_RETRY_AFTER));
        }
        let pause = match self.last {
            Some(last) => self.longest.min(last * 2),
            None => FIRST_RETRY_INTERVAL,
        };
        self.last = Some(pause);
        pause
    }

    /// The call has succeeded.
    pub(crate) fn reset(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_pauses_double_up_to_a_limit_and_a_retry_after_is_obeyed() {
        let mut retry_pause = RetryPause::new(Duration::from_secs(300));
        let gone = ApiError::Unreachable(String::new());
        let seconds: Vec<_> = (0..11)
            .map(|_| retry_pause.after(Some(&gone)).as_secs())
            .collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        let flood = |seconds| ApiError::Refused {
            code: 429,
            description: String::new(),
            retry_after: Some(seconds),
            migrate_to_chat_id: None,
        };
        let waits = [7, 0, 3600, u64::MAX]
            .map(|seconds| retry_pause.after(Some(&flood(seconds))).as_secs());
        assert_eq!(waits, [7, 1, 3600, 3600]);
        retry_pause.reset();
        assert_eq!(retry_pause.after(None).as_secs(), 1);
    }

    #[test]
    fn a_refused_token_is_tried_again_at_growing_intervals_without_end() {
        let seconds: Vec<_> = [0, 1, 2, 8, 9, 1000, u32::MAX]
            .map(|before| token_pause(before).as_secs())
            .into();
        assert_eq!(seconds, [10, 20, 40, 2560, 3600, 3600, 3600]);
    }
}
