//! The updates that getUpdates has returned, and what became of each: which one goes to a worker
//! next, and which offset comes next. Pure.
//!
//! Telegram forgets what lies before an offset. So the offset is the lowest update that is not
//! through yet, and what comes after it is known already when the page is returned again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use crate::telegram::queue::{QueuedUpdate, UpdateQueue};

/// The most updates that a page can have.
const PAGE: usize = 100;

/// What Telegram keeps, and we know of.
pub(crate) struct PolledUpdates {
    known: BTreeMap<i64, Polled>,
    /// Behind the last page.
    next: Option<i64>,
    /// The most updates that the next page may have.
    limit: usize,
    /// The largest limit with which a page can be read, as far as is known.
    readable: usize,
    /// The offset that `readable` belongs to.
    limited: Option<i64>,
}

struct Polled {
    queue: UpdateQueue,
    state: State,
}

enum State {
    /// Not before then, if it was put off.
    Waiting(Arc<str>, Option<Instant>),
    /// A worker has it.
    InFlight(Arc<str>),
    /// It is dealt with; Telegram does not know it yet.
    Through,
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
        let lowest = self
            .known
            .iter()
            .find(|(_, update)| !matches!(update.state, State::Through));
        let offset = lowest.map(|(id, _)| *id).or(self.next);
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

    /// Takes in what the call of [`PolledUpdates::next_page`] returned. Returns how many updates
    /// are new.
    pub(crate) fn take_page(&mut self, page: Vec<QueuedUpdate>) -> usize {
        if page.len() < self.limit.min(self.readable) {
            // That was all that waits, and it could be read.
            self.readable = PAGE;
        }
        self.limit = PAGE;

        let ids: BTreeSet<i64> = page.iter().map(|update| update.id).collect();
        let last = ids.last().copied();
        // What Telegram has no longer is confirmed, or has expired. Of what lies behind the page it
        // said nothing.
        self.known.retain(|id, update| {
            matches!(update.state, State::InFlight(_))
                || ids.contains(id)
                || last.is_some_and(|last| *id > last)
        });
        self.next = last.map(|last| last.saturating_add(1));
        let before = self.known.len();
        for QueuedUpdate { id, queue, body } in page {
            self.known.entry(id).or_insert(Polled {
                queue,
                state: State::Waiting(body.into(), None),
            });
        }
        self.known.len() - before
    }

    /// The next update for a worker: the first of a queue of which no other is in flight.
    pub(crate) fn take(&mut self, now: Instant) -> Option<(i64, Arc<str>)> {
        let id = self
            .firsts()
            .find(|(_, due)| due.is_none_or(|due| due <= now))
            .map(|(id, _)| id)?;
        let update = self.known.get_mut(&id)?;
        let State::Waiting(body, _) = &update.state else {
            return None;
        };
        let body = Arc::clone(body);
        update.state = State::InFlight(Arc::clone(&body));
        Some((id, body))
    }

