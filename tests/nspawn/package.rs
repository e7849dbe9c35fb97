//! The Debian package: installed, set up, upgraded, removed, purged, and moved over from deploy.sh
//! and to it.

use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::pi::{self, HOST, eventually, text};
use crate::{Load, TOKEN, Test, succeeds, units};

const ROUTER: &str = "May pihook ask your router to forward the port to this machine?";
const HOME: &str = "Your public IPv4 address or domain name, if it never changes (press Enter if you do not know: \
                    pihook finds the address):";
const INSTALL: &str = "DEBIAN_FRONTEND=noninteractive apt-get install -y /packages/pihook.deb";
/// Prints what an upgrade and a removal keep: the settings, the token and the certificate.
const KEPT: &str = "cat /etc/pihook/pihook.toml /etc/pihook/token /var/lib/pihook/webhook_cert.pem";

/// The last lines of `pihook init` for a bot that gets updates.
fn it_runs() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let name = "number_7205550123_bot";
    format!("pihook {version} is running. Write to @{name}: https://t.me/{name}\n")
}

pub fn from_deploy(test: &mut Test) {
    fs::create_dir(test.pi.file("root/packages")).unwrap();
    fs::copy(&test.package, test.pi.file("root/packages/pihook.deb")).unwrap();
    let said = test.pi.try_run(INSTALL).unwrap_err();
    assert!(
        said.contains("deploy/deploy.sh THIS_MACHINE --remove"),
        "{said}"
    );
    test.echo();
    let kept = test.pi.run(KEPT);
    assert!(succeeds(&test.pi.deploy(&["--remove"], "")).contains("Its settings are kept"));
    assert_eq!(units(test), "");
    // The settings of deploy.sh are there: the package starts the bot without `pihook init`.
    let said = test.pi.run(INSTALL);
    assert!(!said.contains("pihook init"), "{said}");
    test.echo();
    assert_eq!(test.pi.run(KEPT), kept);
    test.pi
        .run("test \"$(command -v pihook)\" = /usr/bin/pihook");
    test.power_cut_and_echo();
    let output = test.pi.deploy(&["--binary", &test.binary], "");
    assert_eq!(output.status.code(), Some(69), "{}", text(&output));
    assert!(
        text(&output).contains("sudo apt remove pihook"),
        "{}",
        text(&output)
    );
    let output = test.pi.deploy(&["--status"], "");
    assert!(
        text(&output).contains("pihook is installed on the Pi as a package"),
        "{}",
        text(&output)
    );
    test.echo();
}

pub fn upgrade_under_load(test: &mut Test) {
    let tree = test.pi.file("tree");
    let other = test.other(b"2");
    let repack = format!(
        "dpkg-deb --raw-extract {package} {tree} && cp {other} {tree}/usr/bin/pihook &&
        sed -i 's/^Version: .*/&+1/' {tree}/DEBIAN/control && dpkg-deb --root-owner-group -Znone --build {tree} {new}",
        package = test.package.display(),
        tree = tree.display(),
        new = test.pi.file("root/packages/newer.deb").display()
    );
    succeeds(&pi::run(Command::new("bash").args(["-c", &repack]), ""));
    let before = test.pi.property("MainPID");
    let load = Load::start(&test.bot);
    thread::sleep(Duration::from_secs(1));
    test.pi.run(&INSTALL.replace("pihook.deb", "newer.deb"));
    thread::sleep(Duration::from_secs(1));
    assert_eq!(load.end(), 0);
    assert_ne!(test.pi.property("MainPID"), before);
    assert!(test.pi.run("dpkg --status pihook").contains("+1\n"));
    // An upgrade does not start a bot that somebody has stopped.
    test.pi.run("systemctl stop pihook.socket pihook.service");
    test.pi
        .run(&INSTALL.replace("install", "install --allow-downgrades"));
    assert_eq!(test.pi.property("ActiveState"), "inactive");
    test.pi.run("systemctl start pihook.socket pihook.service");
    test.echo();
}

pub fn removal(test: &mut Test) {
    let kept = test.pi.run(KEPT);
    test.pi.run("apt-get remove -y pihook");
    assert_eq!((units(test), test.pi.run(KEPT)), (String::new(), kept));
    test.pi.run(
        "! ss -ltn 2>/dev/null | grep :8443; ! test -e /usr/bin/pihook; ! pgrep --exact pihook",
    );
}

