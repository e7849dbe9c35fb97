//! This process: its memory, its environment, its open files.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, PipeReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The variable that names the variable whose value stands on standard input.
const ON_STDIN: &str = "PIHOOK_SECRET_ON_STDIN";

/// Bytes that a pipe holds until they are read.
const PIPE_CAPACITY: usize = 4096;

/// Keeps the tokens in this process: no core dump, and no other process of the same user may look
/// in.
pub(crate) fn protect_memory() {
    if let Err(error) = prctl::set_dumpable(false) {
        log::warn!(
            "pihook could not switch off core dumps: {error}. A core dump could show the token."
        );
    }
}

/// Keeps the memory small: where the kernel gives huge pages unasked, the first 4 KiB of a thread's
/// stack become 2 MiB.
pub(crate) fn disable_huge_pages() {
    // An older kernel cannot do it, and does no harm.
    let _ = prctl::set_thp_disable(true);
}

/// Takes a secret out of this process's environment, where it could be read for as long as the
/// process runs.
///
/// The environment that a program starts with stays readable until the process executes a program
/// again. So it executes itself, with the secret no longer in the environment but on its standard
/// input, which it needs for nothing else.
pub(crate) fn take_from_environment(name: &str) -> Option<OsString> {
    if let Some(given) = env::var_os(ON_STDIN)
        && given == name
    {
        let mut secret = String::new();
        return match io::stdin().read_to_string(&mut secret) {
            Ok(_) => Some(secret.into()),
            Err(_) => None,
        };
    }

    let secret = env::var_os(name)?;
    let error = reexec(name, &secret);
    log::warn!(
        "pihook could not remove {name} from its environment: {error}. Other programs of the same user can read the \
         token there. Use token_file instead."
    );
    Some(secret)
}

/// Executes this program again in this process, with the secret on standard input. Returns only
/// when that fails.
fn reexec(name: &str, secret: &OsStr) -> io::Error {
    let mut command = match env::current_exe() {
        Ok(program) => Command::new(program),
        Err(error) => return error,
    };
    let reader = match pipe_of(secret) {
        Ok(reader) => reader,
        Err(error) => return error,
    };
    command
        .args(env::args_os().skip(1))
        .env_remove(name)
        .env(ON_STDIN, name)
        .stdin(reader)
        .exec()
}

/// A pipe that holds the secret. Nobody reads while it is written, so it must fit in.
fn pipe_of(secret: &OsStr) -> io::Result<PipeReader> {
    if secret.len() > PIPE_CAPACITY {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let (reader, mut writer) = io::pipe()?;
    writer.write_all(secret.as_bytes())?;
    Ok(reader)
}

/// Raises the limit of open files to `count`. Returns the limit: the system may allow fewer.
pub(crate) fn raise_open_file_limit(count: usize) -> usize {
    let wanted = count as u64;
    // Where the limit cannot be read, too many files will fail with an error of their own.
    let limit = raise_soft_limit(wanted).unwrap_or(wanted);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if limit < count {
        log::warn!(
            "pihook may need {count} open files, but the limit is {limit}. Raise LimitNOFILE in the systemd unit."
        );
    }
    limit
}

/// Raises the soft limit of open files as far as the hard one allows. Returns the soft limit.
fn raise_soft_limit(wanted: u64) -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let possible = wanted.min(hard);
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, possible, hard)?;
    }
    Ok(soft.max(possible))
}
