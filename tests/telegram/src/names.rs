//! Whether a name in a certificate is the one of the URL, as OpenSSL's `X509_check_host` has it
//! without any flags.

use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::{Tag, Tagged};

/// A common name as text, whatever kind of string it is.
pub(crate) fn text(name: &AttributeTypeAndValue) -> Option<String> {
    let bytes = name.value.value();
    let units = || {
        bytes
            .chunks_exact(2)
            .map(|unit| u16::from_be_bytes([unit[0], unit[1]]))
    };
    match name.value.tag() {
        Tag::Utf8String
        | Tag::PrintableString
        | Tag::Ia5String
        | Tag::VisibleString
        | Tag::NumericString => String::from_utf8(bytes.to_vec()).ok(),
        Tag::BmpString => char::decode_utf16(units()).collect::<Result<_, _>>().ok(),
        Tag::TeletexString => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
        _ => None,
    }
}

/// Whether `pattern`, a name in a certificate, is `host`.
pub(crate) fn is_match(pattern: &str, host: &str) -> bool {
    let Some((before, after)) = star(pattern) else {
        return pattern.eq_ignore_ascii_case(host);
    };
    let Some(end) = host.len().checked_sub(after.len()) else {
        return false;
    };
    let (Some(first), Some(covered), Some(last)) = (
        host.get(..before.len()),
        host.get(before.len()..end),
        host.get(end..),
    ) else {
        return false;
    };
    let is_whole_label = before.is_empty() && after.starts_with('.');
    first.eq_ignore_ascii_case(before)
        && last.eq_ignore_ascii_case(after)
        && !(is_whole_label && covered.is_empty())
        && (is_whole_label || !is_international(host))
        && covered
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// What stands before and after the star of a pattern; `None` when it is not one. The star is at
/// one end of the first label, or is it, and two labels follow.
fn star(pattern: &str) -> Option<(&str, &str)> {
    let (before, after) = pattern.split_once('*')?;
    let labels: Vec<&str> = pattern.split('.').collect();
    let is_label = |label: &str| {
        let name: String = label.replacen('*', "", usize::from(label == labels[0]));
        let is_empty = name.is_empty() && !label.contains('*');
        !is_empty
            && !label.starts_with('-')
            && !label.ends_with('-')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    let is_at_an_end = before.is_empty() || after.starts_with('.');
    let is_star = is_at_an_end
        && !before.contains('.')
        && !is_international(before)
        && labels.len() > 2
        && labels.iter().all(|label| is_label(label));
    is_star.then_some((before, after))
}

fn is_international(label: &str) -> bool {
    label
        .get(..4)
        .is_some_and(|start| start.eq_ignore_ascii_case("xn--"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_for_openssl() {
        // Pattern, host, and what `openssl verify -verify_hostname` says.
        for (pattern, host, expected) in [
            ("Bot.Name.TLD", "bot.name.tld", true),
            ("*.name.tld", "bot.name.tld", true),
            ("b*.name.tld", "bot.name.tld", true),
            ("*t.name.tld", "bot.name.tld", true),
            ("bot*.name.tld", "bot.name.tld", true),
            ("b*t.name.tld", "bot.name.tld", false),
            ("c*.name.tld", "bot.name.tld", false),
            ("*.tld", "name.tld", false),
            ("*.name.tld", "a.bot.name.tld", false),
            ("bot.*.tld", "bot.name.tld", false),
            ("**.name.tld", "bot.name.tld", false),
            ("*.*.tld", "bot.name.tld", false),
            ("*.name.tld", "xn--bot.name.tld", true),
            ("x*.name.tld", "xn--bot.name.tld", false),
            ("*t.name.tld", "xn--bot.name.tld", false),
            ("xn--*.name.tld", "xn--bot.name.tld", false),
            ("-*.name.tld", "-bot.name.tld", false),
            ("*.name-.tld", "bot.name-.tld", false),
            ("*.name..tld", "bot.name..tld", false),
            ("*a-.name.tld", "bxa-.name.tld", false),
            ("*.108.5.7", "91.108.5.7", true),
        ] {
            assert_eq!(is_match(pattern, host), expected, "{pattern} {host}");
        }
    }
}
