//! A bot that panics: its update gets one more try, and then it is dropped. Everybody else is
//! served.

use std::os::unix::process::ExitStatusExt;

use crate::common::{HOST, Home, Pihook, SOON, remembering};
use nix::sys::signal::Signal;
use simulated_telegram::Telegram;

/// Waits for the end of a process that panicked. Returns its last error. An emulator may write more
/// lines after it.
fn aborted(pihook: Pihook) -> String {
    let (status, log) = pihook.wait();
    assert_eq!(
        status.signal(),
        Some(Signal::SIGABRT as i32),
        "{status}: {log:#?}"
    );
    log.into_iter()
        .rfind(|line| line.contains("[ERROR]"))
        .expect("an error")
}

/// Starts the bot again. It is repaired: it does not panic.
fn calm(home: &Home, telegram: &Telegram) -> Pihook {
    let mut command = home.command(&["run"]);
    command.env("CALM", "yes");
    let pihook = Pihook::start(command);
    telegram.route(HOST, 8443, pihook.address);
    pihook
}

#[test]
fn the_second_panic_drops_the_update_and_all_others_are_served() {
    let (telegram, bot, home, _memory) = remembering("panics");
    let mut pihook = home.run_for(&telegram);
    pihook.wait_log("the webhook is registered");
    let said = bot.say(1, "panic");
    for chat in 2..=20 {
        bot.say(chat, "hello");
    }
    for word in [
        "pihook tries this update once more.",
        "This is the second panic with this update: pihook drops the update.",
    ] {
        let last = aborted(pihook);
        let update = format!(
            "[ERROR] bot 110201543 update {} chat 1: the bot panicked at ",
            said.update_id
        );
        assert!(last.starts_with(&update) && last.ends_with(word), "{last}");
        assert!(
            last.contains("machinery.rs:") && last.contains("as the test wants it"),
            "{last}"
        );
        pihook = home.run_for(&telegram);
    }
    // The third process does not panic.
    bot.say(1, "still there");
    bot.wait_none_pending(SOON).unwrap();
    pihook.wait_log(&format!(
        "update {}: 200, the bot has answered this update before",
        said.update_id
    ));
    let sent = bot.sent();
    let texts = |chat| {
        sent.iter()
            .filter(|sent| sent.chat == chat)
            .map(|sent| sent.text.as_str())
            .collect::<Vec<_>>()
    };
    assert_eq!(texts(1), ["still there"]);
    // A reply that was being sent when the process ended can come twice.
    assert!(
        (2..=20)
            .all(|chat| texts(chat).iter().all(|text| *text == "hello") && !texts(chat).is_empty())
    );
    assert!(pihook.stop().0.success());
}

#[test]
fn after_one_panic_the_update_is_handled_once_more() {
    let (telegram, bot, home, _memory) = remembering("panic-once");
    let pihook = home.run_for(&telegram);
    bot.say(1, "panic");
    aborted(pihook);
    let pihook = calm(&home, &telegram);
    assert_eq!(bot.wait_sent(1, SOON).unwrap()[0].text, "panic");
    bot.wait_none_pending(SOON).unwrap();
    assert!(pihook.stop().0.success());
}

#[test]
fn a_panic_outside_of_the_handler_ends_the_process_and_marks_no_update() {
    let (telegram, bot, home, _memory) = remembering("panic-elsewhere");
    let pihook = home.run_for(&telegram);
    let said = bot.say(1, "thread");
    let last = aborted(pihook);
    assert!(
        last.starts_with("[ERROR] The program panicked at "),
        "{last}"
    );
    let pihook = calm(&home, &telegram);
    let line = pihook.wait_log("pihook stopped while it was answering this update");
    assert!(
        line.contains(&format!("update {}", said.update_id)),
        "{line}"
    );
    assert_eq!(bot.wait_sent(1, SOON).unwrap()[0].text, "thread");
}

#[test]
fn a_panic_without_a_tmpfs_says_that_runtime_dir_needs_one() {
    let (_telegram, bot, home, pihook) = crate::common::start();
    if crate::common::tool("stat", &["-f", "-c", "%T", "."], &home.folder)
        .stdout
        .starts_with(b"tmpfs")
    {
        return;
    }
    bot.say(1, "panic");
    let last = aborted(pihook);
    assert!(
        last.ends_with("set runtime_dir to a folder in memory (tmpfs), under /run."),
        "{last}"
    );
}
