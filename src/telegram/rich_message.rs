//! The text of a rich message (Bot API 10.1), which has blocks within blocks, and texts within texts.
//! Pure.

use serde_json::Value;
use serde_json::value::RawValue;

/// Code points of the longest text that sendMessage takes.
const TEXT_LIMIT: usize = 4096;
/// The types of block that hold text. A block of another type is left out: a later Bot API can give
/// the same fields another meaning.
const KNOWN_BLOCKS: [&str; 22] = [
    "animation",
    "audio",
    "blockquote",
    "collage",
    "details",
    "document",
    "expandable_blockquote",
    "footer",
    "heading",
    "list",
    "map",
    "mathematical_expression",
    "paragraph",
    "photo",
    "pre",
    "preformatted",
    "pullquote",
    "section_heading",
    "slideshow",
    "table",
    "video",
    "voice_note",
];
/// The fields of a block that are texts, in the order in which Telegram shows them.
const BLOCK_TEXTS: [&str; 6] = [
    "summary",
    "title",
    "text",
    "expression",
    "caption",
    "credit",
];
/// The fields of a piece of text that hold another text. A piece has one of them.
const TEXT_PARTS: [&str; 4] = ["text", "texts", "alternative_text", "expression"];

/// The text of a rich message, a line for each block, without formatting; at most 4096 code points.
/// Empty where the JSON has more than 127 levels: `serde_json` does not read them.
pub(crate) fn text(rich_message: &RawValue) -> String {
    let message: Value = serde_json::from_str(rich_message.get()).unwrap_or_default();
    let mut text = String::new();
    for block in items(&message["blocks"]) {
        push_block(&mut text, block);
    }

    let beginning: String = text.chars().take(TEXT_LIMIT).collect();
    beginning.trim().to_owned()
}

/// Adds the lines of a block, or of an item of a list: an item has a label, and no type.
fn push_block(text: &mut String, block: &Value) {
    match block["type"].as_str() {
        Some(kind) if !KNOWN_BLOCKS.contains(&kind) => return,
        Some(_) => {}
        None => {
            if let Some(label) = block["label"].as_str() {
                text.push_str(label);
                text.push(' ');
            }
        }
    }

    for name in BLOCK_TEXTS {
        if let Some(part) = block.get(name) {
            push_inline(text, part);
            end_line(text);
        }
    }
    for name in ["blocks", "items"] {
        for part in items(&block[name]) {
            push_block(text, part);
        }
    }
    for row in items(&block["cells"]) {
        for (number, cell) in items(row).iter().enumerate() {
            if number > 0 {
                text.push_str(" | ");
            }
            push_inline(text, cell);
        }
        end_line(text);
    }
    end_line(text);
}

/// Adds a text: a string, a list of texts, or an object around one.
fn push_inline(text: &mut String, part: &Value) {
    match part {
        Value::String(words) => text.push_str(words),
        Value::Array(parts) => {
            for part in parts {
                push_inline(text, part);
            }
        }
        Value::Object(fields) => {
            if let Some(part) = TEXT_PARTS.iter().find_map(|name| fields.get(*name)) {
                push_inline(text, part);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Ends the line, if one has begun.
fn end_line(text: &mut String) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
}

/// The items of a list; none where the value is not one.
fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Of blocks within each other, each of which is two levels of JSON.
    const LEVELS: usize = 63;

    fn text_of(blocks: &Value) -> String {
        text(&serde_json::value::to_raw_value(&json!({ "blocks": blocks })).unwrap())
    }

    #[test]
    fn every_block_has_lines_of_its_own() {
        let blocks = json!([
            {"type": "heading", "size": 1, "text": "Title"},
            {"type": "paragraph", "text": ["plain, ", {"type": "bold", "text": {"type": "italic", "text": "both"}},
                {"type": "custom_emoji", "custom_emoji_id": "1", "alternative_text": "👍"}, {"type": "anchor", "name": "x"}]},
            {"type": "list", "items": [
                {"label": "1.", "blocks": [{"type": "paragraph", "text": "one"}]},
                {"label": "2.", "blocks": [{"type": "paragraph", "text": "two"},
                    {"type": "list", "items": [{"label": "•", "blocks": [{"type": "paragraph", "text": "deep"}]}]}]}]},
            {"type": "divider"},
            {"type": "table", "cells": [[{"text": "a", "is_header": true}, {"text": ["b"]}], [{"text": "c"}, {}]]},
            {"type": "details", "summary": "More", "blocks": [{"type": "pre", "text": "let x;", "language": "rust"}]},
            {"type": "pullquote", "text": "Wise", "credit": "Nobody"},
            {"type": "mathematical_expression", "expression": "a^2"},
            {"type": "photo", "photo": [], "caption": {"text": "A cat", "credit": "me"}},
            {"type": "hologram", "text": "unknown"},
            {"text": "last"}
        ]);
        let expected = "Title\nplain, both👍\n1. one\n2. two\n• deep\na | b\nc | \nMore\nlet x;\nWise\nNobody\na^2\nA cat\nlast";
        assert_eq!(text_of(&blocks), expected);
    }

    #[test]
    fn malformed_blocks_are_left_out() {
        for blocks in [
            json!(null),
            json!({}),
            json!("text"),
            json!([null, 1, "x", [], {"type": 7}, {"text": 7}, {"items": 1}]),
        ] {
            assert_eq!(text_of(&blocks), "", "{blocks}");
        }
        assert_eq!(
            text(&serde_json::value::to_raw_value(&json!("text")).unwrap()),
            ""
        );
    }

    #[test]
    fn depth_and_length_are_limited() {
        let nested = |levels: usize| {
            let open = r#"[{"type":"blockquote","blocks":"#.repeat(levels);
            let close = "}]".repeat(levels);
            let json =
                format!(r#"{{"blocks":{open}[{{"type":"paragraph","text":"deep"}}]{close}}}"#);
            text(&serde_json::from_str::<Box<RawValue>>(&json).unwrap())
        };
        assert_eq!([nested(0), nested(LEVELS - 2)], ["deep", "deep"]);
        assert_eq!([nested(LEVELS), nested(5_000)], ["", ""]);
        let long = text_of(
            &json!([{"type": "paragraph", "text": "é".repeat(4000)}, {"type": "paragraph", "text": "👋".repeat(4000)}]),
        );
        assert_eq!(long.chars().count(), TEXT_LIMIT);
        assert_eq!(long, format!("{}\n{}", "é".repeat(4000), "👋".repeat(95)));
    }
}
