//! `pihook.toml` and the environment, checked.

pub(crate) mod edit;
mod file;
mod hint;
mod host;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd;

use self::file::Table;
pub(crate) use self::host::{PublicHost, public_host};
use crate::certificate::CertificateFiles;
use crate::network::{self, Network};
use crate::secret::{Secret, mask_keys};
use crate::system::files;
use crate::system::text::decode;
use crate::telegram::proxy::{self, Proxy};
use crate::telegram::token::Token;

/// Where the token may come from, for a bot that names none.
pub(crate) const TOKEN_VARIABLE: &str = "TELEGRAM_BOT_TOKEN";
/// The Bot API that Telegram runs.
const TELEGRAM: &str = "https://api.telegram.org";
/// Where Telegram's webhook calls come from: <https://core.telegram.org/bots/webhooks>.
const TELEGRAMS_NETWORKS: [&str; 2] = ["149.154.160.0/20", "91.108.4.0/22"];
/// They answer with the caller's address as plain text, and are run by three different companies.
const ADDRESS_SERVICES: [&str; 3] =
    ["https://api.ipify.org", "https://checkip.amazonaws.com", "https://ipv4.icanhazip.com"];
/// The only ports that Telegram calls.
const TELEGRAMS_PORTS: [u16; 4] = [443, 80, 88, 8443];
/// `public_port`, `listen` and `allow_from`, where TLS ends here and where it does not.
const TLS_DEFAULTS: (u16, &str, &[&str]) = (8443, "0.0.0.0:8443", &TELEGRAMS_NETWORKS);
const PLAIN_DEFAULTS: (u16, &str, &[&str]) = (443, "127.0.0.1:8443", &["::/0"]);
/// Without TLS, everyone on the way can read the traffic.
pub(crate) const PLAIN_NEEDS_PRIVATE: &str =
    "must be 127.0.0.1 or a private address with tls = \"off\": the traffic there is not encrypted";
/// Where settings are looked for.
const PLACES: [&str; 2] = ["pihook.toml", "/etc/pihook/pihook.toml"];
/// Telegram builds its request head in 4096 bytes and falls silent when it does not fit.
const PATH_LIMIT: usize = 1024;

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
    /// What leads to the Bot API, if it is not called directly.
    pub(crate) proxy: Option<Proxy>,
    /// Whether the router is asked to forward `public_port`.
    pub(crate) port_mapping: bool,
    /// URLs that answer with the address that they are called from.
    pub(crate) address_services: Vec<String>,
    /// Between two looks at the webhook, the own address and the router.
    pub(crate) watch_interval: Duration,
    /// Who may connect.
    pub(crate) allow_from: Vec<Network>,
    /// Connections that Telegram may open for each bot, 1 to 100.
    pub(crate) max_connections: u16,
    /// What must outlive a reboot: what was registered last, and who each bot is.
    pub(crate) state_dir: PathBuf,
    /// What need not: the socket to the workers, and what was answered.
    pub(crate) runtime_dir: PathBuf,
    /// The folder of all that is ours, where there is no settings file beside which it could lie. It is made when it is
    /// missing.
    pub(crate) own_folder: Option<PathBuf>,
    /// At least one.
    pub bots: Vec<BotSettings>,
}

/// How updates come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// By webhook where Telegram can reach one, else by polling.
    Auto,
    /// By webhook, whatever becomes of it.
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
    /// From `BotFather`.
    pub(crate) token: Token,
    /// The file that the token came from.
    pub(crate) file: Option<PathBuf>,
    /// The URL path that Telegram calls for this bot, secret since it is `/TOKEN/` by default.
    pub(crate) path: Secret,
}

impl Config {
    /// Whether the Bot API is one of the user's own, which calls private addresses and names, too.
    pub(crate) fn has_own_api(&self) -> bool {
        !is_telegrams(&self.api_url)
    }

    /// The URL to register for `bot`, called at `host`.
    pub(crate) fn webhook_url(&self, bot: &BotSettings, host: &str) -> Secret {
        format!("https://{host}:{}{}", self.public_port, bot.path.expose()).into()
    }

