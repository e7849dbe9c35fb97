//! Reads and checks the settings.

use std::collections::HashSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::api_url::{TELEGRAM, api_url, is_own_api};
use super::bots::bots;
use super::file::Table;
use super::host::{PublicHost, public_host};
use super::problems::{Problems, unreadable};
use super::settings::{Config, Delivery, TELEGRAMS_NETWORKS};
use super::source::{Environment, Source, TOKEN_VARIABLE};
use super::values::{address_service, delivery, listen, port_mapping, public_port, tls};
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
/// `public_port`, `listen` and `allow_from`, where TLS ends here and where it does not.
const TLS_DEFAULTS: (u16, &str, &[&str]) = (8443, "0.0.0.0:8443", &TELEGRAMS_NETWORKS);
const PLAIN_DEFAULTS: (u16, &str, &[&str]) = (443, "127.0.0.1:8443", &["::/0"]);

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
pub(crate) fn examine(source: &Source, environment: Environment) -> (Config, Vec<String>) {
    let Source::File(path) = source else {
        return examine_defaults(environment);
    };
    match fs::read(path) {
        Ok(text) => examine_text(path, &decode(&text), environment),
        Err(why) => {
            let (config, _) = examine_text(path, "", environment);
            (
                config,
                vec![format!("{} {}.", path.display(), unreadable(&why))],
            )
        }
    }
}

/// Without a file, all that is ours lies in a folder of the user's, by the first bot's id; under
/// systemd, in the unit's.
fn examine_defaults(environment: Environment) -> (Config, Vec<String>) {
    let token =
        environment(TOKEN_VARIABLE).and_then(|text| Token::parse(&text.to_string_lossy()).ok());
    let id = token.map_or(0, |token| token.id());
    let absolute = |name: &str| {
        environment(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let of_user =
        || absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    let folder = absolute("STATE_DIRECTORY")
        .or_else(|| Some(of_user()?.join("pihook").join(id.to_string())));
    let (mut config, mut problems) = examine_text(
        &folder.clone().unwrap_or_default().join("-"),
        "",
        environment,
    );
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

    let api_url = table
        .parsed("api_url", TELEGRAM, api_url)
        .unwrap_or_else(|| TELEGRAM.to_owned());
    let own_api = is_own_api(&api_url);
    let tls = table.parsed("tls", "on", tls).unwrap_or(true);
    let (port, address, networks) = if tls { TLS_DEFAULTS } else { PLAIN_DEFAULTS };
    let config = Config {
        delivery: table
            .parsed("delivery", "auto", delivery)
            .unwrap_or(Delivery::Auto),
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
        port_mapping: table
            .parsed("port_mapping", "off", port_mapping)
            .unwrap_or_default(),
        address_services: table.list("address_services", &ADDRESS_SERVICES, |url| {
            address_service(url, own_api)
        }),
        watch_interval: Duration::from_secs(table.number("watch_interval", 300, 1..=3600).into()),
        allow_from: table.list("allow_from", networks, |text| {
            text.parse()
                .map_err(|why| format!("has {text:?}, which {why}"))
        }),
        max_connections: table.number("max_connections", 40, 1..=100),
        state_dir: directory(
            &mut table,
            ("state_dir", "state", "STATE_DIRECTORY"),
            folder,
            environment,
        ),
        runtime_dir: directory(
            &mut table,
            ("runtime_dir", "run", "RUNTIME_DIRECTORY"),
            folder,
            environment,
        ),
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
    (
        config,
        if unread.is_empty() {
            table.problems
        } else {
            unread
        },
    )
}

/// The proxy of the settings, or else of the environment, if the Bot API is not to be called
/// without.
fn proxy(table: &mut Table, api_url: &str, environment: Environment) -> Option<Proxy> {
    let read = |text: &str| {
        if text.is_empty() {
            Ok(None)
        } else {
            Proxy::parse(text).map(Some)
        }
    };
    let (is_set, set) = (
        table.has("proxy"),
        table.parsed("proxy", "", read).flatten(),
    );
    let variable = |name: &&str| environment(name).filter(|text| !text.is_empty());
    let no_proxy = ["no_proxy", "NO_PROXY"]
        .iter()
        .find_map(variable)
        .unwrap_or_default();
    if proxy::goes_direct(api_url, &no_proxy.to_string_lossy()) {
        return None;
    }
    if is_set {
        return set;
    }
    let of_https: &[&str] = if api_url.starts_with("https:") {
        &["https_proxy", "HTTPS_PROXY"]
    } else {
        &[]
    };
    let (name, text) = of_https
        .iter()
        .chain(&["all_proxy", "ALL_PROXY"])
        .find_map(|name| Some((*name, variable(name)?)))?;
    Proxy::parse(&text.to_string_lossy())
        .map_err(|what| table.problem(name, &what))
        .ok()
}

/// Where TLS ends elsewhere, the certificate is that of a name, and the bot does not touch the
/// router.
fn check_behind_proxy(table: &mut Table, config: &Config) {
    let host = match &config.public_host {
        PublicHost::Given(host) => host.as_str(),
        PublicHost::Auto => "auto",
    };
    // An empty one is reported already.
    if host == "auto" || host.parse::<Ipv4Addr>().is_ok() {
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
