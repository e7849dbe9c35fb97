//! Authorization: which recipient a request is for, and whether it comes from Telegram. Pure.

use super::request::{BODY_LIMIT, Head, Refusal};
use crate::secret::Secret;
use crate::updates::handover::Recipient;

/// What a caller must know to reach a recipient.
#[derive(Clone, Debug)]
pub struct Route {
    /// The recipient that the path leads to.
    pub recipient: Recipient,
    /// The path of the webhook's URL.
    pub path: Secret,
    /// What Telegram shows with every call.
    pub secret_token: Secret,
}

/// A request whose body may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authorized {
    /// The recipient that the request is for.
    pub recipient: Recipient,
    /// Bytes of the head.
    pub head_length: usize,
    /// Bytes of the body.
    pub body_length: usize,
    /// Whether the connection ends with the answer.
    pub close: bool,
}

/// Decides by the head alone, so that a stranger's body is never read.
///
/// # Errors
/// The refusal that the caller gets. One that has not shown a path learns only that it is unknown,
/// and one without the secret learns nothing about its body.
pub fn authorize(head: &Head<'_>, routes: &[Route]) -> Result<Authorized, Refusal> {
    let route = find_route(head, routes).ok_or(Refusal::NotFound)?;

    if head.method != "POST" {
        return Err(Refusal::MethodNotAllowed);
    }

    let shows_secret = head
        .secret_token
        .is_some_and(|given| route.secret_token.matches(given));
    if !shows_secret {
        return Err(Refusal::WrongSecret);
    }

    let is_json = head
        .content_type
        .is_some_and(|media_type| media_type.eq_ignore_ascii_case(b"application/json"));
    let Some(body_length) = head.content_length else {
        return Err(Refusal::Forbidden);
    };
    if !is_json {
        return Err(Refusal::Forbidden);
    }
    if body_length > BODY_LIMIT {
        return Err(Refusal::TooLarge);
    }

    Ok(Authorized {
        recipient: route.recipient,
        head_length: head.length,
        body_length,
        close: head.close,
    })
}

/// The recipient that a request's path leads to, whoever sent the request.
pub(super) fn recipient(head: &Head<'_>, routes: &[Route]) -> Option<Recipient> {
    find_route(head, routes).map(|route| route.recipient)
}

fn find_route<'r>(head: &Head<'_>, routes: &'r [Route]) -> Option<&'r Route> {
    let mut found = None;
    // Every route is compared, so that the time taken says nothing about any path.
    for route in routes {
        let is_path = route.path.matches(head.path.as_bytes());
        if is_path && found.is_none() {
            found = Some(route);
        }
    }
    found
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
    fn path_and_secret_of_a_bot_reach_this_bot() {
        let authorized = Authorized {
            recipient: Recipient::Bot(1),
            head_length: 200,
            body_length: BODY_LIMIT,
            close: false,
        };
        assert_eq!(authorize(&GOOD, &routes()), Ok(authorized));

        let other = Head {
            path: "/1:a/",
            secret_token: Some(b"one"),
            ..GOOD
        };
        assert_eq!(
            authorize(&other, &routes()).unwrap().recipient,
            Recipient::Bot(0)
        );
    }

    #[test]
    fn an_unknown_path_is_not_found_whatever_the_method() {
        for path in ["/", "/2:b", "/2:b/?x"] {
            let head = Head { path, ..GOOD };
            assert_eq!(
                authorize(&head, &routes()),
                Err(Refusal::NotFound),
                "{head:?}"
            );
        }
        let head = Head {
            path: "/",
            method: "GET",
            ..GOOD
        };
        assert_eq!(authorize(&head, &routes()), Err(Refusal::NotFound));
    }

    #[test]
    fn a_wrong_secret_is_refused_whatever_the_body() {
        for secret_token in [None, Some(&b"one"[..])] {
            let head = Head {
                secret_token,
                ..GOOD
            };
            assert_eq!(
                authorize(&head, &routes()),
                Err(Refusal::WrongSecret),
                "{head:?}"
            );
        }
        let head = Head {
            content_length: Some(usize::MAX),
            secret_token: None,
            ..GOOD
        };
        assert_eq!(authorize(&head, &routes()), Err(Refusal::WrongSecret));
    }

    #[test]
    fn a_wrong_method_type_or_length_is_refused() {
        let get = Head {
            method: "GET",
            ..GOOD
        };
        let no_type = Head {
            content_type: None,
            ..GOOD
        };
        let text = Head {
            content_type: Some(b"text/plain"),
            ..GOOD
        };
        let no_length = Head {
            content_length: None,
            ..GOOD
        };
        let too_large = Head {
            content_length: Some(BODY_LIMIT + 1),
            ..GOOD
        };
        for (head, refusal) in [
            (get, Refusal::MethodNotAllowed),
            (no_type, Refusal::Forbidden),
            (text, Refusal::Forbidden),
            (no_length, Refusal::Forbidden),
            (too_large, Refusal::TooLarge),
        ] {
            assert_eq!(authorize(&head, &routes()), Err(refusal), "{head:?}");
        }
    }
}
