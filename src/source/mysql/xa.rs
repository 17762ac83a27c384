//! XA transactions that are prepared: their rows are in the log before their outcome.
//!
//! Invariants:
//! - Prepared rows are kept as the log has them, each table with the definition it had then, until XA COMMIT delivers them
//!   in its place or XA ROLLBACK forgets them.
//! - They are source state: staged with the position behind their XA PREPARE, and gone with the one behind their outcome,
//!   so that a restart in between meets them.
//! - All of them together stay within a limit; beyond it is an error, never a loss.
//! - One that is prepared where a stream begins has its rows in the log before that: they are looked for at the start
//!   ([`super::source`]). What was not found or could not be asked for is an error at its XA COMMIT, never passed over.
//! - What was kept or forgotten and is not on its way to the store is undone before another connection replays it.
//!
//! ```text
//! value = 1:u8 tables:u32 (length:u32 definition)… events        numbers big endian; events as in the log, without
//!                                                                checksums; a definition as the schema history stores it
//! key   = "xa/" format id "/" hex of the global part "/" hex of the branch part
//! ```

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::schema::Definition;
use crate::error::{Error, Result};
use crate::record::StateEntry;
use crate::source::State;
use crate::wire::mysql::event::{Event, EventType, HEADER_BYTES, TableMap, XaXid};

/// The start of every key of a prepared transaction.
pub const STATE_PREFIX: &[u8] = b"xa/";

const FORMAT: u8 = 1;

/// An XA transaction's name: format id, global and branch part.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct XidKey {
    format_id: i32,
    global: Box<[u8]>,
    branch: Box<[u8]>,
}

impl XidKey {
    pub fn new(xid: &XaXid<'_>) -> Self {
        Self::of(xid.format_id, xid.global, xid.branch)
    }

    pub fn of(format_id: i32, global: &[u8], branch: &[u8]) -> Self {
        XidKey { format_id, global: global.into(), branch: branch.into() }
    }

    /// Reads the name of a statement as both servers log it:
    ///
    /// ```text
    /// XA COMMIT X'676c6f62616c',X'6272616e6368',1
    /// ```
    pub fn read(statement: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(statement).ok()?;
        let start = text.find(['X', 'x'].as_slice()).filter(|at| text[*at..].starts_with("XA "))? + 3;
        let name = &text[start..];
        let name = &name[name.find("X'")?..];
        let mut parts = name.splitn(3, ',');
        let mut hex = || {
            let digits = parts.next()?.trim().strip_prefix("X'")?.strip_suffix('\'')?;
            unhex(digits)
        };
        let (global, branch) = (hex()?, hex()?);
        let format = parts.next()?.trim();
        let end = format.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(format.len());
        Some(XidKey { format_id: format[..end].parse().ok()?, global: global.into(), branch: branch.into() })
    }

    fn state_key(&self) -> Vec<u8> {
        let mut key = STATE_PREFIX.to_vec();
        key.extend_from_slice(format!("{}/{}/{}", self.format_id, Hex(&self.global), Hex(&self.branch)).as_bytes());
        key
    }

    fn from_state_key(key: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(key.strip_prefix(STATE_PREFIX)?).ok()?;
        let mut parts = text.split('/');
        let (format_id, global, branch) = (parts.next()?.parse().ok()?, unhex(parts.next()?)?, unhex(parts.next()?)?);
        parts.next().is_none().then(|| XidKey { format_id, global: global.into(), branch: branch.into() })
    }
}

impl fmt::Display for XidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "X'{}',X'{}',{}", Hex(&self.global), Hex(&self.branch), self.format_id)
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

pub(super) fn unhex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?, 16).ok())
        .collect()
}

/// The rows of a transaction that is being read and whose outcome is to come.
#[derive(Default)]
pub struct Keep {
    events: Vec<u8>,
    tables: Vec<Arc<Definition>>,
}

impl Keep {
    /// # Errors
    /// Config: all that is kept goes beyond the limit.
    pub fn event(&mut self, event: &Event<'_>, xa: &Xa) -> Result<()> {
        let at = self.events.len();
        self.events.extend_from_slice(event.bytes());
        // The header's size counts a checksum that is no longer there.
        let size = (event.bytes().len() as u32).to_le_bytes();
        self.events[at + 9..at + 13].copy_from_slice(&size);
        xa.within_limit(self.events.len())
    }

    /// Bytes of events so far.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Forgets the events behind so many bytes of them.
    pub fn back_to(&mut self, bytes: usize) {
        self.events.truncate(bytes);
    }

