//! Arrays in Postgres' printed form.
//!
//! Invariants:
//! - An unquoted `NULL` is NULL, a quoted one is the text; an element is decoded by its own type's function.
//! - Braces are balanced and nothing follows the last one; at most [`MAX_DIMENSIONS`] deep.
//! - Only an element with a backslash is copied, into one buffer for the whole walk.

use crate::record::{Array, ArrayEvent, ArrayType, DataType, Form, Scratch, Value, ValueError};

/// The server's `MAXDIM`.
const MAX_DIMENSIONS: usize = 6;

/// An array, or as `Text` its printed form where it has bounds of its own: the elements alone would lose them.
pub(super) fn array<'b>(bytes: &'b [u8], form: Form<'b>) -> Result<Value<'b>, ValueError> {
    match (bytes.first(), form.data_type) {
        (Some(b'{'), DataType::Array(array_type)) => Ok(Value::Array(Array { bytes, array_type })),
        (Some(b'['), DataType::Array(_)) => super::text::text(bytes, form),
        _ => Err(ValueError::new("an array", bytes)),
    }
}

/// What may stand at a place.
#[derive(Clone, Copy, PartialEq)]
enum Next {
    /// Behind an opening brace.
    ItemOrClose,
    /// Behind a delimiter.
    Item,
    /// Behind an element or a closing brace.
    DelimiterOrClose,
}

/// Visits the elements in order. From the manual, "Array Input and Output Syntax":
///
/// ```text
/// array    "{" [item {delimiter item}] "}"
/// item     array | NULL | element without " \ { } delimiter and white space, not empty, not NULL
///          | '"' {any byte but " and \, or a backslash and any byte} '"'
/// ```
pub(super) fn walk(
    bytes: &[u8],
    array_type: &ArrayType,
    visit: &mut dyn FnMut(ArrayEvent<'_>) -> Result<(), ValueError>,
) -> Result<(), ValueError> {
    let wrong = || ValueError::new("an array as the server prints it", bytes);
    let (mut unescaped, mut scratch) = (Vec::new(), Scratch::default());
    let mut depth = 0;
    let mut next = Next::Item;
    let mut at = 0;
    loop {
        let &byte = bytes.get(at).ok_or_else(wrong)?;
        let item = next != Next::DelimiterOrClose;
        match byte {
            b'{' if item && depth < MAX_DIMENSIONS => {
                depth += 1;
                visit(ArrayEvent::Open)?;
                next = Next::ItemOrClose;
                at += 1;
            }
            b'}' if next != Next::Item => {
                depth -= 1;
                visit(ArrayEvent::Close)?;
                next = Next::DelimiterOrClose;
                at += 1;
                if depth == 0 {
                    return if at == bytes.len() { Ok(()) } else { Err(wrong()) };
                }
            }
            _ if byte == array_type.delimiter && !item => {
                next = Next::Item;
                at += 1;
            }
            b'"' if item && depth > 0 => {
                let (element, end) = quoted(bytes, at + 1, &mut unescaped).ok_or_else(wrong)?;
                visit(ArrayEvent::Element((array_type.decode)(element, form(array_type, &mut scratch))?))?;
                next = Next::DelimiterOrClose;
                at = end;
            }
            _ if item && depth > 0 => {
                let stop = |byte: &u8| *byte == array_type.delimiter || matches!(byte, b'{' | b'}' | b'"' | b'\\');
                let end = at + bytes[at..].iter().position(stop).ok_or_else(wrong)?;
                let element = match &bytes[at..end] {
                    b"" => return Err(wrong()),
                    b"NULL" => Value::Null,
                    element => (array_type.decode)(element, form(array_type, &mut scratch))?,
                };
                visit(ArrayEvent::Element(element))?;
                next = Next::DelimiterOrClose;
                at = end;
            }
            _ => return Err(wrong()),
        }
    }
}

fn form<'a>(array_type: &'a ArrayType, scratch: &'a mut Scratch) -> Form<'a> {
    Form { data_type: &array_type.element, layout: array_type.layout, scratch }
}

/// The quoted element whose text begins at `start`, without its escapes, and where it ends; None when it does not.
fn quoted<'a>(bytes: &'a [u8], start: usize, unescaped: &'a mut Vec<u8>) -> Option<(&'a [u8], usize)> {
    let stop = |from: usize| memchr::memchr2(b'"', b'\\', bytes.get(from..)?).map(|found| from + found);
    let mut at = stop(start)?;
    if bytes[at] == b'"' {
        return Some((&bytes[start..at], at + 1));
    }
    unescaped.clear();
    let mut run = start;
    while bytes[at] == b'\\' {
        unescaped.extend_from_slice(&bytes[run..at]);
        // The byte behind a backslash is part of the element, whatever it is.
        run = at + 1;
        at = stop(run + 1)?;
    }
    unescaped.extend_from_slice(&bytes[run..at]);
    Some((unescaped, at + 1))
}

#[cfg(test)]
mod tests;
