//! Calls that were put off: they wait in memory until Telegram delivers their update again.

use std::collections::VecDeque;
use std::sync::Mutex;

use crate::system::lock::lock;
use crate::telegram::call::Call;

/// As many updates as Telegram holds back at most, and more: it loads those of 2 x
/// `max_connections` chats.
const MAX_UPDATES: usize = 256;
const MAX_BYTES: usize = 1024 * 1024;

/// One bot's postponed calls, the oldest first.
#[derive(Default)]
pub(crate) struct PostponedCalls(Mutex<VecDeque<(i64, Vec<Call>)>>);

impl PostponedCalls {
    /// Keeps the calls that are left for an update. The oldest ones are forgotten where there is no
    /// room; then the bot is asked again.
    pub(crate) fn keep(&self, update: i64, calls: Vec<Call>) {
        let mut kept = lock(&self.0);
        kept.push_back((update, calls));
        while kept.len() > MAX_UPDATES || bytes(&kept) > MAX_BYTES {
            kept.pop_front();
        }
    }

    /// Takes the calls that are left for an update, if it has some.
    pub(crate) fn take(&self, update: i64) -> Option<Vec<Call>> {
        let mut kept = lock(&self.0);
        let place = kept.iter().position(|(of, _)| *of == update)?;
        kept.remove(place).map(|(_, calls)| calls)
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

    /// One call that takes about so many bytes.
    fn calls(bytes: usize) -> Vec<Call> {
        vec![Call::new(
            "sendMessage",
            &json!({ "text": "a".repeat(bytes) }),
        )]
    }

    #[test]
    fn what_was_kept_is_taken_once() {
        let postponed = PostponedCalls::default();
        postponed.keep(7, calls(1));
        postponed.keep(8, calls(2));
        assert_eq!(postponed.take(9), None);
        assert_eq!(postponed.take(7), Some(calls(1)));
        assert_eq!(postponed.take(7), None);
        assert_eq!(postponed.take(8), Some(calls(2)));
    }

    #[test]
    fn the_oldest_updates_are_forgotten_first() {
        let postponed = PostponedCalls::default();
        (0..=256).for_each(|update| postponed.keep(update, calls(1)));
        assert_eq!(postponed.take(0), None);
        assert!((1..=256).all(|update| postponed.take(update).is_some()));
    }

    #[test]
    fn no_more_bytes_are_kept_than_there_is_room_for() {
        let postponed = PostponedCalls::default();
        let one = calls(0)[0].size();
        postponed.keep(1, calls(MAX_BYTES / 2 - one));
        postponed.keep(2, calls(MAX_BYTES / 2 - one));
        assert!(postponed.take(1).is_some(), "both have room");
        postponed.keep(3, calls(MAX_BYTES / 2 - one));
        postponed.keep(4, calls(1));
        assert_eq!(postponed.take(2), None);
        assert!(postponed.take(3).is_some() && postponed.take(4).is_some());
        postponed.keep(5, [calls(MAX_BYTES / 2), calls(MAX_BYTES / 2)].concat());
        assert_eq!(
            postponed.take(5),
            None,
            "one alone is more than there is room for"
        );
    }
}
