//! Holds a tree against the JSON Schema of the configuration: what `walbrook spec` prints is what is checked.
//!
//! Invariants:
//! - Every problem is reported, not the first alone, each with its key and its place.
//! - A text becomes what the schema wants at its key: a number, a boolean, a list of texts. Nothing is guessed from the
//!   text.
//! - The text of a key that is `writeOnly` is in no message.
//!
//! It knows as much of JSON Schema as the schema uses: `type`, `properties`, `required`, `items`, `enum`, `const`,
//! `oneOf` (texts, or objects told apart by a constant property), `anyOf` with `null`, `minimum`, `maximum`, `minItems`
//! and `$ref` below `$defs`; the definitions of texts that have a grammar are checked by the code that reads them. A test
//! finds any other word.

use serde_json::{Map, Value};

use super::tree::{Kind, Node};
use super::{Problem, join};
use crate::suggest::nearest;

/// Reads a text that has a grammar; the error says what is wrong with it.
pub type Format = fn(&str) -> Result<(), String>;

pub struct Shape {
    root: Value,
    formats: &'static [(&'static str, Format)],
}

impl Shape {
    pub fn new(root: Value, formats: &'static [(&'static str, Format)]) -> Self {
        Shape { root, formats }
    }

    pub fn root(&self) -> &Value {
        &self.root
    }

    /// The tree as JSON that the schema allows, with what is wrong added to `problems`.
    pub fn read(&self, tree: &Node, problems: &mut Vec<Problem>) -> Value {
        Reader { shape: self, problems }.value(&self.root, tree, "").unwrap_or(Value::Null)
    }

    /// The keys of the mapping at a path, whatever variant it has. A number in the path means any item.
    pub fn keys(&self, path: &[&str]) -> Vec<String> {
        let mut found = vec![&self.root];
        for part in path {
            found = found.into_iter().flat_map(|schema| self.step(schema, part)).collect();
        }
        let mut keys: Vec<String> =
            found.iter().flat_map(|schema| self.properties(schema)).map(|(key, _)| key.clone()).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    fn step<'s>(&'s self, schema: &'s Value, part: &str) -> Vec<&'s Value> {
        match self.resolve(schema).get("items") {
            Some(items) if part.bytes().all(|byte| byte.is_ascii_digit()) => vec![items],
            _ => self.properties(schema).into_iter().filter(|(key, _)| *key == part).map(|(_, value)| value).collect(),
        }
    }

    /// The properties of an object, of all its variants where it has several.
    fn properties<'s>(&'s self, schema: &'s Value) -> Vec<(&'s String, &'s Value)> {
        let schema = self.resolve(schema);
        let own = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        let variants = variants(schema).into_iter().flat_map(|variant| self.properties(variant));
        own.chain(variants).collect()
    }

    /// The grammar of a definition that has one.
    fn format(&self, schema: &Value) -> Option<Format> {
        let definitions = self.root.get("$defs")?.as_object()?;
        let is_it = |(name, _): &&(&str, Format)| definitions.get(*name).is_some_and(|own| std::ptr::eq(own, schema));
        self.formats.iter().find(is_it).map(|(_, format)| *format)
    }

    /// Follows `$ref`, and `anyOf` to the alternative that is not `null`.
    fn resolve<'s>(&'s self, mut schema: &'s Value) -> &'s Value {
        loop {
            let reference = schema.get("$ref").and_then(Value::as_str).and_then(|at| at.strip_prefix('#'));
            let alternatives = schema.get("anyOf").and_then(Value::as_array);
            schema = match (reference, alternatives) {
                (Some(pointer), _) => match self.root.pointer(pointer) {
                    Some(target) => target,
                    None => return schema,
                },
                (None, Some(alternatives)) => match alternatives.iter().find(|schema| !is_null(schema)) {
                    Some(target) => target,
                    None => return schema,
                },
                (None, None) => return schema,
            };
        }
    }
}

fn variants(schema: &Value) -> Vec<&Value> {
    schema.get("oneOf").and_then(Value::as_array).into_iter().flatten().collect()
}

