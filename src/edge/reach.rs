//! The owner of the fact that Telegram has reached this Pi: a TLS handshake of a known peer shows
//! it, and a request with path and secret. The owner also knows which statuses such requests got,
//! and the address from which a router forwards Telegram's connections.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::system::lock::lock;

/// Telegram's longest pause before it delivers an update again, where no `Retry-After` says another
/// (telegram-bot-api, `WebhookActor::on_update_error`).
const LONGEST_BACK_OFF: Duration = Duration::from_secs(120);

/// Counts how often Telegram has reached this Pi, and wakes the task that waits for the next time.
#[derive(Debug, Default)]
pub struct Reach {
    count: AtomicU64,
    next: Notify,
    from_home: Mutex<Option<IpAddr>>,
    /// By the bot's place in the settings; None is for handshakes and refusals that name no bot.
    records: Mutex<BTreeMap<Option<usize>, ReachRecord>>,
}

/// How Telegram has reached one bot, up to one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReachRecord {
    /// Handshakes of known peers. A handshake names no bot, so each of them counts for all.
    pub(crate) handshakes: u64,
    /// Requests with the bot's path and secret.
    pub(crate) requests: u64,
    /// How many of these requests are not answered yet.
    pub(crate) in_flight: usize,
    /// The end of the last handshake, and of the last exchange: an exchange lasts from its request
    /// until its answer.
    pub(crate) last: Option<Instant>,
    /// Which statuses other than 200 were answered, and when each was answered last.
    pub(crate) refused: BTreeMap<u16, Instant>,
    /// Telegram may wait until then before it delivers a refused update again.
    pub(crate) due: Option<Instant>,
}

impl ReachRecord {
    /// How often Telegram has reached the bot, by handshakes and requests.
    pub(crate) fn count(&self) -> u64 {
        self.handshakes + self.requests
    }

    fn refused(&mut self, status: u16, now: Instant) {
        self.refused.insert(status, now);
        self.last = Some(now);
    }

    fn is_due_in(&mut self, wait: Duration, now: Instant) {
        self.due = self.due.max(now.checked_add(wait));
    }

    /// Both together.
    fn and(mut self, other: &Self) -> Self {
        self.handshakes += other.handshakes;
        self.requests += other.requests;
        self.in_flight += other.in_flight;
        self.last = self.last.max(other.last);
        self.due = self.due.max(other.due);
        for (status, at) in &other.refused {
            let known = self.refused.entry(*status).or_insert(*at);
            *known = (*known).max(*at);
        }
        self
    }
}

impl Reach {
    /// How often Telegram has reached this Pi, by handshakes and requests of all bots.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// How Telegram has reached the bot at this place in the settings: its requests, and all
    /// handshakes.
    pub(crate) fn of(&self, bot: usize) -> ReachRecord {
        let records = lock(&self.records);
        let of_bot = records.get(&Some(bot)).cloned().unwrap_or_default();
        match records.get(&None) {
            Some(of_all) => of_bot.and(of_all),
            None => of_bot,
        }
    }

    /// A known peer has completed a handshake, or has shown that it knows our other certificate.
    pub(super) fn handshake(&self) {
        self.update(None, |record| {
            record.handshakes += 1;
            record.last = Some(Instant::now());
        });
        self.wake();
    }

    /// A request with the path and the secret of the bot at this place in the settings has begun.
    pub(super) fn begin(&self, bot: usize) -> Exchange<'_> {
        self.update(Some(bot), |record| {
            record.requests += 1;
            record.in_flight += 1;
        });
        self.wake();
        Exchange {
            reach: self,
            bot,
            is_answered: false,
        }
    }

    /// A request that does not show that Telegram has reached us was answered with this status: to a known
    /// peer, or at the path of this bot.
    pub(super) fn refused(&self, bot: Option<usize>, status: u16) {
        self.update(bot, |record| record.refused(status, Instant::now()));
    }

    /// A connection from this address of the home's own network was closed, since `allow_from` does
    /// not name it.
    pub(crate) fn closed_from_home(&self, address: IpAddr) {
        *lock(&self.from_home) = Some(address);
    }

    /// The last such address. Where Telegram does not reach this Pi, it is probably the address of a
    /// router that puts its own address in place of Telegram's.
    pub(crate) fn last_from_home(&self) -> Option<IpAddr> {
        *lock(&self.from_home)
    }

    /// Waits until [`Reach::count`] is above `count`. For one waiting task only.
    pub(crate) async fn after(&self, count: u64) {
        // A permit can be left from a time when nobody waited, so the count decides.
        while self.count() <= count {
            self.next.notified().await;
        }
    }

    fn update(&self, bot: Option<usize>, change: impl FnOnce(&mut ReachRecord)) {
        change(lock(&self.records).entry(bot).or_default());
    }

    fn wake(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.next.notify_one();
    }
}