    /// What the settings have others asked, and what they have opened, a sentence each.
    pub(crate) fn consequences(&self) -> [String; 2] {
        let is_fixed = matches!(&self.public_host, PublicHost::Given(host) if host.parse::<Ipv4Addr>().is_ok());
        let asked = if !self.tls {
            "The bot asks no outside service for your public address.".to_owned()
        } else if is_fixed || self.delivery == Delivery::Polling {
            "The bot asks no outside service for your public address. `pihook doctor` asks.".to_owned()
        } else {
            format!("The bot asks these services for your public address: {}.", self.address_services.join(", "))
        };
        let opened = match (self.delivery, self.port_mapping) {
            (Delivery::Polling, _) => "The bot uses polling and opens no port.".to_owned(),
            _ if !self.tls => {
                format!(
                    "The bot listens for plain HTTP at {}. A reverse proxy or a tunnel must handle TLS.",
                    self.listen
                )
            }
            (_, true) => format!("The bot asks the router to open port {} to the internet.", self.public_port),
            (_, false) => format!(
                "The bot does not change the router. Forward port {} yourself, or set port_mapping = \"auto\".",
                self.public_port
            ),
        };
        [asked, opened]
    }

    /// The networks of those who may connect and are no strangers: Telegram's, and all of `allow_from` but "everyone". None where
    /// TLS ends elsewhere: all connections come from the proxy then, whoever is behind it.
    pub(crate) fn known(&self) -> Vec<Network> {
        if !self.tls {
            return Vec::new();
        }
        let telegram = TELEGRAMS_NETWORKS.iter().filter_map(|network| network.parse().ok());
        self.allow_from.iter().copied().filter(|network| !network.is_everyone()).chain(telegram).collect()
    }
}

/// The environment, so that tests bring their own.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Everything that is wrong with a configuration, a sentence each.
#[derive(Debug)]
pub struct Problems(pub(crate) Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// Where the settings come from.
pub(crate) enum Source {
    /// This file.
    File(PathBuf),
    /// There is none: the token comes from the environment, and all else has its default.
    Defaults,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Defaults => write!(f, "no settings file; the token is in {TOKEN_VARIABLE}"),
        }
    }
}

/// Finds the configuration file: `given`, `$PIHOOK_CONFIG`, `./pihook.toml`, `/etc/pihook/pihook.toml`. With a token in the
/// environment, none is needed.
///
/// # Errors
/// When there is neither, or root finds a file that is not root's.
pub(crate) fn find(given: Option<PathBuf>, environment: Environment) -> Result<Source, Problems> {
    look(given, environment)?.ok_or_else(|| {
        Problems(vec![format!(
            "No settings found: neither {} exists. Write a settings file, give its path with --config, or put the bot's token into \
             {TOKEN_VARIABLE}.",
            PLACES.join(" nor ")
        )])
    })
}

/// Like [`find`]; None when there is neither.
///
/// # Errors
/// When root finds one that is not root's.
pub(crate) fn look(given: Option<PathBuf>, environment: Environment) -> Result<Option<Source>, Problems> {
    if let Some(path) = given.or_else(|| environment("PIHOOK_CONFIG").map(PathBuf::from)) {
        return Ok(Some(Source::File(path)));
    }
    let found = PLACES.iter().map(PathBuf::from).find(|path| path.symlink_metadata().is_ok());
    // The owner of the file decides where root sends the token.
    match found {
        Some(path) if unistd::geteuid().is_root() && !is_roots(&path) => Err(Problems(vec![format!(
            "pihook does not read {} in this folder as root, because other users can change the file or the folder. To use it \
             anyway, add --config ./{}.",
            path.display(),
            path.display()
        )])),
        Some(path) => Ok(Some(Source::File(path))),
        None => Ok(environment(TOKEN_VARIABLE).map(|_| Source::Defaults)),
    }
}

/// Whether only root can change the file at `path`.
fn is_roots(path: &Path) -> bool {
    if path.is_absolute() {
        return true;
    }
    [Path::new(".").metadata(), path.symlink_metadata()]
        .into_iter()
        .all(|there| there.is_ok_and(|there| files::is_private_to(0, &there)))
}

/// Reads and checks the configuration in the file at `path`.
///
/// # Errors
/// All that is wrong with it.
pub fn load(path: &Path, environment: Environment) -> Result<Config, Problems> {
    load_from(&Source::File(path.to_owned()), environment)
}

/// Reads and checks the configuration.
///
/// # Errors
/// All that is wrong with it.
pub(crate) fn load_from(source: &Source, environment: Environment) -> Result<Config, Problems> {
    match examine(source, environment) {
        (config, problems) if problems.is_empty() => Ok(config),
        (_, problems) => Err(Problems(problems)),
    }
}

/// Like [`load_from`], but always returns settings: those that are wrong have their default, or are empty.
pub(crate) fn examine(source: &Source, environment: Environment) -> (Config, Vec<String>) {
    let Source::File(path) = source else { return examine_defaults(environment) };
    match fs::read(path) {
        Ok(text) => examine_text(path, &decode(&text), environment),
        Err(why) => {
            let (config, _) = examine_text(path, "", environment);
            (config, vec![format!("{} {}.", path.display(), unreadable(&why))])
        }
    }
}

