//! The Pi of this test: a Debian in a container, as a user finds it after the first boot.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

pub const HOST: &str = "80.100.95.20";
/// In one of Telegram's networks.
pub const TELEGRAM: &str = "149.154.160.9";
const PORT: &str = "2222";
/// For sudo, which asks for it as on Raspberry Pi OS since 2026. A shell or a `read` that does not
/// quote it changes it.
pub const PASSWORD: &str = " nspawn \\p4ss\"word' $HOME * ";
/// The PATH that sudo gives root.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin";
/// How long an event is awaited that comes at once on an idle machine.
pub const SOON: Duration = Duration::from_secs(30);

/// How the questions of deploy.sh and of `pihook init` end.
const PROMPTS: [&str; 7] = [
    "(hidden): ",
    "old token): ",
    "[Y/n]: ",
    "[Y/n] ",
    "the setting] ",
    "finds the address): ",
    "the setting): ",
];

/// A container that runs. Its disk is in memory, and is lost with it.
pub struct Pi {
    container: Child,
    work: PathBuf,
}

impl Pi {
    /// Starts a container from the disk `image`, which stays unchanged. It trusts a server as
    /// api.telegram.org if `authority`, a PEM, has signed the server's certificate.
    pub fn start(image: &Path, work: &Path, authority: &str) -> Pi {
        fs::create_dir_all(work).unwrap();
        let script = format!(
            "set -euo pipefail
            ip link set lo up
            ip address add {HOST}/32 dev lo
            ip address add {TELEGRAM}/32 dev lo
            mount -t tmpfs -o size=1500m,mode=755 tmpfs \"$PWD\"
            cd \"$PWD\"
            mkdir root
            cp --sparse=always \"$1\" disk
            mount -o loop disk root
            ssh-keygen -q -t ed25519 -N '' -f key
            # This ssh trusts whom it meets, as a person does who answers yes.
            printf '%s\\n' 'StrictHostKeyChecking accept-new' \"UserKnownHostsFile $PWD/known_hosts\" >ssh_config
            mount --bind ssh_config /etc/ssh/ssh_config
            cd root
            chroot . useradd --create-home --shell /bin/bash --groups sudo pi
            chroot . chpasswd <<<\"pi:$2\"
            for home in root home/pi; do
                install -D -m 600 ../key.pub $home/.ssh/authorized_keys
            done
            chroot . chown -R pi: /home/pi
            echo Port {PORT} >etc/ssh/sshd_config.d/port.conf
            echo raspberrypi >etc/hostname
            echo '127.0.0.1 localhost raspberrypi api.telegram.org' >etc/hosts
            cat >>etc/ssl/certs/ca-certificates.crt"
        );
        let mut bash = Command::new("bash");
        bash.args(["-c", &script, "bash"])
            .arg(image)
            .arg(PASSWORD)
            .current_dir(work);
        let output = run(&mut bash, authority);
        assert!(output.status.success(), "{}", text(&output));
        let pi = Pi {
            container: boot(work),
            work: work.to_owned(),
        };
        pi.wait_booted();
        pi
    }

    /// Cuts the power.
    pub fn power_off(&mut self) {
        // The kernel ends all processes of a container with the first one.
        if let Some(init) = self.init() {
            let _ = Command::new("kill").args(["-KILL", &init]).status();
        }
        let _ = self.container.wait();
    }

    /// Boots it again from the same disk.
    pub fn power_on(&mut self) {
        self.container = boot(&self.work);
        self.wait_booted();
    }

    fn init(&self) -> Option<String> {
        let nspawn = self.container.id();
        let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
        children.split_whitespace().next().map(str::to_owned)
    }

    fn wait_booted(&self) {
        eventually("the container is up", || {
            self.try_run("systemctl is-active ssh.service").is_ok()
        });
    }

    /// Runs a script in the container as root, which must succeed. Returns what it prints.
    pub fn run(&self, script: &str) -> String {
        self.try_run(script)
            .unwrap_or_else(|said| panic!("{script}\n{said}"))
    }

    /// Like [`Pi::run`]; if the script fails, the error is what it prints.
    pub fn try_run(&self, script: &str) -> Result<String, String> {
        self.try_run_with(script, b"")
    }

    /// Like [`Pi::try_run`], with this on its standard input.
    pub fn try_run_with(&self, script: &str, input: &[u8]) -> Result<String, String> {
        let init = self.init().ok_or("there is no container")?;
        let mut nsenter = Command::new("nsenter");
        nsenter.args([
            "--target",
            &init,
            "--all",
            "bash",
            "-c",
            &format!("cd /\n{script}"),
        ]);
        let output = run(nsenter.env("PATH", PATH), input);
        let said = text(&output).trim().to_owned();
        if output.status.success() {
            Ok(said)
        } else {
            Err(said)
        }
    }

