//! pihook: a Telegram bot for a Raspberry Pi at home.
//!
//! You write a bot: a type that implements [`bot::Bot`]. Your `main` calls [`cli::main`] with it
//! and [`program!`], and your program has all commands of pihook. A bot needs [`bot`], with
//! [`telegram::types`] for what Telegram sends. There is nothing else to know.

#![forbid(unsafe_code)]
// The rooms' pages link to private items: `cargo doc --document-private-items` shows them.
#![allow(rustdoc::private_intra_doc_links)]
#![warn(
    missing_docs,
    unreachable_pub,
    clippy::expect_used,
    clippy::unwrap_used
)]

// The rooms. A room may use the rooms below it in this list, and none above it:
// `tests/layers.rs` checks that. `.github/ARCHITECTURE.md` follows one update through them.
//
// - `cli`: the command line, a file for each command.
// - `run`: starts everything for `pihook run`, and supervises it.
// - `doctor`: finds what is wrong and says what to do. It may use all rooms; only `cli` uses
//   it.
// - `delivery`: webhook or polling. It keeps the webhook registered and the certificate up to
//   date.
// - `home`: this Pi's address and router.
// - `edge`: what meets the internet, from the first TCP packet to the whole request.
// - `updates`: what is done with an update, pushed or polled.
// - `bot`: the interface of a bot. A bot uses only this room and `telegram::types`.
//   `src/echo.rs`, in the program, is one.
// - `status`: how the bot runs: it collects that, says it, and asks the running bot for it.
// - `config`: `pihook.toml` and the environment.
// - `telegram`: the Bot API.
// - `certificate`: makes, loads, checks and renews the certificate.
// - `system`: the machine: process, log, systemd, files.
// - `secret` and `network` use no other room.
//
// Only the edge with its connections, the way to the workers, and the supervisor in `run` are
// async.

pub mod bot;
#[doc(hidden)]
pub mod certificate;
pub mod cli;
#[doc(hidden)]
pub mod config;
pub(crate) mod delivery;
pub(crate) mod doctor;
#[doc(hidden)]
pub mod edge;
#[doc(hidden)]
pub mod home;
pub(crate) mod network;
#[doc(hidden)]
pub mod run;
pub(crate) mod secret;
pub(crate) mod status;
#[doc(hidden)]
pub mod system;
pub mod telegram;
#[doc(hidden)]
pub mod updates;
