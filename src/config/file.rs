//! A TOML file, read key by key, so that all of its mistakes are found at once.

use std::collections::HashMap;
use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::hint;
use crate::secret::mask;

/// One table of the file. What is taken out of it is known; what is left at the end is a mistake.
pub(crate) struct Table<'t> {
    entries: DeTable<'t>,
    /// What is wrong, in the order in which it was found.
    pub(crate) problems: Vec<String>,
    name: String,
    text: &'t str,
    /// The line of its heading, if it has one.
    heading: Option<Range<usize>>,
    /// The keys that it can have, and where they stand.
    known: HashMap<String, Option<Range<usize>>>,
    /// The keys of the tables above it, or below it, and how those are called.
    elsewhere: Vec<(String, &'static str)>,
}

impl<'t> Table<'t> {
    /// Reads the text of the file at `path`. If it is not valid TOML, it has no other problems.
    pub(crate) fn parse(path: &Path, text: &'t str) -> Self {
        let name = path.display().to_string();
        let (entries, errors) = DeTable::parse_recoverable(text);
        let mut table = Self {
            entries: if errors.is_empty() {
                entries.into_inner()
            } else {
                DeTable::new()
            },
            problems: Vec::new(),
            name,
            text,
            heading: None,
            known: HashMap::new(),
            elsewhere: Vec::new(),
        };
        let mut last = None;
        for error in errors {
            let line = table.line(error.span());
            // One mistake is often several to the parser.
            if line.is_none() || line != last {
                let words = line
                    .and_then(|line| text.lines().nth(line - 1))
                    .and_then(hint::about_line);
                // Not the error's Display: it quotes the line, and a token may stand in it.
                let words = words.unwrap_or_else(|| error.message().replace('\n', ", "));
                table.problem_at(error.span(), &words);
            }
            last = line;
        }
        table
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(&self.name)
    }

    /// Notes a problem with a key that was taken already, or is missing: `key` begins with its
    /// name.
    pub(crate) fn problem(&mut self, key: &str, what: &str) {
        let place = self
            .known
            .get(key.split(' ').next().unwrap_or_default())
            .cloned()
            .flatten();
        self.problem_at(place, &format!("{key} {what}"));
    }

    fn problem_at(&mut self, place: Option<Range<usize>>, what: &str) {
        let line = self.line(place.or(self.heading.clone()));
        let line = line.map_or(String::new(), |line| format!(", line {line}"));
        let end = if what.ends_with('?') { "" } else { "." };
        self.problems
            .push(format!("{}{line}: {what}{end}", self.name));
    }

    fn line(&self, place: Option<Range<usize>>) -> Option<usize> {
        place
            .and_then(|place| self.text.get(..place.start))
            .map(|before| before.matches('\n').count() + 1)
    }

    fn take(&mut self, key: &str) -> Option<Spanned<DeValue<'t>>> {
        let value = self.entries.remove(key);
        self.known
            .insert(key.to_owned(), value.as_ref().map(Spanned::span));
        value
    }

    /// Whether the key is set, and not taken yet.
    pub(crate) fn has(&mut self, key: &str) -> bool {
        self.known.entry(key.to_owned()).or_default();
        self.entries.contains_key(key)
    }

    /// A string that `read` makes something of; `read` says what is wrong with it.
    pub(crate) fn parsed<T>(
        &mut self,
        key: &str,
        default: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.take(key);
        let place = value.as_ref().map(Spanned::span);
        let read = match value.as_ref().map(Spanned::get_ref) {
            None => read(default),
            // The token's own key, and the one that may hold it. No other value ends in an error, a
            // log or a file name then.
            Some(DeValue::String(text)) if key != "token" && key != "path" => {
                without_token(text).and_then(read)
            }
            Some(DeValue::String(text)) => read(text),
            // The value is not shown: a token can stand in the wrong place.
            Some(_) => Err("must be a string, in quotes".into()),
        };
        read.map_err(|what| self.problem_at(place, &format!("{key} {what}")))
            .ok()
    }

    /// Any string.
    pub(crate) fn string(&mut self, key: &str, default: &str) -> String {
        self.parsed(key, default, |text| Ok(text.to_owned()))
            .unwrap_or_default()
    }

    /// A number of a range.
    pub(crate) fn number(&mut self, key: &str, default: u16, range: RangeInclusive<u16>) -> u16 {
        let Some(value) = self.take(key) else {
            return default;
        };
        let number = match value.get_ref() {
            DeValue::Integer(digits) => u16::from_str_radix(digits.as_str(), digits.radix()).ok(),
            _ => None,
        };
        number
            .filter(|number| range.contains(number))
            .unwrap_or_else(|| {
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
            })
    }

    /// A list of strings, each of which `read` makes something of.
    pub(crate) fn list<T>(
        &mut self,
        key: &str,
        default: &[&str],
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let Some(value) = self.take(key) else {
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
            let read = match item.get_ref() {
                DeValue::String(text) => without_token(text).and_then(&read),
                _ => Err("must hold strings, in quotes".into()),
            };
            match read {
                Ok(entry) => list.push(entry),
                Err(what) => self.problem_at(Some(item.span()), &format!("{key} {what}")),
            }
        }
        list
    }

    /// Hands each `[[key]]` table to `read`, one empty table if there is none.
    pub(crate) fn tables(&mut self, key: &str, mut read: impl FnMut(&mut Table<'t>)) {
        let above: Vec<_> = self
            .known
            .keys()
            .map(|key| (key.clone(), "above the first [[bot]]"))
            .collect();
        let items = match self
            .take(key)
            .map(|value| (value.span(), value.into_inner()))
        {
            None => vec![(None, DeTable::new())],
            Some((_, DeValue::Array(items)))
                if !items.is_empty() && items.iter().all(|it| it.get_ref().is_table()) =>
            {
                items
                    .into_iter()
                    .filter_map(|item| Some((Some(item.span()), into_table(item.into_inner())?)))
                    .collect()
            }
            Some((place, _)) => {
                return self
                    .problem_at(Some(place), &format!("{key} must be written as [[{key}]]"));
            }
        };
        for (heading, entries) in items {
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
            self.elsewhere = table
                .known
                .into_keys()
                .map(|key| (key, "below [[bot]]"))
                .collect();
        }
    }

    /// Reports every key that was not taken.
    pub(crate) fn finish(&mut self) {
        for key in std::mem::take(&mut self.entries).keys() {
            let name: &str = key.get_ref();
            let what = if let Some((_, place)) =
                self.elsewhere.iter().find(|(known, _)| known == name)
            {
                // It is not missing.
                let missing = format!("{}: {name} is missing", self.name);
                self.problems
                    .retain(|problem| !problem.starts_with(&missing));
                format!("{name} is in the wrong place: move it {place}")
            } else {
                let known: Vec<_> = self
                    .known
                    .keys()
                    .chain(self.elsewhere.iter().map(|(key, _)| key))
                    .collect();
                match hint::nearest(name, &known) {
                    Some(meant) => format!("unknown setting {name:?}: did you mean {meant}?"),
                    None => {
                        format!(
                            "unknown setting {name:?}: deploy/pihook.toml and `man pihook.toml` list all settings"
                        )
                    }
                }
            };
            self.problem_at(Some(key.span()), &what);
        }
    }
}

fn without_token(text: &str) -> Result<&str, String> {
    if mask(text) == text {
        Ok(text)
    } else {
        Err("contains a token: put the token into the file that token_file names".into())
    }
}

fn into_table(value: DeValue<'_>) -> Option<DeTable<'_>> {
    match value {
        DeValue::Table(table) => Some(table),
        _ => None,
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
