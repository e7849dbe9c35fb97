//! What the webhook notices of a bot, for whoever keeps it registered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::system::lock::lock;

/// So many requests with the right path and another secret, one after the other, and in so long a
/// time at least: then the webhook was set with another secret. Telegram does not show it. Fewer
/// can be a stranger's, or from a moment of change.
const WRONG_SECRETS: u32 = 3;
const WRONG_SECRET_TIME: Duration = Duration::from_secs(5);

/// One bot's.
#[derive(Default)]
pub struct Observations {
    wrong_secrets: Mutex<WrongSecrets>,
    is_token_refused: AtomicBool,
    on_news: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// Those since the last request with the right secret.
#[derive(Default)]
struct WrongSecrets {
    count: u32,
    first: Option<Instant>,
    is_verdict: bool,
}

impl WrongSecrets {
    /// Takes in one more. Whether it makes a verdict of them.
    fn add(&mut self, now: Instant) -> bool {
        self.count = self.count.saturating_add(1);
        let time = now.saturating_duration_since(*self.first.get_or_insert(now));
        let is_news = !self.is_verdict && self.count >= WRONG_SECRETS && time >= WRONG_SECRET_TIME;
        self.is_verdict |= is_news;
        is_news
    }
}

impl Observations {
    /// Calls `tell` when there is something to look at. For the first who asks.
    pub(crate) fn on_news(&self, tell: impl Fn() + Send + Sync + 'static) {
        let _ = self.on_news.set(Box::new(tell));
    }

    /// A request has come with the right path and a wrong secret, or none.
    pub(crate) fn wrong_secret(&self, now: Instant) {
        if lock(&self.wrong_secrets).add(now) {
            self.tell();
        }
    }

    /// One has come with the right secret, or the webhook was set with ours.
    pub(crate) fn right_secret(&self) {
        *lock(&self.wrong_secrets) = WrongSecrets::default();
    }

    /// Whether the webhook was set with another secret.
    pub(crate) fn is_secret_wrong(&self) -> bool {
        lock(&self.wrong_secrets).is_verdict
    }

    /// The Bot API says that it does not know the token.
    pub(crate) fn token_refused(&self) {
        self.is_token_refused.store(true, Ordering::Relaxed);
    }

    /// The Bot API took a call.
    pub(super) fn call_taken(&self) {
        if self.is_token_refused.swap(false, Ordering::Relaxed) {
            self.tell();
        }
    }

    fn tell(&self) {
        if let Some(tell) = self.on_news.get() {
            tell();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    fn observations() -> (Observations, Arc<AtomicUsize>) {
        let (observations, told) = (Observations::default(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&told);
        observations.on_news(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        (observations, told)
    }

    #[test]
    fn three_wrong_secrets_in_five_seconds_are_a_verdict_and_a_right_one_is_none() {
        let ((observations, told), start) = (observations(), Instant::now());
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        for now in [0, 1, 2, 4_999] {
            observations.wrong_secret(at(now));
        }
        assert!(!observations.is_secret_wrong(), "all within five seconds");
        observations.wrong_secret(at(5_000));
        observations.wrong_secret(at(9_000));
        assert!(
            observations.is_secret_wrong() && told.load(Ordering::Relaxed) == 1,
            "it is told once"
        );
        observations.right_secret();
        assert!(!observations.is_secret_wrong());
        observations.wrong_secret(at(10_000));
        observations.wrong_secret(at(20_000));
        assert!(!observations.is_secret_wrong(), "two are not enough");
        observations.wrong_secret(at(20_001));
        assert!(observations.is_secret_wrong());
    }

    #[test]
    fn a_call_that_is_taken_is_news_only_where_the_token_was_refused() {
        let (observations, told) = observations();
        observations.call_taken();
        assert_eq!(told.load(Ordering::Relaxed), 0);
        observations.token_refused();
        observations.call_taken();
        observations.call_taken();
        assert_eq!(told.load(Ordering::Relaxed), 1);
    }
}
