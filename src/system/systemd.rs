//! systemd: our notices to it (`sd_notify(3)`), and the socket that it hands over
//! (`sd_listen_fds(3)`). Without systemd nothing happens.

use std::env;
use std::fmt::Display;
use std::io;
use std::net::TcpListener;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;

use crate::secret::{cut, mask, one_line};

/// The unit's own watchdog timeout.
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
pub(crate) fn ready() {
    notify(NotifyState::Ready);
}

/// Tells systemd that the program stops.
pub(crate) fn stopping() {
    notify(NotifyState::Stopping);
}

/// Feeds the watchdog.
pub(crate) fn alive() {
    notify(NotifyState::Watchdog);
}

/// How often systemd wants to hear of us: its watchdog's timeout, or the unit's own where no
/// watchdog runs, since the status line is renewed also there. None without systemd.
pub(crate) fn watchdog_timeout() -> Option<Duration> {
    env::var_os("NOTIFY_SOCKET")?;
    Some(sd_notify::watchdog_enabled().unwrap_or(DEFAULT_WATCHDOG_TIMEOUT))
}

/// Tells systemd the status, in a message of its own: whatever is wrong with a status, readiness
/// and health must arrive.
pub(crate) fn show(status: &impl Display) {
    let line = mask(&one_line(&status.to_string()));
    notify(NotifyState::Status(&cut(&line, STATUS_BYTES)));
}

fn notify(state: NotifyState) {
    if let Err(why) = sd_notify::notify(&[state]) {
        log::warn!("pihook could not send its status to systemd: {why}.");
    }
}
