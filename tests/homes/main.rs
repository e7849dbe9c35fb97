//! Homes in network namespaces, with real routers and proxies and a simulated Telegram:
//! `tests/homes/run`, as root.

mod changes;
#[path = "../common/mod.rs"]
mod common;
mod internet;
mod lab;
mod nat;
mod places;
mod router;

fn main() {
    let words: Vec<_> = std::env::args().skip(1).collect();
    if let [word, address] = &words[..]
        && word == "nat-pmp"
    {
        return places::speak_nat_pmp(address);
    }
    // Two lines of title, and lo.
    let sees_itself_alone =
        std::fs::read_to_string("/proc/self/net/dev").is_ok_and(|table| table.lines().count() == 3);
    assert!(
        sees_itself_alone,
        "tests/homes/run starts this: it makes networks"
    );
    match words.first().map(String::as_str) {
        Some("router") => router::main(),
        Some("changes") => changes::main(),
        Some("dns") => places::silent_name_servers(),
        Some("nat") => nat::main(),
        Some(home) => places::main(home.parse().unwrap()),
        None => panic!("name a home, 1 to 14, or `router`, `changes`, `dns` or `nat`"),
    }
}
