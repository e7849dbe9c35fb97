//! How many connections, workers and open files there are.

use super::error::RunError;
use crate::config::Config;
use crate::edge::slots::{Limits, MAX_WAITING};
use crate::system::process;

/// Connections beyond `max_connections` that Telegram may open while it changes to a new webhook.
const CHANGE_OVER_CONNECTIONS: usize = 64;
/// Connections of peers that only `0.0.0.0/0` names, and that have not shown path and secret.
const STRANGER_CONNECTIONS: usize = 64;
/// Connections of strangers from one address.
const CONNECTIONS_OF_STRANGER: usize = 16;
/// Open files of a worker: both ends of its Unix connection, one of them twice, and its connection
/// to the Bot API.
const FILES_OF_WORKER: usize = 4;
/// Open files beside those of connections, workers and bots.
const OTHER_FILES: usize = 32;
/// The most workers, however many bots there are.
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
        // Telegram may have so many updates in flight, with a connection and a worker for each.
        let in_flight = config.bots.len() * usize::from(config.max_connections);
        let workers = in_flight.min(MAX_WORKERS);

        let known = in_flight + CHANGE_OVER_CONNECTIONS;
        let own = FILES_OF_WORKER * workers + config.bots.len() + OTHER_FILES;
        // Beside them, MAX_WAITING known peers and as many strangers whose ClientHello has not come.
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
        let mut limits = Limits {
            known,
            strangers: STRANGER_CONNECTIONS,
            address: CONNECTIONS_OF_STRANGER,
            all,
        };
        if !config.tls {
            // All come from the proxy's address, Telegram's too, and none is known before it has
            // shown path and secret.
            limits.strangers = known;
            limits.address = known;
        }
        Ok(Self { workers, limits })
    }
}
