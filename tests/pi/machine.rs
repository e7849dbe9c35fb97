//! The emulated Pi: its power, its network, and ssh.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// The longest time for a boot. 20 s are enough on an idle machine.
const BOOT: Duration = Duration::from_secs(180);
/// For sudo, which asks the user pi; tests/pi/image has the same.
const PASSWORD: &str = "correct horse";

pub struct Machine {
    /// `root.img`, the kernels and `key`.
    folder: PathBuf,
    /// What QEMU needs for the model.
    model: &'static [&'static str],
    ssh: u16,
    /// The address on this machine that QEMU forwards to the Pi's port 8443.
    pub webhook: SocketAddr,
    qemu: Option<Child>,
}

const PI_4: &[&str] = &["-cpu", "cortex-a72", "-kernel", "4k"];
const PI_5: &[&str] = &[
    "-cpu",
    "cortex-a76",
    "-kernel",
    "16k",
    "-initrd",
    "16k.initrd",
];

impl Machine {
    pub fn new(folder: &Path) -> Machine {
        // Both are bound at the same time, so that they differ. Then QEMU binds them.
        let free: [TcpListener; 2] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [ssh, webhook] = free.map(|listener| listener.local_addr().unwrap());
        Machine {
            folder: folder.to_owned(),
            model: PI_4,
            ssh: ssh.port(),
            webhook,
            qemu: None,
        }
    }

    /// From the next power-on the machine has the processor of a Pi 5, and the kernel with pages of
    /// 16 KiB.
    pub fn become_pi_5(&mut self) {
        self.model = PI_5;
    }

    pub fn power_on(&mut self) {
        self.start(&[]);
    }

    /// Like [`Machine::power_on`], with a clock from 1970 and without a network.
    pub fn power_on_alone(&mut self) {
        self.start(&["-rtc", "base=1970-01-01T00:00:00", "-S"]);
        self.monitor("set_link n off");
        self.monitor("cont");
    }

    fn start(&mut self, more: &[&str]) {
        let network = format!(
            "user,id=n,hostfwd=tcp:127.0.0.1:{}-:22,hostfwd=tcp:{}-:8443",
            self.ssh, self.webhook
        );
        // QEMU must not outlive this program, whatever ends the program.
        let mut qemu = Command::new("setpriv");
        qemu.args([
            "--pdeathsig",
            "KILL",
            "qemu-system-aarch64",
            "-M",
            "virt",
            "-smp",
            "2",
            "-m",
            "1024",
        ])
        .args(self.model)
        .args(["-append", "console=ttyAMA0 root=/dev/nvme0n1 rw quiet"])
        .args([
            "-drive",
            "if=none,id=d,file=root.img,format=raw,cache=unsafe",
            "-device",
            "nvme,drive=d,serial=pi",
        ])
        .args([
            "-netdev",
            &network,
            "-device",
            "virtio-net-pci,netdev=n,romfile=",
            "-display",
            "none",
        ])
        .args([
            "-serial",
            "file:console",
            "-monitor",
            "unix:monitor,server,nowait",
            "-no-reboot",
        ])
        .args(more)
        .current_dir(&self.folder)
        .stdin(Stdio::null());
        let _ = fs::remove_file(self.folder.join("monitor"));
        self.qemu = Some(qemu.spawn().unwrap());
    }

    /// Cuts the power.
    pub fn power_off(&mut self) {
        if let Some(mut qemu) = self.qemu.take() {
            qemu.kill().unwrap();
            qemu.wait().unwrap();
        }
    }

    /// Gives a command to QEMU itself.
    pub fn monitor(&self, command: &str) {
        let path = self.folder.join("monitor");
        let mut monitor = within(Duration::from_secs(20), "QEMU's monitor", || {
            UnixStream::connect(&path).ok()
        });
        monitor
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        monitor
            .write_all(format!("{command}\n").as_bytes())
            .unwrap();
        // The first prompt comes before the command, the second one after it.
        let mut heard = String::new();
        while heard.matches("(qemu) ").count() < 2 {
            let mut byte = [0];
            monitor.read_exact(&mut byte).unwrap();
            heard.push(byte[0].into());
        }
    }

