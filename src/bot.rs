//! The interface of a bot: you write a [`Bot`], which returns the [`Call`]s to make for each update.
//!
//! ```no_run
//! use pihook::bot::{Bot, Call, Me, Update};
//!
//! struct Greeter;
//!
//! impl Bot for Greeter {
//!     fn handle(&self, update: &Update, me: &Me) -> Vec<Call> {
//!         let Some(message) = &update.message else { return vec![] };
//!         match message.command(me) {
//!             Some("start") => vec![Call::reply(message, "Hello! Write to me.")],
//!             _ => vec![],
//!         }
//!     }
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     pihook::cli::main(Greeter, pihook::program!())
//! }
//! ```

pub use crate::telegram::call::Call;
pub use crate::telegram::types::{Me, Update};

/// The first calls of an update that are made. The rest is dropped.
pub(crate) const MAX_CALLS: usize = 10;

/// A bot: it gets an update, and returns the calls to make for it.
///
/// A counter of the messages in each chat:
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::Mutex;
///
/// use pihook::bot::{Bot, Call, Me, Update};
///
/// #[derive(Default)]
/// struct Counter(Mutex<HashMap<(i64, i64), u64>>);
///
/// impl Bot for Counter {
///     fn handle(&self, update: &Update, me: &Me) -> Vec<Call> {
///         let Some(message) = &update.message else { return vec![] };
///         let mut counts = self.0.lock().unwrap();
///         let count = counts.entry((me.id, message.chat.id)).or_default();
///         *count += 1;
///         vec![Call::reply(message, &count.to_string())]
///     }
/// }
///
/// // A test needs no network.
/// let update = br#"{"update_id": 7, "message": {"message_id": 5, "date": 1, "text": "hi", "chat": {"id": 42}}}"#;
/// let me = Me { id: 110201543, first_name: "Counter".into(), username: "count_bot".into() };
/// let calls = Counter::default().handle(&Update::parse(update.to_vec()).unwrap(), &me);
/// assert_eq!(calls[0].method(), "sendMessage");
/// assert_eq!(calls[0].parameters()["text"], "1");
/// ```
///
/// One value serves all bots of the settings, that is, all tokens. It may hold state; key that by
/// ([`Me::id`], chat).
pub trait Bot: Send + Sync + 'static {
    /// The kinds of update that Telegram sends, by the names of [`Update`]'s fields in the [Bot
    /// API](https://core.telegram.org/bots/api#update). An empty list stands for Telegram's
    /// default: all but three.
    ///
    /// It must be the same at each call. After a change, the next start of the program sets the
    /// webhook again by itself.
    ///
    /// ```
    /// # use pihook::bot::{Bot, Call, Me, Update};
    /// # struct Buttons;
    /// impl Bot for Buttons {
    ///     fn allowed_updates(&self) -> &'static [&'static str] {
    ///         &["message", "callback_query"]
    ///     }
    /// #   fn handle(&self, _: &Update, _: &Me) -> Vec<Call> { vec![] }
    /// }
    /// ```
    fn allowed_updates(&self) -> &'static [&'static str] {
        &["message"]
    }

    /// The calls to make for this update, in this order. Without calls the update is done.
    ///
    /// **Arguments.** `update` is the update as Telegram sent it; `me` is the bot that Telegram sent
    /// it to, as getMe describes it. Threads call this method at the same time for different chats;
    /// the messages of one chat come one after another. Presses of buttons have a queue of their
    /// own: one can come while a message of the same chat is handled. The results of calls do not
    /// come back to the bot.
    ///
    /// **Limits.** The first ten calls are made; the rest is dropped, with an error in the log. The
    /// next call is made once the one before is done: Telegram accepted it, or refused it for good
    /// (blocked, too long, no such method…), which is logged. [`Call::or`] adds a call for this
    /// case.
    ///
    /// **Deferred calls.** When Telegram asks to wait or cannot be reached, the remaining calls stay
    /// in memory, and Telegram delivers the update again later. Then exactly these calls are made,
    /// and `handle` does not run again. At most 256 updates and 1 MiB of calls are kept for a bot;
    /// the oldest are forgotten first.
    ///
    /// **A redelivery.** Telegram delivers an update again when it did not see our answer. An
    /// update that is done is not handled again. But `handle` runs again for the same update when
    /// its calls were forgotten, or when the program ended before they were done (a kill, a power
    /// cut, a restart). Some of its calls can have been made by then. State that must not count
    /// twice has to keep [`Update::update_id`].
    ///
    /// **A panic.** It ends the process, with all bots in it; systemd starts the next one. Telegram
    /// delivers the update again, and `handle` gets one more try. At the second panic the update is
    /// dropped, with an error in the log. This needs a `runtime_dir` on a tmpfs, as systemd's is;
    /// without it, nothing is remembered, and the update comes until Telegram gives it up, after a
    /// day. A stack overflow, memory over the unit's `MemoryMax`, and a panic in a thread of your
    /// own end the process, too, and leave no note. The panic's message is logged: keep users'
    /// texts out of it.
    ///
    /// **A slow handler.** It blocks its chat and one worker thread. Calls start within 22 s of the
    /// update's arrival; a call that has not started by then is deferred. After 45 s Telegram's
    /// connection is closed; the redeliveries get a 503 until `handle` has returned. So do not wait
    /// here for more than a few seconds. When all workers wait for two minutes, the watchdog
    /// restarts the program.
    ///
    /// Lines that your crate writes with the `log` crate, from the level `info` on, are in the log.
    fn handle(&self, update: &Update, me: &Me) -> Vec<Call>;
}