/// Without a file, all that is ours lies in a folder of the user's, by the first bot's id; under systemd, in the unit's.
fn examine_defaults(environment: Environment) -> (Config, Vec<String>) {
    let token = environment(TOKEN_VARIABLE).and_then(|text| Token::parse(&text.to_string_lossy()).ok());
    let id = token.map_or(0, |token| token.id());
    let absolute = |name: &str| environment(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let of_user = || absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    let folder = absolute("STATE_DIRECTORY").or_else(|| Some(of_user()?.join("pihook").join(id.to_string())));
    let (mut config, mut problems) = examine_text(&folder.clone().unwrap_or_default().join("-"), "", environment);
    if folder.is_none() {
        problems
            .push("The bot has no folder for its files. Set HOME or XDG_STATE_HOME, or write a settings file.".into());
    }
    config.own_folder = folder;
    (config, problems)
}

/// Like [`examine`], where the file at `path` holds `text`.
#[must_use]
pub fn examine_text(path: &Path, text: &str, environment: Environment) -> (Config, Vec<String>) {
    let mut table = Table::parse(path, text);
    // Where nothing could be read, nothing is missing.
    let unread = std::mem::take(&mut table.problems);
    let folder = path.parent().unwrap_or(Path::new(""));

    let api_url = table.parsed("api_url", TELEGRAM, api_url).unwrap_or_else(|| TELEGRAM.to_owned());
    let own_api = is_own_api(&api_url);
    let tls = table.parsed("tls", "on", tls).unwrap_or(true);
    let (port, address, networks) = if tls { TLS_DEFAULTS } else { PLAIN_DEFAULTS };
    let config = Config {
        delivery: table.parsed("delivery", "auto", delivery).unwrap_or(Delivery::Auto),
        public_host: table
            .parsed("public_host", "auto", |host| public_host(host, own_api))
            .unwrap_or_else(|| PublicHost::Given(String::new())),
        public_port: public_port(&mut table, port, own_api),
        tls,
        listen: table
            .parsed("listen", address, |text| listen(text, tls))
            .unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 8443))),
        certificate_files: CertificateFiles {
            certificate: folder.join(table.string("certificate", "certs/webhook_cert.pem")),
            private_key: folder.join(table.string("private_key", "certs/webhook_pkey.pem")),
        },
        port_mapping: table.parsed("port_mapping", "off", port_mapping).unwrap_or_default(),
        address_services: table.list("address_services", &ADDRESS_SERVICES, |url| address_service(url, own_api)),
        watch_interval: Duration::from_secs(table.number("watch_interval", 300, 1..=3600).into()),
        allow_from: table
            .list("allow_from", networks, |text| text.parse().map_err(|why| format!("has {text:?}, which {why}"))),
        max_connections: table.number("max_connections", 40, 1..=100),
        state_dir: directory(&mut table, ("state_dir", "state", "STATE_DIRECTORY"), folder, environment),
        runtime_dir: directory(&mut table, ("runtime_dir", "run", "RUNTIME_DIRECTORY"), folder, environment),
        proxy: proxy(&mut table, &api_url, environment),
        bots: bots(&mut table, folder, environment),
        own_folder: None,
        api_url,
    };
    let follows = config.public_host == PublicHost::Auto && config.delivery != Delivery::Polling;
    if !tls && config.delivery != Delivery::Polling {
        check_behind_proxy(&mut table, &config);
    } else if follows && config.address_services.iter().collect::<HashSet<_>>().len() < 2 {
        table.problem(
            "address_services",
            "must have at least two different URLs: the bot trusts an address only if two services agree",
        );
    }
    table.finish();
    (config, if unread.is_empty() { table.problems } else { unread })
}

/// Whether this is a Bot API server of one's own.
pub(crate) fn is_own_api(api_url: &str) -> bool {
    !is_telegrams(api_url)
}

fn is_telegrams(api_url: &str) -> bool {
    let host = api_url.split("://").nth(1).and_then(|rest| rest.split(['/', ':']).next());
    host.is_some_and(|host| host.eq_ignore_ascii_case("api.telegram.org"))
}

