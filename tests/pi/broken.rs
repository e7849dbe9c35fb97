//! A release that passes all that is checked before it is taken, and then fails: it says that it is ready and hangs, or, with
//! `--cfg crashes`, ends at once.

use std::env::{args, var_os};
use std::os::unix::net::UnixDatagram;

fn main() {
    match args().nth(1).as_deref() {
        Some("run") => {}
        // The settings are good, and nothing is answered.
        Some("init") => return,
        _ => return println!("pihook 0.0.0"),
    }
    if cfg!(crashes) {
        std::process::abort();
    }
    UnixDatagram::unbound().unwrap().send_to(b"READY=1", var_os("NOTIFY_SOCKET").unwrap()).unwrap();
    loop {
        std::thread::park();
    }
}
