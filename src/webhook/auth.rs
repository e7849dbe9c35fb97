//! Who is let in: which bot a request is for, and whether it comes from Telegram. Pure.

use super::request::{BODY_LIMIT, Head, Refusal};
use crate::secret::Secret;

/// What a caller must know to be let in to one bot.
#[derive(Clone, Debug)]
pub struct Door {
    /// The path of the webhook's URL.
    pub path: Secret,
    /// What Telegram shows with every call.
    pub secret_token: Secret,
}

/// A request that may be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Which of the doors.
    pub bot: usize,
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
pub fn admit(head: &Head<'_>, doors: &[Door]) -> Result<Admitted, Refusal> {
    // Every door is tried, so that the time taken says nothing about any.
    let tried = doors.iter().enumerate().map(|(bot, door)| door.path.matches(head.path.as_bytes()).then_some(bot));
    let bot = tried.fold(None, Option::or).ok_or(Refusal::NotFound)?;
    if head.method != "POST" {
        return Err(Refusal::MethodNotAllowed);
    }
    let secret = head.secret_token.is_some_and(|given| doors[bot].secret_token.matches(given));
    let json = head.content_type.is_some_and(|given| given.eq_ignore_ascii_case(b"application/json"));
    match head.content_length {
        Some(body) if secret && json && body <= BODY_LIMIT => {
            Ok(Admitted { bot, head: head.length, body, close: head.close })
        }
        Some(_) if secret && json => Err(Refusal::TooLarge),
        _ => Err(Refusal::Forbidden),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doors() -> Vec<Door> {
        let door =
            |path: &str, secret: &str| Door { path: path.to_owned().into(), secret_token: secret.to_owned().into() };
        vec![door("/1:a/", "one"), door("/2:b/", "two")]
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
        let admitted = Admitted { bot: 1, head: 200, body: BODY_LIMIT, close: false };
        assert_eq!(admit(&GOOD, &doors()), Ok(admitted));
        assert_eq!(admit(&Head { path: "/1:a/", secret_token: Some(b"one"), ..GOOD }, &doors()).unwrap().bot, 0);
    }

    #[test]
    fn everyone_else_is_told_why_not() {
        for (head, refusal) in [
            (Head { path: "/", ..GOOD }, Refusal::NotFound),
            (Head { path: "/2:b", ..GOOD }, Refusal::NotFound),
            (Head { path: "/2:b/?x", ..GOOD }, Refusal::NotFound),
            (Head { path: "/", method: "GET", ..GOOD }, Refusal::NotFound),
            (Head { method: "GET", ..GOOD }, Refusal::MethodNotAllowed),
            (Head { secret_token: None, ..GOOD }, Refusal::Forbidden),
            (Head { secret_token: Some(b"one"), ..GOOD }, Refusal::Forbidden),
            (Head { content_type: None, ..GOOD }, Refusal::Forbidden),
            (Head { content_type: Some(b"text/plain"), ..GOOD }, Refusal::Forbidden),
            (Head { content_length: None, ..GOOD }, Refusal::Forbidden),
            (Head { content_length: Some(BODY_LIMIT + 1), ..GOOD }, Refusal::TooLarge),
            (Head { content_length: Some(usize::MAX), secret_token: None, ..GOOD }, Refusal::Forbidden),
        ] {
            assert_eq!(admit(&head, &doors()), Err(refusal), "{head:?}");
        }
    }
}
