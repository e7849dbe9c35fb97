//! Whether a name is found, how long that takes, and which name server is to blame.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant};

use super::finding::Doctor;
use crate::home::route;
use crate::system::resolver::FIRST_WAIT;

const CHECK: &str = "DNS";
/// A look-up that takes longer has met a silent name server: the system waits 5 s for it, or 3 s
/// where the machine is gone.
const SLOW: Duration = Duration::from_secs(2);
/// A name server that is well answers in this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const NAME_SERVERS: &str = "/etc/resolv.conf";
/// The system asks no more of them (resolv.conf(5)).
const MOST_SERVERS: usize = 3;
/// The types of a question that the system asks together: for IPv4 and for IPv6 addresses (RFC
/// 1035, RFC 3596).
const QUESTIONS: [u8; 2] = [1, 28];

const CHECK_NETWORK: &str = "this machine has no network: check the cable or the Wi-Fi";
const CHECK_SERVERS: &str = "check the DNS server in /etc/resolv.conf and in the router's settings";
const REPAIR: &str = "restart it (it is often the router); if it stays silent, set another name server, for example 1.1.1.1, in the \
                      router's settings (DHCP), or in the network settings of this machine";
const ANOTHER: &str = "run the doctor again; if it says the same, set another name server in the router's settings (DHCP)";
const BEHIND: &str = "in the settings of this program, replace the name server that does not answer; if the program is systemd-resolved, `resolvectl status` \
                      shows its name servers";

/// A look-up by the system.
pub(super) struct LookUp<'a> {
    host: &'a str,
    error: Option<io::Error>,
    took: Duration,
}

impl<'a> LookUp<'a> {
    pub(super) fn of(host: &'a str) -> Self {
        let start = Instant::now();
        let error = (host, 0).to_socket_addrs().err();
        Self {
            host,
            error,
            took: start.elapsed(),
        }
    }

    /// Whether a call finds the name before it gives up.
    pub(super) fn is_of_use(&self) -> bool {
        self.error.is_none() && self.took < FIRST_WAIT
    }

    /// Tells how it went. The name servers are asked only where something is wrong.
    pub(super) fn tell(&self, doctor: &mut Doctor) {
        let host = self.host;
        let is_slow = self.took >= SLOW;
        match &self.error {
            None if !is_slow => doctor.good(CHECK, format!("{host} is found")),
            None => {
                let (reason, remedy) = self.ask_servers();
                let found = format!(
                    "{host} is found, but only after {:.1} s: {reason}",
                    self.took.as_secs_f64()
                );
                if self.is_of_use() {
                    doctor.warn(CHECK, found, remedy);
                } else {
                    doctor.bad(CHECK, found, remedy);
                }
            }
            Some(error) if route::gateway(&route::table()).is_none() => {
                doctor.bad(
                    CHECK,
                    format!("{host} is not found: {error}"),
                    CHECK_NETWORK,
                );
            }
            Some(error) if is_slow => {
                let (reason, remedy) = self.ask_servers();
                doctor.bad(
                    CHECK,
                    format!("{host} is not found: {error}; {reason}"),
                    remedy,
                );
            }
            Some(error) => doctor.bad(
                CHECK,
                format!("{host} is not found: {error}"),
                CHECK_SERVERS,
            ),
        }
    }

    /// Asks the name servers. Returns what is wrong with them, and what to do.
    fn ask_servers(&self) -> (String, &'static str) {
        let servers = servers(&fs::read_to_string(NAME_SERVERS).unwrap_or_default());
        if servers.is_empty() {
            return (
                format!("{NAME_SERVERS} names no name server"),
                CHECK_SERVERS,
            );
        }
        let (local, others): (Vec<_>, Vec<_>) = servers
            .into_iter()
            .partition(|server| server.ip().is_loopback());
        if let Some((server, fault)) = first_fault(&others, self.host, ANSWER_TIMEOUT) {
            return (format!("the name server {server} {fault}"), REPAIR);
        }
        // A program on this machine passes questions on: its silence can be that of another server.
        let Some(local) = local.first().map(SocketAddr::ip) else {
            return ("all name servers answer now".into(), ANOTHER);
        };
        let reason = format!(
            "the name server {local} is a program on this machine, which asks others: the doctor cannot see which of \
             them is slow"
        );
        (reason, BEHIND)
    }
}

/// The name servers of `resolv.conf`. A link-local address has the name of its interface with it.
fn servers(text: &str) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("nameserver") else {
            continue;
        };
        let address = rest.trim();
        if is_address(address) {
            addresses.push(address);
        }
    }
    addresses.truncate(MOST_SERVERS);

    let mut servers = Vec::new();
    for address in addresses {
        // The system knows the number of the interface whose name stands behind `%`.
        if let Ok(mut found) = (address, 53).to_socket_addrs() {
            servers.extend(found.next());
        }
    }
    servers
}

