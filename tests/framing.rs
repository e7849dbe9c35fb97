//! A request is what its bytes say, in whatever pieces they come.

mod common;

use common::tls::Tls;
use common::{SOON, TOKEN, start};
use pihook::edge::request::head;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;

/// Nothing is kept beside the sources: a failure prints its input.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_time: 10_000,
        ..ProptestConfig::default()
    }
}

fn pieces<'b>(bytes: &'b [u8], cuts: &[Index]) -> Vec<&'b [u8]> {
    let mut cuts: Vec<_> = cuts
        .iter()
        .map(|cut| cut.index(bytes.len() + 1))
        .chain([0, bytes.len()])
        .collect();
    cuts.sort_unstable();
    cuts.windows(2)
        .map(|pair| &bytes[pair[0]..pair[1]])
        .collect()
}

/// A request of lines that a webhook cares for, right and wrong, with a byte changed here and
/// there.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let right = select(vec![
        "Host: 80.100.95.20:8443",
        "X-Telegram-Bot-Api-Secret-Token: s3cret",
        "Content-Type: application/json; charset=utf-8",
        "content-length:15",
        "Content-Length: 99999999999999999999999",
        "Connection: close",
    ]);
    let wrong = select(vec![
        "Content-Length: -15",
        "Transfer-Encoding: chunked",
        "Expect: a",
        " folded",
        "A: \u{1}",
    ]);
    let first = prop_oneof![
        6 => Just("POST /x/ HTTP/1.1"),
        1 => select(vec!["\r\nPOST /x/ HTTP/1.1", "GET / HTTP/1.1", "POST / HTTP/1.0", "POST /"]),
    ];
    let lines = prop_oneof![
        4 => vec(prop_oneof![9 => right, 1 => wrong].prop_map(str::to_owned), 0..5),
        1 => vec(Just("A: b".to_owned()), 62..68),
        1 => (8000..8400_usize).prop_map(|length| vec![format!("A: {}", "b".repeat(length))]),
    ];
    let end = prop_oneof![9 => Just("\r\n"), 1 => Just("\n")];
    let changes = prop_oneof![Just(Vec::new()), vec(any::<(Index, u8)>(), 1..4)];
    (first, lines, end, changes).prop_map(|(first, lines, end, changes)| {
        let lines: String = lines.into_iter().map(|line| line + end).collect();
        let mut bytes = format!("{first}{end}{lines}{end}{{\"update_id\":1}}").into_bytes();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes
    })
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn growing_pieces_of_a_head_end_in_the_verdict_of_the_whole(bytes in request(), cuts in vec(any::<Index>(), 0..8)) {
        let mut end = 0;
        let ends = pieces(&bytes, &cuts).into_iter().map(|piece| { end += piece.len(); end });
        let mut verdicts = ends.map(|end| head(&bytes[..end]));
        let first = verdicts.find(|verdict| *verdict != Ok(None)).unwrap_or(Ok(None));
        prop_assert_eq!(first, head(&bytes));
    }
}

#[test]
fn the_answer_is_the_same_in_whatever_pieces_the_request_comes() {
    let (_telegram, bot, _home, pihook) = start();
    let secret = bot.wait_call("setWebhook", 1, SOON).unwrap()[0].text("secret_token");
    let good = format!(
        "POST /{TOKEN}/ HTTP/1.1\r\nHost: 80.100.95.20:8443\r\nX-Telegram-Bot-Api-Secret-Token: {secret}\r\n\
         Content-Type: application/json\r\nContent-Length: 15\r\nConnection: keep-alive\r\n\r\n{{\"update_id\":1}}"
    );
    let requests = [
        (200, good.clone()),
        (200, format!("\r\n{good}")),
        (400, format!("\n{good}")),
        (400, good.replace("\r\nHost", "\nHost")),
        (400, good.replace("HTTP/1.1", "HTTP/1.0")),
        (
            400,
            good.replace(
                "Content-Length: 15",
                "Content-Length: 15\r\nContent-Length: 15",
            ),
        ),
        (
            400,
            good.replace("Content-Length: 15", "Transfer-Encoding: chunked"),
        ),
        (403, good.replace(&secret, "guessed")),
        (403, good.replace("application/json", "text/plain")),
        (404, good.replace(TOKEN, "")),
        (405, good.replace("POST", "PUT")),
        (
            413,
            good.replace("Content-Length: 15", "Content-Length: 524315"),
        ),
        (
            417,
            good.replace("Connection: keep-alive", "Expect: 100-continue"),
        ),
        (
            431,
            good.replace("Host: ", &format!("Host: {}", "x".repeat(9000))),
        ),
        (
            431,
            good.replace("Host: ", &format!("{}Host: ", "A: b\r\n".repeat(64))),
        ),
    ];
    for (status, request) in &requests {
        assert_eq!(
            Tls::connect(pihook.address).ask(request.as_bytes()),
            *status,
            "{request:?}"
        );
    }
    let any_split = (select(requests.to_vec()), vec(any::<Index>(), 1..8));
    let split = |((status, request), cuts): ((u16, String), Vec<Index>)| {
        let mut tls = Tls::connect(pihook.address);
        for piece in pieces(request.as_bytes(), &cuts) {
            tls.send(piece).unwrap();
        }
        prop_assert_eq!(tls.status(), status);
        Ok(())
    };
    TestRunner::new(config(100)).run(&any_split, split).unwrap();
}
