//! The networks, in which this process is outside:
//!
//! ```text
//! pi 192.168.77.2 ── lan ── 192.168.77.1 router 8.8.100.1 ── wan ── 8.8.100.254 (this process: Telegram, the services)
//! ```

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use crate::common::{eventually, text};

/// Where Telegram calls from, one of its own addresses; where its Bot API is, and the services.
pub const TELEGRAM: Ipv4Addr = Ipv4Addr::new(149, 154, 160, 1);
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(8, 8, 100, 254);
const PI: &str = "192.168.77.2";

/// A home's NAT, and the chains that miniupnpd fills by itself.
const RULES: &str = "
table inet miniupnpd
delete table inet miniupnpd
table inet miniupnpd {
    chain filter_forward {
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname \"lan\" accept
        jump forward
    }
    chain forward { }
    chain prerouting {
        type nat hook prerouting priority -100; policy accept;
        iifname \"wan\" jump prerouting_upnp
    }
    chain prerouting_upnp { }
    chain postrouting {
        type nat hook postrouting priority 100; policy accept;
        oifname \"wan\" masquerade
        jump postrouting_upnp
    }
    chain postrouting_upnp { }
}
";

/// The protocols that the router speaks.
#[derive(Clone, Copy)]
pub struct Speech {
    /// PCP and NAT-PMP.
    pub packets: bool,
    pub upnp: bool,
}

pub struct Lab {
    work: PathBuf,
    miniupnpd: Option<Child>,
}

impl Lab {
    pub fn start(work: &Path) -> Lab {
        for command in [
            "ip link set lo up",
            "ip netns add pi",
            "ip netns add router",
            "ip -n pi link set lo up",
            "ip -n router link set lo up",
            "ip link add eth0 netns pi type veth peer name lan netns router",
            "ip link add outside type veth peer name wan netns router",
            "ip -n pi addr add 192.168.77.2/24 dev eth0",
            "ip -n router addr add 192.168.77.1/24 dev lan",
            "ip addr add 8.8.100.254/24 dev outside",
            "ip addr add 8.8.101.254/24 dev outside",
            "ip addr add 100.64.0.254/24 dev outside",
            "ip addr add 192.168.1.254/24 dev outside",
            "ip addr add 149.154.160.1/32 dev lo",
            "ip -n pi link set eth0 up",
            "ip -n router link set lan up",
            "ip -n router link set wan up",
            "ip link set outside up",
            "ip -n pi route add default via 192.168.77.1",
            "ip netns exec router sysctl -qw net.ipv4.ip_forward=1",
        ] {
            run(command);
        }
        Lab {
            work: work.to_owned(),
            miniupnpd: None,
        }
    }

    /// A lab without a router: the Pi has the public address.
    pub fn direct(work: &Path) -> Lab {
        let lab = Lab::start(work);
        for command in [
            "ip -n pi link del eth0",
            "ip -n router link set wan netns pi name eth0",
            "ip -n pi addr add 8.8.100.1/24 dev eth0",
            "ip -n pi link set eth0 up",
            "ip -n pi route add default via 8.8.100.254",
        ] {
            run(command);
        }
        lab
    }

    /// Translates addresses, as a provider does that shares one address, or a second router before
    /// the first: the internet sees 8.8.102.1.
    pub fn carrier(&self, shared: &str) {
        run("ip addr add 8.8.102.1/32 dev lo");
        run("nft add table ip carrier");
        run("nft add chain ip carrier input { type nat hook input priority 100; }");
        run(&format!(
            "nft add rule ip carrier input ip saddr {shared} snat to 8.8.102.1"
        ));
    }

    /// The router forwards this port to the Pi, as somebody has set it there.
    pub fn forward(&self, port: u16) {
        run(&format!(
            "ip netns exec router nft add rule inet miniupnpd prerouting iifname wan tcp dport {port} dnat ip to {PI}"
        ));
        run(&format!(
            "ip netns exec router nft add rule inet miniupnpd forward ip daddr {PI} accept"
        ));
    }

    /// The provider gives the router this address; its network has the gateway .254.
    pub fn address(&self, address: &str) {
        let gateway = format!("{}.254", address.rsplit_once('.').unwrap().0);
        run("ip -n router addr flush dev wan");
        run(&format!("ip -n router addr add {address}/24 dev wan"));
        run(&format!("ip -n router route replace default via {gateway}"));
        // Nothing finds its way to the old one any more, nor what was connected to it.
        run("ip neigh flush dev outside");
        run("ip netns exec router conntrack -F");
    }

