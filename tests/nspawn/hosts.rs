//! The hosts that people have: a sudo that asks or does not, shells that print, servers without
//! SFTP, odd names.

use std::fs;
use std::process::Command;

use crate::pi::{self, HOST, PASSWORD, eventually, text};
use crate::{TOKEN, Test, succeeds};

/// The port of a second ssh server, dropbear.
const DROPBEAR: &str = "2223";
/// A password of sudo's that could be the answer to a later question.
const LIKE_A_NAME: &str = "raspberrypi.example.com";

/// Lists the folders that a deployment makes.
const OURS: &str = "ls -d /run/pihook* /etc/pihook /opt/pihook 2>/dev/null || true";

/// deploy.sh sends one stream to the command that needs root. Where the stream breaks off, whatever
/// the place, nothing is changed.
pub fn broken_line(test: &mut Test) {
    let folder = test.pi.file("sent");
    fs::create_dir(&folder).unwrap();
    let pack = format!(
        "cp deploy/install.sh deploy/pihook.* {folder} && cp {binary} {folder}/pihook &&
        cd {folder} && sha256sum -- * >SHA256SUMS && tar -cf - .",
        folder = folder.display(),
        binary = test.binary
    );
    let archive = Command::new("bash")
        .args(["-c", &pack])
        .output()
        .unwrap()
        .stdout;
    assert!(archive.len() > 1_000_000);
    let script = fs::read("deploy/install.sh").unwrap();
    let answers = format!("token {TOKEN}\nrouter n\nhost {HOST}\n");
    let whole = [&script, answers.as_bytes(), b"end\n", &archive[..]].concat();
    let after_script = script.len();
    let after_answers = after_script + answers.len();
    for length in [
        after_script,
        after_script + 5,
        after_script + answers.len() / 2,
        after_answers,
        after_answers + 4,
        after_answers + 4 + 512,
        whole.len() / 2,
    ] {
        let said = test
            .pi
            .try_run_with("bash -s root release", &whole[..length]);
        assert!(
            said.unwrap_err().contains("Nothing was changed."),
            "{length}"
        );
        assert_eq!(test.pi.run(OURS), "", "{length}");
    }
}

pub fn wrong_password(test: &mut Test) {
    let nothing = || assert_eq!(test.pi.run(OURS), "");
    let release = ["--binary", &test.binary];
    // A script is not asked again: its next line is another answer.
    let output = test.pi.deploy_as(
        "pi@127.0.0.1",
        "2222",
        &release,
        &format!("WRONG-{PASSWORD}\n{TOKEN}\n\n{HOST}\n"),
    );
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        text(&output).contains("sudo on the Pi does not accept this password."),
        "{}",
        text(&output)
    );
    assert!(!text(&output).contains("WRONG"), "{}", text(&output));
    nothing();
    // A person is asked three times.
    let (succeeded, shown) = test.pi.type_in(&release, &["WRONG-1", "", "WRONG-3"]);
    assert!(
        !succeeded && shown.contains("Nothing was changed."),
        "{shown}"
    );
    assert_eq!(
        shown.matches("does not accept this password").count(),
        3,
        "{shown}"
    );
    assert!(!shown.contains("WRONG"), "{shown}");
    nothing();
    let (succeeded, shown) = test.pi.type_in(
        &release,
        &["WRONG-1", PASSWORD, "WRONG-token", "n", "no address"],
    );
    assert!(
        !succeeded && shown.contains("This is not a token"),
        "{shown}"
    );
    assert!(
        !shown.contains("WRONG") && !shown.contains(PASSWORD),
        "{shown}"
    );
    nothing();
    // A user who may not use sudo.
    test.pi.run("gpasswd --delete pi sudo");
    let output = test.pi.deploy(&release, &format!("{TOKEN}\n\n{HOST}\n"));
    assert!(
        text(&output).contains("sudo on the Pi failed: pi is not in the sudoers file"),
        "{}",
        text(&output)
    );
    test.pi.run("gpasswd --add pi sudo");
    nothing();
}

