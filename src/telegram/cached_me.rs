//! What getMe answered last, kept in a file: a bot is asked nothing before it knows who it is, also
//! while the Bot API is away.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::types::Me;
use crate::secret::printable;
use crate::system::files;
use crate::system::lock::lock;

/// One bot's answer of getMe.
pub(crate) struct CachedMe {
    file: PathBuf,
    me: Mutex<Option<Arc<Me>>>,
}

impl CachedMe {
    /// Begins with what the file has, if it is the answer of the bot with this id.
    pub(crate) fn load(file: PathBuf, id: u64) -> Self {
        let kept = fs::read(&file)
            .ok()
            .and_then(|json| serde_json::from_slice::<Me>(&json).ok());
        let me = kept
            .filter(|me| u64::try_from(me.id) == Ok(id))
            .map(Arc::new);
        me.iter().for_each(|me| introduce(me));
        Self {
            file,
            me: Mutex::new(me),
        }
    }

    /// None before getMe has ever answered.
    pub(crate) fn get(&self) -> Option<Arc<Me>> {
        lock(&self.me).clone()
    }

    /// Takes what getMe answered, and writes it down when it is news.
    pub(crate) fn set(&self, me: Me) {
        if self.get().is_some_and(|known| *known == me) {
            return;
        }
        introduce(&me);
        if let Err(why) = self.write(&me) {
            log::warn!(
                "The bot's name could not be saved in {}: {why}. After a restart, updates wait until the Bot API \
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

fn introduce(me: &Me) {
    let name = printable(&me.username);
    log::info!("bot {} is @{name}: https://t.me/{name}", me.id);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_outlives_the_process_and_is_no_other_bots() {
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
