use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::source::Source;
use super::*;

const TOKEN: &str = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw";
const OTHER: &str = "4839574812:AAFD39kkdpWt3ywyRZergyOLMaJhac60qcg";

/// Reads a settings file of this `text`, in an environment of these variables. Paths in the problems
/// are relative to its folder.
fn read(text: &str, variables: &[(&str, &str)]) -> (Config, Vec<String>) {
    let folder = std::env::temp_dir().join(format!("pihook-config-{}", unique_name(text)));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("pihook.toml");
    fs::write(&path, text).unwrap();
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    let (config, problems) = examine(&Source::File(path), &|name| {
        variables.get(name).map(OsString::from)
    });
    fs::remove_dir_all(&folder).unwrap();

    let folder = format!("{}/", folder.display());
    let problems = words(problems);
    let problems = problems.iter().map(|words| words.replace(&folder, ""));
    (config, problems.collect())
}

fn words(problems: Vec<Problem>) -> Vec<String> {
    problems.into_iter().map(|problem| problem.words).collect()
}

/// A name of its own for each test and text.
fn unique_name(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    format!(
        "{}-{:?}",
        crate::secret::hex(&digest.as_ref()[..8]),
        std::thread::current().id()
    )
}

fn problems(text: &str) -> Vec<String> {
    read(text, &[]).1
}

#[test]
fn every_setting_but_the_token_has_a_default() {
    let (config, problems) = read("", &[("TELEGRAM_BOT_TOKEN", TOKEN)]);
    assert_eq!(problems, [""; 0]);
    assert_eq!(
        config.webhook_url(&config.bots[0], "80.100.95.20").expose(),
        format!("https://80.100.95.20:8443/{TOKEN}/")
    );
    assert_eq!(
        (config.delivery, &config.public_host),
        (Delivery::Auto, &PublicHost::Auto)
    );
    assert_eq!(config.listen.to_string(), "0.0.0.0:8443");
    assert_eq!(config.api_url, "https://api.telegram.org");
    let networks: Vec<_> = config.allow_from.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["149.154.160.0/20", "91.108.4.0/22"]);
    assert_eq!(config.max_connections, 40);
    let certificate = &config.certificate_files.certificate;
    assert!(certificate.ends_with("certs/webhook_cert.pem") && certificate.is_absolute());
}

#[test]
fn state_dir_and_runtime_dir_come_from_systemd_unless_they_are_set() {
    let systemd = [
        ("STATE_DIRECTORY", "/var/lib/pihook"),
        ("RUNTIME_DIRECTORY", "/run/pihook"),
        ("TELEGRAM_BOT_TOKEN", TOKEN),
    ];
    let (config, _) = read(
        "public_host = 'pi.example.org'\nruntime_dir = '/elsewhere'",
        &systemd,
    );
    assert_eq!(config.state_dir, Path::new("/var/lib/pihook"));
    assert_eq!(config.runtime_dir, Path::new("/elsewhere"));
}

#[test]
fn all_problems_are_found_at_once_with_their_lines() {
    let text = format!(
        "public_host = '192.168.1.5'\npublic_port = 8444\nlisten = 'here'\nmax_connections = 0\nallow_from = ['1.2.3.4/40', 5]\n\
         typo = 1\n[[bot]]\ntoken = '{TOKEN}'\npath = 'no-slash'\n[[bot]]\ntoken = 7\n"
    );
    let expected = [
        "line 1: public_host 192.168.1.5 is a private or reserved address, which Telegram cannot reach: set your public address.",
        "public_port must be 443, 80, 88 or 8443: Telegram calls no other port.",
        "line 3: listen must be an address and a port, like 0.0.0.0:8443.",
        "line 5: allow_from has \"1.2.3.4/40\", which has a wrong number after the /: use 0 to 32, or 0 to 128 with IPv6.",
        "line 5: allow_from must hold strings, in quotes.",
        "line 4: max_connections must be a whole number from 1 to 100.",
        "path must begin with / and have at most",
        "line 11: token must be a string, in quotes.",
        "token_file is missing",
        "line 6: unknown setting \"typo\"",
    ];
    let found = problems(&text);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{found} / {expected}");
    }
}

