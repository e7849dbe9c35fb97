//! The doctor's findings, and how they reach a person or a script.

use serde::Serialize;

use crate::secret::{one_line, printable};

/// What to do when the bot is not running.
const START: &str = "start the bot: `sudo systemctl start pihook`, or `pihook run`";

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mark {
    /// As it should be.
    Good,
    /// The bot works, or the doctor cannot know; there is something to do.
    Warning,
    /// The bot does not work until this is repaired.
    Bad,
}

/// One check, for a person or a script.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    /// What was checked, in a word or two.
    pub(crate) check: &'static str,
    /// The result.
    pub(crate) mark: Mark,
    /// What was found.
    pub(crate) found: String,
    /// What to do; empty when there is nothing.
    pub(crate) remedy: String,
    /// It says only that the bot does not run, and not why.
    #[serde(skip)]
    pub(crate) is_not_running: bool,
}

impl Finding {
    /// Whether the bot does not work until this is repaired.
    pub(crate) fn is_bad(&self) -> bool {
        self.mark == Mark::Bad
    }

    /// The finding as a person reads it, in one or two lines, with colours on a terminal.
    pub(crate) fn line(&self, coloured: bool) -> String {
        let (mark, colour) = match self.mark {
            Mark::Good => ('✓', 32),
            Mark::Warning => ('!', 33),
            Mark::Bad => ('✗', 31),
        };
        let mark = if coloured {
            format!("\x1b[{colour}m{mark}\x1b[0m")
        } else {
            mark.to_string()
        };
        let remedy = if self.remedy.is_empty() {
            String::new()
        } else {
            format!("\n    → {}", self.remedy)
        };
        format!("{mark} {}: {}{remedy}", self.check, self.found)
    }
}

/// The doctor at work: it passes each finding on as soon as it is made.
pub(crate) struct Doctor<'a> {
    say: &'a mut dyn FnMut(Finding),
    /// Whether something bad was found.
    bad: bool,
    /// Whether what is bad is only a warning, because the bot works without it.
    pub(super) is_lenient: bool,
}

impl<'a> Doctor<'a> {
    pub(super) fn new(say: &'a mut dyn FnMut(Finding)) -> Self {
        Self {
            say,
            bad: false,
            is_lenient: false,
        }
    }

    /// Whether nothing bad was found.
    pub(super) fn is_well(&self) -> bool {
        !self.bad
    }

    pub(super) fn good(&mut self, check: &'static str, found: impl Into<String>) {
        self.say(check, Mark::Good, &found.into(), "");
    }

    pub(super) fn warn(
        &mut self,
        check: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.say(check, Mark::Warning, &found.into(), &remedy.into());
    }

    pub(super) fn bad(
        &mut self,
        check: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let mark = if self.is_lenient {
            Mark::Warning
        } else {
            self.bad = true;
            Mark::Bad
        };
        self.say(check, mark, &found.into(), &remedy.into());
    }

    /// The bot does not run, and nothing seen so far is the reason.
    pub(super) fn not_running(&mut self, check: &'static str, found: &str) {
        self.bad = true;
        (self.say)(Finding {
            is_not_running: true,
            ..finding(check, Mark::Bad, found, START)
        });
    }

    fn say(&mut self, check: &'static str, mark: Mark, found: &str, remedy: &str) {
        (self.say)(finding(check, mark, found, remedy));
    }
}

fn finding(check: &'static str, mark: Mark, found: &str, remedy: &str) -> Finding {
    // Some of the text is from routers, Telegram, certificates and other programs.
    Finding {
        check,
        mark,
        found: printable(found),
        remedy: one_line(remedy),
        is_not_running: false,
    }
}
