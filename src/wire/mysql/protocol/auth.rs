//! What a server says during the login.
//!
//! "Connection Phase":
//! ```text
//! AuthSwitchRequest  int<1> 0xfe  string<NUL> plugin_name  string<EOF> plugin_data   (0xfe alone: the login of before 4.1)
//! AuthMoreData       int<1> 0x01  string<EOF> data
//! AuthNextFactor     int<1> 0x02  string<NUL> plugin_name  string<EOF> plugin_data
//! ```
//! and at its end OK or ERR. MariaDB's plugins send packets without the mark of AuthMoreData too.

use super::answer;
use crate::wire::WireError;
use crate::wire::mysql::reader::Reader;

const SWITCH: u8 = 0xfe;
const MORE_DATA: u8 = 0x01;
const NEXT_FACTOR: u8 = 0x02;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn<'a> {
    Ok,
    Err(answer::Err<'a>),
    /// Begin again with this plugin and these data. Of a nonce that is a C string they hold the end too, of one that is any
    /// bytes they do not: the plugin knows how long it is.
    Switch {
        plugin: &'a [u8],
        data: &'a [u8],
    },
    /// The login of servers before 4.1.
    Old,
    MoreData(&'a [u8]),
    /// Anything else is between the plugins: a packet that begins as none of the others goes unmarked.
    Plugin(&'a [u8]),
    /// One more proof is wanted (multi-factor authentication), by this plugin.
    NextFactor {
        plugin: &'a [u8],
    },
}

/// # Errors
/// A torn packet.
pub fn parse(payload: &[u8]) -> Result<Turn<'_>, WireError> {
    let mut reader = Reader::new("login", payload, 0);
    match reader.u8()? {
        answer::OK => answer::parse_ok(payload).map(|_| Turn::Ok),
        answer::ERR => answer::parse_err(payload).map(Turn::Err),
        SWITCH if reader.left() == 0 => Ok(Turn::Old),
        SWITCH => {
            let plugin = reader.until_zero()?;
            Ok(Turn::Switch { plugin, data: reader.rest() })
        }
        MORE_DATA => Ok(Turn::MoreData(reader.rest())),
        NEXT_FACTOR => Ok(Turn::NextFactor { plugin: reader.until_zero()? }),
        _ => Ok(Turn::Plugin(payload)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn turns() {
        assert_eq!(parse(&[0, 0, 0, 2, 0, 0, 0]), Ok(Turn::Ok));
        assert_eq!(parse(b"\xfeplug\0nonce\0"), Ok(Turn::Switch { plugin: b"plug", data: b"nonce\0" }));
        assert_eq!(parse(b"\xfe"), Ok(Turn::Old));
        assert_eq!(parse(b"\x01\x04"), Ok(Turn::MoreData(b"\x04")));
        assert_eq!(parse(b"Pdata"), Ok(Turn::Plugin(b"Pdata")));
        assert_eq!(parse(b"\x02plug\0x"), Ok(Turn::NextFactor { plugin: b"plug" }));
        for bad in [&b""[..], b"\xfeplug", b"\x02x"] {
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