pub fn to_deploy(test: &mut Test) {
    let kept = test.pi.run(KEPT);
    succeeds(&test.deploy(&test.binary));
    test.echo();
    // The settings belong to deploy.sh now: a purge of the package leaves them.
    test.pi.run("dpkg --purge pihook");
    test.echo();
    assert_eq!(test.pi.run(KEPT), kept);
    test.power_cut_and_echo();
    succeeds(&test.pi.deploy(&["--remove"], ""));
}

pub fn purge(test: &mut Test) {
    test.pi.run(INSTALL);
    test.echo();
    test.pi.run("apt-get purge -y pihook");
    assert_eq!(units(test), "");
    assert_eq!(
        test.pi
            .run("find / -xdev -path /packages -prune -o -iname '*pihook*' -print; find /run /tmp -iname '*pihook*'"),
        ""
    );
}

pub fn first_installation(test: &mut Test) {
    let start = Instant::now();
    let said = test.pi.run(INSTALL);
    assert!(said.contains("Now run: sudo pihook init"), "{said}");
    let installed = start.elapsed();
    waits_for_init(test);

    let begin = Instant::now();
    answer_the_questions(test);
    let took = begin.elapsed();
    test.echo();
    println!(
        "          apt install took {:.1} s, pihook init {:.1} s; {:.1} s from apt install to the first echo",
        installed.as_secs_f64(),
        took.as_secs_f64(),
        (installed + begin.elapsed()).as_secs_f64()
    );

    assert_eq!(
        test.pi
            .run("stat -c '%a %U' /etc/pihook /etc/pihook/token /etc/pihook/pihook.toml"),
        "755 root\n600 root\n644 root"
    );
    assert!(
        test.pi
            .run("pihook status")
            .contains("delivery     webhook: Telegram reaches this Pi")
    );
    test.pi
        .run("runuser -u pi -- pihook status 2>&1 | grep 'Run the command with sudo'");
}

/// A bot without settings does not run, and every command names `pihook init`.
fn waits_for_init(test: &Test) {
    assert_eq!(test.pi.property("ActiveState"), "inactive");
    // Nothing has failed, and nothing tries again and again.
    test.pi.run("systemctl start pihook.socket pihook.service && ! systemctl is-failed pihook.socket pihook.service");
    assert!(
        test.pi
            .try_run("pihook status")
            .unwrap_err()
            .contains("pihook is not set up")
    );
    let (_, shown) = test.pi.type_in_as_root("pihook run", &[]);
    assert!(
        shown.contains("Run `sudo pihook init`: it asks for the missing settings."),
        "{shown}"
    );

    // A user who may not write the settings is told so before any question.
    assert!(
        test.pi
            .try_run("runuser -u pi -- pihook init </dev/null")
            .unwrap_err()
            .contains("Run it with sudo.")
    );
}

/// `pihook init` on a terminal, with a wrong answer for the token and for the host.
fn answer_the_questions(test: &Test) {
    // Telegram holds the webhook of the steps before: for the new bot it is that of another program.
    let answers = ["not-a-token", TOKEN, "n", "10.0.0.1", HOST];
    let (succeeded, shown) = test.pi.type_in_as_root("pihook init", &answers);
    assert!(succeeded, "{shown}");

    let (dialogue, code) = shown.split_at(shown.find("\x1b[30;107m").unwrap());
    assert_eq!(
        dialogue.replace("\r\n", "\n"),
        format!(
            "The bot's token, from @BotFather (hidden): \n\
             This is not a token: the answer holds no token: copy the token from BotFather (a token is a number, a colon and 35 characters: letters, digits, - or _).\n\
             The bot's token, from @BotFather (hidden): \n\
             The token belongs to @number_7205550123_bot.\n\
             {ROUTER} [Y/n] n\n\
             {HOME} 10.0.0.1\n\
             The host name or address is a private or reserved address, which Telegram cannot reach: set your public \
             address.\n\
             {HOME} {HOST}\n\
             Waiting for Telegram, at most 45 s…\n\
             {}",
            it_runs()
        )
    );
    // Nothing comes after the QR code of the link.
    let is_of_the_code = |line: &str| line.starts_with("\x1b[30;107m") && line.ends_with("\x1b[0m");
    assert!(
        code.contains("█▀▀▀▀▀█") && code.lines().all(is_of_the_code),
        "{code}"
    );
}

