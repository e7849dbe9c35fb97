//! JSON as Telegram writes it: compact, pure ASCII, keys in Telegram's order.

use serde_json::Value;

/// One order for the keys of every object; others follow by name.
const ORDER: &str = "\
    message_id id is_bot from author_signature sender_chat title first_name last_name username \
    language_code is_premium is_forum chat date edit_date message_thread_id forward_origin \
    is_topic_message reply_to_message external_reply quote message chat_instance data offset length \
    old_chat_member new_chat_member file_id file_unique_id type text photo caption entities";

/// Appends `value` to `out`.
pub(crate) fn write(value: &Value, out: &mut String) {
    match value {
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort_by_key(|key| {
                ORDER
                    .split(' ')
                    .position(|known| known == *key)
                    .unwrap_or(usize::MAX)
            });
            out.push('{');
            for (i, key) in keys.into_iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                write_string(key, out);
                out.push(':');
                write(&fields[key], out);
            }
            out.push('}');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

/// `value` as text.
pub(crate) fn text(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

/// `text` as a JSON string.
pub(crate) fn string(text: &str) -> String {
    let mut out = String::new();
    write_string(text, &mut out);
    out
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' '..='\u{7f}' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_ascii_with_lower_case_escapes() {
        assert_eq!(
            string("a/\"\\\n\u{1}é😀"),
            r#""a/\"\\\n\u0001\u00e9\ud83d\ude00""#
        );
    }

    #[test]
    fn keys_have_telegrams_order() {
        let value = serde_json::json!({"text": "x", "chat": {"type": "private", "id": 1}, "message_id": 2, "zz": null});
        assert_eq!(
            text(&value),
            r#"{"message_id":2,"chat":{"id":1,"type":"private"},"text":"x","zz":null}"#
        );
    }
}
