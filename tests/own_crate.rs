//! The bot of the README, in a crate of its own that depends on pihook: built, and run.

mod common;

use std::path::Path;
use std::process::Command;

use common::{HOST, Home, Pihook, SOON, TOKEN, telegram};

const README: &str = include_str!("../README.md");

#[test]
fn the_bot_of_the_readme_is_a_crate_of_its_own() {
    if std::env::var_os("PIHOOK_BINARY").is_some() {
        // That is one of ours, perhaps for another machine.
        return;
    }
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let home = Home::new(&telegram.api_url());
    let source = README
        .split("```rust\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let ours = env!("CARGO_MANIFEST_DIR");
    home.write("src/main.rs", source);
    home.write(
        "Cargo.toml",
        &format!(
            "[package]\nname = 'greeter'\nedition = '2024'\n[workspace]\n[dependencies]\npihook = {{ path = '{ours}' }}\n"
        ),
    );
    // The versions that are there: a newer one would have to be fetched.
    home.write("Cargo.lock", include_str!("../Cargo.lock"));
    // Its dependencies are ours, and built already for the most part.
    let profile = Path::new(env!("CARGO_BIN_EXE_pihook")).parent().unwrap();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--offline", "--target-dir"])
        .arg(profile.parent().unwrap());
    assert!(cargo.current_dir(&home.folder).status().unwrap().success());

    let built = profile.with_file_name("debug").join("greeter");
    let pihook = Pihook::start(home.command_at(&built, &["run"]));
    telegram.route(HOST, 8443, pihook.address);
    bot.say(42, "hello");
    bot.say(42, "/start@number_110201543_bot");
    let sent = bot.wait_sent(1, SOON).unwrap();
    assert_eq!(sent[0].text, "Hello!");
    bot.wait_none_pending(SOON).unwrap();
    assert_eq!(bot.sent().len(), 1);
}
