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

/// The `WatchdogSec` of deploy/pihook.service.
const DEFAULT_WATCHDOG_TIMEOUT: Duration = Duration::from_secs(120);

/// Bytes of the status line. systemd drops a message of more than 4096 bytes, with all that is in it.
const STATUS_BYTES: usize = 3072;

/// The listener that systemd opened for us (`pihook.socket`), if it did.
///
/// # Errors
/// When systemd handed over something else.
pub(crate) fn listener() -> io::Result<Option<TcpListener>> {
    let mut sockets = ListenFd::from_env();
    if sockets.len() == 0 {
        return Ok(None);
    }
    sockets.take_tcp_listener(0)
}

/// Tells systemd that the webhook is served.
pub(crate) fn ready() {
    notify(NotifyState::Ready);
}

/// Tells systemd that the program stops.
pub(crate) fn stopping() {
    notify(NotifyState::Stopping);
}

/// Tells systemd's watchdog that the program is well.
pub(crate) fn alive() {
    notify(NotifyState::Watchdog);
}

/// The time within which systemd must hear of us: its watchdog's timeout. Where no watchdog runs it
/// is the unit's own, since the status line is renewed at the same time. None without systemd.
pub(crate) fn watchdog_timeout() -> Option<Duration> {
    env::var_os("NOTIFY_SOCKET")?;
    Some(sd_notify::watchdog_enabled().unwrap_or(DEFAULT_WATCHDOG_TIMEOUT))
}

/// Tells systemd the status line, which `systemctl status` shows. It is a message of its own: if
/// systemd drops it, readiness and health still arrive.
pub(crate) fn show(status: &impl Display) {
    let line = mask(&one_line(&status.to_string()));
    notify(NotifyState::Status(&cut(&line, STATUS_BYTES)));
}

fn notify(state: NotifyState) {
    if let Err(error) = sd_notify::notify(&[state]) {
        log::warn!("pihook could not send its status to systemd: {error}.");
    }
}
