//! The memory for the bodies of requests. A large body is read only when there is room for it and
//! for everything that is made of it.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// Bytes of all large bodies together. A worker holds up to three times as much while the bot
/// handles one: the body, what was parsed of it, and the calls. With that, and what the kernel
/// buffers, the whole stays below the unit's `MemoryMax`.
const ALL_BODIES: usize = 16 * 1024 * 1024;
/// Bytes of a body that always has room: a text with its 4096 characters, and much around it.
const SMALL_BODY: usize = 32 * 1024;
/// For room in the budget. Telegram waits 60 s in all.
const WAIT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of one permit: `acquire_many` takes a number of 32 bits.
const UNIT: usize = 1024;

/// The memory that is left for large bodies. They get it in the order in which they ask.
pub(crate) struct BodyBudget(Semaphore);

/// The room for one body, for as long as this lives.
pub(crate) struct Room<'b> {
    _permit: Option<SemaphorePermit<'b>>,
}

impl Default for BodyBudget {
    fn default() -> Self {
        Self(Semaphore::new(ALL_BODIES / UNIT))
    }
}

impl BodyBudget {
    /// Waits for room for a body of so many bytes, at most [`ALL_BODIES`]. None when there is no
    /// room within [`WAIT_TIMEOUT`].
    pub(crate) async fn room_for(&self, bytes: usize) -> Option<Room<'_>> {
        if bytes <= SMALL_BODY {
            return Some(Room { _permit: None });
        }
        let units = u32::try_from(bytes.div_ceil(UNIT)).ok()?;
        let acquired = timeout(WAIT_TIMEOUT, self.0.acquire_many(units))
            .await
            .ok()?;
        // The semaphore is never closed.
        let permit = acquired.ok()?;
        Some(Room {
            _permit: Some(permit),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::request::BODY_LIMIT;
    use tokio::runtime;
    use tokio::time::{Instant, pause};

    #[test]
    fn large_bodies_wait_for_room_and_small_ones_do_not() {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            pause();
            let budget = BodyBudget::default();
            let mut rooms = Vec::new();
            let start = Instant::now();
            while start.elapsed().is_zero() {
                rooms.push(budget.room_for(BODY_LIMIT).await);
            }
            assert_eq!(start.elapsed().as_secs(), WAIT_TIMEOUT.as_secs());
            assert!(rooms.pop().unwrap().is_none() && rooms.iter().all(Option::is_some));
            assert!((30..=32).contains(&rooms.len()), "{}", rooms.len());
            assert!(
                budget.room_for(SMALL_BODY).await.is_some()
                    && budget.room_for(SMALL_BODY + 1).await.is_some()
            );

            rooms.pop();
            let waited = Instant::now();
            assert!(budget.room_for(BODY_LIMIT - 1).await.is_some() && waited.elapsed().is_zero());
        });
    }
}
