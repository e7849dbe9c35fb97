//! The deferred calls: they wait in memory until Telegram delivers their update again.

use std::collections::VecDeque;
use std::sync::Mutex;

use crate::system::lock::lock;
use crate::telegram::call::Call;

/// Updates with deferred calls. Telegram has fewer of them: it loads the updates of 2 x
/// `max_connections` chats.
const MAX_UPDATES: usize = 256;
/// Bytes of all their calls.
const MAX_BYTES: usize = 1024 * 1024;

/// One bot's deferred calls, by the id of their update, the oldest first.
#[derive(Default)]
pub(crate) struct DeferredCalls(Mutex<VecDeque<(i64, Vec<Call>)>>);

impl DeferredCalls {
    /// Keeps the deferred calls of an update. Where there is no room, the oldest are forgotten, and
    /// then the bot is asked again about their update.
    pub(crate) fn insert(&self, update: i64, calls: Vec<Call>) {
        let mut kept = lock(&self.0);
        kept.push_back((update, calls));
        while kept.len() > MAX_UPDATES || bytes(&kept) > MAX_BYTES {
            kept.pop_front();
        }
    }

    /// Takes out the deferred calls of an update, if it has some.
    pub(crate) fn remove(&self, update: i64) -> Option<Vec<Call>> {
        let mut kept = lock(&self.0);
        let place = kept.iter().position(|(of, _)| *of == update)?;
        let (_, calls) = kept.remove(place)?;
        Some(calls)
    }
}

fn bytes(kept: &VecDeque<(i64, Vec<Call>)>) -> usize {
    kept.iter()
        .flat_map(|(_, calls)| calls)
        .map(Call::size)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// One call with a text of so many bytes.
    fn calls(bytes: usize) -> Vec<Call> {
        vec![Call::new(
            "sendMessage",
            &json!({ "text": "a".repeat(bytes) }),
        )]
    }

    #[test]
    fn deferred_calls_are_taken_out_once() {
        let deferred = DeferredCalls::default();
        deferred.insert(7, calls(1));
        deferred.insert(8, calls(2));
        assert_eq!(deferred.remove(9), None);
        assert_eq!(deferred.remove(7), Some(calls(1)));
        assert_eq!(deferred.remove(7), None);
        assert_eq!(deferred.remove(8), Some(calls(2)));
    }

    #[test]
    fn of_too_many_updates_the_oldest_is_forgotten() {
        let deferred = DeferredCalls::default();
        for update in 0..=256 {
            deferred.insert(update, calls(1));
        }
        assert_eq!(deferred.remove(0), None);
        assert!((1..=256).all(|update| deferred.remove(update).is_some()));
    }

    #[test]
    fn of_too_many_bytes_the_oldest_are_forgotten() {
        let deferred = DeferredCalls::default();
        let one = calls(0)[0].size();
        deferred.insert(1, calls(MAX_BYTES / 2 - one));
        deferred.insert(2, calls(MAX_BYTES / 2 - one));
        assert!(deferred.remove(1).is_some(), "both have room");
        deferred.insert(3, calls(MAX_BYTES / 2 - one));
        deferred.insert(4, calls(1));
        assert_eq!(deferred.remove(2), None);
        assert!(deferred.remove(3).is_some() && deferred.remove(4).is_some());
        deferred.insert(5, [calls(MAX_BYTES / 2), calls(MAX_BYTES / 2)].concat());
        assert_eq!(
            deferred.remove(5),
            None,
            "one alone is more than there is room for"
        );
    }
}
