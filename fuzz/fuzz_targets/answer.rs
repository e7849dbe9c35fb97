//! What the Bot API answers, or something that stands before it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pihook::telegram::client::read_answer;
use pihook::telegram::types::WebhookInfo;

fuzz_target!(|bytes: &[u8]| {
    let errors = [
        read_answer::<WebhookInfo>(400, bytes).err(),
        read_answer::<bool>(400, bytes).err(),
    ];
    for error in errors.into_iter().flatten() {
        let text = error.to_string();
        // It becomes one line of the log.
        assert!(
            !text.chars().any(char::is_control) && text.chars().count() < 400,
            "{text:?}"
        );
    }
});
