//! Column types as TABLE_MAP and the protocol number them.

/// The server's `enum_field_types`, and MariaDB's compressed columns.
///
/// In a TABLE_MAP event `String` stands for ENUM and SET too; [`MapColumn`](super::event::MapColumn) has the real type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ColumnType {
    /// DECIMAL of before 5.0; no server we speak to has such columns.
    Decimal = 0,
    Tiny = 1,
    Short = 2,
    Long = 3,
    Float = 4,
    Double = 5,
    Null = 6,
    /// TIMESTAMP without fraction as MariaDB keeps it with `mysql56_temporal_format=OFF`.
    Timestamp = 7,
    LongLong = 8,
    Int24 = 9,
    /// DATE, in 3 bytes; the log has this code for it.
    Date = 10,
    /// TIME as MariaDB keeps it with `mysql56_temporal_format=OFF`.
    Time = 11,
    /// DATETIME as MariaDB keeps it with `mysql56_temporal_format=OFF`.
    Datetime = 12,
    Year = 13,
    /// DATE, in 3 bytes.
    NewDate = 14,
    Varchar = 15,
    Bit = 16,
    Timestamp2 = 17,
    Datetime2 = 18,
    Time2 = 19,
    /// An array of a multi-valued index; never in a row.
    TypedArray = 20,
    /// MariaDB: a TEXT or BLOB with the attribute COMPRESSED.
    BlobCompressed = 140,
    /// MariaDB: a VARCHAR or VARBINARY with the attribute COMPRESSED.
    VarcharCompressed = 141,
    Vector = 242,
    Json = 245,
    NewDecimal = 246,
    Enum = 247,
    Set = 248,
    TinyBlob = 249,
    MediumBlob = 250,
    LongBlob = 251,
    Blob = 252,
    VarString = 253,
    String = 254,
    Geometry = 255,
}

impl ColumnType {
    pub fn from_code(code: u8) -> Option<ColumnType> {
        use ColumnType::*;
        Some(match code {
            0 => Decimal,
            1 => Tiny,
            2 => Short,
            3 => Long,
            4 => Float,
            5 => Double,
            6 => Null,
            7 => Timestamp,
            8 => LongLong,
            9 => Int24,
            10 => Date,
            11 => Time,
            12 => Datetime,
            13 => Year,
            14 => NewDate,
            15 => Varchar,
            16 => Bit,
            17 => Timestamp2,
            18 => Datetime2,
            19 => Time2,
            20 => TypedArray,
            140 => BlobCompressed,
            141 => VarcharCompressed,
            242 => Vector,
            245 => Json,
            246 => NewDecimal,
            247 => Enum,
            248 => Set,
            249 => TinyBlob,
            250 => MediumBlob,
            251 => LongBlob,
            252 => Blob,
            253 => VarString,
            254 => String,
            255 => Geometry,
            _ => return None,
        })
    }

    pub fn code(self) -> u8 {
        self as u8
    }
}

/// What a TABLE_MAP's metadata says of a column beside its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Detail {
    /// The type says everything: integers, YEAR, DATE, FLOAT, DOUBLE, old temporal types.
    None,
    Decimal {
        /// Digits in all, 1 to 65.
        precision: u8,
        /// Digits behind the point, 0 to 38.
        scale: u8,
    },
    /// TIME, DATETIME, TIMESTAMP with 0 to 6 digits behind the point.
    Fraction { digits: u8 },
    /// BIT of 1 to 64 bits.
    Bit { bits: u8 },
    /// CHAR, BINARY, VARCHAR, VARBINARY and what is kept as such (MariaDB's UUID, INET4, INET6): the most bytes a value
    /// can have.
    Length { bytes: u16 },
    /// BLOB, TEXT, JSON, GEOMETRY, VECTOR: how many bytes a value's length takes, 1 to 4.
    Prefix { bytes: u8 },
    /// ENUM (1 or 2 bytes) and SET (1, 2, 3, 4 or 8 bytes).
    Width { bytes: u8 },
}