fn api_url(url: &str) -> Result<String, String> {
    let url = url.trim_end_matches('/');
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let plain = rest.bytes().all(|b| b.is_ascii_graphic() && !b"@?#".contains(&b));
    if !matches!(scheme, "http" | "https") || rest.is_empty() || rest.starts_with(['/', ':']) || !plain {
        return Err("must be like https://api.telegram.org or http://127.0.0.1:8081".into());
    }
    if scheme == "http" && is_telegrams(url) {
        return Err("must begin with https://: http:// is only for your own Bot API server".into());
    }
    Ok(url.to_owned())
}

/// The proxy of the settings, or else of the environment, if the Bot API is not to be called without.
fn proxy(table: &mut Table, api_url: &str, environment: Environment) -> Option<Proxy> {
    let read = |text: &str| if text.is_empty() { Ok(None) } else { Proxy::parse(text).map(Some) };
    let (is_set, set) = (table.has("proxy"), table.parsed("proxy", "", read).flatten());
    let variable = |name: &&str| environment(name).filter(|text| !text.is_empty());
    let no_proxy = ["no_proxy", "NO_PROXY"].iter().find_map(variable).unwrap_or_default();
    if is_set || proxy::goes_direct(api_url, &no_proxy.to_string_lossy()) {
        return set.filter(|_| !proxy::goes_direct(api_url, &no_proxy.to_string_lossy()));
    }
    let of_https: &[&str] = if api_url.starts_with("https:") { &["https_proxy", "HTTPS_PROXY"] } else { &[] };
    let (name, text) =
        of_https.iter().chain(&["all_proxy", "ALL_PROXY"]).find_map(|name| Some((*name, variable(name)?)))?;
    Proxy::parse(&text.to_string_lossy()).map_err(|what| table.problem(name, &what)).ok()
}

fn address_service(url: &str, own_api: bool) -> Result<String, String> {
    let plain = url.bytes().all(|b| b.is_ascii_graphic() && !b"@#".contains(&b));
    match url.split_once("://") {
        Some(("https", rest)) if plain && !rest.is_empty() => Ok(url.to_owned()),
        // For a network that has no internet.
        Some(("http", rest)) if plain && !rest.is_empty() && own_api => Ok(url.to_owned()),
        _ => Err("must hold URLs like https://api.ipify.org".into()),
    }
}

fn delivery(text: &str) -> Result<Delivery, String> {
    match text {
        "auto" => Ok(Delivery::Auto),
        "webhook" => Ok(Delivery::Webhook),
        "polling" => Ok(Delivery::Polling),
        _ => Err("must be \"auto\", \"webhook\" or \"polling\"".into()),
    }
}

/// Whether the router is asked: `auto` or `off`.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn port_mapping(text: &str) -> Result<bool, String> {
    match text {
        "auto" => Ok(true),
        "off" => Ok(false),
        _ => Err("must be \"auto\" or \"off\"".into()),
    }
}

/// The advice for a user that cannot read a file of the bot.
pub(crate) const WITH_SUDO: &str = "run it with sudo, or as the user that the bot runs as";

/// Why a file cannot be read, and what to do.
fn unreadable(why: &io::Error) -> String {
    match why.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("cannot be read ({why}): {WITH_SUDO}")
        }
        _ => format!("cannot be read: {why}"),
    }
}

fn tls(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("must be \"on\" or \"off\"".into()),
    }
}

/// Where TLS ends elsewhere, the certificate is that of a name, and the bot does not touch the router.
fn check_behind_proxy(table: &mut Table, config: &Config) {
    let host = match &config.public_host {
        PublicHost::Given(host) => host.as_str(),
        PublicHost::Auto => "auto",
    };
    // An empty one is reported already.
    if host == "auto" || host.parse::<Ipv4Addr>().is_ok() {
        let what = "must be a DNS name with tls = \"off\": the name in the certificate of the proxy or the tunnel";
        table.problem("public_host", what);
    }
    if config.port_mapping {
        table.problem(
            "port_mapping",
            "must be \"off\" with tls = \"off\": otherwise the router opens a port without TLS to the internet",
        );
    }
}

fn public_port(table: &mut Table, default: u16, own_api: bool) -> u16 {
    let port = table.number("public_port", default, 1..=65535);
    if !own_api && !TELEGRAMS_PORTS.contains(&port) {
        table.problem("public_port", "must be 443, 80, 88 or 8443: Telegram calls no other port");
    }
    port
}

fn listen(text: &str, tls: bool) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "must be an address and a port, like 0.0.0.0:8443")?;
    if tls || network::is_private(address.ip()) { Ok(address) } else { Err(PLAIN_NEEDS_PRIVATE.into()) }
}

