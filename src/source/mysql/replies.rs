//! Semi-synchronous replication: which of the transactions that the server waits for may be acknowledged.
//!
//! Invariants:
//! - A transaction of which something is delivered, or kept, is acknowledged when every sink holds it and the store has its
//!   position: an acknowledgement says more here than a replica's, which says that it was received.
//! - One of which nothing is, is acknowledged as soon as everything before it may be: at once, where nothing is under way.
//! - Acknowledgements go forward, and one stands for all before it.

use std::collections::VecDeque;

use crate::record::Position;

#[derive(Default)]
pub struct Replies {
    owed: VecDeque<Owed>,
}

struct Owed {
    /// Where the event ends for which the server waits.
    end: Position,
    /// What has to be confirmed before.
    needs: Position,
}

impl Replies {
    pub fn owe(&mut self, end: Position, needs: Position) {
        self.owed.push_back(Owed { end, needs });
    }

    pub fn is_empty(&self) -> bool {
        self.owed.is_empty()
    }

    /// The last that may be acknowledged now; it and those before it are owed no more.
    pub fn due(&mut self, confirmed: Option<&Position>) -> Option<Position> {
        let confirmed = confirmed?;
        let held = |owed: &Owed| holds(confirmed, &owed.needs);
        let due = self.owed.iter().take_while(|owed| held(owed)).count();
        self.owed.drain(..due).next_back().map(|owed| owed.end)
    }
}

/// Whether all before a place is before what is confirmed. What both have seen in GTIDs does not matter on one server: a
/// place has none.
fn holds(confirmed: &Position, needs: &Position) -> bool {
    match (confirmed, needs) {
        (Position::MySql(confirmed), Position::MySql(needs))
            if confirmed.server == needs.server && !confirmed.file.is_empty() && !needs.file.is_empty() =>
        {
            confirmed.cmp_in_log(needs).is_ge()
        }
        _ => confirmed.reaches(needs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::BinlogPosition;

    fn at(offset: u64) -> Position {
        Position::MySql(format!("b.000001:{offset}").parse::<BinlogPosition>().unwrap().into())
    }

    #[test]
    fn a_place_is_held_whatever_is_said_in_gtids() {
        let confirmed = "b.000001:300/0-1-5".parse::<BinlogPosition>().unwrap();
        assert!(holds(&Position::MySql(confirmed.into()), &at(300)));
    }

    #[test]
    fn what_nobody_wants_waits_for_nobody_but_what_is_under_way() {
        let mut replies = Replies::default();
        replies.owe(at(200), at(100));
        assert_eq!(replies.due(None), None, "nothing is confirmed yet");
        assert_eq!(replies.due(Some(&at(100))), Some(at(200)), "all that is wanted before it is held");
        assert!(replies.is_empty());
        // One that is wanted, and one behind it that is not.
        replies.owe(at(300), at(300));
        replies.owe(at(400), at(300));
        assert_eq!(replies.due(Some(&at(100))), None);
        replies.owe(at(500), at(500));
        assert_eq!(replies.due(Some(&at(300))), Some(at(400)), "one acknowledgement for both");
        assert_eq!(replies.due(Some(&at(300))), None);
        assert_eq!(replies.due(Some(&at(900))), Some(at(500)));
    }
}
