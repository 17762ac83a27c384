//! Configuration from the environment.
//!
//! Invariants:
//! - `WALBROOK_` and a key in capitals, levels joined by two underscores: `WALBROOK_SOURCE__URL`, `WALBROOK_MEMORY`,
//!   `WALBROOK_SINKS__0__TYPE`. It wins over the file. One that is no key is an error, as it is in the file.
//! - The short forms `SOURCE_<KEY>`, `SINK_<KEY>` (the first sink) and `STATE_DIR` count only where there is no file, and
//!   `WALBROOK_…` wins over them. Others may use such names too (`SOURCE_DATE_EPOCH`): only a near miss is an error.
//! - The text of a variable is taken as it is; a list is written with commas.

use super::shape::Shape;
use super::tree::{Kind, Node, Place};
use super::{Problem, Variables, join};
use crate::suggest::nearest;

const PREFIX: &str = "WALBROOK_";

/// Puts the `WALBROOK_…` variables into the tree.
pub fn merge(tree: &mut Node, variables: &Variables, problems: &mut Vec<Problem>) {
    let mut found: Vec<(Vec<String>, &str, &str)> = variables
        .iter()
        .filter(|(name, _)| !is_foreign(name))
        .filter_map(|(name, value)| {
            let key = name.strip_prefix(PREFIX)?;
            let path = key.split("__").map(str::to_ascii_lowercase).collect();
            Some((path, name.as_str(), value.as_str()))
        })
        .collect();
    // An item is appended behind those before it: 2 before 10.
    found.sort_by_cached_key(|(path, _, _)| {
        path.iter().map(|part| (part.parse::<u32>().ok(), part.clone())).collect::<Vec<_>>()
    });
    for (path, name, value) in found {
        put(tree, "", &path, name, value, problems);
    }
}

/// Variables with our prefix that are not keys: `WALBROOK_CONFIG` names the file, `WALBROOK_TOKEN` is of `subscribe`, and
/// Kubernetes gives every container `WALBROOK_PORT`, `WALBROOK_SERVICE_HOST`… when a service is called walbrook.
fn is_foreign(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else { return true };
    rest == "CONFIG" || rest == "TOKEN" || rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_")
}

fn put(node: &mut Node, at: &str, path: &[String], name: &str, value: &str, problems: &mut Vec<Problem>) {
    let place = Place::Variable(name.to_owned());
    let Some((key, rest)) = path.split_first() else {
        *node = Node::text(value, place);
        return;
    };
    if let Ok(index) = key.parse::<usize>() {
        if !matches!(node.kind, Kind::List(_)) {
            node.kind = Kind::List(Vec::new());
        }
        let Kind::List(items) = &mut node.kind else { unreachable!("made a list above") };
        if index > items.len() {
            let message = format!("there is no item {} before it", items.len());
            problems.push(Problem::at(&format!("{at}[{index}]"), &place, message));
            return;
        }
        if index == items.len() {
            items.push(Node::map(place));
        }
        return put(&mut items[index], &format!("{at}[{index}]"), rest, name, value, problems);
    }
    if node.get(key).is_none() {
        node.insert(key, Node::map(place));
    }
    let Kind::Map(entries) = &mut node.kind else { unreachable!("inserted above") };
    if let Some((_, child)) = entries.iter_mut().find(|(known, _)| known == key) {
        put(child, &join(at, key), rest, name, value, problems);
    }
}

/// The short forms as a tree of their own.
pub fn short_forms(variables: &Variables, shape: &Shape, problems: &mut Vec<Problem>) -> Node {
    let mut tree = Node::map(Place::Implied);
    let groups = [("SOURCE_", "source", shape.keys(&["source"])), ("SINK_", "sinks", shape.keys(&["sinks", "0"]))];
    for (prefix, group, keys) in groups {
        let mut entries = Node::map(Place::Implied);
        for (name, value) in variables {
            let Some(key) = name.strip_prefix(prefix).map(str::to_ascii_lowercase) else { continue };
            let place = Place::Variable(name.clone());
            // A sink whose type knows no url says so itself.
            if keys.contains(&key) || key == "url" {
                entries.insert(&key, Node::text(value.as_str(), place));
            } else if let Some(near) = nearest(&key, keys.iter().map(String::as_str)) {
                let message = format!("not a key; did you mean {prefix}{}?", near.to_ascii_uppercase());
                problems.push(Problem::at(&format!("{group}.{key}"), &place, message));
            }
        }
        let Kind::Map(found) = &entries.kind else { continue };
        if let (false, "sinks") = (found.is_empty(), group) {
            tree.insert(group, Node { place: Place::Implied, kind: Kind::List(vec![entries]) });
        } else if !found.is_empty() {
            tree.insert(group, entries);
        }
    }
    if let Some(value) = variables.get("STATE_DIR") {
        tree.insert("state_dir", Node::text(value.as_str(), Place::Variable("STATE_DIR".to_owned())));
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::super::tree::from_yaml;
    use super::*;

    fn merged(yaml: &str, variables: &[(&str, &str)]) -> (Node, Vec<Problem>) {
        let mut tree = from_yaml("x", yaml).unwrap();
        let mut problems = Vec::new();
        let variables = variables.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        merge(&mut tree, &variables, &mut problems);
        (tree, problems)
    }

    #[test]
    fn the_environment_wins_and_appends() {
        let (tree, problems) = merged(
            "source: {url: a, slot: s}\nsinks: [{type: file}]\n",
            &[
                ("WALBROOK_SOURCE__URL", "b"),
                ("WALBROOK_SINKS__0__PATH", "/p"),
                ("WALBROOK_SINKS__1__TYPE", "stdout"),
                ("WALBROOK_SERVICE_HOST", "10.0.0.1"),
                ("WALBROOK_PORT_8080_TCP", "x"),
                ("OTHER", "x"),
            ],
        );
        assert!(problems.is_empty());
        let source = tree.get("source").unwrap();
        assert_eq!(source.get("url").unwrap().as_text(), Some("b"));
        assert_eq!(source.get("url").unwrap().place, Place::Variable("WALBROOK_SOURCE__URL".into()));
        assert_eq!(source.get("slot").unwrap().as_text(), Some("s"));
        let Kind::List(sinks) = &tree.get("sinks").unwrap().kind else { panic!("a list") };
        assert_eq!(sinks.len(), 2);
        assert_eq!(sinks[0].get("type").unwrap().as_text(), Some("file"));
        assert_eq!(sinks[0].get("path").unwrap().as_text(), Some("/p"));
        assert_eq!(sinks[1].get("type").unwrap().as_text(), Some("stdout"));
        assert!(tree.get("service_host").is_none() && tree.get("port_8080_tcp").is_none());
    }

    #[test]
    fn eleven_sinks_keep_their_order_and_a_gap_is_an_error() {
        let names: Vec<String> = (0..11).map(|index| format!("WALBROOK_SINKS__{index}__NAME")).collect();
        let pairs: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
        let (tree, problems) = merged("{}", &pairs);
        assert!(problems.is_empty());
        let Kind::List(sinks) = &tree.get("sinks").unwrap().kind else { panic!("a list") };
        assert_eq!(sinks[10].get("name").unwrap().as_text(), Some("WALBROOK_SINKS__10__NAME"));
        let (_, problems) = merged("{}", &[("WALBROOK_SINKS__3__TYPE", "null")]);
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems, ["sinks[3] (from WALBROOK_SINKS__3__TYPE): there is no item 0 before it"]);
    }
}
