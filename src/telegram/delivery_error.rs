//! Delivery errors: Telegram's `last_error_message` in words that say what to do. The messages are those of
//! tdlib/telegram-bot-api's `WebhookActor` and tdlib/td's HTTP client.

/// The kind of a delivery error; it decides what can be done without a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing arrives here: the address, the router or a firewall.
    Unreachable,
    /// It arrives, and takes too long, or was put off by us.
    Slow,
    /// The certificate that is served is not the one that Telegram has.
    Certificate,
    /// Something answers that is not this bot.
    Foreign,
    /// Only Telegram can repair it.
    Theirs,
}

/// What a message means.
#[derive(Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What can be done about it here.
    pub kind: Kind,
    /// What happened.
    pub cause: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

/// By the beginning of the message, the first that fits.
const EXPLANATIONS: [(&str, Explanation); 29] = [
    ("Wrong response from the webhook: 503", Explanation { kind: Kind::Slow, cause: BUSY, remedy: LOG }),
    ("Wrong response from the webhook: 403", Explanation { kind: Kind::Foreign, cause: SECRET, remedy: SET }),
    ("Wrong response from the webhook: 404", Explanation { kind: Kind::Foreign, cause: SECRET, remedy: SET }),
    ("Wrong response from the webhook: 408", Explanation { kind: Kind::Slow, cause: INCOMPLETE, remedy: LINE }),
    ("Wrong response from the webhook: 413", Explanation { kind: Kind::Foreign, cause: LARGE, remedy: RAISE }),
    ("Wrong response from the webhook: 502", Explanation { kind: Kind::Foreign, cause: PROXY, remedy: BEHIND }),
    ("Wrong response from the webhook: 504", Explanation { kind: Kind::Foreign, cause: PROXY, remedy: BEHIND }),
    ("Wrong response from the webhook: ", Explanation { kind: Kind::Foreign, cause: FOREIGN, remedy: FORWARD_HERE }),
    ("Read timeout expired", Explanation { kind: Kind::Slow, cause: SLOW, remedy: LOG }),
    ("Write timeout expired", Explanation { kind: Kind::Unreachable, cause: SILENCE, remedy: FORWARD }),
    ("Connection timed out", Explanation { kind: Kind::Unreachable, cause: SILENCE, remedy: FORWARD }),
    ("Connection refused", Explanation { kind: Kind::Unreachable, cause: REFUSED, remedy: FORWARD_HERE }),
    ("Connection reset by peer", Explanation { kind: Kind::Unreachable, cause: RESET, remedy: ALLOW }),
    ("Broken pipe", Explanation { kind: Kind::Slow, cause: CLOSED, remedy: LOG }),
    ("No route to host", Explanation { kind: Kind::Unreachable, cause: NO_ROUTE, remedy: ADDRESS }),
    ("Network is unreachable", Explanation { kind: Kind::Unreachable, cause: NO_ROUTE, remedy: ADDRESS }),
    ("Host is down", Explanation { kind: Kind::Unreachable, cause: NO_ROUTE, remedy: ADDRESS }),
    ("SSL error {error:0A000126", Explanation { kind: Kind::Unreachable, cause: RESET, remedy: ALLOW }),
    ("Can't connect to the webhook", Explanation { kind: Kind::Unreachable, cause: SILENCE, remedy: FORWARD }),
    ("SSL error {error:0A000086", Explanation { kind: Kind::Certificate, cause: CERTIFICATE, remedy: CHECK }),
    ("SSL error {error:1416F086", Explanation { kind: Kind::Certificate, cause: CERTIFICATE, remedy: CHECK }),
    ("SSL error {error:14090086", Explanation { kind: Kind::Certificate, cause: CERTIFICATE, remedy: CHECK }),
    ("SSL error ", Explanation { kind: Kind::Foreign, cause: NO_TLS, remedy: FORWARD_HERE }),
    ("Can't create an SSL", Explanation { kind: Kind::Theirs, cause: THEIRS, remedy: WAIT }),
    ("Bad Request", Explanation { kind: Kind::Foreign, cause: FOREIGN, remedy: FORWARD_HERE }),
    ("Not Implemented", Explanation { kind: Kind::Foreign, cause: FOREIGN, remedy: FORWARD_HERE }),
    ("HTTP Version Not Supported", Explanation { kind: Kind::Foreign, cause: FOREIGN, remedy: FORWARD_HERE }),
    ("Unsupported Media Type", Explanation { kind: Kind::Foreign, cause: FOREIGN, remedy: FORWARD_HERE }),
    ("Request Entity Too Large", Explanation { kind: Kind::Foreign, cause: FOREIGN, remedy: FORWARD_HERE }),
];

