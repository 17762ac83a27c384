//! Positions, as messages.
//!
//! ```text
//! token = 0x01 lineage:u64 position        big endian; position: [`Position::to_bytes`]
//! order = lsn:u64 | file:u64 offset:u64    big endian, so that it compares byte by byte
//! ```

use std::io::Write as _;

use crate::proto::v1;
use crate::record::{Position, file_number};

const TOKEN_VERSION: u8 = 1;

/// A position with its token. `lineage`: whose log it is of, as one number.
pub fn position(position: &Position, lineage: u64) -> v1::Position {
    let token = [&[TOKEN_VERSION][..], &lineage.to_be_bytes(), &position.to_bytes()].concat();
    v1::Position { token: token.into(), text: position.to_string() }
}

/// The lineage and the position of a token; `None` when it is none.
pub fn read_token(token: &[u8]) -> Option<(u64, Position)> {
    let (&TOKEN_VERSION, rest) = token.split_first()? else { return None };
    let (lineage, position) = rest.split_first_chunk()?;
    Some((u64::from_be_bytes(*lineage), Position::from_bytes(position)?))
}

/// `Transaction.position`.
pub(super) fn print(commit: &Position, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "{commit}");
}

/// `Transaction.order`; its length is that of the kind of source.
pub(super) fn order(commit: &Position, out: &mut Vec<u8>) {
    match commit {
        Position::Postgres(lsn) => out.extend_from_slice(&lsn.0.to_be_bytes()),
        Position::MySql(position) => {
            out.extend_from_slice(&file_number(&position.file).to_be_bytes());
            out.extend_from_slice(&position.offset.to_be_bytes());
        }
    }
}
