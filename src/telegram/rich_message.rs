//! The text of a rich message (Bot API 10.1), which has blocks within blocks, and texts within texts.
//! Pure.

use std::collections::HashMap;

use serde_json::value::RawValue;

/// Code points of the longest text that sendMessage takes.
const TEXT_LIMIT: usize = 4096;
/// Levels of blocks and texts within each other that are read; deeper ones are left out.
const LEVELS: usize = 32;
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

type Fields<'r> = HashMap<String, &'r RawValue>;

/// The text of a rich message, a line for each block, without formatting; at most 4096 code points.
pub(crate) fn text(rich_message: &RawValue) -> String {
    let mut text = Text {
        all: String::new(),
        left: TEXT_LIMIT,
    };
    if let Some(blocks) = fields(rich_message).get("blocks") {
        text.blocks(blocks, LEVELS);
    }
    text.all.trim().to_owned()
}

/// The text as far as it was read.
struct Text {
    all: String,
    /// Code points that may still follow.
    left: usize,
}

impl Text {
    fn push(&mut self, text: &str) {
        let before = self.all.len();
        self.all.extend(text.chars().take(self.left));
        self.left -= self.all[before..].chars().count();
    }

    /// Ends the line, if one has begun.
    fn end_line(&mut self) {
        if !self.all.is_empty() && !self.all.ends_with('\n') {
            self.push("\n");
        }
    }

    fn blocks(&mut self, blocks: &RawValue, levels: usize) {
        for block in items(blocks) {
            self.block(block, levels);
        }
    }

    fn block(&mut self, block: &RawValue, levels: usize) {
        if levels == 0 || self.left == 0 {
            return;
        }
        let fields = fields(block);
        // The items of a list are blocks without a type.
        if let Some(kind) = string(&fields, "type")
            && !KNOWN_BLOCKS.contains(&kind.as_str())
        {
            return;
        }

        for name in BLOCK_TEXTS {
            if let Some(part) = fields.get(name) {
                self.inline(part, levels - 1);
                self.end_line();
            }
        }
        if let Some(blocks) = fields.get("blocks") {
            self.blocks(blocks, levels - 1);
        }
        if let Some(list) = fields.get("items") {
            for item in items(list) {
                self.item(item, levels - 1);
            }
        }
        if let Some(table) = fields.get("cells") {
            for row in items(table) {
                self.row(row, levels - 1);
            }
        }
        self.end_line();
    }

    fn item(&mut self, item: &RawValue, levels: usize) {
        if let Some(label) = string(&fields(item), "label") {
            self.push(&label);
            self.push(" ");
        }
        self.block(item, levels);
        self.end_line();
    }

    fn row(&mut self, row: &RawValue, levels: usize) {
        for (number, cell) in items(row).into_iter().enumerate() {
            if number > 0 {
                self.push(" | ");
            }
            self.inline(cell, levels);
        }
        self.end_line();
    }

    /// A text: a string, a list of texts, or an object around one.
    fn inline(&mut self, text: &RawValue, levels: usize) {
        if levels == 0 || self.left == 0 {
            return;
        }
        match text.get().as_bytes().first() {
            Some(b'"') => self.push(&read::<String>(text).unwrap_or_default()),
            Some(b'[') => {
                for text in items(text) {
                    self.inline(text, levels - 1);
                }
            }
            Some(b'{') => {
                let fields = fields(text);
                if let Some(part) = TEXT_PARTS.iter().find_map(|name| fields.get(*name)) {
                    self.inline(part, levels - 1);
                }
            }
            _ => {}
        }
    }
}

/// Reads one level of JSON. Deeper levels stay raw until they are read themselves, so that no depth
/// overflows the stack.
fn read<'r, T: serde::Deserialize<'r>>(json: &'r RawValue) -> Option<T> {
    serde_json::from_str(json.get()).ok()
}

fn fields(object: &RawValue) -> Fields<'_> {
    read(object).unwrap_or_default()
}

/// A field that is a string.
fn string(fields: &Fields<'_>, name: &str) -> Option<String> {
    let field = fields.get(name)?;
    read(field)
}

fn items(list: &RawValue) -> Vec<&RawValue> {
    read(list).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

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
