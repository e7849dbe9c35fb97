//! The programs that listen at a port, as `/proc` shows them.

use std::fs;
use std::path::Path;

/// The programs that listen at a port. Only root sees those of other users.
pub(crate) struct Owners {
    /// Each as `NAME (process ID)`; None where there is none to see.
    pub(crate) words: Option<String>,
    /// Whether there is one to see, and systemd is the only one: it starts a unit when somebody
    /// connects.
    pub(crate) are_systemd: bool,
}

/// The programs that listen at `port`.
pub(crate) fn owners(port: u16) -> Owners {
    let mut sockets = listening("/proc/net/tcp", port);
    sockets.extend(listening("/proc/net/tcp6", port));

    let mut owners = Vec::new();
    let mut are_systemd = true;
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let folder = process.path();
        if !has_one_open(&folder, &sockets) {
            continue;
        }
        // A process that has ended meanwhile listens no longer.
        if let Ok(name) = fs::read_to_string(folder.join("comm")) {
            let name = name.trim_end();
            let id = process.file_name();
            are_systemd &= name == "systemd";
            owners.push(format!("{name} (process {})", id.display()));
        }
    }

    Owners {
        are_systemd: are_systemd && !owners.is_empty(),
        words: (!owners.is_empty()).then(|| owners.join(" and ")),
    }
}

/// Whether the process with this folder in /proc has one of these sockets open.
fn has_one_open(process: &Path, sockets: &[String]) -> bool {
    let files = fs::read_dir(process.join("fd"));
    for file in files.into_iter().flatten().flatten() {
        let Ok(link) = fs::read_link(file.path()) else {
            continue;
        };
        if sockets.iter().any(|socket| link.as_os_str() == &**socket) {
            return true;
        }
    }
    false
}

/// The sockets that listen at a port, by the names that they have in /proc/PID/fd. `table` is
/// /proc/net/tcp or /proc/net/tcp6 (`proc_net_tcp` in the kernel's documentation).
fn listening(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let port = format!(":{port:04X}");
    let table = fs::read_to_string(table).unwrap_or_default();

    let mut sockets = Vec::new();
    for line in table.lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        if let [_, local, _, LISTEN, _, _, _, _, _, inode, ..] = fields[..]
            && local.ends_with(&port)
        {
            sockets.push(format!("socket:[{inode}]"));
        }
    }
    sockets
}