    /// A wanted table, as it is defined now.
    pub fn table(&mut self, definition: Arc<Definition>) {
        if !self.tables.iter().any(|known| Arc::ptr_eq(known, &definition)) {
            self.tables.push(definition);
        }
    }

    /// Rows that nobody wants and that take ordinals all the same.
    pub fn skip(&mut self, rows: u64) {
        let size = HEADER_BYTES + size_of::<u64>();
        let mut event = [0; HEADER_BYTES + size_of::<u64>()];
        event[4] = EventType::IGNORABLE.0;
        event[9..13].copy_from_slice(&(size as u32).to_le_bytes());
        event[HEADER_BYTES..].copy_from_slice(&rows.to_le_bytes());
        self.events.extend_from_slice(&event);
    }

    pub fn finish(self) -> Kept {
        Kept { events: self.events.into(), tables: self.tables }
    }
}

/// The reverse of [`Keep::skip`]: how many rows an event of ours stands for.
pub fn skipped(event: &Event<'_>) -> Option<u64> {
    Some(u64::from_le_bytes(event.body().try_into().ok()?))
}

/// The rows of a prepared transaction.
#[derive(Clone)]
pub struct Kept {
    pub events: Bytes,
    tables: Vec<Arc<Definition>>,
}

impl Kept {
    /// A table as it was when its rows were logged; none for one that was not wanted then.
    pub fn table(&self, map: &TableMap<'_>) -> Option<&Arc<Definition>> {
        self.tables.iter().find(|table| *table.table.database == *map.database && *table.table.name == *map.table)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        out.extend_from_slice(&(self.tables.len() as u32).to_be_bytes());
        for table in &self.tables {
            let bytes = table.to_bytes();
            out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
            out.extend_from_slice(&bytes);
        }
        out.extend_from_slice(&self.events);
        out
    }

    fn decode(bytes: &[u8]) -> Option<Kept> {
        let (&format, rest) = bytes.split_first()?;
        let (count, mut rest) = rest.split_first_chunk()?;
        let mut tables = Vec::new();
        for _ in 0..u32::from_be_bytes(*count) {
            let (length, more) = rest.split_first_chunk()?;
            let (definition, more) = more.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            tables.push(Arc::new(Definition::from_bytes(definition).ok()?));
            rest = more;
        }
        (format == FORMAT).then(|| Kept { events: Bytes::copy_from_slice(rest), tables })
    }
}

/// The prepared transactions.
pub struct Xa {
    prepared: HashMap<XidKey, Kept>,
    /// Bytes of their events.
    bytes: usize,
    limit_bytes: u64,
    /// What was known before each change that is not on its way to the store, oldest first.
    unsettled: Vec<(XidKey, Option<Kept>)>,
}

impl Xa {
    /// # Errors
    /// Config: what is stored is not a prepared transaction.
    pub fn restore(state: &State, limit_bytes: u64) -> Result<Xa> {
        let mut xa = Xa { prepared: HashMap::new(), bytes: 0, limit_bytes, unsettled: Vec::new() };
        for (key, value) in state.range(STATE_PREFIX.to_vec()..).take_while(|(key, _)| key.starts_with(STATE_PREFIX)) {
            let (Some(xid), Some(kept)) = (XidKey::from_state_key(key), Kept::decode(value)) else {
                return Err(Error::config(format!(
                    "reading the prepared transaction stored under {}",
                    key.escape_ascii()
                ))
                .remedy("the state directory was written by another version or is damaged: `walbrook offsets reset`"));
            };
            xa.bytes += kept.events.len();
            xa.prepared.insert(xid, kept);
        }
        Ok(xa)
    }

    pub fn knows(&self, xid: &XidKey) -> bool {
        self.prepared.contains_key(xid)
    }

    /// Takes over what another reading of the log found prepared. Returns what stores it.
    ///
    /// # Errors
    /// Config: all that is kept goes beyond the limit.
    pub fn adopt(&mut self, found: Xa) -> Result<Vec<StateEntry>> {
        self.within_limit(found.bytes)?;
        Ok(found.prepared.into_iter().map(|(xid, kept)| self.prepare(xid, kept)).collect())
    }

    pub fn within_limit(&self, more: usize) -> Result<()> {
        let wanted = self.bytes + more;
        if wanted as u64 <= self.limit_bytes {
            return Ok(());
        }
        Err(Error::config(format!(
            "prepared XA transactions hold {wanted} bytes of rows ({} are prepared), and xa_limit is {} bytes",
            self.prepared.len(),
            self.limit_bytes
        ))
        .remedy("raise xa_limit, or end the transactions that XA RECOVER shows; nothing is lost meanwhile"))
    }

