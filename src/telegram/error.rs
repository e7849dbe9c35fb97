//! The errors of the Bot API's calls.

use std::fmt;
use std::io::{self, ErrorKind};

use ureq::Timeout;

use super::clock_skew;
use super::transport::StaleConnection;
use crate::secret::printable;

/// The words for a token that is refused, with the remedy.
pub(crate) const NEW_TOKEN: &str =
    "Telegram does not accept this token: get a new token from BotFather.";

/// The reason why a call of the Bot API has no result. `updates::retry` decides what it means for an
/// update, and `delivery::registration` what it means for the webhook.
#[derive(Debug, PartialEq, Eq)]
pub enum ApiError {
    /// The Bot API answered that it refuses the call.
    Refused {
        /// The HTTP status: 400, 401, 403, 404, 409, 429, 500…
        code: u16,
        /// Telegram's words, with spaces for control characters.
        description: String,
        /// Seconds to wait, with a 429.
        retry_after: Option<u64>,
        /// The chat's new id, when a group became a supergroup.
        migrate_to_chat_id: Option<i64>,
    },
    /// The answer is not from the Bot API: a gateway's HTML page, for example.
    Foreign {
        /// Its HTTP status.
        status: u16,
    },
    /// The answer is longer than the limit of `telegram::client`.
    TooLarge,
    /// There is no connection, so the call was not carried out.
    Unreachable(String),
    /// The same, probably because this machine's clock is wrong: a certificate that is valid today
    /// is not valid by this clock.
    WrongClock(String),
    /// A connection broke before the first byte of the answer. A kept connection does so when it
    /// died while the network was down. Most likely the call was not carried out, and another
    /// connection will work.
    StaleConnection(String),
    /// The call was sent, but no whole answer came back: it may have been carried out.
    Unanswered(String),
}

/// A refusal on which something is decided.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refusal {
    OldQuery,
    Token,
    UnknownMethod,
    WebhookConflict,
    PollConflict,
}

/// The refusals, by their code and by words of their description in lower case. Where two have the
/// same code, Telegram tells them apart by words alone. The first row that fits counts.
const REFUSALS: [(u16, &str, Refusal); 6] = [
    (400, "query is too old", Refusal::OldQuery),
    (401, "", Refusal::Token),
    (404, "method not found", Refusal::UnknownMethod),
    // A gateway in front of the Bot API can also answer it for an unknown method.
    (404, "", Refusal::Token),
    (409, "webhook", Refusal::WebhookConflict),
    (409, "", Refusal::PollConflict),
];

/// The words of ureq's HTTP and SOCKS connectors when the proxy wants another user or password.
/// They have no code for it.
const PROXY_REFUSALS: [&str; 4] = [
    "proxy server responded 407/407",
    "no acceptable auth methods",
    "unknown auth method",
    "password authentication failed",
];

impl ApiError {
    /// Whether the Bot API itself works, and this is its answer.
    pub(crate) fn is_an_answer(&self) -> bool {
        matches!(self, Self::Refused { code: ..500, .. })
    }

    /// Whether the token is wrong or revoked: nothing will work until it is changed.
    pub(crate) fn token_is_refused(&self) -> bool {
        self.refusal() == Some(Refusal::Token)
    }

    /// Whether updates cannot be polled because a webhook is set, or is being set.
    pub(crate) fn is_webhook_conflict(&self) -> bool {
        self.refusal() == Some(Refusal::WebhookConflict)
    }

    /// Whether another program polls with this token.
    pub(crate) fn is_poll_conflict(&self) -> bool {
        self.refusal() == Some(Refusal::PollConflict)
    }

    /// Whether the Bot API says that it has no such method.
    pub(crate) fn is_unknown_method(&self) -> bool {
        self.refusal() == Some(Refusal::UnknownMethod)
    }

    /// Whether the bot's answer to a query came too late, or there never was such a query.
    pub(crate) fn is_old_query(&self) -> bool {
        self.refusal() == Some(Refusal::OldQuery)
    }

    fn refusal(&self) -> Option<Refusal> {
        let Self::Refused {
            code, description, ..
        } = self
        else {
            return None;
        };

        let description = description.to_ascii_lowercase();
        for (of_code, words, refusal) in REFUSALS {
            if of_code == *code && description.contains(words) {
                return Some(refusal);
            }
        }
        None
    }
}

