//! Delivery errors: Telegram's `last_error_message` in words that say what to do. The messages are
//! those of tdlib/telegram-bot-api's `WebhookActor` and tdlib/td's HTTP client.

use self::Kind::{Certificate, Foreign, Slow, Theirs, Unreachable};

/// The kind of a delivery error. The bot decides on it what to do without a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Telegram's calls do not arrive: because of the address, the router or a firewall.
    Unreachable,
    /// The calls arrive, but the answer takes too long, or the bot deferred the update.
    Slow,
    /// The bot's certificate is not the one that Telegram has.
    Certificate,
    /// Another program answers, not this bot.
    Foreign,
    /// A fault at Telegram: only Telegram can repair it.
    Theirs,
}

/// The meaning of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Its kind.
    pub kind: Kind,
    /// What happened, for a person.
    pub cause: &'static str,
    /// What to do, for a person.
    pub remedy: &'static str,
}

/// The explanations of messages without an answer, by their first words. The first row that fits
/// counts.
const EXPLANATIONS: [(&str, Kind, &str, &str); 16] = [
    ("Read timeout expired", Slow, SLOW, READ_LOG),
    ("Write timeout expired", Unreachable, SILENCE, FORWARD),
    ("Connection timed out", Unreachable, SILENCE, FORWARD),
    ("Connection refused", Unreachable, REFUSED, FORWARD_HERE),
    ("Connection reset by peer", Unreachable, RESET, ALLOW),
    ("Broken pipe", Slow, CLOSED, READ_LOG),
    ("No route to host", Unreachable, NO_ROUTE, ADDRESS),
    ("Network is unreachable", Unreachable, NO_ROUTE, ADDRESS),
    ("Host is down", Unreachable, NO_ROUTE, ADDRESS),
    ("SSL error {error:0A000126", Unreachable, RESET, ALLOW),
    (
        "Can't connect to the webhook",
        Unreachable,
        SILENCE,
        FORWARD,
    ),
    ("SSL error {error:0A000086", Certificate, CERTIFICATE, CHECK),
    ("SSL error {error:1416F086", Certificate, CERTIFICATE, CHECK),
    ("SSL error {error:14090086", Certificate, CERTIFICATE, CHECK),
    ("SSL error ", Foreign, NO_TLS, FORWARD_HERE),
    ("Can't create an SSL", Theirs, THEIRS, WAIT),
];

const BUSY: &str = "the bot asked Telegram to send the update again later, because the Bot API did not accept the \
                    reply";
const SECRET: &str = "the path or the secret token is wrong: the webhook is from an older setup, or another program \
                      answers";
const FOREIGN: &str = "another program answers at this address and port, not this bot";
const SLOW: &str = "Telegram can connect, but does not get a complete answer within 60 s";
const SILENCE: &str = "nothing answers at this address and port: the router does not forward the port, a firewall \
                       blocks the calls, or the provider shares the address (CGNAT)";
const REFUSED: &str = "Telegram reaches the address, but nothing listens at this port: the bot was not running, or \
                       the router forwards the port to another machine";
const RESET: &str = "the connection was closed: by the bot, because Telegram's address is not in allow_from, or by a \
                     device between Telegram and the bot";
const CLOSED: &str = "the connection was closed while Telegram was still sending: the bot stopped, or refused the update";
const NO_ROUTE: &str = "Telegram finds no route to this address: this home has a new address, or the provider has an outage";
const INCOMPLETE: &str = "the update did not arrive completely within the bot's timeout";
const LARGE: &str = "the update was too large for the program that answers: an older pihook, or a proxy in front of \
                     the bot";
const PROXY: &str = "a proxy answers instead of the bot, because the proxy cannot reach the bot";
const CERTIFICATE: &str =
    "the bot's certificate is not the uploaded one, is for another host, or has expired";
const NO_TLS: &str = "the answer at this address and port is not the TLS that Telegram needs: another program \
                      answers, not this bot";
const THEIRS: &str = "Telegram has an internal problem";

