//! The updates that getUpdates has returned, and what became of each: which one goes to a worker
//! next, and which offset comes next. Pure.
//!
//! Telegram forgets the updates before an offset. So the offset is the lowest update that is not
//! done yet, and what comes after it is known already when the page is returned again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use crate::telegram::queue::{QueuedUpdate, UpdateQueue};

/// The most updates that a page can have.
const PAGE: usize = 100;

/// The updates that Telegram still keeps, as far as getUpdates has returned them.
pub(crate) struct PolledUpdates {
    known: BTreeMap<i64, Polled>,
    /// The offset behind the last page.
    next: Option<i64>,
    /// The most updates that the next page may have.
    limit: usize,
    /// The largest limit with which a page can be read, as far as is known.
    readable: usize,
    /// The offset that `readable` belongs to.
    limited: Option<i64>,
}

/// One update that getUpdates has returned.
struct Polled {
    queue: UpdateQueue,
    state: UpdateState,
}

enum UpdateState {
    /// It waits for a worker. With a time, it was deferred and waits until then.
    Waiting(Arc<str>, Option<Instant>),
    /// A worker has it.
    InFlight(Arc<str>),
    /// It is done. Telegram may not know that yet.
    Done,
}

impl PolledUpdates {
    /// Nothing is known yet.
    pub(crate) fn new() -> Self {
        Self {
            known: BTreeMap::new(),
            next: None,
            limit: PAGE,
            readable: PAGE,
            limited: None,
        }
    }

    /// The offset and the limit of the next call; there is no offset at first, and after an empty
    /// page.
    pub(crate) fn next_page(&mut self) -> (Option<i64>, usize) {
        let open = self
            .known
            .iter()
            .find(|(_, update)| !matches!(update.state, UpdateState::Done));
        let offset = match open {
            Some((lowest, _)) => Some(*lowest),
            None => self.next,
        };
        if offset != self.limited {
            // Another page may be smaller.
            self.readable = PAGE.min(2 * self.readable);
            self.limited = offset;
        }
        (offset, self.limit.min(self.readable))
    }

    /// The page was too large to be read. Whether a smaller one can be asked for: it is, until the
    /// offset moves, since behind the same offset lies the same large page.
    pub(crate) fn too_large(&mut self) -> bool {
        let limit = self.limit.min(self.readable);
        self.readable = (limit / 2).max(1);
        limit > 1
    }

    /// No page came. The line may be slow, and a smaller page gets through: it is asked for until a
    /// page comes.
    pub(crate) fn no_page(&mut self) {
        self.limit = (self.limit / 2).max(1);
    }

    /// Inserts what the call with [`PolledUpdates::next_page`] returned. Returns how many updates are
    /// new.
    pub(crate) fn insert_page(&mut self, page: Vec<QueuedUpdate>) -> usize {
        if page.len() < self.limit.min(self.readable) {
            // That was all that waits, and it could be read.
            self.readable = PAGE;
        }
        self.limit = PAGE;

        let ids: BTreeSet<i64> = page.iter().map(|update| update.id).collect();
        let last = ids.last().copied();
        // Updates that are missing from the page are confirmed, or have expired. Those behind the
        // page are not, since Telegram said nothing of them.
        self.known.retain(|id, update| {
            matches!(update.state, UpdateState::InFlight(_))
                || ids.contains(id)
                || last.is_some_and(|last| *id > last)
        });
        self.next = last.map(|last| last.saturating_add(1));

        let before = self.known.len();
        for QueuedUpdate { id, queue, body } in page {
            self.known.entry(id).or_insert(Polled {
                queue,
                state: UpdateState::Waiting(body.into(), None),
            });
        }
        self.known.len() - before
    }

    /// The next update for a worker: the first of a queue of which no other is in flight.
    pub(crate) fn next_for_worker(&mut self, now: Instant) -> Option<(i64, Arc<str>)> {
        let (id, _) = self
            .queue_heads()
            .find(|(_, due)| due.is_none_or(|due| due <= now))?;
        let update = self.known.get_mut(&id)?;
        let UpdateState::Waiting(body, _) = &update.state else {
            return None;
        };
        let body = Arc::clone(body);
        update.state = UpdateState::InFlight(Arc::clone(&body));
        Some((id, body))
    }

