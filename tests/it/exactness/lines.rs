//! Runs the program and reads its lines without losing a byte of a value.

use std::fmt;
use std::process::Stdio;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use tempfile::TempDir;

use crate::support::walbrook;

/// A JSON object with its keys in their order, each value as it stands.
#[derive(Clone, Debug, Default)]
pub struct Object(pub Vec<(String, Box<RawValue>)>);

impl Object {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.get())
    }
    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(key, _)| key.as_str()).collect()
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Object;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Object(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    pub op: String,
    pub db: String,
    pub schema: String,
    pub table: String,
    pub key: Option<Object>,
    pub before: Option<Object>,
    pub after: Option<Object>,
    pub unchanged: Vec<String>,
}

impl Line {
    pub fn parse(line: &str) -> Line {
        let whole: Object = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {}", start(line)));
        let text = |name: &str| -> String {
            let raw = whole.get(name).unwrap_or_else(|| panic!("no {name} in {}", start(line)));
            serde_json::from_str(raw).unwrap_or_else(|error| panic!("{name}: {error} in {}", start(line)))
        };
        let object = |name: &str| -> Option<Object> {
            let raw = whole.get(name).unwrap_or_else(|| panic!("no {name} in {}", start(line)));
            serde_json::from_str(raw).unwrap_or_else(|error| panic!("{name}: {error} in {}", start(line)))
        };
        let unchanged = whole.get("unchanged").map(|raw| serde_json::from_str(raw).expect("a list of names"));
        Line {
            op: text("op"),
            db: text("db"),
            schema: text("schema"),
            table: text("table"),
            key: object("key"),
            before: object("before"),
            after: object("after"),
            unchanged: unchanged.unwrap_or_default(),
        }
    }
}

/// As much of a line as a message needs.
fn start(line: &str) -> String {
    line.chars().take(600).collect()
}

/// One database, followed by one run after another.
pub struct Follower {
    url: String,
    state: TempDir,
    arguments: Vec<String>,
}

impl Follower {
    pub fn new(url: &str, arguments: &[&str]) -> Follower {
        let state = tempfile::tempdir().expect("a folder");
        let mut arguments: Vec<String> = arguments.iter().map(|argument| argument.to_string()).collect();
        if url.starts_with("postgres") {
            // Replication slots are the server's, not the database's: the name of the folder makes this one ours.
            let folder = state.path().file_name().expect("a name").to_string_lossy();
            let unique: String = folder.bytes().map(|byte| format!("{byte:02x}")).collect();
            let slot = format!("exact_{}_{unique}", std::process::id());
            arguments.extend(["--slot", &slot[..slot.len().min(63)], "--publication", "exact"].map(str::to_owned));
        }
        Follower { url: url.to_string(), state, arguments }
    }

    /// Everything that is new, up to the server's position now. The first time that is the snapshot.
    pub fn text(&self) -> String {
        self.try_text().unwrap_or_else(|error| panic!("walbrook failed: {error}"))
    }

    /// `Err`: what it said on stderr.
    pub fn try_text(&self) -> Result<String, String> {
        let output = walbrook()
            .args(["tail", &self.url, "--until", "current"])
            .arg("--state-dir")
            .arg(self.state.path())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .output()
            .expect("walbrook runs");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(String::from_utf8(output.stdout).expect("lines are UTF-8"))
    }

    pub fn lines(&self) -> Vec<Line> {
        self.text().lines().map(Line::parse).collect()
    }
}