pub fn init_again(test: &mut Test) {
    let kept = test.pi.run(KEPT);
    let running = test.pi.property("InvocationID");
    let said = test.pi.run("pihook init </dev/null");
    assert_eq!(
        said + "\n",
        format!("{}Waiting for Telegram, at most 45 s…\n", it_runs())
    );
    assert_eq!(
        (test.pi.run(KEPT), test.pi.property("InvocationID")),
        (kept.clone(), running.clone())
    );
    // An option changes its own setting alone.
    let said =
        test.pi.run("pihook init --host 80.100.95.21 --write-only </dev/null && pihook check | grep public_host");
    assert!(said.contains("80.100.95.21"), "{said}");
    assert_eq!(test.pi.run(KEPT), kept.replace(HOST, "80.100.95.21"));
    test.pi
        .run(&format!("pihook init --host {HOST} </dev/null"));
    assert_eq!(test.pi.run(KEPT), kept);
    assert_ne!(test.pi.property("InvocationID"), running);
    test.echo();
    // A token_file in the settings is refused: systemd hands the unit /etc/pihook/token alone, and
    // the unit's user can read no other file of root's.
    test.pi.run("cd /etc/pihook && cp -p pihook.toml kept && sed -i 's/^# token_file/token_file/' pihook.toml");
    let said = test
        .pi
        .try_run_with("pihook init", format!("{TOKEN}\n").as_bytes())
        .unwrap_err();
    assert!(
        said.contains("Remove that line") && said.contains("Nothing was changed."),
        "{said}"
    );
    test.pi.run("cd /etc/pihook && mv kept pihook.toml");
    assert_eq!(test.pi.run(KEPT), kept);
}

/// After a start that fails, `pihook init` shows the doctor's reason, or else names the log. It shows
/// nothing that systemctl says, and does not wait for a bot that has ended.
pub fn init_in_vain(test: &mut Test) {
    let stop = "systemctl stop pihook.socket pihook.service";
    test.pi.run(stop);
    let other = TcpListener::bind(("0.0.0.0", 8443)).unwrap();
    let cross = "\x1b[31m✗\x1b[0m listener: a program of another user listens at 0.0.0.0:8443, but does not answer like the bot: \
                 Resource temporarily unavailable (os error 11)\n    → if this program is the bot, restart the bot; if not, \
                 stop the other program, or set another port in listen\n";
    assert_eq!(shown_in_vain(test), cross);
    drop(other);

    let drop_in = "/run/systemd/system/pihook.service.d";
    test.pi.run(&format!(
        "{stop}; mkdir -p {drop_in} && printf '[Service]\\nExecStartPre=/bin/false\\n' >{drop_in}/fails.conf && systemctl daemon-reload"
    ));
    let sentence = "The settings are saved, but the bot does not start. Run `sudo journalctl -u pihook -n 20`: the last lines \
                    name the reason and what to do.\n";
    assert_eq!(shown_in_vain(test), sentence);

    test.pi.run(&format!(
        "rm -r {drop_in} && systemctl daemon-reload && systemctl start pihook.socket pihook.service"
    ));
    test.echo();
}

/// What the screen shows behind the questions of an init that changes nothing and fails.
fn shown_in_vain(test: &Test) -> String {
    let begin = Instant::now();
    let (succeeded, shown) = test.pi.type_in_as_root("pihook init", &["", "", ""]);
    assert!(
        !succeeded && begin.elapsed() < Duration::from_secs(30),
        "{:?}: {shown}",
        begin.elapsed()
    );
    let questions = [
        "The bot's token (hidden; press Enter to keep the old token): \n",
        &format!("{ROUTER} [y/n; press Enter to keep the setting] \n"),
        &format!(
            "{} to keep the setting): \n",
            HOME.split(" if you").next().unwrap()
        ),
    ];
    let shown = shown.replace("\r\n", "\n");
    shown
        .strip_prefix(&questions.concat())
        .unwrap_or_else(|| panic!("{shown}"))
        .to_owned()
}

pub fn revoked(test: &mut Test) {
    // The Bot API does not know this token.
    let kept = test.pi.run("cat /etc/pihook/token");
    test.pi.run(
        "echo 7205550124:AAGm4other-Xy9kQ2wRtL0pZ7sVbE3cJ5h >/etc/pihook/token && systemctl restart pihook.service",
    );
    let said = test.pi.try_run("pihook init </dev/null").unwrap_err();
    assert!(said.contains("✗ token: ") && said.contains("→ "), "{said}");
    test.pi
        .try_run_with(
            "cat >/etc/pihook/token && systemctl restart pihook.service",
            kept.as_bytes(),
        )
        .unwrap();
    eventually("it works", || {
        test.pi
            .try_run("pihook status --json | grep '\"works\": true'")
            .is_ok()
    });
    test.echo();
}
