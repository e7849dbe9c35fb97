//! Suggestions for a line of the settings that is not valid TOML, and for an unknown key.

use crate::secret::mask;
use crate::system::text;

/// Words that people use in place of a key, and the key.
const OTHER_WORDS: [(&str, &str); 14] = [
    ("host", "public_host"),
    ("domain", "public_host"),
    ("ip", "public_host"),
    ("address", "public_host"),
    ("port", "public_port"),
    ("cert", "certificate"),
    ("ssl_cert", "certificate"),
    ("key", "private_key"),
    ("upnp", "port_mapping"),
    ("interval", "watch_interval"),
    ("allowlist", "allow_from"),
    ("whitelist", "allow_from"),
    ("bot_token", "token"),
    ("url", "public_host"),
];
/// Quotes that a word processor or a chat makes.
const CURVED_QUOTES: [char; 9] = ['“', '”', '„', '‟', '«', '»', '‘', '’', '‚'];

/// What is wrong with a line that is not valid TOML; None where the parser knows better.
pub(super) fn about_line(line: &str) -> Option<String> {
    let line = line.trim();
    if line.starts_with('[') {
        let name = line.trim_matches(['[', ']', ' ']);
        return if name.eq_ignore_ascii_case("bot") {
            Some("write [[bot]], with two brackets on each side".into())
        } else {
            None
        };
    }

    match line.split_once('=') {
        Some((key, value)) => about_value(key.trim(), value),
        None => about_colon(line),
    }
}

/// What is wrong with a line that has no `=`.
fn about_colon(line: &str) -> Option<String> {
    let (key, value) = line.split_once(':')?;
    let key = key.trim();
    if !is_key(key) {
        return None;
    }
    Some(format!(
        "{key} needs = instead of the colon: {}",
        right_form(key, value.trim())
    ))
}

/// What is wrong with the value behind a key; a comment may follow it.
fn about_value(key: &str, value: &str) -> Option<String> {
    if !is_key(key) {
        return None;
    }

    let value = value.split(" #").next().unwrap_or_default().trim();
    if value.is_empty() {
        return Some(format!("{key} has no value: {}", right_form(key, "")));
    }
    if value.contains(CURVED_QUOTES) {
        let value = value.trim_matches(CURVED_QUOTES);
        return Some(format!(
            "{key} has curved quotes. Use straight quotes: {}",
            right_form(key, value)
        ));
    }
    for quote in ['"', '\''] {
        if value.starts_with(quote) && value.matches(quote).count() == 1 {
            return Some(format!("{key} needs a quote at the end"));
        }
    }
    if value.starts_with(['"', '\'', '[', '{']) {
        return None;
    }
    Some(format!("{key} needs quotes: {}", right_form(key, value)))
}

/// Whether a text looks like the key of a setting.
fn is_key(text: &str) -> bool {
    let is_of_key = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    !text.is_empty() && text.len() < 30 && text.bytes().all(is_of_key)
}

/// The line as it should be. A value that can be a secret, or is long, is not repeated.
fn right_form(key: &str, value: &str) -> String {
    let value = value.trim_matches(['"', '\'']);
    let needs_no_escape = |byte: u8| byte.is_ascii_graphic() && !b"\"\\".contains(&byte);
    let is_plain = value.len() <= 60 && value.bytes().all(needs_no_escape);
    // The @ is for the password in a proxy's URL.
    let is_secret = key.contains("token") && !value.starts_with('/')
        || value.contains('@')
        || mask(value) != value;
    if value.is_empty() || !is_plain || is_secret {
        format!("{key} = \"…\"")
    } else {
        format!("{key} = \"{value}\"")
    }
}

/// The known key that was meant by `key`.
pub(super) fn nearest<'k>(key: &str, known: &[&'k String]) -> Option<&'k str> {
    let plain = key.trim().to_lowercase().replace(['-', ' '], "_");

    for (word, meant) in OTHER_WORDS {
        if word == plain
            && let Some(known) = known.iter().find(|known| known.as_str() == meant)
        {
            return Some(known);
        }
    }
    text::nearest(&plain, known.iter().map(|known| known.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_no_toml_gets_a_hint_with_its_right_form() {
        for (line, words) in [
            (
                "public_host = 80.100.95.20",
                "public_host needs quotes: public_host = \"80.100.95.20\"",
            ),
            (
                "listen = 0.0.0.0:8443 # all",
                "listen needs quotes: listen = \"0.0.0.0:8443\"",
            ),
            (
                "token = 110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw",
                "token needs quotes: token = \"…\"",
            ),
            (
                "proxy = http://me:s3cret@proxy.lan:3128",
                "proxy needs quotes: proxy = \"…\"",
            ),
            (
                "public_host: pi.example.org",
                "public_host needs = instead of the colon: public_host = \"pi.example.org\"",
            ),
            (
                "public_host = “pi.example.org”",
                "curved quotes. Use straight quotes: public_host = \"pi.example.org\"",
            ),
            ("public_host =", "public_host has no value"),
            ("public_host = 'pi", "public_host needs a quote at the end"),
            ("[[bot]", "write [[bot]], with two"),
        ] {
            let found = about_line(line).unwrap();
            assert!(found.contains(words), "{line}: {found}");
        }
        for line in ["", "= 1", "allow_from = ['a'", "[x", "hello"] {
            assert_eq!(about_line(line), None, "{line}");
        }
    }

    #[test]
    fn nearest_finds_the_key_that_was_meant() {
        let known: Vec<String> = [
            "public_host",
            "public_port",
            "listen",
            "token_file",
            "path",
            "certificate",
        ]
        .map(String::from)
        .into();
        let known: Vec<_> = known.iter().collect();
        for (key, meant) in [
            ("publichost", "public_host"),
            ("Public-Host", "public_host"),
            ("pubilc_host", "public_host"),
            ("host", "public_host"),
            ("port", "public_port"),
            ("tokenfile", "token_file"),
            ("lisen", "listen"),
            ("cert", "certificate"),
            ("paht", "path"),
        ] {
            assert_eq!(nearest(key, &known), Some(meant), "{key}");
        }
        for key in ["typo", "x", "", &"a".repeat(10_000)] {
            assert_eq!(nearest(key, &known), None, "{key}");
        }
    }
}
