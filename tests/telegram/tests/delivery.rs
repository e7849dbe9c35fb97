//! How Telegram calls a webhook.

mod common;

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{HOST, OK, SOON, TOKEN, World, accept, call, upload};
use serde_json::json;
use simulated_telegram::{Cut, Delivery, Options, Telegram};

fn status(line: &str) -> Option<Vec<u8>> {
    Some(format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n").into_bytes())
}

/// Seconds between the starts of attempts, in Telegram's own time.
fn gaps(deliveries: &[Delivery], speed: f64) -> Vec<f64> {
    deliveries
        .windows(2)
        .map(|pair| (pair[1].started - pair[0].started).as_secs_f64() * speed)
        .collect()
}

#[test]
fn a_request_is_telegrams_byte_for_byte() {
    let world = World::start(1.0, |_, _| Some(OK.to_vec()));
    world.set(&[("secret_token", "s-1")]);
    let said = world.bot.say(7, "é/\"😀");
    world.bot.wait_delivered(1, SOON).unwrap();
    let request = &world.server.requests()[0];
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let length = body.len();
    assert_eq!(
        head,
        format!(
            "POST /hook HTTP/1.1\r\nHost: 91.108.5.7:8443\r\nX-Telegram-Bot-Api-Secret-Token: s-1\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: keep-alive\r\nAccept-Encoding: gzip, deflate"
        )
    );
    let (before, after) = body.split_once(",\"date\":").unwrap();
    let id = said.update_id;
    assert_eq!(
        before,
        format!(
            "{{\"update_id\":{id},\n\"message\":{{\"message_id\":1,\"from\":{{\"id\":7,\"is_bot\":false,\
             \"first_name\":\"User\",\"language_code\":\"en\"}},\"chat\":{{\"id\":7,\"first_name\":\"User\",\"type\":\"private\"}}"
        )
    );
    assert_eq!(
        after.split_once(',').unwrap().1,
        r#""text":"\u00e9/\"\ud83d\ude00"}}"#
    );
}

#[test]
fn the_largest_update_is_half_a_mebibyte_without_its_envelope() {
    let world = World::start(1.0, |_, _| Some(OK.to_vec()));
    world.set(&[]);
    let value = |length: usize| json!("x".repeat(length - r#""poll":"""#.len()));
    assert_eq!(world.bot.update("poll", 1, value(524_289)), 0);
    assert!(world.bot.update("poll", 1, value(524_288)) > 0);
    world.bot.wait_delivered(1, SOON).unwrap();
    assert_eq!(
        world.server.requests()[0]
            .split_once("\r\n\r\n")
            .unwrap()
            .1
            .len(),
        524_314
    );
}

#[test]
fn an_update_that_expires_behind_another_of_its_chat_still_comes() {
    // The first one is put off until the second one has expired.
    let world = World::start(20.0, |number, _| match number {
        0 => Some(b"HTTP/1.1 503 Busy\r\nRetry-After: 40\r\nContent-Length: 0\r\n\r\n".to_vec()),
        _ => Some(OK.to_vec()),
    });
    world.set(&[]);
    world.bot.update("callback_query", 7, json!({"id": "1"}));
    let second = world
        .bot
        .update("inline_query", 7, json!({"id": "2", "query": "x"}));
    let deliveries = world.bot.wait_delivered(2, SOON).unwrap();
    assert_eq!(deliveries[1].update_id, second);
}

/// An update that no socket's buffers hold.
fn large(world: &World) -> i64 {
    world.bot.update("poll", 1, json!("x".repeat(500_000)))
}

#[test]
fn an_answer_before_the_request_is_read_is_seen_at_once() {
    for line in ["413 Too Large", "200 OK"] {
        let world = World::start(1.0, |_, _| Some(OK.to_vec()));
        world.divert(move |mut tls| {
            tls.write_all(&status(line).unwrap()).unwrap();
            tls.flush().unwrap();
            // Neither read nor closed: only the answer can help.
            std::thread::sleep(Duration::from_secs(60));
        });
        world.set(&[]);
        large(&world);
        let code = line[..3].parse().unwrap();
        let deliveries = world.bot.wait_deliveries(1, SOON).unwrap();
        let ended = |bot: &simulated_telegram::Bot| bot.deliveries()[0].status == Some(code);
        let start = std::time::Instant::now();
        while !ended(&world.bot) {
            assert!(start.elapsed() < SOON, "{deliveries:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn what_an_early_answer_left_unsent_goes_out_with_the_next_request() {
    let world = World::start(1.0, |_, _| Some(OK.to_vec()));
    let (whole, lengths) = std::sync::mpsc::channel();
    world.divert(move |mut tls| {
        tls.write_all(OK).unwrap();
        tls.flush().unwrap();
        let mut seen = 0;
        let mut buffer = vec![0; 16384];
        while let Ok(length @ 1..) = tls.read(&mut buffer) {
            seen += length;
            // The end of the second request.
            if buffer[..length].ends_with(b"}}") {
                whole.send(seen).unwrap();
                tls.write_all(OK).unwrap();
            }
        }
    });
    world.set(&[]);
    large(&world);
    world.bot.say(1, "x");
    world.bot.wait_delivered(2, SOON).unwrap();
    assert!(lengths.recv_timeout(SOON).unwrap() > 500_000);
}

#[test]
fn a_close_before_the_body_is_read_is_a_broken_pipe() {
    let world = World::start(50.0, |_, _| Some(OK.to_vec()));
    // The end of the connection, and at once a reset, because there is something unread.
    world.divert(|tls| tls.sock.shutdown(std::net::Shutdown::Write).unwrap());
    world.set(&[]);
    large(&world);
    assert_eq!(world.bot.wait_error(SOON).unwrap(), "Broken pipe");
}

#[test]
fn an_answer_without_a_word_of_closing_before_the_close_is_a_broken_pipe() {
    for (header, message) in [("", Some("Broken pipe")), ("Connection: close\r\n", None)] {
        let world = World::start(1.0, |_, _| Some(OK.to_vec()));
        world.divert(move |mut tls| {
            let answer = format!("HTTP/1.1 200 OK\r\n{header}Content-Length: 0\r\n\r\n");
            tls.write_all(answer.as_bytes()).unwrap();
            tls.flush().unwrap();
        });
        world.set(&[]);
        // Of one chat, so that the next one waits for the first.
        for _ in 0..20 {
            world.bot.say(1, "x");
        }
        world.bot.wait_delivered(20, SOON).unwrap();
        let info = world.bot.webhook_info();
        assert_eq!(
            info.get("last_error_message")
                .map(|text| text.as_str().unwrap()),
            message
        );
    }
}

#[test]
fn a_reset_is_told() {
    let world = World::start(1.0, |_, _| Some(OK.to_vec()));
    // What nobody reads makes a close a reset.
    let address = accept(|tcp| drop(tcp.peek(&mut [0])));
    world.telegram.route(HOST, 8443, address);
    let url = format!("https://{HOST}:8443/hook");
    upload(&world.telegram, &[("url", &url)], &world.identity.chain);
    assert_eq!(
        world.bot.wait_error(SOON).unwrap(),
        "Connection reset by peer"
    );
}

/// The lengths of the TLS records with data that a webhook gets.
fn records(world: &World, updates: &[usize]) -> Vec<usize> {
    let (record, records) = std::sync::mpsc::channel();
    let to = world.server.address;
    let address = accept(move |mut client| {
        let mut server = std::net::TcpStream::connect(to).unwrap();
        let mut back = (server.try_clone().unwrap(), client.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut back.0, &mut back.1));
        let mut head = [0; 5];
        while client.read_exact(&mut head).is_ok() {
            let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
            let mut content = vec![0; length];
            client.read_exact(&mut content).unwrap();
            if head[0] == 23 {
                // Without the tag, and the byte that tells the type. Counted before the webhook
                // answers; at the end nobody counts.
                let _ = record.send(length - 17);
            }
            server.write_all(&[&head[..], &content].concat()).unwrap();
        }
    });
    world.telegram.route(HOST, 8443, address);
    world.set(&[]);
    for (number, length) in updates.iter().enumerate() {
        world.bot.update("poll", 1, json!("x".repeat(*length)));
        world.bot.wait_delivered(number + 1, SOON).unwrap();
    }
    // The first one ends the handshake.
    records.try_iter().skip(1).collect()
}

#[test]
fn the_head_of_a_large_request_is_a_record_of_its_own() {
    let world = World::start(1.0, |_, _| Some(OK.to_vec()));
    let seen = records(&world, &[10, 20_000, 10]);
    let requests = world.server.requests();
    let head = |number: usize| requests[number].split_once("\r\n\r\n").unwrap().0.len() + 4;
    let whole = |number: usize| requests[number].len();
    assert_eq!(
        seen,
        [
            whole(0),
            head(1),
            16384,
            whole(1) - head(1) - 16384,
            whole(2)
        ]
    );
}

#[test]
fn failures_are_retried_after_0_2_4_8_seconds() {
    let world = World::start(20.0, |number, _| {
        status(if number < 5 {
            "500 Oops, Sorry"
        } else {
            "200 OK"
        })
    });
    world.set(&[]);
    world.bot.say(7, "x");
    world.bot.wait_delivered(1, SOON).unwrap();
    let deliveries = world.bot.deliveries();
    assert_eq!(
        deliveries.iter().map(|one| one.attempt).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5, 6]
    );
    for (gap, expected) in gaps(&deliveries, 20.0)
        .into_iter()
        .zip([0.0, 2.0, 4.0, 8.0, 16.0])
    {
        // A loaded machine may be late, never early.
        assert!(
            gap >= expected && gap < expected + 4.0,
            "{gap} for {expected}"
        );
    }
    let info = world.bot.webhook_info();
    assert_eq!(
        info["last_error_message"],
        "Wrong response from the webhook: 500 Oops, Sorry"
    );
    assert_eq!(info["pending_update_count"], 0);
}

#[test]
fn retry_after_is_honoured() {
    let world = World::start(10.0, |number, _| match number {
        0..3 => Some(b"HTTP/1.1 503 Busy\r\nretry-after: 3\r\nContent-Length: 0\r\n\r\n".to_vec()),
        _ => Some(OK.to_vec()),
    });
    world.set(&[]);
    world.bot.say(7, "x");
    world.bot.wait_delivered(1, SOON).unwrap();
    let gaps = gaps(&world.bot.deliveries(), 10.0);
    assert!(
        gaps.len() == 3 && gaps.iter().all(|gap| *gap >= 3.0),
        "{gaps:?}"
    );
}

#[test]
fn an_update_is_dropped_when_its_wait_would_outlive_it() {
    let world = World::start(1.0, |_, _| {
        Some(b"HTTP/1.1 503 Busy\r\nRetry-After: 31\r\n\r\n".to_vec())
    });
    world.set(&[]);
    world
        .bot
        .update("inline_query", 7, json!({"id": "1", "query": "x"}));
    world.bot.wait_none_pending(SOON).unwrap();
    assert_eq!(world.bot.deliveries().len(), 1);
}

#[test]
fn the_first_update_after_a_pause_travels_alone() {
    let gate = Arc::new(Mutex::new(()));
    let held = gate.lock().unwrap();
    let theirs = Arc::clone(&gate);
    let world = World::start(1.0, move |_, _| {
        drop(theirs.lock().unwrap());
        Some(OK.to_vec())
    });
    world.set(&[]);
    for chat in 1..=20 {
        world.bot.say(chat, "x");
    }
    world.bot.wait_deliveries(1, SOON).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(
        (world.bot.deliveries().len(), world.bot.connections()),
        (1, 1)
    );
    drop(held);
    let deliveries = world.bot.wait_delivered(20, SOON).unwrap();
    let connections = deliveries.iter().map(|one| one.connection).max().unwrap();
    assert!((2..=20).contains(&connections), "{connections}");
}

#[test]
fn no_more_connections_than_max_connections() {
    let world = World::start(1.0, |_, _| {
        std::thread::sleep(Duration::from_millis(5));
        Some(OK.to_vec())
    });
    world.set(&[("max_connections", "3")]);
    for chat in 1..=30 {
        world.bot.say(chat, "x");
    }
    let deliveries = world.bot.wait_delivered(30, SOON).unwrap();
    assert_eq!(deliveries.iter().map(|one| one.connection).max(), Some(3));
}

#[test]
fn a_chat_has_its_order_and_one_request_at_a_time() {
    // Every update fails once, so that others could overtake it.
    let tried = Mutex::new(std::collections::HashSet::new());
    let world = World::start(50.0, move |_, request| {
        let body = request.split_once("\r\n\r\n").unwrap().1.to_owned();
        status(if tried.lock().unwrap().insert(body) {
            "500 No"
        } else {
            "200 OK"
        })
    });
    world.set(&[]);
    let said: Vec<i64> = (0..30)
        .map(|i| world.bot.say(1 + i % 3, "x").update_id)
        .collect();
    let deliveries = world.bot.wait_delivered(30, SOON).unwrap();
    for chat in 0..3 {
        let expected: Vec<i64> = said.iter().copied().skip(chat).step_by(3).collect();
        let mine: Vec<&Delivery> = deliveries
            .iter()
            .filter(|one| expected.contains(&one.update_id))
            .collect();
        assert_eq!(
            mine.iter().map(|one| one.update_id).collect::<Vec<_>>(),
            expected
        );
        assert!(
            mine.windows(2)
                .all(|pair| pair[0].ended.unwrap() <= pair[1].started)
        );
    }
}

#[test]
fn buttons_and_messages_of_a_user_do_not_wait_for_each_other() {
    let world = World::start(1.0, |_, request| {
        status(if request.contains("bad") {
            "500 No"
        } else {
            "200 OK"
        })
    });
    world.set(&[]);
    world.bot.say(7, "bad");
    let pressed = world.bot.press(7, 7, "x");
    assert_eq!(
        world.bot.wait_delivered(1, SOON).unwrap()[0].update_id,
        pressed.update_id
    );
}

#[test]
fn two_failing_chats_block_a_bot_with_one_connection() {
    let world = World::start(1.0, |_, request| {
        status(if request.contains("bad") {
            "500 No"
        } else {
            "200 OK"
        })
    });
    world.set(&[("max_connections", "1")]);
    world.bot.say(1, "bad");
    world.bot.say(2, "bad");
    world.bot.say(3, "good");
    world.bot.wait_deliveries(4, SOON).unwrap();
    assert!(
        world
            .bot
            .wait_delivered(1, Duration::from_millis(300))
            .is_err()
    );
    assert!(world.bot.wait_none_pending(Duration::ZERO).is_err());
}

#[test]
fn an_interim_response_is_taken_for_the_answer() {
    let world = World::start(50.0, |number, _| match number {
        0 => Some([b"HTTP/1.1 100 Continue\r\n\r\n", OK].concat()),
        _ => status("201 Created"),
    });
    world.set(&[]);
    world.bot.say(7, "x");
    world.bot.wait_delivered(1, SOON).unwrap();
    let statuses: Vec<_> = world
        .bot
        .deliveries()
        .iter()
        .map(|one| one.status)
        .collect();
    assert_eq!(
        statuses,
        [Some(100), Some(200)],
        "the second attempt has the first one's answer"
    );
    world.bot.say(7, "y");
    assert_eq!(
        world.bot.wait_delivered(2, SOON).unwrap()[1].status,
        Some(201)
    );
}

#[test]
fn a_body_without_a_length_is_a_broken_response() {
    let world = World::start(50.0, |number, _| match number {
        0 => Some(b"HTTP/1.1 200 OK\r\n\r\nfine\r\n\r\n".to_vec()),
        _ => Some(OK.to_vec()),
    });
    world.set(&[]);
    world.bot.say(7, "x");
    world.bot.wait_delivered(1, SOON).unwrap();
    world.bot.say(7, "y");
    world.bot.wait_delivered(2, SOON).unwrap();
    assert_eq!(
        world.bot.webhook_info()["last_error_message"],
        "Not Implemented"
    );
    assert_eq!(world.bot.deliveries().len(), 3);
    let told = "HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\n\r\n";
    assert!(
        world
            .server
            .requests()
            .iter()
            .any(|request| request.ends_with(told))
    );
}

#[test]
fn a_closed_connection_is_retried_silently() {
    let world = World::start(50.0, |number, _| (number > 1).then(|| OK.to_vec()));
    world.set(&[]);
    let said = world.bot.say(7, "x");
    world.bot.wait_delivered(1, SOON).unwrap();
    let deliveries = world.bot.deliveries();
    assert!(deliveries.iter().all(|one| one.update_id == said.update_id));
    assert_eq!(deliveries.len(), 3);
    assert_eq!(world.bot.webhook_info().get("last_error_message"), None);
}

#[test]
fn a_cut_connection_is_a_loss() {
    let world = World::start(50.0, |_, _| Some(OK.to_vec()));
    let mut cuts = vec![Cut::BeforeAnswer, Cut::RequestAt(100), Cut::Before];
    world.telegram.on_delivery(move |_| cuts.pop());
    world.set(&[]);
    world.bot.say(7, "x");
    world.bot.wait_delivered(1, SOON).unwrap();
    let seen: Vec<_> = world.bot.deliveries().iter().map(|one| one.cut).collect();
    assert_eq!(
        seen,
        [
            Some(Cut::Before),
            Some(Cut::RequestAt(100)),
            Some(Cut::BeforeAnswer),
            None
        ]
    );
    assert_eq!(world.server.requests().len(), 2);
}

#[test]
fn connections_are_idle_for_a_minute() {
    let world = World::start(100.0, |_, _| Some(OK.to_vec()));
    world.set(&[]);
    world.bot.wait_connections(0, SOON).unwrap();
    assert_eq!(world.bot.webhook_info().get("last_error_message"), None);
    world.bot.say(7, "x");
    world.bot.wait_delivered(1, SOON).unwrap();
}

#[test]
fn errors_have_telegrams_words() {
    let world = World::start(200.0, |_, _| {
        std::thread::sleep(Duration::from_secs(1));
        Some(OK.to_vec())
    });
    let url = format!("https://{HOST}:8443/");
    let error = |to| {
        world.telegram.route(HOST, 8443, to);
        let set = || upload(&world.telegram, &[("url", &url)], &world.identity.chain);
        while set()["ok"] != true {
            // Not more than once a second, which is 5 ms here.
            std::thread::sleep(Duration::from_millis(5));
        }
        world.bot.say(7, "x");
        let error = world.bot.wait_error(SOON).unwrap();
        call(&world.telegram, "deleteWebhook", &json!({}));
        error
    };
    // Bound and free again: nobody listens there.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    assert_eq!(error(nobody), "Connection refused");
    let plain = accept(|mut stream| {
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    assert_eq!(
        error(plain),
        "SSL error {error:0A00010B:SSL routines::wrong version number}"
    );
    assert_eq!(error(world.server.address), "Read timeout expired");
}

#[test]
fn an_update_can_come_twice() {
    let world = World::start(1.0, |_, _| Some(OK.to_vec()));
    world.set(&[]);
    let said = world.bot.say(7, "x");
    world.bot.wait_delivered(1, SOON).unwrap();
    world.bot.redeliver(said.update_id);
    assert_eq!(
        world.bot.wait_delivered(2, SOON).unwrap()[1].update_id,
        said.update_id
    );
    let requests = world.server.requests();
    assert_eq!(requests[0], requests[1]);
}

#[test]
fn a_method_in_the_answer_is_carried_out() {
    let body =
        r#"{"method":"sendMessage","chat_id":7,"text":"pong","reply_parameters":{"message_id":1}}"#;
    let world = World::start(1.0, move |_, _| {
        let length = body.len();
        Some(
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
                .into(),
        )
    });
    world.set(&[]);
    world.bot.say(7, "ping");
    let sent = world.bot.wait_sent(1, SOON).unwrap();
    assert_eq!((sent[0].text.as_str(), sent[0].reply_to), ("pong", Some(1)));
}

#[test]
fn connections_follow_a_new_route() {
    let world = World::start(50.0, |_, _| Some(OK.to_vec()));
    world.set(&[]);
    world.bot.say(7, "x");
    world.bot.wait_delivered(1, SOON).unwrap();
    let other = common::Server::start(&world.identity, |_, _| Some(OK.to_vec()));
    world.telegram.route(HOST, 8443, other.address);
    for _ in 0..2 {
        world.bot.say(7, "x");
    }
    world.bot.wait_delivered(3, SOON).unwrap();
    assert_eq!(
        (world.server.requests().len(), other.requests().len()),
        (2, 1)
    );
}

#[test]
fn a_home_that_shuts_telegram_out_times_out_and_takes_up_where_it_was() {
    let world = World::start(50.0, |_, _| Some(OK.to_vec()));
    world.set(&[]);
    world.bot.wait_connections(0, SOON).unwrap();
    world.telegram.shut(HOST, 8443);
    world.bot.say(7, "x");
    assert_eq!(world.bot.wait_error(SOON).unwrap(), "Connection timed out");
    world.telegram.open(HOST, 8443);
    world.bot.wait_delivered(1, SOON).unwrap();
    // On a connection that is open, too.
    world.telegram.shut(HOST, 8443);
    let begun = world.bot.deliveries().len();
    world.bot.say(7, "x");
    let deliveries = world.bot.wait_deliveries(begun + 2, SOON).unwrap();
    assert_eq!(
        deliveries[begun].error.as_deref(),
        Some("Read timeout expired")
    );
    assert_eq!(world.server.requests().len(), 1);
    world.telegram.open(HOST, 8443);
    world.bot.wait_delivered(2, SOON).unwrap();
}

#[test]
fn a_local_telegram_calls_any_address_without_tls() {
    let peers = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&peers);
    let address = accept(move |stream| {
        seen.lock()
            .unwrap()
            .push(stream.peer_addr().unwrap().ip().to_string());
        let _ = common::serve(stream, &Mutex::new(Vec::new()), &|_, _| Some(OK.to_vec()));
    });
    let options = Options {
        local: true,
        source: "127.0.0.9".parse().unwrap(),
        ..Options::default()
    };
    let telegram = Telegram::start(options).unwrap();
    let bot = telegram.bot(TOKEN);
    let (code, _) = call(
        &telegram,
        "setWebhook",
        &json!({"url": format!("http://{address}/")}),
    );
    assert_eq!(code, 200);
    bot.say(7, "x");
    bot.wait_delivered(1, SOON).unwrap();
    assert_eq!(*peers.lock().unwrap(), ["127.0.0.9"]);
}

#[test]
fn a_name_without_a_route_waits_for_one() {
    let world = World::start(1.0, |_, _| Some(OK.to_vec()));
    let identity = common::self_signed(common::params(Some("bot.example.org")));
    let server = common::Server::start(&identity, |_, _| Some(OK.to_vec()));
    upload(
        &world.telegram,
        &[("url", "https://bot.example.org/")],
        &identity.chain,
    );
    world.bot.say(7, "x");
    world.bot.wait_deliveries(1, SOON).unwrap();
    world.telegram.route("bot.example.org", 443, server.address);
    world.bot.wait_delivered(1, SOON).unwrap();
    assert!(server.requests()[0].contains("\r\nHost: bot.example.org\r\n"));
}

#[test]
fn tls_begins_with_a_name_but_not_with_an_address_and_ends_without_a_word() {
    let world = World::start(100.0, |_, _| Some(OK.to_vec()));
    let (seen, hellos) = std::sync::mpsc::channel();
    let address = accept(move |mut stream| {
        let mut acceptor = rustls::server::Acceptor::default();
        let accepted = loop {
            acceptor.read_tls(&mut stream).unwrap();
            if let Some(accepted) = acceptor.accept().unwrap() {
                break accepted;
            }
        };
        let hello = accepted.client_hello();
        seen.send((
            hello.server_name().map(str::to_owned),
            hello.alpn().is_some(),
        ))
        .unwrap();
    });
    for (host, name) in [
        (HOST, None),
        ("bot.example.org", Some("bot.example.org".to_owned())),
    ] {
        world.telegram.route(host, 443, address);
        while upload(&world.telegram, &[("url", host)], &world.identity.chain)["ok"] != true {
            // Not more than once a second, which is 10 ms here.
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(hellos.recv_timeout(SOON).unwrap(), (name, false));
    }
    std::thread::sleep(Duration::from_millis(10));
    world.set(&[]);
    world.bot.wait_connections(0, SOON).unwrap();
    assert_eq!(
        world.server.endings.recv_timeout(SOON).unwrap(),
        std::io::ErrorKind::UnexpectedEof
    );
}
