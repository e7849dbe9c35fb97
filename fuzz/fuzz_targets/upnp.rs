//! A router's description and its SOAP answers: anyone at home can send them. They are read in
//! bounded time and memory, and nothing comes out that did not go in.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pihook::home::upnp::xml::{UpnpAnswer, answer, description};

fuzz_target!(|bytes: &[u8]| {
    // The caller's limit.
    let bytes = &bytes[..bytes.len().min(64 * 1024)];
    let read = description(bytes);
    // An entity or a foreign encoding makes at most three bytes of one.
    let length: usize = read
        .services
        .iter()
        .map(|(kind, url)| kind.len() + url.len())
        .sum();
    assert!(length <= 3 * bytes.len() + 3 && read.services.len() <= 66);
    for (kind, url) in &read.services {
        assert!(!kind.is_empty() && !url.is_empty());
    }
    match answer(bytes, "NewExternalIPAddress") {
        None => {}
        Some(UpnpAnswer::Value(text) | UpnpAnswer::Refused(_, text)) => {
            assert!(text.len() <= 3 * bytes.len() + 7)
        }
    }
});
