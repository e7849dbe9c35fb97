//! The machine's clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Unix time in whole seconds; 0 for a clock from before 1970.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

/// A time in whole numbers of its largest unit, with these words for seconds, minutes, hours and
/// days. A unit is used from two on, so that the words are always in the plural.
pub(crate) fn in_words(time: Duration, [seconds, minutes, hours, days]: [&str; 4]) -> String {
    match time.as_secs() {
        count @ ..120 => format!("{count} {seconds}"),
        count @ ..7200 => format!("{} {minutes}", count / 60),
        count @ ..172_800 => format!("{} {hours}", count / 3600),
        count => format!("{} {days}", count / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_its_largest_unit() {
        let say = |seconds| in_words(Duration::from_secs(seconds), ["s", "min", "h", "days"]);
        assert_eq!(
            [say(119), say(120), say(7200), say(172_800)],
            ["119 s", "2 min", "2 h", "2 days"]
        );
    }
}
