//! The dedup window: which updates are done, so that an update which Telegram delivers again gets
//! no second reply.
//!
//! A bot's updates are numbered in sequence, so an update's place in the ring is its number modulo
//! the ring's size. There stands a mark that only this number in this state has. Anything else, as
//! in a torn file or in one from elsewhere, counts as an empty place.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use crate::system::lock::lock;

/// Updates that are remembered: at the 30 messages a second that Telegram lets a bot send, for four
/// minutes; at home, for days. Telegram repeats an update within seconds when the answer was lost.
const PLACES: usize = 8192;
/// Bytes of a mark.
const MARK: usize = size_of::<u64>();

/// One bot's window.
pub struct DedupWindow {
    ring: Mutex<Ring>,
    /// The ring's file once more, for the panic hook, which can wait for no lock.
    panic_file: Option<Arc<File>>,
}

struct Ring {
    marks: Vec<u64>,
    /// The updates that this process is handling.
    claimed: Vec<i64>,
    /// A copy of `marks` that outlives the process.
    file: Option<File>,
}

#[derive(Clone, Copy)]
enum MarkState {
    /// The update is claimed: its reply is being sent.
    Claimed = 1,
    /// The update is done.
    Done = 2,
    /// The bot panicked while it handled the update.
    Panicked = 3,
}

/// The answer to the claim of an update.
pub enum Claim<'w> {
    /// The caller handles the update.
    Granted(Claimed<'w>),
    /// Another worker handles the update at this moment.
    InFlight,
    /// The update is done already.
    Done,
}

/// An update that is being handled. Unless it is done, the claim is given up when this is dropped.
pub struct Claimed<'w> {
    window: &'w DedupWindow,
    update: i64,
    /// A process before this one ended while it handled the update: the reply may be out.
    pub interrupted: bool,
    /// The bot panicked once when it handled this update.
    pub panicked: bool,
}

/// The mark that a panic leaves in the ring's file.
pub struct PanicMark {
    file: Arc<File>,
    offset: u64,
    mark: u64,
}

impl PanicMark {
    /// Writes the mark: one system call, no lock. Returns whether it was written.
    #[must_use]
    pub fn write(&self) -> bool {
        let written = self.file.write_at(&self.mark.to_le_bytes(), self.offset);
        matches!(written, Ok(MARK))
    }
}

impl DedupWindow {
    /// Begins with what the file at `path` remembers, and keeps the file up to date.
    ///
    /// # Errors
    /// When there can be no file, or its folder is not in memory: a write for every update would
    /// wear out a card.
    pub fn open(path: &Path) -> io::Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("."));
        if statfs(folder)?.filesystem_type() != TMPFS_MAGIC {
            return Err(io::Error::other(
                "the folder is not in memory (tmpfs); set runtime_dir to a folder under /run",
            ));
        }

        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let mut content = Vec::new();
        (&file)
            .take((PLACES * MARK) as u64)
            .read_to_end(&mut content)?;

        let panic_file = Arc::new(file.try_clone()?);
        Ok(Self {
            panic_file: Some(panic_file),
            ..Self::with(content, Some(file))
        })
    }

    /// Begins with nothing, and remembers for as long as it lives.
    pub(crate) fn in_memory() -> Self {
        Self::with(Vec::new(), None)
    }

    fn with(mut content: Vec<u8>, file: Option<File>) -> Self {
        content.resize(PLACES * MARK, 0);
        let (chunks, _) = content.as_chunks();
        let marks = chunks
            .iter()
            .map(|bytes| u64::from_le_bytes(*bytes))
            .collect();

        let ring = Ring {
            marks,
            claimed: Vec::new(),
            file,
        };
        Self {
            ring: Mutex::new(ring),
            panic_file: None,
        }
    }

    /// Claims an update: only one worker at a time gets it, and only while it is not done.
    pub fn claim(&self, update: i64) -> Claim<'_> {
        let mut ring = self.ring();
        if ring.claimed.contains(&update) {
            return Claim::InFlight;
        }

        let found = ring.marks[place(update)];
        if found == mark(update, MarkState::Done) {
            return Claim::Done;
        }
        let interrupted = found == mark(update, MarkState::Claimed);
        let panicked = found == mark(update, MarkState::Panicked);

        ring.claimed.push(update);
        // The mark of a panic stays: whatever ends this process now, the next panic is the second.
        if !panicked {
            ring.set(update, mark(update, MarkState::Claimed));
        }
        Claim::Granted(Claimed {
            window: self,
            update,
            interrupted,
            panicked,
        })
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        lock(&self.ring)
    }
}

