//! Random numbers, for what must not be guessed from outside or must not happen in step. Not for
//! secrets.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// A number that differs each time: the standard library's hashes have random keys.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(0)
}