    /// The router's DHCP gives the Pi another address.
    pub fn give(&self, old: &str, new: &str) {
        run(&format!("ip -n pi addr del {old}/24 dev eth0"));
        run(&format!("ip -n pi addr add {new}/24 dev eth0"));
        run("ip -n pi route replace default via 192.168.77.1");
        run("ip netns exec router conntrack -F");
    }

    /// Starts the router again: it has forgotten everything.
    pub fn boot(&mut self, speech: Speech) {
        self.halt();
        let word = |yes: bool| if yes { "yes" } else { "no" };
        let settings = format!(
            "ext_ifname=wan\nlistening_ip=lan\nhttp_port=5000\nenable_natpmp={}\nenable_upnp={}\nipv6_disable=yes\n\
             upnp_table_name=miniupnpd\nupnp_nat_table_name=miniupnpd\nupnp_forward_chain=forward\n\
             upnp_nat_chain=prerouting_upnp\nupnp_nat_postrouting_chain=postrouting_upnp\nsecure_mode=no\nsystem_uptime=no\n\
             uuid=5a1d4c3e-7c3c-4a0b-9d6e-2f4f1f0a7700\nallow 1024-65535 192.168.77.0/24 1024-65535\n\
             deny 0-65535 0.0.0.0/0 0-65535\n",
            word(speech.packets),
            word(speech.upnp)
        );
        let path = self.work.join("miniupnpd.conf");
        fs::write(&path, settings).unwrap();
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", "router", "miniupnpd", "-d", "-f"])
            .arg(&path)
            .arg("-P")
            .arg(self.work.join("pid"));
        let log = fs::File::create(self.work.join("miniupnpd.log")).unwrap();
        self.miniupnpd = Some(
            command
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .unwrap(),
        );
        let port = if speech.upnp { ":5000" } else { ":5351" };
        eventually("miniupnpd listens", || {
            output("ip netns exec router ss -Hltun").contains(port)
        });
    }

    /// Stops what the router speaks, and removes all that it forwards.
    pub fn halt(&mut self) {
        if let Some(mut child) = self.miniupnpd.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let mut nft = Command::new("ip");
        let nft = nft
            .args(["netns", "exec", "router", "nft", "-f", "-"])
            .stdin(Stdio::piped());
        let mut nft = nft.spawn().unwrap();
        nft.stdin
            .take()
            .unwrap()
            .write_all(RULES.as_bytes())
            .unwrap();
        assert!(nft.wait().unwrap().success());
        // And the connections that it translated.
        run("ip netns exec router conntrack -F");
    }

    /// The mappings of the router as `upnpc` lists them, which has nothing of ours.
    pub fn mappings(&self) -> Vec<String> {
        let said = output("ip netns exec pi upnpc -l");
        said.lines()
            .filter(|line| line.contains("TCP") && line.contains("->"))
            .map(|line| line.trim().to_owned())
            .collect()
    }

    /// Whether the kernel of the router forwards the port to the Pi, by whichever protocol it was
    /// asked.
    pub fn forwards(&self) -> bool {
        self.forwards_to(PI)
    }

    pub fn forwards_to(&self, address: &str) -> bool {
        let rules = output("ip netns exec router nft list chain inet miniupnpd prerouting_upnp");
        rules.contains(&format!("dnat ip to {address}:8443"))
    }
}

/// Runs a command to its end, which must be a good one.
pub fn run(command: &str) {
    let output = words(command);
    assert!(output.status.success(), "{command}: {}", text(&output));
}

pub fn output(command: &str) -> String {
    text(&words(command))
}

fn words(command: &str) -> Output {
    let words: Vec<_> = command.split(' ').collect();
    Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// A service that tells whoever calls from where the call comes. Its URL.
pub fn service() -> String {
    let listener = TcpListener::bind((OUTSIDE, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let peer = stream.peer_addr().unwrap().ip().to_string();
            let _ = stream.read(&mut [0; 4096]);
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{peer}\n",
                peer.len() + 1
            );
        }
    });
    format!("http://{address}/")
}
