//! `${VAR}` and `${VAR:-default}` inside the values of a configuration file.
//!
//! Invariants:
//! - `$$` is a dollar sign, and so is one that stands before anything but `{` and `$`.
//! - What a variable holds is taken as it is: it is not expanded again.
//! - A variable that is not set and has no default is an error that names the key and the variable. As in a shell, an
//!   empty one counts as not set for `:-`.

use super::tree::{Kind, Node};
use super::{Problem, Variables, join};

/// Expands every scalar of the tree that comes from the file.
pub fn expand(node: &mut Node, path: &str, variables: &Variables, problems: &mut Vec<Problem>) {
    match &mut node.kind {
        Kind::Null { .. } => {}
        // Of a variable already: taken as it is.
        Kind::Scalar { variable: true, .. } => {}
        Kind::Scalar { text, variable } => {
            if !text.contains('$') {
                return;
            }
            match expand_text(text, variables) {
                Ok((expanded, used)) => {
                    *text = expanded;
                    *variable = used;
                }
                Err(message) => problems.push(Problem::at(path, &node.place, message)),
            }
        }
        Kind::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                expand(item, &format!("{path}[{index}]"), variables, problems);
            }
        }
        Kind::Map(entries) => {
            for (key, value) in entries {
                expand(value, &join(path, key), variables, problems);
            }
        }
    }
}

/// The text with its variables put in, and whether there were any.
fn expand_text(text: &str, variables: &Variables) -> Result<(String, bool), String> {
    let (mut expanded, mut used, mut rest) = (String::with_capacity(text.len()), false, text);
    while let Some(dollar) = rest.find('$') {
        let (before, behind) = rest.split_at(dollar);
        expanded.push_str(before);
        let behind = &behind[1..];
        if let Some(escaped) = behind.strip_prefix('$') {
            expanded.push('$');
            rest = escaped;
            continue;
        }
        let Some(inside) = behind.strip_prefix('{') else {
            expanded.push('$');
            rest = behind;
            continue;
        };
        let (reference, after) =
            inside.split_once('}').ok_or("`${` without its `}`; write `$$` for a dollar sign".to_owned())?;
        let (name, default) = match reference.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (reference, None),
        };
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(
                "`${…}` needs the name of a variable: letters, digits, `_`, and then `}` or `:-default}`".into()
            );
        }
        let value = variables.get(name).map(String::as_str);
        match (value, default) {
            (Some(""), Some(default)) | (None, Some(default)) => expanded.push_str(default),
            (Some(value), _) => expanded.push_str(value),
            (None, None) => {
                return Err(format!("the variable {name} is not set; set it, or write ${{{name}:-default}}"));
            }
        }
        (used, rest) = (true, after);
    }
    expanded.push_str(rest);
    Ok((expanded, used))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        [("A", "1"), ("EMPTY", ""), ("NESTED", "${A}$$")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    }

    #[test]
    fn variables_defaults_and_escapes() {
        for (text, expected) in [
            ("x${A}y${A}", "x1y1"),
            ("${NONE:-a:-b}", "a:-b"),
            ("${EMPTY:-full}", "full"),
            ("[${EMPTY}]", "[]"),
            ("${NONE:-}", ""),
            ("$${A}", "${A}"),
            ("pa$word$", "pa$word$"),
            ("${NESTED}", "${A}$$"),
            ("ä${A}ö", "ä1ö"),
        ] {
            assert_eq!(expand_text(text, &variables()).unwrap().0, expected, "{text}");
        }
        for wrong in ["${A", "${}", "${a b}", "${A:+x}", "${NONE}"] {
            assert!(expand_text(wrong, &variables()).is_err(), "{wrong}");
        }
        assert!(expand_text("${NONE}", &variables()).unwrap_err().contains("NONE is not set"));
    }
}
