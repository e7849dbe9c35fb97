//! The dedup window: which updates were answered, so that an update which Telegram delivers again
//! gets no second reply.
//!
//! A bot's updates are numbered in sequence, so an update's place in the ring is its number modulo
//! the ring's size, and holds a mark that only this number in this state has. What was torn, or is
//! from elsewhere, is no mark: it is as if nothing stood there.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use crate::system::lock::lock;

/// Updates that are remembered: at the 30 messages a second that Telegram lets a bot send, for four
/// minutes; at home, for days. A lost answer is asked for again within seconds.
const PLACES: usize = 8192;
const MARK: usize = size_of::<u64>();

/// One bot's window.
pub struct DedupWindow {
    ring: Mutex<Ring>,
    /// The ring's file once more, for a panic, which can wait for no lock.
    at_panic: Option<Arc<File>>,
}

struct Ring {
    marks: Vec<u64>,
    /// What this process is sending a reply to.
    sending: Vec<i64>,
    /// A copy of `marks` that outlives the process.
    file: Option<File>,
}

#[derive(Clone, Copy)]
enum State {
    Sending = 1,
    Answered = 2,
    /// The bot panicked while it handled the update.
    Panicked = 3,
}

/// The answer to the claim of an update.
pub enum Claim<'o> {
    /// The reply is to be sent now.
    Granted(Claimed<'o>),
    /// Another worker sends the reply at this moment.
    InFlight,
    /// The reply is out.
    Answered,
}

/// An update whose reply is being sent; the claim is given up when this is dropped.
pub struct Claimed<'o> {
    window: &'o DedupWindow,
    update: i64,
    /// A process before this one ended while it was sending: the reply may be out.
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
        self.file
            .write_at(&self.mark.to_le_bytes(), self.offset)
            .is_ok_and(|written| written == MARK)
    }
}

impl DedupWindow {
    /// Begins with what the file at `path` remembers, and keeps it up to date.
    ///
    /// # Errors
    /// When there can be no file, or its folder is not in memory, where alone a write for every
    /// update wears nothing out.
    pub fn open(path: &Path) -> io::Result<Self> {
        if statfs(path.parent().unwrap_or(Path::new(".")))?.filesystem_type() != TMPFS_MAGIC {
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
        let at_panic = Some(Arc::new(file.try_clone()?));
        Ok(Self {
            at_panic,
            ..Self::with(content, Some(file))
        })
    }

    /// Begins with nothing, and remembers for as long as it lives.
    pub(crate) fn in_memory() -> Self {
        Self::with(Vec::new(), None)
    }

    fn with(mut content: Vec<u8>, file: Option<File>) -> Self {
        content.resize(PLACES * MARK, 0);
        let marks = content
            .as_chunks()
            .0
            .iter()
            .map(|bytes| u64::from_le_bytes(*bytes))
            .collect();
        Self {
            ring: Mutex::new(Ring {
                marks,
                sending: Vec::new(),
                file,
            }),
            at_panic: None,
        }
    }

    /// Claims an update: only one worker at a time gets it, and only while it is not answered.
    pub fn claim(&self, update: i64) -> Claim<'_> {
        let mut ring = self.ring();
        let found = ring.marks[place(update)];
        if ring.sending.contains(&update) {
            return Claim::InFlight;
        }
        if found == mark(update, State::Answered) {
            return Claim::Answered;
        }
        ring.sending.push(update);
        let panicked = found == mark(update, State::Panicked);
        // The mark of a panic stays: whatever ends this process now, the next panic is the second.
        if !panicked {
            ring.set(update, mark(update, State::Sending));
        }
        let interrupted = found == mark(update, State::Sending);
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
    /// The mark to leave when the bot panics: at the first panic one that gives the update another
    /// try, at the second that of an answered update. None when the ring is kept in this process
    /// alone.
    #[must_use]
    pub fn panic_mark(&self) -> Option<PanicMark> {
        let state = if self.panicked {
            State::Answered
        } else {
            State::Panicked
        };
        let file = Arc::clone(self.window.at_panic.as_ref()?);
        Some(PanicMark {
            file,
            offset: offset(place(self.update)),
            mark: mark(self.update, state),
        })
    }

    /// Notes that the reply is out.
    pub fn answered(self) {
        self.window
            .ring()
            .set(self.update, mark(self.update, State::Answered));
    }
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        let mut ring = self.window.ring();
        ring.sending.retain(|update| *update != self.update);
        if ring.marks[place(self.update)] == mark(self.update, State::Sending) {
            ring.set(self.update, 0);
        }
    }
}

impl Ring {
    fn set(&mut self, update: i64, mark: u64) {
        let place = place(update);
        self.marks[place] = mark;
        // Not synced: it lies in memory, and the kernel keeps it when the process is killed.
        let written = self
            .file
            .as_ref()
            .map(|file| file.write_all_at(&mark.to_le_bytes(), offset(place)));
        if let Some(Err(why)) = written {
            log::warn!(
                "pihook could not save which updates it has answered: {why}. After a restart, it may answer an update \
                 again."
            );
            self.file = None;
        }
    }
}