fn is_null(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("null")
}

/// Whether the schema allows this type, alone or among others.
fn allows(schema: &Value, wanted: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(one)) => one == wanted,
        Some(Value::Array(several)) => several.iter().any(|one| one == wanted),
        _ => false,
    }
}

/// The texts a schema allows, when it is a choice of texts.
fn choices(schema: &Value) -> Option<Vec<&str>> {
    if let Some(list) = schema.get("enum").and_then(Value::as_array) {
        return Some(list.iter().filter_map(Value::as_str).collect());
    }
    if let Some(one) = schema.get("const").and_then(Value::as_str) {
        return Some(vec![one]);
    }
    let lists: Option<Vec<_>> = variants(schema).into_iter().map(choices).collect();
    lists.map(|lists| lists.concat()).filter(|list| !list.is_empty())
}

/// The property that tells the variants of an object apart, and its value in this one.
fn tag(variant: &Value) -> Option<(&str, &str)> {
    let properties = variant.get("properties")?.as_object()?;
    properties.iter().find_map(|(key, schema)| Some((key.as_str(), schema.get("const")?.as_str()?)))
}

struct Reader<'s, 'p> {
    shape: &'s Shape,
    problems: &'p mut Vec<Problem>,
}

impl Reader<'_, '_> {
    /// None where there is nothing, or nothing that could be used.
    fn value(&mut self, schema: &Value, node: &Node, path: &str) -> Option<Value> {
        let secret = schema.get("writeOnly") == Some(&Value::Bool(true));
        let schema = self.shape.resolve(schema);
        match &node.kind {
            Kind::Null { word } => (*word && choices(schema)?.contains(&"null")).then(|| Value::from("null")),
            Kind::Map(entries) => self.map(schema, node, entries, path),
            Kind::List(items) => self.list(schema, node, items, path),
            Kind::Scalar { text, variable } => match self.scalar(schema, text, *variable) {
                Ok(value) => Some(value),
                Err(message) if secret => {
                    self.problem(path, node, message.replace(&format!("{text:?}"), "the value"));
                    None
                }
                Err(message) => {
                    self.problem(path, node, message);
                    None
                }
            },
        }
    }

    fn problem(&mut self, path: &str, node: &Node, message: impl Into<String>) {
        self.problems.push(Problem::at(path, &node.place, message));
    }

