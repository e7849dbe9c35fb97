use std::io::Write;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

use super::*;
use crate::home::router_sockets;

const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

#[test]
fn a_url_of_another_machine_than_the_router_is_not_asked() {
    assert_eq!(
        authority("http://192.168.1.1:5000/root.xml", ROUTER),
        Some("192.168.1.1:5000")
    );
    assert_eq!(
        authority("http://192.168.1.1/", ROUTER),
        Some("192.168.1.1")
    );
    for other in [
        "http://192.168.1.10:80/",
        "https://192.168.1.1/",
        "http://192.168.1.1@evil/",
        "http://192.168.1.1:80@evil/",
        "/ctl",
        "",
    ] {
        assert_eq!(authority(other, ROUTER), None, "{other}");
    }
}

#[test]
fn a_relative_control_url_is_resolved_from_the_root_and_the_description() {
    let resolve = |base, url| resolve(base, url, ROUTER);
    let location = "http://192.168.1.1:5000/desc/root.xml?x=/y";
    assert_eq!(resolve(location, "/ctl"), ["http://192.168.1.1:5000/ctl"]);
    assert_eq!(
        resolve(location, "ctl"),
        [
            "http://192.168.1.1:5000/desc/ctl",
            "http://192.168.1.1:5000/ctl"
        ]
    );
    assert_eq!(
        resolve("http://192.168.1.1", "ctl")[0],
        "http://192.168.1.1/ctl"
    );
    assert_eq!(
        resolve(location, "http://192.168.1.1:80/ctl"),
        ["http://192.168.1.1:80/ctl"]
    );
    for other in ["http://192.168.1.10:80/ctl", "https://192.168.1.1/ctl"] {
        assert_eq!(resolve(location, other), [""; 0], "{other}");
    }
}

/// A router at an address of its own. It answers searches for one target alone.
struct Device {
    address: Ipv4Addr,
    actions: Arc<Mutex<Vec<String>>>,
}

impl Device {
    /// Starts it; `answer` makes the answer to a call from the path, the action and the body.
    fn start(
        target: &'static str,
        answer: impl Fn(&str, &str, &str) -> Vec<u8> + Send + 'static,
    ) -> Self {
        let (address, search, nat_pmp) = router_sockets();
        let web = TcpListener::bind((address, 0)).unwrap();
        let port = web.local_addr().unwrap().port();

        thread::spawn(move || {
            // It is silent there.
            let _nat_pmp = nat_pmp;
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = search.recv_from(&mut buffer) {
                if String::from_utf8_lossy(&buffer[..length]).contains(&format!("ST: {target}\r\n"))
                {
                    let found = format!(
                        "HTTP/1.1 200 OK\r\nST: {target}\r\nLocation:http://{address}:{port}/desc/root.xml\r\n\r\n"
                    );
                    search.send_to(found.as_bytes(), from).unwrap();
                }
            }
        });

        let actions = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&actions);
        thread::spawn(move || {
            for mut stream in web.incoming().map_while(Result::ok) {
                let mut request = Vec::new();
                let mut buffer = [0; 4096];
                let whole = loop {
                    let text = String::from_utf8_lossy(&request).into_owned();
                    if text.starts_with("GET") && text.contains("\r\n\r\n")
                        || text.contains("</s:Envelope>")
                    {
                        break text;
                    }
                    let length = stream.read(&mut buffer).unwrap();
                    request.extend_from_slice(&buffer[..length]);
                };
                let path = whole.split(' ').nth(1).unwrap().to_owned();
                let action = whole
                    .split('#')
                    .nth(1)
                    .and_then(|rest| rest.split('"').next())
                    .unwrap_or_default();
                if !action.is_empty() {
                    seen.lock().unwrap().push(format!("{path} {action}"));
                }
                // A caller may hang up early.
                let _ = stream.write_all(&answer(&path, action, &whole));
            }
        });
        Self { address, actions }
    }

    fn actions(&self) -> Vec<String> {
        self.actions.lock().unwrap().clone()
    }
}

const IGD: &str = TARGETS[0];

