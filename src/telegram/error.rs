//! What can come back from the Bot API instead of a result.

use std::fmt;
use std::io::ErrorKind;

use ureq::Timeout;

use super::clock_skew;
use super::transport::StaleConnection;
use crate::secret::printable;

/// What is to be done when the token is refused.
pub(crate) const NEW_TOKEN: &str =
    "Telegram does not accept this token: get a new token from BotFather.";

/// Why a call of the Bot API brought no result. What it means for an update is decided in
/// `webhook::retry`, for the registration in `registration`.
#[derive(Debug, PartialEq, Eq)]
pub enum ApiError {
    /// The Bot API answered, and said no.
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
    /// Something answered that is not the Bot API: a gateway's HTML page, say.
    Foreign {
        /// Its HTTP status.
        status: u16,
    },
    /// The answer is longer than what is read.
    TooLarge,
    /// No connection came about, so nothing was carried out.
    Unreachable(String),
    /// A connection broke before a byte of the answer came, as a kept one does that died while the
    /// network was away: most likely nothing was carried out, and another connection will serve.
    StaleConnection(String),
    /// The call went out and no whole answer came back: it may have been carried out.
    Unanswered(String),
}

impl ApiError {
    /// Whether the Bot API itself is there and working, and this is what it says.
    pub(crate) fn is_an_answer(&self) -> bool {
        matches!(self, Self::Refused { code: ..500, .. })
    }

    /// Whether the token is not, or no longer, a bot's: nothing will work until it is changed.
    pub(crate) fn token_is_refused(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                code: 401 | 404,
                ..
            }
        ) && !self.is_unknown_method()
    }

    /// Whether updates cannot be polled since a webhook is set, or is being set.
    pub(crate) fn is_webhook_conflict(&self) -> bool {
        self.refused_with(409, "webhook")
    }

    /// Whether another program polls with this token.
    pub(crate) fn is_poll_conflict(&self) -> bool {
        self.refused_with(409, "") && !self.is_webhook_conflict()
    }

    /// Whether the Bot API says that it has no such method. A gateway before it can answer a plain
    /// "Not Found" to that, which is also what a wrong token gets: that is taken for the token.
    pub(crate) fn is_unknown_method(&self) -> bool {
        self.refused_with(404, "method not found")
    }

    /// Whether the answer to a query came too late, or there never was such a query.
    pub(crate) fn is_old_query(&self) -> bool {
        self.refused_with(400, "query is too old")
    }

    fn refused_with(&self, status: u16, words: &str) -> bool {
        matches!(self, Self::Refused { code, description, .. }
            if *code == status && description.to_ascii_lowercase().contains(words))
    }
}

impl From<ureq::Error> for ApiError {
    /// Takes care that no URL gets into the text: it holds the token.
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
            // The handshake's errors come wrapped.
            E::Io(reason) => match reason.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(inner) => tls(inner),
                None if never_connected(reason.kind()) => {
                    Self::Unreachable(printable(&reason.to_string()))
                }
                None => Self::Unanswered(printable(&reason.to_string())),
            },
            E::Protocol(_) | E::Json(_) | E::LargeResponseHeader(..) => {
                Self::Unanswered("the answer is not valid HTTP or JSON".into())
            }
            E::BodyExceedsLimit(_) => Self::TooLarge,
            E::ConnectProxyFailed(reason) => Self::Unreachable(proxy_words(&reason)),
            E::ConnectionFailed | E::InvalidProxyUrl => Self::Unreachable("no connection".into()),
            // The rest are mistakes in how a request is built; some of them quote the URL.
            _ => Self::Unreachable("pihook could not send the request".into()),
        }
    }
}

fn tls(error: &rustls::Error) -> ApiError {
    let why = clock_skew::explain(error).unwrap_or_else(|| error.to_string());
    // rustls lists every name of a certificate that is not the one it wants.
    ApiError::Unreachable(printable(&format!("TLS failed: {why}")))
}

/// What a proxy that lets nothing through says, or the way to it.
fn proxy_words(reason: &str) -> String {
    let wants_user = [
        "407",
        "no acceptable auth methods",
        "unknown auth method",
        "authentication failed",
    ];
    if wants_user.iter().any(|words| reason.contains(words)) {
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
            Self::Unreachable(why) => write!(f, "the Bot API cannot be reached: {why}"),
            Self::StaleConnection(why) => {
                write!(f, "the connection to the Bot API was lost: {why}")
            }
            Self::Unanswered(why) => write!(f, "no usable answer from the Bot API: {why}"),
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
    fn what_never_connected_is_told_from_what_may_have_been_carried_out() {
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
            matches!(ApiError::from(proxy), ApiError::Unreachable(why) if why.contains("user and password"))
        );
    }
}
