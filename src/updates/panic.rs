//! A panic of the bot: the update that it was handling gets a mark in the dedup window, and the
//! process ends.
//!
//! The process ends here, whatever the build says about panics: a program that lost a thread would
//! run on and not answer. The hook takes no lock: the thread that panicked may hold any.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{self, PanicHookInfo};
use std::process;

use super::dedup::{Claimed, PanicMark};
use crate::secret::printable;
use crate::system::logging;

thread_local! {
    static HANDLED: RefCell<Option<Handled>> = const { RefCell::new(None) };
}

/// The update that this thread's bot is handling.
struct Handled {
    /// "bot 7 update 8 chat 9".
    name: String,
    mark: Option<PanicMark>,
    /// It has panicked with this update before.
    is_second: bool,
}

/// Has the bot handle an update; `name` is what the log calls it.
pub(crate) fn handling<T>(name: &str, claimed: &Claimed<'_>, handle: impl FnOnce() -> T) -> T {
    let handled = Handled {
        name: name.to_owned(),
        mark: claimed.panic_mark(),
        is_second: claimed.panicked,
    };
    HANDLED.set(Some(handled));
    let result = handle();
    HANDLED.set(None);
    result
}

/// From now on a panic of any thread ends the process, with a line in the log.
pub(crate) fn end_process_on_panic() {
    panic::set_hook(Box::new(|info| {
        let handled = HANDLED.try_with(RefCell::take).ok().flatten();
        logging::last_line(&line(handled.as_ref(), info));
        process::abort();
    }));
}

fn line(handled: Option<&Handled>, info: &PanicHookInfo<'_>) -> String {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let message = printable(message(info.payload()));
    let Some(handled) = handled else {
        return format!("The program panicked at {place}: {message}.");
    };

    let outcome = match handled.mark.as_ref().map(PanicMark::write) {
        Some(true) if handled.is_second => {
            "This is the second panic with this update: pihook drops the update."
        }
        Some(true) => "pihook tries this update once more.",
        _ => {
            "pihook cannot remember this update across a restart: set runtime_dir to a folder in memory (tmpfs), under /run."
        }
    };
    let name = &handled.name;
    format!("{name}: the bot panicked at {place}: {message}. {outcome}")
}

/// The text that was given to `panic!`: a literal is a `&str`, a formatted text a `String`.
fn message(payload: &dyn Any) -> &str {
    if let Some(text) = payload.downcast_ref::<&str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "no message"
    }
}
