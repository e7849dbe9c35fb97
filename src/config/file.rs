//! A TOML file, read key by key, so that all of its mistakes are found at once.

use std::collections::HashMap;
use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::hint;
use super::problems::{Problem, ProblemKind};
use crate::secret::mask;

/// Where a key belongs that is in the wrong place; continues "move it".
const ABOVE: &str = "above the first [[bot]]";
const BELOW: &str = "below [[bot]]";

/// One table of the file. Each key that is read is removed: what is left at the end is unknown.
pub(crate) struct Table<'t> {
    entries: DeTable<'t>,
    /// What is wrong, in the order in which it was found.
    pub(crate) problems: Vec<Problem>,
    name: String,
    text: &'t str,
    /// The line of its heading, if it has one.
    heading: Option<Range<usize>>,
    /// The keys that it can have, and where those stand that are there.
    known: HashMap<String, Option<Range<usize>>>,
    /// The keys of the tables above it or below it, and where they belong.
    elsewhere: Vec<(String, &'static str)>,
}

impl<'t> Table<'t> {
    /// Reads the text of the file at `path`. Text that is not valid TOML has no keys, and each wrong
    /// line is a problem.
    pub(crate) fn parse(path: &Path, text: &'t str) -> Self {
        let name = path.display().to_string();
        let (entries, errors) = DeTable::parse_recoverable(text);
        let entries = if errors.is_empty() {
            entries.into_inner()
        } else {
            DeTable::new()
        };
        let mut table = Self {
            entries,
            problems: Vec::new(),
            name,
            text,
            heading: None,
            known: HashMap::new(),
            elsewhere: Vec::new(),
        };

        let mut last = None;
        for error in errors {
            let number = table.line(error.span());
            // The parser often finds several errors in one mistake.
            if number.is_none() || number != last {
                let line = match number {
                    Some(number) => text.lines().nth(number - 1).unwrap_or_default(),
                    None => "",
                };
                // Not the error's Display: it quotes the line, and a token may stand in it.
                let parsers = error.message().replace('\n', ", ");
                let words = hint::about_line(line).unwrap_or(parsers);
                table.problem_at(error.span(), &words);
            }
            last = number;
        }
        table
    }