    /// Waits until a program speaks TLS on the Pi's port 8443: it answers nonsense with an alert. That
    /// the port is open means nothing, since QEMU holds it.
    pub fn wait_webhook(&self) {
        within(BOOT, "the webhook is served", || {
            let mut stream = TcpStream::connect(self.webhook).ok()?;
            stream
                .set_read_timeout(Some(Duration::from_millis(500)))
                .ok()?;
            stream.write_all(b"\n\n\n\n\n").ok()?;
            let mut kind = [0];
            stream.read_exact(&mut kind).ok()?;
            (kind == [21]).then_some(())
        });
    }

    /// Waits until the serial console has shown `text` since the power-on.
    pub fn wait_console(&self, text: &str) {
        within(BOOT, text, || self.console().contains(text).then_some(()));
    }

    fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join("console")).unwrap_or_default())
            .into_owned()
    }

    pub fn wait_ssh(&self) {
        within(BOOT, "ssh answers", || self.try_ssh("true").ok());
    }

    /// Runs a script on the Pi as root, which must succeed. Returns what it prints.
    pub fn ssh(&self, script: &str) -> String {
        self.try_ssh(script)
            .unwrap_or_else(|error| panic!("on the Pi: {script}: {error}"))
    }

    fn try_ssh(&self, script: &str) -> Result<String, String> {
        let port = self.ssh.to_string();
        let mut ssh = self.command("ssh", 120, script);
        let output = ssh
            .args(["-i", "key", "-p", &port, "root@127.0.0.1", "bash -eu"])
            .output()
            .unwrap();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(all(&output))
        }
    }

    /// Writes a file on the Pi.
    pub fn put(&self, path: &str, content: &str) {
        let folder = Path::new(path).parent().unwrap().display();
        self.ssh(&format!(
            "mkdir -p {folder}; cat >{path} <<\\END\n{content}END\n"
        ));
    }

    /// Copies a file of the folder to the Pi.
    pub fn copy(&self, name: &str, path: &str) {
        let port = self.ssh.to_string();
        let mut ssh = self.command("ssh", 120, "");
        ssh.args([
            "-i",
            "key",
            "-p",
            &port,
            "root@127.0.0.1",
            &format!("cat >{path}"),
        ]);
        let output = ssh
            .stdin(File::open(self.folder.join(name)).unwrap())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", all(&output));
    }

    /// Runs `deploy.sh` as the user pi, in the folder, with sudo's password and `input`. Returns
    /// whether it succeeded, and all that it printed.
    pub fn deploy(&self, arguments: &[&str], input: &str) -> (bool, String) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/deploy.sh");
        let port = self.ssh.to_string();
        let mut deploy = self.command(script, 300, &format!("{PASSWORD}\n{input}"));
        let deploy = deploy
            .args(["pi@127.0.0.1", "--port", &port, "--identity", "key"])
            .args(arguments);
        let output = deploy.output().unwrap();
        (output.status.success(), all(&output))
    }

    /// A program of this machine, with a limit in seconds and an input. Its `ssh` is the one in the
    /// folder.
    fn command(&self, program: &str, limit: u32, input: &str) -> Command {
        let path = format!(
            "{}:{}",
            self.folder.join("bin").display(),
            std::env::var("PATH").unwrap()
        );
        let file = self.folder.join("input");
        fs::write(&file, input).unwrap();
        let mut command = Command::new("timeout");
        command
            .arg(limit.to_string())
            .arg(program)
            .current_dir(&self.folder)
            .env("PATH", path);
        command.stdin(File::open(file).unwrap());
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() && self.qemu.is_some() {
            let console = self.console();
            let lines: Vec<_> = console.lines().collect();
            println!(
                "The end of the console:\n{}",
                lines[lines.len().saturating_sub(20)..].join("\n")
            );
            let journal = "journalctl --unit pihook --lines 60 --no-pager; systemctl status pihook";
            println!(
                "Its log:\n{}",
                self.try_ssh(journal).unwrap_or_else(|error| error)
            );
        }
        self.power_off();
    }
}

/// Waits until `condition` has a result, and returns it.
pub fn within<T>(limit: Duration, what: &str, condition: impl Fn() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(result) = condition() {
            return result;
        }
        assert!(
            Instant::now() < end,
            "not within {} s: {what}",
            limit.as_secs()
        );
        sleep(Duration::from_millis(50));
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

fn all(output: &Output) -> String {
    text(&[&output.stdout[..], &output.stderr].concat())
}
