//! The note that the bots poll, with the reason: it outlives a restart, so that no start tries a
//! webhook that did not work before.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::policy::Reason;
use crate::config::{Config, Delivery};
use crate::system::files;

/// The reason for which the bots poll, by the settings and the note; None when they do not poll.
pub(crate) fn reason(config: &Config) -> Option<String> {
    match config.delivery {
        Delivery::Polling => Some(Reason::Settings.to_string()),
        Delivery::Auto => PollingNote::new(config).read(),
        Delivery::Webhook => None,
    }
}

/// The note's file. With other settings, a note from before says nothing.
pub(crate) struct PollingNote {
    file: PathBuf,
    /// The settings that decide whether a webhook can work; the file's first line.
    about: String,
}

impl PollingNote {
    /// The note of a home with these settings.
    pub(crate) fn new(config: &Config) -> Self {
        let Config {
            public_host,
            public_port,
            listen,
            port_mapping,
            ..
        } = config;
        Self {
            file: config.state_dir.join("polling"),
            about: format!(
                "{public_host}:{public_port} to {listen}, mapped by the router: {port_mapping}"
            ),
        }
    }

    /// The noted reason; None when the bots did not poll, or with other settings.
    pub(crate) fn read(&self) -> Option<String> {
        let text = fs::read_to_string(&self.file).ok()?;
        let (about, reason) = text.split_once('\n')?;
        if about != self.about {
            return None;
        }
        Some(reason.trim_end().to_owned())
    }

    /// Notes that the bots poll for this reason; with None, that they do not poll.
    pub(crate) fn write(&self, reason: Option<&str>) {
        let written = match reason {
            Some(reason) => {
                files::write_note(&self.file, format!("{}\n{reason}\n", self.about).as_bytes())
            }
            None => match fs::remove_file(&self.file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            },
        };
        if let Err(error) = written {
            warn_unwritten(&self.file, &error);
        }
    }
}

/// Warns that a note of whether Telegram reaches the bots could not be written.
pub(super) fn warn_unwritten(file: &Path, error: &io::Error) {
    log::warn!(
        "{} could not be written: {error}. After a restart, the bot must find out again whether Telegram reaches it.",
        file.display()
    );
}