    /// When the next deferred update is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.queue_heads().filter_map(|(_, due)| due).min()
    }

    /// The first update of each queue, unless it is in flight, and when it is due.
    fn queue_heads(&self) -> impl Iterator<Item = (i64, Option<Instant>)> {
        let mut seen = BTreeSet::new();
        self.known
            .iter()
            .filter_map(move |(id, update)| match update.state {
                UpdateState::Done => None,
                _ if !seen.insert(&update.queue) => None,
                UpdateState::Waiting(_, due) => Some((*id, due)),
                UpdateState::InFlight(_) => None,
            })
    }

    /// A worker has done it.
    pub(crate) fn done(&mut self, id: i64) {
        if let Some(update) = self.known.get_mut(&id) {
            update.state = UpdateState::Done;
        }
    }

    /// A worker has deferred it until then.
    pub(crate) fn defer(&mut self, id: i64, until: Instant) {
        if let Some(update) = self.known.get_mut(&id)
            && let UpdateState::InFlight(body) = &update.state
        {
            update.state = UpdateState::Waiting(Arc::clone(body), Some(until));
        }
    }

    /// Updates that workers have.
    pub(crate) fn in_flight(&self) -> usize {
        self.known
            .values()
            .filter(|update| matches!(update.state, UpdateState::InFlight(_)))
            .count()
    }

    /// Whether all known updates are done.
    pub(crate) fn is_all_done(&self) -> bool {
        self.known
            .values()
            .all(|update| matches!(update.state, UpdateState::Done))
    }

    /// Whether an update is done and Telegram does not know it: another call must say so.
    pub(crate) fn is_unconfirmed(&self) -> bool {
        match self.known.first_key_value() {
            Some((_, lowest)) => matches!(lowest.state, UpdateState::Done),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{json, value::to_raw_value};
    use std::time::Duration;

    /// Updates with these ids, each in the chat of its number.
    fn page(updates: &[(i64, i64)]) -> Vec<QueuedUpdate> {
        let read = |(id, chat): &(i64, i64)| {
            let json = json!({"update_id": id, "message": {"chat": {"id": chat}}});
            QueuedUpdate::read(&to_raw_value(&json).unwrap()).unwrap()
        };
        updates.iter().map(read).collect()
    }

    fn chats_of_their_own(ids: impl Iterator<Item = i64>) -> Vec<QueuedUpdate> {
        page(&ids.map(|id| (id, id)).collect::<Vec<_>>())
    }

    fn handed_out(polled: &mut PolledUpdates, now: Instant) -> Vec<i64> {
        std::iter::from_fn(|| polled.next_for_worker(now).map(|(id, _)| id)).collect()
    }

    #[test]
    fn the_first_call_has_no_offset_and_later_ones_the_lowest_that_is_not_done() {
        let mut polled = PolledUpdates::new();
        let now = Instant::now();
        assert_eq!(polled.next_page(), (None, 100));
        assert_eq!(polled.insert_page(chats_of_their_own(5..8)), 3);
        assert_eq!(polled.next_page(), (Some(5), 100));
        assert_eq!(handed_out(&mut polled, now), [5, 6, 7]);
        polled.done(6);
        assert_eq!(
            (polled.next_page().0, polled.is_unconfirmed()),
            (Some(5), false),
            "6 is behind one that is not done"
        );
        polled.done(5);
        assert_eq!(
            (polled.next_page().0, polled.is_unconfirmed()),
            (Some(7), true)
        );
        assert_eq!(polled.insert_page(chats_of_their_own(7..8)), 0);
        assert!(!polled.is_all_done() && !polled.is_unconfirmed());
        polled.done(7);
        assert!(polled.is_all_done() && polled.is_unconfirmed());
        assert_eq!(polled.next_page().0, Some(8));
        // Confirmed; a numbering that begins elsewhere after a quiet week is not missed.
        assert_eq!(polled.insert_page(Vec::new()), 0);
        assert!(!polled.is_unconfirmed());
        assert_eq!(polled.next_page().0, None);
    }

    #[test]
    fn a_queue_has_one_update_in_flight_and_queues_go_side_by_side() {
        let mut polled = PolledUpdates::new();
        let now = Instant::now();
        polled.insert_page(page(&[(1, 7), (2, 8), (3, 7), (4, 7), (5, 9)]));
        assert_eq!(handed_out(&mut polled, now), [1, 2, 5]);
        assert_eq!(polled.in_flight(), 3);
        polled.done(1);
        assert_eq!(handed_out(&mut polled, now), [3]);
        polled.done(2);
        assert_eq!(handed_out(&mut polled, now), [0; 0]);
    }

    #[test]
    fn a_deferred_update_holds_its_queue_and_no_other() {
        let mut polled = PolledUpdates::new();
        let now = Instant::now();
        polled.insert_page(page(&[(1, 7), (2, 7), (3, 8)]));
        assert_eq!(handed_out(&mut polled, now), [1, 3]);
        let due = now + Duration::from_secs(60);
        polled.defer(1, due);
        polled.done(3);
        assert_eq!(
            (
                handed_out(&mut polled, now),
                polled.next_due(),
                polled.in_flight()
            ),
            (vec![], Some(due), 0)
        );
        let (id, body) = polled.next_for_worker(due).unwrap();
        assert_eq!((id, body.contains("\"update_id\":1")), (1, true));
        polled.done(1);
        assert_eq!(handed_out(&mut polled, now), [2]);
    }

    #[test]
    fn behind_a_deferred_update_99_go_on_and_then_all_wait() {
        let mut polled = PolledUpdates::new();
        let now = Instant::now();
        // Telegram has 150.
        polled.insert_page(chats_of_their_own(1..101));
        for id in handed_out(&mut polled, now) {
            if id == 1 {
                polled.defer(1, now + Duration::from_secs(60));
            } else {
                polled.done(id);
            }
        }
        for _ in 0..3 {
            assert_eq!(polled.next_page(), (Some(1), 100));
            assert_eq!(
                polled.insert_page(chats_of_their_own(1..101)),
                0,
                "known, and not handled again"
            );
            assert_eq!(handed_out(&mut polled, now), [0; 0]);
        }
        assert!(!polled.is_unconfirmed());
        assert_eq!(handed_out(&mut polled, now + Duration::from_secs(60)), [1]);
        polled.done(1);
        assert_eq!(polled.next_page(), (Some(101), 100));
        assert_eq!(polled.insert_page(chats_of_their_own(101..151)), 50);
        assert_eq!(handed_out(&mut polled, now).len(), 50);
    }

    #[test]
    fn an_update_that_telegram_no_longer_returns_is_forgotten() {
        let mut polled = PolledUpdates::new();
        let now = Instant::now();
        polled.insert_page(page(&[(1, 7), (2, 8), (3, 9)]));
        assert_eq!(handed_out(&mut polled, now), [1, 2, 3]);
        polled.defer(1, now);
        polled.defer(3, now);
        // 1 has expired, 2 too, but a worker has it. What lies behind a shorter page is still
        // there.
        polled.insert_page(page(&[]));
        assert_eq!(
            (handed_out(&mut polled, now), polled.in_flight()),
            (vec![], 1)
        );
        polled.done(2);
        assert_eq!(polled.next_page().0, None);
        polled.insert_page(page(&[(4, 7), (5, 8)]));
        polled.insert_page(page(&[(4, 7)]));
        assert_eq!(handed_out(&mut polled, now), [4, 5]);
    }

    #[test]
    fn a_page_that_is_too_large_is_halved_until_its_offset_moves() {
        let mut polled = PolledUpdates::new();
        let now = Instant::now();
        let limits: Vec<_> = (0..8)
            .map(|_| (polled.next_page().1, polled.too_large()))
            .collect();
        let halved = [100, 50, 25, 12, 6, 3];
        assert_eq!(limits[..6], halved.map(|limit| (limit, true)));
        assert_eq!(limits[6..], [(1, false), (1, false)], "less is no page");
        polled.insert_page(chats_of_their_own(1..2));
        assert_eq!(
            polled.next_page(),
            (Some(1), 2),
            "the first offset there is"
        );
        polled.insert_page(chats_of_their_own(1..3));
        assert_eq!(
            polled.next_page(),
            (Some(1), 2),
            "the same offset has the same large page"
        );
        for id in handed_out(&mut polled, now) {
            polled.done(id);
        }
        // With each page that gets through, the next one may be larger; one that is not full was
        // all there is.
        assert_eq!(polled.next_page(), (Some(3), 4));
        polled.insert_page(chats_of_their_own(3..6));
        assert_eq!(polled.next_page(), (Some(3), 100));
    }

    #[test]
    fn a_page_after_failures_restores_the_limit() {
        let mut polled = PolledUpdates::new();
        let now = Instant::now();
        polled.insert_page(chats_of_their_own(1..2));
        for id in handed_out(&mut polled, now) {
            polled.defer(id, now + Duration::from_secs(240));
        }
        let limits: Vec<_> = (0..9)
            .map(|_| {
                polled.no_page();
                polled.next_page().1
            })
            .collect();
        assert_eq!(limits, [50, 25, 12, 6, 3, 1, 1, 1, 1]);
        polled.insert_page(chats_of_their_own(1..2));
        assert_eq!(
            polled.next_page(),
            (Some(1), 100),
            "although the offset is the same"
        );

        // What is too large stays too large, whatever failed besides.
        assert!(polled.too_large());
        polled.no_page();
        polled.no_page();
        assert_eq!(polled.next_page(), (Some(1), 25));
        polled.insert_page(chats_of_their_own(1..26));
        assert_eq!(polled.next_page(), (Some(1), 50));
    }
}
