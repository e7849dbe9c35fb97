//! The machine around us: systemd and its journal.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use log::LevelFilter;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::fstat;
use simplelog::{ConfigBuilder, LevelPadding, WriteLogger};
use time::macros::format_description;

use crate::telegram::token::mask;

/// Names the variable whose value stands on standard input.
const ON_STDIN: &str = "PIHOOK_SECRET_ON_STDIN";

/// Bytes that a pipe holds until they are read.
const PIPE: usize = 4096;

/// Keeps the tokens in this process: no core dump, and no other process of the same user may look in.
pub fn guard_memory() {
    if let Err(why) = prctl::set_dumpable(false) {
        log::warn!("A core dump could show the token: {why}.");
    }
}

/// Keeps the memory small: where the kernel gives huge pages unasked, the first 4 KiB of a thread's stack become 2 MiB.
pub fn spare_memory() {
    // An older kernel cannot, and that is no harm.
    let _ = prctl::set_thp_disable(true);
}

/// Takes a secret out of this process's environment, where it could be read for as long as the process runs.
///
/// The environment that a program begins with stays readable until it begins anew. So it does: as the same process, with the
/// secret no longer in the environment but on its standard input, which it needs for nothing else.
#[must_use]
pub fn take_from_environment(name: &str) -> Option<OsString> {
    if env::var_os(ON_STDIN).is_some_and(|given| given == name) {
        let mut secret = String::new();
        return io::stdin().read_to_string(&mut secret).is_ok().then(|| secret.into());
    }
    let secret = env::var_os(name)?;
    let failed = begin_anew(name, &secret);
    log::warn!("{name} stays readable in the environment: {failed}.");
    Some(secret)
}

/// Returns only when it fails.
fn begin_anew(name: &str, secret: &OsStr) -> io::Error {
    let prepare = || {
        let (reader, mut writer) = io::pipe()?;
        if secret.len() > PIPE {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        writer.write_all(secret.as_bytes())?;
        Ok((env::current_exe()?, reader))
    };
    match prepare() {
        Ok((program, reader)) => {
            let arguments = env::args_os().skip(1);
            Command::new(program).args(arguments).env_remove(name).env(ON_STDIN, name).stdin(reader).exec()
        }
        Err(why) => why,
    }
}

/// Sees to it that so many files can be open at once. Returns how many can: the system may allow fewer.
#[must_use]
pub fn want_files(count: usize) -> usize {
    let wanted = count as u64;
    let allowed = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < wanted {
            setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard)?;
        }
        Ok(soft.max(wanted.min(hard)))
    });
    // Where nobody knows, an error will tell.
    let allowed = allowed.unwrap_or(wanted).try_into().unwrap_or(usize::MAX);
    if allowed < count {
        log::warn!("Only {allowed} files can be open at once, and {count} may be needed: raise LimitNOFILE.");
    }
    allowed
}

/// Starts logging to standard error: lines with a time for a person, lines with a priority for the
/// journal, which adds the time itself.
pub fn start_logging() {
    let journal = is_journal();
    let mut config = ConfigBuilder::new();
    config
        .set_time_level(if journal { LevelFilter::Off } else { LevelFilter::Error })
        .set_time_format_custom(format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z"))
        .set_level_padding(LevelPadding::Off)
        .set_thread_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        // ureq and rustls write URLs, and so tokens, at the levels below.
        .add_filter_allow_str("pihook");
    let lines = Lines { line: Vec::new(), journal };
    // It fails only when logging was started before.
    let _ = WriteLogger::init(LevelFilter::Info, config.build(), lines);
}

/// Whether standard error is the journal: systemd names its device and inode.
fn is_journal() -> bool {
    let Ok(named) = env::var("JOURNAL_STREAM") else { return false };
    fstat(io::stderr()).is_ok_and(|file| named == format!("{}:{}", file.st_dev, file.st_ino))
}

/// Gathers what the logger writes in pieces, and writes each line whole.
struct Lines {
    line: Vec<u8>,
    journal: bool,
}

impl Write for Lines {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(piece);
        if piece.ends_with(b"\n") {
            self.flush()?;
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let line = mask(&String::from_utf8_lossy(&std::mem::take(&mut self.line))).into_bytes();
        let line = if self.journal { with_priority(&line) } else { line };
        io::stderr().write_all(&line)
    }
}

/// The logger's `[WARN] ` as sd-daemon(3) has it: `<4>`.
fn with_priority(line: &[u8]) -> Vec<u8> {
    for (level, priority) in [("[ERROR] ", "<3>"), ("[WARN] ", "<4>"), ("[INFO] ", "<6>"), ("[DEBUG] ", "<7>")] {
        if let Some(message) = line.strip_prefix(level.as_bytes()) {
            return [priority.as_bytes(), message].concat();
        }
    }
    line.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_gets_priorities_in_place_of_levels() {
        assert_eq!(with_priority(b"[WARN] the port is closed\n"), b"<4>the port is closed\n");
        assert_eq!(with_priority(b"[INFO] [WARN] x\n"), b"<6>[WARN] x\n");
        assert_eq!(with_priority(b"plain\n"), b"plain\n");
    }
}
