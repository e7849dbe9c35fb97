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

    /// Waits for an arrival since the last time that this was awaited. For one waiter only.
    pub(crate) async fn next(&self) {
        self.next.notified().await;
    }
}
