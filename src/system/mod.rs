//! The machine around us: this process, the log, systemd, files, and the CAs that the system trusts.

pub mod ca_roots;
pub mod files;
pub mod log_limit;
pub mod logging;
pub mod process;
pub mod status;
pub mod systemd;
