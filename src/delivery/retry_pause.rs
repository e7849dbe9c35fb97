//! The waits between tries of a call of the Bot API. Pure.

use std::time::Duration;

use crate::telegram::error::ApiError;

const FIRST_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// They double from 1 s to a longest one, or are what a 429 asks for.
pub(crate) struct RetryPause {
    longest: Duration,
    last: Option<Duration>,
}

impl RetryPause {
    /// Nothing has failed yet.
    pub(crate) fn new(longest: Duration) -> Self {
        Self { longest, last: None }
    }

    /// How long to wait after this error; None is one of our own making.
    pub(crate) fn after(&mut self, error: Option<&ApiError>) -> Duration {
        if let Some(ApiError::Refused { retry_after: Some(seconds), .. }) = error {
            return Duration::from_secs((*seconds).max(1));
        }
        let pause = self.last.map_or(FIRST_RETRY_INTERVAL, |last| self.longest.min(last * 2));
        self.last = Some(pause);
        pause
    }

    /// It has succeeded.
    pub(crate) fn reset(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_give_way_to_telegrams_own() {
        let mut retry_pause = RetryPause::new(Duration::from_secs(300));
        let gone = ApiError::Unreachable(String::new());
        let seconds: Vec<_> = (0..11).map(|_| retry_pause.after(Some(&gone)).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        let flood = |seconds| ApiError::Refused {
            code: 429,
            description: String::new(),
            retry_after: Some(seconds),
            migrate_to_chat_id: None,
        };
        assert_eq!([7, 0].map(|seconds| retry_pause.after(Some(&flood(seconds))).as_secs()), [7, 1]);
        retry_pause.reset();
        assert_eq!(retry_pause.after(None).as_secs(), 1);
    }
}