fn http(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn services(urls: &[&str]) -> Vec<u8> {
    let service = |url: &&str| {
        format!(
            "<service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType><controlURL>{url}</controlURL></service>"
        )
    };
    http(&format!(
        "<root>{}</root>",
        urls.iter().map(service).collect::<String>()
    ))
}

fn value(name: &str, value: &str) -> Vec<u8> {
    http(&format!(
        "<s:Envelope xmlns:s='s'><s:Body><{name}>{value}</{name}></s:Body></s:Envelope>"
    ))
}

fn error(code: u32) -> Vec<u8> {
    let body = format!(
        "<UPnPError><errorCode>{code}</errorCode><errorDescription>so it says</errorDescription></UPnPError>"
    );
    http(&body)
}

#[test]
fn a_router_is_found_by_each_search_target() {
    for target in TARGETS {
        let device = Device::start(target, |path, action, _| match (path, action) {
            ("/desc/root.xml", _) => services(&["/ctl"]),
            _ => value("NewExternalIPAddress", "80.100.95.20"),
        });
        let found =
            Gateway::find(device.address).unwrap_or_else(|error| panic!("{target}: {error:?}"));
        assert_eq!(
            found.address(),
            Some(Ipv4Addr::new(80, 100, 95, 20)),
            "{target}"
        );
    }
}

#[test]
fn a_router_without_a_public_address_has_no_address() {
    for (said, address) in [("0.0.0.0", Some(Ipv4Addr::UNSPECIFIED)), ("", None)] {
        let device = Device::start(IGD, move |path, _, _| match path {
            "/desc/root.xml" => services(&["/ctl"]),
            _ => value("NewExternalIPAddress", said),
        });
        let found = Gateway::find(device.address).unwrap();
        assert_eq!(
            (found.said_address(), found.address()),
            (address, None),
            "{said:?}"
        );
    }
}

#[test]
fn a_refused_lease_is_replaced_by_a_permanent_mapping() {
    for code in LEASE_REFUSED {
        let device = Device::start(IGD, move |path, _, body| match path {
            "/desc/root.xml" => services(&["/ctl"]),
            _ if body.contains("<NewLeaseDuration>0<") => http("<x:AddPortMappingResponse/>"),
            _ => error(code),
        });
        Gateway::find(device.address)
            .unwrap()
            .forward(8443, 8443, 600)
            .unwrap_or_else(|error| panic!("{code}: {error:?}"));
        assert_eq!(device.actions().len(), 2, "{code}");
    }
    // Whatever else it says stands in the message.
    let device = Device::start(IGD, |path, _, _| {
        if path == "/ctl" {
            error(606)
        } else {
            services(&["/ctl"])
        }
    });
    let refused = Gateway::find(device.address)
        .unwrap()
        .forward(8443, 8443, 600)
        .unwrap_err();
    assert!(matches!(refused, UpnpError::Refused(reason) if reason == "so it says (606)"));
}

#[test]
fn of_several_services_the_connected_one_is_asked() {
    for urls in [["/down", "/up"], ["/up", "/down"]] {
        let device = Device::start(IGD, move |path, action, _| match (path, action) {
            ("/desc/root.xml", _) => services(&urls),
            ("/up", "GetExternalIPAddress") => value("NewExternalIPAddress", "80.100.95.20"),
            ("/down", "GetExternalIPAddress") => value("NewExternalIPAddress", "0.0.0.0"),
            ("/up", "AddPortMapping") => value("u:AddPortMappingResponse", ""),
            _ => error(501),
        });
        let found = Gateway::find(device.address).unwrap();
        assert_eq!(found.address(), Some(Ipv4Addr::new(80, 100, 95, 20)));
        found.forward(8443, 8443, 600).unwrap();
    }
}

#[test]
fn a_relative_control_url_is_tried_from_both() {
    for there in ["/ctl/wan", "/desc/ctl/wan"] {
        let device = Device::start(IGD, move |path, _, _| match path {
            "/desc/root.xml" => services(&["ctl/wan"]),
            path if path == there => value("NewExternalIPAddress", "80.100.95.20"),
            _ => b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone".to_vec(),
        });
        assert!(
            Gateway::find(device.address).unwrap().address().is_some(),
            "{there}"
        );
    }
}

#[test]
fn an_answer_with_a_wrong_content_length_is_read() {
    for change in [1000, -20] {
        let device = Device::start(IGD, move |path, _, _| {
            let answer = if path == "/ctl" {
                value("NewExternalIPAddress", "80.100.95.20")
            } else {
                services(&["/ctl"])
            };
            let text = String::from_utf8(answer).unwrap();
            let (_, body) = text.split_once("\r\n\r\n").unwrap();
            let length = i64::try_from(body.len()).unwrap() + change;
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
        });
        assert!(
            Gateway::find(device.address).unwrap().address().is_some(),
            "{change}"
        );
    }
}

#[test]
fn an_unclear_router_is_told_from_a_silent_one() {
    assert_eq!(
        Gateway::find(Ipv4Addr::new(127, 53, 19, 250)).err(),
        Some(FindError::Silent)
    );
    for (answer, words) in [
        (
            http("<html>Please log in</html>"),
            "lists no service for port forwarding: \"<html>Please log in</html>\"",
        ),
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
            "404 Not Found",
        ),
        (b"\0".to_vec(), "its description cannot be read"),
    ] {
        let device = Device::start(IGD, move |_, _, _| answer.clone());
        let Some(FindError::Unclear(reason)) = Gateway::find(device.address).err() else {
            panic!("{words}")
        };
        assert!(reason.contains(words), "{words}: {reason}");
    }
    // Nor is what it says to a call thrown away.
    let device = Device::start(IGD, |path, _, _| {
        if path == "/ctl" {
            http("Busy\n")
        } else {
            services(&["/ctl"])
        }
    });
    let refused = Gateway::find(device.address)
        .unwrap()
        .forward(8443, 8443, 600)
        .unwrap_err();
    assert!(
        matches!(refused, UpnpError::Refused(reason) if reason.contains("AddPortMapping") && reason.contains("200 OK \"Busy\""))
    );
}
