//! What only the client/server protocol has of basic types: its strings ("Basic Data Types").

use crate::wire::WireError;
use crate::wire::mysql::reader::Reader;

impl<'a> Reader<'a> {
    /// `string<lenenc>`.
    pub(super) fn string(&mut self) -> Result<&'a [u8], WireError> {
        let length = self.packed_length()?;
        self.take(length)
    }

    /// `string<lenenc>` of a text row, where 0xfb stands for NULL.
    pub(super) fn nullable(&mut self) -> Result<Option<&'a [u8]>, WireError> {
        let mut ahead = self.clone();
        if ahead.u8()? == 0xfb {
            *self = ahead;
            return Ok(None);
        }
        self.string().map(Some)
    }

    /// `string<NUL>`, without its end.
    pub(super) fn until_zero(&mut self) -> Result<&'a [u8], WireError> {
        let end = memchr::memchr(0, self.clone().rest()).ok_or_else(|| self.wrong("a string has no end"))?;
        let text = self.take(end)?;
        self.u8()?;
        Ok(text)
    }
}

/// `int<lenenc>`: below 0xfb the byte itself, behind 0xfc two bytes, 0xfd three, 0xfe eight.
pub fn write_length(value: u64, out: &mut Vec<u8>) {
    let bytes = value.to_le_bytes();
    match value {
        0..=0xfa => out.push(bytes[0]),
        0xfb..=0xffff => out.extend([0xfc, bytes[0], bytes[1]]),
        0x1_0000..=0xff_ffff => out.extend([0xfd, bytes[0], bytes[1], bytes[2]]),
        _ => {
            out.push(0xfe);
            out.extend(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_is_read_beyond_the_end() {
        for bytes in [&[0xfb][..], &[0xff], &[0xfe, 255, 255, 255, 255, 255, 255, 255, 255], &[3, 1, 2], &[0xfc, 1]] {
            assert!(Reader::new("test", bytes, 0).string().is_err(), "{bytes:?}");
        }
        assert!(Reader::new("test", b"abc", 0).until_zero().is_err());
        assert!(Reader::new("test", b"", 0).nullable().is_err());
    }

    #[test]
    fn null_is_not_the_empty_string() {
        let mut reader = Reader::new("row", &[0xfb, 0, 1, b'x'], 0);
        assert_eq!(reader.nullable(), Ok(None));
        assert_eq!(reader.nullable(), Ok(Some(&b""[..])));
        assert!(reader.end().is_err());
        assert_eq!(reader.nullable(), Ok(Some(&b"x"[..])));
        assert_eq!(reader.end(), Ok(()));
    }

    proptest! {
        #[test]
        fn lengths_read_back(value in prop_oneof![0u64..300, 0u64..70_000, 0u64..20_000_000, any::<u64>()]) {
            let mut bytes = Vec::new();
            write_length(value, &mut bytes);
            let mut reader = Reader::new("length", &bytes, 0);
            prop_assert_eq!(reader.packed(), Ok(value));
            prop_assert_eq!(reader.end(), Ok(()));
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut reader = Reader::new("anything", &bytes, 0);
            while reader.nullable().is_ok() {}
            prop_assert!(reader.at() <= bytes.len());
        }
    }
}
