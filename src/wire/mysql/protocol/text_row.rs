//! Rows of the text protocol: `string<lenenc>` or 0xfb for NULL, one a column ("Text Resultset Row").

use bytes::Bytes;

use crate::wire::WireError;
use crate::wire::mysql::reader::Reader;

/// The values of one row; None is NULL.
///
/// # Errors
/// Fewer values than columns, bytes left over.
pub fn parse(payload: &Bytes, columns: usize) -> Result<Vec<Option<Bytes>>, WireError> {
    let mut reader = Reader::new("text row", payload, 0);
    let row = (0..columns)
        .map(|_| Ok(reader.nullable()?.map(|value| payload.slice_ref(value))))
        .collect::<Result<_, WireError>>()?;
    reader.end()?;
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values() {
        let payload = Bytes::from_static(b"\x02ab\xfb\x00");
        let row = vec![Some(Bytes::from_static(b"ab")), None, Some(Bytes::new())];
        assert_eq!(parse(&payload, 3), Ok(row));
        assert!(parse(&payload, 2).is_err() && parse(&payload, 4).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(payload in prop::collection::vec(any::<u8>(), 0..40), columns in 0usize..6) {
            let _ = parse(&payload.into(), columns);
        }
    }
}