/// A request of Telegram's that is in flight for as long as this lives.
pub(super) struct Exchange<'a> {
    reach: &'a Reach,
    bot: usize,
    is_answered: bool,
}

impl Exchange<'_> {
    /// The request gets this status, and after anything but 200 it comes again: after so many
    /// seconds, or when Telegram wants.
    pub(super) fn answered(&mut self, status: u16, retry_after: Option<u64>) {
        self.is_answered = true;
        if status == 200 {
            return;
        }
        let now = Instant::now();
        let wait = match retry_after {
            Some(seconds) => Duration::from_secs(seconds),
            None => LONGEST_BACK_OFF,
        };
        self.reach.update(Some(self.bot), |record| {
            record.refused(status, now);
            record.is_due_in(wait, now);
        });
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        self.reach.update(Some(self.bot), |record| {
            record.in_flight -= 1;
            record.last = Some(now);
            if !self.is_answered {
                record.is_due_in(LONGEST_BACK_OFF, now);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_handshake_before_the_wait_does_not_end_the_wait() {
        let reach = Reach::default();
        reach.handshake();
        let count = reach.count();
        let waited = |count| timeout(Duration::from_secs(60), reach.after(count));
        assert!(waited(count).await.is_err());
        drop(reach.begin(0));
        assert!(waited(count).await.is_ok());
    }

    #[test]
    fn an_exchange_is_in_flight_until_it_is_dropped_and_a_503_sets_due() {
        let reach = Reach::default();
        let start = Instant::now();
        let mut exchange = reach.begin(1);
        let record = reach.of(1);
        assert_eq!(
            (record.count(), record.in_flight, record.last),
            (1, 1, None)
        );
        exchange.answered(503, Some(3600));
        assert_eq!(reach.of(1).in_flight, 1, "the answer is on its way");
        drop(exchange);

        let record = reach.of(1);
        assert!(record.in_flight == 0 && record.last >= Some(start));
        assert!(record.due >= Some(start + Duration::from_secs(3600)));
        assert!(record.refused.keys().eq(&[503]));

        // A later and shorter wait of another chat does not end the long one.
        reach.begin(1).answered(503, Some(5));
        assert!(reach.of(1).due >= Some(start + Duration::from_secs(3600)));
    }

    #[test]
    fn an_exchange_without_an_answer_is_due_within_two_minutes() {
        let reach = Reach::default();
        let start = Instant::now();
        drop(reach.begin(0));
        let due = reach.of(0).due.unwrap();
        assert!(due >= start + LONGEST_BACK_OFF && due <= Instant::now() + LONGEST_BACK_OFF);

        let reach = Reach::default();
        reach.begin(0).answered(200, None);
        assert_eq!(reach.of(0).due, None);
    }

    #[test]
    fn a_handshake_counts_for_all_bots_and_a_request_for_its_own() {
        let reach = Reach::default();
        reach.handshake();
        drop(reach.begin(0));
        reach.refused(None, 404);
        reach.refused(Some(0), 403);
        assert_eq!(
            (reach.of(0).count(), reach.of(1).count(), reach.count()),
            (2, 1, 2)
        );
        assert_eq!((reach.of(0).requests, reach.of(1).requests), (1, 0));
        assert!(
            reach.of(0).refused.keys().eq(&[403, 404]) && reach.of(1).refused.keys().eq(&[404])
        );
    }
}
