//! What the edge and the workers notice of one bot's webhook and token, for the thread that keeps
//! the webhook registered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::system::lock::lock;

/// So many requests with the right path and a wrong secret, with none between them that had the
/// right one, mean that the webhook was set with another secret; Telegram does not show the secret.
/// Fewer can come from a stranger, or from the moment of a change.
const WRONG_SECRETS: u32 = 3;
/// The least time from the first of them to the last.
const WRONG_SECRET_TIME: Duration = Duration::from_secs(5);

/// One bot's signals. Some are read by a look, and some ask for a look at once.
#[derive(Default)]
pub struct WebhookSignals {
    wrong_secrets: Mutex<WrongSecrets>,
    is_token_refused: AtomicBool,
    /// Asks for a look.
    on_news: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// The requests with a wrong secret since the last one with the right secret.
#[derive(Default)]
struct WrongSecrets {
    count: u32,
    first: Option<Instant>,
    is_verdict: bool,
}

impl WrongSecrets {
    /// Counts one more. Whether it makes the verdict that the webhook has another secret.
    fn add(&mut self, now: Instant) -> bool {
        self.count = self.count.saturating_add(1);
        let time = now.saturating_duration_since(*self.first.get_or_insert(now));
        let is_news = !self.is_verdict && self.count >= WRONG_SECRETS && time >= WRONG_SECRET_TIME;
        self.is_verdict |= is_news;
        is_news
    }
}

impl WebhookSignals {
    /// Sets what is called when a look is needed. Only the first call has an effect.
    pub(crate) fn on_news(&self, tell: impl Fn() + Send + Sync + 'static) {
        let _ = self.on_news.set(Box::new(tell));
    }

    /// A request has come with the right path and a wrong secret, or none.
    pub(crate) fn wrong_secret(&self, now: Instant) {
        if lock(&self.wrong_secrets).add(now) {
            self.tell();
        }
    }

    /// A request has come with the right secret, or the webhook was set with ours.
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

    /// The Bot API has accepted a call, and so knows the token.
    pub(super) fn token_accepted(&self) {
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

    fn signals() -> (WebhookSignals, Arc<AtomicUsize>) {
        let signals = WebhookSignals::default();
        let told = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&told);
        signals.on_news(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        (signals, told)
    }

    #[test]
    fn three_wrong_secrets_in_5_s_are_a_verdict_and_a_right_secret_ends_it() {
        let (signals, told) = signals();
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        for now in [0, 1, 2, 4_999] {
            signals.wrong_secret(at(now));
        }
        assert!(!signals.is_secret_wrong(), "all within five seconds");
        signals.wrong_secret(at(5_000));
        signals.wrong_secret(at(9_000));
        assert!(
            signals.is_secret_wrong() && told.load(Ordering::Relaxed) == 1,
            "it is told once"
        );
        signals.right_secret();
        assert!(!signals.is_secret_wrong());
        signals.wrong_secret(at(10_000));
        signals.wrong_secret(at(20_000));
        assert!(!signals.is_secret_wrong(), "two are not enough");
        signals.wrong_secret(at(20_001));
        assert!(signals.is_secret_wrong());
    }

    #[test]
    fn an_accepted_call_asks_for_a_look_only_after_a_refused_token() {
        let (signals, told) = signals();
        signals.token_accepted();
        assert_eq!(told.load(Ordering::Relaxed), 0);
        signals.token_refused();
        signals.token_accepted();
        signals.token_accepted();
        assert_eq!(told.load(Ordering::Relaxed), 1);
    }
}