const BUSY: &str = "the bot put it off, since the Bot API did not take its reply";
const SECRET: &str = "what answers knows another path or secret token: an older webhook, or another program";
const FOREIGN: &str = "what answers at this address and port is not this bot";
const SLOW: &str = "it connects, and gets no whole answer within 60 s";
const SILENCE: &str = "nothing answers at this address and port: the router does not forward it, a firewall drops it, \
                       or the provider shares the address (CGNAT)";
const REFUSED: &str = "the address is reached, and nothing listens at this port: the bot was down, or the router \
                       forwards to another machine";
const RESET: &str = "the bot closed the connection, since allow_from does not name Telegram's address, or something between \
                     here and Telegram closed the connection";
const CLOSED: &str =
    "what answers closed the connection while Telegram still wrote: the bot stopped, or refused the update";
const NO_ROUTE: &str =
    "Telegram finds no way to this address: it is no longer this home's, or the provider has an outage";
const INCOMPLETE: &str = "the update did not arrive whole within the bot's time limit";
const LARGE: &str = "what answers takes no update of this size: it is an older pihook, or a proxy before it";
const PROXY: &str = "a proxy answers in place of the bot, and does not reach the bot";
const CERTIFICATE: &str = "the certificate that is served is not the one that was uploaded, names another host, or \
                           has expired";
const NO_TLS: &str = "what answers at this address and port speaks no TLS that Telegram takes: it is not this bot";
const THEIRS: &str = "Telegram itself could not begin";

const LOG: &str = "the bot's log has the reason (journalctl -u pihook)";
const SET: &str = "`pihook webhook set` sets this bot's own webhook again";
const CHECK: &str = "`pihook check` says what is wrong with the certificate; if it finds nothing, `pihook webhook set` uploads \
                     the certificate again";
const ADDRESS: &str = "`pihook doctor` compares the address with public_host";
const LINE: &str = "see whether this home's connection is overloaded; Telegram sends the update again by itself";
const RAISE: &str = "update pihook; where a proxy stands before it, have that take bodies of 1 MB";
const BEHIND: &str = "see that the bot runs, and that the proxy calls the address of listen";
const FORWARD: &str =
    "have the router forward the port to this Pi (or set port_mapping = \"auto\"), and run `pihook doctor`";
const FORWARD_HERE: &str = "see that the bot runs, and that the router forwards the port to it and to nothing else";
const ALLOW: &str = "see that allow_from holds Telegram's networks, and that no firewall is in the way";
const WAIT: &str = "wait; it tries again by itself";

/// What a `last_error_message` means; None for one that is not known.
#[must_use]
pub fn explain(message: &str) -> Option<&'static Explanation> {
    EXPLANATIONS.iter().find(|(begin, _)| message.starts_with(begin)).map(|(_, explanation)| explanation)
}

/// The message with its cause and its remedy, for a person.
#[must_use]
pub fn sentence(message: &str) -> String {
    match explain(message) {
        Some(Explanation { cause, remedy, .. }) => format!("\"{message}\": {cause}; {remedy}"),
        None => format!("\"{message}\""),
    }
}
