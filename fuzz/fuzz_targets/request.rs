//! A request's head: read in whatever pieces it comes, there is one verdict, and one way to read
//! it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pihook::edge::auth::{self, Route};
use pihook::edge::request::{self, BODY_LIMIT, HEAD_LIMIT, Head};
use pihook::updates::handover::Recipient;

const PATH: &str = "/110201543:AAHd/";
const SECRET: &str = "s3cret";

fuzz_target!(|bytes: &[u8]| {
    let verdict = request::head(bytes);
    // Some sixty of the prefixes; which ones is up to the last byte.
    let step = 1 + bytes.len() / 64;
    let first = bytes.last().map_or(0, |last| usize::from(*last) % step);
    for end in (first..bytes.len()).step_by(step) {
        match request::head(&bytes[..end]) {
            Ok(None) => {}
            early => assert_eq!(early, verdict, "after {end} bytes"),
        }
    }
    if let Ok(Some(head)) = verdict {
        one_reading(bytes, &head);
        authorization(&head);
    }
});

fn one_reading(bytes: &[u8], head: &Head) {
    assert!(head.length <= HEAD_LIMIT);
    let lines = bytes[..head.length].split_inclusive(|byte| *byte == b'\n');
    assert!(lines.clone().all(|line| line.ends_with(b"\r\n")));
    let count = |name: &str| {
        let of = |line: &[u8]| {
            line.split(|byte| *byte == b':')
                .next()
                .is_some_and(|it| it.eq_ignore_ascii_case(name.as_bytes()))
        };
        lines.clone().filter(|line| of(line)).count()
    };
    assert_eq!(count("content-length"), head.content_length.iter().count());
    assert_eq!(count("content-type"), head.content_type.iter().count());
    assert_eq!(
        count("x-telegram-bot-api-secret-token"),
        head.secret_token.iter().count()
    );
    assert_eq!(count("transfer-encoding"), 0);
}

fn authorization(head: &Head) {
    let route = |bot, path: &str, secret: &str| Route {
        recipient: Recipient::Bot(bot),
        path: path.to_owned().into(),
        secret_token: secret.to_owned().into(),
    };
    let routes = [route(0, "/2:b/", "other"), route(1, PATH, SECRET)];
    if let Ok(authorized) = auth::authorize(head, &routes) {
        let Recipient::Bot(bot) = authorized.recipient else {
            panic!("{authorized:?}")
        };
        assert_eq!(routes[bot].path.expose(), head.path);
        assert_eq!(
            Some(routes[bot].secret_token.expose().as_bytes()),
            head.secret_token
        );
        assert_eq!(
            (
                head.method,
                Some(authorized.body_length),
                authorized.head_length
            ),
            ("POST", head.content_length, head.length)
        );
        assert!(authorized.body_length <= BODY_LIMIT);
    }
}
