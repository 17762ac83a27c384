//! The bodies of the backend's small messages ("Message Formats").
//!
//! Invariants:
//! - Text from the server is UTF-8 by the connection's setting; what is not is shown with replacement characters in names
//!   and tags, and left as bytes in values.
//! - A truncated body and bytes left over are errors.

use bytes::{Buf, Bytes};

use crate::wire::WireError;

/// `ParameterStatus: String name, String value`.
pub fn parameter_status(body: &[u8]) -> Result<(String, String), WireError> {
    let torn = WireError::new("ParameterStatus", "not two strings", body.len());
    let mut parts = body.strip_suffix(b"\0").ok_or(torn)?.splitn(2, |&byte| byte == 0);
    match (parts.next(), parts.next()) {
        (Some(name), Some(value)) if !value.contains(&0) => {
            Ok((String::from_utf8_lossy(name).into_owned(), String::from_utf8_lossy(value).into_owned()))
        }
        _ => Err(torn),
    }
}

/// `BackendKeyData: Int32 process, Int32 secret` (protocol 3.0).
pub fn key_data(body: &[u8]) -> Result<(i32, i32), WireError> {
    match *body {
        [a, b, c, d, e, f, g, h] => Ok((i32::from_be_bytes([a, b, c, d]), i32::from_be_bytes([e, f, g, h]))),
        _ => Err(WireError::new("BackendKeyData", "not 8 bytes long", body.len())),
    }
}

/// `CommandComplete: String`.
pub fn command_tag(body: &[u8]) -> Result<String, WireError> {
    match body.split_last() {
        Some((0, text)) if !text.contains(&0) => Ok(String::from_utf8_lossy(text).into_owned()),
        _ => Err(WireError::new("CommandComplete", "not one string", body.len())),
    }
}

/// `RowDescription: Int16 count, { String name, Int32 table, Int16 column, Int32 type, Int16 size, Int32 modifier, Int16
/// format }*`; only the names are wanted.
pub fn column_names(body: &[u8]) -> Result<Vec<String>, WireError> {
    const FIXED_BYTES: usize = 4 + 2 + 4 + 2 + 4 + 2;
    let torn = |rest: &[u8]| WireError::new("RowDescription", "truncated", body.len() - rest.len());
    let (count, mut rest) = body.split_first_chunk().ok_or(torn(body))?;
    let mut names = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let end = memchr::memchr(0, rest).ok_or(torn(rest))?;
        names.push(String::from_utf8_lossy(&rest[..end]).into_owned());
        rest = rest.get(end + 1 + FIXED_BYTES..).ok_or(torn(rest))?;
    }
    match rest {
        [] => Ok(names),
        _ => Err(WireError::new("RowDescription", "bytes left over", body.len() - rest.len())),
    }
}

/// `DataRow: Int16 count, { Int32 length or -1, Byten }*`.
pub fn data_row(mut body: Bytes) -> Result<Vec<Option<Bytes>>, WireError> {
    let length = body.len();
    let torn = |rest: &Bytes| WireError::new("DataRow", "truncated", length - rest.len());
    let count = body.try_get_u16().map_err(|_| torn(&body))?;
    let mut values = Vec::new();
    for _ in 0..count {
        let bytes = body.try_get_i32().map_err(|_| torn(&body))?;
        values.push(match usize::try_from(bytes) {
            Ok(bytes) if bytes <= body.len() => Some(body.split_to(bytes)),
            Ok(_) => return Err(torn(&body)),
            Err(_) if bytes == -1 => None,
            Err(_) => return Err(WireError::new("DataRow", "a length below -1", length - body.len())),
        });
    }
    if body.is_empty() { Ok(values) } else { Err(WireError::new("DataRow", "bytes left over", length - body.len())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_a_result() {
        let mut description = vec![0, 2];
        for name in ["slot_name", "é"] {
            description.extend(name.as_bytes());
            description.push(0);
            description.extend([0; 18]);
        }
        let columns = column_names(&description).unwrap();
        let row = data_row(Bytes::from_static(b"\0\x02\0\0\0\x02ab\xff\xff\xff\xff")).unwrap();
        assert_eq!(columns, ["slot_name", "é"]);
        assert_eq!(row, [Some(Bytes::from_static(b"ab")), None]);
        description.push(0);
        assert!(column_names(&description).is_err());
    }

    #[test]
    fn refuses_torn_rows() {
        for body in [&b""[..], b"\0", b"\0\x01", b"\0\x01\0\0\0\x02a", b"\0\x01\xff\xff\xff\xfe", b"\0\0x"] {
            assert!(data_row(Bytes::copy_from_slice(body)).is_err(), "{body:?}");
        }
    }

    #[test]
    fn reads_small_messages() {
        assert_eq!(parameter_status(b"TimeZone\0UTC\0").unwrap(), ("TimeZone".into(), "UTC".into()));
        assert_eq!(parameter_status(b"empty\0\0").unwrap(), ("empty".into(), "".into()));
        assert!(parameter_status(b"a\0").is_err() && parameter_status(b"a\0b\0c\0").is_err());
        assert_eq!(command_tag(b"COPY 7\0").unwrap(), "COPY 7");
        assert!(command_tag(b"COPY 7").is_err() && command_tag(b"a\0b\0").is_err() && command_tag(b"").is_err());
        assert_eq!(key_data(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]).unwrap(), (1, -1));
        assert!(key_data(&[0; 9]).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(body in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = column_names(&body);
            let _ = parameter_status(&body);
            let _ = command_tag(&body);
            let _ = key_data(&body);
            let _ = data_row(Bytes::from(body));
        }
    }
}
