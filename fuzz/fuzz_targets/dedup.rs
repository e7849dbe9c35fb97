//! The dedup window, on a file of any content, through any sequence of replies, panics and
//! restarts.

#![no_main]

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::slice::Iter;

use libfuzzer_sys::fuzz_target;
use pihook::updates::dedup::{Claim, Claimed, DedupWindow};

const PLACES: i64 = 8192;
const MARK: u64 = 8;

/// What the window must know: by place, the last update that was claimed there, and its state.
type Model = HashMap<i64, (i64, State)>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Claimed,
    Done,
    Panicked,
}

// The input: how many steps there are, the steps (three bytes each), and the content of the file at
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
    while steps.len() > 0 {
        run_process(path, &mut steps, &mut model);
    }
    fs::remove_file(path).unwrap();
});

/// One life of the program: it ends with the steps, or with a panic or a kill.
fn run_process(path: &Path, steps: &mut Iter<[u8; 3]>, model: &mut Model) {
    let window = DedupWindow::open(path).unwrap();
    let mut claims = HashMap::new();
    for [step, low, high] in steps {
        let base = [0, 2_000_000_000, 1 << 60, -(1 << 60)][usize::from(step >> 6)];
        let update = base + i64::from(i16::from_le_bytes([*low, *high]));
        let place = update.rem_euclid(PLACES);
        match step % 8 {
            0..4 => {
                let is_done_at_once = step & 8 != 0;
                claim(&window, update, is_done_at_once, &mut claims, model);
            }
            4..6 => {
                if let Some(claimed) = claims.remove(&update) {
                    claimed.done();
                    model.insert(place, (update, State::Done));
                }
            }
            6 => {
                // The claim is given up.
                if claims.remove(&update).is_some()
                    && model.get(&place) == Some(&(update, State::Claimed))
                {
                    model.remove(&place);
                }
            }
            _ => {
                if step & 16 != 0
                    && let Some(claimed) = claims.get(&update)
                {
                    panic_in(claimed, update, model);
                }
                if step & 8 != 0 {
                    let length = u64::from(u16::from_le_bytes([*low, *high]));
                    cut_off(path, length, model);
                }
                break;
            }
        }
    }
    // A process that ends gives up no claim.
    for (_, claimed) in claims {
        std::mem::forget(claimed);
    }
}

fn claim<'w>(
    window: &'w DedupWindow,
    update: i64,
    is_done_at_once: bool,
    claims: &mut HashMap<i64, Claimed<'w>>,
    model: &mut Model,
) {
    let place = update.rem_euclid(PLACES);
    let before = match model.get(&place) {
        Some((of, state)) if *of == update => Some(*state),
        _ => None,
    };
    match window.claim(update) {
        Claim::InFlight => assert!(claims.contains_key(&update)),
        Claim::Done => assert_eq!(model.get(&place), Some(&(update, State::Done))),
        Claim::Granted(claimed) => {
            assert_ne!(before, Some(State::Done));
            assert_eq!(claimed.interrupted, before == Some(State::Claimed));
            assert_eq!(claimed.panicked, before == Some(State::Panicked));
            if !claimed.panicked {
                model.insert(place, (update, State::Claimed));
            }
            if is_done_at_once {
                claimed.done();
                model.insert(place, (update, State::Done));
            } else {
                assert!(claims.insert(update, claimed).is_none());
            }
        }
    }
}

fn panic_in(claimed: &Claimed, update: i64, model: &mut Model) {
    assert!(claimed.panic_mark().unwrap().write());
    let state = if claimed.panicked {
        State::Done
    } else {
        State::Panicked
    };
    model.insert(update.rem_euclid(PLACES), (update, state));
}

fn cut_off(path: &Path, length: u64, model: &mut Model) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(length.min(file.metadata().unwrap().len()))
        .unwrap();
    model.retain(|place, _| (place.cast_unsigned() + 1) * MARK <= length);
}
