//! The text of a rich message (Bot API 10.1): blocks within blocks, and in them texts within texts.
//! Pure.

use std::collections::HashMap;

use serde_json::value::RawValue;

/// Code points of a text that can be sent.
const TEXT_LIMIT: usize = 4096;
/// Blocks and texts may be so deep within each other; deeper ones are left out.
const LEVELS: usize = 32;
/// The blocks that hold text, by their `type`. There will be others, of which nothing is known.
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
/// The parts of a block that are texts, in the order in which they are seen, and those that are
/// lists of blocks.
const BLOCK_TEXTS: [&str; 6] = [
    "summary",
    "title",
    "text",
    "expression",
    "caption",
    "credit",
];
/// The parts of a piece of text, of which it has one.
const TEXT_PARTS: [&str; 4] = ["text", "texts", "alternative_text", "expression"];

type Fields<'r> = HashMap<String, &'r RawValue>;

/// The text of a rich message, a line for each block, without formatting.
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

struct Text {
    all: String,
    /// Code points that there is room for.
    left: usize,
}

impl Text {
    fn push(&mut self, text: &str) {
        let before = self.all.len();
        self.all.extend(text.chars().take(self.left));
        self.left -= self.all[before..].chars().count();
    }

    /// Whatever follows begins on a line of its own.
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
        let fields = fields(block);
        let kind: Option<String> = fields.get("type").and_then(|kind| read(kind));
        if levels == 0
            || self.left == 0
            || kind.is_some_and(|kind| !KNOWN_BLOCKS.contains(&kind.as_str()))
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
        for item in fields
            .get("items")
            .map(|all| items(all))
            .unwrap_or_default()
        {
            self.item(item, levels - 1);
        }
        for row in fields
            .get("cells")
            .map(|all| items(all))
            .unwrap_or_default()
        {
            self.row(row, levels - 1);
        }
        self.end_line();
    }

    fn item(&mut self, item: &RawValue, levels: usize) {
        let fields = fields(item);
        if let Some(label) = fields.get("label").and_then(|label| read::<String>(label)) {
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
            Some(b'[') => items(text)
                .into_iter()
                .for_each(|text| self.inline(text, levels - 1)),
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

/// One level alone: what lies deeper is read when its turn comes, however deep it goes.
fn read<'r, T: serde::Deserialize<'r>>(json: &'r RawValue) -> Option<T> {
    serde_json::from_str(json.get()).ok()
}

fn fields(object: &RawValue) -> Fields<'_> {
    read(object).unwrap_or_default()
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
    fn every_block_has_its_lines() {
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
    fn what_is_odd_is_left_out() {
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
    fn neither_depth_nor_length_is_endless() {
        let nested = |levels: usize| {
            let (open, close) = (
                r#"[{"type":"blockquote","blocks":"#.repeat(levels),
                "}]".repeat(levels),
            );
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
