//! The proxy to the Bot API, for networks where only a proxy leads to the internet. Nothing else goes
//! through it.

use std::fmt;
use std::net::IpAddr;

use ureq::http::Uri;

use crate::network::Network;
use crate::secret::Secret;

/// A proxy that speaks HTTP CONNECT or SOCKS5. It looks the Bot API's name up itself: a network
/// behind a proxy need not have a DNS. The user and the password never show.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    /// Without user and password: `http://proxy.example:3128`.
    shown: String,
    /// The same with them, as ureq wants it.
    url: Secret,
}

impl Proxy {
    /// Reads the URL of a proxy: `http://`, `https://`, `socks5://` or `socks5h://`, with a user and
    /// a password before an `@`, percent-encoded. A host and a port alone mean `http://`, as in
    /// `curl`.
    ///
    /// # Errors
    /// What is wrong, in words that continue the name of the setting. They hold nothing of the text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str =
            "must be like http://192.168.1.2:3128 or socks5://user:password@proxy.example:1080";
        let text = text.trim().trim_end_matches('/');
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        // With socks5, ureq would look the Bot API's name up itself; with socks5h, the proxy does.
        let (scheme, shown_scheme, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => ("http", "http", 80),
            "https" => ("https", "https", 443),
            "socks5" | "socks5h" | "socks" => ("socks5h", "socks5", 1080),
            _ => return Err(FORM.into()),
        };

