//! How many connections, workers and open files there are.

use super::error::RunError;
use crate::config::Config;
use crate::edge::slots::{Limits, MAX_WAITING};
use crate::system::process;

/// Connections beyond those that Telegram may open: for its change-over to a new webhook.
const CHANGE_OVER_CONNECTIONS: usize = 64;
/// Connections of peers that only `0.0.0.0/0` names, and that have not shown path and secret.
const STRANGER_CONNECTIONS: usize = 64;
/// Of those, connections from one address.
const CONNECTIONS_OF_STRANGER: usize = 16;
/// Open files of a worker: both ends of its Unix connection, one of them twice, and its connection
/// to the Bot API.
const FILES_OF_WORKER: usize = 4;
/// Open files beside those.
const OTHER_FILES: usize = 32;
/// Threads, however many bots there are.
const MAX_WORKERS: usize = 100;

/// How much is served at once.
pub(super) struct Capacity {
    pub(super) workers: usize,
    pub(super) limits: Limits,
}

impl Capacity {
    /// What the settings ask for, and no more connections than leave the workers the open files
    /// that they need.
    pub(super) fn of(config: &Config) -> Result<Self, RunError> {
        // What Telegram may have in flight, a connection and a worker for each.
        let in_flight = config.bots.len() * usize::from(config.max_connections);
        let workers = in_flight.min(MAX_WORKERS);
        let known = in_flight + CHANGE_OVER_CONNECTIONS;
        let own = FILES_OF_WORKER * workers + config.bots.len() + OTHER_FILES;
        // Beside the known and the strangers, those of both that have shown nothing yet.
        let most = known + STRANGER_CONNECTIONS + 2 * MAX_WAITING;
        let files = process::raise_open_file_limit(most + own);
        let all = files.saturating_sub(own).min(most);
        // One for our own probe.
        if all <= in_flight {
            let needed = in_flight + 1 + own;
            return Err(RunError::System(format!(
                "The bot needs {needed} open files, but the limit is {files}. Raise LimitNOFILE in the systemd unit, or lower max_connections."
            )));
        }
        let (strangers, address) = match config.tls {
            true => (STRANGER_CONNECTIONS, CONNECTIONS_OF_STRANGER),
            // All come from the proxy's address, Telegram's too, and none is known before it has
            // shown path and secret.
            false => (known, known),
        };
        let limits = Limits {
            known,
            strangers,
            address,
            all,
        };
        Ok(Self { workers, limits })
    }
}