#[test]
fn a_public_host_that_telegram_cannot_call_is_refused() {
    for host in [
        "",
        "::1",
        "2001:db8::1",
        "80.100.95.20:8443",
        "a..b",
        "http://a",
        "300.1.1.1",
        "a b",
        "127.0.0.1",
    ] {
        assert_eq!(
            read(
                &format!("public_host = '{host}'"),
                &[("TELEGRAM_BOT_TOKEN", TOKEN)]
            )
            .1
            .len(),
            1,
            "{host}"
        );
    }
    for host in ["80.100.95.20", "Pi.Example.org", "my-pi.dyn_dns.net"] {
        let (config, problems) = read(
            &format!("public_host = '{host}'"),
            &[("TELEGRAM_BOT_TOKEN", TOKEN)],
        );
        assert_eq!(
            (problems.len(), config.public_host),
            (0, PublicHost::Given(host.to_lowercase()))
        );
    }
}

#[test]
fn other_ports_and_http_need_an_own_bot_api_server() {
    let with = |api: &str, rest: &str| {
        problems(&format!(
            "public_host = '80.100.95.20'\napi_url = '{api}'\n{rest}\n[[bot]]\ntoken = '{TOKEN}'"
        ))
    };
    assert_eq!(
        with("http://127.0.0.1:8081/", "public_port = 5000"),
        [""; 0]
    );
    assert_eq!(
        with("https://API.telegram.org", "public_port = 5000").len(),
        1
    );
    assert_eq!(with("http://api.telegram.org", "").len(), 1);
    assert_eq!(with("http://api.telegram.org:80", "").len(), 1);
    for junk in [
        "",
        "api.telegram.org",
        "ftp://x",
        "https://",
        "https://a b",
        "https://u@h",
    ] {
        assert_eq!(with(junk, "").len(), 1, "{junk}");
    }
}

#[test]
fn two_bots_share_neither_token_nor_path() {
    let two = |first: &str, second: &str| {
        problems(&format!(
            "public_host = 'a.b'\n[[bot]]\n{first}\n[[bot]]\n{second}"
        ))
    };
    assert_eq!(
        two(&format!("token = '{TOKEN}'"), &format!("token = '{OTHER}'")),
        [""; 0]
    );
    assert!(
        two(&format!("token = '{TOKEN}'"), &format!("token = '{TOKEN}'"))[0]
            .contains("[[bot]] has the token of bot 110201543 again")
    );
    let paths = two(
        &format!("token = '{TOKEN}'\npath = '/x'"),
        &format!("token = '{OTHER}'\npath = '/x'"),
    );
    assert!(paths[0].contains("is the same for two bots"), "{paths:?}");
    for none in ["[]", "['x']", "[{}, 1]"] {
        let found = problems(&format!("public_host = 'a.b'\nbot = {none}"));
        assert!(
            found[0].contains("bot must be written as [[bot]]"),
            "{found:?}"
        );
    }
}

