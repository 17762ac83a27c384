//! The payloads of commands ("Command Phase"); each goes out in packets that begin with sequence number 0.

use super::read::write_length;
use crate::wire::WireError;
use crate::wire::mysql::column::ColumnType;
use crate::wire::mysql::reader::Reader;

/// First bytes.
mod code {
    pub const QUIT: u8 = 0x01;
    pub const QUERY: u8 = 0x03;
    pub const PING: u8 = 0x0e;
    pub const BINLOG_DUMP: u8 = 0x12;
    pub const REGISTER_SLAVE: u8 = 0x15;
    pub const STMT_PREPARE: u8 = 0x16;
    pub const STMT_EXECUTE: u8 = 0x17;
    pub const STMT_CLOSE: u8 = 0x19;
    pub const BINLOG_DUMP_GTID: u8 = 0x1e;
}

/// Of COM_BINLOG_DUMP_GTID: the set counts, not the position.
const THROUGH_GTID: u16 = 0x0004;

/// Of COM_STMT_EXECUTE: send the rows at once, without a cursor.
const NO_CURSOR: u8 = 0;

pub fn quit() -> Vec<u8> {
    vec![code::QUIT]
}

pub fn ping() -> Vec<u8> {
    vec![code::PING]
}

pub fn query(sql: &str) -> Vec<u8> {
    [&[code::QUERY], sql.as_bytes()].concat()
}

pub fn stmt_prepare(sql: &str) -> Vec<u8> {
    [&[code::STMT_PREPARE], sql.as_bytes()].concat()
}

/// The answer to COM_STMT_PREPARE; the definitions of parameters and columns follow, each kind with an EOF unless none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepared {
    pub statement: u32,
    pub columns: u16,
    pub params: u16,
}

/// ```text
/// int<1> 0x00   int<4> statement_id   int<2> columns   int<2> parameters   int<1> 0   int<2> warnings
/// ```
///
/// # Errors
/// A torn packet.
pub fn parse_prepared(payload: &[u8]) -> Result<Prepared, WireError> {
    let mut reader = Reader::new("prepared statement", payload, 0);
    if reader.u8()? != 0 {
        return Err(reader.wrong("it does not begin with 0"));
    }
    let prepared = Prepared { statement: reader.u32()?, columns: reader.u16()?, params: reader.u16()? };
    reader.u8()?;
    reader.u16()?;
    reader.end()?;
    Ok(prepared)
}

/// There is no answer to it.
pub fn stmt_close(statement: u32) -> Vec<u8> {
    [&[code::STMT_CLOSE][..], &statement.to_le_bytes()].concat()
}

