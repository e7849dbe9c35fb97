//! pihook: a Telegram bot for a Raspberry Pi at home. The bot itself is handed in: [`bot::Bot`] is what you write, and
//! [`cli::main`] is all that your `main` calls.
//!
//! # The journey of one update
//!
//! Telegram connects to [`webhook::edge`] (async, one thread). The edge closes connections that the allowlist does not name. A
//! [`webhook::connection`] ends TLS, and reads one request under limits of time and size. [`webhook::request`] frames the
//! request, and [`webhook::auth`] decides by path and secret whether it is let in. A whole request then goes over
//! [`webhook::handover`]'s Unix connections to tiny_http, where a blocking [`webhook::worker`] parses the update, asks
//! [`webhook::dedup`] whether it was answered before and the [`bot`] what to do, and makes the bot's calls with
//! [`telegram::client`]. Only then is the update answered, in memory by [`webhook::answers`]: 200 when it is dealt with, 503 when Telegram is to bring it back, as
//! [`webhook::retry`] decides. Telegram is the queue; [`webhook::postponed`] keeps the calls that are left until it does.
//!
//! Where nothing gets in, [`delivery::poller`] asks Telegram for updates, and hands them to the same workers.
//! [`delivery::switch`] decides between the two.
//!
//! # The rooms
//!
//! Imports point down this list, never back up. `tests/layers.rs` checks that.
//!
//! - [`cli`]: the command line.
//! - [`run`]: the wiring of `pihook run`, and its supervisor.
//! - [`doctor`]: what is wrong, and what to do about it. It may look at everything.
//! - [`delivery`]: how updates get here, by webhook or by polling. It keeps the webhook registered, and the certificate up to
//!   date.
//! - [`home`]: this Pi's address and router.
//! - [`webhook`]: inbound, from the first TCP packet to the answer.
//! - [`config`]: `pihook.toml` and the environment.
//! - [`bot`]: the seam. A bot knows it and [`telegram::types`] alone; `src/echo.rs`, in the program, is one.
//! - [`telegram`]: the Bot API.
//! - [`certificate`]: made, loaded, checked, rolled over.
//! - [`system`]: the machine: process, log, systemd, files.
//! - [`secret`] and [`network`] know no other room.
//!
//! Only the edge with its connections, the way to the workers, and the supervisor in [`run`] are async.

#![forbid(unsafe_code)]
// The map links to all rooms, and most are private: `cargo doc --document-private-items`.
#![allow(rustdoc::private_intra_doc_links)]
#![warn(missing_docs, unreachable_pub, clippy::expect_used, clippy::too_many_lines, clippy::unwrap_used)]

pub mod bot;
pub mod certificate;
pub mod cli;
pub mod config;
pub(crate) mod delivery;
pub(crate) mod doctor;
pub(crate) mod home;
pub(crate) mod network;
pub mod run;
pub(crate) mod secret;
pub mod system;
pub mod telegram;
pub mod webhook;
