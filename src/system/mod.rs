//! The machine around us: this process, the log, systemd, files, a terminal, and the CAs that the
//! system trusts.

pub(crate) mod ca_roots;
pub(crate) mod clock;
pub(crate) mod files;
pub(crate) mod lock;
pub(crate) mod log_limit;
pub mod logging;
pub(crate) mod pause;
pub(crate) mod port;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod random;
pub(crate) mod resolver;
pub(crate) mod runtime_dir;
pub(crate) mod systemd;
pub(crate) mod terminal;
pub(crate) mod text;