#[test]
fn the_token_comes_from_a_file_the_environment_or_a_credential() {
    let folder = std::env::temp_dir().join(format!("pihook-token-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("token"), format!("{TOKEN}\n")).unwrap();
    let text = |bot: &str| format!("public_host = 'a.b'\n[[bot]]\n{bot}");
    let folder_text = folder.display().to_string();
    for (bot, variables) in [
        (format!("token_file = '{folder_text}/token'"), vec![]),
        (String::new(), vec![("TELEGRAM_BOT_TOKEN", TOKEN)]),
        (
            String::new(),
            vec![("CREDENTIALS_DIRECTORY", folder_text.as_str())],
        ),
    ] {
        let (config, problems) = read(&text(&bot), &variables);
        assert_eq!(problems, [""; 0]);
        assert_eq!(config.bots[0].token.expose(), TOKEN);
    }
    fs::remove_dir_all(&folder).unwrap();
    assert!(problems(&text("token_file = '/nowhere/token'"))[0].contains("cannot be read"));
    assert!(
        problems(&text(&format!("token_file = 'x'\ntoken = '{TOKEN}'")))[0].contains("both set")
    );
    assert!(
        read(&text(""), &[("TELEGRAM_BOT_TOKEN", "nonsense")]).1[0]
            .contains("TELEGRAM_BOT_TOKEN holds no token")
    );
}

#[test]
fn no_token_shows_in_problems_or_settings() {
    let secret = TOKEN.split_once(':').unwrap().1;
    let good =
        format!("public_host = 'a.b'\n[[bot]]\ntoken = '{TOKEN}'\npath = '/x/{{token}}/y'\n");
    for text in [
        good.clone(),
        good.replace('\'', ""),
        good.replace("token = '", "token = '%"),
        good.replace("token = ", "tokn = "),
        good.replace("token = ", "token_file = "),
        good.replace("path = '/", "path = '"),
        format!("{good}{good}"),
        format!("public_host = '{TOKEN}'"),
        format!("bot = '{TOKEN}'"),
        format!("listen = '{TOKEN}'"),
    ] {
        let (config, problems) = read(&text, &[]);
        let shown = format!("{config}{config:?}{problems:?}");
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn a_toml_error_shows_its_line_number_and_not_the_line() {
    let found = problems("public_host = 'a.b'\ntoken = 110201543:AAH\n");
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("pihook.toml, line 2: "), "{found:?}");
}

#[test]
fn each_toml_error_gets_a_hint() {
    let found = problems(
        "public_host = 80.100.95.20\nlisten = 0.0.0.0:8443\n[[bot]]\ntoken = 110201543:AAH\n",
    );
    let expected = [
        "pihook.toml, line 1: public_host needs quotes: public_host = \"80.100.95.20\".",
        "pihook.toml, line 2: listen needs quotes: listen = \"0.0.0.0:8443\".",
        "pihook.toml, line 4: token needs quotes: token = \"…\".",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_setting_in_the_wrong_place_gets_its_right_place() {
    let found = problems(&format!(
        "[[bot]]\ntoken = '{TOKEN}'\npublic_host = 'a.b'\n"
    ));
    assert_eq!(
        found,
        [
            "pihook.toml, line 3: public_host is in the wrong place: move it above the first [[bot]]."
        ]
    );
    let found = problems(&format!("public_host = 'a.b'\ntoken = '{TOKEN}'\n"));
    assert!(
        found.contains(
            &"pihook.toml, line 2: token is in the wrong place: move it below [[bot]].".to_owned()
        ),
        "{found:?}"
    );
    for key in ["token_file = 'token'", "token = '1'"] {
        let found = problems(&format!("{key}\n[[bot]]\npath = '/a'\n"));
        assert!(
            found.len() == 1 && found[0].contains("is in the wrong place"),
            "it is not missing: {found:?}"
        );
    }
    let found = problems(&format!(
        "publichost = 'a.b'\nmax_connections = '40'\n[[bot]]\ntoken = '{TOKEN}'\n"
    ));
    let expected = [
        "line 2: max_connections must be a whole number from 1 to 100, without quotes.",
        "line 1: unknown setting \"publichost\": did you mean public_host?",
    ];
    for expected in expected {
        assert!(
            found.iter().any(|found| found.ends_with(expected)),
            "{found:?}"
        );
    }
}

#[test]
fn each_problem_of_a_value_has_its_line() {
    let found = problems(&format!(
        "public_host = 'a.b'\npublic_port = 8444\n[[bot]]\ntoken = '{TOKEN}'\npath = 'x'\n\n[[bot]]\n[[bot]]\ntoken_file = '/nowhere'\n\
         [[bot]]\ntoken = 'x'\n"
    ));
    let lines = [
        "line 2: public_port",
        "line 5: path",
        "line 7: token_file is missing",
        "line 9: token_file /nowhere",
        "line 11: token holds",
    ];
    assert_eq!(found.len(), lines.len(), "{found:#?}");
    for (found, line) in found.iter().zip(lines) {
        assert!(found.contains(line), "{found} / {line}");
    }
}

#[test]
fn files_with_a_mark_or_in_utf16_are_read() {
    let folder = std::env::temp_dir().join(format!("pihook-editors-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let utf16 = |text: &str| -> Vec<u8> {
        format!("\u{feff}{text}")
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect()
    };
    let settings = "public_host = 'a.b'\n[[bot]]\ntoken_file = 'token'\n";
    for settings in [format!("\u{feff}{settings}").into_bytes(), utf16(settings)] {
        for token in [
            utf16(TOKEN),
            format!("TELEGRAM_BOT_TOKEN=\"{TOKEN}\"\r\n").into_bytes(),
        ] {
            fs::write(folder.join("pihook.toml"), &settings).unwrap();
            fs::write(folder.join("token"), token).unwrap();
            let (config, problems) = examine(&Source::File(folder.join("pihook.toml")), &|_| None);
            assert_eq!(words(problems), [""; 0]);
            assert_eq!(config.bots[0].token.expose(), TOKEN);
        }
    }
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn without_a_settings_file_all_lies_in_own_folder() {
    let read = |variables: &[(&str, &str)]| {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        let (config, problems) = examine(&Source::Defaults, &|name| {
            variables.get(name).map(OsString::from)
        });
        (config, words(problems))
    };
    let token = ("TELEGRAM_BOT_TOKEN", TOKEN);
    for (variables, folder) in [
        (
            vec![("HOME", "/home/pi")],
            "/home/pi/.local/state/pihook/110201543",
        ),
        (
            vec![("HOME", "/home/pi"), ("XDG_STATE_HOME", "/x")],
            "/x/pihook/110201543",
        ),
        // The specification wants such a one ignored.
        (
            vec![("HOME", "/home/pi"), ("XDG_STATE_HOME", "x")],
            "/home/pi/.local/state/pihook/110201543",
        ),
        (
            vec![("STATE_DIRECTORY", "/var/lib/pihook")],
            "/var/lib/pihook",
        ),
    ] {
        let (config, problems) = read(&[&variables[..], &[token]].concat());
        assert_eq!(problems, [""; 0]);
        assert_eq!(config.own_folder.as_deref(), Some(Path::new(folder)));
        assert!(
            config.certificate_files.private_key.starts_with(folder)
                && config.runtime_dir.starts_with(folder)
        );
        assert!(config.state_dir.starts_with(folder));
    }
    for variables in [
        &[token][..],
        &[token, ("HOME", "here")],
        &[token, ("HOME", "")],
    ] {
        let (config, problems) = read(variables);
        assert!(
            problems[0].contains("Set HOME or XDG_STATE_HOME") && config.own_folder.is_none(),
            "{problems:?}"
        );
    }
    let (_, problems) = read(&[("HOME", "/home/pi"), ("TELEGRAM_BOT_TOKEN", "nonsense")]);
    assert!(
        problems[0].contains("TELEGRAM_BOT_TOKEN holds no token"),
        "{problems:?}"
    );
}

#[test]
fn a_settings_file_is_needed_only_without_a_token_in_the_environment() {
    let find = |given: Option<&str>, variables: &[(&str, &str)]| {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        find(given.map(PathBuf::from), &|name| {
            variables.get(name).map(OsString::from)
        })
        .map(|source| source.to_string())
    };
    assert_eq!(
        find(Some("a.toml"), &[("TELEGRAM_BOT_TOKEN", TOKEN)]).unwrap(),
        "a.toml"
    );
    assert_eq!(
        find(None, &[("PIHOOK_CONFIG", "b.toml")]).unwrap(),
        "b.toml"
    );
    assert_eq!(
        find(None, &[("TELEGRAM_BOT_TOKEN", TOKEN)]).unwrap(),
        "no settings file; the token is in TELEGRAM_BOT_TOKEN"
    );
    assert!(
        find(None, &[])
            .unwrap_err()
            .to_string()
            .contains("or put the bot's token into TELEGRAM_BOT_TOKEN")
    );
}

#[test]
fn consequences_name_the_address_services_and_the_port() {
    let told = |text: &str| {
        read(text, &[("TELEGRAM_BOT_TOKEN", TOKEN)])
            .0
            .consequences()
            .join("\n")
    };
    assert!(
        told("").contains("asks these services for your public address: https://api.ipify.org,")
    );
    assert!(told("").contains("does not change the router. Forward port 8443 yourself"));
    assert!(
        told("public_host = 'a.b'\nport_mapping = 'auto'")
            .contains("asks the router to open port 8443")
    );
    assert!(told("public_host = '80.100.95.20'").contains("asks no outside service"));
    assert!(told("delivery = 'polling'\nport_mapping = 'auto'").contains("opens no port"));
    assert_eq!(
        problems("delivery = 'poll'\n[[bot]]\ntoken = '1:a'").len(),
        1
    );
    assert_eq!(
        problems("delivery = 'polling'\naddress_services = []\n[[bot]]\ntoken = '1:a'"),
        [""; 0]
    );
}

#[test]
fn tls_off_has_the_defaults_of_a_reverse_proxy_on_this_machine() {
    let read = |text: &str| read(text, &[("TELEGRAM_BOT_TOKEN", TOKEN)]);
    let (config, problems) = read("tls = 'off'\npublic_host = 'bot.example.org'");
    assert_eq!(problems, [""; 0]);
    assert_eq!(
        (config.public_port, config.listen.to_string().as_str()),
        (443, "127.0.0.1:8443")
    );
    assert!(
        config.known().is_empty() && config.allow_from[0].contains("127.0.0.1".parse().unwrap())
    );
    assert!(
        config
            .consequences()
            .join(" ")
            .contains("plain HTTP at 127.0.0.1:8443")
    );
    assert_eq!(read("tls = 'off'\ndelivery = 'polling'").1, [""; 0]);
    assert!(read("tls = 'no'").1[0].contains("tls must be \"on\" or \"off\""));
}

#[test]
fn tls_off_needs_a_name_and_a_private_address_to_listen_at() {
    let read = |text: &str| read(text, &[("TELEGRAM_BOT_TOKEN", TOKEN)]);
    for (more, problem) in [
        ("", "public_host must be a DNS name when tls"),
        (
            "public_host = 'auto'",
            "public_host must be a DNS name when tls",
        ),
        (
            "public_host = '80.100.95.20'",
            "public_host must be a DNS name when tls",
        ),
        (
            "public_host = 'a.b'\nlisten = '0.0.0.0:8443'",
            "listen must be 127.0.0.1 or a private address",
        ),
        (
            "public_host = 'a.b'\nlisten = '80.100.95.20:8443'",
            "listen must be 127.0.0.1 or a private address",
        ),
        (
            "public_host = 'a.b'\nport_mapping = 'auto'",
            "port_mapping must be \"off\"",
        ),
        (
            "public_host = 'a.b'\npublic_port = 8444",
            "public_port must be 443, 80, 88 or 8443",
        ),
    ] {
        let found = read(&format!("tls = 'off'\n{more}")).1;
        assert!(
            found.len() == 1 && found[0].contains(problem),
            "{more}: {found:?}"
        );
    }
    for good in [
        "listen = '192.168.1.5:80'",
        "listen = '[::1]:8443'",
        "public_port = 8443",
        "address_services = []",
    ] {
        assert_eq!(
            read(&format!("tls = 'off'\npublic_host = 'a.b'\n{good}")).1,
            [""; 0],
            "{good}"
        );
    }
}

/// The proxy of these settings in this environment, as a message shows it; empty where there is none.
fn proxy(text: &str, variables: &[(&str, &str)]) -> String {
    let token = ("TELEGRAM_BOT_TOKEN", TOKEN);
    let (config, problems) = read(text, &[variables, &[token]].concat());
    assert!(
        !format!("{config}{config:?}{problems:?}").contains("s3cret"),
        "{text} {variables:?}"
    );
    assert_eq!(problems, [""; 0], "{text} {variables:?}");
    config
        .proxy
        .map(|proxy| proxy.to_string())
        .unwrap_or_default()
}

#[test]
fn the_proxy_comes_from_the_settings_or_the_environment() {
    let set = "proxy = 'socks5://me:s3cret@proxy.lan'";
    assert_eq!(proxy("", &[]), "");
    assert_eq!(
        proxy(set, &[("HTTPS_PROXY", "http://a:1")]),
        "socks5://proxy.lan:1080"
    );
    assert_eq!(
        proxy("proxy = ''", &[("HTTPS_PROXY", "http://a:1")]),
        "",
        "none, whatever the environment says"
    );
    for (variables, expected) in [
        (&[("HTTPS_PROXY", "http://me:s3cret@a:1")][..], "http://a:1"),
        (
            &[
                ("https_proxy", "a:1"),
                ("HTTPS_PROXY", "b:1"),
                ("ALL_PROXY", "c:1"),
            ],
            "http://a:1",
        ),
        (
            &[("HTTPS_PROXY", ""), ("ALL_PROXY", "socks5://c:1")],
            "socks5://c:1",
        ),
        (&[("all_proxy", "c:1")], "http://c:1"),
        (&[("HTTP_PROXY", "http://d:1")], ""),
        (
            &[("ALL_PROXY", "c:1"), ("NO_PROXY", "a.b,.telegram.org")],
            "",
        ),
        (&[("ALL_PROXY", "socks4://s3cret"), ("no_proxy", "*")], ""),
    ] {
        assert_eq!(proxy("", variables), expected, "{variables:?}");
    }
    assert_eq!(
        proxy(set, &[("NO_PROXY", "api.telegram.org")]),
        "",
        "it holds for the settings, too"
    );
    let local = "api_url = 'http://192.168.1.9:8081'";
    assert_eq!(
        proxy(local, &[("HTTPS_PROXY", "a:1"), ("ALL_PROXY", "c:1")]),
        "http://c:1"
    );
    assert_eq!(
        proxy(
            &format!("{set}\napi_url = 'http://[::1]:8081'"),
            &[("ALL_PROXY", "c:1")]
        ),
        ""
    );
}

#[test]
fn a_wrong_proxy_is_a_problem_without_its_password() {
    let token = ("TELEGRAM_BOT_TOKEN", TOKEN);
    for (text, variables, problem) in [
        (
            "proxy = 'ftp://me:s3cret@a'",
            &[][..],
            "line 1: proxy must be like http://",
        ),
        ("proxy = 5", &[], "line 1: proxy must be a string"),
        (
            "",
            &[("HTTPS_PROXY", "socks4://me:s3cret@a")],
            "HTTPS_PROXY must be like http://",
        ),
    ] {
        let (config, problems) = read(text, &[variables, &[token]].concat());
        assert!(
            problems.len() == 1 && problems[0].contains(problem),
            "{problems:?}"
        );
        assert!(!format!("{config:?}{problems:?}").contains("s3cret"));
    }
}
