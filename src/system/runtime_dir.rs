//! The folder for what need not outlive a reboot: the workers' socket is there. A user who can
//! replace files in it could send us updates that are not Telegram's.

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

/// The reason why the folder cannot be used.
#[derive(Debug)]
pub(crate) enum RuntimeDirError {
    /// The folder cannot be made or opened.
    Folder(PathBuf, io::Error),
    /// Other users can change what lies in it.
    Shared(PathBuf),
    /// Another process has locked it.
    Taken(PathBuf),
}

impl fmt::Display for RuntimeDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path, error) => {
                write!(f, "Cannot use runtime_dir {}: {error}.", path.display())
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

/// Makes the folder, for this user alone, and locks it until the file is closed: a second instance
/// must not replace our socket. A folder that exists is checked, and not changed: other programs may
/// need it as it is.
///
/// # Errors
/// See [`RuntimeDirError`].
pub(crate) fn lock(path: &Path) -> Result<File, RuntimeDirError> {
    let failed = |error| RuntimeDirError::Folder(path.to_owned(), error);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(failed)?;

    let folder = File::open(path).map_err(failed)?;
    let metadata = folder.metadata().map_err(failed)?;
    if !files::is_private_to(unistd::geteuid().as_raw(), &metadata) {
        return Err(RuntimeDirError::Shared(path.to_owned()));
    }

    folder
        .try_lock()
        .map_err(|_| RuntimeDirError::Taken(path.to_owned()))?;
    Ok(folder)
}

/// Listens at `path`. Only this user can connect, also if the folder is open to others.
///
/// # Errors
/// As the system has them.
pub(crate) fn listen_at(path: &Path) -> io::Result<UnixListener> {
    // A process that was killed leaves its socket behind.
    let _ = fs::remove_file(path);

    let socket = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    // The standard library would listen at once. Nobody can connect before listen(), so nobody is
    // faster than these permissions.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listen(&socket, Backlog::MAXCONN)?;
    Ok(UnixListener::from(socket))
}
