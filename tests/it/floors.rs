//! The order of the house: which room may import which, how long a file may be, what no file may name.
//!
//! The checks are functions of text, and each is shown to fail on a sample that breaks it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::project;

/// Rooms (the first module below the crate) by floor. A room imports from floors below its own only.
const FLOORS: [&[&str]; 7] = [
    &["error", "fault", "print", "proto", "quantity", "suggest"],
    &["record"],
    &["wire", "encode", "flow"],
    &["source", "sink", "offset"],
    &["pipeline"],
    &["server"],
    &["config", "cli", "main"],
];
/// The rooms of the top floor build everything, each other too.
const TOP: usize = FLOORS.len() - 1;
/// About ten screens: what is longer holds more than one thing.
const LINES: usize = 640;

#[test]
fn every_import_goes_down() {
    let mut broken = Vec::new();
    for (path, text) in files("src") {
        let module = module_of(&path);
        if module.is_empty() {
            continue; // lib.rs names all rooms and holds no code
        }
        broken.extend(upward_imports(&module, &text).into_iter().map(|what| format!("{path}: {what}")));
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn no_file_is_too_long() {
    let sources =
        ["src", "tests", "benches", "fuzz"].into_iter().flat_map(files).filter(|(path, _)| path.ends_with(".rs"));
    let long: Vec<_> =
        sources.filter_map(|(path, text)| too_long(&text).map(|lines| format!("{path}: {lines} lines"))).collect();
    assert!(long.is_empty(), "more than {LINES} lines:\n{}", long.join("\n"));
}

#[test]
fn no_file_names_somebodys_machine() {
    let named: Vec<_> = files("")
        .into_iter()
        .filter_map(|(path, text)| machine_path(&text).map(|line| format!("{path}: {line}")))
        .collect();
    assert!(named.is_empty(), "a path of one machine:\n{}", named.join("\n"));
}

fn floor_of(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// `src/source/postgres/mod.rs` is the module `source`, `postgres`; `src/lib.rs` is the crate itself: none.
fn module_of(path: &str) -> Vec<String> {
    let inner = path.strip_prefix("src/").unwrap_or(path).trim_end_matches(".rs");
    let mut module: Vec<String> = inner.split('/').map(String::from).collect();
    if module.last().is_some_and(|last| last == "mod") || module == ["lib"] {
        module.pop();
    }
    module
}

/// What a module imports, by `crate::…` or by climbing out of its room with `super::…`, from where it must not.
fn upward_imports(module: &[String], text: &str) -> Vec<String> {
    let room = module[0].as_str();
    let Some(floor) = floor_of(room) else {
        return vec![format!("room `{room}` stands on no floor: give it one in tests/it/floors.rs")];
    };
    let mut broken = Vec::new();
    for imported in imported_rooms(module.len(), text) {
        match floor_of(&imported) {
            _ if imported == room => {}
            Some(other) if other < floor || (floor == TOP && other == TOP) => {}
            Some(other) => broken.push(format!("`{room}` (floor {floor}) imports `{imported}` (floor {other})")),
            // What the crate's root names is a room; a macro or type of the root belongs to none.
            None => broken.push(format!("`{room}` imports `crate::{imported}`, which is no room")),
        }
    }
    broken
}

/// The rooms that code names, in order, with repeats. `depth` is the number of modules around the code: that many
/// `super` (one more in each inline `mod`) reach the crate.
fn imported_rooms(depth: usize, text: &str) -> Vec<String> {
    let tokens = tokens(&without_comments_and_literals(text));
    let is = |at: usize, token: &str| tokens.get(at).is_some_and(|found| found == token);
    let mut rooms = Vec::new();
    let mut braces = Vec::new(); // for each open brace: does it open an inline module?
    for at in 0..tokens.len() {
        match tokens[at].as_str() {
            "{" => braces.push(at >= 2 && is(at - 2, "mod")),
            "}" => drop(braces.pop()),
            "crate" if is(at + 1, "::") && !(at > 0 && is(at - 1, "$")) => roots_of_path(&tokens, at + 2, &mut rooms),
            "super" if !(at > 0 && is(at - 1, "::")) => {
                let climbs = (at..).step_by(2).take_while(|&at| is(at, "super") && is(at + 1, "::")).count();
                let modules = depth + braces.iter().filter(|&&inline| inline).count();
                if climbs >= modules {
                    roots_of_path(&tokens, at + 2 * climbs, &mut rooms);
                }
            }
            _ => {}
        }
    }
    rooms
}

/// The first names of the path that starts at a token: one, or those of a group `{a::b, c::{d, e}}`.
fn roots_of_path(tokens: &[String], start: usize, rooms: &mut Vec<String>) {
    if tokens.get(start).is_none_or(|token| token != "{") {
        rooms.extend(tokens.get(start).cloned());
        return;
    }
    let mut depth = 0;
    for at in start..tokens.len() {
        match tokens[at].as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return;
        }
        if depth == 1 && (tokens[at] == "{" || tokens[at] == ",") && tokens[at + 1] != "}" {
            rooms.push(tokens[at + 1].clone());
        }
    }
}

/// Words, `::`, and every other visible character for itself.
fn tokens(code: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let length = match first {
            ':' if rest.starts_with("::") => 2,
            _ if word > 0 => word,
            _ => first.len_utf8(),
        };
        tokens.push(rest[..length].to_string());
        rest = rest[length..].trim_start();
    }
    tokens
}

/// The code alone: a path in a comment or a string is no import.
fn without_comments_and_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let raw =
            rest.strip_prefix('r').map(|rest| rest.trim_start_matches('#')).is_some_and(|rest| rest.starts_with('"'));
        let in_word = code.ends_with(|c: char| c.is_alphanumeric() || c == '_') && !code.ends_with(['b', 'c']);
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if raw && !in_word {
            let hashes = rest[1..].chars().take_while(|&c| c == '#').count();
            let end = format!("\"{}", "#".repeat(hashes));
            let open = 1 + hashes + 1;
            rest[open..].find(&end).map_or(rest.len(), |at| open + at + end.len())
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' && is_character(rest) {
            quoted(rest, '\'')
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        code.push(' ');
        rest = &rest[length..];
    }
    code
}

