//! systemd: our notices to it (`sd_notify(3)`), and the socket that it hands over
//! (`sd_listen_fds(3)`). Without systemd nothing happens.

use std::env;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;

use super::status::Status;
use crate::secret::{cut, mask, one_line};

/// The unit's own watchdog timeout: the status line is renewed also where no watchdog runs.
const DEFAULT_WATCHDOG_TIMEOUT: Duration = Duration::from_secs(120);

/// Bytes of the status. systemd drops a message of more than 4096 bytes, with all that is in it.
const STATUS_BYTES: usize = 3072;

/// The listener that systemd bound for us, if it did.
///
/// # Errors
/// When what it handed over is something else.
pub(crate) fn listener() -> io::Result<Option<TcpListener>> {
    let mut sockets = ListenFd::from_env();
    if sockets.len() == 0 {
        Ok(None)
    } else {
        sockets.take_tcp_listener(0)
    }
}

/// Tells systemd that the webhook is served.
pub(crate) fn ready(status: &Status) {
    notify(NotifyState::Ready);
    notify_status(status);
}

/// Tells systemd that the program stops.
pub(crate) fn stopping() {
    notify(NotifyState::Stopping);
}

/// Feeds the watchdog while `is_alive` says so, and tells systemd the status.
///
/// # Errors
/// When the thread for it cannot be started.
pub(crate) fn watch(
    is_alive: impl Fn() -> bool + Send + 'static,
    status: Arc<Status>,
) -> io::Result<()> {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return Ok(());
    }
    let limit = sd_notify::watchdog_enabled().unwrap_or(DEFAULT_WATCHDOG_TIMEOUT);
    let watch = move || {
        // Soon again at first: much happens at the start that a person wants to see.
        let mut pause = limit.min(Duration::from_secs(4)) / 4;
        loop {
            if is_alive() {
                notify(NotifyState::Watchdog);
            } else {
                log::warn!(
                    "The watchdog found that the bot hangs: it did not answer pihook's test request, or getUpdates \
                     did not return. If this lasts, systemd restarts the bot."
                );
            }
            notify_status(&status);
            thread::sleep(pause);
            pause = (pause * 2).min(limit / 4);
        }
    };
    thread::Builder::new()
        .name("watchdog".into())
        .spawn(watch)
        .map(|_| ())
}

/// Goes by itself: whatever is wrong with a status, readiness and health must arrive.
fn notify_status(status: &Status) {
    notify(NotifyState::Status(&cut(
        &mask(&one_line(&status.to_string())),
        STATUS_BYTES,
    )));
}

fn notify(state: NotifyState) {
    if let Err(why) = sd_notify::notify(&[state]) {
        log::warn!("pihook could not send its status to systemd: {why}.");
    }
}
