//! The ring of answered updates, on a file of any content, through any sequence of replies, panics
//! and restarts.

#![no_main]

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use pihook::updates::dedup::{Claim, DedupWindow};

const PLACES: i64 = 8192;
const MARK: u64 = 8;

/// What the ring must know: by place, the last update that began there and how far it got.
type Model = HashMap<i64, (i64, State)>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Sending,
    Answered,
    Panicked,
}

// The input: how many steps there are, the steps, three bytes each, and the file that is there at
// the start.
fuzz_target!(|bytes: &[u8]| {
    let Some((count, rest)) = bytes.split_first() else {
        return;
    };
    let (steps, content) = rest.split_at(rest.len().min(3 * usize::from(*count)));
    // Mixed: the fuzzer sees what marks are compared with, and would write a right one.
    let content: Vec<u8> = content.iter().map(|byte| byte ^ 0xa5).collect();

    let path = format!("/dev/shm/pihook-fuzz-{}", std::process::id());
    let path = Path::new(&path);
    fs::write(path, content).unwrap();
    let mut model = Model::new();
    let mut steps = steps.as_chunks().0.iter();
    // One life of the program after the other.
    while steps.len() > 0 {
        let window = DedupWindow::open(path).unwrap();
        let mut sending = HashMap::new();
        for [step, low, high] in steps.by_ref() {
            let base = [0, 2_000_000_000, 1 << 60, -(1 << 60)][usize::from(step >> 6)];
            let update = base + i64::from(i16::from_le_bytes([*low, *high]));
            let place = update.rem_euclid(PLACES);
            match step % 8 {
                0..4 => match window.claim(update) {
                    Claim::InFlight => assert!(sending.contains_key(&update)),
                    Claim::Done => {
                        assert_eq!(model.get(&place), Some(&(update, State::Answered)))
                    }
                    Claim::Granted(claimed) => {
                        let before = model
                            .get(&place)
                            .copied()
                            .filter(|(of, _)| *of == update)
                            .map(|(_, state)| state);
                        assert_ne!(before, Some(State::Answered));
                        assert_eq!(claimed.interrupted, before == Some(State::Sending));
                        assert_eq!(claimed.panicked, before == Some(State::Panicked));
                        if !claimed.panicked {
                            model.insert(place, (update, State::Sending));
                        }
                        if step & 8 == 0 {
                            assert!(sending.insert(update, claimed).is_none());
                        } else {
                            claimed.done();
                            model.insert(place, (update, State::Answered));
                        }
                    }
                },
                4..6 => {
                    if let Some(claimed) = sending.remove(&update) {
                        claimed.done();
                        model.insert(place, (update, State::Answered));
                    }
                }
                6 => {
                    // It could not be sent.
                    if sending.remove(&update).is_some()
                        && model.get(&place) == Some(&(update, State::Sending))
                    {
                        model.remove(&place);
                    }
                }
                _ => {
                    // The bot panicked, or the process was killed; and at times the file is cut
                    // off.
                    if step & 16 != 0
                        && let Some(claimed) = sending.get(&update)
                    {
                        assert!(claimed.panic_mark().unwrap().write());
                        let state = if claimed.panicked {
                            State::Answered
                        } else {
                            State::Panicked
                        };
                        model.insert(place, (update, state));
                    }
                    if step & 8 != 0 {
                        let length = u64::from(u16::from_le_bytes([*low, *high]));
                        let file = File::options().write(true).open(path).unwrap();
                        file.set_len(length.min(file.metadata().unwrap().len()))
                            .unwrap();
                        model.retain(|place, _| (place.cast_unsigned() + 1) * MARK <= length);
                    }
                    break;
                }
            }
        }
        sending
            .drain()
            .for_each(|(_, claimed)| std::mem::forget(claimed));
    }
    fs::remove_file(path).unwrap();
});