/// The length of a (nesting) block comment at the start of the text.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let here = &text[at..];
        match () {
            () if here.starts_with("/*") => (depth, at) = (depth + 1, at + 2),
            () if here.starts_with("*/") => (depth, at) = (depth - 1, at + 2),
            () => at += here.chars().next().map_or(1, char::len_utf8),
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of a literal at the start of the text, quotes included.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

/// `'x'` and `'\n'` are characters, `'a` is a lifetime.
fn is_character(text: &str) -> bool {
    let mut after = text.chars().skip(1);
    match after.next() {
        Some('\\') => true,
        Some(_) => after.next() == Some('\''),
        None => false,
    }
}

fn too_long(text: &str) -> Option<usize> {
    Some(text.lines().count()).filter(|&lines| lines > LINES)
}

/// The first line that names a folder which exists on one machine only.
fn machine_path(text: &str) -> Option<&str> {
    let folders = ["root", "home", "Users", "work"].map(|folder| format!("/{folder}/"));
    let starts_path =
        |line: &str, at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "./}_-$*".contains(c));
    text.lines().find(|line| {
        folders.iter().any(|folder| line.match_indices(folder.as_str()).any(|(at, _)| starts_path(line, at)))
    })
}

/// All text files below a folder of the project, by path; what is built and what is hidden is not ours (`.ci` is).
fn files(below: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for path in entries.map(|entry| entry.expect("an entry of the tree").path()) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name == "target" || name.starts_with('.') && ![".ci", ".gitignore"].contains(&name) {
                continue;
            }
            if path.is_dir() && !path.is_symlink() {
                walk(&path, found);
            } else {
                found.push(path);
            }
        }
    }
    let (top, mut found) = (project(""), Vec::new());
    walk(&project(below), &mut found);
    found.sort();
    let relative =
        |path: &Path| path.strip_prefix(&top).expect("below the top").to_str().expect("a plain name").to_string();
    found.iter().filter_map(|path| Some((relative(path), fs::read_to_string(path).ok()?))).collect()
}

mod can_fail {
    use super::*;