        let (user, host) = match rest.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, rest),
        };
        let host = with_port(scheme, host, default_port).ok_or(FORM)?;
        let shown = format!("{shown_scheme}://{host}");
        let url = match user {
            Some(user) => format!("{scheme}://{user}@{host}"),
            None => format!("{scheme}://{host}"),
        };

        // The host is right: only the user or the password can be what ureq refuses.
        if ureq::Proxy::new(&url).is_err() {
            return Err("has a user or a password with a character that is not allowed in a URL: write each special \
                        character as % and two hexadecimal digits (@ is %40)"
                .into());
        }
        Ok(Self {
            shown,
            url: url.into(),
        })
    }

    /// The proxy's host, an address or a name.
    pub(crate) fn host(&self) -> String {
        host_of(&self.shown)
    }

    /// Whether the connection to the proxy itself has TLS.
    pub(super) fn has_tls(&self) -> bool {
        self.shown.starts_with("https:")
    }

    /// The proxy as ureq takes it.
    pub(super) fn for_ureq(&self) -> Option<ureq::Proxy> {
        ureq::Proxy::new(self.url.expose()).ok()
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// The host with its port, or with the default one; None when it is not a host and a port.
fn with_port(scheme: &str, host: &str, default_port: u16) -> Option<String> {
    let is_plain = host
        .bytes()
        .all(|b| b.is_ascii_graphic() && !b"/?#".contains(&b));
    let uri: Uri = format!("{scheme}://{host}").parse().ok()?;
    if !is_plain || uri.host()?.is_empty() || host.ends_with(':') {
        return None;
    }
    if uri.port().is_some() {
        return Some(host.to_owned());
    }
    Some(format!("{host}:{default_port}"))
}

/// The host of a URL; an IPv6 address without its brackets. Empty where there is none.
pub(crate) fn host_of(url: &str) -> String {
    let uri = url.parse::<Uri>().unwrap_or_default();
    uri.host()
        .unwrap_or_default()
        .trim_matches(['[', ']'])
        .to_owned()
}

/// Whether `url` is called without a proxy: it is on this machine, or `no_proxy`, which is
/// `NO_PROXY`, names its host. An entry is a name, which counts for all names below it too; an
/// address; a network like 10.0.0.0/8; or `*` for all.
pub(crate) fn goes_direct(url: &str, no_proxy: &str) -> bool {
    let host = host_of(url).trim_end_matches('.').to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    let is_loopback = match address {
        Some(address) => address.to_canonical().is_loopback(),
        None => host == "localhost" || host.ends_with(".localhost"),
    };
    if is_loopback {
        return true;
    }

    for entry in no_proxy.split([',', ' ']) {
        let entry = entry.trim().to_ascii_lowercase();
        if !entry.is_empty() && is_named(&host, address, &entry) {
            return true;
        }
    }
    false
}

/// Whether an entry of `NO_PROXY`, in lower case, names the host, which can be an address.
fn is_named(host: &str, address: Option<IpAddr>, entry: &str) -> bool {
    if entry == "*" {
        return true;
    }
    // People write a domain as example.org, .example.org or *.example.org.
    let name = entry
        .trim_start_matches('*')
        .trim_start_matches('.')
        .trim_matches(['[', ']']);

    if let Some(address) = address
        && let Ok(network) = name.parse::<Network>()
    {
        return network.contains(address);
    }
    match host.strip_suffix(name) {
        Some(below) => below.is_empty() || below.ends_with('.'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What people write, what pihook shows, and what ureq gets.
    const PROXIES: [(&str, &str, &str); 8] = [
        (
            "http://192.168.1.2:3128",
            "http://192.168.1.2:3128",
            "http://192.168.1.2:3128",
        ),
        (
            "proxy.lan:3128",
            "http://proxy.lan:3128",
            "http://proxy.lan:3128",
        ),
        (
            "HTTP://proxy.lan/",
            "http://proxy.lan:80",
            "http://proxy.lan:80",
        ),
        (
            "http://me:s3cret@proxy.lan:8080",
            "http://proxy.lan:8080",
            "http://me:s3cret@proxy.lan:8080",
        ),
        (
            "http://me:s3%40cret@proxy.lan:8080/",
            "http://proxy.lan:8080",
            "http://me:s3%40cret@proxy.lan:8080",
        ),
        (
            "https://proxy.lan",
            "https://proxy.lan:443",
            "https://proxy.lan:443",
        ),
        (
            "socks5://proxy.lan",
            "socks5://proxy.lan:1080",
            "socks5h://proxy.lan:1080",
        ),
        (
            "socks5h://a:b@[fd00::1]:9050",
            "socks5://[fd00::1]:9050",
            "socks5h://a:b@[fd00::1]:9050",
        ),
    ];

    #[test]
    fn a_proxy_is_parsed_as_people_write_it_and_shows_no_password() {
        for (text, shown, url) in PROXIES {
            let proxy = Proxy::parse(text).unwrap();
            assert_eq!(
                (proxy.to_string().as_str(), proxy.url.expose()),
                (shown, url),
                "{text}"
            );
            assert_eq!(format!("{proxy:?}"), shown);
            let ureq = proxy.for_ureq().unwrap();
            assert!(!ureq.resolve_target(), "the proxy has the DNS");
        }
        assert_eq!(
            Proxy::parse("http://[fd00::1]:1").unwrap().host(),
            "fd00::1"
        );
        assert_eq!(
            Proxy::parse("http://me:s3cret@proxy.lan:1").unwrap().host(),
            "proxy.lan"
        );
    }

    #[test]
    fn an_error_of_a_proxys_url_quotes_nothing() {
        for text in [
            "",
            "http://",
            "ftp://s3cret",
            "http2://s3cret:1",
            "socks4://s3cret",
            "http://a:s3cret@",
            "a b:s3cret",
            "http://a:s3cret@h:1/path",
            "http://h:",
            "http://h:99999",
            "http://a:%ffs3cret@h:1",
        ] {
            let error = Proxy::parse(text).unwrap_err();
            assert!(!error.contains("s3cret"), "{text}: {error}");
        }
    }

    #[test]
    fn no_proxy_and_this_machine_go_direct() {
        for (url, no_proxy) in [
            ("http://127.0.0.1:8081", ""),
            ("http://[::1]:8081", ""),
            ("http://localhost:8081", ""),
            ("http://api.localhost", ""),
            ("https://api.telegram.org", "*"),
            ("https://api.telegram.org", "localhost, API.telegram.org"),
            ("https://api.telegram.org", "telegram.org"),
            ("https://api.telegram.org", ".telegram.org"),
            ("https://api.telegram.org", "a.b,*.telegram.org"),
            ("http://192.168.1.7:8081", "192.168.0.0/16"),
            ("http://192.168.1.7:8081", "192.168.1.7"),
            ("http://[fd00::7]:8081", "[fd00::7]"),
        ] {
            assert!(goes_direct(url, no_proxy), "{url} {no_proxy}");
        }
        for (url, no_proxy) in [
            ("https://api.telegram.org", ""),
            ("https://api.telegram.org", "localhost,127.0.0.1"),
            ("https://api.telegram.org", "gram.org"),
            ("https://api.telegram.org", "x.api.telegram.org,,"),
            ("http://192.168.1.7:8081", "10.0.0.0/8,192.168.1"),
            ("http://128.0.0.1", ""),
        ] {
            assert!(!goes_direct(url, no_proxy), "{url} {no_proxy}");
        }
    }
}
