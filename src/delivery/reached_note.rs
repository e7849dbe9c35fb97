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
pub(super) struct ReachedNote {
    /// Holds the digests of the registrations that Telegram has reached.
    note: PathBuf,
    digests: String,
    is_reached: bool,
    /// Shows the verdict to a person.
    status: Arc<Status>,
}

impl ReachedNote {
    /// The note in this folder, without a verdict yet.
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
        self.digests.clear();
        for digest in digests {
            self.digests.push_str(digest);
            self.digests.push('\n');
        }
        self.set(false);
    }

    /// Telegram has all of them. When they are the ones that it reached before the start, the verdict
    /// from then holds.
    pub(super) fn registered(&mut self) {
        if self.is_noted() {
            self.set(true);
        }
    }

    /// Whether it would be news that Telegram reaches this Pi.
    pub(super) fn is_awaited(&self) -> bool {
        !self.is_reached && !self.digests.is_empty()
    }

    /// Notes that Telegram has reached this Pi.
    pub(super) fn reached(&mut self) {
        self.set(true);
        if !self.is_noted()
            && let Err(error) = files::write_note(&self.note, self.digests.as_bytes())
        {
            warn_unwritten(&self.note, &error);
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
    fn the_reached_note_holds_for_the_same_registrations_and_outlives_the_process() {
        let folder = std::env::temp_dir().join(format!("pihook-reached-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let digests = |names: &[&str]| {
            names
                .iter()
                .map(|&name| name.to_owned())
                .collect::<BTreeSet<_>>()
        };
        let start = || ReachedNote::new(&folder, Arc::default());
        let mut note = start();
        assert!(!note.is_awaited(), "nothing is set yet");
        note.begin(&digests(&["a", "b"]));
        note.registered();
        assert!(note.is_awaited());
        note.reached();
        assert!(!note.is_awaited());

        let mut note = start();
        note.begin(&digests(&["a", "b"]));
        assert!(
            note.is_awaited(),
            "Telegram may have another webhook meanwhile"
        );
        note.registered();
        assert!(!note.is_awaited());
        // A new certificate.
        note.begin(&digests(&["a", "c"]));
        note.registered();
        assert!(note.is_awaited());
        fs::remove_dir_all(folder).unwrap();
    }
}
