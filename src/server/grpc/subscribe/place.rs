//! Positions as clients send them.

use sha2::{Digest, Sha256};
use tonic::Status;

use crate::encode::proto::read_token;
use crate::error::Error;
use crate::proto::v1;
use crate::record::{Lineage, Position};
use crate::server::grpc::status::invalid;

/// A GTID set of ten thousand ranges; what is longer is none.
const TEXT_MAX_BYTES: usize = 1 << 20;

/// Whose log a position is of. The timeline, and the slot, may change while the log goes on.
pub fn owner(lineage: &Lineage) -> u64 {
    let mut hash = Sha256::new();
    for part in [&lineage.kind, &lineage.system, &lineage.database] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    // Enough that two servers of one person do not have the same.
    let mut owner = [0; 8];
    owner.copy_from_slice(&hash.finalize()[..8]);
    u64::from_be_bytes(owner)
}

/// Errors: INVALID_ARGUMENT for what is no position; OUT_OF_RANGE for one of another server's log.
pub fn from_wire(position: &v1::Position, lineage: &Lineage) -> Result<Position, Status> {
    if position.token.is_empty() {
        if position.text.is_empty() {
            return Err(Status::invalid_argument("a position has a token or a text, and this one has neither"));
        }
        if position.text.len() > TEXT_MAX_BYTES {
            return Err(Status::invalid_argument(format!(
                "the text of a position is longer than {TEXT_MAX_BYTES} bytes"
            )));
        }
        return position.text.parse().map_err(|error: Error| invalid(&error));
    }
    let Some((of, position)) = read_token(&position.token) else {
        return Err(Status::invalid_argument(
            "the token of the position is none that this version of Walbrook has made",
        ));
    };
    if of != owner(lineage) {
        return Err(Status::out_of_range(format!(
            "the position {position} is of the log of another server than {lineage}; if the log is the same nevertheless \
             (GTIDs after a failover), send the position's text without its token"
        )));
    }
    Ok(position)
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::record::Lsn;

    fn to_wire(position: &Position, lineage: &Lineage) -> v1::Position {
        crate::encode::proto::position(position, owner(lineage))
    }

    fn lineage(system: &str, timeline: &str) -> Lineage {
        let text = |text: &str| text.to_owned();
        Lineage {
            kind: text("postgres"),
            system: text(system),
            timeline: text(timeline),
            database: text("shop"),
            stream: text("walbrook"),
        }
    }

    #[test]
    fn a_position_comes_back_to_its_own_log_only() {
        let position = Position::Postgres(Lsn(0x16_B374_D848));
        let sent = to_wire(&position, &lineage("1", "1"));
        assert_eq!(sent.text, "16/B374D848");
        assert_eq!(from_wire(&sent, &lineage("1", "2")).unwrap(), position, "a timeline goes on");
        assert_eq!(from_wire(&sent, &lineage("2", "1")).unwrap_err().code(), Code::OutOfRange);
        let text = v1::Position { token: Default::default(), text: sent.text.clone() };
        assert_eq!(from_wire(&text, &lineage("2", "1")).unwrap(), position);
    }

    #[test]
    fn what_is_no_position_is_an_invalid_argument() {
        let lineage = lineage("1", "1");
        let sent = to_wire(&Position::Postgres(Lsn(1)), &lineage);
        for end in 1..sent.token.len() {
            let cut = v1::Position { token: sent.token.slice(..end), text: String::new() };
            assert_eq!(from_wire(&cut, &lineage).unwrap_err().code(), Code::InvalidArgument);
        }
        for (token, text) in [(&b""[..], ""), (b"\x02", ""), (b"", "soon")] {
            let wrong = v1::Position { token: token.into(), text: text.to_owned() };
            assert_eq!(from_wire(&wrong, &lineage).unwrap_err().code(), Code::InvalidArgument);
        }
    }
}
