//! The updates that a bot has not had yet, and when each of them is due.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One update, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Update {
    pub id: i64,
    pub body: Arc<str>,
    pub expiry: Instant,
    delay: u64,
    fails: u32,
}

impl Update {
    pub fn new(id: i64, body: Arc<str>, expiry: Instant) -> Update {
        Update { id, body, expiry, delay: 1, fails: 0 }
    }

    /// Which attempt the next one is, from 1.
    pub fn attempt(&self) -> u32 {
        self.fails + 1
    }

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

/// Updates by queue: within one queue strictly one at a time.
#[derive(Default)]
pub(crate) struct Queues {
    queues: BTreeMap<i64, VecDeque<Update>>,
    /// Queues that are not loaded, the one that waits longest first.
    waiting: VecDeque<i64>,
    /// Loaded queues whose first update is not on its way.
    due: BTreeSet<(Instant, i64)>,
    loaded: usize,
    count: usize,
}

impl Queues {
    pub fn push(&mut self, queue: i64, update: Update) {
        self.count += 1;
        let updates = self.queues.entry(queue).or_default();
        if updates.is_empty() {
            self.waiting.push_back(queue);
        }
        updates.push_back(update);
    }

    /// Forgets what a webhook knew: the next one begins afresh.
    pub fn reset(&mut self) {
        self.loaded = 0;
        self.due.clear();
        let mut order: Vec<(i64, i64)> = Vec::new();
        for (queue, updates) in &mut self.queues {
            if let Some(first) = updates.front_mut() {
                (first.delay, first.fails) = (1, 0);
                order.push((first.id, *queue));
            }
        }
        order.sort_unstable();
        self.waiting = order.into_iter().map(|(_, queue)| queue).collect();
    }

    pub fn clear(&mut self) {
        *self = Queues::default();
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn loaded(&self) -> usize {
        self.loaded
    }

    /// Loads queues until `limit` of them are.
    pub fn load(&mut self, limit: usize, now: Instant) {
        while self.loaded < limit {
            let Some(queue) = self.waiting.pop_front() else {
                return;
            };
            self.loaded += 1;
            self.next(queue, now);
        }
    }

    /// When the next update is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Takes the first update that is due, and its queue: it is on its way now.
    pub fn take(&mut self, now: Instant) -> Option<(i64, Update)> {
        let (due, queue) = *self.due.first()?;
        if due > now {
            return None;
        }
        self.due.pop_first();
        let update = self.queues.get(&queue)?.front()?.clone();
        Some((queue, update))
    }

    /// The update on its way has arrived.
    pub fn delivered(&mut self, queue: i64, now: Instant) {
        self.pop(queue);
        self.next(queue, now);
    }

    /// The update on its way has failed. `speed` divides the waiting time.
    pub fn failed(&mut self, queue: i64, retry_after: u64, speed: f64, now: Instant) {
        let Some(update) = self.queues.get_mut(&queue).and_then(VecDeque::front_mut) else {
            return;
        };
        let due = now + Duration::from_secs(update.back_off(retry_after)).div_f64(speed);
        if due > update.expiry {
            self.pop(queue);
            self.next(queue, now);
        } else {
            update.fails += 1;
            self.due.insert((due, queue));
        }
    }

    /// The first updates of all, oldest first.
    pub fn oldest(&self, limit: usize) -> Vec<Update> {
        let mut all: Vec<&Update> = self.queues.values().flatten().collect();
        all.sort_unstable_by_key(|update| update.id);
        all.into_iter().take(limit).cloned().collect()
    }

    /// Drops the updates before `id`.
    pub fn confirm(&mut self, id: i64) {
        for updates in self.queues.values_mut() {
            updates.retain(|update| update.id >= id);
        }
        self.queues.retain(|_, updates| !updates.is_empty());
        self.count = self.queues.values().map(VecDeque::len).sum();
        self.reset();
    }

    fn pop(&mut self, queue: i64) {
        if self.queues.get_mut(&queue).and_then(VecDeque::pop_front).is_some() {
            self.count -= 1;
        }
    }

    /// Schedules the first update of a loaded queue, or unloads the queue when there is none.
    fn next(&mut self, queue: i64, now: Instant) {
        while let Some(first) = self.queues.get(&queue).and_then(VecDeque::front) {
            if first.expiry >= now {
                self.due.insert((now, queue));
                return;
            }
            self.pop(queue);
        }
        self.queues.remove(&queue);
        self.loaded -= 1;
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

    fn queues(updates: &[(i64, i64)], now: Instant) -> Queues {
        let mut queues = Queues::default();
        for (queue, id) in updates {
            queues.push(*queue, Update::new(*id, "".into(), now + DAY));
        }
        queues
    }

    /// Fails the only queue's update at once whenever it is due; the waits between.
    fn waits(retry_after: &[u64]) -> Vec<u64> {
        let mut now = Instant::now();
        let mut queues = queues(&[(1, 1)], now);
        queues.load(2, now);
        let mut waits = Vec::new();
        for seconds in retry_after {
            queues.take(now).expect("due");
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
        assert!(waits[7..].iter().all(|wait| (60..=120).contains(wait)), "{waits:?}");
    }

    #[test]
    fn retry_after_is_exact_and_does_not_grow_the_delay() {
        assert_eq!(waits(&[5, 5, 0, 5, 0]), [5, 5, 2, 5, 4]);
    }

    #[test]
    fn a_wait_beyond_expiry_drops_the_update_and_goes_on() {
        let now = Instant::now();
        let mut queues = queues(&[(1, 1), (1, 2)], now);
        queues.load(2, now);
        queues.take(now).unwrap();
        queues.failed(1, 86401, 1.0, now);
        assert_eq!(queues.take(now).unwrap().1.id, 2);
        assert_eq!(queues.len(), 1);
    }

    #[test]
    fn one_at_a_time_within_a_queue_and_no_more_queues_than_loaded() {
        let now = Instant::now();
        let mut queues = queues(&[(7, 1), (7, 2), (5, 3), (6, 4)], now);
        queues.load(2, now);
        assert_eq!(queues.take(now).unwrap().0, 5);
        assert_eq!(queues.take(now).unwrap().0, 7);
        assert!(queues.take(now).is_none());
        queues.delivered(5, now);
        queues.load(2, now);
        assert_eq!(queues.take(now).unwrap().0, 6);
        queues.delivered(7, now);
        assert_eq!(queues.take(now).unwrap().1.id, 2);
        queues.reset();
        assert_eq!((queues.len(), queues.loaded()), (2, 0));
    }

    #[test]
    fn expired_updates_are_not_loaded() {
        let now = Instant::now();
        let mut queues = Queues::default();
        queues.push(1, Update::new(1, "".into(), now));
        queues.load(2, now + Duration::from_secs(1));
        assert_eq!((queues.len(), queues.loaded()), (0, 0));
    }
}
