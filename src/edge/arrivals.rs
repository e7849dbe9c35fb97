//! The owner of the fact that Telegram gets in: by a TLS handshake of a known peer, or by a request
//! with path and secret. It also knows what such requests were answered, and what shows that
//! Telegram comes in disguise.

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

/// Counts the arrivals, and tells the one who waits for the next.
#[derive(Debug, Default)]
pub struct Arrivals {
    count: AtomicU64,
    next: Notify,
    from_home: Mutex<Option<IpAddr>>,
    /// By the bot's place in the settings; None is for what names no bot.
    arrived: Mutex<BTreeMap<Option<usize>, Arrived>>,
}

/// What has come in until one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrived {
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
    /// Until then Telegram may wait before it delivers an update again that was refused.
    pub(crate) due: Option<Instant>,
}

impl Arrived {
    /// Handshakes and requests.
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

impl Arrivals {
    /// How many handshakes of known peers and requests there were, of all bots.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// What has come in for the bot at this place in the settings: its requests, and all
    /// handshakes.
    pub(crate) fn of(&self, bot: usize) -> Arrived {
        let arrived = lock(&self.arrived);
        let of_bot = arrived.get(&Some(bot)).cloned().unwrap_or_default();
        match arrived.get(&None) {
            Some(of_all) => of_bot.and(of_all),
            None => of_bot,
        }
    }

    /// A known peer has completed a handshake, or has shown that it knows our other certificate.
    pub(super) fn handshake(&self) {
        self.note(None, |arrived| {
            arrived.handshakes += 1;
            arrived.last = Some(Instant::now());
        });
        self.tell();
    }

    /// A request with the path and the secret of the bot at this place in the settings has begun.
    pub(super) fn begin(&self, bot: usize) -> Exchange<'_> {
        self.note(Some(bot), |arrived| {
            arrived.requests += 1;
            arrived.in_flight += 1;
        });
        self.tell();
        Exchange {
            arrivals: self,
            bot,
            is_answered: false,
        }
    }

    /// A request that is no arrival was answered with this status: to a known peer, or at the path
    /// of this bot.
    pub(super) fn refused(&self, bot: Option<usize>, status: u16) {
        self.note(bot, |arrived| arrived.refused(status, Instant::now()));
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

    fn note(&self, bot: Option<usize>, what: impl FnOnce(&mut Arrived)) {
        what(lock(&self.arrived).entry(bot).or_default());
    }

    fn tell(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.next.notify_one();
    }
}

/// A request of Telegram's that is in flight for as long as this lives.
pub(super) struct Exchange<'a> {
    arrivals: &'a Arrivals,
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
        let wait = retry_after.map_or(LONGEST_BACK_OFF, Duration::from_secs);
        self.arrivals.note(Some(self.bot), |arrived| {
            arrived.refused(status, now);
            arrived.is_due_in(wait, now);
        });
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        self.arrivals.note(Some(self.bot), |arrived| {
            arrived.in_flight -= 1;
            arrived.last = Some(now);
            if !self.is_answered {
                arrived.is_due_in(LONGEST_BACK_OFF, now);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_arrival_from_before_the_wait_ends_no_wait() {
        let arrivals = Arrivals::default();
        arrivals.handshake();
        let count = arrivals.count();
        let waited = |count| timeout(Duration::from_secs(60), arrivals.after(count));
        assert!(waited(count).await.is_err());
        drop(arrivals.begin(0));
        assert!(waited(count).await.is_ok());
    }

    #[test]
    fn an_exchange_is_in_flight_until_its_answer_and_a_refusal_says_when_it_comes_again() {
        let arrivals = Arrivals::default();
        let start = Instant::now();
        let mut exchange = arrivals.begin(1);
        let arrived = arrivals.of(1);
        assert_eq!(
            (arrived.count(), arrived.in_flight, arrived.last),
            (1, 1, None)
        );
        exchange.answered(503, Some(3600));
        assert_eq!(arrivals.of(1).in_flight, 1, "the answer is on its way");
        drop(exchange);

        let arrived = arrivals.of(1);
        assert!(arrived.in_flight == 0 && arrived.last >= Some(start));
        assert!(arrived.due >= Some(start + Duration::from_secs(3600)));
        assert!(arrived.refused.keys().eq(&[503]));

        // A later and shorter wait of another chat does not end the long one.
        arrivals.begin(1).answered(503, Some(5));
        assert!(arrivals.of(1).due >= Some(start + Duration::from_secs(3600)));
    }

    #[test]
    fn one_that_ends_without_an_answer_may_come_again_within_two_minutes() {
        let arrivals = Arrivals::default();
        let start = Instant::now();
        drop(arrivals.begin(0));
        let due = arrivals.of(0).due.unwrap();
        assert!(due >= start + LONGEST_BACK_OFF && due <= Instant::now() + LONGEST_BACK_OFF);

        let arrivals = Arrivals::default();
        arrivals.begin(0).answered(200, None);
        assert_eq!(arrivals.of(0).due, None);
    }

    #[test]
    fn a_handshake_counts_for_all_bots_and_a_request_for_its_own() {
        let arrivals = Arrivals::default();
        arrivals.handshake();
        drop(arrivals.begin(0));
        arrivals.refused(None, 404);
        arrivals.refused(Some(0), 403);
        assert_eq!(
            (
                arrivals.of(0).count(),
                arrivals.of(1).count(),
                arrivals.count()
            ),
            (2, 1, 2)
        );
        assert_eq!((arrivals.of(0).requests, arrivals.of(1).requests), (1, 0));
        assert!(
            arrivals.of(0).refused.keys().eq(&[403, 404])
                && arrivals.of(1).refused.keys().eq(&[404])
        );
    }
}
