//! A request gets the same answer, in whatever pieces its bytes come.

use crate::common::tls::Tls;
use crate::common::{SOON, TOKEN, start};
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
    fn a_head_in_pieces_gets_the_verdict_of_the_whole(bytes in request(), cuts in vec(any::<Index>(), 0..8)) {
        let mut end = 0;
        let mut first = Ok(None);
        for piece in pieces(&bytes, &cuts) {
            end += piece.len();
            first = head(&bytes[..end]);
            if first != Ok(None) {
                break;
            }
        }
        prop_assert_eq!(first, head(&bytes));
    }
}

#[test]
fn a_request_in_pieces_gets_the_answer_of_the_whole() {
    let (_telegram, bot, _home, pihook) = start();
    let secret = bot.wait_call("setWebhook", 1, SOON).unwrap()[0].text("secret_token");
    let requests = requests(&secret);
    for (status, request) in &requests {
        assert_eq!(
            Tls::connect(pihook.address).ask(request.as_bytes()),
            *status,
            "{request:?}"
        );
    }

    let any_split = (select(requests), vec(any::<Index>(), 1..8));
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

/// Requests as Telegram sends them, good ones and changed ones, and the status that each gets.
fn requests(secret: &str) -> Vec<(u16, String)> {
    let good = format!(
        "POST /{TOKEN}/ HTTP/1.1\r\nHost: 80.100.95.20:8443\r\nX-Telegram-Bot-Api-Secret-Token: {secret}\r\n\
         Content-Type: application/json\r\nContent-Length: 15\r\nConnection: keep-alive\r\n\r\n{{\"update_id\":1}}"
    );
    let mut requests = vec![
        (200, good.clone()),
        (200, format!("\r\n{good}")),
        (400, format!("\n{good}")),
    ];

    let long_host = format!("Host: {}", "x".repeat(9000));
    let many_headers = format!("{}Host: ", "A: b\r\n".repeat(64));
    for (status, from, to) in [
        (400, "\r\nHost", "\nHost"),
        (400, "HTTP/1.1", "HTTP/1.0"),
        (400, "Length: 15", "Length: 15\r\nContent-Length: 15"),
        (400, "Content-Length: 15", "Transfer-Encoding: chunked"),
        (403, secret, "guessed"),
        (403, "application/json", "text/plain"),
        (404, TOKEN, ""),
        (405, "POST", "PUT"),
        (413, "Content-Length: 15", "Content-Length: 524315"),
        (417, "Connection: keep-alive", "Expect: 100-continue"),
        (431, "Host: ", &long_host),
        (431, "Host: ", &many_headers),
    ] {
        requests.push((status, good.replace(from, to)));
    }
    requests
}
