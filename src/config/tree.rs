//! The configuration before anyone knows what its keys mean: a tree of texts that know where they come from.
//!
//! Invariants:
//! - A scalar is kept as it was written: `1.10` stays `1.10`. What type it has is the schema's business.
//! - A key stands once in a mapping; a second one is an error of the YAML reader.
//! - No text of a value is ever part of an error made here: a value may be a secret.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use crate::error::{Error, Result};

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line of the file, from 1.
    Line(u64),
    /// The environment variable of this name.
    Variable(String),
    /// Nowhere: it follows from other values.
    Implied,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(line) => write!(f, " (line {line})"),
            Place::Variable(name) => write!(f, " (from {name})"),
            Place::Implied => Ok(()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub place: Place,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `key:` with nothing behind it, `~` or `null`: as if the key were not there. But `type: null` means the sink.
    Null {
        word: bool,
    },
    Scalar {
        text: String,
        /// Comes from a variable, where everything is text: a list may be written with commas.
        variable: bool,
    },
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    pub fn text(text: impl Into<String>, place: Place) -> Node {
        let variable = matches!(place, Place::Variable(_));
        Node { place, kind: Kind::Scalar { text: text.into(), variable } }
    }
    pub fn map(place: Place) -> Node {
        Node { place, kind: Kind::Map(Vec::new()) }
    }

    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, node)| node),
            _ => None,
        }
    }
    pub fn as_text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Puts a value at a key of a mapping, in place of the one that is there.
    pub fn insert(&mut self, key: &str, node: Node) {
        if !matches!(self.kind, Kind::Map(_)) {
            self.kind = Kind::Map(Vec::new());
        }
        if let Kind::Map(entries) = &mut self.kind {
            match entries.iter_mut().find(|(name, _)| name == key) {
                Some((_, old)) => *old = node,
                None => entries.push((key.to_owned(), node)),
            }
        }
    }
}

/// Reads a YAML document. `name`: the file's, for errors. Errors: `Config`.
pub fn from_yaml(name: &str, yaml: &str) -> Result<Node> {
    // The snippet would show lines of the file, and with them its passwords.
    let options = serde_saphyr::options! { with_snippet: false };
    let raw: Spanned<Raw> = serde_saphyr::from_str_with_options(yaml, options).map_err(|cause| {
        Error::config(format!("reading {name} as YAML"))
            .because(cause.to_string())
            .remedy("`walbrook spec` prints the schema of the file; the README has an example")
    })?;
    Ok(node(raw, yaml))
}

/// What YAML can say, as the reader hands it over.
enum Raw {
    Null,
    Text(String),
    /// A number or a boolean: its text is cut from the document, else this is its printed form.
    Typed(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(String, Spanned<Raw>)>),
}

fn node(raw: Spanned<Raw>, yaml: &str) -> Node {
    let place = Place::Line(raw.referenced.line());
    let scalar = |text| Kind::Scalar { text, variable: false };
    let kind = match raw.value {
        Raw::Null => Kind::Null { word: written(&raw.defined, yaml).is_some_and(|text| text == "null") },
        Raw::Text(text) => scalar(text),
        Raw::Typed(printed) => scalar(written(&raw.defined, yaml).unwrap_or(printed)),
        Raw::List(items) => Kind::List(items.into_iter().map(|item| node(item, yaml)).collect()),
        Raw::Map(entries) => Kind::Map(entries.into_iter().map(|(key, value)| (key, node(value, yaml))).collect()),
    };
    Node { place, kind }
}

/// The scalar as it stands in the document.
fn written(at: &serde_saphyr::Location, yaml: &str) -> Option<String> {
    let offset = usize::try_from(at.span().byte_offset()?).ok()?;
    let len = usize::try_from(at.span().byte_len()?).ok()?;
    let text = yaml.get(offset..offset.checked_add(len)?)?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping, a list or a scalar")
    }
    fn visit_bool<E>(self, value: bool) -> std::result::Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }
    fn visit_i64<E>(self, value: i64) -> std::result::Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }
    fn visit_u64<E>(self, value: u64) -> std::result::Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }
    fn visit_i128<E>(self, value: i128) -> std::result::Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }
    fn visit_u128<E>(self, value: u128) -> std::result::Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }
    fn visit_f64<E>(self, value: f64) -> std::result::Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }
    fn visit_str<E>(self, value: &str) -> std::result::Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }
    fn visit_unit<E>(self) -> std::result::Result<Raw, E> {
        Ok(Raw::Null)
    }
    fn visit_none<E>(self) -> std::result::Result<Raw, E> {
        Ok(Raw::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> std::result::Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_stay_as_written_and_know_their_line() {
        let tree = from_yaml("x", "a: 1.10\nb: 0x10\nc: \"true\"\nd:\n  - yes\n  - null\ne: 007\n").unwrap();
        let text = |key: &str| tree.get(key).and_then(Node::as_text).unwrap().to_owned();
        assert_eq!(
            (text("a"), text("b"), text("c"), text("e")),
            ("1.10".into(), "0x10".into(), "true".into(), "007".into())
        );
        assert_eq!(tree.get("c").unwrap().place, Place::Line(3));
        let Kind::List(items) = &tree.get("d").unwrap().kind else { panic!("a list") };
        assert_eq!(items[0].as_text(), Some("yes"));
        assert_eq!(items[1].kind, Kind::Null { word: true });
        assert_eq!(items[1].place, Place::Line(6));
    }

    #[test]
    fn a_key_that_stands_twice_is_an_error_with_its_line() {
        let error = from_yaml("walbrook.yaml", "a: 1\nb: 2\na: s3cret\n").unwrap_err();
        let message = format!("{error:?}");
        assert!(message.contains("walbrook.yaml") && message.contains("line 3") && message.contains('a'), "{message}");
        assert!(!message.contains("s3cret"), "{message}");
    }

    #[test]
    fn what_is_not_yaml_is_an_error_without_its_text() {
        let error = from_yaml("x", "source: {url: 's3cret\n").unwrap_err();
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    }
}
