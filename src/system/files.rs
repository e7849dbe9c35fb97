//! Files that must be whole whenever the power goes, and those that are for nobody else.

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
    let _ = fs::remove_file(&new);
    let replaced = write(&new, path, content, mode).and_then(|()| fs::rename(&new, path));
    if replaced.is_err() {
        // A disk that is full needs the room.
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
    // Whatever the umask is.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    give(
        &file,
        &fs::symlink_metadata(path).or_else(|_| fs::metadata(folder_of(path)))?,
    )?;
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
        // Somebody was faster.
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => {
            made?;
            give(&File::open(path)?, &fs::metadata(above)?)
        }
    }
}

/// Gives a file of ours to this owner. Only root can, and only root has to.
fn give(file: &File, owner: &Metadata) -> io::Result<()> {
    let now = file.metadata()?;
    let is_theirs = (now.uid(), now.gid()) == (owner.uid(), owner.gid());
    if is_theirs || !unistd::geteuid().is_root() {
        Ok(())
    } else {
        fchown(file, Some(owner.uid()), Some(owner.gid()))
    }
}

/// The folder that a path lies in.
fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Whether this user alone, or root, decides what is at `path`: nobody else can change the file or
/// folder itself.
pub(crate) fn is_private_to(user: u32, there: &Metadata) -> bool {
    const OTHERS_WRITE: u32 = 0o002;
    const GROUP_WRITES: u32 = 0o020;
    let is_ours = there.uid() == user || there.uid() == 0;
    let by_group = there.mode() & GROUP_WRITES != 0 && there.gid() != 0;
    is_ours && !by_group && there.mode() & OTHERS_WRITE == 0
}

/// Whether everyone on this machine can read it, or change it.
pub(crate) fn is_world_accessible(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o007 != 0)
}
