//! The machine around us.

pub mod ca_roots;
pub mod files;
pub mod log_limit;
pub mod process;
pub mod status;
pub mod systemd;
