//! Changes one setting in the text of a `pihook.toml`, and leaves all else as its owner wrote it.

use toml::de::DeTable;

/// `text` with this string as the value of `key` at the top. It takes the place of the old value, or of the comment that shows
/// the default. None where the text is no TOML.
pub(crate) fn set(text: &str, key: &str, value: &str) -> Option<String> {
    let table = DeTable::parse(text).ok()?;
    let quoted = format!("{value:?}");
    if let Some(old) = table.get_ref().get(key) {
        let place = old.span();
        return Some([&text[..place.start], &quoted, &text[place.end..]].concat());
    }
    let line = format!("{key} = {quoted}\n");
    let (commented, mut start) = (format!("# {key} = "), 0);
    for old in text.split_inclusive('\n') {
        // A key below belongs to a table.
        if old.starts_with('[') {
            break;
        }
        if old.starts_with(&commented) {
            return Some([&text[..start], &line, &text[start + old.len()..]].concat());
        }
        start += old.len();
    }
    Some(line + text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_takes_the_place_of_the_old_one_or_of_the_default() {
        for (before, after) in [
            ("a = 1\nkey = 'old' # mine\nb = 2\n", "a = 1\nkey = \"new\" # mine\nb = 2\n"),
            ("key = [\n 1,\n 2\n]\n", "key = \"new\"\n"),
            ("a = 1\n# key = \"old\"\n\n[[bot]]\n", "a = 1\nkey = \"new\"\n\n[[bot]]\n"),
            ("# key = 1", "key = \"new\"\n"),
            ("a = 1\n[[bot]]\n# key = 1\nkey = 2\n", "key = \"new\"\na = 1\n[[bot]]\n# key = 1\nkey = 2\n"),
            ("# another_key = 1\n# keys = 2\n", "key = \"new\"\n# another_key = 1\n# keys = 2\n"),
            ("", "key = \"new\"\n"),
        ] {
            assert_eq!(set(before, "key", "new").as_deref(), Some(after), "{before}");
        }
        assert_eq!(set("key = \"new\"\n", "key", "new").as_deref(), Some("key = \"new\"\n"));
        assert_eq!(set("key", "key", "new"), None);
    }
}
