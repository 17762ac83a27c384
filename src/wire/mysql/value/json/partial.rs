//! What an update changed in a document, applied to the document as it was before.
//!
//! The grammar (MySQL source docs, "json_diff.h"):
//!
//! ```text
//! cell     length:4 of the document before, that document, difference*
//! difference   operation:1 path-length:packed path [value-length:packed document]
//! operation    0 replace: the path is there | 1 insert: an array's element before the one of this number or at its end, a
//!              member that is not there | 2 remove, without a value
//! path     "$" ("." member | "." '"' JSON string '"' | "[" number "]")*
//! packed   a length-encoded integer
//! ```

use std::borrow::Cow;
use std::cmp::Ordering;

use super::binary::{self, Budget, Item};
use super::{MAX_DEPTH, Wrong, print};
use crate::print::quoted;
use crate::wire::mysql::reader::Reader;

const PATH: Wrong = Wrong("a JSON difference whose path is in the document");
const DIFFERENCE: Wrong = Wrong("a JSON difference");

/// Containers on the way to a change are taken apart; all else stays as it is stored.
enum Node<'b> {
    Stored(Item<'b>),
    Object(Vec<(Cow<'b, str>, Node<'b>)>),
    Array(Vec<Node<'b>>),
}

/// Appends the document that a cell's document becomes by its differences.
pub(super) fn print(cell: &[u8], out: &mut Vec<u8>) -> Result<(), Wrong> {
    let (length, rest) = cell.split_first_chunk().ok_or(DIFFERENCE)?;
    let length = u32::from_le_bytes(*length) as usize;
    let (before, differences) = rest.split_at_checked(length).ok_or(DIFFERENCE)?;
    let mut budget = Budget::new(rest.len());
    let mut root = Node::Stored(match before {
        [] => Item::Null,
        before => binary::document(before, &mut budget)?,
    });
    let mut reader = Reader::new("JSON difference", differences, 0);
    while !reader.is_empty() {
        apply(&mut root, &mut reader, &mut budget)?;
    }
    write(&root, MAX_DEPTH, &mut budget, out)
}

fn apply<'b>(root: &mut Node<'b>, reader: &mut Reader<'b>, budget: &mut Budget) -> Result<(), Wrong> {
    let malformed = |_| DIFFERENCE;
    let operation = reader.u8().map_err(malformed)?;
    let length = reader.packed_length().map_err(malformed)?;
    let path = std::str::from_utf8(reader.take(length).map_err(malformed)?).map_err(|_| DIFFERENCE)?;
    let mut path = Path(path.strip_prefix('$').ok_or(PATH)?);
    let mut value = || {
        let length = reader.packed_length().map_err(malformed)?;
        binary::document(reader.take(length).map_err(malformed)?, budget).map(Node::Stored)
    };
    let value = match operation {
        0 | 1 => Some(value()?),
        2 => None,
        _ => return Err(DIFFERENCE),
    };
    let Some(mut leg) = path.next()? else {
        return match (operation, value) {
            (0, Some(value)) => {
                *root = value;
                Ok(())
            }
            _ => Err(PATH),
        };
    };
    // To the container that the last leg is about. What is taken apart is never deeper than a path is long, and is let go
    // of by recursion.
    let mut node = root;
    let mut depth = MAX_DEPTH;
    while let Some(next) = path.next()? {
        depth = print::deeper(depth)?;
        node = child(node, &leg, budget)?;
        leg = next;
    }
    match (operation, value) {
        (0, Some(value)) => *child(node, &leg, budget)? = value,
        (1, Some(value)) => insert(node, leg, value, budget)?,
        _ => remove(node, &leg, budget)?,
    }
    Ok(())
}

/// Takes a stored container apart; a scalar stays.
fn open<'b>(node: &mut Node<'b>, budget: &mut Budget) -> Result<(), Wrong> {
    let opened = match node {
        Node::Stored(Item::Array(container)) => {
            let mut elements = Vec::with_capacity(container.count);
            container.each(budget, |_, item| {
                elements.push(Node::Stored(item));
                Ok(())
            })?;
            Node::Array(elements)
        }
        Node::Stored(Item::Object(container)) => {
            let mut members = Vec::with_capacity(container.count);
            container.each(budget, |key, item| {
                members.push((Cow::Borrowed(key), Node::Stored(item)));
                Ok(())
            })?;
            Node::Object(members)
        }
        _ => return Ok(()),
    };
    *node = opened;
    Ok(())
}

