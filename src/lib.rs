//! pihook: a Telegram bot for a Raspberry Pi at home.
//!
//! You write a bot: a type that implements [`bot::Bot`]. Your `main` calls [`cli::main`] with it,
//! and your program has all commands of pihook. [`bot`] and [`telegram::types`] are all that a bot
//! needs. The rest of this page is for those who change pihook.
//!
//! # The journey of one update
//!
//! 1. [`edge::accept`] accepts Telegram's connection. It closes connections that the allowlist
//!    does not name.
//! 2. [`edge::connection`] makes the TLS handshake, unless a proxy before the bot does, and
//!    reads one request. Time and size are limited.
//! 3. [`edge::request`] reads the head of the request. [`edge::auth`] checks path and secret.
//! 4. [`updates::handover`] passes the whole request over a Unix socket to tiny_http.
//! 5. [`updates::worker`] parses the update. [`updates::dedup`] knows whether it was answered
//!    before.
//! 6. The [`bot`] returns the calls to make. [`telegram::client`] makes them.
//! 7. Telegram gets 200 when the update is done. Otherwise it gets 503, and sends the update again:
//!    [`updates::retry`] decides. [`updates::answers`] hands the answer to the waiting connection.
//!    Meanwhile, [`updates::deferred_calls`] keeps the calls that are left.
//!
//! Where nothing gets in, [`delivery::poller`] asks Telegram for updates and passes them to the
//! same workers. [`delivery::policy`] decides between the two.
//!
//! # The rooms
//!
//! A room may use the rooms below it in this list, and none above it. `tests/layers.rs` checks
//! that.
//!
//! - [`cli`]: the command line, a file for each command.
//! - [`run`]: starts everything for `pihook run`, and supervises it.
//! - [`doctor`]: finds what is wrong and says what to do. It may use all rooms; only [`cli`] uses
//!   it.
//! - [`delivery`]: webhook or polling. It keeps the webhook registered and the certificate up to
//!   date.
//! - [`home`]: this Pi's address and router.
//! - [`edge`]: what meets the internet, from the first TCP packet to the whole request.
//! - [`updates`]: what is done with an update, pushed or polled.
//! - [`bot`]: the interface of a bot. A bot uses only this room and [`telegram::types`].
//!   `src/echo.rs`, in the program, is one.
//! - [`status`]: how the bot runs: it collects that, says it, and asks the running bot for it.
//! - [`config`]: `pihook.toml` and the environment.
//! - [`telegram`]: the Bot API.
//! - [`certificate`]: makes, loads, checks and renews the certificate.
//! - [`system`]: the machine: process, log, systemd, files.
//! - [`secret`] and [`network`] use no other room.
//!
//! Only the edge with its connections, the way to the workers, and the supervisor in [`run`] are
//! async.

#![forbid(unsafe_code)]
// The map links to all rooms, and most are private: `cargo doc --document-private-items`.
#![allow(rustdoc::private_intra_doc_links)]
#![warn(
    missing_docs,
    unreachable_pub,
    clippy::expect_used,
    clippy::too_many_lines,
    clippy::unwrap_used
)]

pub mod bot;
pub mod certificate;
pub mod cli;
pub mod config;
pub(crate) mod delivery;
pub(crate) mod doctor;
#[doc(hidden)]
pub mod edge;
pub mod home;
pub(crate) mod network;
pub mod run;
pub(crate) mod secret;
pub(crate) mod status;
pub mod system;
pub mod telegram;
#[doc(hidden)]
pub mod updates;
