//! pihook: a Telegram webhook echo bot for a Raspberry Pi at home.
//!
//! # The journey of one update
//!
//! Telegram connects to [`webhook::edge`] (async, one thread). The edge closes connections that the allowlist does not name. A
//! [`webhook::connection`] ends TLS, and reads one request under limits of time and size. [`webhook::request`] frames the
//! request, and [`webhook::auth`] decides by path and secret whether it is let in. A whole request then goes over
//! [`webhook::handover`]'s Unix connections to tiny_http, where a blocking [`webhook::worker`] parses the update, asks
//! [`echo`] what to answer and [`webhook::dedup`] whether that was sent before, and sends it with [`telegram::client`]. Only
//! then is the update answered: 200 when it is dealt with, 503 when Telegram is to bring it back, as [`webhook::retry`]
//! decides. Telegram is the queue.
//!
//! # The rooms
//!
//! Imports point down this list, never back up. `tests/layers.rs` checks that.
//!
//! - [`cli`]: the command line.
//! - [`run`]: the wiring of `pihook run`, and its supervisor.
//! - [`doctor`]: what is wrong, and what to do about it. It may look at everything.
//! - [`delivery`]: how updates get here. It keeps the webhook registered, and the certificate up to date.
//! - [`home`]: this Pi's address and router.
//! - [`webhook`]: inbound, from the first TCP packet to the answer.
//! - [`echo`]: the bot. It knows [`telegram::types`] alone.
//! - [`config`]: `pihook.toml` and the environment.
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

pub mod certificate;
pub mod cli;
pub mod config;
pub(crate) mod delivery;
pub(crate) mod doctor;
pub mod echo;
pub(crate) mod home;
pub(crate) mod network;
pub mod run;
pub(crate) mod secret;
pub mod system;
pub mod telegram;
pub mod webhook;