impl Claimed<'_> {
    /// The mark to leave when the bot panics. At the first panic the update gets one more try; at
    /// the second it is done. None when the ring is kept in this process alone.
    #[must_use]
    pub fn panic_mark(&self) -> Option<PanicMark> {
        let file = self.window.panic_file.as_ref()?;
        let state = if self.panicked {
            MarkState::Done
        } else {
            MarkState::Panicked
        };
        Some(PanicMark {
            file: Arc::clone(file),
            offset: offset(place(self.update)),
            mark: mark(self.update, state),
        })
    }

    /// Notes that the update is done: the reply is out, or there is none to send.
    pub fn done(self) {
        let mark = mark(self.update, MarkState::Done);
        self.window.ring().set(self.update, mark);
    }
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        let mut ring = self.window.ring();
        ring.claimed.retain(|update| *update != self.update);
        if ring.marks[place(self.update)] == mark(self.update, MarkState::Claimed) {
            ring.set(self.update, 0);
        }
    }
}

impl Ring {
    fn set(&mut self, update: i64, mark: u64) {
        let place = place(update);
        self.marks[place] = mark;

        let Some(file) = &self.file else {
            return;
        };
        // Not synced: the file is in memory, and the kernel keeps it when the process is killed.
        let written = file.write_all_at(&mark.to_le_bytes(), offset(place));
        if let Err(error) = written {
            log::warn!(
                "pihook could not save which updates it has answered: {error}. After a restart, it may answer an update \
                 again."
            );
            self.file = None;
        }
    }
}

/// Where the file has the mark of a place, in bytes.
fn offset(place: usize) -> u64 {
    (place * MARK) as u64
}

fn place(update: i64) -> usize {
    // It is at least 0 and below PLACES.
    usize::try_from(update.rem_euclid(PLACES as i64)).unwrap_or_default()
}