    /// What stores it.
    pub fn prepare(&mut self, xid: XidKey, kept: Kept) -> StateEntry {
        let entry = StateEntry { key: xid.state_key(), value: Some(kept.encode()) };
        self.change(xid, Some(kept));
        entry
    }

    /// The rows of a transaction that is committed, and what removes it from the state. None: it is not known.
    pub fn take(&mut self, xid: &XidKey) -> Option<(Kept, StateEntry)> {
        let kept = self.prepared.get(xid)?.clone();
        self.forget(xid).map(|entry| (kept, entry))
    }

    /// What removes it from the state. None: it is not known.
    pub fn forget(&mut self, xid: &XidKey) -> Option<StateEntry> {
        self.prepared.contains_key(xid).then(|| {
            self.change(xid.clone(), None);
            StateEntry { key: xid.state_key(), value: None }
        })
    }

    fn change(&mut self, xid: XidKey, kept: Option<Kept>) {
        let before = self.put(xid.clone(), kept);
        self.unsettled.push((xid, before));
    }

    fn put(&mut self, xid: XidKey, kept: Option<Kept>) -> Option<Kept> {
        self.bytes += kept.as_ref().map_or(0, |kept| kept.events.len());
        let before = match kept {
            Some(kept) => self.prepared.insert(xid, kept),
            None => self.prepared.remove(&xid),
        };
        self.bytes -= before.as_ref().map_or(0, |kept| kept.events.len());
        before
    }

    /// Every change so far is on its way to the store.
    pub fn settle(&mut self) {
        self.unsettled.clear();
    }

    /// Undoes every change that is not.
    pub fn roll_back(&mut self) {
        while let Some((xid, before)) = self.unsettled.pop() {
            self.put(xid, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_servers_log_them() {
        let xid = XidKey::read(b"XA COMMIT X'676c',X'',1").unwrap();
        assert_eq!((xid.format_id, &*xid.global, &*xid.branch), (1, &b"gl"[..], &b""[..]));
        assert_eq!(XidKey::read(b"XA ROLLBACK X'676c',X'',1"), Some(xid.clone()));
        assert_eq!(XidKey::read(b"XA COMMIT X'676c',X'',1 ONE PHASE"), Some(xid.clone()));
        assert_eq!(XidKey::from_state_key(&xid.state_key()), Some(xid.clone()));
        assert_eq!(xid.to_string(), "X'676c',X'',1");
        for wrong in
            [&b""[..], b"XA COMMIT", b"XA COMMIT 'a'", b"XA COMMIT X'6',X'',1", b"XA COMMIT X'61',X''", b"\xff"]
        {
            assert_eq!(XidKey::read(wrong), None);
        }
    }

    fn kept(bytes: usize) -> Kept {
        Kept { events: vec![7; bytes].into(), tables: Vec::new() }
    }

    #[test]
    fn what_is_kept_survives_a_restart_until_its_outcome() {
        let xid = XidKey { format_id: -1, global: b"g".as_slice().into(), branch: b"\xff".as_slice().into() };
        let mut xa = Xa::restore(&State::new(), 100).unwrap();
        let entry = xa.prepare(xid.clone(), kept(60));
        assert!(xa.within_limit(40).is_ok() && xa.within_limit(41).is_err());
        let mut state = State::from([(entry.key.clone(), entry.value.unwrap())]);
        let mut again = Xa::restore(&state, 100).unwrap();
        let (found, removal) = again.take(&xid).unwrap();
        assert_eq!((found.events.len(), &removal.key, removal.value), (60, &entry.key, None));
        assert!(again.take(&xid).is_none() && again.within_limit(100).is_ok());
        again.roll_back();
        assert!(again.take(&xid).is_some(), "its outcome was not stored");
        again.settle();
        again.roll_back();
        assert!(again.take(&xid).is_none());
        state.insert(b"xa/1/zz/".to_vec(), Vec::new());
        assert!(Xa::restore(&state, 100).is_err());
    }

    #[test]
    fn skipped_rows_are_an_event() {
        let mut keep = Keep::default();
        keep.skip(12);
        let bytes = keep.finish().events;
        assert_eq!(skipped(&Event::plain(&bytes).unwrap()), Some(12));
    }
}