    /// Runs `deploy/deploy.sh pi@… ARGUMENTS`. Its standard input is sudo's password, and then
    /// `input`.
    pub fn deploy(&self, arguments: &[&str], input: &str) -> Output {
        self.deploy_as(
            "pi@127.0.0.1",
            PORT,
            arguments,
            &format!("{PASSWORD}\n{input}"),
        )
    }

    /// Like [`Pi::deploy`] for another user, port, or form of the host; `input` is the whole standard
    /// input.
    pub fn deploy_as(&self, host: &str, port: &str, arguments: &[&str], input: &str) -> Output {
        run(&mut self.command(host, port, arguments), input)
    }

    /// Like [`Pi::deploy`], but does not wait for the end.
    pub fn begin_deploy(&self, arguments: &[&str]) -> Child {
        let mut command = self.command("pi@127.0.0.1", PORT, arguments);
        let command = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(format!("{PASSWORD}\n").as_bytes())
            .unwrap();
        child
    }

    fn command(&self, host: &str, port: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args([
            "120",
            "deploy/deploy.sh",
            host,
            "--port",
            port,
            "--identity",
        ]);
        command.arg(self.work.join("key")).args(arguments);
        // deploy.sh must not take its own variables from the environment.
        command.envs(["password", "answer", "answers"].map(|name| (name, "exported")));
        command
    }

    /// Runs `deploy.sh` on a terminal, and types the next of `answers` at each prompt. Returns whether
    /// it succeeded, and the screen.
    pub fn type_in(&self, arguments: &[&str], answers: &[&str]) -> (bool, String) {
        let command = self.command("pi@127.0.0.1", PORT, arguments);
        let words: Vec<_> = command
            .get_args()
            .map(|word| format!("'{}'", word.to_str().unwrap()))
            .collect();
        // timeout leaves the foreground unless the shell of `script` executes it in its own place:
        // not every shell does.
        type_into(
            &format!("timeout --foreground {}", words.join(" ")),
            answers,
        )
    }

    /// Like [`Pi::type_in`] for a command that root runs in the container.
    pub fn type_in_as_root(&self, command: &str, answers: &[&str]) -> (bool, String) {
        let init = self.init().unwrap();
        // A pager would wait for a key for ever.
        let limited = format!("timeout --foreground 120 nsenter --target {init} --all {command}");
        type_into(&format!("env PATH={PATH} TERM=xterm {limited}"), answers)
    }

    /// A property of the unit.
    pub fn property(&self, name: &str) -> String {
        self.run(&format!(
            "systemctl show --property {name} --value pihook.service"
        ))
    }

    /// Sends a signal to the bot.
    pub fn signal(&self, signal: &str) {
        self.run(&format!(
            "kill -{signal} $(systemctl show --property MainPID --value pihook.service)"
        ));
    }

    /// The name of the release that runs.
    pub fn current(&self) -> String {
        self.run("basename \"$(readlink /opt/pihook/current)\"")
    }

    /// A file for the test's own use.
    pub fn file(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }
}

impl Drop for Pi {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = "journalctl --unit 'pihook*' --lines 500 | grep -v ': 200 in ' | tail -n 60; systemctl status 'pihook*'";
            eprintln!("{}", self.try_run(log).unwrap_or_else(|error| error));
        }
        self.power_off();
    }
}

fn boot(work: &Path) -> Child {
    let mut nspawn = Command::new("systemd-nspawn");
    nspawn.args([
        "--quiet",
        "--register=no",
        "--resolv-conf=off",
        "--console=pipe",
        "--boot",
        "--directory",
    ]);
    nspawn
        .arg(work.join("root"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // Without systemd on this machine, nothing can give the container a unit of its own.
    if !Path::new("/run/systemd/system").exists() {
        nspawn.arg("--keep-unit");
    }
    nspawn.spawn().unwrap()
}

/// Runs a command on a terminal, and types the next of `answers` at each prompt.
fn type_into(command: &str, answers: &[&str]) -> (bool, String) {
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--flush", "--command", command]);
    let mut child = script
        .arg("/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keyboard = child.stdin.take().unwrap();
    let mut screen = child.stdout.take().unwrap();
    let mut shown = Vec::new();
    let mut answers = answers.iter();
    let mut byte = [0];
    while screen.read(&mut byte).unwrap_or(0) == 1 {
        shown.push(byte[0]);
        if PROMPTS
            .iter()
            .any(|prompt| shown.ends_with(prompt.as_bytes()))
        {
            let answer = answers
                .next()
                .unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&shown)));
            keyboard
                .write_all(format!("{answer}\n").as_bytes())
                .unwrap();
        }
    }
    assert_eq!(answers.next(), None, "{}", String::from_utf8_lossy(&shown));
    (
        child.wait().unwrap().success(),
        String::from_utf8_lossy(&shown).into_owned(),
    )
}

/// Runs a program to its end, with `input` on its standard input.
pub fn run(command: &mut Command, input: impl AsRef<[u8]>) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // A program that does not read its input may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input.as_ref());
    child.wait_with_output().unwrap()
}

/// All that a program printed.
pub fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < end, "not in time: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}
