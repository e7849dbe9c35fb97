//! Others' words, fit for a line of ours.

/// Without control characters, and not endless: neither a log nor a terminal can be led astray.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}
