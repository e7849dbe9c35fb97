//! `pihook.toml` and the environment, checked.

mod api_url;
mod bots;
pub(crate) mod edit;
mod file;
mod hint;
mod host;
mod problems;
mod read;
mod settings;
mod source;
#[cfg(test)]
mod tests;
mod values;

pub(crate) use self::api_url::is_own_api;
pub(crate) use self::host::{PublicHost, public_host};
pub(crate) use self::problems::ProblemKind;
pub use self::problems::{Problem, Problems};
pub(crate) use self::read::{examine, load_from};
pub use self::read::{examine_text, load};
pub(crate) use self::settings::Delivery;
pub use self::settings::{BotSettings, Config};
pub use self::source::Environment;
pub(crate) use self::source::{TOKEN_VARIABLE, find, look};
pub(crate) use self::values::{PLAIN_NEEDS_PRIVATE, port_mapping};
