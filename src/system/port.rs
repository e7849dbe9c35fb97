//! Who listens at a port.

use std::fs;

/// The programs that listen at a port, as far as this user may know.
pub(crate) fn owners(port: u16) -> Vec<String> {
    let sockets: Vec<_> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .flat_map(|table| listening(table, port))
        .collect();
    let processes = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|process| {
            let files = fs::read_dir(process.path().join("fd"))
                .into_iter()
                .flatten()
                .flatten();
            files
                .filter_map(|file| fs::read_link(file.path()).ok())
                .any(|link| sockets.iter().any(|socket| link.as_os_str() == &**socket))
        });
    processes
        .filter_map(|process| {
            let name = fs::read_to_string(process.path().join("comm")).ok()?;
            Some(format!(
                "{} (process {})",
                name.trim_end(),
                process.file_name().display()
            ))
        })
        .collect()
}

/// What /proc/PID/fd calls the sockets that listen at a port.
fn listening(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let table = fs::read_to_string(table).unwrap_or_default();
    let end = format!(":{port:04X}");
    let lines = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours =
        lines.filter(|fields| fields.len() > 9 && fields[1].ends_with(&end) && fields[3] == LISTEN);
    ours.map(|fields| format!("socket:[{}]", fields[9]))
        .collect()
}
