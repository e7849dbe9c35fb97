//! Reads and checks the settings.

use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::api_url::{TELEGRAM, api_url, is_own_api};
use super::bots::bots;
use super::file::Table;
use super::host::{PublicHost, public_host};
use super::problems::{Problem, Problems, unreadable};
use super::settings::{Config, Delivery, TELEGRAMS_NETWORKS};
use super::source::{Environment, Source, TOKEN_VARIABLE};
use super::values::{address_service, delivery, listen, network, port_mapping, public_port, tls};
use crate::certificate::CertificateFiles;
use crate::system::text::decode;
use crate::telegram::proxy::{self, Proxy};
use crate::telegram::token::Token;

/// They answer with the caller's address as plain text, and are run by three different companies.
const ADDRESS_SERVICES: [&str; 3] = [
    "https://api.ipify.org",
    "https://checkip.amazonaws.com",
    "https://ipv4.icanhazip.com",
];

/// The defaults that depend on `tls`.
struct Defaults {
    public_port: u16,
    listen: &'static str,
    allow_from: &'static [&'static str],
}

/// Where TLS ends here.
const TLS_DEFAULTS: Defaults = Defaults {
    public_port: 8443,
    listen: "0.0.0.0:8443",
    allow_from: &TELEGRAMS_NETWORKS,
};
/// Where a reverse proxy or a tunnel on this machine ends TLS.
const PLAIN_DEFAULTS: Defaults = Defaults {
    public_port: 443,
    listen: "127.0.0.1:8443",
    allow_from: &["::/0"],
};

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

/// Like [`load_from`], but always returns settings: those that are wrong have their default, or are
/// empty.
pub(crate) fn examine(source: &Source, environment: Environment) -> (Config, Vec<Problem>) {
    let Source::File(path) = source else {
        return examine_defaults(environment);
    };
    match fs::read(path) {
        Ok(text) => examine_text(path, &decode(&text), environment),
        Err(error) => {
            let (config, _) = examine_text(path, "", environment);
            let mut problem = unreadable(&error);
            problem.words = format!("{} {problem}.", path.display());
            (config, vec![problem])
        }
    }
}

/// The settings without a file: all that is ours lies in one folder.
fn examine_defaults(environment: Environment) -> (Config, Vec<Problem>) {
    let folder = own_folder(environment);
    // No file has this name; only its folder counts.
    let path = folder.clone().unwrap_or_default().join("-");
    let (mut config, mut problems) = examine_text(&path, "", environment);

    if folder.is_none() {
        let words = "The bot has no folder for its files. Set HOME or XDG_STATE_HOME, or write a settings file.";
        problems.push(words.to_owned().into());
    }
    config.own_folder = folder;
    (config, problems)
}

/// The folder of a bot without a settings file: the unit's under systemd, else one of the user's by
/// the first bot's id.
fn own_folder(environment: Environment) -> Option<PathBuf> {
    if let Some(folder) = absolute("STATE_DIRECTORY", environment) {
        return Some(folder);
    }
    let states = match absolute("XDG_STATE_HOME", environment) {
        Some(states) => states,
        None => absolute("HOME", environment)?.join(".local/state"),
    };

    let token = match environment(TOKEN_VARIABLE) {
        Some(text) => Token::parse(&text.to_string_lossy()).ok(),
        None => None,
    };
    let id = token.map_or(0, |token| token.id());
    Some(states.join("pihook").join(id.to_string()))
}

/// The path in a variable; the XDG specification wants relative ones ignored.
fn absolute(variable: &str, environment: Environment) -> Option<PathBuf> {
    let path = PathBuf::from(environment(variable)?);
    if path.is_absolute() { Some(path) } else { None }
}

/// Like [`examine`], where the file at `path` holds `text`.
#[must_use]
pub fn examine_text(path: &Path, text: &str, environment: Environment) -> (Config, Vec<Problem>) {
    let mut table = Table::parse(path, text);
    // Where nothing could be read, nothing is missing.
    let unread = std::mem::take(&mut table.problems);

    let folder = path.parent().unwrap_or(Path::new(""));
    let config = read(&mut table, folder, environment);
    if config.delivery != Delivery::Polling {
        check_webhook(&mut table, &config);
    }
    table.finish();

    if unread.is_empty() {
        (config, table.problems)
    } else {
        (config, unread)
    }
}

