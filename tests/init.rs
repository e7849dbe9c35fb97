//! `pihook init`: what it asks, checks and writes; and it changes only the settings that are
//! answered.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Output, Stdio};

use crate::common::{HOST, Home, OTHER_TOKEN, TOKEN, eventually, telegram, text};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;

/// Runs `pihook init ARGUMENTS` on the settings of the home, with `input` on standard input.
fn init(home: &Home, arguments: &[&str], input: &str) -> Output {
    let settings = home.folder.join("pihook.toml");
    let mut command = home.command(&["init", "--config", settings.to_str().unwrap()]);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // The program may end before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn succeeds(output: &Output) -> String {
    let said = text(output);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains(TOKEN.split(':').nth(1).unwrap()), "{said}");
    said
}

fn mode(home: &Home, name: &str) -> u32 {
    fs::metadata(home.folder.join(name))
        .unwrap()
        .permissions()
        .mode()
        & 0o777
}

#[test]
fn init_writes_the_answers_and_changes_nothing_else() {
    let telegram = telegram();
    telegram.bot(TOKEN);
    telegram.bot(OTHER_TOKEN);
    let api = format!(
        "# mine\napi_url = '{}'\n# port_mapping = \"off\"\n",
        telegram.api_url()
    );
    let home = Home::with(&api, "");
    // The questions in their order: token, router, host.
    let said = succeeds(&init(
        &home,
        &["--write-only"],
        &format!("{TOKEN}\ny\n{HOST}\n"),
    ));
    assert!(said.contains("The token belongs to @"), "{said}");
    assert_eq!(
        (home.read("token"), mode(&home, "token")),
        (format!("{TOKEN}\n"), 0o600)
    );
    assert_eq!(mode(&home, "pihook.toml"), 0o644);
    let settings = home.read("pihook.toml");
    assert!(
        settings.contains("\nport_mapping = \"auto\"\n"),
        "{settings}"
    );
    assert!(
        settings.contains("# mine\n") && settings.contains(&format!("public_host = \"{HOST}\"\n")),
        "{settings}"
    );
    assert!(succeeds(&home.pihook(&["check"])).contains("\"110201543:***\""));

    // Nothing is answered: nothing changes.
    for input in ["", "\n\n\n"] {
        succeeds(&init(&home, &["--write-only"], input));
        assert_eq!(
            (home.read("token"), home.read("pihook.toml")),
            (format!("{TOKEN}\n"), settings.clone())
        );
    }
    // What an option answers is not asked: the one line is for the token.
    succeeds(&init(
        &home,
        &[
            "--write-only",
            "--host",
            "home.example.org",
            "--port-mapping",
            "off",
        ],
        "\n",
    ));
    assert_eq!(home.read("token"), format!("{TOKEN}\n"));
    let changed = settings
        .replace(HOST, "home.example.org")
        .replace("\"auto\"", "\"off\"");
    assert_eq!(home.read("pihook.toml"), changed);
    succeeds(&init(&home, &["--write-only"], &format!("{OTHER_TOKEN}\n")));
    assert_eq!(
        (home.read("token"), home.read("pihook.toml")),
        (format!("{OTHER_TOKEN}\n"), changed)
    );
}

#[test]
fn init_with_a_wrong_answer_changes_nothing_and_does_not_show_it() {
    let telegram = telegram();
    telegram.bot(TOKEN);
    let api = format!("api_url = '{}'\n", telegram.api_url());
    let home = Home::with(&api, "");
    let before = home.read("pihook.toml");
    for (input, complaint) in [
        ("", "The token is missing"),
        ("\n", "The token is missing"),
        ("this-is-no-token\n", "This is not a token"),
        (
            &format!("{OTHER_TOKEN}\n"),
            "Telegram does not accept this token",
        ),
        (&format!("{TOKEN}\nperhaps-so\n"), "must be y or n"),
        (
            &format!("{TOKEN}\ny\nhttps://home.example.org\n"),
            "is a URL",
        ),
    ] {
        let output = init(&home, &["--write-only"], input);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains(complaint) && said.contains("Nothing was changed."),
            "{complaint}: {said}"
        );
        for answer in input.lines().filter(|answer| answer.len() > 1) {
            assert!(!said.contains(answer), "{answer}: {said}");
        }
        assert_eq!(home.read("pihook.toml"), before);
        assert!(!home.folder.join("token").exists());
    }
    // Settings that are wrong already stay as they are.
    let broken = home.write("pihook.toml", &format!("{before}no_setting = 1\n"));
    let output = init(&home, &["--write-only"], &format!("{TOKEN}\ny\n{HOST}\n"));
    assert!(
        text(&output).contains("unknown setting \"no_setting\""),
        "{}",
        text(&output)
    );
    assert_eq!(
        fs::read_to_string(broken).unwrap(),
        format!("{before}no_setting = 1\n")
    );
    assert!(!home.folder.join("token").exists());
}

