//! How long the Bot API has been away.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Since when no call was answered; shared by all workers.
#[derive(Default)]
pub struct Outage(Mutex<Option<Instant>>);

impl Outage {
    /// The Bot API answered, whatever it said.
    pub fn over(&self) {
        *self.since() = None;
    }

    /// It did not; for how long now.
    pub fn goes_on(&self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.since().get_or_insert(now))
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