    fn broken(path: &str, text: &str) -> Vec<String> {
        upward_imports(&module_of(path), text)
    }

    #[test]
    fn the_tree_is_read_at_all() {
        let sources = files("src");
        assert!(sources.iter().any(|(path, _)| path == "src/error.rs"));
        let imports: usize = sources.iter().map(|(path, text)| imported_rooms(module_of(path).len(), text).len()).sum();
        assert!(imports >= 10, "{imports} imports in the whole crate");
    }

    #[test]
    fn downward_imports_pass() {
        assert_eq!(
            broken("src/source/mod.rs", "use crate::error::Error; use crate::{flow::Outlet, record::{A, B}};"),
            [""; 0]
        );
        assert_eq!(
            broken("src/source/postgres/conn.rs", "use crate::source::retention::X; use super::super::Y;"),
            [""; 0]
        );
        assert_eq!(broken("src/record/row.rs", "use super::Position; mod tests { use super::super::batch; }"), [""; 0]);
        assert_eq!(broken("src/cli/tail.rs", "use crate::config::Config; use crate::pipeline::run;"), [""; 0]);
    }

    #[test]
    fn upward_and_sideways_imports_fail() {
        let one = |path: &str, text: &str, expected: &str| assert_eq!(broken(path, text), [expected], "{text}");
        let up = "`record` (floor 1) imports `pipeline` (floor 4)";
        one("src/record/batch.rs", "use crate::pipeline::Acks;", up);
        one("src/record/batch.rs", "use crate::{error::Error, pipeline::Acks};", up);
        one("src/record/batch.rs", "use crate::{\n    error::{self, Error},\n    pipeline,\n};", up);
        one("src/record/batch.rs", "pub(crate) fn f(a: &crate :: pipeline::Acks) {}", up);
        one("src/record/batch.rs", "use super::super::pipeline::Acks;", up);
        one("src/record/mod.rs", "use super::{error::Error, pipeline};", up);
        one("src/record/mod.rs", "fn a() { if b {} } mod tests { use super::super::pipeline; }", up);
        one("src/wire/pg/mod.rs", "use crate::encode::json;", "`wire` (floor 2) imports `encode` (floor 2)");
        one("src/sink/file.rs", "use crate::offset::X;", "`sink` (floor 3) imports `offset` (floor 3)");
        one("src/sink/file.rs", "use crate::tools::X;", "`sink` imports `crate::tools`, which is no room");
        one("src/tools.rs", "", "room `tools` stands on no floor: give it one in tests/it/floors.rs");
    }

    #[test]
    fn comments_and_literals_are_no_imports_and_hide_none() {
        let path = "src/record/batch.rs";
        let harmless = r####"//! [`crate::pipeline`]
            /* crate::pipeline /* nested */ crate::pipeline */
            const A: &str = "\" crate::pipeline"; const B: &str = r#"" crate::pipeline"#; const C: [char; 2] = ['"', '\''];
            fn f<'a>(b: &'a [u8]) -> &'a [u8] { b"crate::pipeline" } macro_rules! m { () => { $crate::pipeline } }"####;
        assert_eq!(broken(path, harmless), [""; 0]);
        for hidden in [
            "'\"'; use crate::pipeline;",
            "r\"\\\"; use crate::pipeline;",
            "br#\"\"#; use crate::pipeline;",
            "\"//\"; use crate::pipeline;",
            "'a: use crate::pipeline;",
            "/**/ use crate::pipeline;",
        ] {
            assert_eq!(broken(path, hidden).len(), 1, "{hidden}");
        }
    }

    #[test]
    fn long_files_and_machine_paths_fail() {
        assert_eq!(too_long(&"a\n".repeat(LINES)), None);
        assert_eq!(too_long(&"a\n".repeat(LINES + 1)), Some(LINES + 1));
        for folder in ["root", "home", "Users"] {
            let line = format!("see /{folder}/somebody/notes");
            assert_eq!(machine_path(&format!("fine\n{line}\nfine")), Some(line.as_str()));
        }
        assert_eq!(machine_path("https://example.org/home/page, $dest/root/usr, ./work/x, /var/lib/walbrook"), None);
    }
}