    /// When the next update that was put off is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.firsts().filter_map(|(_, due)| due).min()
    }

    /// The first update of each queue, unless it is in flight, and when it is due.
    fn firsts(&self) -> impl Iterator<Item = (i64, Option<Instant>)> {
        let mut seen = BTreeSet::new();
        self.known.iter().filter_map(move |(id, update)| {
            if matches!(update.state, State::Through) || !seen.insert(&update.queue) {
                return None;
            }
            match update.state {
                State::Waiting(_, due) => Some((*id, due)),
                _ => None,
            }
        })
    }

    /// A worker has dealt with it.
    pub(crate) fn through(&mut self, id: i64) {
        if let Some(update) = self.known.get_mut(&id) {
            update.state = State::Through;
        }
    }

    /// A worker has put it off.
    pub(crate) fn put_off(&mut self, id: i64, until: Instant) {
        if let Some(update) = self.known.get_mut(&id)
            && let State::InFlight(body) = &update.state
        {
            update.state = State::Waiting(Arc::clone(body), Some(until));
        }
    }

    /// Updates that workers have.
    pub(crate) fn in_flight(&self) -> usize {
        self.known
            .values()
            .filter(|update| matches!(update.state, State::InFlight(_)))
            .count()
    }

    /// Whether nothing is left to be done.
    pub(crate) fn is_all_through(&self) -> bool {
        self.known
            .values()
            .all(|update| matches!(update.state, State::Through))
    }

    /// Whether something is through and Telegram does not know it: another call must say so.
    pub(crate) fn is_unconfirmed(&self) -> bool {
        self.known
            .values()
            .next()
            .is_some_and(|update| matches!(update.state, State::Through))
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

    fn taken(polled: &mut PolledUpdates, now: Instant) -> Vec<i64> {
        std::iter::from_fn(|| polled.take(now).map(|(id, _)| id)).collect()
    }

    #[test]
    fn the_first_call_has_no_offset_and_later_ones_the_lowest_that_is_not_through() {
        let (mut polled, now) = (PolledUpdates::new(), Instant::now());
        assert_eq!(polled.next_page(), (None, 100));
        assert_eq!(polled.take_page(chats_of_their_own(5..8)), 3);
        assert_eq!(polled.next_page(), (Some(5), 100));
        assert_eq!(taken(&mut polled, now), [5, 6, 7]);
        polled.through(6);
        assert_eq!(
            (polled.next_page().0, polled.is_unconfirmed()),
            (Some(5), false),
            "6 is behind one that is not through"
        );
        polled.through(5);
        assert_eq!(
            (polled.next_page().0, polled.is_unconfirmed()),
            (Some(7), true)
        );
        assert_eq!(polled.take_page(chats_of_their_own(7..8)), 0);
        assert!(!polled.is_all_through() && !polled.is_unconfirmed());
        polled.through(7);
        assert!(polled.is_all_through() && polled.is_unconfirmed());
        assert_eq!(polled.next_page().0, Some(8));
        // Confirmed; a numbering that begins elsewhere after a quiet week is not missed.
        assert_eq!(polled.take_page(Vec::new()), 0);
        assert!(!polled.is_unconfirmed());
        assert_eq!(polled.next_page().0, None);
    }

    #[test]
    fn one_at_a_time_of_a_queue_and_all_queues_at_once() {
        let (mut polled, now) = (PolledUpdates::new(), Instant::now());
        polled.take_page(page(&[(1, 7), (2, 8), (3, 7), (4, 7), (5, 9)]));
        assert_eq!(taken(&mut polled, now), [1, 2, 5]);
        assert_eq!(polled.in_flight(), 3);
        polled.through(1);
        assert_eq!(taken(&mut polled, now), [3]);
        polled.through(2);
        assert_eq!(taken(&mut polled, now), [0; 0]);
    }

    #[test]
    fn what_is_put_off_holds_its_queue_and_no_other() {
        let (mut polled, now) = (PolledUpdates::new(), Instant::now());
        polled.take_page(page(&[(1, 7), (2, 7), (3, 8)]));
        assert_eq!(taken(&mut polled, now), [1, 3]);
        let due = now + Duration::from_secs(60);
        polled.put_off(1, due);
        polled.through(3);
        assert_eq!(
            (
                taken(&mut polled, now),
                polled.next_due(),
                polled.in_flight()
            ),
            (vec![], Some(due), 0)
        );
        let (id, body) = polled.take(due).unwrap();
        assert_eq!((id, body.contains("\"update_id\":1")), (1, true));
        polled.through(1);
        assert_eq!(taken(&mut polled, now), [2]);
    }

    #[test]
    fn behind_one_that_is_put_off_99_go_on_and_then_all_wait() {
        let (mut polled, now) = (PolledUpdates::new(), Instant::now());
        // Telegram has 150.
        polled.take_page(chats_of_their_own(1..101));
        for id in taken(&mut polled, now) {
            if id == 1 {
                polled.put_off(1, now + Duration::from_secs(60));
            } else {
                polled.through(id);
            }
        }
        for _ in 0..3 {
            assert_eq!(polled.next_page(), (Some(1), 100));
            assert_eq!(
                polled.take_page(chats_of_their_own(1..101)),
                0,
                "known, and not handled again"
            );
            assert_eq!(taken(&mut polled, now), [0; 0]);
        }
        assert!(!polled.is_unconfirmed());
        assert_eq!(taken(&mut polled, now + Duration::from_secs(60)), [1]);
        polled.through(1);
        assert_eq!(polled.next_page(), (Some(101), 100));
        assert_eq!(polled.take_page(chats_of_their_own(101..151)), 50);
        assert_eq!(taken(&mut polled, now).len(), 50);
    }

    #[test]
    fn what_telegram_has_given_up_is_given_up() {
        let (mut polled, now) = (PolledUpdates::new(), Instant::now());
        polled.take_page(page(&[(1, 7), (2, 8), (3, 9)]));
        assert_eq!(taken(&mut polled, now), [1, 2, 3]);
        polled.put_off(1, now);
        polled.put_off(3, now);
        // 1 has expired, 2 too, but a worker has it. What lies behind a shorter page is still
        // there.
        polled.take_page(page(&[]));
        assert_eq!((taken(&mut polled, now), polled.in_flight()), (vec![], 1));
        polled.through(2);
        assert_eq!(polled.next_page().0, None);
        polled.take_page(page(&[(4, 7), (5, 8)]));
        polled.take_page(page(&[(4, 7)]));
        assert_eq!(taken(&mut polled, now), [4, 5]);
    }

    #[test]
    fn a_page_that_is_too_large_is_halved_until_its_offset_moves() {
        let (mut polled, now) = (PolledUpdates::new(), Instant::now());
        let limits: Vec<_> = (0..8)
            .map(|_| (polled.next_page().1, polled.too_large()))
            .collect();
        let halved = [100, 50, 25, 12, 6, 3];
        assert_eq!(limits[..6], halved.map(|limit| (limit, true)));
        assert_eq!(limits[6..], [(1, false), (1, false)], "less is no page");
        polled.take_page(chats_of_their_own(1..2));
        assert_eq!(
            polled.next_page(),
            (Some(1), 2),
            "the first offset there is"
        );
        polled.take_page(chats_of_their_own(1..3));
        assert_eq!(
            polled.next_page(),
            (Some(1), 2),
            "the same offset has the same large page"
        );
        for id in taken(&mut polled, now) {
            polled.through(id);
        }
        // With each page that gets through, the next one may be larger; one that is not full was
        // all there is.
        assert_eq!(polled.next_page(), (Some(3), 4));
        polled.take_page(chats_of_their_own(3..6));
        assert_eq!(polled.next_page(), (Some(3), 100));
    }

    #[test]
    fn a_page_that_came_ends_what_failures_have_halved() {
        let (mut polled, now) = (PolledUpdates::new(), Instant::now());
        polled.take_page(chats_of_their_own(1..2));
        for id in taken(&mut polled, now) {
            polled.put_off(id, now + Duration::from_secs(240));
        }
        let limits: Vec<_> = (0..9)
            .map(|_| {
                polled.no_page();
                polled.next_page().1
            })
            .collect();
        assert_eq!(limits, [50, 25, 12, 6, 3, 1, 1, 1, 1]);
        polled.take_page(chats_of_their_own(1..2));
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
        polled.take_page(chats_of_their_own(1..26));
        assert_eq!(polled.next_page(), (Some(1), 50));
    }
}