/// A parameter of a prepared statement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Param<'a> {
    Null,
    Int(i64),
    UInt(u64),
    /// In UTF-8; the server takes it in the connection's character set.
    Text(&'a str),
    /// Compared and stored as bytes.
    Bytes(&'a [u8]),
}

/// ```text
/// int<1> 0x17   int<4> statement_id   int<1> flags   int<4> 1
/// if there are parameters: NULL bitmap of (parameters + 7) / 8   int<1> 1   (int<1> type, int<1> 0x80 if unsigned)*   values
/// ```
pub fn stmt_execute(statement: u32, params: &[Param<'_>]) -> Vec<u8> {
    use ColumnType as T;
    let mut out = vec![code::STMT_EXECUTE];
    out.extend(statement.to_le_bytes());
    out.push(NO_CURSOR);
    out.extend(1u32.to_le_bytes());
    if params.is_empty() {
        return out;
    }
    let bitmap = out.len();
    out.resize(bitmap + params.len().div_ceil(8), 0);
    out.push(1);
    for (i, param) in params.iter().enumerate() {
        if *param == Param::Null {
            out[bitmap + i / 8] |= 1 << (i % 8);
        }
        out.extend(match param {
            Param::Null => [T::Null.code(), 0],
            Param::Int(_) => [T::LongLong.code(), 0],
            Param::UInt(_) => [T::LongLong.code(), 0x80],
            Param::Text(_) => [T::VarString.code(), 0],
            Param::Bytes(_) => [T::Blob.code(), 0],
        });
    }
    for param in params {
        match param {
            Param::Null => {}
            Param::Int(value) => out.extend(value.to_le_bytes()),
            Param::UInt(value) => out.extend(value.to_le_bytes()),
            Param::Text(value) => string(value.as_bytes(), &mut out),
            Param::Bytes(value) => string(value, &mut out),
        }
    }
    out
}

fn string(value: &[u8], out: &mut Vec<u8>) {
    write_length(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// How a server lists us in SHOW REPLICAS.
///
/// ```text
/// int<1> 0x15   int<4> server_id   (int<1> length, string) hostname, user, password
/// int<2> port   int<4> rank   int<4> source_id
/// ```
pub fn register_replica(server_id: u32, host: &str, port: u16) -> Vec<u8> {
    // The server refuses names of more than 60 bytes.
    let host = &host.as_bytes()[..host.len().min(60)];
    let mut out = vec![code::REGISTER_SLAVE];
    out.extend(server_id.to_le_bytes());
    out.push(host.len() as u8);
    out.extend_from_slice(host);
    out.extend([0, 0]);
    out.extend(port.to_le_bytes());
    out.extend([0; 8]);
    out
}

/// From a file and a position on; an empty name means the oldest file. The server waits for more at the log's end.
///
/// ```text
/// int<1> 0x12   int<4> position   int<2> flags   int<4> server_id   string<EOF> file
/// ```
pub fn binlog_dump(server_id: u32, file: &str, position: u32) -> Vec<u8> {
    let mut out = vec![code::BINLOG_DUMP];
    out.extend(position.to_le_bytes());
    out.extend([0, 0]);
    out.extend(server_id.to_le_bytes());
    out.extend_from_slice(file.as_bytes());
    out
}

/// From the first transaction on that is not in the set, given in its binary form.
///
/// ```text
/// int<1> 0x1e   int<2> flags   int<4> server_id   int<4> length, string file   int<8> position   int<4> length, string set
/// ```
pub fn binlog_dump_gtid(server_id: u32, executed: &[u8]) -> Vec<u8> {
    /// Behind the four magic bytes of whichever file it is.
    const FIRST_POSITION: u64 = 4;
    let mut out = vec![code::BINLOG_DUMP_GTID];
    out.extend(THROUGH_GTID.to_le_bytes());
    out.extend(server_id.to_le_bytes());
    out.extend(0u32.to_le_bytes());
    out.extend(FIRST_POSITION.to_le_bytes());
    out.extend((executed.len() as u32).to_le_bytes());
    out.extend_from_slice(executed);
    out
}

/// Semi-synchronous replication: "I hold the log up to here".
///
/// ```text
/// int<1> 0xef   int<8> position   string<EOF> file
/// ```
pub fn semi_sync_reply(file: &str, position: u64) -> Vec<u8> {
    [&[SEMI_SYNC][..], &position.to_le_bytes(), file.as_bytes()].concat()
}

/// Before each event where semi-synchronous replication is on: this byte, and one that says whether a reply is wanted.
pub const SEMI_SYNC: u8 = 0xef;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters() {
        let params = [Param::UInt(u64::MAX), Param::Null, Param::Text("é"), Param::Int(-1), Param::Bytes(b"\0")];
        let bytes = stmt_execute(7, &params);
        let expected = [
            &[0x17, 7, 0, 0, 0, 0, 1, 0, 0, 0, 0b00010, 1][..],
            &[8, 0x80, 6, 0, 253, 0, 8, 0, 252, 0],
            &[255; 8],
            &[2, 0xc3, 0xa9],
            &[255; 8],
            &[1, 0],
        ]
        .concat();
        assert_eq!(bytes, expected);
        assert_eq!(stmt_execute(7, &[]).len(), 10);
    }

    #[test]
    fn prepared_statements() {
        let payload = [0, 7, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0];
        assert_eq!(parse_prepared(&payload), Ok(Prepared { statement: 7, columns: 2, params: 1 }));
        for end in 0..payload.len() {
            assert!(parse_prepared(&payload[..end]).is_err());
        }
        assert!(parse_prepared(&[&payload[..], &[0]].concat()).is_err());
    }

    #[test]
    fn dumps() {
        assert_eq!(binlog_dump(258, "b.1", 4), b"\x12\x04\0\0\0\0\0\x02\x01\0\0b.1");
        assert_eq!(binlog_dump_gtid(1, b"set"), b"\x1e\x04\0\x01\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x03\0\0\0set");
        assert_eq!(register_replica(1, "h", 3306), b"\x15\x01\0\0\0\x01h\0\0\xea\x0c\0\0\0\0\0\0\0\0");
        assert_eq!(semi_sync_reply("b.1", 5), b"\xef\x05\0\0\0\0\0\0\0b.1");
    }
}
