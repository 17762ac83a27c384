//! QUERY: a statement: BEGIN, COMMIT, DDL, and whatever is logged as text.

use super::super::Reader;
use super::Event;
use crate::wire::WireError;

const NAME: &str = "QUERY";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// The session's number on its server.
    pub thread_id: u32,
    pub duration_s: u32,
    /// What the statement ended with on its server; 0: no error.
    pub error_code: u16,
    /// The default database; empty for none.
    pub database: &'a str,
    /// In the character set of [`QueryVariables::client_charset`].
    pub statement: &'a [u8],
    variables: &'a [u8],
    variables_at: usize,
}

/// What of the session's state is logged with a statement; none where the server did not log it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryVariables<'a> {
    /// Bits of `OPTION_…`: 0x4000 AUTO_IS_NULL, 0x80000 NOT_AUTOCOMMIT, 0x4000000 NO_FOREIGN_KEY_CHECKS, 0x8000000
    /// RELAXED_UNIQUE_CHECKS.
    pub flags2: Option<u32>,
    /// Bits of the server's `MODE_…`.
    pub sql_mode: Option<u64>,
    /// Collation ids of `character_set_client`, `collation_connection` and `collation_server`.
    pub charsets: Option<[u16; 3]>,
    pub time_zone: Option<&'a str>,
    /// Collation id of `collation_database`; logged where it is not the server's.
    pub database_collation: Option<u16>,
    /// What `utf8mb4` without a collation means (MySQL 8.0 on).
    pub utf8mb4_collation: Option<u16>,
    /// `explicit_defaults_for_timestamp`: whether a TIMESTAMP column without NULL allows it; logged by MySQL with statements
    /// that make such columns.
    pub explicit_timestamp_defaults: Option<bool>,
    /// Databases the statement changed; empty where there were too many to name or none was logged.
    pub updated_databases: UpdatedDatabases<'a>,
    /// Microseconds of the time the statement began at.
    pub microseconds: Option<u32>,
    /// The number of the transaction that a DDL statement is.
    pub ddl_xid: Option<u64>,
    /// MariaDB: (character set's default collation, the one it stands for in this session) as ids.
    pub charset_collations: CharsetCollations<'a>,
    /// MariaDB: part of a two-phase ALTER (START, COMMIT, ROLLBACK), as the GTID event's extra flags are.
    pub gtid_flags3: Option<u8>,
}

impl QueryVariables<'_> {
    /// The collation id of `character_set_client`, in which the statement is.
    pub fn client_charset(&self) -> Option<u16> {
        self.charsets.map(|[client, ..]| client)
    }
}

/// Names between zero bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpdatedDatabases<'a>(&'a [u8]);

impl<'a> UpdatedDatabases<'a> {
    /// In UTF-8.
    pub fn names(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.0.split_inclusive(|&byte| byte == 0).map(|name| name.strip_suffix(&[0]).unwrap_or(name))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CharsetCollations<'a>(&'a [u8]);

impl CharsetCollations<'_> {
    pub fn pairs(&self) -> impl Iterator<Item = (u16, u16)> {
        self.0.as_chunks::<4>().0.iter().map(|&[a, b, c, d]| (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])))
    }
}

/// ```text
/// QUERY: Int4 thread id, Int4 seconds it took, Int1 length of the database's name, Int2 error code,
///        Int2 length of the status variables, those, the database's name, Byte1(0), the statement up to the end
/// ```
pub(super) fn parse<'a>(event: &Event<'a>) -> Result<Query<'a>, WireError> {
    let mut reader = event.reader(NAME);
    let thread_id = reader.u32()?;
    let duration_s = reader.u32()?;
    let database_bytes = usize::from(reader.u8()?);
    let error_code = reader.u16()?;
    let variables_bytes = usize::from(reader.u16()?);
    let variables_at = reader.at();
    let variables = reader.take(variables_bytes)?;
    let database = reader.text(database_bytes)?;
    match reader.u8()? {
        0 => {}
        other => return Err(reader.wrong_last("no zero byte behind the database's name", other)),
    }
    let statement = reader.rest();
    Ok(Query { thread_id, duration_s, error_code, database, statement, variables, variables_at })
}

/// More databases than a statement's status variables name.
const TOO_MANY_DATABASES: u8 = 254;

