//! Files that must be whole whenever the power goes, and those that are for nobody else.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Replaces a file's content in one step that a power cut cannot halve.
///
/// # Errors
/// As the file system has them.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let replaced = write(&new, content, mode).and_then(|()| fs::rename(&new, path));
    if replaced.is_err() {
        // A disk that is full needs the room.
        let _ = fs::remove_file(&new);
    }
    replaced
}

fn write(new: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(new)?;
    // Whatever the umask is.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()
}

/// Whether everyone on this machine can read it, or change it.
pub(crate) fn is_world_accessible(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o007 != 0)
}
