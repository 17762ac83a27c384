//! Fields of a message in their order.

use crate::wire::WireError;

/// What is said of a message that ends too early.
pub(super) const TRUNCATED: &str = "truncated";

/// Reads fields in order; what it says of a place counts from the start of `bytes`.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    name: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at byte `at`, which may be the end.
    pub(super) fn new(name: &'static str, bytes: &'a [u8], at: usize) -> Self {
        Reader { name, bytes, at: at.min(bytes.len()) }
    }

    #[cold]
    pub(super) fn wrong(&self, problem: &'static str) -> WireError {
        WireError::new(self.name, problem, self.at)
    }
    /// An error about the byte just read.
    #[cold]
    pub(super) fn wrong_last(&self, problem: &'static str, byte: u8) -> WireError {
        WireError::new(self.name, problem, self.at.saturating_sub(1)).found(byte)
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }
    pub(super) fn is_empty(&self) -> bool {
        self.left() == 0
    }
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        if length > self.left() {
            return Err(self.wrong(TRUNCATED));
        }
        let taken = &self.bytes[self.at..self.at + length];
        self.at += length;
        Ok(taken)
    }
    /// Everything that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        self.at = self.bytes.len();
        rest
    }
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let Some(&array) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk) else {
            return Err(self.wrong(TRUNCATED));
        };
        self.at += N;
        Ok(array)
    }
    pub(super) fn array_ref<const N: usize>(&mut self) -> Result<&'a [u8; N], WireError> {
        let Some(array) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk) else {
            return Err(self.wrong(TRUNCATED));
        };
        self.at += N;
        Ok(array)
    }
    pub(super) fn u8(&mut self) -> Result<u8, WireError> {
        self.array::<1>().map(|[byte]| byte)
    }
    pub(super) fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_le_bytes)
    }
    pub(super) fn u24(&mut self) -> Result<u32, WireError> {
        self.array().map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]))
    }
    pub(super) fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_le_bytes)
    }
    pub(super) fn u48(&mut self) -> Result<u64, WireError> {
        self.array().map(|[a, b, c, d, e, f]| u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
    }
    pub(super) fn u56(&mut self) -> Result<u64, WireError> {
        self.array().map(|[a, b, c, d, e, f, g]| u64::from_le_bytes([a, b, c, d, e, f, g, 0]))
    }
    pub(super) fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A length-encoded integer (manual, "Protocol::LengthEncodedInteger"):
    ///
    /// ```text
    /// 0..=250 itself | 252 Int2 | 253 Int3 | 254 Int8; 251 is NULL and 255 an error's mark, neither belongs here
    /// ```
    pub(super) fn packed(&mut self) -> Result<u64, WireError> {
        match self.u8()? {
            small @ 0..=250 => Ok(u64::from(small)),
            252 => self.u16().map(u64::from),
            253 => self.u24().map(u64::from),
            254 => self.u64(),
            other => Err(self.wrong_last("no length-encoded integer", other)),
        }
    }
    /// A length-encoded integer that counts bytes of this message.
    pub(super) fn packed_length(&mut self) -> Result<usize, WireError> {
        let length = self.packed()?;
        usize::try_from(length).ok().filter(|&length| length <= self.left()).ok_or_else(|| self.wrong(TRUNCATED))
    }

    /// `length` bytes of text and no zero byte.
    pub(super) fn text(&mut self, length: usize) -> Result<&'a str, WireError> {
        let text = self.clone().take(length).map(std::str::from_utf8)?;
        let text = text.map_err(|_| self.wrong("a text that is not UTF-8"))?;
        self.at += length;
        Ok(text)
    }

    pub(super) fn end(&self) -> Result<(), WireError> {
        if self.is_empty() { Ok(()) } else { Err(self.wrong("bytes left over")) }
    }
}
