//! Reads what routers answer: XML, and much that is no XML. A scan finds the few elements that are
//! needed. A parser of XML would refuse many of these documents as a whole.
//!
//! A document is a list of elements, each with the text at its beginning. The caller bounds the
//! length of the document.

use crate::system::text;

/// The services of a description that are read: a router has a handful.
const MAX_SERVICES: usize = 64;
/// The characters of an element's name that are kept.
const NAME_LIMIT: usize = 128;

/// What a description says of a device.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// What URLs are relative to, if it is not where the description came from.
    pub url_base: Option<String>,
    /// Types of services, and the URLs where they are asked.
    pub services: Vec<(String, String)>,
}

/// The answer to a call.
#[derive(Debug, PartialEq, Eq)]
pub enum UpnpAnswer {
    /// The text of the element that was wanted.
    Value(String),
    /// The code and the description of an error.
    Refused(u32, String),
}

/// The name of an element, in lower case and without its prefix, and its text.
type Element = (String, String);

/// Reads a device's description.
#[must_use]
pub fn description(bytes: &[u8]) -> Description {
    let mut description = Description::default();
    // The service whose elements are being read: its type and URL.
    let mut service: Option<(String, String)> = None;
    for (name, value) in elements(bytes) {
        match (name.as_str(), &mut service) {
            ("urlbase", _) if !value.is_empty() => description.url_base = Some(value),
            ("service", _) => {
                description.services.extend(service.take());
                service = Some((String::new(), String::new()));
            }
            ("servicetype", Some((kind, _))) if kind.is_empty() => *kind = value,
            ("controlurl", Some((_, url))) if url.is_empty() => *url = value,
            _ => {}
        }
        if description.services.len() > MAX_SERVICES {
            break;
        }
    }
    description.services.extend(service);

    description
        .services
        .retain(|(kind, url)| !kind.is_empty() && !url.is_empty());
    description
}

/// Reads the element `wanted` of an answer, or the error in it. Of several elements with this name
/// the first counts.
#[must_use]
pub fn answer(bytes: &[u8], wanted: &str) -> Option<UpnpAnswer> {
    let all = elements(bytes);

    if let Some(code) = text_of(&all, "errorCode")
        && let Ok(code) = code.parse()
    {
        let words = text_of(&all, "errorDescription").unwrap_or_default();
        return Some(UpnpAnswer::Refused(code, words.to_owned()));
    }
    if let Some(value) = text_of(&all, wanted) {
        return Some(UpnpAnswer::Value(value.to_owned()));
    }

    // A fault of SOAP without UPnP's own part.
    text_of(&all, "fault")?;
    let words = text_of(&all, "faultstring").unwrap_or("an unknown error");
    Some(UpnpAnswer::Refused(0, words.to_owned()))
}

/// The text of the first element with this name.
fn text_of<'e>(all: &'e [Element], wanted: &str) -> Option<&'e str> {
    for (name, value) in all {
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
    }
    None
}

/// Whether a character is blank; some routers pad with NUL.
fn is_padding(c: char) -> bool {
    c.is_whitespace() || c == '\0'
}

/// UTF-8 and UTF-16, or else Latin-1, whatever the document calls itself: what is needed is ASCII.
fn decode(bytes: &[u8]) -> String {
    let start = bytes
        .iter()
        .position(|byte| !byte.is_ascii_whitespace() && *byte != 0)
        .unwrap_or(bytes.len());
    // Zeros before the text are padding; before a letter of UTF-16 there is one.
    let bytes = if start > 1 && !matches!(bytes, [0xfe | 0xff, ..]) {
        &bytes[start..]
    } else {
        bytes
    };

    let is_utf16 = matches!(
        bytes,
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'<', 0, ..] | [0, b'<', ..]
    );
    match std::str::from_utf8(bytes) {
        Ok(text) if !is_utf16 => text.trim_start_matches('\u{feff}').to_owned(),
        Err(_) if !is_utf16 => bytes.iter().map(|byte| char::from(*byte)).collect(),
        _ => text::decode(bytes),
    }
}

/// All elements of a document. Reads tag by tag, and forgives everything: prefixes that nobody
/// declared, raw `&`, a document type, elements and tags without an end. Only a `>` in an attribute
/// is read wrongly: the elements that are needed have no such attribute.
fn elements(bytes: &[u8]) -> Vec<Element> {
    let text = decode(bytes);
    let mut found: Vec<Element> = Vec::new();
    let mut rest = text.as_str();
    // Whether the text of the last element is being read. It ends at the next tag.
    let mut is_open = false;
    while let Some(start) = rest.find('<') {
        let (before, tag) = rest.split_at(start);
        if is_open {
            add_text(&mut found, &unescaped(before));
        }

        if let Some(content) = tag.strip_prefix("<![CDATA[") {
            let (content, after) = content.split_once("]]>").unwrap_or((content, ""));
            if is_open {
                add_text(&mut found, content);
            }
            rest = after;
            continue;
        }
        if let Some(comment) = tag.strip_prefix("<!--") {
            let (_comment, after) = comment.split_once("-->").unwrap_or_default();
            rest = after;
            continue;
        }

        let (content, after) = tag[1..].split_once('>').unwrap_or((&tag[1..], ""));
        rest = after;
        match content.bytes().next() {
            // A document type, or a processing instruction.
            Some(b'!' | b'?') => {}
            Some(b'/') | None => is_open = false,
            Some(_) => {
                is_open = !content.ends_with('/');
                found.push((local_name(content), String::new()));
            }
        }
    }

    for (_, value) in &mut found {
        *value = value.trim_matches(is_padding).to_owned();
    }
    found
}

/// Continues the text of the last element.
fn add_text(found: &mut [Element], more: &str) {
    if let Some((_, value)) = found.last_mut() {
        value.push_str(more);
    }
}

/// The name of a tag, in lower case and without its prefix.
fn local_name(tag: &str) -> String {
    let is_end = |c: char| c.is_whitespace() || c == '/';
    let name = tag.split(is_end).next().unwrap_or_default();
    let name = name.rsplit(':').next().unwrap_or_default();
    let name: String = name.chars().take(NAME_LIMIT).collect();
    name.to_ascii_lowercase()
}

/// A text with its entities replaced; an unknown one stays as it is.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('&');
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(';').unwrap_or(("", part));
        if let Some(c) = entity(name) {
            whole.push(c);
            whole.push_str(rest);
        } else {
            whole.push('&');
            whole.push_str(part);
        }
    }
    whole
}

/// The character that an entity stands for, given its name between `&` and `;`.
fn entity(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some(' '),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    }
}