/// A folder of ours; systemd says where it is to be by an environment variable.
fn directory(
    table: &mut Table,
    (key, default, variable): (&str, &str, &str),
    folder: &Path,
    environment: Environment,
) -> PathBuf {
    match environment(variable) {
        Some(path) if !table.has(key) => path.into(),
        _ => folder.join(table.string(key, default)),
    }
}

fn bots(table: &mut Table, folder: &Path, environment: Environment) -> Vec<BotSettings> {
    let mut bots: Vec<BotSettings> = Vec::new();
    table.tables("bot", |table| {
        let (token, file) = token(table, folder, environment);
        // Taken in any case: otherwise it would count as unknown.
        let pattern = table.string("path", "/{token}/");
        let Some(token) = token else { return };
        let Some(path) = webhook_path(&pattern, &token) else {
            return table.problem(
                "path",
                &format!("must begin with / and have at most {PATH_LIMIT} of these characters: letters, digits and -._~!$&'()*+,;=:@%/"),
            );
        };
        if bots.iter().any(|bot| bot.token.id() == token.id()) {
            table.problem("[[bot]]", &format!("has the token of bot {} again: give each bot its own token", token.id()));
        } else if bots.iter().any(|bot| bot.path == path) {
            table.problem("path", "is the same for two bots: give each bot its own path");
        }
        bots.push(BotSettings { token, file, path });
    });
    bots
}

fn webhook_path(pattern: &str, token: &Token) -> Option<Secret> {
    let path = pattern.replace("{token}", token.expose());
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/".contains(&b);
    (path.starts_with('/') && path.len() <= PATH_LIMIT && path.bytes().all(allowed)).then(|| path.into())
}

/// The token of one `[[bot]]`: `token`, `token_file`, `$TELEGRAM_BOT_TOKEN`, systemd's credential `token`, or the file `token`
/// beside the settings.
fn token(table: &mut Table, folder: &Path, environment: Environment) -> (Option<Token>, Option<PathBuf>) {
    let (given, file) = (table.string("token", ""), table.string("token_file", ""));
    // systemd's credential, if this is its unit; else the file that it is made from.
    let credential = environment("CREDENTIALS_DIRECTORY").map_or(folder.to_owned(), PathBuf::from).join("token");
    let mut path = None;
    let read = |path: &mut Option<PathBuf>, from: PathBuf| fs::read(&*path.insert(from)).map(|text| decode(&text));
    let (text, source) = match (given.is_empty(), file.is_empty()) {
        (false, false) => {
            table.problem("token", "and token_file are both set: remove one of them");
            return (None, None);
        }
        (false, true) => {
            path = Some(table.path());
            (Ok(given), "token".to_owned())
        }
        (true, false) => (read(&mut path, folder.join(&file)), format!("token_file {file}")),
        (true, true) => match (environment(TOKEN_VARIABLE), Some(credential).filter(|path| path.exists())) {
            (Some(text), _) => (Ok(text.to_string_lossy().into_owned()), TOKEN_VARIABLE.to_owned()),
            (None, Some(from)) => (read(&mut path, from.clone()), from.display().to_string()),
            (None, None) => {
                table.problem(
                    "token_file",
                    "is missing: put the token from @BotFather into a file named token in the same folder",
                );
                return (None, None);
            }
        },
    };
    match text.map(|text| Token::parse(&text)) {
        Ok(Ok(token)) => return (Some(token), path),
        Ok(Err(what)) => table.problem(&source, &what),
        Err(why) => table.problem(&source, &unreadable(&why)),
    }
    (None, None)
}

impl fmt::Display for Config {
    /// The effective settings, in the file's own form, with the tokens masked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks: Vec<_> = self.allow_from.iter().map(|network| format!("\"{network}\"")).collect();
        writeln!(f, "delivery         = \"{}\"", self.delivery)?;
        writeln!(f, "public_host      = \"{}\"", self.public_host)?;
        writeln!(f, "public_port      = {}", self.public_port)?;
        writeln!(f, "port_mapping     = \"{}\"", if self.port_mapping { "auto" } else { "off" })?;
        writeln!(f, "tls              = \"{}\"", if self.tls { "on" } else { "off" })?;
        writeln!(f, "listen           = \"{}\"", self.listen)?;
        writeln!(f, "certificate      = {:?}", self.certificate_files.certificate)?;
        writeln!(f, "private_key      = {:?}", self.certificate_files.private_key)?;
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
            let path = mask_keys(&bot.path.expose().replace(bot.token.expose(), "{token}"), &keys);
            write!(f, "\n[[bot]]\ntoken = \"{}:***\"\npath  = {path:?}\n", bot.token.id())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
