//! The machine's clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix time in whole seconds; 0 for a clock from before 1970.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
