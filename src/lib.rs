//! pihook: a Telegram webhook echo bot for a Raspberry Pi at home.
//!
//! # The journey of one update
//!
//! Telegram connects to [`webhook::edge`] (async, one thread). The edge closes on whom the allowlist does
//! not name, ends TLS, and reads one request under limits of time and size. [`webhook::request`] frames it and
//! [`webhook::auth`] decides by path and secret whether it is let in. A whole request then goes over
//! [`webhook::handover`]'s Unix connections to tiny_http, where a blocking [`webhook::worker`] parses the
//! update, asks [`echo`] what to answer and [`webhook::dedup`] whether that was sent before, and sends it with
//! [`telegram::client`]. Only then is the update answered: 200 when it is dealt with, 503 when Telegram shall bring it back,
//! as [`webhook::retry`] decides. Telegram is the queue.
//!
//! # Around it
//!
//! [`identity`] is what Telegram knows the bot by: host and [`certificate`], which change together. A thread of
//! [`registration`] for each bot keeps that registered and watches it, by what [`health`] says; [`home`] looks for the
//! home's address and deals with the router. [`probe`] and [`status`] are for systemd. [`doctor`] looks at all of it.
//!
//! # Who knows whom
//!
//! [`telegram::types`] knows nobody, and [`echo`] only the types. [`telegram::client`] sends what echo says. [`webhook`]
//! knows [`telegram`] and [`echo`]; [`registration`] knows [`telegram`] and [`config`]; [`home`] knows [`config`] and
//! [`status`], and nobody but [`doctor`] and [`run`] knows [`home`]. [`run`] wires them, and `main` is the command line.
//! Only the edge, its way to the workers and the supervisor in [`run`] are async.

#![forbid(unsafe_code)]
#![warn(missing_docs, clippy::expect_used, clippy::unwrap_used)]

pub mod certificate;
pub mod config;
pub mod delivery;
pub mod doctor;
pub mod echo;
pub mod home;
pub mod network;
pub mod run;
pub mod secret;
pub mod system;
pub mod telegram;
pub mod text;
pub mod webhook;
