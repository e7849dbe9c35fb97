//! The proxy that leads to the Bot API, where only a proxy leads out. Nothing else goes through it.

use std::fmt;
use std::net::IpAddr;

use ureq::http::Uri;

use crate::network::Network;
use crate::secret::Secret;

/// A proxy that is asked by HTTP CONNECT or by SOCKS5. It looks the Bot API's name up itself: a
/// home where only a proxy leads out need not have a DNS. Its user and password never show.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    /// Without user and password: `http://proxy.example:3128`.
    shown: String,
    /// The same with them, as ureq wants it.
    url: Secret,
}

impl Proxy {
    /// Reads `http://`, `https://`, `socks5://` or `socks5h://`, and what `curl` takes for the
    /// first: a host and a port alone. There may be a user and a password before an `@`,
    /// percent-encoded.
    ///
    /// # Errors
    /// What is wrong with it, without a word of it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str =
            "must be like http://192.168.1.2:3128 or socks5://user:password@proxy.example:1080";
        let text = text.trim().trim_end_matches('/');
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        // Both are resolved by the proxy, since its end of the line is the one that has a DNS.
        let (scheme, port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => ("http", 80),
            "https" => ("https", 443),
            "socks5" | "socks5h" | "socks" => ("socks5h", 1080),
            _ => return Err(FORM.into()),
        };
        let (user, host) = rest
            .rsplit_once('@')
            .map_or((None, rest), |(user, host)| (Some(user), host));
        let is_plain = host
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b"/?#".contains(&b));
        let uri = format!("{scheme}://{host}")
            .parse::<Uri>()
            .map_err(|_| FORM)?;
        let is_whole = uri.host().is_some_and(|host| !host.is_empty()) && !host.ends_with(':');
        if !is_plain || !is_whole {
            return Err(FORM.into());
        }
        let host = if uri.port().is_some() {
            host.to_owned()
        } else {
            format!("{host}:{port}")
        };
        let shown = format!(
            "{}://{host}",
            if scheme == "socks5h" {
                "socks5"
            } else {
                scheme
            }
        );
        let url = user.map_or_else(
            || format!("{scheme}://{host}"),
            |user| format!("{scheme}://{user}@{host}"),
        );
        match ureq::Proxy::new(&url) {
            Ok(_) => Ok(Self { shown, url: url.into() }),
            Err(_) => {
                Err("has a user or a password with a character that is not allowed in a URL: write each special \
                     character as % and two hexadecimal digits (@ is %40)"
                    .into())
            }
        }
    }

    /// Its host, an address or a name.
    pub(crate) fn host(&self) -> String {
        host_of(&self.shown)
    }

    /// Whether the way to the proxy itself has TLS.
    pub(super) fn has_tls(&self) -> bool {
        self.shown.starts_with("https:")
    }

    /// As ureq takes it.
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
    if host == "localhost"
        || host.ends_with(".localhost")
        || address.is_some_and(|it| it.to_canonical().is_loopback())
    {
        return true;
    }
    no_proxy
        .split([',', ' '])
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .any(|entry| {
            let entry = entry.to_ascii_lowercase();
            let name = entry
                .trim_start_matches('*')
                .trim_start_matches('.')
                .trim_matches(['[', ']']);
            match (address, name.parse::<Network>()) {
                _ if entry == "*" => true,
                (Some(address), Ok(network)) => network.contains(address),
                _ => {
                    host == name
                        || host
                            .strip_suffix(name)
                            .is_some_and(|below| below.ends_with('.'))
                }
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_read_as_people_write_it_and_shows_no_password() {
        for (text, shown, url) in [
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
        ] {
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
    fn what_is_no_proxy_is_told_without_its_words() {
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
            let why = Proxy::parse(text).unwrap_err();
            assert!(!why.contains("s3cret"), "{text}: {why}");
        }
    }

    #[test]
    fn this_machine_and_whom_no_proxy_names_are_called_directly() {
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
