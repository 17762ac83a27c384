//! How a server answers a command: OK, ERR, EOF, or a result.
//!
//! "Generic Response Packets":
//! ```text
//! OK_Packet   int<1> 0x00 | 0xfe   int<lenenc> affected_rows   int<lenenc> last_insert_id
//!             int<2> status_flags  int<2> warnings             string<EOF> info
//! ERR_Packet  int<1> 0xff          int<2> error_code  [ '#' string[5] sql_state ]  string<EOF> error_message
//! EOF_Packet  int<1> 0xfe          int<2> warnings    int<2> status_flags          (shorter than 9 bytes)
//! ```
//! The state is left out by a server that has not yet read our capabilities ("Too many connections").

use crate::wire::WireError;
use crate::wire::mysql::reader::Reader;

pub const OK: u8 = 0x00;
pub const EOF: u8 = 0xfe;
pub const ERR: u8 = 0xff;
/// The server asks for a file of ours.
pub const LOCAL_INFILE: u8 = 0xfb;

/// A longer packet with the first byte of an EOF is a row that begins with a huge value, or a request for another login.
const EOF_BELOW_BYTES: usize = 9;

/// Bits of `status_flags`.
pub mod status {
    pub const IN_TRANSACTION: u16 = 0x0001;
    pub const MORE_RESULTS: u16 = 0x0008;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ok {
    pub affected_rows: u64,
    pub status: u16,
    pub warnings: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Eof {
    pub warnings: u16,
    pub status: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Err<'a> {
    pub code: u16,
    /// SQLSTATE; empty where the server does not say.
    pub state: &'a [u8],
    /// In UTF-8, but for what is said before the login.
    pub message: &'a [u8],
}

/// The first packet in answer to COM_QUERY, COM_STMT_EXECUTE and the commands without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    Ok(Ok),
    Err(Err<'a>),
    /// Of a dump, or in answer to COM_SET_OPTION.
    Eof(Eof),
    /// So many column definitions follow.
    Columns(u64),
    /// The server asks for a file.
    LocalInfile,
}

/// # Errors
/// An empty packet, a torn one, bytes left over.
pub fn parse(payload: &[u8]) -> Result<Answer<'_>, WireError> {
    match payload.first() {
        None => Err(WireError::new("answer", "it is empty", 0)),
        Some(&OK) => parse_ok(payload).map(Answer::Ok),
        Some(&ERR) => parse_err(payload).map(Answer::Err),
        Some(&EOF) if is_eof(payload) => parse_eof(payload).map(Answer::Eof),
        Some(&LOCAL_INFILE) => Ok(Answer::LocalInfile),
        Some(_) => {
            let mut reader = Reader::new("column count", payload, 0);
            let count = reader.packed()?;
            reader.end()?;
            Ok(Answer::Columns(count))
        }
    }
}

/// # Errors
/// A torn packet. What stands behind the warnings is text for people.
pub fn parse_ok(payload: &[u8]) -> Result<Ok, WireError> {
    let mut reader = Reader::new("OK packet", payload, 0);
    reader.u8()?;
    let affected_rows = reader.packed()?;
    reader.packed()?;
    Ok(Ok { affected_rows, status: reader.u16()?, warnings: reader.u16()? })
}

/// Whether a packet ends a result or a dump.
#[inline]
pub fn is_eof(payload: &[u8]) -> bool {
    payload.first() == Some(&EOF) && payload.len() < EOF_BELOW_BYTES
}

/// # Errors
/// A torn packet.
pub fn parse_eof(payload: &[u8]) -> Result<Eof, WireError> {
    let mut reader = Reader::new("EOF packet", payload, 0);
    reader.u8()?;
    // A dump that ends may leave them out.
    if reader.left() == 0 {
        return Ok(Eof::default());
    }
    let eof = Eof { warnings: reader.u16()?, status: reader.u16()? };
    reader.end()?;
    Ok(eof)
}

/// # Errors
/// A torn packet.
pub fn parse_err(payload: &[u8]) -> Result<Err<'_>, WireError> {
    let mut reader = Reader::new("ERR packet", payload, 0);
    reader.u8()?;
    let code = reader.u16()?;
    let rest = reader.rest();
    Ok(match rest {
        [b'#', behind @ ..] if behind.len() >= 5 => Err { code, state: &behind[..5], message: &behind[5..] },
        _ => Err { code, state: b"", message: rest },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers() {
        let ok = [0, 3, 0xfc, 0, 1, 2, 0, 1, 0, b'i'];
        assert_eq!(parse(&ok), Ok(Answer::Ok(super::Ok { affected_rows: 3, status: 2, warnings: 1 })));
        let err = b"\xff\x15\x04#28000Access denied";
        let found = super::Err { code: 1045, state: b"28000", message: b"Access denied" };
        assert_eq!(parse(err), Ok(Answer::Err(found)));
        let early = super::Err { code: 1040, state: b"", message: b"Too many connections" };
        assert_eq!(parse(b"\xff\x10\x04Too many connections"), Ok(Answer::Err(early)));
        assert_eq!(parse(&[0xfe, 0, 0, 8, 0]), Ok(Answer::Eof(Eof { warnings: 0, status: status::MORE_RESULTS })));
        assert_eq!(parse(&[0xfc, 0, 1]), Ok(Answer::Columns(256)));
        assert_eq!(parse(b"\xfb/etc/passwd"), Ok(Answer::LocalInfile));
        for bad in [&b""[..], &[0], &[0, 1], &[0xff], &[0xff, 1], &[0xfe, 0], &[0xfe, 0, 0, 0, 0, 0], &[3, 3]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(payload in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&payload);
        }
    }
}