pub fn forgetful_disk(test: &mut Test) {
    let release = ["--binary", &test.binary];
    for (mount, reason) in [
        (
            "mkdir -p /run/o/u /run/o/w; mount -t overlay -o lowerdir=/opt,upperdir=/run/o/u,workdir=/run/o/w none /opt",
            "overlay in memory",
        ),
        ("mount -t tmpfs none /opt", "in memory"),
        (
            "mount --bind /opt /opt; mount -o remount,bind,ro /opt",
            "mounted read-only",
        ),
        ("mount -t tmpfs -o size=2m none /opt", "free space in /opt"),
    ] {
        test.pi.run(mount);
        let output = test.pi.deploy(&release, &format!("{TOKEN}\n\n{HOST}\n"));
        assert_eq!(output.status.code(), Some(69), "{}", text(&output));
        assert!(
            text(&output).contains(reason),
            "{reason}: {}",
            text(&output)
        );
        test.pi
            .run("umount /opt; test ! -e /opt/pihook && test ! -e /etc/pihook");
    }
    // An overlay that lies on the disk keeps what is written.
    test.pi.run("mkdir -p /o/u /o/w; mount -t overlay -o lowerdir=/opt,upperdir=/o/u,workdir=/o/w none /opt");
    let output = test.pi.deploy(&release, "WRONG-token\n\na\"b\n");
    assert!(
        text(&output).contains("This is not a token"),
        "{}",
        text(&output)
    );
    test.pi.run("umount /opt; rm -r /o");
}

/// deploy.sh checks the password, and sends it later. If sudo asks for none then, install.sh reads
/// that line: it must not take the password for an answer.
pub fn password_left_in_the_pipe(test: &mut Test) {
    test.pi.run(&format!(
        "echo 'pi:{LIKE_A_NAME}' | chpasswd && gpasswd --delete pi sudo
        echo 'pi ALL=(ALL) PASSWD: ALL, NOPASSWD: /usr/bin/bash' >/etc/sudoers.d/pi"
    ));
    let answers = format!("{LIKE_A_NAME}\n{TOKEN}\n\n{HOST}\n");
    let output = test.pi.deploy_as(
        "pi@127.0.0.1",
        "2222",
        &["--binary", &test.binary],
        &answers,
    );
    succeeds(&output);
    assert!(!text(&output).contains(LIKE_A_NAME), "{}", text(&output));
    assert!(
        test.pi
            .run("cat /etc/pihook/pihook.toml")
            .contains(&format!("\npublic_host = \"{HOST}\"\n"))
    );
    assert_eq!(
        test.pi
            .run("grep -rls raspberrypi.example.com /etc /opt /run /var/lib/pihook || true"),
        ""
    );
    test.echo();
    let output = test.pi.deploy_as(
        "pi@127.0.0.1",
        "2222",
        &["--uninstall"],
        &format!("{LIKE_A_NAME}\n"),
    );
    assert!(succeeds(&output).contains("pihook is removed."));
    test.pi.run("rm /etc/sudoers.d/pi && gpasswd --add pi sudo");
    assert_eq!(
        test.pi
            .try_run_with("chpasswd", format!("pi:{PASSWORD}\n").as_bytes()),
        Ok(String::new())
    );
}

/// Where sudo needs no password, deploy.sh asks for none and sends none.
pub fn free_sudo(test: &mut Test) {
    let status = || test.pi.deploy_as("pi@127.0.0.1", "2222", &["--status"], "");
    assert!(
        text(&status()).contains("The answer is missing: The password for sudo"),
        "{}",
        text(&status())
    );
    for (begin, end) in [
        (
            "echo 'pi ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/pi",
            "rm /etc/sudoers.d/pi",
        ),
        (
            "echo 'Defaults timestamp_type=global' >/etc/sudoers.d/pi; runuser -u pi -- sudo -S -v",
            "rm /etc/sudoers.d/pi; runuser -u pi -- sudo -K",
        ),
    ] {
        test.pi
            .try_run_with(begin, format!("{PASSWORD}\n").as_bytes())
            .unwrap();
        assert!(succeeds(&status()).contains("active (running)"), "{begin}");
        test.pi.run(end);
    }
    test.pi.run("mv /usr/bin/sudo /usr/bin/sudo.away");
    assert!(
        text(&status()).contains("The Pi has no command sudo. Install sudo, or log in as root."),
        "{}",
        text(&status())
    );
    test.pi.run("mv /usr/bin/sudo.away /usr/bin/sudo");
}

pub fn root_itself(test: &mut Test) {
    let output = test
        .pi
        .deploy_as("root@127.0.0.1", "2222", &["--binary", &test.binary], "");
    assert!(succeeds(&output).contains("is running."));
    test.echo();
}

