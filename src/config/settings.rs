//! All settings, with the defaults filled in.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::api_url::is_own_api;
use super::host::PublicHost;
use crate::certificate::CertificateFiles;
use crate::network::Network;
use crate::secret::{Secret, mask_keys};
use crate::telegram::proxy::Proxy;
use crate::telegram::token::Token;

/// Where Telegram's webhook calls come from: <https://core.telegram.org/bots/webhooks>.
pub(super) const TELEGRAMS_NETWORKS: [&str; 2] = ["149.154.160.0/20", "91.108.4.0/22"];

/// Everything that can be set, with the defaults filled in.
#[derive(Debug, Clone)]
pub struct Config {
    /// How updates come.
    pub(crate) delivery: Delivery,
    /// Where Telegram calls.
    pub(crate) public_host: PublicHost,
    /// The port that Telegram calls.
    pub(crate) public_port: u16,
    /// Whether TLS ends here; else a reverse proxy or a tunnel before us ends it.
    pub(crate) tls: bool,
    /// Where we listen.
    pub(crate) listen: SocketAddr,
    /// The certificate that Telegram is shown, and its key.
    pub(crate) certificate_files: CertificateFiles,
    /// The Bot API, without a slash at the end.
    pub(crate) api_url: String,
    /// The proxy through which the Bot API is called, if it is not called directly.
    pub(crate) proxy: Option<Proxy>,
    /// Whether the router is asked to forward `public_port`.
    pub(crate) port_mapping: bool,
    /// URLs that answer with the address that they are called from.
    pub(crate) address_services: Vec<String>,
    /// The time between two looks at the webhook, the home's address and the router.
    pub(crate) watch_interval: Duration,
    /// The allowlist: the networks that may connect.
    pub(crate) allow_from: Vec<Network>,
    /// Connections that Telegram may open for each bot, 1 to 100.
    pub(crate) max_connections: u16,
    /// The folder of what must outlive a reboot: what was registered last, and who each bot is.
    pub(crate) state_dir: PathBuf,
    /// The folder of what need not: the socket to the workers, and which updates are done.
    pub(crate) runtime_dir: PathBuf,
    /// The folder of all that is ours, where there is no settings file beside which it could lie.
    /// It is made when it is missing.
    pub(crate) own_folder: Option<PathBuf>,
    /// At least one.
    pub bots: Vec<BotSettings>,
}

/// How updates come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// By webhook where Telegram can reach one, else by polling.
    Auto,
    /// By webhook, also where Telegram does not reach it.
    Webhook,
    /// By polling; no port is opened.
    Polling,
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Webhook => "webhook",
            Self::Polling => "polling",
        })
    }
}

/// One bot on the shared port.
#[derive(Debug, Clone)]
pub struct BotSettings {
    /// The token, from `BotFather`.
    pub(crate) token: Token,
    /// The file that the token came from.
    pub(crate) file: Option<PathBuf>,
    /// The URL path that Telegram calls for this bot, secret since it is `/TOKEN/` by default.
    pub(crate) path: Secret,
}

impl Config {
    /// Whether the Bot API is one of the user's own, which calls private addresses and names, too.
    pub(crate) fn has_own_api(&self) -> bool {
        is_own_api(&self.api_url)
    }

    /// The URL to register for `bot`, called at `host`.
    pub(crate) fn webhook_url(&self, bot: &BotSettings, host: &str) -> Secret {
        format!("https://{host}:{}{}", self.public_port, bot.path.expose()).into()
    }

    /// What follows from the settings: who is asked for the home's address, and which port is open; a
    /// sentence each.
    pub(crate) fn consequences(&self) -> [String; 2] {
        let is_fixed = self.public_host.address().is_some();
        let asked = if !self.tls {
            "The bot asks no outside service for your public address.".to_owned()
        } else if is_fixed || self.delivery == Delivery::Polling {
            "The bot asks no outside service for your public address. `pihook doctor` asks."
                .to_owned()
        } else {
            format!(
                "The bot asks these services for your public address: {}.",
                self.address_services.join(", ")
            )
        };

        let opened = match (self.delivery, self.port_mapping) {
            (Delivery::Polling, _) => "The bot uses polling and opens no port.".to_owned(),
            _ if !self.tls => {
                format!(
                    "The bot listens for plain HTTP at {}. A reverse proxy or a tunnel must handle TLS.",
                    self.listen
                )
            }
            (_, true) => format!(
                "The bot asks the router to open port {} to the internet.",
                self.public_port
            ),
            (_, false) => format!(
                "The bot does not change the router. Forward port {} yourself, or set port_mapping = \"auto\".",
                self.public_port
            ),
        };
        [asked, opened]
    }

    /// The networks of those who may connect and are no strangers: Telegram's, and all of
    /// `allow_from` but "everyone". It is empty where TLS ends elsewhere: all connections come from
    /// the proxy then, whoever is behind it.
    pub(crate) fn known(&self) -> Vec<Network> {
        if !self.tls {
            return Vec::new();
        }

        let mut known = self.allow_from.clone();
        known.retain(|network| !network.is_everyone());
        for network in TELEGRAMS_NETWORKS {
            known.extend(network.parse::<Network>());
        }
        known
    }
}

impl fmt::Display for Config {
    /// The effective settings, in the file's own form, with the tokens masked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks: Vec<_> = self
            .allow_from
            .iter()
            .map(|network| format!("\"{network}\""))
            .collect();
        writeln!(f, "delivery         = \"{}\"", self.delivery)?;
        writeln!(f, "public_host      = \"{}\"", self.public_host)?;
        writeln!(f, "public_port      = {}", self.public_port)?;
        writeln!(
            f,
            "port_mapping     = \"{}\"",
            if self.port_mapping { "auto" } else { "off" }
        )?;
        writeln!(
            f,
            "tls              = \"{}\"",
            if self.tls { "on" } else { "off" }
        )?;
        writeln!(f, "listen           = \"{}\"", self.listen)?;
        writeln!(
            f,
            "certificate      = {:?}",
            self.certificate_files.certificate
        )?;
        writeln!(
            f,
            "private_key      = {:?}",
            self.certificate_files.private_key
        )?;
        writeln!(f, "api_url          = {:?}", self.api_url)?;
        if let Some(proxy) = &self.proxy {
            writeln!(f, "proxy            = \"{proxy}\"")?;
        }
        writeln!(f, "allow_from       = [{}]", networks.join(", "))?;
        writeln!(f, "max_connections  = {}", self.max_connections)?;
        writeln!(f, "address_services = {:?}", self.address_services)?;
        writeln!(f, "watch_interval   = {}", self.watch_interval.as_secs())?;
        writeln!(f, "state_dir        = {:?}", self.state_dir)?;
        writeln!(f, "runtime_dir      = {:?}", self.runtime_dir)?;
        let keys: Vec<_> = self.bots.iter().map(|bot| bot.token.key()).collect();
        for bot in &self.bots {
            let path = mask_keys(
                &bot.path.expose().replace(bot.token.expose(), "{token}"),
                &keys,
            );
            write!(
                f,
                "\n[[bot]]\ntoken = \"{}:***\"\npath  = {path:?}\n",
                bot.token.id()
            )?;
        }
        Ok(())
    }
}
