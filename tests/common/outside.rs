//! Outside services that say which address they are called from.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use super::SOON;

/// One service. It says what it is told to; none at all when that is nothing.
pub struct Service {
    address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

struct State {
    answer: String,
    asked: usize,
}

impl Service {
    pub fn start(answer: &str) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new((
            Mutex::new(State {
                answer: answer.into(),
                asked: 0,
            }),
            Condvar::new(),
        ));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if !matches!(stream.read(&mut byte), Ok(1)) {
                        break;
                    }
                    head.push(byte[0]);
                }
                let mut state = shared.0.lock().unwrap();
                state.asked += 1;
                shared.1.notify_all();
                let body = &state.answer;
                if !body.is_empty() {
                    let length = body.len();
                    let _ = write!(
                        stream,
                        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"
                    );
                }
            }
        });
        Service { address, state }
    }

    pub fn says(&self, answer: &str) {
        self.state.0.lock().unwrap().answer = answer.into();
    }

    /// Waits until it was asked so many times more.
    pub fn wait_asked(&self, times: usize) {
        let state = self.state.0.lock().unwrap();
        let wanted = state.asked + times;
        let (state, _) = self
            .state
            .1
            .wait_timeout_while(state, SOON, |state| state.asked < wanted)
            .unwrap();
        assert!(
            state.asked >= wanted,
            "asked {} times instead of {wanted}",
            state.asked
        );
    }
}

/// The line of the settings that names them.
pub fn setting(services: &[Service]) -> String {
    let urls: Vec<_> = services
        .iter()
        .map(|service| format!("'http://{}/'", service.address))
        .collect();
    format!("address_services = [{}]", urls.join(", "))
}
