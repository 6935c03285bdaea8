//! Every policy has a page in docs/policies with all sections, and the page names every option.

use oo_policies::POLICIES;
use std::path::PathBuf;

const SECTIONS: [&str; 5] = [
    "## What it does",
    "## Paper",
    "## Cost a round",
    "## Options by effect",
    "## When not to use it",
];

fn read(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/policies")
        .join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn every_policy_has_its_page_with_all_sections() {
    for entry in POLICIES {
        let text = read(&format!("{}.md", entry.name));
        let headings: Vec<&str> = text.lines().filter(|l| l.starts_with('#')).collect();
        let mut expected = vec![format!("# {}", entry.name)];
        expected.extend(SECTIONS.map(String::from));
        assert_eq!(headings, expected, "{}", entry.name);
        // A sentence after the title, and something under every heading.
        for (heading, next) in text.split('\n').zip(text.split('\n').skip(2)) {
            assert!(
                !heading.starts_with('#') || !(next.is_empty() || next.starts_with('#')),
                "{}: nothing under `{heading}`",
                entry.name
            );
        }
    }
}

/// True when the first cell of some table row has `name`; options that act together share a row.
fn rows_name(text: &str, name: &str) -> bool {
    text.lines()
        .filter_map(|line| line.strip_prefix('|')?.split('|').next())
        .any(|cell| cell.contains(name))
}

#[test]
fn every_option_is_on_its_page_or_among_the_shared_ones() {
    let shared = read("README.md");
    for entry in POLICIES {
        let text = read(&format!("{}.md", entry.name));
        for (option, _) in entry.options {
            let name = format!("`{option}`");
            assert!(
                rows_name(&text, &name) || (text.contains("README.md") && rows_name(&shared, &name)),
                "{}: no word about {name}",
                entry.name
            );
        }
    }
}