impl From<ureq::Error> for ApiError {
    /// The text never has the URL, which holds the token.
    fn from(error: ureq::Error) -> Self {
        use ureq::Error as E;
        match error {
            E::HostNotFound => {
                Self::Unreachable("its name is not found: check the network and the DNS".into())
            }
            E::Timeout(Timeout::Resolve) => Self::Unreachable("DNS timeout".into()),
            E::Timeout(Timeout::Connect) => Self::Unreachable("connection timeout".into()),
            E::Timeout(_) => Self::Unanswered("timeout".into()),
            E::Rustls(reason) => tls(&reason),
            E::Tls(reason) => Self::Unreachable(printable(&format!("TLS failed: {reason}"))),
            E::Other(reason) if reason.is::<StaleConnection>() => {
                Self::StaleConnection(printable(&reason.to_string()))
            }
            E::Io(error) => io(&error),
            E::Protocol(_) | E::Json(_) | E::LargeResponseHeader(..) => {
                Self::Unanswered("the answer is not valid HTTP or JSON".into())
            }
            E::BodyExceedsLimit(_) => Self::TooLarge,
            E::ConnectProxyFailed(reason) => Self::Unreachable(proxy_reason(&reason)),
            E::ConnectionFailed | E::InvalidProxyUrl => Self::Unreachable("no connection".into()),
            // The rest are mistakes in how a request is built; some of them quote the URL.
            _ => Self::Unreachable("pihook could not send the request".into()),
        }
    }
}

fn io(error: &io::Error) -> ApiError {
    // The errors of a TLS handshake come in an I/O error.
    if let Some(inner) = error.get_ref()
        && let Some(error) = inner.downcast_ref()
    {
        return tls(error);
    }

    let reason = printable(&error.to_string());
    if never_connected(error.kind()) {
        ApiError::Unreachable(reason)
    } else {
        ApiError::Unanswered(reason)
    }
}

fn tls(error: &rustls::Error) -> ApiError {
    if let Some(reason) = clock_skew::explain(error) {
        return ApiError::WrongClock(format!("TLS failed: {reason}"));
    }
    // rustls quotes all names of a wrong certificate: they need bounds.
    ApiError::Unreachable(printable(&format!("TLS failed: {error}")))
}

/// The reason why there is no connection through the proxy; with the remedy where the proxy wants
/// another user or password.
fn proxy_reason(reason: &str) -> String {
    if PROXY_REFUSALS.contains(&reason) {
        return "the proxy refuses the user and password; write the right ones into the proxy's URL: \
                http://user:password@…"
            .into();
    }
    printable(reason)
}

fn never_connected(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::AddrNotAvailable
    )
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused {
                code, description, ..
            } if description.is_empty() => {
                write!(f, "the Bot API refused the request with status {code}")
            }
            Self::Refused { description, .. } => write!(f, "the Bot API said: {description}"),
            Self::Foreign { status } => {
                write!(f, "the answer is not from the Bot API (status {status})")
            }
            Self::TooLarge => f.write_str("the Bot API's answer is too long"),
            Self::Unreachable(reason) | Self::WrongClock(reason) => {
                write!(f, "the Bot API cannot be reached: {reason}")
            }
            Self::StaleConnection(reason) => {
                write!(f, "the connection to the Bot API was lost: {reason}")
            }
            Self::Unanswered(reason) => write!(f, "no usable answer from the Bot API: {reason}"),
        }
    }
}

impl std::error::Error for ApiError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_shows_the_url() {
        let url = "https://api.telegram.org/bot1:secret/getMe";
        for error in [
            ureq::Error::BadUri(url.into()),
            ureq::Error::RequireHttpsOnly(url.into()),
        ] {
            let error = ApiError::from(error);
            assert!(!format!("{error} {error:?}").contains("secret"));
        }
    }

    #[test]
    fn an_unknown_method_is_no_wrong_token() {
        let refused = |code, description: &str| ApiError::Refused {
            code,
            description: description.into(),
            retry_after: None,
            migrate_to_chat_id: None,
        };
        for (code, description, of_token, of_method, of_query) in [
            (401, "Unauthorized", true, false, false),
            (404, "Not Found", true, false, false),
            (404, "", true, false, false),
            (404, "Not Found: method not found", false, true, false),
            (404, "not found: Method Not Found", false, true, false),
            (400, "Bad Request: method not found", false, false, false),
            (
                400,
                "Bad Request: query is too old and response timeout expired or query ID is invalid",
                false,
                false,
                true,
            ),
            (400, "Bad Request: chat not found", false, false, false),
        ] {
            let error = refused(code, description);
            let found = (
                error.token_is_refused(),
                error.is_unknown_method(),
                error.is_old_query(),
            );
            assert_eq!(
                found,
                (of_token, of_method, of_query),
                "{code} {description}"
            );
        }
    }

    #[test]
    fn an_error_before_the_connection_means_that_nothing_was_carried_out() {
        let refused = std::io::Error::from(ErrorKind::ConnectionRefused);
        assert!(matches!(
            ApiError::from(ureq::Error::Io(refused)),
            ApiError::Unreachable(_)
        ));
        let reset = std::io::Error::from(ErrorKind::ConnectionReset);
        assert!(matches!(
            ApiError::from(ureq::Error::Io(reset)),
            ApiError::Unanswered(_)
        ));
        assert!(matches!(
            ApiError::from(ureq::Error::Timeout(Timeout::RecvResponse)),
            ApiError::Unanswered(_)
        ));
        let proxy = ureq::Error::ConnectProxyFailed("proxy server responded 407/407".into());
        assert!(
            matches!(ApiError::from(proxy), ApiError::Unreachable(reason) if reason.contains("user and password"))
        );
    }
}
