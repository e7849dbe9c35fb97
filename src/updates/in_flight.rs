//! The updates that are being handled at this moment. When Telegram delivers one of them a second
//! time, because a connection broke, the second delivery gets the answer of the first.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::retry::UPDATE_TIMEOUT;
use crate::system::lock::lock;

/// One bot's updates in flight, by id.
pub(crate) struct InFlight<A>(Mutex<HashMap<i64, Arc<Running<A>>>>);

struct Running<A> {
    start: Instant,
    /// Once there is one.
    answer: Mutex<Option<A>>,
    done: Condvar,
}

impl<A> Default for InFlight<A> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<A: Clone> InFlight<A> {
    /// Does `work`, which finds the answer for an update, and gives the answer to all threads that
    /// wait for it. `start` is when the update came.
    pub(crate) fn run(&self, update: i64, start: Instant, work: impl FnOnce() -> A) -> A {
        let running = Arc::new(Running {
            start,
            answer: Mutex::default(),
            done: Condvar::new(),
        });
        lock(&self.0).insert(update, Arc::clone(&running));

        let answer = work();

        let mut all = lock(&self.0);
        // `work` has given up its claim, so another thread may have begun the update again.
        if let Some(latest) = all.get(&update)
            && Arc::ptr_eq(latest, &running)
        {
            all.remove(&update);
        }
        drop(all);

        // With a count of one, no thread waits, and none can find it any more.
        if Arc::strong_count(&running) > 1 {
            *lock(&running.answer) = Some(answer.clone());
            running.done.notify_all();
        }
        answer
    }

    /// Waits for the answer that another thread finds: at most for `longest`, and no longer than
    /// any update may take. None when there is no answer by then, or the update is not in flight.
    pub(crate) fn wait(&self, update: i64, longest: Duration) -> Option<A> {
        let running = lock(&self.0).get(&update).cloned()?;
        let end = running.start + UPDATE_TIMEOUT;
        let left = end.saturating_duration_since(Instant::now()).min(longest);

        let answer = lock(&running.answer);
        let waited = running
            .done
            .wait_timeout_while(answer, left, |answer| answer.is_none());
        let (answer, _) = waited.ok()?;
        answer.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn all_threads_that_wait_for_an_update_get_its_one_answer() {
        let in_flight = InFlight::default();
        let start = Instant::now();
        let minute = Duration::from_secs(60);
        assert_eq!(in_flight.wait(7, minute), None, "it is not in flight");
        thread::scope(|scope| {
            let (end, may_end) = mpsc::channel();
            let (begin, begun) = mpsc::channel();
            let in_flight = &in_flight;
            scope.spawn(move || {
                in_flight.run(7, start, || {
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
            // The list holds it, the thread that finds the answer, and those that wait.
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
