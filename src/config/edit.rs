//! Changes one setting in the text of a `pihook.toml`, and leaves all else as its owner wrote it.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// `text` with this string as the value of `key` at the top. It replaces the old value, or the
/// comment that shows the default. None where the text is no TOML.
pub(crate) fn set(text: &str, key: &str, value: &str) -> Option<String> {
    let table = DeTable::parse(text).ok()?;
    let quoted = format!("{value:?}");

    if let Some(old) = table.get_ref().get(key) {
        let place = old.span();
        return Some([&text[..place.start], &quoted, &text[place.end..]].concat());
    }

    let line = format!("{key} = {quoted}\n");
    let commented = format!("# {key} = ");
    let mut start = 0;
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

/// The `token_file` of the first bot, and where its value stands.
pub(crate) fn token_file(text: &str) -> Option<(String, Range<usize>)> {
    let table = DeTable::parse(text).ok()?;
    let DeValue::Array(bots) = table.get_ref().get("bot")?.get_ref() else {
        return None;
    };
    let DeValue::Table(bot) = bots.first()?.get_ref() else {
        return None;
    };
    let value = bot.get("token_file")?;
    match value.get_ref() {
        DeValue::String(file) => Some((file.to_string(), value.span())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_file_of_the_first_bot_is_found_with_its_place() {
        let text = "a = 1\n[[bot]]\ntoken_file = 'one'\n[[bot]]\ntoken_file = 'two'\n";
        let (file, place) = token_file(text).unwrap();
        assert_eq!((file.as_str(), &text[place]), ("one", "'one'"));
        for text in [
            "",
            "[[bot]]\n",
            "bot = 1",
            "[[bot]]\ntoken_file = 1\n",
            "token_file = 'x'",
            "[",
        ] {
            assert_eq!(token_file(text), None, "{text}");
        }
    }

    #[test]
    fn set_replaces_the_old_value_or_the_commented_default() {
        for (before, after) in [
            (
                "a = 1\nkey = 'old' # mine\nb = 2\n",
                "a = 1\nkey = \"new\" # mine\nb = 2\n",
            ),
            ("key = [\n 1,\n 2\n]\n", "key = \"new\"\n"),
            (
                "a = 1\n# key = \"old\"\n\n[[bot]]\n",
                "a = 1\nkey = \"new\"\n\n[[bot]]\n",
            ),
            ("# key = 1", "key = \"new\"\n"),
            (
                "a = 1\n[[bot]]\n# key = 1\nkey = 2\n",
                "key = \"new\"\na = 1\n[[bot]]\n# key = 1\nkey = 2\n",
            ),
            (
                "# another_key = 1\n# keys = 2\n",
                "key = \"new\"\n# another_key = 1\n# keys = 2\n",
            ),
            ("", "key = \"new\"\n"),
        ] {
            assert_eq!(
                set(before, "key", "new").as_deref(),
                Some(after),
                "{before}"
            );
        }
        assert_eq!(
            set("key = \"new\"\n", "key", "new").as_deref(),
            Some("key = \"new\"\n")
        );
        assert_eq!(set("key", "key", "new"), None);
    }
}