#[test]
fn init_keeps_a_token_that_telegram_cannot_check_now() {
    let home = Home::with("api_url = 'http://127.0.0.1:9'\n", "");
    let said = succeeds(&init(&home, &["--write-only"], &format!("{TOKEN}\nn\n\n")));
    assert!(
        said.contains("pihook could not check the token at Telegram"),
        "{said}"
    );
    assert_eq!(home.read("token"), format!("{TOKEN}\n"));
}

#[test]
fn init_writes_the_token_to_the_token_file_of_the_settings() {
    let home = Home::with(
        "api_url = 'http://127.0.0.1:9'\n",
        "[[bot]]\ntoken_file = 'secret/mine'\n",
    );
    fs::create_dir(home.folder.join("secret")).unwrap();
    let before = home.read("pihook.toml");
    succeeds(&init(&home, &["--write-only"], &format!("{TOKEN}\n")));
    assert_eq!(
        (home.read("secret/mine"), mode(&home, "secret/mine")),
        (format!("{TOKEN}\n"), 0o600)
    );
    succeeds(&init(&home, &["--write-only"], &format!("{OTHER_TOKEN}\n")));
    assert_eq!(
        (home.read("secret/mine"), home.read("pihook.toml")),
        (format!("{OTHER_TOKEN}\n"), before)
    );
}

#[test]
fn init_refuses_a_second_token_beside_one_in_the_settings() {
    let telegram = telegram();
    telegram.bot(TOKEN);
    let home = Home::new(&telegram.api_url());
    let before = home.read("pihook.toml");
    let output = init(&home, &["--write-only"], &format!("{TOKEN}\n"));
    assert!(
        text(&output).contains("Remove that line"),
        "{}",
        text(&output)
    );
    assert!(!home.folder.join("token").exists());
    succeeds(&init(&home, &["--write-only"], ""));
    assert_eq!(home.read("pihook.toml"), before);
}

#[test]
fn a_signal_at_the_hidden_question_restores_the_echo_of_the_terminal() {
    let home = Home::with("api_url = 'http://127.0.0.1:9'\n", "");
    let terminal = openpty(None, None).unwrap();
    let mut command = home.command(&["init", "--write-only", "--config"]);
    command
        .arg(home.folder.join("pihook.toml"))
        .stdin(terminal.slave.try_clone().unwrap());
    let echoes = || {
        tcgetattr(&terminal.slave)
            .unwrap()
            .local_flags
            .contains(LocalFlags::ECHO)
    };
    assert!(echoes());
    let mut child = command
        .stderr(terminal.slave.try_clone().unwrap())
        .spawn()
        .unwrap();
    eventually("the question is asked", || !echoes());
    // SIGTERM: tests that a shell runs in the background ignore SIGINT, and their children do so,
    // too.
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(15));
    assert!(echoes());
}

#[test]
fn init_checks_its_options_before_it_asks() {
    let home = Home::with("", "");
    fs::remove_file(home.folder.join("pihook.toml")).unwrap();
    for (flags, complaint) in [
        (
            ["--port-mapping", "sometimes"],
            "--port-mapping must be \"auto\" or \"off\"",
        ),
        (
            ["--host", "10.0.0.1"],
            "--host 10.0.0.1 is a private or reserved address",
        ),
    ] {
        let output = init(&home, &flags, "");
        assert!(text(&output).contains(complaint), "{}", text(&output));
        assert_eq!(fs::read_dir(&home.folder).unwrap().count(), 0);
    }
}
