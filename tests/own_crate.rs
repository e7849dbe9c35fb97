//! The bot of the README, built and run in a crate of its own, which depends on pihook as after
//! `cargo add --path`.
//!
//! Such a crate does not use our Cargo.lock: cargo chooses the newest versions that our Cargo.toml
//! allows.

use std::io::{self, Write};
use std::path::Path;
use std::process::Output;

use crate::common::{HOST, Home, Pihook, SOON, TOKEN, telegram, text};

const README: &str = include_str!("../README.md");
/// A later minor version of ureq without any code. cargo prefers it if our Cargo.toml allows it: then
/// the build fails.
const LATER_UREQ: &str = "[package]\nname = 'ureq'\nversion = '3.999.0'\nedition = '2024'\n\
                          [features]\njson = []\nmultipart = []\nrustls = []\nsocks-proxy = []\n";

/// Writes the files of the crate, as a user does.
fn greeter(home: &Home) {
    let ours = env!("CARGO_MANIFEST_DIR");
    let source = README
        .split("```rust\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    home.write("src/main.rs", source);
    home.write(
        "Cargo.toml",
        &format!(
            "[package]\nname = 'greeter'\nversion = '1.2.3'\nedition = '2024'\n[workspace]\n[dependencies]\n\
             pihook = {{ path = '{ours}' }}\n[patch.crates-io]\nureq = {{ path = 'later-ureq' }}\n"
        ),
    );
    home.write("later-ureq/Cargo.toml", LATER_UREQ);
    home.write("later-ureq/src/lib.rs", "");
}

/// Runs cargo in the crate's folder. It soon gives up what needs the network.
fn cargo(home: &Home, arguments: &[&str]) -> Output {
    let mut cargo = crate::common::cargo();
    cargo
        .args(arguments)
        .current_dir(&home.folder)
        .env("CARGO_NET_RETRY", "0")
        .env("CARGO_HTTP_TIMEOUT", "10");
    cargo.output().unwrap()
}

/// Has cargo choose the newest versions; if it reaches no registry, the newest ones on this machine.
fn choose_versions(home: &Home) {
    let newest = cargo(home, &["fetch"]);
    if newest.status.success() {
        return;
    }
    // A test's own output is shown only when it fails.
    let said = text(&newest);
    let reason = said.lines().last().unwrap_or_default();
    let mut stderr = io::stderr();
    writeln!(
        stderr,
        "SKIPPED: the newest versions of the dependencies: cargo reaches no registry: {reason}"
    )
    .unwrap();
    let _ = std::fs::remove_file(home.folder.join("Cargo.lock"));
    let local = cargo(home, &["generate-lockfile", "--offline"]);
    assert!(local.status.success(), "{}", text(&local));
}

#[test]
fn the_readme_bot_builds_and_runs_as_a_crate_of_its_own() {
    if std::env::var_os("PIHOOK_BINARY").is_some() {
        // That binary has our own bot, and may be for another machine.
        return;
    }
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let home = Home::new(&telegram.api_url());
    greeter(&home);
    choose_versions(&home);
    // With a feature max_level of the crate log, the lines of a bot's author would be silent in a
    // release.
    let log = text(&cargo(
        &home,
        &[
            "tree",
            "--offline",
            "--quiet",
            "--invert",
            "log",
            "--depth",
            "0",
            "--format",
            "{p} {f}",
        ],
    ));
    assert!(
        log.contains("log v0.4") && !log.contains("max_level"),
        "{log}"
    );
    // In our own target folder most dependencies are built already.
    let profile = Path::new(env!("CARGO_BIN_EXE_pihook")).parent().unwrap();
    let target = profile.parent().unwrap().to_str().unwrap();
    let built = cargo(
        &home,
        &["build", "--quiet", "--offline", "--target-dir", target],
    );
    assert!(built.status.success(), "{}", text(&built));

    let greeter = profile.with_file_name("debug").join("greeter");
    let pihook = Pihook::start(home.command_at(&greeter, &["run"]));
    telegram.route(HOST, 8443, pihook.address);
    bot.say(42, "hello");
    bot.say(42, "/start@number_110201543_bot");
    let sent = bot.wait_sent(1, SOON).unwrap();
    assert_eq!(sent[0].text, "Hello!");
    bot.wait_none_pending(SOON).unwrap();
    assert_eq!(bot.sent().len(), 1);

    let said = |arguments: &[&str]| text(&home.command_at(&greeter, arguments).output().unwrap());
    let version = format!("greeter 1.2.3 (pihook {})\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(said(&["version"]), version);
    let help = said(&["help"]);
    assert!(
        help.starts_with("greeter runs a Telegram bot.") && help.contains("\n  greeter doctor ["),
        "{help}"
    );
    assert!(said(&["help", "cert"]).starts_with("  greeter cert ["));
    assert!(said(&["chek"]).contains("Did you mean `greeter check`?"));
}