/// deploy.sh does not take what a shell prints for an answer of its own commands: no path of it is
/// removed.
pub fn banners(test: &mut Test) {
    test.pi
        .run("cd /home/pi && mkdir Welcome to Pi && touch Welcome/a to/b Pi/c && chown -R pi: .");
    let kept = "ls -d /home/pi/Welcome/a /home/pi/to/b /home/pi/Pi/c";
    let banner = "printf 'Welcome to Pi\\n/tmp/pihook.aaaaaa\\n0\\nend\\nfree '; echo warning >&2";
    for (shell, file) in [("/bin/bash", ".bashrc"), ("/usr/bin/zsh", ".zshenv")] {
        test.pi.run(&format!(
            "usermod --shell {shell} pi; cat >/home/pi/{file} <<'END'\n{banner}\nEND"
        ));
        succeeds(&test.deploy(&test.other(b"2")));
        test.echo();
        assert!(succeeds(&test.pi.deploy(&["--status"], "")).contains("active (running)"));
        succeeds(&test.pi.deploy(&["--rollback"], ""));
        test.echo();
        test.pi.run(kept);
        test.pi.run(&format!("rm /home/pi/{file}"));
    }
    // A shell that runs no command.
    test.pi.run("usermod --shell /usr/sbin/nologin pi");
    let output = test.pi.deploy(&["--status"], "");
    assert!(
        text(&output).contains("Cannot run bash on ") && !output.status.success(),
        "{}",
        text(&output)
    );
    test.pi
        .run("usermod --shell /bin/bash pi; rm -r /home/pi/Welcome /home/pi/to /home/pi/Pi");
}

pub fn dropbear(test: &mut Test) {
    test.pi.run(&format!(
        "mkdir -p /etc/dropbear && systemd-run --unit=dropbear dropbear -F -R -s -p {DROPBEAR}"
    ));
    eventually("dropbear listens", || {
        test.pi
            .try_run(&format!("ss -ltn 2>/dev/null | grep -q :{DROPBEAR} || bash -c '</dev/tcp/127.0.0.1/{DROPBEAR}'"))
            .is_ok()
    });
    let input = format!("{PASSWORD}\n");
    succeeds(&test.pi.deploy_as(
        "pi@127.0.0.1",
        DROPBEAR,
        &["--binary", &test.other(b"2")],
        &input,
    ));
    test.echo();
    succeeds(
        &test
            .pi
            .deploy_as("pi@127.0.0.1", DROPBEAR, &["--rollback"], &input),
    );
    test.echo();
    test.pi
        .run("systemctl stop dropbear.service; rm -r /etc/dropbear");
}

pub fn full_tmp(test: &mut Test) {
    test.pi.run("mount -t tmpfs -o size=64k none /tmp; dd if=/dev/zero of=/tmp/full bs=4k 2>/dev/null || true; ! echo x >/tmp/x");
    succeeds(&test.deploy(&test.binary));
    test.echo();
    test.pi.run("umount /tmp");
}

pub fn odd_names(test: &mut Test) {
    let odd = "a.b-c_d@example.org";
    test.pi.run(&format!(
        "useradd --badname --create-home --home-dir '/home/{odd}' --shell /bin/bash --groups sudo '{odd}'
        cp -r /home/pi/.ssh '/home/{odd}' && chown -R '{odd}:' '/home/{odd}'"
    ));
    test.pi
        .try_run_with("chpasswd", format!("{odd}:{PASSWORD}\n").as_bytes())
        .unwrap();
    for host in [
        "pi@::1",
        "pi@[::1]",
        "ssh://pi@[::1]:2222",
        "ssh://pi@127.0.0.1:2222",
        &format!("{odd}@127.0.0.1"),
    ] {
        let output = test
            .pi
            .deploy_as(host, "2222", &["--status"], &format!("{PASSWORD}\n"));
        assert!(succeeds(&output).contains("active (running)"), "{host}");
    }
    succeeds(&test.pi.deploy_as(
        &format!("{odd}@::1"),
        "2222",
        &["--binary", &test.binary],
        &format!("{PASSWORD}\n"),
    ));
    test.echo();
    test.pi
        .run(&format!("userdel --remove '{odd}' 2>/dev/null"));
    // ssh would take this host for an option.
    let mut command = Command::new("deploy/deploy.sh");
    let output = pi::run(
        command.args(["-oProxyCommand=touch /tmp/pihook-owned", "--status"]),
        "",
    );
    assert_eq!(output.status.code(), Some(64), "{}", text(&output));
    let output = pi::run(Command::new("deploy/deploy.sh").arg("--help"), "");
    assert!(
        output.status.success() && output.stderr.is_empty() && text(&output).contains("--rollback")
    );
}
