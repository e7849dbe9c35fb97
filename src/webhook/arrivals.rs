//! What shows that Telegram gets in here: a TLS handshake of a known peer, or an update with path and secret.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Counts the arrivals, and tells the one who waits for the next.
#[derive(Debug, Default)]
pub struct Arrivals {
    count: AtomicU64,
    next: Notify,
}

impl Arrivals {
    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// One more.
    pub(crate) fn add(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.next.notify_one();
    }

    /// Waits until there were more than `count`. For one waiter only.
    pub(crate) async fn after(&self, count: u64) {
        // An arrival that nobody waited for wakes the next who waits, too.
        while self.count() <= count {
            self.next.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_arrival_from_before_the_wait_ends_no_wait() {
        let arrivals = Arrivals::default();
        arrivals.add();
        let count = arrivals.count();
        let waited = |count| timeout(Duration::from_secs(60), arrivals.after(count));
        assert!(waited(count).await.is_err());
        arrivals.add();
        assert!(waited(count).await.is_ok());
    }
}