    fn map(&mut self, schema: &Value, node: &Node, entries: &[(String, Node)], path: &str) -> Option<Value> {
        let schema = self.variant(schema, node, path)?;
        let schema = self.shape.resolve(schema);
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            self.problem(path, node, format!("wants {}, not a mapping of keys", wanted(schema)));
            return None;
        };
        let mut object = Map::new();
        for (key, child) in entries {
            let path = join(path, key);
            let Some(schema) = properties.get(key) else {
                let known: Vec<&str> = properties.keys().map(String::as_str).collect();
                let hint = match nearest(key, known.iter().copied()) {
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("the keys here are {}", known.join(", ")),
                };
                self.problem(&path, child, format!("unknown key; {hint}"));
                continue;
            };
            if let Some(value) = self.value(schema, child, &path) {
                object.insert(key.clone(), value);
            }
        }
        for required in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            let Some(key) = required.as_str() else { continue };
            if !object.contains_key(key) && node.get(key).is_none_or(|child| matches!(child.kind, Kind::Null { .. })) {
                let about = properties.get(key).and_then(|schema| schema.get("description")).and_then(Value::as_str);
                let about = about.map(|text| format!(": {}", first_sentence(text))).unwrap_or_default();
                self.problem(&join(path, key), node, format!("is missing{about}"));
            }
        }
        Some(Value::Object(object))
    }

    /// The variant of an object that its constant property names.
    fn variant<'v>(&mut self, schema: &'v Value, node: &Node, path: &str) -> Option<&'v Value> {
        let variants = variants(schema);
        let tags: Vec<(&str, &str)> = variants.iter().filter_map(|variant| tag(variant)).collect();
        let Some((key, _)) = tags.first() else { return Some(schema) };
        let names = || tags.iter().map(|(_, name)| *name);
        let listed = names().collect::<Vec<_>>().join(", ");
        let name = node.get(key).and_then(|node| match node.kind {
            Kind::Null { word: true } => Some("null"),
            _ => node.as_text(),
        });
        let Some(name) = name else {
            self.problem(&join(path, key), node, format!("is missing: one of {listed}"));
            return None;
        };
        let found = variants.into_iter().find(|variant| tag(variant).is_some_and(|(_, own)| own == name));
        if found.is_none() {
            let hint = nearest(name, names()).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            let node = node.get(key).unwrap_or(node);
            self.problem(&join(path, key), node, format!("{name:?} is none of {listed}{hint}"));
        }
        found
    }

    fn list(&mut self, schema: &Value, node: &Node, items: &[Node], path: &str) -> Option<Value> {
        let Some(item) = schema.get("items") else {
            self.problem(path, node, format!("wants {}, not a list", wanted(schema)));
            return None;
        };
        let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
        if (items.len() as u64) < least {
            self.problem(path, node, format!("wants at least {least}"));
        }
        let read = |(index, node)| self.value(item, node, &format!("{path}[{index}]"));
        Some(Value::Array(items.iter().enumerate().filter_map(read).collect()))
    }

    fn scalar(&self, schema: &Value, text: &str, variable: bool) -> Result<Value, String> {
        if let Some(choices) = choices(schema) {
            if choices.contains(&text) {
                return Ok(Value::from(text));
            }
            let hint = nearest(text, choices.iter().copied());
            let hint = hint.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            return Err(format!("{text:?} is none of {}{hint}", choices.join(", ")));
        }
        if let Some(format) = self.shape.format(schema) {
            return format(text).map(|()| Value::from(text));
        }
        if allows(schema, "boolean") {
            return match text {
                "true" => Ok(Value::Bool(true)),
                "false" => Ok(Value::Bool(false)),
                _ => Err(format!("{text:?} is neither true nor false")),
            };
        }
        if allows(schema, "integer") {
            return integer(schema, text);
        }
        if allows(schema, "string") {
            return Ok(Value::from(text));
        }
        if let (true, Some(item)) = (variable, schema.get("items")) {
            let item = self.shape.resolve(item);
            let parts = split_list(text);
            return parts.into_iter().map(|part| self.scalar(item, part, false)).collect::<Result<_, _>>();
        }
        Err(format!("{text:?} stands where {} is wanted", wanted(schema)))
    }
}

fn integer(schema: &Value, text: &str) -> Result<Value, String> {
    let number: i64 = text.parse().map_err(|_| format!("{text:?} is not a whole number"))?;
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    let (least, most) = (bound("minimum"), bound("maximum"));
    let inside = least.is_none_or(|least| number as f64 >= least) && most.is_none_or(|most| number as f64 <= most);
    match (inside, least, most) {
        (true, ..) => Ok(Value::from(number)),
        (false, Some(least), Some(most)) => Err(format!("{number} is not within {least} to {most}")),
        (false, Some(least), None) => Err(format!("{number} is less than {least}")),
        (false, _, most) => Err(format!("{number} is more than {}", most.unwrap_or_default())),
    }
}

