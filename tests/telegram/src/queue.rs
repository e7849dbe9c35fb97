//! The updates that a bot has not had yet, and when each of them is due.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One update, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Update {
    pub id: i64,
    /// Of one queue only one update is on its way.
    pub queue: i64,
    pub body: Arc<str>,
    pub expiry: Instant,
}

/// An update that a webhook has loaded, and how it fared so far.
struct Loaded {
    update: Update,
    /// Its key among all updates.
    place: u64,
    due: Instant,
    delay: u64,
    fails: u32,
}

impl Loaded {
    /// How long to wait after one more failure, in Telegram's own seconds.
    fn back_off(&mut self, retry_after: u64) -> u64 {
        if retry_after > 0 {
            return retry_after;
        }
        if self.fails == 0 {
            return 0;
        }
        self.delay = (2 * self.delay).min(random(60, 120));
        self.delay
    }
}

/// The most updates that are loaded in one go.
const MAX_BATCH: usize = 1000;

/// All updates of a bot in the order of their arrival, and those of them that its webhook has
/// loaded.
#[derive(Default)]
pub(crate) struct Queues {
    updates: BTreeMap<u64, Update>,
    /// The bytes of all bodies.
    size: usize,
    next_place: u64,
    /// Where loading goes on.
    unloaded: u64,
    loaded: HashMap<i64, VecDeque<Loaded>>,
    /// Loaded queues whose first update is not on its way. An update is due from when it was
    /// loaded, so chats are served by the age of their first update, not in turn.
    due: BTreeSet<(Instant, i64)>,
}

impl Queues {
    pub fn push(&mut self, update: Update) {
        self.size += update.body.len();
        self.updates.insert(self.next_place, update);
        self.next_place += 1;
    }

    /// Forgets what a webhook knew: the next one begins afresh.
    pub fn reset(&mut self) {
        self.unloaded = 0;
        self.due.clear();
        self.loaded.clear();
    }

    pub fn clear(&mut self) {
        *self = Queues::default();
    }

    pub fn len(&self) -> usize {
        self.updates.len()
    }

    pub fn size(&self) -> usize {
        self.size
    }

    /// How many queues are loaded.
    pub fn loaded(&self) -> usize {
        self.loaded.len()
    }

    /// Loads as many updates as there are queues short of `limit`: updates, not queues. One chat
    /// with many of them is loaded over many turns, and who comes after it waits until then.
    pub fn load(&mut self, limit: usize, now: Instant) {
        let room = limit.saturating_sub(self.loaded.len()).min(MAX_BATCH);
        for _ in 0..room {
            self.drop_expired(now);
            let Some((&place, update)) = self.updates.range(self.unloaded..).next() else {
                return;
            };
            self.unloaded = place + 1;
            let queue = self.loaded.entry(update.queue).or_default();
            if queue.is_empty() {
                self.due.insert((now, update.queue));
            }
            queue.push_back(Loaded {
                update: update.clone(),
                place,
                due: now,
                delay: 1,
                fails: 0,
            });
        }
    }

    /// When the next update is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// The first update that is due, and which attempt this is, from 1: it is on its way now.
    pub fn start_next(&mut self, now: Instant) -> Option<(Update, u32)> {
        let (due, queue) = *self.due.first()?;
        if due > now {
            return None;
        }
        self.due.pop_first();
        let first = self.loaded.get(&queue)?.front()?;
        Some((first.update.clone(), first.fails + 1))
    }

    /// The update on its way has arrived, or is given up.
    pub fn delivered(&mut self, queue: i64) {
        let Some(updates) = self.loaded.get_mut(&queue) else {
            return;
        };
        let done = updates.pop_front();
        match updates.front() {
            Some(next) => {
                self.due.insert((next.due, queue));
            }
            None => {
                self.loaded.remove(&queue);
            }
        }
        if let Some(done) = done {
            self.remove(done.place);
        }
    }

    /// The update on its way has failed. `speed` divides the waiting time.
    pub fn failed(&mut self, queue: i64, retry_after: u64, speed: f64, now: Instant) {
        let Some(first) = self.loaded.get_mut(&queue).and_then(VecDeque::front_mut) else {
            return;
        };
        first.due = now + Duration::from_secs(first.back_off(retry_after)).div_f64(speed);
        // Only now, and at loading, does it matter that an update expires.
        if first.due > first.update.expiry {
            self.delivered(queue);
        } else {
            first.fails += 1;
            self.due.insert((first.due, queue));
        }
    }

    /// The first updates of all with this id or a higher one.
    pub fn from(&self, id: i64, limit: usize) -> Vec<Update> {
        let mut all: Vec<&Update> = self
            .updates
            .values()
            .filter(|update| update.id >= id)
            .collect();
        all.sort_unstable_by_key(|update| update.id);
        all.into_iter().take(limit).cloned().collect()
    }

    /// Drops the updates before `id`, and those that have expired.
    pub fn confirm(&mut self, id: i64, now: Instant) {
        self.updates
            .retain(|_, update| update.id >= id && update.expiry >= now);
        self.size = self.updates.values().map(|update| update.body.len()).sum();
        self.reset();
    }

    /// Drops what has expired at the place where loading goes on.
    fn drop_expired(&mut self, now: Instant) {
        while let Some((&place, update)) = self.updates.range(self.unloaded..).next() {
            if update.expiry >= now {
                return;
            }
            self.remove(place);
        }
    }

    fn remove(&mut self, place: u64) {
        if let Some(update) = self.updates.remove(&place) {
            self.size -= update.body.len();
        }
    }
}