fn child<'n, 'b>(node: &'n mut Node<'b>, leg: &Leg<'b>, budget: &mut Budget) -> Result<&'n mut Node<'b>, Wrong> {
    open(node, budget)?;
    match (node, leg) {
        (Node::Array(elements), Leg::Element(index)) => elements.get_mut(*index).ok_or(PATH),
        (Node::Object(members), Leg::Member(key)) => {
            let at = find(members, key).map_err(|_| PATH)?;
            Ok(&mut members[at].1)
        }
        _ => Err(PATH),
    }
}

fn insert<'b>(node: &mut Node<'b>, leg: Leg<'b>, value: Node<'b>, budget: &mut Budget) -> Result<(), Wrong> {
    open(node, budget)?;
    match (node, leg) {
        (Node::Array(elements), Leg::Element(index)) => elements.insert(index.min(elements.len()), value),
        (Node::Object(members), Leg::Member(key)) => {
            let Err(at) = find(members, &key) else { return Err(PATH) };
            members.insert(at, (key, value));
        }
        _ => return Err(PATH),
    }
    Ok(())
}

fn remove<'b>(node: &mut Node<'b>, leg: &Leg<'b>, budget: &mut Budget) -> Result<(), Wrong> {
    open(node, budget)?;
    match (node, leg) {
        (Node::Array(elements), Leg::Element(index)) if *index < elements.len() => {
            elements.remove(*index);
        }
        (Node::Object(members), Leg::Member(key)) => {
            members.remove(find(members, key).map_err(|_| PATH)?);
        }
        _ => return Err(PATH),
    }
    Ok(())
}

/// Where a member is, or where it would be: shorter names come first, then by their bytes.
fn find(members: &[(Cow<'_, str>, Node<'_>)], key: &str) -> Result<usize, usize> {
    members.binary_search_by(|(name, _)| match name.len().cmp(&key.len()) {
        Ordering::Equal => name.as_bytes().cmp(key.as_bytes()),
        unequal => unequal,
    })
}

/// Recursion ends at `depth`, which the paths cannot exceed: a leg opens one container at most, within a document whose
/// levels have been counted, or in a new value.
fn write(node: &Node<'_>, depth: u32, budget: &mut Budget, out: &mut Vec<u8>) -> Result<(), Wrong> {
    match node {
        Node::Stored(item) => return print::print(item, depth, budget, out),
        Node::Array(elements) => {
            let depth = print::deeper(depth)?;
            out.push(b'[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    out.extend_from_slice(b", ");
                }
                write(element, depth, budget, out)?;
            }
            out.push(b']');
        }
        Node::Object(members) => {
            let depth = print::deeper(depth)?;
            out.push(b'{');
            for (index, (key, value)) in members.iter().enumerate() {
                if index > 0 {
                    out.extend_from_slice(b", ");
                }
                quoted(key, out);
                out.extend_from_slice(b": ");
                write(value, depth, budget, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

enum Leg<'b> {
    Member(Cow<'b, str>),
    Element(usize),
}

/// What is left of a path.
struct Path<'b>(&'b str);

impl<'b> Path<'b> {
    fn next(&mut self) -> Result<Option<Leg<'b>>, Wrong> {
        if self.0.is_empty() {
            return Ok(None);
        }
        if let Some(rest) = self.0.strip_prefix('[') {
            let (number, rest) = rest.split_once(']').ok_or(PATH)?;
            self.0 = rest;
            return Ok(Some(Leg::Element(number.parse().map_err(|_| PATH)?)));
        }
        let rest = self.0.strip_prefix('.').ok_or(PATH)?;
        if !rest.starts_with('"') {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (member, rest) = rest.split_at(end);
            self.0 = rest;
            return Ok(Some(Leg::Member(Cow::Borrowed(member))));
        }
        // The quote that no backslash stands before.
        let mut escaped = false;
        let end = rest[1..].find(|character| {
            let ends = character == '"' && !escaped;
            escaped = character == '\\' && !escaped;
            ends
        });
        let (quoted, rest) = rest.split_at(end.ok_or(PATH)? + 2);
        self.0 = rest;
        let inside = &quoted[1..quoted.len() - 1];
        let member = match inside.contains('\\') {
            true => Cow::Owned(serde_json::from_str(quoted).map_err(|_| PATH)?),
            false => Cow::Borrowed(inside),
        };
        Ok(Some(Leg::Member(member)))
    }
}
