//! The frozen binary form only grows at its ends: what `frozen.txt` lists stays as it is, in its order.
//!
//! Before the first release, a deliberate change writes `frozen.txt` anew: `BLESS=1 cargo test -p berth-plugin-api frozen`.

use std::collections::BTreeMap;
use std::path::Path;

/// The methods of each trait and the fields of each struct in `raw.rs`, in order.
fn items(source: &str) -> BTreeMap<String, Vec<String>> {
    let mut items = BTreeMap::new();
    let mut lines = source.lines().map(str::trim_end).peekable();
    while let Some(line) = lines.next() {
        if !matches!(line, "#[sabi_trait]" | "#[repr(C)]") {
            continue;
        }
        let head = lines
            .by_ref()
            .find(|line| line.starts_with("pub "))
            .expect("an item");
        let name = head.trim_end_matches(" {").to_owned();
        let body: Vec<&str> = lines
            .by_ref()
            .take_while(|line| *line != "}")
            .map(str::trim)
            .filter(|line| !line.starts_with("//") && !line.starts_with("#["))
            .collect();
        items.insert(name, members(&body.join(" ")));
    }
    items
}

/// Cuts a body at the ends of its methods and fields.
fn members(body: &str) -> Vec<String> {
    let mut members = Vec::new();
    let mut member = String::new();
    let mut depth = 0_u32;
    for character in body.chars() {
        match character {
            '(' | '[' | '{' | '<' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            // An arrow is no bracket.
            '>' if !member.ends_with('-') => depth -= 1,
            _ => {}
        }
        let at_end = depth == 0 && matches!(character, ';' | ',' | '}');
        if !at_end || character == '}' {
            member.push(character);
        }
        if at_end {
            let signature = member.split('{').next().unwrap_or_default();
            let words: Vec<_> = signature.split_whitespace().collect();
            members.push(words.join(" ").replace(", )", ")").replace("( ", "("));
            member.clear();
        }
    }
    members.retain(|member| !member.is_empty());
    members
}

#[test]
fn the_frozen_form_only_grows_at_its_ends() {
    let source = include_str!("../src/raw.rs");
    let present = items(source);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frozen.txt");
    if std::env::var_os("BLESS").is_some() {
        let text: String = present
            .iter()
            .flat_map(|(name, members)| {
                let members = members.iter().flat_map(|member| ["    ", member, "\n"]);
                [name.as_str(), "\n"].into_iter().chain(members)
            })
            .collect();
        std::fs::write(&path, text).expect("written");
    }
    let golden = std::fs::read_to_string(&path).expect("frozen.txt");
    let mut name = "";
    let mut frozen: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in golden.lines() {
        match line.strip_prefix("    ") {
            Some(member) => frozen.entry(name).or_default().push(member),
            None => name = line,
        }
    }
    assert!(frozen.len() >= 8, "frozen.txt lists {}", frozen.len());
    for (name, members) in frozen {
        let now = present
            .get(name)
            .unwrap_or_else(|| panic!("{name} is gone from raw.rs"));
        let may_grow = name.starts_with("pub trait") || name == "pub struct Module";
        assert!(
            now.starts_with(&members.iter().map(ToString::to_string).collect::<Vec<_>>()),
            "{name} changed otherwise than at its end:\nfrozen {members:#?}\nnow {now:#?}"
        );
        assert!(
            may_grow || now.len() == members.len(),
            "{name} is passed by value and can never grow"
        );
    }
}