fn offset(place: usize) -> u64 {
    (place * MARK) as u64
}

fn place(update: i64) -> usize {
    // It is below PLACES.
    usize::try_from(update.rem_euclid(PLACES as i64)).unwrap_or_default()
}

/// A number that no other update has in any state, but for those 2^62 away, and that chance does
/// not hit. Never 0.
fn mark(update: i64, state: State) -> u64 {
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

    /// A file of its own on a tmpfs; it goes with the value.
    struct Memory(PathBuf);

    impl Memory {
        fn new(test: &str) -> Self {
            Self(Path::new("/dev/shm").join(format!("pihook-once-{test}-{}", std::process::id())))
        }

        fn open(&self) -> DedupWindow {
            DedupWindow::open(&self.0).unwrap()
        }
    }

    impl Drop for Memory {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    /// Sends a reply, if one is to be sent.
    fn reply(window: &DedupWindow, update: i64) -> bool {
        match window.claim(update) {
            Claim::Granted(sending) => {
                sending.answered();
                true
            }
            _ => false,
        }
    }

    #[test]
    fn what_was_answered_is_not_answered_again_also_after_a_restart() {
        let memory = Memory::new("answered");
        let window = memory.open();
        assert!(reply(&window, 7) && !reply(&window, 7) && reply(&window, 8));
        assert!(matches!(memory.open().claim(7), Claim::Answered));
        assert!(reply(&memory.open(), 9));
    }

    #[test]
    fn what_is_being_sent_is_not_sent_twice_at_once() {
        let window = DedupWindow::in_memory();
        let first = window.claim(7);
        assert!(matches!(window.claim(7), Claim::InFlight));
        drop(first);
        // It could not be sent: the next try may.
        assert!(matches!(
            window.claim(7),
            Claim::Granted(Claimed {
                interrupted: false,
                ..
            })
        ));
    }

    #[test]
    fn a_process_that_ended_amid_a_reply_leaves_word_of_it() {
        let memory = Memory::new("amid");
        std::mem::forget(memory.open().claim(7));
        assert!(matches!(
            memory.open().claim(7),
            Claim::Granted(Claimed {
                interrupted: true,
                ..
            })
        ));
    }

    /// The bot panics, and the process ends: nothing is given up.
    fn panic(window: &DedupWindow, update: i64) {
        let Claim::Granted(claimed) = window.claim(update) else {
            panic!("it is not to be handled")
        };
        assert!(claimed.panic_mark().unwrap().write());
        std::mem::forget(claimed);
    }

    #[test]
    fn after_a_panic_there_is_one_more_try_and_after_two_none() {
        let memory = Memory::new("panic");
        panic(&memory.open(), 7);
        let again = memory.open();
        assert!(reply(&again, 8), "another update is not concerned");
        assert!(matches!(
            again.claim(7),
            Claim::Granted(Claimed {
                panicked: true,
                interrupted: false,
                ..
            })
        ));
        panic(&memory.open(), 7);
        assert!(matches!(memory.open().claim(7), Claim::Answered));
    }

    #[test]
    fn a_panic_is_remembered_through_a_kill_and_a_postponement_until_the_reply_is_out() {
        let memory = Memory::new("panic-and-kill");
        panic(&memory.open(), 7);
        std::mem::forget(memory.open().claim(7));
        drop(memory.open().claim(7));
        let window = memory.open();
        assert!(matches!(
            window.claim(7),
            Claim::Granted(Claimed { panicked: true, .. })
        ));
        assert!(reply(&window, 7));
        assert!(matches!(memory.open().claim(7), Claim::Answered));
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
    fn the_oldest_are_forgotten_and_the_file_does_not_grow() {
        let memory = Memory::new("oldest");
        let window = memory.open();
        let first = 2_000_000_000;
        let last = first + PLACES as i64;
        assert!((first..=last).all(|update| reply(&window, update)));
        assert!((first + 1..=last).all(|update| !reply(&window, update)));
        assert!(reply(&window, first));
        assert_eq!(
            fs::metadata(&memory.0).unwrap().len(),
            (PLACES * MARK) as u64
        );
    }

    #[test]
    fn a_torn_or_foreign_file_loses_no_update() {
        let memory = Memory::new("torn");
        assert!(reply(&memory.open(), 1) && reply(&memory.open(), 2));
        let whole = fs::read(&memory.0).unwrap();
        // Cut in the middle of the second update's mark.
        fs::write(&memory.0, &whole[..2 * MARK + 3]).unwrap();
        let window = memory.open();
        assert!(!reply(&window, 1) && reply(&window, 2));
        for content in [
            vec![0xff; 3 * PLACES * MARK],
            b"once upon a time".repeat(5000),
            vec![1],
        ] {
            fs::write(&memory.0, content).unwrap();
            assert!((1..100).all(|update| reply(&memory.open(), update)));
        }
    }

    #[test]
    fn a_folder_that_is_not_in_memory_is_refused() {
        assert!(DedupWindow::open(Path::new("/proc/once")).is_err());
        assert!(DedupWindow::open(Path::new("/nowhere/once")).is_err());
    }
}
