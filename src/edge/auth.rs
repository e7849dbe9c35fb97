//! Authorization: which recipient a request is for, and whether it comes from Telegram. Pure.

use super::request::{BODY_LIMIT, Head, Refusal};
use crate::secret::Secret;
use crate::updates::handover::Recipient;

/// What a caller must know to reach a recipient.
#[derive(Clone, Debug)]
pub struct Route {
    /// The one that is reached.
    pub recipient: Recipient,
    /// The path of the webhook's URL.
    pub path: Secret,
    /// What Telegram shows with every call.
    pub secret_token: Secret,
}

/// A request that may be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authorized {
    /// The one that the request is for.
    pub recipient: Recipient,
    /// Bytes of the head.
    pub head: usize,
    /// Bytes of the body.
    pub body: usize,
    /// Whether the connection ends with the answer.
    pub close: bool,
}

/// Decides by the head alone, so that a stranger's body is never read.
///
/// # Errors
/// What it is refused with.
pub fn authorize(head: &Head<'_>, routes: &[Route]) -> Result<Authorized, Refusal> {
    let route = route(head, routes).ok_or(Refusal::NotFound)?;
    if head.method != "POST" {
        return Err(Refusal::MethodNotAllowed);
    }
    if !head
        .secret_token
        .is_some_and(|given| route.secret_token.matches(given))
    {
        return Err(Refusal::WrongSecret);
    }
    let json = head
        .content_type
        .is_some_and(|given| given.eq_ignore_ascii_case(b"application/json"));
    match head.content_length {
        Some(body) if json && body <= BODY_LIMIT => Ok(Authorized {
            recipient: route.recipient,
            head: head.length,
            body,
            close: head.close,
        }),
        Some(_) if json => Err(Refusal::TooLarge),
        _ => Err(Refusal::Forbidden),
    }
}

/// The one that a request's path leads to, whoever sent it.
pub(super) fn recipient(head: &Head<'_>, routes: &[Route]) -> Option<Recipient> {
    route(head, routes).map(|route| route.recipient)
}

fn route<'r>(head: &Head<'_>, routes: &'r [Route]) -> Option<&'r Route> {
    // Every route is tried, so that the time taken says nothing about any.
    let tried = routes
        .iter()
        .map(|route| route.path.matches(head.path.as_bytes()).then_some(route));
    tried.fold(None, Option::or)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(recipient: Recipient, path: &str, secret: &str) -> Route {
        Route {
            recipient,
            path: path.to_owned().into(),
            secret_token: secret.to_owned().into(),
        }
    }

    fn routes() -> [Route; 2] {
        [
            route(Recipient::Bot(0), "/1:a/", "one"),
            route(Recipient::Bot(1), "/2:b/", "two"),
        ]
    }

    const GOOD: Head<'static> = Head {
        method: "POST",
        path: "/2:b/",
        content_type: Some(b"application/json"),
        secret_token: Some(b"two"),
        content_length: Some(BODY_LIMIT),
        length: 200,
        close: false,
    };

    #[test]
    fn telegram_is_let_in_to_the_bot_it_asks_for() {
        let authorized = Authorized {
            recipient: Recipient::Bot(1),
            head: 200,
            body: BODY_LIMIT,
            close: false,
        };
        assert_eq!(authorize(&GOOD, &routes()), Ok(authorized));
        assert_eq!(
            authorize(
                &Head {
                    path: "/1:a/",
                    secret_token: Some(b"one"),
                    ..GOOD
                },
                &routes()
            )
            .unwrap()
            .recipient,
            Recipient::Bot(0)
        );
    }

    #[test]
    fn everyone_else_is_told_why_not() {
        for (head, refusal) in [
            (Head { path: "/", ..GOOD }, Refusal::NotFound),
            (
                Head {
                    path: "/2:b",
                    ..GOOD
                },
                Refusal::NotFound,
            ),
            (
                Head {
                    path: "/2:b/?x",
                    ..GOOD
                },
                Refusal::NotFound,
            ),
            (
                Head {
                    path: "/",
                    method: "GET",
                    ..GOOD
                },
                Refusal::NotFound,
            ),
            (
                Head {
                    method: "GET",
                    ..GOOD
                },
                Refusal::MethodNotAllowed,
            ),
            (
                Head {
                    secret_token: None,
                    ..GOOD
                },
                Refusal::WrongSecret,
            ),
            (
                Head {
                    secret_token: Some(b"one"),
                    ..GOOD
                },
                Refusal::WrongSecret,
            ),
            (
                Head {
                    content_type: None,
                    ..GOOD
                },
                Refusal::Forbidden,
            ),
            (
                Head {
                    content_type: Some(b"text/plain"),
                    ..GOOD
                },
                Refusal::Forbidden,
            ),
            (
                Head {
                    content_length: None,
                    ..GOOD
                },
                Refusal::Forbidden,
            ),
            (
                Head {
                    content_length: Some(BODY_LIMIT + 1),
                    ..GOOD
                },
                Refusal::TooLarge,
            ),
            (
                Head {
                    content_length: Some(usize::MAX),
                    secret_token: None,
                    ..GOOD
                },
                Refusal::WrongSecret,
            ),
        ] {
            assert_eq!(authorize(&head, &routes()), Err(refusal), "{head:?}");
        }
    }
}
