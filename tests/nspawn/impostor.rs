//! A server in place of the Bot API, whose certificate is for 300 other names. A real systemd gets
//! the status line about it.

use rcgen::SanType;
use simulated_telegram::{Options, Telegram};

use crate::Test;
use crate::authority::authority;
use crate::pi::eventually;

const PORT: u16 = 444;

/// The status line about it is not too long for systemd, and the watchdog is fed. Afterwards all is
/// as before.
pub fn long_names_do_not_stop_the_watchdog(test: &mut Test) {
    let (root, pair) = authority("other.example.org", |leaf| {
        let names = (0..300).map(|number| format!("a-rather-long-name-{number:03}.example.org"));
        leaf.subject_alt_names = names
            .map(|name| SanType::DnsName(name.try_into().unwrap()))
            .collect();
    });
    let options = Options {
        api_tls: Some(pair),
        api_port: PORT,
        ..Options::default()
    };
    let _impostor = Telegram::start(options).unwrap();
    test.pi.run(&format!(
        "cp /etc/ssl/certs/ca-certificates.crt /etc/pihook/pihook.toml /root/
        cat >>/etc/ssl/certs/ca-certificates.crt <<'EOF'\n{root}\nEOF
        sed -i '1i api_url = \"https://api.telegram.org:{PORT}\"' /etc/pihook/pihook.toml
        systemctl restart pihook.service"
    ));
    let restarts = || test.pi.property("NRestarts");
    let before = restarts();
    eventually("the status says what is wrong", || {
        test.pi.property("StatusText").contains("TLS failed")
    });
    // Three times as long as the watchdog of this test waits.
    test.pi.run("sleep 12");
    let status = test.pi.property("StatusText");
    assert!(
        status.contains("a-rather-long-name") && status.len() < 4096,
        "{} bytes: {status}",
        status.len()
    );
    assert_eq!(
        (restarts(), test.pi.property("ActiveState").as_str()),
        (before, "active")
    );
    let log = test
        .pi
        .run("journalctl --unit pihook.service --boot | grep -i 'watchdog timeout' || true");
    assert_eq!(log, "");
    test.pi.run(
        "cp /root/ca-certificates.crt /etc/ssl/certs/
        cp /root/pihook.toml /etc/pihook/
        rm /root/ca-certificates.crt /root/pihook.toml
        systemctl restart pihook.service",
    );
    test.echo();
}
