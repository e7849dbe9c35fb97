//! The updates that are being answered at this moment. One that Telegram delivers a second time
//! meanwhile, since a connection broke, gets the answer of the first.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::retry::UPDATE_TIMEOUT;
use crate::system::lock::lock;

/// One bot's updates, each with its answer once there is one.
pub(crate) struct InFlight<A>(Mutex<HashMap<i64, Arc<Running<A>>>>);

struct Running<A> {
    start: Instant,
    answer: Mutex<Option<A>>,
    answered: Condvar,
}

impl<A> Default for InFlight<A> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<A: Clone> InFlight<A> {
    /// Has `work` find the answer for an update, and gives that to all who wait for it.
    pub(crate) fn answer(&self, update: i64, start: Instant, work: impl FnOnce() -> A) -> A {
        let running = Arc::new(Running {
            start,
            answer: Mutex::default(),
            answered: Condvar::new(),
        });
        lock(&self.0).insert(update, Arc::clone(&running));
        let answer = work();
        // Another thread may have begun it again by now.
        let is_mine = |there: &Arc<Running<A>>| Arc::ptr_eq(there, &running);
        let mut all = lock(&self.0);
        if all.get(&update).is_some_and(is_mine) {
            all.remove(&update);
        }
        drop(all);
        // Else nobody waits, and nobody can find it any more.
        if Arc::strong_count(&running) > 1 {
            *lock(&running.answer) = Some(answer.clone());
            running.answered.notify_all();
        }
        answer
    }

    /// Waits for the answer that another thread finds, for so long, and no longer than any update
    /// may take. None when there is none by then, or the update is not in flight any more.
    pub(crate) fn wait(&self, update: i64, longest: Duration) -> Option<A> {
        let running = lock(&self.0).get(&update).cloned()?;
        let left = (running.start + UPDATE_TIMEOUT)
            .saturating_duration_since(Instant::now())
            .min(longest);
        let answer = running
            .answered
            .wait_timeout_while(lock(&running.answer), left, |answer| answer.is_none());
        answer.ok().and_then(|(answer, _)| answer.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn all_who_wait_get_the_one_answer_and_nobody_waits_for_ever() {
        let (in_flight, start) = (InFlight::default(), Instant::now());
        let minute = Duration::from_secs(60);
        assert_eq!(in_flight.wait(7, minute), None, "it is not in flight");
        thread::scope(|scope| {
            let (end, may_end) = mpsc::channel();
            let (begin, begun) = mpsc::channel();
            let in_flight = &in_flight;
            scope.spawn(move || {
                in_flight.answer(7, start, || {
                    begin.send(()).unwrap();
                    may_end.recv().unwrap();
                    "answer"
                })
            });
            begun.recv().unwrap();
            assert_eq!(
                (in_flight.wait(7, Duration::ZERO), in_flight.wait(8, minute)),
                (None, None)
            );
            let waiting: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| in_flight.wait(7, minute)))
                .collect();
            let holders = || lock(&in_flight.0).get(&7).map(Arc::strong_count);
            // The list, the one that finds the answer, and those who wait.
            while holders() != Some(2 + 3) {
                thread::yield_now();
            }
            end.send(()).unwrap();
            assert!(
                waiting
                    .into_iter()
                    .all(|one| one.join().unwrap() == Some("answer"))
            );
        });
        assert_eq!(in_flight.wait(7, minute), None);
    }
}