/// Where a person finds more.
pub(crate) const READ_LOG: &str = "read the bot's log: `journalctl -u pihook`";
const SET: &str = "set this bot's webhook again: `pihook webhook set`";
const CHECK: &str = "run `pihook check`: it shows errors of the certificate; if there are none, upload the \
                     certificate again: `pihook webhook set`";
const ADDRESS: &str = "run `pihook doctor`: it compares the address with public_host";
const LINE: &str = "check whether the internet connection is overloaded; Telegram sends the update again by itself";
const RAISE: &str =
    "update pihook; if there is a proxy in front of the bot, let the proxy accept requests of 1 MB";
const BEHIND: &str = "check that the bot runs, and that the proxy calls the address in listen";
const FORWARD: &str = "forward the port to this Pi in the router's settings (or set port_mapping = \"auto\"), and run `pihook doctor`";
const FORWARD_HERE: &str = "check that the bot runs, and that the router forwards the port to this Pi and not to \
                            another machine";
const ALLOW: &str = "check that allow_from contains Telegram's networks, and that no firewall closes the connection";
const WAIT: &str = "wait: Telegram tries again by itself";

/// The meaning of a `last_error_message`; None when pihook does not know it.
#[must_use]
pub fn explain(message: &str) -> Option<Explanation> {
    let (kind, cause, remedy) = match status(message) {
        Some(503) => (Slow, BUSY, READ_LOG),
        Some(403 | 404) => (Foreign, SECRET, SET),
        Some(408) => (Slow, INCOMPLETE, LINE),
        Some(413) => (Foreign, LARGE, RAISE),
        Some(502 | 504) => (Foreign, PROXY, BEHIND),
        _ if is_answer(message) => (Foreign, FOREIGN, FORWARD_HERE),
        _ => {
            let mut rows = EXPLANATIONS.into_iter();
            let (_, kind, cause, remedy) = rows.find(|row| message.starts_with(row.0))?;
            (kind, cause, remedy)
        }
    };
    Some(Explanation {
        kind,
        cause,
        remedy,
    })
}

/// Before the status of an answer.
const STATUS: &str = "Wrong response from the webhook: ";

/// The HTTP status that Telegram got in answer, if the message tells one.
#[must_use]
pub fn status(message: &str) -> Option<u16> {
    message
        .strip_prefix(STATUS)?
        .split(' ')
        .next()?
        .parse()
        .ok()
}

/// What Telegram says when it cannot read an answer.
const UNREADABLE: [&str; 5] = [
    "Bad Request",
    "Not Implemented",
    "HTTP Version Not Supported",
    "Unsupported Media Type",
    "Request Entity Too Large",
];

/// Whether Telegram got an answer, good or bad: before that, it had accepted the certificate.
#[must_use]
pub fn is_answer(message: &str) -> bool {
    message.starts_with(STATUS) || UNREADABLE.iter().any(|begin| message.starts_with(begin))
}

/// The message with its cause and its remedy, for a person.
#[must_use]
pub fn sentence(message: &str) -> String {
    match explain(message) {
        Some(Explanation { cause, remedy, .. }) => format!("\"{message}\": {cause}; {remedy}"),
        None => format!("\"{message}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_from_what_comes_before_one() {
        assert_eq!(
            status("Wrong response from the webhook: 503 Service Unavailable"),
            Some(503)
        );
        assert_eq!(status("Wrong response from the webhook: 404 "), Some(404));
        for message in ["Wrong response from the webhook: x", "Bad Request", "503"] {
            assert_eq!(status(message), None, "{message}");
        }
        for message in [
            "Wrong response from the webhook: 302 Found",
            "Bad Request: zlib error -3",
            "Not Implemented",
        ] {
            assert!(is_answer(message), "{message}");
        }
        for message in [
            "Connection refused",
            "Read timeout expired",
            "Broken pipe",
            "SSL error {error:0A000086",
        ] {
            assert!(!is_answer(message), "{message}");
        }
    }
}
