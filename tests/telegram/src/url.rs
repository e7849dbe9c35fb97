//! A webhook URL as Telegram reads it, and what follows from it: where to connect, what to send.

use std::net::Ipv4Addr;

/// Where requests go and how they begin: everything about a request that does not change.
#[derive(Clone, Debug)]
pub struct Target {
    /// The URL's host, in lower case; an IPv6 literal keeps its brackets.
    pub host: String,
    /// The URL's port, or the scheme's.
    pub port: u16,
    /// False for `http://`, which only a local server accepts.
    pub https: bool,
    head: String,
}

const AFTER_LENGTH: &str = "\r\nConnection: keep-alive\r\nAccept-Encoding: gzip, deflate\r\n\r\n";

impl Target {
    /// Reads `url` as `parse_url` of Telegram does. `None`: "invalid webhook URL specified".
    pub fn new(url: &str, secret: Option<&str>) -> Option<Target> {
        let (https, rest) = match url.split_once("://") {
            Some((scheme, rest)) if !scheme.contains(':') => {
                match scheme.to_ascii_lowercase().as_str() {
                    "https" => (true, rest),
                    "http" => (false, rest),
                    _ => return None,
                }
            }
            _ => (true, url),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (userinfo, authority) = match authority.rsplit_once('@') {
            Some((userinfo, authority)) => (Some(userinfo), authority),
            None => (None, authority),
        };
        let default_port = if https { 443 } else { 80 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
            _ => (authority, default_port),
        };
        if port == 0 || !is_host(host) {
            return None;
        }
        let host = host.to_ascii_lowercase();
        let mut head = format!("POST {} HTTP/1.1\r\nHost: {host}", escape(path));
        if port != default_port {
            head += &format!(":{port}");
        }
        if let Some(userinfo) = userinfo.filter(|text| !text.is_empty()) {
            head += &format!("\r\nAuthorization: Basic {}", base64(userinfo.as_bytes()));
        }
        if let Some(secret) = secret.filter(|text| !text.is_empty()) {
            head += &format!("\r\nX-Telegram-Bot-Api-Secret-Token: {secret}");
        }
        head += "\r\nContent-Type: application/json\r\nContent-Length: ";
        Some(Target {
            host,
            port,
            https,
            head,
        })
    }

    /// Appends the head of a request with a body of `length` bytes to `output`.
    pub(crate) fn write_head(&self, length: usize, output: &mut Vec<u8>) {
        output.extend_from_slice(self.head.as_bytes());
        output.extend_from_slice(length.to_string().as_bytes());
        output.extend_from_slice(AFTER_LENGTH.as_bytes());
    }

    /// Telegram builds the header block in 4096 bytes. One that is longer is never sent, silently.
    pub(crate) fn fits(&self) -> bool {
        self.head.len() + "524288".len() + AFTER_LENGTH.len() <= 4096
    }
}

fn is_host(host: &str) -> bool {
    if let Some(inside) = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return inside.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let allowed =
        |c: char| c.is_ascii_alphanumeric() || !c.is_ascii() || "%.-_!$,~*'();&+=".contains(c);
    !host.is_empty() && host != "." && host.chars().all(allowed)
}

fn escape(path: &str) -> String {
    let path = path.trim_end();
    let mut escaped = String::from(if path.starts_with('/') { "" } else { "/" });
    for c in path.chars() {
        match c {
            '\0'..=' ' => escaped += &format!("%{:02X}", c as u32),
            _ => escaped.push(c),
        }
    }
    escaped
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= group.len() { digit.into() } else { '=' });
        }
    }
    text
}

/// The addresses where Telegram never connects, unless its server is local.
pub(crate) fn is_reserved(address: Ipv4Addr) -> bool {
    match address.octets() {
        [0 | 10 | 127 | 224.., ..] => true,
        [100, second, ..] => second & 0xc0 == 64,
        [169, 254, ..] | [192, 168, ..] => true,
        [172, second, ..] => second & 0xf0 == 16,
        [192, 0, third, _] => third == 0 || third == 2,
        [192, 88, 99, _] | [198, 51, 100, _] | [203, 0, 113, _] => true,
        [198, second, ..] => second & 0xfe == 18,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(url: &str, secret: Option<&str>) -> String {
        let mut output = Vec::new();
        Target::new(url, secret).unwrap().write_head(2, &mut output);
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn a_request_is_telegrams_byte_for_byte() {
        assert_eq!(
            request("https://User:Pa@Example.ORG:8443/Hook?a=B c#d", Some("s_1")),
            "POST /Hook?a=B%20c#d HTTP/1.1\r\nHost: example.org:8443\r\n\
             Authorization: Basic VXNlcjpQYQ==\r\nX-Telegram-Bot-Api-Secret-Token: s_1\r\n\
             Content-Type: application/json\r\nContent-Length: 2\r\n\
             Connection: keep-alive\r\nAccept-Encoding: gzip, deflate\r\n\r\n"
        );
        assert!(
            request("1.2.3.4", None)
                .starts_with("POST / HTTP/1.1\r\nHost: 1.2.3.4\r\nContent-Type")
        );
        assert!(request("https://a:443?x", None).starts_with("POST /?x HTTP/1.1\r\nHost: a\r\n"));
    }

    #[test]
    fn urls_that_cannot_be_read_are_refused() {
        for url in [
            "",
            "ftp://a/",
            "https:///x",
            "https://a:0/",
            "https://a:x/",
            "https://a:65536/",
            "https://a b/",
            "https://.",
        ] {
            assert!(Target::new(url, None).is_none(), "{url}");
        }
    }

    #[test]
    fn reserved_addresses_are_known() {
        for text in [
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.1.1",
            "172.31.0.1",
            "192.0.2.1",
            "192.168.1.1",
            "198.19.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "255.255.255.255",
        ] {
            assert!(is_reserved(text.parse().unwrap()), "{text}");
        }
        for text in [
            "100.128.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "8.8.8.8",
            "198.20.0.1",
            "91.108.5.7",
        ] {
            assert!(!is_reserved(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_header_block_over_4096_bytes_does_not_fit() {
        let url = |length| format!("https://a/{}", "x".repeat(length));
        assert!(Target::new(&url(3800), None).unwrap().fits());
        assert!(!Target::new(&url(4000), None).unwrap().fits());
    }
}
