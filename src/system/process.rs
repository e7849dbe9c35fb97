//! This process: its memory, its environment, its open files.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
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
    if let Err(why) = prctl::set_dumpable(false) {
        log::warn!(
            "pihook could not switch off core dumps: {why}. A core dump could show the token."
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
    if env::var_os(ON_STDIN).is_some_and(|given| given == name) {
        let mut secret = String::new();
        return io::stdin()
            .read_to_string(&mut secret)
            .is_ok()
            .then(|| secret.into());
    }
    let secret = env::var_os(name)?;
    let failed = reexec(name, &secret);
    log::warn!(
        "pihook could not remove {name} from its environment: {failed}. Other programs of the same user can read the \
         token there. Use token_file instead."
    );
    Some(secret)
}

/// Executes this program again in this process, with the secret on standard input. Returns only
/// when that fails.
fn reexec(name: &str, secret: &OsStr) -> io::Error {
    let prepare = || {
        let (reader, mut writer) = io::pipe()?;
        if secret.len() > PIPE_CAPACITY {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        writer.write_all(secret.as_bytes())?;
        Ok((env::current_exe()?, reader))
    };
    match prepare() {
        Ok((program, reader)) => {
            let arguments = env::args_os().skip(1);
            Command::new(program)
                .args(arguments)
                .env_remove(name)
                .env(ON_STDIN, name)
                .stdin(reader)
                .exec()
        }
        Err(why) => why,
    }
}

/// Raises the limit of open files to `count`. Returns the limit: the system may allow fewer.
pub(crate) fn raise_open_file_limit(count: usize) -> usize {
    let wanted = count as u64;
    let allowed = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < wanted {
            setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard)?;
        }
        Ok(soft.max(wanted.min(hard)))
    });
    // Where the limit cannot be read, too many files will fail with an error of their own.
    let allowed = allowed.unwrap_or(wanted).try_into().unwrap_or(usize::MAX);
    if allowed < count {
        log::warn!(
            "pihook may need {count} open files, but the limit is {allowed}. Raise LimitNOFILE in the systemd unit."
        );
    }
    allowed
}
