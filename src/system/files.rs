//! Files that a power cut must leave whole, and files that other users must not read or change.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use nix::unistd;

/// Replaces a file's content in one step that a power cut cannot halve. What is replaced keeps its
/// owner, and a new file gets its folder's: root may do this for a service that is not root.
///
/// # Errors
/// As the file system has them.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let new = path.with_extension("new");
    // A power cut can have left one behind.
    let _ = fs::remove_file(&new);

    let replaced = write(&new, path, content, mode).and_then(|()| fs::rename(&new, path));
    if replaced.is_err() {
        // A full disk needs the room.
        let _ = fs::remove_file(&new);
    }
    replaced
}

/// Writes a note for this user alone, as [`replace`] does. The folder is made when it is missing.
///
/// # Errors
/// As the file system has them.
pub(crate) fn write_note(path: &Path, content: &[u8]) -> io::Result<()> {
    create_folder(folder_of(path))?;
    replace(path, content, 0o600)
}

/// Writes what will stand at `path` to the file `new`.
fn write(new: &Path, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(new)?;
    // The umask can have taken bits from the mode of open().
    file.set_permissions(fs::Permissions::from_mode(mode))?;

    let owner = match fs::symlink_metadata(path) {
        Ok(replaced) => replaced,
        Err(_) => fs::metadata(folder_of(path))?,
    };
    set_owner(&file, &owner)?;

    file.write_all(content)?;
    file.sync_all()
}

/// Makes a folder, and those above it that are missing; each gets the owner of the one above.
///
/// # Errors
/// As the file system has them.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }

    let above = folder_of(path);
    create_folder(above)?;

    match fs::create_dir(path) {
        Ok(()) => set_owner(&File::open(path)?, &fs::metadata(above)?),
        // Another process made it since the check above.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Gives a file of ours to the owner of `like`. Only root can do this, and only root needs it.
fn set_owner(file: &File, like: &Metadata) -> io::Result<()> {
    let now = file.metadata()?;
    let is_theirs = now.uid() == like.uid() && now.gid() == like.gid();
    if is_theirs || !unistd::geteuid().is_root() {
        return Ok(());
    }
    fchown(file, Some(like.uid()), Some(like.gid()))
}

/// The folder that a path lies in.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Whether only this user and root can change a file, or what lies in a folder.
pub(crate) fn is_private_to(user: u32, file: &Metadata) -> bool {
    const OTHERS_WRITE: u32 = 0o002;
    const GROUP_WRITES: u32 = 0o020;

    let is_ours = file.uid() == user || file.uid() == 0;
    let group_writes = file.mode() & GROUP_WRITES != 0 && file.gid() != 0;
    let others_write = file.mode() & OTHERS_WRITE != 0;
    is_ours && !group_writes && !others_write
}

/// Whether every user of this machine can read, change or run the file.
pub(crate) fn is_world_accessible(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o007 != 0)
}
