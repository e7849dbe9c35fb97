//! What routers answer by `UPnP`, read as a person would read it. The files are in tests/upnp.

use std::collections::BTreeSet;
use std::fs;

use pihook::home::upnp::xml::{UpnpAnswer, answer, description};

const IP: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";
const PPP: &str = "urn:schemas-upnp-org:service:WANPPPConnection:1";
const PLAIN: &[(&str, &str)] = &[(IP, "/ctl/IPConn")];
const QUERY: &[(&str, &str)] = &[(IP, "/ctl?a=1&b=2")];

/// A file, and the services in it.
const DESCRIPTIONS: &[(&str, &[(&str, &str)])] = &[
    ("blank-in-text.xml", PLAIN),
    ("cdata.xml", PLAIN),
    ("comment.xml", PLAIN),
    ("cut-off.xml", PLAIN),
    ("doctype.xml", PLAIN),
    ("empty.xml", &[]),
    ("entities.xml", QUERY),
    ("gbk.xml", PLAIN),
    ("junk-behind.xml", PLAIN),
    ("latin1-that-says-utf8.xml", PLAIN),
    ("latin1.xml", PLAIN),
    ("leading-blank.xml", PLAIN),
    ("login-page.html", &[]),
    (
        "media-server.xml",
        &[("urn:schemas-upnp-org:service:ContentDirectory:1", "/cds")],
    ),
    ("nul-both-ends.xml", PLAIN),
    ("plain.xml", PLAIN),
    ("prefixed.xml", PLAIN),
    ("raw-ampersand.xml", QUERY),
    ("trailing-nul.xml", PLAIN),
    (
        "two-ways-out.xml",
        &[
            (
                "urn:schemas-upnp-org:service:WANEthernetLinkConfig:1",
                "/ctl/eth",
            ),
            (PPP, "/ctl/ppp"),
            (IP, "/ctl/ip"),
        ],
    ),
    ("two-roots.xml", PLAIN),
    ("undeclared-prefix.xml", PLAIN),
    ("upper-case.xml", PLAIN),
    ("url-base.xml", &[(IP, "upnp/control/WANIPConn1")]),
    ("utf16.xml", PLAIN),
    ("utf8-mark.xml", PLAIN),
    ("wrong-nesting.xml", PLAIN),
];

/// What is read: a text, or an error's code and words.
type Read = Option<Result<&'static str, (u32, &'static str)>>;

/// A file, the element that is wanted, and what is read.
const ANSWERS: &[(&str, &str, Read)] = &[
    (
        "cut-off.xml",
        "NewExternalIPAddress",
        Some(Ok("80.100.95.20")),
    ),
    (
        "empty-element-undeclared.xml",
        "AddPortMappingResponse",
        Some(Ok("")),
    ),
    ("empty-element.xml", "AddPortMappingResponse", Some(Ok(""))),
    (
        "fault-ampersand.xml",
        "x",
        Some(Err((501, "Action Failed: NAT & firewall off"))),
    ),
    (
        "fault-blank.xml",
        "x",
        Some(Err((725, "OnlyPermanentLeasesSupported"))),
    ),
    (
        "fault-undeclared.xml",
        "x",
        Some(Err((402, "Invalid Args"))),
    ),
    (
        "fault-without-code.xml",
        "x",
        Some(Err((0, "Service not available"))),
    ),
    ("fault.xml", "x", Some(Err((718, "ConflictInMappingEntry")))),
    ("page.html", "NewExternalIPAddress", None),
    (
        "plain.xml",
        "NewExternalIPAddress",
        Some(Ok("80.100.95.20")),
    ),
    (
        "quoted-badly.xml",
        "NewExternalIPAddress",
        Some(Ok("80.100.95.20")),
    ),
    (
        "trailing-nul.xml",
        "NewExternalIPAddress",
        Some(Ok("80.100.95.20")),
    ),
    (
        "typed.xml",
        "NewExternalIPAddress",
        Some(Ok("80.100.95.20")),
    ),
    (
        "undeclared-prefix.xml",
        "NewExternalIPAddress",
        Some(Ok("80.100.95.20")),
    ),
];

fn file(kind: &str, name: &str) -> Vec<u8> {
    fs::read(format!("tests/upnp/{kind}-{name}")).unwrap()
}

#[test]
fn each_upnp_description_is_read() {
    for (name, expected) in DESCRIPTIONS {
        let read = description(&file("description", name));
        let services: Vec<_> = read
            .services
            .iter()
            .map(|(kind, url)| (kind.as_str(), url.as_str()))
            .collect();
        assert_eq!(services, *expected, "{name}");
        let base = (*name == "url-base.xml").then_some("http://192.168.1.1:49152/");
        assert_eq!(read.url_base.as_deref(), base, "{name}");
    }
}

#[test]
fn each_upnp_answer_is_read() {
    for (name, wanted, expected) in ANSWERS {
        let expected = expected.map(|expected| match expected {
            Ok(value) => UpnpAnswer::Value(value.into()),
            Err((code, words)) => UpnpAnswer::Refused(code, words.into()),
        });
        assert_eq!(answer(&file("answer", name), wanted), expected, "{name}");
    }
}

#[test]
fn each_file_of_tests_upnp_is_tested() {
    let there: BTreeSet<_> = fs::read_dir("tests/upnp")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let known = DESCRIPTIONS
        .iter()
        .map(|(name, ..)| format!("description-{name}"));
    let known = known
        .chain(ANSWERS.iter().map(|(name, ..)| format!("answer-{name}")))
        .chain(["README.md".into()]);
    assert_eq!(there, known.collect());
}

#[test]
fn no_upnp_input_keeps_the_reader_busy() {
    let limit = 64 * 1024;
    for piece in [
        "<a xmlns:q='b'>",
        "<",
        "&",
        "<service>",
        "&#1;",
        "<![CDATA[",
        "<!--",
        "<a b='",
        "\0",
        "<service><serviceType>",
    ] {
        let long: Vec<u8> = piece.bytes().cycle().take(limit).collect();
        assert!(description(&long).services.is_empty(), "{piece}");
        assert_eq!(answer(&long, "x"), None, "{piece}");
    }
    // What would keep a parser busy for hours.
    let bomb: String = (0..1000)
        .map(|number| format!("<a xmlns:q{number}='b'>"))
        .collect();
    assert_eq!(answer((bomb + &"</a>".repeat(1000)).as_bytes(), "b"), None);
}
