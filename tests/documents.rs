//! The documents name the commands, options and settings that the program has.

use std::collections::BTreeSet;
use std::fs;

use crate::common::{Home, text};

fn read(path: &str) -> String {
    fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The words behind each `mark` in `text`: the names of options.
fn options(text: &str, mark: &str) -> BTreeSet<String> {
    let name = |rest: &str| {
        rest.chars()
            .take_while(|c| c.is_ascii_lowercase() || *c == '-')
            .collect::<String>()
    };
    text.split(mark)
        .skip(1)
        .map(name)
        .filter(|name| !name.is_empty())
        .collect()
}

/// The settings of deploy/pihook.toml with their defaults or examples.
fn settings() -> Vec<(String, String)> {
    let is_name = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let text = read("deploy/pihook.toml");
    let lines = text.lines().map(|line| line.trim_start_matches("# "));
    let settings = lines
        .filter_map(|line| line.split_once(" = "))
        .filter(|(name, _)| is_name(name));
    settings
        .map(|(name, default)| (name.to_owned(), default.to_owned()))
        .collect()
}

#[test]
fn man_page_has_the_commands_and_options_of_the_help() {
    let help = text(
        &Home::new("http://127.0.0.1:1")
            .command_of("pihook", &["help"])
            .output()
            .unwrap(),
    );
    let page = read("deploy/pihook.1");
    let mut expected = options(&help, "--");
    // The help leaves these two out.
    expected.extend(["help".to_owned(), "version".to_owned()]);
    assert_eq!(options(&page, "Fl Fl "), expected);
    let commands: BTreeSet<_> = help
        .lines()
        .filter_map(|line| line.strip_prefix("  pihook "))
        .collect();
    assert!(commands.len() >= 7, "{help}");
    for usage in commands {
        let words: Vec<_> = usage
            .split(' ')
            .take_while(|word| !word.starts_with('['))
            .collect();
        let verbs = words
            .get(1)
            .map_or(vec![""], |verbs| verbs.split('|').collect());
        for verb in verbs {
            let item = format!("\n.It Cm {} {verb}", words[0]);
            assert!(page.contains(item.trim_end()), "{item:?}");
        }
    }
}

#[test]
fn readmes_have_all_settings_of_deploy_pihook_toml() {
    let settings = settings();
    assert!(settings.len() > 10, "{settings:?}");
    for readme in ["README.md", "README.ru.md"] {
        let readme = read(readme);
        for (name, default) in &settings {
            let row = readme
                .lines()
                .find(|line| line.starts_with(&format!("| `{name}` | ")));
            let row = row.unwrap_or_else(|| panic!("no row for {name}"));
            // A list is too long for the table.
            assert!(
                default.starts_with('[') || row.contains(&format!("`{default}`")),
                "{default}: {row}"
            );
        }
    }
}

#[test]
fn readmes_have_one_line_that_runs_the_tests() {
    let [english, russian] = ["README.md", "README.ru.md"].map(|readme| {
        let readme = read(readme);
        let lines = readme
            .split('`')
            .filter(|code| code.starts_with("cargo test "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    });
    // .ci/run takes it from there.
    assert_eq!(english, ["cargo test --locked --workspace"]);
    assert_eq!(russian, english);
}

#[test]
fn every_test_file_belongs_to_a_target() {
    let programs = read("tests/main.rs") + &read("Cargo.toml");
    for entry in fs::read_dir("tests").unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(module) = name.strip_suffix(".rs") else {
            continue;
        };
        let is_named = programs.contains(&format!("\nmod {module};"))
            || programs.contains(&format!("\"tests/{name}\""));
        assert!(is_named, "tests/main.rs has no: mod {module};");
    }
}

#[test]
fn workflows_pin_foreign_actions_to_a_commit() {
    let mut pinned = 0;
    for entry in fs::read_dir(".github/workflows").unwrap() {
        let path = entry.unwrap().path();
        let workflow = fs::read_to_string(&path).unwrap();
        for action in workflow
            .split("uses: ")
            .skip(1)
            .filter(|action| !action.starts_with("./"))
        {
            let commit = action
                .split('@')
                .nth(1)
                .unwrap()
                .split_whitespace()
                .next()
                .unwrap();
            let is_commit =
                commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(
                is_commit,
                "{}: {}",
                path.display(),
                action.lines().next().unwrap()
            );
            pinned += 1;
        }
    }
    assert!(pinned > 0);
}

#[test]
fn readmes_show_the_same_bot() {
    let [english, russian] = ["README.md", "README.ru.md"].map(|readme| {
        let readme = read(readme);
        readme
            .split("```rust\n")
            .nth(1)
            .unwrap()
            .split("```")
            .next()
            .unwrap()
            .to_owned()
    });
    // tests/own_crate.rs builds and runs it.
    assert_eq!(russian.replace("Привет!", "Hello!"), english);
}
