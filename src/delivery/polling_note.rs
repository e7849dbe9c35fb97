//! The note that this home polls, and why: it outlives a restart, so that no start tries what did
//! not work before.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::policy::Reason;
use crate::config::{Config, Delivery};
use crate::system::files;

/// Why the bots poll, by the settings and the note; None when they do not.
pub(crate) fn reason(config: &Config) -> Option<String> {
    match config.delivery {
        Delivery::Polling => Some(Reason::Settings.to_string()),
        Delivery::Auto => PollingNote::new(config).read(),
        Delivery::Webhook => None,
    }
}

/// The file, and what it is about: with other settings, what was seen before says nothing.
pub(crate) struct PollingNote {
    file: PathBuf,
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

    /// Why the bots poll; None when they did not, or with other settings.
    pub(crate) fn read(&self) -> Option<String> {
        let text = fs::read_to_string(&self.file).ok()?;
        let (about, reason) = text.split_once('\n')?;
        (about == self.about).then(|| reason.trim_end().to_owned())
    }

    /// Notes that the bots poll, and why; with None, that they do not.
    pub(crate) fn write(&self, reason: Option<&str>) {
        let written = match reason {
            Some(reason) => {
                files::write_note(&self.file, format!("{}\n{reason}\n", self.about).as_bytes())
            }
            None => fs::remove_file(&self.file).or_else(|why| match why.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(why),
            }),
        };
        if let Err(why) = written {
            warn_unwritten(&self.file, &why);
        }
    }
}

/// Says what is lost with a note of whether Telegram gets in.
pub(super) fn warn_unwritten(file: &Path, why: &io::Error) {
    log::warn!(
        "{} could not be written: {why}. After a restart, the bot must find out again whether Telegram reaches it.",
        file.display()
    );
}