/// A number for an update in a state. No other update has it in any state, except those 2^62 away;
/// random bytes are not likely to be one. Never 0.
fn mark(update: i64, state: MarkState) -> u64 {
    // The finalizer of SplitMix64, which maps no two numbers to one.
    let mut mark = update.cast_unsigned().wrapping_mul(4) | state as u64;
    mark = (mark ^ (mark >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mark = (mark ^ (mark >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mark ^ (mark >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    /// A path on a tmpfs. The file is removed with the value.
    struct TestFile(PathBuf);

    impl TestFile {
        fn new(test: &str) -> Self {
            Self(Path::new("/dev/shm").join(format!("pihook-once-{test}-{}", std::process::id())))
        }

        fn open(&self) -> DedupWindow {
            DedupWindow::open(&self.0).unwrap()
        }
    }

    impl Drop for TestFile {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    /// Handles an update, unless it is done or in flight. Whether it was handled.
    fn handle(window: &DedupWindow, update: i64) -> bool {
        match window.claim(update) {
            Claim::Granted(claimed) => {
                claimed.done();
                true
            }
            _ => false,
        }
    }

    #[test]
    fn an_update_that_is_done_is_not_handled_again_even_after_a_restart() {
        let file = TestFile::new("answered");
        let window = file.open();
        assert!(handle(&window, 7) && !handle(&window, 7) && handle(&window, 8));
        assert!(matches!(file.open().claim(7), Claim::Done));
        assert!(handle(&file.open(), 9));
    }

    #[test]
    fn an_update_is_claimed_once_at_a_time() {
        let window = DedupWindow::in_memory();
        let first = window.claim(7);
        assert!(matches!(window.claim(7), Claim::InFlight));
        drop(first);
        // The claim was given up: the next try gets it.
        assert!(matches!(
            window.claim(7),
            Claim::Granted(Claimed {
                interrupted: false,
                ..
            })
        ));
    }

    #[test]
    fn an_update_is_interrupted_when_the_process_ended_amid_its_reply() {
        let file = TestFile::new("amid");
        std::mem::forget(file.open().claim(7));
        assert!(matches!(
            file.open().claim(7),
            Claim::Granted(Claimed {
                interrupted: true,
                ..
            })
        ));
    }

    /// The bot panics, and the process ends without giving up its claim.
    fn panic(window: &DedupWindow, update: i64) {
        let Claim::Granted(claimed) = window.claim(update) else {
            panic!("it is not to be handled")
        };
        assert!(claimed.panic_mark().unwrap().write());
        std::mem::forget(claimed);
    }

    #[test]
    fn a_panic_leaves_one_more_try_and_the_second_none() {
        let file = TestFile::new("panic");
        panic(&file.open(), 7);
        let again = file.open();
        assert!(handle(&again, 8), "another update is not concerned");
        assert!(matches!(
            again.claim(7),
            Claim::Granted(Claimed {
                panicked: true,
                interrupted: false,
                ..
            })
        ));
        panic(&file.open(), 7);
        assert!(matches!(file.open().claim(7), Claim::Done));
    }

    #[test]
    fn a_panic_is_remembered_through_a_kill_and_a_deferral() {
        let file = TestFile::new("panic-and-kill");
        panic(&file.open(), 7);
        std::mem::forget(file.open().claim(7));
        drop(file.open().claim(7));
        let window = file.open();
        assert!(matches!(
            window.claim(7),
            Claim::Granted(Claimed { panicked: true, .. })
        ));
        assert!(handle(&window, 7));
        assert!(matches!(file.open().claim(7), Claim::Done));
    }

    #[test]
    fn without_a_file_a_panic_leaves_no_mark() {
        let window = DedupWindow::in_memory();
        let Claim::Granted(claimed) = window.claim(7) else {
            panic!("it is new")
        };
        assert!(claimed.panic_mark().is_none() && !claimed.panicked);
    }

    #[test]
    fn the_oldest_updates_are_forgotten_and_the_file_does_not_grow() {
        let file = TestFile::new("oldest");
        let window = file.open();
        let first = 2_000_000_000;
        let last = first + PLACES as i64;
        assert!((first..=last).all(|update| handle(&window, update)));
        assert!((first + 1..=last).all(|update| !handle(&window, update)));
        assert!(handle(&window, first));
        assert_eq!(fs::metadata(&file.0).unwrap().len(), (PLACES * MARK) as u64);
    }

    #[test]
    fn a_torn_or_foreign_file_loses_no_update() {
        let file = TestFile::new("torn");
        assert!(handle(&file.open(), 1) && handle(&file.open(), 2));
        let whole = fs::read(&file.0).unwrap();
        // Cut in the middle of the second update's mark.
        fs::write(&file.0, &whole[..2 * MARK + 3]).unwrap();
        let window = file.open();
        assert!(!handle(&window, 1) && handle(&window, 2));
        for content in [
            vec![0xff; 3 * PLACES * MARK],
            b"once upon a time".repeat(5000),
            vec![1],
        ] {
            fs::write(&file.0, content).unwrap();
            assert!((1..100).all(|update| handle(&file.open(), update)));
        }
    }

    #[test]
    fn a_folder_that_is_not_in_memory_is_refused() {
        assert!(DedupWindow::open(Path::new("/proc/once")).is_err());
        assert!(DedupWindow::open(Path::new("/nowhere/once")).is_err());
    }
}
