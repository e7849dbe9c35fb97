//! The certificate rollover: while Telegram may not have the new certificate yet, the old one is
//! shown too.

use std::sync::{Arc, Mutex, MutexGuard};

use rustls::ServerConfig;

use crate::system::lock::lock;

/// The certificates to show. Telegram sends no server name when it calls an address, so that a call
/// does not say which one it has. But it sends an alert when it does not accept the one that it was
/// shown, and calls again in 2 s: then it is shown the other one.
pub struct Rollover(Mutex<Shown>);

/// The certificates of a rollover, and which one comes next.
struct Shown {
    new: Arc<ServerConfig>,
    /// None when no rollover is under way.
    old: Option<Arc<ServerConfig>>,
    is_old_next: bool,
}

impl Rollover {
    /// Shows this one alone.
    #[must_use]
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self(Mutex::new(Shown {
            new: config,
            old: None,
            is_old_next: false,
        }))
    }

    /// The one to show to the next connection.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        let shown = self.shown();
        match &shown.old {
            Some(old) if shown.is_old_next => Arc::clone(old),
            _ => Arc::clone(&shown.new),
        }
    }

    /// Begins a rollover: the new one is shown first, and the one from before the rollover stays.
    pub(crate) fn begin(&self, new: Arc<ServerConfig>) {
        let mut shown = self.shown();
        let before = std::mem::replace(&mut shown.new, new);
        // If Telegram does not have the last one yet, it still has the one before.
        shown.old.get_or_insert(before);
        shown.is_old_next = false;
    }

    /// Telegram is about to be given the new one, and shows at once whether it accepts it.
    pub(crate) fn show_new(&self) {
        self.shown().is_old_next = false;
    }

    /// Ends the rollover: Telegram has the new one.
    pub(crate) fn finish(&self) {
        self.shown().old = None;
    }

    /// Notes that Telegram was shown `config` and did not accept it. Whether there is another one
    /// to show.
    pub(crate) fn rejected(&self, config: &Arc<ServerConfig>) -> bool {
        // Many connections can fail at once: that is one rejection.
        let is_first = Arc::ptr_eq(config, &self.current());

        let mut shown = self.shown();
        if is_first {
            shown.is_old_next = !shown.is_old_next;
        }
        shown.old.is_some()
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        lock(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::CertificateFiles;
    use super::super::{load, make};
    use super::*;
    use std::time::SystemTime;

    fn config(name: &str) -> Arc<ServerConfig> {
        let folder =
            std::env::temp_dir().join(format!("pihook-rollover-{name}-{}", std::process::id()));
        let files = CertificateFiles::within(&folder);
        let pair = make::make("80.100.95.20", 1, SystemTime::now(), None).unwrap();
        make::write(&pair, &files, true).unwrap();
        let loaded = load::load(&files).unwrap();
        std::fs::remove_dir_all(folder).unwrap();
        Arc::new(loaded.tls().unwrap())
    }

    #[test]
    fn a_rejected_certificate_is_followed_by_the_other_one_until_the_rollover_ends() {
        let [old, new, newest] = ["old", "new", "newest"].map(config);
        let rollover = Rollover::new(old.clone());
        assert!(!rollover.rejected(&old));
        assert!(Arc::ptr_eq(&rollover.current(), &old), "there is no other");
        rollover.begin(new.clone());
        assert!(Arc::ptr_eq(&rollover.current(), &new));
        assert!(rollover.rejected(&new) && rollover.rejected(&new));
        assert!(
            Arc::ptr_eq(&rollover.current(), &old),
            "two refusals of the same are one"
        );
        rollover.show_new();
        assert!(
            Arc::ptr_eq(&rollover.current(), &new),
            "whatever the old webhook was shown"
        );
        rollover.rejected(&new);
        rollover.rejected(&old);
        assert!(Arc::ptr_eq(&rollover.current(), &new));
        rollover.begin(newest.clone());
        assert!(Arc::ptr_eq(&rollover.current(), &newest));
        rollover.rejected(&newest);
        assert!(
            Arc::ptr_eq(&rollover.current(), &old),
            "the one that Telegram has, whatever was begun since"
        );
        rollover.finish();
        assert!(Arc::ptr_eq(&rollover.current(), &newest));
    }
}