    /// The path of the file.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(&self.name)
    }

    /// Notes a problem with a key that was read already, or is missing: `key` begins with its name.
    pub(crate) fn problem(&mut self, key: &str, what: &str) {
        self.problem_of(ProblemKind::Other, key, what);
    }

    /// Like [`Table::problem`], of this kind.
    pub(crate) fn problem_of(&mut self, kind: ProblemKind, key: &str, what: &str) {
        let name = key.split(' ').next().unwrap_or_default();
        let place = match self.known.get(name) {
            Some(place) => place.clone(),
            None => None,
        };
        self.push(kind, place, &format!("{key} {what}"));
    }

    /// Notes a problem at this place, or else at the heading of the table.
    fn problem_at(&mut self, place: Option<Range<usize>>, what: &str) {
        self.push(ProblemKind::Other, place, what);
    }

    fn push(&mut self, kind: ProblemKind, place: Option<Range<usize>>, what: &str) {
        let line = match self.line(place.or(self.heading.clone())) {
            Some(line) => format!(", line {line}"),
            None => String::new(),
        };
        let end = if what.ends_with('?') { "" } else { "." };
        let words = format!("{}{line}: {what}{end}", self.name);
        self.problems.push(Problem { kind, words });
    }

    /// The number of the line at this place, from 1.
    fn line(&self, place: Option<Range<usize>>) -> Option<usize> {
        let before = self.text.get(..place?.start)?;
        Some(before.matches('\n').count() + 1)
    }

    /// The value of a key, which counts as known then.
    fn remove(&mut self, key: &str) -> Option<Spanned<DeValue<'t>>> {
        let value = self.entries.remove(key);
        let place = value.as_ref().map(Spanned::span);
        self.known.insert(key.to_owned(), place);
        value
    }

    /// Whether the key is set, and was not read yet.
    pub(crate) fn has(&mut self, key: &str) -> bool {
        self.known.entry(key.to_owned()).or_default();
        self.entries.contains_key(key)
    }

    /// A string that `read` parses, or `default`. None where it is wrong; `read` says why, in words
    /// that continue the key.
    pub(crate) fn parsed<T>(
        &mut self,
        key: &str,
        default: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.remove(key);
        let place = value.as_ref().map(Spanned::span);
        let parsed = match value.as_ref().map(Spanned::get_ref) {
            None => read(default),
            // Only these two may hold a token. Other values show in errors, logs and file names.
            Some(DeValue::String(text)) if key == "token" || key == "path" => read(text),
            Some(DeValue::String(text)) => without_token(text).and_then(read),
            // The value is not shown: a token can stand in the wrong place.
            Some(_) => Err("must be a string, in quotes".into()),
        };
        match parsed {
            Ok(parsed) => Some(parsed),
            Err(what) => {
                self.problem_at(place, &format!("{key} {what}"));
                None
            }
        }
    }

    /// Any string; empty where the value is wrong.
    pub(crate) fn string(&mut self, key: &str, default: &str) -> String {
        let read = |text: &str| Ok(text.to_owned());
        self.parsed(key, default, read).unwrap_or_default()
    }

    /// A whole number of a range, or `default` where it is missing or wrong.
    pub(crate) fn number(&mut self, key: &str, default: u16, range: RangeInclusive<u16>) -> u16 {
        let Some(value) = self.remove(key) else {
            return default;
        };
        let number = match value.get_ref() {
            DeValue::Integer(digits) => u16::from_str_radix(digits.as_str(), digits.radix()).ok(),
            _ => None,
        };
        if let Some(number) = number
            && range.contains(&number)
        {
            return number;
        }

        let quotes = if value.get_ref().is_str() {
            ", without quotes"
        } else {
            ""
        };
        let what = format!(
            "{key} must be a whole number from {} to {}{quotes}",
            range.start(),
            range.end()
        );
        self.problem_at(Some(value.span()), &what);
        default
    }

    /// A list of strings, each of which `read` parses; the wrong ones are left out.
    pub(crate) fn list<T>(
        &mut self,
        key: &str,
        default: &[&str],
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let Some(value) = self.remove(key) else {
            return default.iter().filter_map(|text| read(text).ok()).collect();
        };

        let mut list = Vec::new();
        let DeValue::Array(items) = value.get_ref() else {
            self.problem_at(
                Some(value.span()),
                &format!("{key} must be a list of strings, like [\"…\", \"…\"]"),
            );
            return list;
        };
        for item in items {
            let parsed = match item.get_ref() {
                DeValue::String(text) => without_token(text).and_then(&read),
                _ => Err("must hold strings, in quotes".into()),
            };
            match parsed {
                Ok(entry) => list.push(entry),
                Err(what) => self.problem_at(Some(item.span()), &format!("{key} {what}")),
            }
        }
        list
    }

    /// Hands each `[[key]]` table to `read`, one empty table if there is none.
    pub(crate) fn tables(&mut self, key: &str, mut read: impl FnMut(&mut Table<'t>)) {
        let mut above = Vec::new();
        for key in self.known.keys() {
            above.push((key.clone(), ABOVE));
        }

        let tables = match self.remove(key) {
            None => vec![(None, DeTable::new())],
            Some(value) => {
                let place = value.span();
                let Some(tables) = array_of_tables(value.into_inner()) else {
                    let what = format!("{key} must be written as [[{key}]]");
                    return self.problem_at(Some(place), &what);
                };
                tables
            }
        };

        for (heading, entries) in tables {
            let mut table = Table {
                entries,
                problems: std::mem::take(&mut self.problems),
                name: self.name.clone(),
                text: self.text,
                heading,
                known: HashMap::new(),
                elsewhere: above.clone(),
            };
            read(&mut table);
            table.finish();
            self.problems = table.problems;

            self.elsewhere.clear();
            for key in table.known.into_keys() {
                self.elsewhere.push((key, BELOW));
            }
        }
    }

    /// Reports every key that is left.
    pub(crate) fn finish(&mut self) {
        for key in std::mem::take(&mut self.entries).keys() {
            let what = self.unknown(key.get_ref());
            self.problem_at(Some(key.span()), &what);
        }
    }

    /// What to say of an unknown key: its right place, or the known key that was meant.
    fn unknown(&mut self, name: &str) -> String {
        if let Some((_, place)) = self.elsewhere.iter().find(|(known, _)| known == name) {
            // The key was reported as missing, but it only is in the wrong place.
            self.problems.retain(|problem| match problem.kind {
                ProblemKind::Missing(keys) => !keys.contains(&name),
                _ => true,
            });
            return format!("{name} is in the wrong place: move it {place}");
        }

        let mut known: Vec<_> = self.known.keys().collect();
        known.extend(self.elsewhere.iter().map(|(key, _)| key));
        match hint::nearest(name, &known) {
            Some(meant) => format!("unknown setting {name:?}: did you mean {meant}?"),
            None => format!(
                "unknown setting {name:?}: deploy/pihook.toml and `man pihook.toml` list all settings"
            ),
        }
    }
}

/// The tables of a `[[key]]`, with the places of their headings; None where it is written otherwise.
fn array_of_tables(value: DeValue<'_>) -> Option<Vec<(Option<Range<usize>>, DeTable<'_>)>> {
    let DeValue::Array(items) = value else {
        return None;
    };
    let mut tables = Vec::new();
    for item in items {
        let heading = item.span();
        let DeValue::Table(entries) = item.into_inner() else {
            return None;
        };
        tables.push((Some(heading), entries));
    }
    if tables.is_empty() {
        None
    } else {
        Some(tables)
    }
}

/// # Errors
/// When the text contains a token.
fn without_token(text: &str) -> Result<&str, String> {
    if mask(text) == text {
        Ok(text)
    } else {
        Err("contains a token: put the token into the file that token_file names".into())
    }
}

impl fmt::Debug for Table<'_> {
    /// Without the values: tokens are among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
