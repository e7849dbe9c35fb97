//! The program that a bot is in: its name, and its part of the log.

/// How much the log shows: `Off`, `Error`, `Warn`, `Info`, `Debug` or `Trace`. It is
/// `log::LevelFilter`.
pub use log::LevelFilter as LogLevel;

/// The bot's program: [`program!`](crate::program) makes it.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    pub(super) crate_name: &'static str,
    pub(super) log_level: LogLevel,
}

impl Program {
    /// The log shows the lines of your crate from this level on, in place of `Info`. pihook's own
    /// lines begin at `Info`. Lines of other crates never show: below `Info`, some of them hold the
    /// token.
    #[must_use]
    pub const fn log_level(self, log_level: LogLevel) -> Self {
        Self { log_level, ..self }
    }

    /// For [`program!`](crate::program) alone.
    #[doc(hidden)]
    #[must_use]
    pub fn new(name: &'static str, version: &'static str, module: &'static str) -> Self {
        let crate_name = module.split("::").next().unwrap_or_default();
        Self {
            name,
            version,
            crate_name,
            log_level: LogLevel::Info,
        }
    }
}
