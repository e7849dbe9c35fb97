//! The bot's unit: where it has its settings, and its start by systemd.

use std::path::Path;
use std::time::Duration;

use crate::system::program;

/// The settings of the unit.
pub(super) const SETTINGS: &str = "/etc/pihook/pihook.toml";
/// The unit's own folder: it can write nowhere else.
pub(super) const STATE: &str = "/var/lib/pihook";

const SERVICE: &str = "pihook.service";
const SOCKET: &str = "pihook.socket";
/// For systemctl. The start of a unit can wait until the network is there, which may take 2 minutes
/// after the boot.
const SYSTEMCTL_TIMEOUT: Duration = Duration::from_secs(180);

/// Whether the unit reads these settings.
pub(super) fn reads(settings: &Path) -> bool {
    settings == Path::new(SETTINGS)
}

/// How the start of the unit ended.
pub(super) enum Start {
    /// systemd does not run, or has no unit of the bot.
    NoUnit,
    /// The bot has told systemd that it is ready.
    Ready,
    /// The bot has ended, or is not ready yet.
    Failed,
}

/// Lets systemd start the bot, or restart it after a change.
pub(super) fn start(has_changed: bool) -> Start {
    let has_systemd = Path::new("/run/systemd/system").exists();
    if !has_systemd || !systemctl("cat", SERVICE) {
        return Start::NoUnit;
    }

    // The bot also starts without the socket: it binds the port itself.
    systemctl("start", SOCKET);

    let verb = if has_changed { "restart" } else { "start" };
    if systemctl(verb, SERVICE) {
        Start::Ready
    } else {
        Start::Failed
    }
}

/// Whether `systemctl VERB UNIT` succeeded.
fn systemctl(verb: &str, unit: &str) -> bool {
    matches!(
        program::succeeds("systemctl", &[verb, unit], SYSTEMCTL_TIMEOUT),
        Ok(true)
    )
}