/// Cuts a list at its commas; one between double quotes belongs to an identifier.
pub fn split_list(text: &str) -> Vec<&str> {
    let mut quoted = false;
    text.split(move |letter| {
        quoted ^= letter == '"';
        letter == ',' && !quoted
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
    .collect()
}

fn wanted(schema: &Value) -> &'static str {
    if allows(schema, "array") {
        "a list [one, two]"
    } else if schema.get("properties").is_some() || schema.get("oneOf").is_some() && choices(schema).is_none() {
        "a mapping of keys"
    } else {
        "a single value"
    }
}

fn first_sentence(text: &str) -> &str {
    text.split_once(". ").map_or(text, |(first, _)| first).trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::super::tree::{Place, from_yaml};
    use super::*;
    use serde_json::json;

    fn even(text: &str) -> Result<(), String> {
        match text.parse::<u64>() {
            Ok(number) if number % 2 == 0 => Ok(()),
            _ => Err(format!("{text:?} is not even")),
        }
    }

    fn shape() -> Shape {
        let root = json!({
            "type": "object", "additionalProperties": false, "required": ["url"],
            "properties": {
                "url": { "$ref": "#/$defs/Even", "writeOnly": true, "description": "Where. More." },
                "mode": { "anyOf": [{ "$ref": "#/$defs/Mode" }, { "type": "null" }] },
                "count": { "type": ["integer", "null"], "minimum": 1, "maximum": 9 },
                "on": { "type": "boolean" },
                "tables": { "type": "array", "items": { "type": "string" } },
                "sinks": { "type": "array", "minItems": 1, "items": { "oneOf": [
                    { "type": "object", "required": ["type", "path"],
                      "properties": { "type": { "const": "file" }, "path": { "type": "string" } } },
                    { "type": "object", "required": ["type"], "properties": { "type": { "const": "null" } } } ] } },
            },
            "$defs": { "Even": { "type": "string" }, "Mode": { "oneOf": [{ "const": "initial" }, { "enum": ["never", "only"] }] } },
        });
        Shape::new(root, &[("Even", even)])
    }

    fn read(yaml: &str) -> (Value, Vec<String>) {
        let mut problems = Vec::new();
        let value = shape().read(&from_yaml("x", yaml).unwrap(), &mut problems);
        (value, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn texts_become_what_the_schema_wants() {
        let (value, problems) = read(
            "url: 12\nmode: only\ncount: '3'\non: true\ntables: [a, 1.10]\nsinks: [{type: file, path: 007}, {type: null}]",
        );
        assert_eq!(problems, [""; 0]);
        assert_eq!(
            value,
            json!({"url": "12", "mode": "only", "count": 3, "on": true, "tables": ["a", "1.10"],
                   "sinks": [{"type": "file", "path": "007"}, {"type": "null"}]})
        );
    }

    #[test]
    fn every_problem_is_told_with_its_key_its_line_and_a_hint() {
        let (_, problems) = read(
            "url: 13\nmode: onyl\ncount: 10\non: yes\ntables: a\nsinks:\n  - type: file\n    pth: x\n  - type: nul\n  - path: x\n",
        );
        let expected = [
            "url (line 1): the value is not even",
            "mode (line 2): \"onyl\" is none of initial, never, only; did you mean only?",
            "count (line 3): 10 is not within 1 to 9",
            "on (line 4): \"yes\" is neither true nor false",
            "tables (line 5): \"a\" stands where a list [one, two] is wanted",
            "sinks[0].pth (line 8): unknown key; did you mean path?",
            "sinks[0].path (line 7): is missing",
            "sinks[1].type (line 9): \"nul\" is none of file, null; did you mean null?",
            "sinks[2].type (line 10): is missing: one of file, null",
        ];
        assert_eq!(problems, expected);
        let (_, problems) = read("sinks: []\ntables: {a: b}\nmode: [x]");
        let expected = [
            "sinks (line 1): wants at least 1",
            "tables (line 2): wants a list [one, two], not a mapping of keys",
            "mode (line 3): wants a single value, not a list",
            "url (line 1): is missing: Where",
        ];
        assert_eq!(problems, expected);
    }

    #[test]
    fn a_list_from_a_variable_is_cut_at_its_commas() {
        let mut tree = Node::map(Place::Implied);
        tree.insert("url", Node::text("2", Place::Implied));
        tree.insert("tables", Node::text("public.*, \"a,b\".c,", Place::Variable("T".into())));
        let mut problems = Vec::new();
        let value = shape().read(&tree, &mut problems);
        assert!(problems.is_empty());
        assert_eq!(value["tables"], json!(["public.*", "\"a,b\".c"]));
    }

    #[test]
    fn keys_of_all_variants() {
        assert_eq!(shape().keys(&["sinks", "0"]), ["path", "type"]);
        assert_eq!(shape().keys(&[]), ["count", "mode", "on", "sinks", "tables", "url"]);
    }
}
