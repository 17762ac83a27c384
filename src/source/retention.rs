//! Whether the server still covers a stored position.

use std::fmt;

use crate::record::Position;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything from the position on is there.
    Valid,
    Lost(Gap),
}

/// What is missing, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first position that is wanted.
    pub from: Position,
    /// The first that the server still has, or its end where the position is ahead of it.
    pub to: Option<Position>,
    pub bytes: Option<u64>,
    /// In the operator's words: slot dropped, invalidated (reason), other system, other timeline, ahead of the server.
    pub why: String,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Valid => f.write_str("valid"),
            Verdict::Lost(gap) => write!(f, "lost: {gap}"),
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; missing from {}", self.why, self.from)?;
        match &self.to {
            Some(to) => write!(f, " to {to}")?,
            None => f.write_str(" to an unknown position")?,
        }
        match self.bytes {
            Some(bytes) => write!(f, " ({bytes} bytes)"),
            None => Ok(()),
        }
    }
}
