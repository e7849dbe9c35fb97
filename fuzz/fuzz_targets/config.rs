//! pihook.toml, whatever it says: no panic, no token in what is said about it, and no bot only with
//! a problem.

#![no_main]

use std::ffi::OsString;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use pihook::config::examine_text;

const TOKEN: &str = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw";
const SECRET: &str = "AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw";
/// The token where it belongs, and where it is put by mistake: always the whole value of a line of
/// its own.
const ENDS: [&str; 15] = [
    "",
    "[[bot]]\ntoken = 'TOKEN'",
    "[[bot]]\ntoken = TOKEN",
    "[[bot]]\ntoken = 'TOKEN",
    "[[bot]]\ntoken = ['TOKEN']",
    "[[bot]]\ntoken_file = 'TOKEN'",
    "[[bot]]\ntokn = 'TOKEN'",
    "token = 'TOKEN'",
    "token_file = 'TOKEN'",
    "bot = 'TOKEN'",
    "public_host = 'TOKEN'",
    "listen = 'TOKEN'",
    "certificate = './TOKEN'",
    "allow_from = ['TOKEN']",
    "api_url = 'https://api.telegram.org/botTOKEN'",
];

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    // Any input is tried with any end, as lengths change easily.
    let end = ENDS[bytes.len() % ENDS.len()].replace("TOKEN", TOKEN);
    let variable = |name: &str| {
        (end.is_empty() && name == "TELEGRAM_BOT_TOKEN").then(|| OsString::from(TOKEN))
    };
    let (config, problems) = examine_text(
        Path::new("/nowhere/pihook.toml"),
        &format!("{text}\n{end}\n"),
        &variable,
    );
    let shown = format!("{config} {config:?} {problems:?}");
    assert!(!shown.contains(SECRET), "{shown}");
    assert!(!problems.is_empty() || !config.bots.is_empty(), "{text}");
});