/// A number from `low` to `high`, both included.
pub(crate) fn random(low: u64, high: u64) -> u64 {
    low + RandomState::new().build_hasher().finish() % (high - low + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86400);

    fn update(queue: i64, id: i64, expiry: Instant) -> Update {
        Update {
            id,
            queue,
            body: "".into(),
            expiry,
        }
    }

    fn queues(updates: &[(i64, i64)], now: Instant) -> Queues {
        let mut queues = Queues::default();
        for (queue, id) in updates {
            queues.push(update(*queue, *id, now + DAY));
        }
        queues
    }

    /// The queues in the order in which one connection serves them; every delivery lets one more
    /// batch be loaded.
    fn served(queues: &mut Queues, limit: usize, start: Instant) -> Vec<i64> {
        let mut order = Vec::new();
        for turn in 1.. {
            let now = start + Duration::from_secs(turn);
            queues.load(limit, now);
            let Some((update, _)) = queues.start_next(now) else {
                break;
            };
            order.push(update.queue);
            queues.delivered(update.queue);
        }
        order
    }

    /// Fails the only queue's update at once whenever it is due; the waits between.
    fn waits(retry_after: &[u64]) -> Vec<u64> {
        let mut now = Instant::now();
        let mut queues = queues(&[(1, 1)], now);
        queues.load(2, now);
        let mut waits = Vec::new();
        for seconds in retry_after {
            queues.start_next(now).expect("due");
            queues.failed(1, *seconds, 1.0, now);
            let due = queues.next_due().expect("scheduled");
            waits.push((due - now).as_secs());
            now = due;
        }
        waits
    }

    #[test]
    fn back_off_doubles_up_to_a_random_minute_or_two() {
        let waits = waits(&[0; 12]);
        assert_eq!(waits[..6], [0, 2, 4, 8, 16, 32]);
        assert!((60..=64).contains(&waits[6]), "{waits:?}");
        assert!(
            waits[7..].iter().all(|wait| (60..=120).contains(wait)),
            "{waits:?}"
        );
    }

    #[test]
    fn retry_after_is_exact_and_does_not_grow_the_delay() {
        assert_eq!(waits(&[5, 5, 0, 5, 0]), [5, 5, 2, 5, 4]);
    }

    #[test]
    fn a_wait_beyond_expiry_drops_the_update_and_goes_on() {
        let now = Instant::now();
        let mut queues = queues(&[(1, 1), (1, 2)], now);
        queues.load(3, now);
        queues.start_next(now).unwrap();
        queues.failed(1, 86401, 1.0, now);
        assert_eq!(queues.start_next(now).unwrap().0.id, 2);
        assert_eq!(queues.len(), 1);
    }

    #[test]
    fn a_queue_sends_one_update_at_a_time() {
        let now = Instant::now();
        let mut queues = queues(&[(7, 1), (5, 2), (6, 3), (7, 4)], now);
        queues.load(2, now);
        assert_eq!(
            queues.start_next(now).unwrap().0.queue,
            5,
            "of two that are due, the queue with the lower number"
        );
        assert_eq!(queues.start_next(now).unwrap().0.queue, 7);
        assert!(queues.start_next(now).is_none());
        queues.load(2, now);
        assert_eq!(queues.loaded(), 2);
        queues.delivered(5);
        queues.load(2, now);
        assert_eq!(queues.start_next(now).unwrap().0.queue, 6);
        queues.delivered(7);
        queues.load(2, now);
        assert_eq!(queues.start_next(now).unwrap().0.id, 4);
        queues.reset();
        assert_eq!((queues.len(), queues.loaded()), (2, 0));
    }

    #[test]
    fn a_chat_that_writes_after_a_flood_of_another_waits_for_all_of_it() {
        let now = Instant::now();
        let mut updates: Vec<(i64, i64)> = (0..30).map(|id| (8, id)).collect();
        // A chat with a lower number, so that not its number decides.
        updates.push((7, 30));
        let mut queues = queues(&updates, now);
        let order = served(&mut queues, 2, now);
        assert_eq!(order.iter().position(|queue| *queue == 7), Some(30));
    }

    #[test]
    fn updates_are_loaded_in_batches_of_as_many_as_queues_are_missing() {
        let now = Instant::now();
        let mut updates: Vec<(i64, i64)> = (0..300).map(|id| (1, id)).collect();
        updates.push((2, 300));
        let mut queues = queues(&updates, now);
        let mut turns = 0;
        while queues.loaded() < 2 {
            queues.load(80, now);
            turns += 1;
        }
        assert_eq!(turns, 4, "80 and then 79 at once");
    }

    #[test]
    fn expired_updates_are_not_loaded() {
        let now = Instant::now();
        let mut queues = Queues::default();
        queues.push(update(1, 1, now));
        queues.load(2, now + Duration::from_secs(1));
        assert_eq!((queues.len(), queues.loaded()), (0, 0));
    }

    #[test]
    fn an_update_that_expires_behind_another_of_its_chat_is_sent() {
        let now = Instant::now();
        let mut queues = Queues::default();
        queues.push(update(1, 1, now + DAY));
        queues.push(update(1, 2, now + Duration::from_secs(1)));
        queues.load(3, now);
        queues.start_next(now).unwrap();
        queues.delivered(1);
        assert_eq!(
            queues
                .start_next(now + Duration::from_secs(2))
                .unwrap()
                .0
                .id,
            2
        );
    }

    #[test]
    fn the_size_of_a_queue_counts_the_updates_that_are_left() {
        let now = Instant::now();
        let mut queues = Queues::default();
        for id in 0..3 {
            queues.push(Update {
                body: "four".into(),
                ..update(id, id, now + DAY)
            });
        }
        queues.load(4, now);
        queues.start_next(now).unwrap();
        queues.delivered(0);
        assert_eq!(queues.size(), 8);
        queues.confirm(2, now);
        assert_eq!(queues.size(), 4);
    }
}
