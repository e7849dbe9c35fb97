//! Whether Telegram has reached the webhook as it is set now. An unchanged webhook is not set again
//! at a start, and so brings no call: the last verdict is kept in a file.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::polling_note::warn_unwritten;
use crate::status::facts::Status;
use crate::system::files;

/// The verdict on the registrations of all bots.
pub(super) struct Reached {
    /// Holds the digests of the registrations that Telegram has reached.
    note: PathBuf,
    digests: String,
    is_reached: bool,
    /// Shows it to a person.
    pub(super) status: Arc<Status>,
}

impl Reached {
    /// Of a bot that keeps its state in this folder.
    pub(super) fn new(state_dir: &Path, status: Arc<Status>) -> Self {
        Self {
            note: state_dir.join("reached"),
            digests: String::new(),
            is_reached: false,
            status,
        }
    }

    /// The registrations of these digests are wanted from now on.
    pub(super) fn begin(&mut self, digests: &BTreeSet<String>) {
        self.digests = digests.iter().map(|digest| format!("{digest}\n")).collect();
        self.set(false);
    }

    /// Telegram has them. When they are those that it reached before the start, the verdict of then
    /// holds.
    pub(super) fn registered(&mut self) {
        if self.is_noted() {
            self.set(true);
        }
    }

    /// Whether a call would be news.
    pub(super) fn is_awaited(&self) -> bool {
        !self.is_reached && !self.digests.is_empty()
    }

    /// Telegram gets in.
    pub(super) fn arrived(&mut self) {
        self.set(true);
        if !self.is_noted()
            && let Err(why) = files::write_note(&self.note, self.digests.as_bytes())
        {
            warn_unwritten(&self.note, &why);
        }
    }

    fn is_noted(&self) -> bool {
        fs::read_to_string(&self.note).is_ok_and(|noted| noted == self.digests)
    }

    fn set(&mut self, is_reached: bool) {
        self.is_reached = is_reached;
        self.status.reached(is_reached);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_holds_for_the_same_registrations_and_outlives_the_process() {
        let folder = std::env::temp_dir().join(format!("pihook-reached-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let digests = |names: &[&str]| {
            names
                .iter()
                .map(|&name| name.to_owned())
                .collect::<BTreeSet<_>>()
        };
        let start = || Reached::new(&folder, Arc::default());
        let mut reached = start();
        assert!(!reached.is_awaited(), "nothing is set yet");
        reached.begin(&digests(&["a", "b"]));
        reached.registered();
        assert!(reached.is_awaited());
        reached.arrived();
        assert!(!reached.is_awaited());

        let mut reached = start();
        reached.begin(&digests(&["a", "b"]));
        assert!(
            reached.is_awaited(),
            "Telegram may have another webhook meanwhile"
        );
        reached.registered();
        assert!(!reached.is_awaited());
        // A new certificate.
        reached.begin(&digests(&["a", "c"]));
        reached.registered();
        assert!(reached.is_awaited());
        fs::remove_dir_all(folder).unwrap();
    }
}
