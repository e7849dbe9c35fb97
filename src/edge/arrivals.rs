//! What shows that Telegram gets in here: a TLS handshake of a known peer, or an update with path
//! and secret. And what shows that it comes in disguise.

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::system::lock::lock;

/// Counts the arrivals, and tells the one who waits for the next.
#[derive(Debug, Default)]
pub struct Arrivals {
    count: AtomicU64,
    next: Notify,
    from_home: Mutex<Option<IpAddr>>,
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

    /// A connection from this address of the home's own network was closed, since `allow_from` does
    /// not name it.
    pub(crate) fn closed_from_home(&self, address: IpAddr) {
        *lock(&self.from_home) = Some(address);
    }

    /// The last such address. Where nothing else arrives, it is that of a router that rewrites the
    /// sources of what it forwards.
    pub(crate) fn last_from_home(&self) -> Option<IpAddr> {
        *lock(&self.from_home)
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
