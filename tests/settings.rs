//! The command line, the settings and the log, as a user meets them.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};

use crate::common::{HOST, Home, SOON, TOKEN, eventually, settings, telegram, text};

#[test]
fn check_finds_all_problems_at_once() {
    let home = Home::with(
        "public_host = '192.168.0.2'\npublic_port = 8444\ntypo = 1\n",
        "[[bot]]\ntoken_file = 'nowhere'\n",
    );
    home.write("certs/webhook_cert.pem", "nothing");
    home.write("certs/webhook_pkey.pem", "nothing");
    let output = home.pihook(&["check"]);
    assert_eq!(output.status.code(), Some(78));
    let said = text(&output);
    for part in [
        "192.168.0.2 is a private",
        "443, 80, 88 or 8443",
        "unknown setting \"typo\"",
        "token_file nowhere cannot be read",
        "does not contain a certificate",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(home.pihook(&["run"]).status.code(), Some(78));
}

#[test]
fn check_prints_the_settings_without_the_token() {
    let home = Home::new("http://127.0.0.1:8081");
    let output = home.pihook(&["check"]);
    assert!(output.status.success(), "{}", text(&output));
    let said = text(&output);
    for line in [
        "public_host      = \"80.100.95.20\"",
        "api_url          = \"http://127.0.0.1:8081\"",
        "max_connections  = 40",
        "token = \"110201543:***\"",
        "path  = \"/{token}/\"",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(!said.contains("AAHdq"));
    assert!(!home.folder.join("certs").exists(), "check changes nothing");
}

#[test]
fn settings_are_found_by_config_option_variable_or_folder() {
    let home = Home::new("http://127.0.0.1:1");
    let other = home.write(
        "other.toml",
        &(settings("http://127.0.0.1:2", "") + &format!("[[bot]]\ntoken = '{TOKEN}'\n")),
    );
    let said = |arguments: &[&str], variable: Option<&str>| {
        let mut command = home.command(arguments);
        if let Some(path) = variable {
            command.env("PIHOOK_CONFIG", path);
        }
        text(&command.output().unwrap())
    };
    assert!(said(&["check"], None).contains("http://127.0.0.1:1"));
    assert!(said(&["check", "--config", "other.toml"], None).contains("http://127.0.0.1:2"));
    assert!(said(&["check"], other.to_str()).contains("http://127.0.0.1:2"));
    assert!(
        said(&["check", "--config=pihook.toml"], other.to_str()).contains("http://127.0.0.1:1")
    );
    let missing = home.pihook(&["check", "--config", "missing.toml"]);
    assert_eq!(missing.status.code(), Some(78));
    assert!(
        text(&missing).contains("missing.toml cannot be read"),
        "{}",
        text(&missing)
    );
}

#[test]
fn a_token_from_the_environment_does_not_stay_there() {
    if std::env::var_os("PIHOOK_RUNNER").is_some() {
        println!("SKIPPED: an emulated program cannot start again");
        return;
    }
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let home = Home::with(&settings(&telegram.api_url(), ""), "");
    let mut command = home.command(&["run"]);
    command.env("TELEGRAM_BOT_TOKEN", TOKEN);
    let pihook = crate::common::Pihook::start(command);
    telegram.route(HOST, 8443, pihook.address);
    bot.say(42, "hello");
    bot.wait_sent(1, SOON).unwrap();
    // An emulated program may be unable to start again.
    let places = if std::env::var_os("PIHOOK_RUNNER").is_some() {
        &["cmdline"][..]
    } else {
        &["environ", "cmdline"]
    };
    for place in places {
        match std::fs::read(format!("/proc/{}/{place}", pihook.child.id())) {
            Ok(text) => assert!(
                !text
                    .windows(TOKEN.len())
                    .any(|part| part == TOKEN.as_bytes()),
                "{place}"
            ),
            // Only root may look into it at all.
            Err(error) => assert_eq!(
                (*place, error.kind()),
                ("environ", std::io::ErrorKind::PermissionDenied)
            ),
        }
    }
}

/// What a command with a token in this place says, where the token must not show; and its status.
fn hidden(command: &mut Command, place: &str) -> (String, ExitStatus) {
    let output = command.output().unwrap();
    let said = text(&output);
    assert!(!said.contains("AAHdq"), "{place}: {said}");
    (said, output.status)
}

/// Settings with the word TOKEN in place of every value, and in other places.
fn settings_with_tokens(base: &str) -> Vec<String> {
    let example = include_str!("../deploy/pihook.toml").replace("# ", "");
    let lines = example.lines().filter_map(|line| line.split_once(" = "));
    let keys: Vec<_> = lines
        .map(|(key, _)| key)
        .filter(|key| !key.contains(' '))
        .collect();
    assert!(
        keys.contains(&"allow_from") && keys.contains(&"token_file") && keys.len() == 18,
        "{keys:?}"
    );
    let mut cases = Vec::new();
    for key in keys {
        let others: String = base
            .lines()
            .filter(|line| !line.starts_with(key))
            .map(|line| format!("{line}\n"))
            .collect();
        let section = if ["token_file", "path"].contains(&key) {
            "[[bot]]\n"
        } else {
            ""
        };
        for value in [
            "'TOKEN'",
            "'./TOKEN'",
            "'https://x/botTOKEN'",
            "['TOKEN']",
            "TOKEN",
            "'TOKEN",
            "{ TOKEN = 1 }",
        ] {
            cases.push(format!("{others}{section}{key} = {value}\n"));
        }
    }

    for more in [
        "'TOKEN' = 1",
        "TOKEN = 1",
        "'TOKEN' = 1\n'TOKEN' = 2",
        "['TOKEN']",
        "[TOKEN]",
        "[[TOKEN]]",
        "['TOKEN']\n['TOKEN']",
        "listen.'TOKEN' = 1",
        "[[bot]]\n'TOKEN' = 1",
        "[bot]\n'TOKEN' = 1",
        "[[bot]]\ntoken = 'TOKEN'\n[[bot]]\ntoken = '1:x'\npath = '/TOKEN'",
        "TOKEN",
    ] {
        cases.push(format!("{base}{more}\n"));
    }
    cases
}

#[test]
fn a_token_in_the_wrong_place_of_the_settings_never_shows() {
    let home = Home::new("http://127.0.0.1:1");
    let cases = settings_with_tokens(&settings("http://127.0.0.1:1", ""));
    for case in cases {
        home.write("case.toml", &case.replace("TOKEN", TOKEN));
        for arguments in [&["check"][..], &["webhook", "info"]] {
            hidden(
                home.command(arguments).args(["--config", "case.toml"]),
                &case,
            );
        }
    }
}

#[test]
fn a_token_in_the_command_line_or_a_variable_never_shows() {
    let home = Home::new("http://127.0.0.1:1");
    for words in [
        "TOKEN",
        "--TOKEN",
        "-TOKEN",
        "--TOKEN=1",
        "run TOKEN",
        "webhook TOKEN",
        "--config TOKEN check",
        "--config=./TOKEN/pihook.toml run",
        "cert --host TOKEN",
        "cert --days TOKEN",
        "cert --force=TOKEN",
        "cert --out ./TOKEN --host a.b",
        // It is there already.
        "cert --out ./TOKEN --host a.b",
    ] {
        hidden(
            home.command(&[])
                .args(words.replace("TOKEN", TOKEN).split(' ')),
            words,
        );
    }

    let base = settings("http://127.0.0.1:1", "");
    home.write("bare.toml", &format!("{base}[[bot]]\n"));
    for name in [
        "PIHOOK_CONFIG",
        "STATE_DIRECTORY",
        "RUNTIME_DIRECTORY",
        "CREDENTIALS_DIRECTORY",
    ] {
        home.write(&format!("{TOKEN}/token"), "none");
        for config in [&["--config", "bare.toml"][..], &[]] {
            hidden(home.command(&["check"]).args(config).env(name, TOKEN), name);
        }
    }

    // The message about the file is there all the same.
    let (said, status) = hidden(home.command(&["check", "--config"]).arg(TOKEN), "--config");
    assert!(
        said.contains("110201543:*** cannot be read") && status.code() == Some(78),
        "{said}"
    );
}

#[test]
fn a_token_in_the_log_never_shows() {
    let home = Home::new("http://127.0.0.1:1");
    home.write(&format!("{TOKEN}/webhook-110201543/x"), "");
    let telegram = telegram();
    telegram.bot(TOKEN);
    home.write(
        "pihook.toml",
        &format!(
            "{}[[bot]]\ntoken = '{TOKEN}'\n",
            settings(&telegram.api_url(), "")
        ),
    );
    let mut command = home.command(&["run"]);
    command
        .env("STATE_DIRECTORY", TOKEN)
        .env("RUNTIME_DIRECTORY", format!("{TOKEN}/run"));
    let pihook = crate::common::Pihook::start(command);
    let line = pihook.wait_log("At the next start, the bot sets the webhook again");
    assert!(line.contains("110201543:***/webhook-110201543"), "{line}");
    assert!(!pihook.log().join("\n").contains("AAHdq"));
}

#[test]
fn check_masks_a_token_in_a_path_in_every_form() {
    let example = "123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11";
    for token in [TOKEN, example] {
        let (id, key) = token.split_once(':').unwrap();
        let every: String = token.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let encoded = key.replace('z', "%7A").replace('q', "%71");
        for path in [
            "ID%3AKEY",
            "ID%3aKEY",
            "ID%253AKEY",
            "KEY",
            "x-KEY-y",
            "ID/KEY",
            "ENCODED",
            "ID:ENCODED",
            "EVERY",
        ] {
            let path = path
                .replace("ID", id)
                .replace("ENCODED", &encoded)
                .replace("KEY", key)
                .replace("EVERY", &every);
            let bot = format!("[[bot]]\ntoken = '{token}'\npath = '/{path}/'\n");
            let home = Home::with(&settings("http://127.0.0.1:1", ""), &bot);
            let output = home.pihook(&["check"]);
            let said = text(&output);
            assert!(output.status.success() && said.contains("***"), "{said}");
            for secret in [key, &encoded, &every[9..], "%41%41%48"] {
                assert!(!said.contains(secret), "{path}: {said}");
            }
        }
    }
}

#[test]
fn the_token_may_be_in_a_file_beside_the_settings() {
    let home = Home::with(&settings("http://127.0.0.1:1", ""), "[[bot]]\n");
    let missing = home.pihook(&["check"]);
    assert!(
        text(&missing).contains("into a file named token next to the settings file"),
        "{}",
        text(&missing)
    );
    home.write("token", TOKEN);
    let found = home.pihook(&["check"]);
    assert!(found.status.success(), "{}", text(&found));
}

#[test]
fn a_wrong_command_line_shows_the_usage() {
    let home = Home::new("http://127.0.0.1:1");
    for arguments in [
        &["walk"][..],
        &[],
        &["run", "--loud"],
        &["cert", "--days", "x"],
        &["run", "--force"],
        &["webhook"],
        &["cert", "--days", "0"],
    ] {
        let output = home.pihook(arguments);
        assert_eq!(
            output.status.code(),
            Some(64),
            "{arguments:?}: {}",
            text(&output)
        );
        assert!(
            text(&output).contains("Usage: pihook init|run|"),
            "{arguments:?}"
        );
    }
    let help = home.pihook(&["--help"]);
    assert!(
        help.status.success() && help.stderr.is_empty() && text(&help).contains("pihook check")
    );
    assert!(text(&home.pihook(&["--version"])).starts_with("pihook "));
}

/// Wrong command lines, and the suggestion that each gets.
const TYPING_ERRORS: &[(&str, &str)] = &[
    (
        "chek",
        "Unknown command \"chek\". Did you mean `pihook check`?",
    ),
    (
        "webhook",
        "`pihook webhook` needs one more word: info, set or delete",
    ),
    (
        "webhook inof",
        "Unknown command \"webhook inof\". Did you mean `pihook webhook info`?",
    ),
    (
        "check now",
        "`pihook check` takes only options: remove \"now\".",
    ),
    ("help chek", "Did you mean `pihook check`?"),
    (
        "cert --days abc",
        "--days must be a whole number from 1 to 36500, not \"abc\".",
    ),
    (
        "cert --days 0",
        "--days must be a whole number from 1 to 36500",
    ),
    (
        "run --confg x",
        "Unknown option --confg. Did you mean --config?",
    ),
    ("walk", "Unknown command \"walk\"."),
    ("inti", "Did you mean `pihook init`?"),
    ("staus", "Did you mean `pihook status`?"),
    ("init --port-maping auto", "Did you mean --port-mapping?"),
    ("init --write-olny", "Did you mean --write-only?"),
    ("status --wiat", "Did you mean --wait?"),
    (
        "cert --days",
        "The command line is wrong: missing argument for option '--days'.",
    ),
    ("run --wait", "--wait works only with `pihook status`."),
    (
        "cert --host raspberrypi.local --config /dev/null",
        "--host is a name that works only in your home network",
    ),
    (
        "cert --host 192.168.1.5 --config /dev/null",
        "--host 192.168.1.5 is a private or reserved address",
    ),
];

#[test]
fn a_typing_error_gets_a_suggestion_in_two_lines() {
    let home = Home::new("http://127.0.0.1:1");
    for (arguments, words) in TYPING_ERRORS {
        let output = home
            .command(&[])
            .args(arguments.split(' '))
            .output()
            .unwrap();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(64), "{arguments}: {said}");
        assert!(
            said.contains(words) && said.lines().count() == 2,
            "{arguments}: {said}"
        );
    }
}

#[test]
fn help_for_one_command_has_two_lines() {
    let home = Home::new("http://127.0.0.1:1");
    for arguments in ["help cert", "cert --help"] {
        let said = text(
            &home
                .command(&[])
                .args(arguments.split(' '))
                .output()
                .unwrap(),
        );
        assert_eq!(
            said.lines().next(),
            Some("  pihook cert [--config FILE] [--host HOST] [--days N] [--out DIR] [--force]"),
            "{said}"
        );
        assert_eq!(said.lines().count(), 2);
    }
}

#[test]
fn a_closed_or_full_output_does_not_panic() {
    let home = Home::new("http://127.0.0.1:1");
    for arguments in [
        &["doctor"][..],
        &["doctor", "--json"],
        &["check"],
        &["help"],
        &["walk"],
    ] {
        let output = |to: std::process::Stdio| {
            let command = &mut home.command(arguments);
            let child = command
                .stdout(to)
                .stderr(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(
                !text(&output).contains("panicked"),
                "{arguments:?}: {}",
                text(&output)
            );
            assert!(
                output.status.code().is_some_and(|code| code != 101),
                "{arguments:?}: {output:?}"
            );
            output
        };
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        output(writer.into());
        let full = output(
            File::options()
                .write(true)
                .open("/dev/full")
                .unwrap()
                .into(),
        );
        if arguments != ["walk"] {
            assert!(
                text(&full).contains("Cannot write the output: No space left"),
                "{arguments:?}: {}",
                text(&full)
            );
            assert_eq!(full.status.code(), Some(1));
        }
        // Nor is it one where the errors go.
        let mut command = home.command(arguments);
        command
            .stdout(std::process::Stdio::null())
            .stderr(File::options().write(true).open("/dev/full").unwrap());
        assert_ne!(command.status().unwrap().code(), Some(101), "{arguments:?}");
    }
}

#[test]
fn an_unreadable_token_file_gets_the_advice_sudo() {
    let home = Home::with(
        &settings("http://127.0.0.1:1", ""),
        "[[bot]]\ntoken_file = 'token'\n",
    );
    home.write("token", TOKEN);
    std::fs::set_permissions(home.folder.join("token"), PermissionsExt::from_mode(0o000)).unwrap();
    for arguments in [&["check"][..], &["doctor"]] {
        let mut command = home.command(arguments);
        if home.folder.metadata().unwrap().uid() == 0 {
            // Root may read all; somebody else may not even see the folder of the build.
            let binary = home.folder.join("pihook");
            // By cp: a file that this process has written is busy while another test forks.
            let copied = Command::new("cp")
                .arg(command.get_program())
                .arg(&binary)
                .status()
                .unwrap();
            assert!(copied.success());
            command = Command::new(binary);
            command
                .args(arguments)
                .current_dir(&home.folder)
                .env_clear()
                .uid(65534)
                .gid(65534);
        }
        let said = text(&command.output().unwrap());
        assert!(
            said.contains("token_file token cannot be read") && said.contains("sudo"),
            "{said}"
        );
        assert!(!said.contains("correct it"), "{said}");
    }
}

#[test]
fn a_taken_port_names_the_program_that_uses_it() {
    let home = Home::new("http://127.0.0.1:1");
    // Another program has the port: what this one listens at, any child of it holds, too, until it
    // executes its program.
    let other_home = Home::new("http://127.0.0.1:1");
    let other = other_home.run();
    let listen = format!("listen = '{}'", other.address);
    home.write(
        "pihook.toml",
        &home
            .read("pihook.toml")
            .replace("listen = '127.0.0.1:0'", &listen),
    );
    let output = home.pihook(&["run"]);
    let said = text(&output);
    assert!(
        said.contains(&format!("(process {}) uses the port", other.child.id())),
        "{said}"
    );
    assert!(
        output.status.code() == Some(1) && said.lines().count() == 1,
        "{said}"
    );
}

#[test]
fn the_log_has_times_for_a_person_and_priorities_for_the_journal() {
    let home = Home::new("http://127.0.0.1:1");
    let pihook = home.run();
    let line = pihook.wait_log("Listening on");
    assert!(
        line.starts_with("20") && line.contains("Z [INFO] Listening on"),
        "{line}"
    );
    drop(pihook);

    // systemd names the device and inode of the stream that it reads.
    let path = home.folder.join("journal");
    let journal = File::create(&path).unwrap();
    let file = journal.metadata().unwrap();
    let mut command = home.command(&["run"]);
    command
        .env("JOURNAL_STREAM", format!("{}:{}", file.dev(), file.ino()))
        .stderr(journal);
    let mut child = command.spawn().unwrap();
    eventually("two lines in the journal", || {
        let text = std::fs::read_to_string(&path).unwrap();
        [
            "<6>Listening on ",
            "<4>bot 110201543: the webhook is not registered",
        ]
        .iter()
        .all(|start| text.lines().any(|line| line.starts_with(start)))
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Whether this test runs as root, as it must to give files to others; it says so if not.
fn is_root() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        println!("SKIPPED: only root can give files to other users");
    }
    is_root
}

const SOMEBODY: u32 = 12345;

/// As root.
#[test]
fn root_reads_no_settings_that_another_user_can_change() {
    if !is_root() {
        return;
    }
    type Change = fn(&Home);
    let changes: [(&str, Change); 6] = [
        ("another's file", |home| {
            chown(home.folder.join("pihook.toml"), Some(SOMEBODY), None).unwrap();
        }),
        ("another's folder", |home| {
            chown(&home.folder, Some(SOMEBODY), None).unwrap();
        }),
        ("a folder for all", |home| mode(&home.folder, 0o777)),
        ("a folder for all, as /tmp", |home| {
            mode(&home.folder, 0o1777);
        }),
        ("a file for all", |home| {
            mode(&home.folder.join("pihook.toml"), 0o666);
        }),
        ("a link of another's", |home| {
            let link = home.folder.join("pihook.toml");
            std::fs::rename(&link, home.folder.join("elsewhere")).unwrap();
            std::os::unix::fs::symlink("elsewhere", &link).unwrap();
            lchown(&link, Some(SOMEBODY), None).unwrap();
        }),
    ];
    for (what, change) in changes {
        let telegram = telegram();
        let bot = telegram.bot(TOKEN);
        let home = Home::new(&telegram.api_url());
        home.write_private("token", TOKEN);
        assert!(
            text(&home.pihook(&["doctor"])).contains("✓ settings"),
            "{what}"
        );
        let before = bot.calls().len();
        change(&home);
        for arguments in [
            &["doctor"][..],
            &["check"],
            &["webhook", "info"],
            &["webhook", "set"],
            &["run"],
            &["cert"],
        ] {
            let output = home.pihook(arguments);
            let said = text(&output);
            assert!(
                !output.status.success() && said.contains("--config ./pihook.toml"),
                "{what}, {arguments:?}: {said}"
            );
        }
        assert_eq!(bot.calls().len(), before, "{what}: nobody gets the token");
        // A person may say that it is right.
        let named = text(&home.pihook(&["doctor", "--config", "./pihook.toml"]));
        assert!(named.contains("✓ settings"), "{what}: {named}");
    }
}

/// As root.
#[test]
fn files_that_root_writes_belong_to_the_owner_of_the_folder() {
    if !is_root() {
        return;
    }
    let telegram = telegram();
    telegram.bot(TOKEN);
    let home = Home::new(&telegram.api_url());
    let owner = |name: &str| {
        let there = home.folder.join(name).metadata().unwrap();
        (there.uid(), there.gid(), there.mode() & 0o777)
    };
    let state = home.folder.join("state");
    std::fs::create_dir(&state).unwrap();
    chown(&state, Some(SOMEBODY), Some(SOMEBODY + 1)).unwrap();
    let settings = format!(
        "certificate = 'state/certs/cert.pem'\nprivate_key = 'state/certs/key.pem'\n{}",
        home.read("pihook.toml")
    );
    home.write("pihook.toml", &settings);
    assert!(home.pihook(&["cert"]).status.success());
    assert_eq!(owner("state/certs"), (SOMEBODY, SOMEBODY + 1, 0o755));
    let files = ["state/certs/cert.pem", "state/certs/key.pem"];
    assert_eq!(
        files.map(owner),
        [
            (SOMEBODY, SOMEBODY + 1, 0o644),
            (SOMEBODY, SOMEBODY + 1, 0o600)
        ]
    );
    let output = home.pihook(&["webhook", "set"]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(
        owner("state/webhook-110201543"),
        (SOMEBODY, SOMEBODY + 1, 0o600)
    );
    // What is replaced keeps its owner, whosever the folder is.
    chown(home.folder.join(files[1]), Some(SOMEBODY + 2), None).unwrap();
    assert!(home.pihook(&["cert", "--force"]).status.success());
    assert_eq!(
        files.map(owner),
        [
            (SOMEBODY, SOMEBODY + 1, 0o644),
            (SOMEBODY + 2, SOMEBODY + 1, 0o600)
        ]
    );
}

#[test]
fn a_runtime_dir_that_was_there_is_checked_and_not_changed() {
    let home = Home::new("http://127.0.0.1:1");
    let folder = home.folder.join("run");
    std::fs::create_dir(&folder).unwrap();
    let is = |mode: u32| assert_eq!(folder.metadata().unwrap().mode() & 0o7777, mode);
    for open in [0o755, 0o700, 0o711] {
        mode(&folder, open);
        drop(home.run());
        is(open);
        assert_eq!(
            folder
                .join("workers.sock")
                .symlink_metadata()
                .unwrap()
                .mode()
                & 0o777,
            0o600,
            "for us alone"
        );
    }
    for open in [0o777, 0o1777, 0o702] {
        mode(&folder, open);
        let output = home.pihook(&["run"]);
        let said = text(&output);
        assert!(
            output.status.code() == Some(78)
                && said.contains("Other users can write to runtime_dir run"),
            "{said}"
        );
        is(open);
    }
    std::fs::remove_dir_all(&folder).unwrap();
    drop(home.run());
    is(0o700);
}

fn mode(path: &std::path::Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