/// Reads all settings out of `table`. Relative paths begin at `folder`.
fn read(table: &mut Table, folder: &Path, environment: Environment) -> Config {
    let api_url = table.parsed("api_url", TELEGRAM, api_url);
    let api_url = api_url.unwrap_or(TELEGRAM.to_owned());
    let own_api = is_own_api(&api_url);
    let tls = table.parsed("tls", "on", tls).unwrap_or(true);
    let defaults = if tls { TLS_DEFAULTS } else { PLAIN_DEFAULTS };

    // Problems are told in the order in which the fields stand here.
    Config {
        delivery: table
            .parsed("delivery", "auto", delivery)
            .unwrap_or(Delivery::Auto),
        public_host: table
            .parsed("public_host", "auto", |host| public_host(host, own_api))
            .unwrap_or(PublicHost::Given(String::new())),
        public_port: public_port(table, defaults.public_port, own_api),
        tls,
        listen: table
            .parsed("listen", defaults.listen, |text| listen(text, tls))
            .unwrap_or(SocketAddr::from(([0, 0, 0, 0], 8443))),
        certificate_files: CertificateFiles {
            certificate: folder.join(table.string("certificate", "certs/webhook_cert.pem")),
            private_key: folder.join(table.string("private_key", "certs/webhook_pkey.pem")),
        },
        port_mapping: table
            .parsed("port_mapping", "off", port_mapping)
            .unwrap_or_default(),
        address_services: table.list("address_services", &ADDRESS_SERVICES, |url| {
            address_service(url, own_api)
        }),
        watch_interval: Duration::from_secs(table.number("watch_interval", 300, 1..=3600).into()),
        allow_from: table.list("allow_from", defaults.allow_from, network),
        max_connections: table.number("max_connections", 40, 1..=100),
        state_dir: match environment("STATE_DIRECTORY") {
            Some(state_dir) if !table.has("state_dir") => state_dir.into(),
            _ => folder.join(table.string("state_dir", "state")),
        },
        runtime_dir: match environment("RUNTIME_DIRECTORY") {
            Some(runtime_dir) if !table.has("runtime_dir") => runtime_dir.into(),
            _ => folder.join(table.string("runtime_dir", "run")),
        },
        proxy: proxy(table, &api_url, environment),
        bots: bots(table, folder, environment),
        own_folder: None,
        api_url,
    }
}

/// The proxy of the settings, or else of the environment; None where the Bot API is called without.
fn proxy(table: &mut Table, api_url: &str, environment: Environment) -> Option<Proxy> {
    let is_set = table.has("proxy");
    let set = table.parsed("proxy", "", |text| match text {
        "" => Ok(None),
        _ => Proxy::parse(text).map(Some),
    });

    let variable = |name: &str| environment(name).filter(|text| !text.is_empty());
    let no_proxy = variable("no_proxy").or(variable("NO_PROXY"));
    if proxy::goes_direct(api_url, &no_proxy.unwrap_or_default().to_string_lossy()) {
        return None;
    }
    if is_set {
        return set.flatten();
    }

    let names: &[&str] = if api_url.starts_with("https:") {
        &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
    } else {
        &["all_proxy", "ALL_PROXY"]
    };
    for name in names {
        let Some(text) = variable(name) else {
            continue;
        };
        return match Proxy::parse(&text.to_string_lossy()) {
            Ok(proxy) => Some(proxy),
            Err(what) => {
                table.problem(name, &what);
                None
            }
        };
    }
    None
}

/// Checks the settings that a webhook needs, one beside the other.
fn check_webhook(table: &mut Table, config: &Config) {
    if !config.tls {
        return check_behind_proxy(table, config);
    }
    let services: HashSet<_> = config.address_services.iter().collect();
    if config.public_host == PublicHost::Auto && services.len() < 2 {
        table.problem(
            "address_services",
            "must have at least two different URLs: the bot trusts an address only if two services agree",
        );
    }
}

/// Where TLS ends elsewhere, the certificate is that of a name, and the bot does not touch the
/// router.
fn check_behind_proxy(table: &mut Table, config: &Config) {
    // A wrong name is reported already.
    if config.public_host == PublicHost::Auto || config.public_host.address().is_some() {
        let what = "must be a DNS name when tls = \"off\": the name in the certificate of the proxy or the tunnel";
        table.problem("public_host", what);
    }
    if config.port_mapping {
        table.problem(
            "port_mapping",
            "must be \"off\" when tls = \"off\": otherwise the router opens a port without TLS to the internet",
        );
    }
}
