//! The tests of the program, all in one: what one of them waits for, it waits for beside the
//! others.
//!
//! `cargo test doctor::` runs those of `tests/doctor.rs`. `tests/chaos` and `tests/homes` are
//! programs of their own.

mod api_tls;
mod behind_proxy;
mod bots;
mod calls;
mod certificates;
mod chains;
mod common;
mod dedup;
mod doctor;
mod documents;
mod echo;
mod edge;
mod example_bots;
mod framing;
mod health;
mod home;
mod init;
mod layers;
mod lifecycle;
mod log;
mod outage;
mod own_crate;
mod panics;
mod picture;
mod pipe;
mod polling;
mod proxies;
mod reachability;
mod registration;
mod sending;
mod settings;
mod status;
mod systemd;
mod updates;
mod upnp;
