//! The picture of the README shows what the demo and the doctor really print. After a change of
//! their words, make it again: `PIHOOK_PICTURE=write cargo test picture::`.
//!
//! Addresses, ports and paths of the simulated home are replaced by those of a real one. The
//! doctor's lines end at the first cross: those below depend on the router of this machine.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;

use crate::common::outside::{self, Service};
use crate::common::{HOST, Home, TOKEN, telegram, text};
use simulated_telegram::Telegram;

const PICTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.github/demo.svg");
/// In pixels: a character of the font, a line, and the space around them.
const WIDTH: usize = 8;
const HEIGHT: usize = 20;
const MARGIN: usize = 20;

#[test]
fn picture_shows_what_the_demo_and_the_doctor_print() {
    let lines: Vec<_> = demo()
        .into_iter()
        .chain([String::new()])
        .chain(doctor())
        .collect();
    let picture = svg(&lines);
    if std::env::var_os("PIHOOK_PICTURE").is_some() {
        std::fs::write(PICTURE, &picture).unwrap();
    }
    let there = std::fs::read_to_string(PICTURE).unwrap();
    assert!(
        there == picture,
        "make it again: PIHOOK_PICTURE=write cargo test picture::\n{}",
        lines.join("\n")
    );
}

fn demo() -> Vec<String> {
    let home = Home::new("http://127.0.0.1:1");
    let mut demo = home.command_of("demo", &[]);
    let mut demo = demo
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    demo.stdin
        .take()
        .unwrap()
        .write_all("hello\nпривет\n".as_bytes())
        .unwrap();
    let output = demo.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let lines = String::from_utf8(output.stdout).unwrap();
    ["$ cargo run --example demo"]
        .into_iter()
        .chain(lines.lines())
        .map(str::to_owned)
        .collect()
}

/// Runs the doctor in a home whose address has changed.
fn doctor() -> Vec<String> {
    let telegram = telegram();
    let _bot = telegram.bot(TOKEN);
    let services: Vec<_> = (0..2).map(|_| Service::start(HOST)).collect();
    let home = Home::with(&settings(&telegram, &services), "");
    home.write_private("token", TOKEN);
    let pihook = home.run_bot_for("pihook", &telegram);
    pihook.wait_log("the webhook is registered");
    for service in &services {
        service.says("80.100.95.99");
    }
    // The bot has listened at a free port. The doctor looks at the port in the settings.
    home.write(
        "pihook.toml",
        &settings(&telegram, &services).replace("127.0.0.1:0", &pihook.address.to_string()),
    );
    let output = home.command_of("pihook", &["doctor"]).output().unwrap();
    let mut said = String::from_utf8(output.stdout).unwrap();
    for (here, there) in [
        (telegram.api_url(), "https://api.telegram.org".to_owned()),
        (
            format!("127.0.0.1:{}", pihook.address.port()),
            "0.0.0.0:8443".into(),
        ),
        ("127.0.0.1 is".into(), "api.telegram.org is".into()),
        ("pihook.toml,".into(), "/etc/pihook/pihook.toml,".into()),
        ("number_110201543_bot".into(), "my_bot".into()),
        (
            format!("process {}", pihook.child.id()),
            "process 512".into(),
        ),
    ] {
        assert!(said.contains(&here), "{here}: {said}");
        said = said.replace(&here, &there);
    }
    let cross = said.find('✗').unwrap_or_else(|| panic!("{said}"));
    let lines = said.lines().count() - said[cross..].lines().count() + 2;
    ["$ sudo pihook doctor"]
        .into_iter()
        .chain(said.lines().take(lines))
        .map(str::to_owned)
        .collect()
}

fn settings(telegram: &Telegram, services: &[Service]) -> String {
    let services = outside::setting(services);
    format!(
        "public_host = '{HOST}'\nlisten = '127.0.0.1:0'\nallow_from = ['127.0.0.0/8']\napi_url = '{}'\n{services}\n\
         [[bot]]\ntoken_file = 'token'\n",
        telegram.api_url()
    )
}

/// A terminal with these lines, which appear one after another.
fn svg(lines: &[String]) -> String {
    let width = lines.iter().map(|line| line.chars().count()).max().unwrap() * WIDTH + 2 * MARGIN;
    let height = lines.len() * HEIGHT + 2 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" \
         xml:space=\"preserve\">\n\
         <title>The demo, and the doctor in a home whose address has changed</title>\n\
         <style>text {{ font: 13px ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace; fill: #e6edf3; \
         animation: show 1ms both }}\n\
         @keyframes show {{ from {{ opacity: 0 }} to {{ opacity: 1 }} }}\n\
         @media (prefers-reduced-motion) {{ text {{ animation: none }} }}</style>\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#0d1117\"/>\n"
    );
    for (number, line) in lines
        .iter()
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
    {
        let colour = match line.chars().next() {
            Some('✓') => "#3fb950",
            Some('✗') => "#f85149",
            Some('!') => "#d29922",
            Some('$') => "#79c0ff",
            _ => "#e6edf3",
        };
        let (head, rest) = line.split_at(line.chars().next().map_or(0, char::len_utf8));
        let y = MARGIN + number * HEIGHT + 14;
        let delay = number * 400;
        let length = line.chars().count() * WIDTH;
        let _ = writeln!(
            svg,
            "<text x=\"{MARGIN}\" y=\"{y}\" textLength=\"{length}\" style=\"animation-delay: {delay}ms\">\
             <tspan fill=\"{colour}\">{}</tspan>{}</text>",
            escaped(head),
            escaped(rest)
        );
    }
    svg + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
