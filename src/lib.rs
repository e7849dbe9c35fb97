//! pihook: a Telegram bot for a Raspberry Pi at home.
//!
//! You write a bot: a type that implements [`bot::Bot`]. Your `main` calls [`cli::main`] with it,
//! and your program has all commands of pihook. [`bot`] and [`telegram::types`] are all that a bot
//! needs. The rest of this page is for those who change pihook.
//!
//! # The journey of one update
//!
//! 1. [`webhook::edge`] accepts Telegram's connection. It closes connections that the allowlist
//!    does not name.
//! 2. [`webhook::connection`] makes the TLS handshake, unless a proxy before the bot does, and
//!    reads one request. Time and size are limited.
//! 3. [`webhook::request`] reads the head of the request. [`webhook::auth`] checks path and secret.
//! 4. [`webhook::handover`] passes the whole request over a Unix socket to tiny_http.
//! 5. [`webhook::worker`] parses the update. [`webhook::dedup`] knows whether it was answered
//!    before.
//! 6. The [`bot`] returns the calls to make. [`telegram::client`] makes them.
//! 7. Telegram gets 200 when the update is done. Otherwise it gets 503, and sends the update again:
//!    [`webhook::retry`] decides. [`webhook::answers`] hands the answer to the waiting connection.
//!    Meanwhile, [`webhook::postponed`] keeps the calls that are left.
//!
//! Where nothing gets in, [`delivery::poller`] asks Telegram for updates and passes them to the
//! same workers. [`delivery::switch`] decides between the two.
//!
//! # The rooms
//!
//! A room may use the rooms below it in this list, and none above it. `tests/layers.rs` checks
//! that.
//!
//! - [`cli`]: the command line.
//! - [`init`]: asks for what a bot needs, checks it and writes it.
//! - [`status`]: asks the running bot how it is, and waits until it works.
//! - [`run`]: starts everything for `pihook run`, and supervises it.
//! - [`doctor`]: finds what is wrong and says what to do. It may use all rooms; only [`cli`] uses
//!   it.
//! - [`delivery`]: webhook or polling. It keeps the webhook registered and the certificate up to
//!   date.
//! - [`home`]: this Pi's address and router.
//! - [`webhook`]: incoming requests, from the first TCP packet to the answer.
//! - [`config`]: `pihook.toml` and the environment.
//! - [`bot`]: the interface of a bot. A bot uses only this room and [`telegram::types`].
//!   `src/echo.rs`, in the program, is one.
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
pub mod home;
pub(crate) mod init;
pub(crate) mod network;
pub mod run;
pub(crate) mod secret;
pub(crate) mod status;
pub mod system;
pub mod telegram;
pub mod webhook;
