//! MySQL's binary JSON as the server prints it, and the differences that PARTIAL_UPDATE_ROWS logs instead of a document.
//!
//! Invariants:
//! - Members stand in the order they are stored in; behind `,` and `:` stands a space.
//! - Whatever the bytes say, what is read adds up to no more than their length: parts of a document do not overlap, so an
//!   offset that is a lie cannot make a small document print as a huge one.
//! - At most [`MAX_DEPTH`] containers deep.

mod binary;
mod number;
mod partial;
mod print;

use crate::record::{Form, Value, ValueError};

/// The server's JSON_DOCUMENT_MAX_DEPTH.
const MAX_DEPTH: u32 = 100;

/// The first byte of a cell that holds a document and the differences to it; no type of a document has this number.
pub const PARTIAL_MARK: u8 = 0xFF;

/// JSON of a rows event: a document, or [`PARTIAL_MARK`], the length of the document before the update in 4 bytes,
/// little-endian, that document, and the differences as the event has them.
pub fn json<'b>(bytes: &'b [u8], form: Form<'b>) -> Result<Value<'b>, ValueError> {
    let out = form.scratch.clear();
    let printed = match bytes {
        // What INSERT IGNORE leaves in a NOT NULL column; the server takes it for null.
        [] => {
            out.extend_from_slice(b"null");
            Ok(())
        }
        [PARTIAL_MARK, cell @ ..] => partial::print(cell, out),
        document => print::document(document, out),
    };
    match printed {
        Ok(()) => Ok(Value::Json(out)),
        Err(Wrong(expected)) => Err(super::number::wrong(expected, bytes)),
    }
}

/// What a place in a document should have been.
#[derive(Debug, PartialEq, Eq)]
struct Wrong(&'static str);

const TRUNCATED: Wrong = Wrong("a JSON document whose offsets are within it");

#[cfg(test)]
mod tests;