impl<'a> Query<'a> {
    /// Where in the event the statement begins.
    pub fn statement_at(&self) -> usize {
        self.variables_at + self.variables.len() + self.database.len() + 1
    }

    /// Reads the status variables up to the first whose code we do not know: its length is not known either, and newer
    /// servers add theirs at the end.
    ///
    /// ```text
    /// Int1 code, and by code
    ///   0 Int4 flags2 | 1 Int8 sql_mode | 2 Int1 n, Byten catalog, Byte1(0) | 3 Int2 auto_increment_increment, Int2 …_offset
    ///   4 Int2 client, Int2 connection, Int2 server collation | 5 Int1 n, Byten time zone | 6 Int1 n, Byten catalog
    ///   7 Int2 lc_time_names | 8 Int2 collation_database | 9 Int8 tables of a multi-table UPDATE | 10 Int4 bytes written
    ///   11 Int1 n, Byten user, Int1 n, Byten host | 12 Int1 count, then count names ended by zeros, none for count 254
    ///   13 Int3 microseconds | 16 Int1 explicit_defaults_for_timestamp | 17 Int8 xid of the DDL
    ///   18 Int2 default collation of utf8mb4 | 19 Int1 sql_require_primary_key | 20 Int1 default_table_encryption
    /// MariaDB:
    ///   128 Int3 microseconds | 129 Int8 xid of the DDL | 130 Int1 flags of a two-phase ALTER
    ///   131 Int1 count, count of (Int2 default collation of a character set, Int2 collation)
    /// ```
    ///
    /// # Errors
    /// A variable that is cut off, a time zone that is not UTF-8.
    pub fn variables(&self) -> Result<QueryVariables<'a>, WireError> {
        self.read_variables().map_err(|error| WireError { offset: error.offset + self.variables_at, ..error })
    }

    fn read_variables(&self) -> Result<QueryVariables<'a>, WireError> {
        let mut reader = Reader::new(NAME, self.variables, 0);
        let mut variables = QueryVariables::default();
        while !reader.is_empty() {
            match reader.u8()? {
                0 => variables.flags2 = Some(reader.u32()?),
                1 => variables.sql_mode = Some(reader.u64()?),
                2 => {
                    let length = usize::from(reader.u8()?);
                    reader.take(length + 1)?;
                }
                3 | 10 => {
                    reader.u32()?;
                }
                4 => variables.charsets = Some([reader.u16()?, reader.u16()?, reader.u16()?]),
                5 => {
                    let length = usize::from(reader.u8()?);
                    variables.time_zone = Some(reader.text(length)?);
                }
                6 => {
                    let length = usize::from(reader.u8()?);
                    reader.take(length)?;
                }
                7 => {
                    reader.u16()?;
                }
                8 => variables.database_collation = Some(reader.u16()?),
                9 => {
                    reader.u64()?;
                }
                11 => {
                    for _user_and_host in 0..2 {
                        let length = usize::from(reader.u8()?);
                        reader.take(length)?;
                    }
                }
                12 => variables.updated_databases = UpdatedDatabases(updated_databases(&mut reader, self.variables)?),
                13 | 128 => variables.microseconds = Some(reader.u24()?),
                16 => variables.explicit_timestamp_defaults = Some(reader.u8()? != 0),
                17 | 129 => variables.ddl_xid = Some(reader.u64()?),
                18 => variables.utf8mb4_collation = Some(reader.u16()?),
                19 | 20 => {
                    reader.u8()?;
                }
                130 => variables.gtid_flags3 = Some(reader.u8()?),
                131 => {
                    let count = usize::from(reader.u8()?);
                    variables.charset_collations = CharsetCollations(reader.take(count * 4)?);
                }
                _ => break,
            }
        }
        Ok(variables)
    }
}

fn updated_databases<'a>(reader: &mut Reader<'a>, variables: &'a [u8]) -> Result<&'a [u8], WireError> {
    let count = reader.u8()?;
    let start = reader.at();
    if count != TOO_MANY_DATABASES {
        for _ in 0..count {
            let length = memchr::memchr(0, &variables[reader.at()..]);
            let length = length.ok_or_else(|| reader.wrong("a database's name without an end"))?;
            reader.take(length + 1)?;
        }
    }
    Ok(&variables[start..reader.at()])
}