/// Whether the text is an address, perhaps with the name of an interface, and not a host name,
/// which would be looked up.
fn is_address(text: &str) -> bool {
    let address = match text.split_once('%') {
        Some((address, _interface)) => address,
        None => text,
    };
    address.parse::<IpAddr>().is_ok()
}

/// Asks each of `servers` for `host`: the first that does not answer, and which question.
fn first_fault(
    servers: &[SocketAddr],
    host: &str,
    limit: Duration,
) -> Option<(IpAddr, &'static str)> {
    let mut asked = Vec::new();
    for server in servers {
        asked.push((server.ip(), ask(*server, host)));
    }

    // They answer side by side, so that they all have this time together.
    let end = Instant::now() + limit;
    for (server, socket) in asked {
        // One that cannot be asked costs no time: the system goes on to the next one.
        let Ok(socket) = socket else { continue };
        if let Some(fault) = fault(&socket, end) {
            return Some((server, fault));
        }
    }
    None
}

/// Sends both questions.
fn ask(server: SocketAddr, host: &str) -> io::Result<UdpSocket> {
    let any: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    for kind in QUESTIONS {
        socket.send(&question(host, kind)?)?;
    }
    Ok(socket)
}

/// A question of this type (RFC 1035, 4.1), whose id is the type.
fn question(host: &str, kind: u8) -> io::Result<Vec<u8>> {
    const RECURSION_DESIRED: u8 = 1;
    const CLASS_INTERNET: u8 = 1;
    let mut question = vec![0, kind, RECURSION_DESIRED, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in host.split('.').filter(|label| !label.is_empty()) {
        question.push(u8::try_from(label.len()).map_err(io::Error::other)?);
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, kind, 0, CLASS_INTERNET]);
    Ok(question)
}

/// Waits for the answers to both questions, until `end`. Returns which one is missing, in words that
/// continue the server's name; a refusal is an answer.
fn fault(socket: &UdpSocket, end: Instant) -> Option<&'static str> {
    const IS_ANSWER: u8 = 0x80;
    // A socket takes no timeout of 0.
    const SHORTEST: Duration = Duration::from_millis(1);
    let mut open = QUESTIONS.to_vec();
    let mut answer = [0; 512];
    while !open.is_empty() {
        let left = end.saturating_duration_since(Instant::now()).max(SHORTEST);
        socket.set_read_timeout(Some(left)).ok()?;
        match socket.recv(&mut answer) {
            Ok(length) if length > 2 && answer[2] & IS_ANSWER != 0 => {
                open.retain(|kind| [0, *kind] != answer[..2]);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                break;
            }
            // The server refused the question itself: no silence, and no fault.
            Err(error) if error.kind() != ErrorKind::Interrupted => return None,
            _ if left <= SHORTEST => break,
            // Another message, or a signal: there is time left.
            _ => {}
        }
    }
    match open[..] {
        [] => None,
        [1] => Some("does not answer questions for IPv4 addresses"),
        [28] => Some("does not answer questions for IPv6 addresses"),
        _ => Some("does not answer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    const HOST: &str = "api.telegram.org";
    const LIMIT: Duration = Duration::from_millis(500);

    /// A name server that answers questions of these types alone.
    fn server(kinds: &'static [u8]) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut question) {
                let text = String::from_utf8_lossy(&question[12..length]);
                assert!(
                    text.starts_with("\u{3}api\u{8}telegram\u{3}org\0\0"),
                    "{text:?}"
                );
                if kinds.contains(&question[1]) {
                    question[2] |= 0x80;
                }
                // One that sends a question back has not answered it.
                let _ = socket.send_to(&question[..length], peer);
            }
        });
        address
    }

    #[test]
    fn first_fault_names_the_server_and_the_question_without_answer() {
        let well = server(&[1, 28]);
        let local = well.ip();
        for (kinds, fault) in [
            (&[][..], "does not answer"),
            (&[1], "does not answer questions for IPv6 addresses"),
            (&[28], "does not answer questions for IPv4 addresses"),
        ] {
            assert_eq!(
                first_fault(&[well, server(kinds)], HOST, LIMIT),
                Some((local, fault))
            );
        }
    }

    #[test]
    fn first_fault_is_none_for_a_server_that_answers_or_refuses() {
        let refusing = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        assert_eq!(
            first_fault(&[refusing, server(&[1, 28])], HOST, LIMIT),
            None
        );
    }

    #[test]
    fn name_servers_of_resolv_conf_are_read_as_the_system_reads_them() {
        let text = "# nameserver 192.0.2.9\nsearch lan\nnameserver 192.168.1.1\nnameserver\t127.0.0.53 \nnameserver a.b\n\
                    nameserver fe80::1%lo\nnameserver 192.0.2.4\n";
        let found: Vec<_> = servers(text)
            .iter()
            .map(|server| server.ip().to_string())
            .collect();
        assert_eq!(found, ["192.168.1.1", "127.0.0.53", "fe80::1"]);
    }
}
