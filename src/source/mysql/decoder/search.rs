//! A decoder that delivers nothing and looks for something in a part of the log that is behind the stream: rows of
//! transactions that are still prepared at its end, and the tables that statements are about.

use std::collections::HashSet;

use super::super::relation::Newcomer;
use super::super::xa::XidKey;
use super::Decoder;
use crate::error::Result;
use crate::wire::mysql::event::{Body, Query};

/// What is looked for, and what was found of it. Rows that were found are in the decoder's prepared transactions.
#[derive(Debug, Default)]
pub struct Search {
    /// The transactions whose rows are wanted.
    pub wanted: HashSet<XidKey>,
    /// Those that were ended last, and not prepared again behind that.
    pub ended: HashSet<XidKey>,
    /// Tables of which it is asked whether statements are about them.
    pub newcomers: Vec<Newcomer>,
}

impl Decoder {
    /// Whether a decoder that searches passes an event over.
    pub(super) fn passes_over(&self, body: &Body<'_>) -> bool {
        if self.search.is_none() {
            return false;
        }
        match body {
            Body::Rows(_) | Body::TableMap(_) => self.group.as_ref().is_some_and(|group| group.keep.is_none()),
            // What they tell is the stream's business, which has come by here or begins behind.
            Body::Incident(_) | Body::StatementBased | Body::Unknown => true,
            _ => false,
        }
    }

    /// Whether the rows of a transaction that is being prepared are to be kept.
    pub(super) fn keeps(&self, xid: Option<XidKey>) -> bool {
        let Some(search) = &self.search else { return true };
        xid.is_some_and(|xid| search.wanted.contains(&xid))
    }

    /// A statement in a part of the log that is searched.
    pub(super) fn searched(&mut self, query: &Query<'_>) -> Result<()> {
        match &mut self.search {
            Some(search) => self.relations.note(query, &mut search.newcomers),
            None => Ok(()),
        }
    }

    /// A prepared transaction has ended: nothing of it is wanted. False where the decoder does not search.
    pub(super) fn searched_end(&mut self, xid: &XidKey) -> bool {
        let Some(search) = &mut self.search else { return false };
        search.ended.insert(xid.clone());
        self.xa.forget(xid);
        true
    }
}
