//! The folder for what need not outlive a reboot. Whoever can put a file of theirs in place of ours
//! there could hand us updates that are not Telegram's.

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use nix::unistd;

use super::files;

/// The name of the workers' socket in this folder.
pub(crate) const SOCKET: &str = "workers.sock";

/// Why the folder is of no use.
#[derive(Debug)]
pub(crate) enum RuntimeDirError {
    /// It cannot be made or opened.
    Folder(PathBuf, io::Error),
    /// Other users can change what lies in it.
    Shared(PathBuf),
    /// A process that runs has it.
    Taken(PathBuf),
}

impl fmt::Display for RuntimeDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path, why) => {
                write!(f, "Cannot use runtime_dir {}: {why}.", path.display())
            }
            Self::Shared(path) => write!(
                f,
                "Other users can write to runtime_dir {}: set runtime_dir to a folder that only this user can write \
                 to.",
                path.display()
            ),
            Self::Taken(path) => {
                write!(
                    f,
                    "Another pihook process uses runtime_dir {}: stop that process, or set another runtime_dir.",
                    path.display()
                )
            }
        }
    }
}

/// Makes the folder, for this user alone, and locks it: a second instance must not take our socket.
/// One that is there is checked, and not changed: others may need it as it is.
///
/// # Errors
/// See [`RuntimeDirError`].
pub(crate) fn lock(path: &Path) -> Result<File, RuntimeDirError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    let failed = |why| RuntimeDirError::Folder(path.to_owned(), why);
    let folder = made.and_then(|()| File::open(path)).map_err(failed)?;
    let there = folder.metadata().map_err(failed)?;
    if !files::is_private_to(unistd::geteuid().as_raw(), &there) {
        return Err(RuntimeDirError::Shared(path.to_owned()));
    }
    folder
        .try_lock()
        .map_err(|_| RuntimeDirError::Taken(path.to_owned()))?;
    Ok(folder)
}

/// Listens at `path`, where this user alone can connect, also if others may look into the folder.
///
/// # Errors
/// As the system has them.
pub(crate) fn listen_at(path: &Path) -> io::Result<UnixListener> {
    // One that was killed leaves its socket behind.
    let _ = fs::remove_file(path);
    let socket = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    // Nobody can connect before it listens.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listen(&socket, Backlog::MAXCONN)?;
    Ok(UnixListener::from(socket))
}
