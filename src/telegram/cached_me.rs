//! The last answer of getMe, kept in a file: a bot handles no update before it knows its own name, and
//! with the file it can also do so while the Bot API is down.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::types::Me;
use crate::secret::printable;
use crate::system::files;
use crate::system::lock::lock;

/// The last answer of getMe for one bot.
pub(crate) struct CachedMe {
    file: PathBuf,
    me: Mutex<Option<Arc<Me>>>,
}

impl CachedMe {
    /// Begins with the content of the file, if that is about the bot with this id.
    pub(crate) fn load(file: PathBuf, id: u64) -> Self {
        let me = read(&file, id);
        if let Some(me) = &me {
            log_name(me);
        }
        Self {
            file,
            me: Mutex::new(me.map(Arc::new)),
        }
    }

    /// The last answer; None before getMe has ever answered.
    pub(crate) fn get(&self) -> Option<Arc<Me>> {
        lock(&self.me).clone()
    }

    /// Keeps an answer, and writes it to the file when it differs from the last one.
    pub(crate) fn set(&self, me: Me) {
        if self.get().is_some_and(|known| *known == me) {
            return;
        }

        log_name(&me);
        if let Err(error) = self.write(&me) {
            log::warn!(
                "The bot's name could not be saved in {}: {error}. After a restart, updates wait until the Bot API \
                 answers getMe.",
                self.file.display()
            );
        }
        *lock(&self.me) = Some(Arc::new(me));
    }

    fn write(&self, me: &Me) -> io::Result<()> {
        files::write_note(&self.file, &serde_json::to_vec(me)?)
    }
}

/// The answer in the file; None where there is none, or it is about another bot.
fn read(file: &Path, id: u64) -> Option<Me> {
    let json = fs::read(file).ok()?;
    let me: Me = serde_json::from_slice(&json).ok()?;
    (u64::try_from(me.id) == Ok(id)).then_some(me)
}

fn log_name(me: &Me) {
    let name = printable(&me.username);
    log::info!("bot {} is @{name}: https://t.me/{name}", me.id);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cached_me_outlives_the_process_and_is_for_one_bot() {
        let folder = std::env::temp_dir().join(format!("pihook-me-{}", std::process::id()));
        let file = folder.join("me-7");
        let me = |name: &str| Me {
            id: 7,
            first_name: "Seven".into(),
            username: name.into(),
        };
        let known = CachedMe::load(file.clone(), 7);
        assert_eq!(known.get(), None);
        for name in ["seven_bot", "seven_bot", "siete_bot"] {
            known.set(me(name));
            assert_eq!(known.get().as_deref(), Some(&me(name)));
            assert_eq!(
                CachedMe::load(file.clone(), 7).get().as_deref(),
                Some(&me(name))
            );
        }
        assert_eq!(CachedMe::load(file.clone(), 8).get(), None);
        fs::write(&file, "{").unwrap();
        assert_eq!(CachedMe::load(file, 7).get(), None);
        fs::remove_dir_all(folder).unwrap();
    }
}
