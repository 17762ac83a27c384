//! Column definitions of a result.
//!
//! "Protocol::ColumnDefinition41":
//! ```text
//! string<lenenc> catalog, schema, table, org_table, name, org_name
//! int<lenenc> 0x0c   int<2> collation   int<4> column_length   int<1> type   int<2> flags   int<1> decimals   string[2] zero
//! ```

use crate::wire::WireError;
use crate::wire::mysql::column::ColumnType;
use crate::wire::mysql::reader::Reader;

/// "Column Definition Flags", those that tell how a value is to be read.
pub mod flag {
    pub const NOT_NULL: u16 = 1;
    pub const UNSIGNED: u16 = 1 << 5;
    pub const BINARY: u16 = 1 << 7;
    pub const ENUM: u16 = 1 << 8;
    pub const SET: u16 = 1 << 11;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnDefinition {
    /// The column's name in the result.
    pub name: Box<str>,
    /// Number of the collation; 63 is `binary`.
    pub collation: u16,
    /// The most bytes that its printed form takes.
    pub length: u32,
    pub column_type: ColumnType,
    /// Bits of [`flag`].
    pub flags: u16,
    /// Digits of a fraction; 31 for "as many as there are".
    pub decimals: u8,
}

/// # Errors
/// A torn packet, bytes left over.
pub fn parse(payload: &[u8]) -> Result<ColumnDefinition, WireError> {
    let mut reader = Reader::new("column definition", payload, 0);
    for _ in 0..4 {
        reader.string()?;
    }
    let name = String::from_utf8_lossy(reader.string()?).into();
    reader.string()?;
    if reader.packed()? != 0x0c {
        return Err(reader.wrong("its fixed part is not 12 bytes long"));
    }
    let collation = reader.u16()?;
    let length = reader.u32()?;
    let code = reader.u8()?;
    let definition = ColumnDefinition {
        name,
        collation,
        length,
        column_type: ColumnType::from_code(code).ok_or_else(|| reader.wrong_last("a type that is not known", code))?,
        flags: reader.u16()?,
        decimals: reader.u8()?,
    };
    reader.take(2)?;
    reader.end()?;
    Ok(definition)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The packet of a definition; only what is kept of it differs from zero.
    fn encode(definition: &ColumnDefinition) -> Vec<u8> {
        let mut out = b"\x03def\x00\x00\x00".to_vec();
        out.push(definition.name.len() as u8);
        out.extend_from_slice(definition.name.as_bytes());
        out.extend([0, 0x0c]);
        out.extend(definition.collation.to_le_bytes());
        out.extend(definition.length.to_le_bytes());
        out.push(definition.column_type.code());
        out.extend(definition.flags.to_le_bytes());
        out.push(definition.decimals);
        out.extend([0, 0]);
        out
    }

    #[test]
    fn reads_back() {
        let definition = ColumnDefinition {
            name: "größe".into(),
            collation: 63,
            length: 20,
            column_type: ColumnType::LongLong,
            flags: flag::UNSIGNED | flag::NOT_NULL,
            decimals: 31,
        };
        let mut bytes = encode(&definition);
        assert_eq!(parse(&bytes), Ok(definition));
        for end in 0..bytes.len() {
            assert!(parse(&bytes[..end]).is_err(), "{end} bytes");
        }
        bytes.push(0);
        assert!(parse(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(payload in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse(&payload);
        }
    }
}
