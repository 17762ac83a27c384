//! What a file of lines must be: every transaction whole and in order, every row as the table has it in the end.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use serde::{Deserialize, Deserializer};

use super::target::{Db, Target};
use super::writer::{Table, digest, number, stamp};

#[derive(Deserialize)]
struct Line {
    op: String,
    table: Option<String>,
    key: Option<Cells>,
    before: Option<Cells>,
    after: Option<Cells>,
    #[serde(default)]
    unchanged: Vec<String>,
    pos: String,
    ord: u64,
}

/// Of every table's columns, those that the line has.
#[derive(Default, Deserialize)]
struct Cells {
    id: Option<i64>,
    part: Option<serde_json::Value>,
    writer: Option<i64>,
    seq: Option<i64>,
    n: Option<i64>,
    note: Option<String>,
    /// Outer none: absent.
    #[serde(default, deserialize_with = "present")]
    big: Option<Option<String>>,
    big_sum: Option<i64>,
    sum: Option<i64>,
    ops: Option<i64>,
    digest: Option<i64>,
}

fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(from).map(Some)
}

#[derive(Clone, Debug, PartialEq)]
struct Row {
    part: String,
    writer: i64,
    seq: i64,
    n: i64,
    note: String,
    /// Outer none: an update said "unchanged" and nobody ever said what it was.
    big: Option<Option<String>>,
    big_sum: Option<i64>,
    sum: i64,
}

/// The key of a table as text: what the table's `key` is, and `id` where there is none.
type Key = (Table, i64, String);

fn key(table: Table, cells: &Cells) -> Result<Key, String> {
    let id = cells.id.ok_or("a key without id")?;
    let part = match table {
        Table::Pairs | Table::Parts => cells.part.as_ref().map(text).ok_or("a key without part")?,
        _ => String::new(),
    };
    Ok((table, id, part))
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// How often what the documentation allows has happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub lines: u64,
    pub snapshot_rows: u64,
    /// Rows of chunks that were interrupted, or read again because of an update.
    pub snapshot_rows_again: u64,
    /// Updates of rows that no line before has shown, some of their values unknown until the row itself comes.
    pub updates_before_their_row: u64,
    /// Changes that came a second time; never into a file.
    pub changes_again: u64,
    pub transactions: u64,
    pub unchanged_toast: u64,
    pub key_changes: u64,
    pub truncates: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.lines += other.lines;
        self.snapshot_rows += other.snapshot_rows;
        self.snapshot_rows_again += other.snapshot_rows_again;
        self.updates_before_their_row += other.updates_before_their_row;
        self.changes_again += other.changes_again;
        self.transactions += other.transactions;
        self.unchanged_toast += other.unchanged_toast;
        self.key_changes += other.key_changes;
        self.truncates += other.truncates;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { lines, snapshot_rows, transactions, unchanged_toast, key_changes, truncates, .. } = self;
        write!(
            f,
            "{lines} lines, {snapshot_rows} snapshot rows ({} of them again), {transactions} transactions ({} changes again), \
             {} updates before their row, {unchanged_toast} with an unchanged value, {key_changes} key changes, {truncates} truncates",
            self.snapshot_rows_again, self.changes_again, self.updates_before_their_row
        )
    }
}

/// A transaction that is being read.
#[derive(Default)]
struct Open {
    pos: u64,
    ops: i64,
    digest: i64,
    ledger: Option<(i64, i64, i64, i64)>,
}

/// How a line of the ledger came.
#[derive(Default)]
struct Seen {
    /// The earliest snapshot point that it was read at.
    point: Option<u64>,
    as_change: bool,
}

struct Verifier<'t> {
    target: &'t dyn Target,
    exactly_once: bool,
    rows: HashMap<Key, Row>,
    seen_in_snapshot: HashSet<Key>,
    /// Ledger lines by writer and sequence.
    ledger: BTreeMap<(i64, i64), Seen>,
    last: (u64, u64),
    open: Option<Open>,
    begun: Option<u64>,
    last_seq: HashMap<i64, i64>,
    counts: Counts,
}

/// Reads the file and holds it against the tables as they are now. The error says what is wrong, first things first.
/// Where changes may come more than once, the reader does what the documentation says: it skips a change whose order key
/// (`pos`, `ord`) is not behind that of the last change.
pub fn verify(path: &Path, target: &dyn Target, exactly_once: bool) -> Result<Counts, String> {
    let at = |line: u64, text: &str, error: String| {
        format!("{} line {line}: {error}\nin {}", path.display(), text.chars().take(400).collect::<String>())
    };
    let lines = || {
        let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        BufReader::with_capacity(1 << 20, file).split(b'\n').map(|line| line.expect("a line"))
    };
    let last_snapshot_row =
        lines().enumerate().filter(|(_, line)| line.starts_with(br#"{"op":"r""#)).map(|(n, _)| n).last();
    let last_snapshot_row = last_snapshot_row.ok_or("no snapshot row at all")?;
    let mut verifier = Verifier {
        target,
        exactly_once,
        rows: HashMap::new(),
        seen_in_snapshot: HashSet::new(),
        ledger: BTreeMap::new(),
        last: (0, 0),
        open: None,
        begun: None,
        last_seq: HashMap::new(),
        counts: Counts::default(),
    };
    for (n, bytes) in lines().enumerate() {
        let line: Line = serde_json::from_slice(&bytes).map_err(|error| {
            at(n as u64 + 1, &String::from_utf8_lossy(&bytes), format!("not one of our lines: {error}"))
        })?;
        verifier
            .line(&line, n > last_snapshot_row)
            .map_err(|error| at(n as u64 + 1, &String::from_utf8_lossy(&bytes), error))?;
    }
    verifier.end_of_transaction().map_err(|error| format!("at the end of {}: {error}", path.display()))?;
    if verifier.begun.is_some() {
        return Err(format!("{} ends inside a transaction", path.display()));
    }
    let mut db = target.connect()().expect("a connection");
    verifier.compare(db.as_mut()).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(verifier.counts)
}

impl Verifier<'_> {
    /// `whole`: no snapshot row comes any more, so every row is known.
    fn line(&mut self, line: &Line, whole: bool) -> Result<(), String> {
        self.counts.lines += 1;
        let pos = self.target.place(&line.pos)?;
        match line.op.as_str() {
            "r" => {
                self.end_of_transaction()?;
                return self.snapshot_row(line, pos);
            }
            "b" if self.begun.is_none() => self.begun = Some(pos),
            "e" if self.begun == Some(pos) => self.begun = None,
            "b" | "e" => return Err(format!("begin and end do not match: {:?} is open", self.begun)),
            _ => {}
        }
        if (pos, line.ord) <= self.last {
            if !self.exactly_once {
                self.counts.changes_again += 1;
                return Ok(());
            }
            return Err(format!("{:X?} comes after {:X?}", (pos, line.ord), self.last));
        }
        self.last = (pos, line.ord);
        if matches!(line.op.as_str(), "b" | "e") {
            return Ok(());
        }
        if self.begun.is_some_and(|begun| begun != pos) {
            return Err("a change between the begin and the end of another transaction".into());
        }
        if self.open.as_ref().is_none_or(|open| open.pos != pos) {
            self.end_of_transaction()?;
            self.open = Some(Open { pos, ..Open::default() });
        }
        let name = line.table.as_deref().ok_or("no table")?;
        if name == "ledger" {
            let after = line.after.as_ref().ok_or("a ledger line without its row")?;
            return self.ledger_row(after, pos, true);
        }
        let table = Table::named(name).ok_or_else(|| format!("an unknown table {name}"))?;
        self.change(line, table, whole)
    }

    fn change(&mut self, line: &Line, table: Table, whole: bool) -> Result<(), String> {
        let mut id = 0;
        let mut sum = 0;
        match line.op.as_str() {
            "c" | "u" => {
                let after = line.after.as_ref().ok_or("no after")?;
                let new_key = key(table, after)?;
                (id, sum) = (new_key.1, after.sum.ok_or("no sum")?);
                match (&line.key, table) {
                    (None, Table::Loose) => {}
                    (Some(given), table) if table != Table::Loose && key(table, given)? == new_key => {}
                    _ => return Err("the key is not that of the new row".into()),
                }
                let mut row = row(table, after)?;
                let listed = line.unchanged == ["big"];
                if listed != row.big.is_none() || (!listed && !line.unchanged.is_empty()) {
                    return Err(format!("unchanged is {:?}, and big is there: {}", line.unchanged, row.big.is_some()));
                }
                let old = if line.op == "c" {
                    if listed {
                        return Err("an insert without a value".into());
                    }
                    let replaced = self.rows.remove(&new_key);
                    if whole && replaced.is_some() {
                        return Err("an insert of a row that is there".into());
                    }
                    None
                } else {
                    let old_key = match &line.before {
                        Some(before) => key(table, before)?,
                        None => new_key.clone(),
                    };
                    self.counts.key_changes += u64::from(old_key != new_key);
                    let old = self.rows.remove(&old_key);
                    if old.is_none() {
                        if whole {
                            return Err("an update of a row that is not there".into());
                        }
                        self.counts.updates_before_their_row += 1;
                    }
                    if whole && old_key != new_key && self.rows.contains_key(&new_key) {
                        return Err("a key changes to one that is there".into());
                    }
                    old
                };
                if row.big.is_none() {
                    self.counts.unchanged_toast += 1;
                    row.big = old.and_then(|old| old.big);
                    if row.big.is_none() && whole {
                        return Err("an unchanged value that no line has shown".into());
                    }
                }
                if whole {
                    check_big(&row)?;
                }
                self.rows.insert(new_key, row);
            }
            "d" => {
                let old = line.before.as_ref().ok_or("no before")?;
                let old = key(table, old)?;
                id = old.1;
                if self.rows.remove(&old).is_none() && whole {
                    return Err("a delete of a row that is not there".into());
                }
            }
            "t" => {
                self.counts.truncates += 1;
                self.rows.retain(|(of, _, _), _| *of != table);
            }
            other => return Err(format!("unexpected: {other:?}")),
        }
        let open = self.open.get_or_insert_default();
        open.ops += 1;
        open.digest += digest(table, &line.op, id, sum);
        Ok(())
    }

    fn snapshot_row(&mut self, line: &Line, point: u64) -> Result<(), String> {
        self.counts.snapshot_rows += 1;
        if self.begun.is_some() {
            return Err("a snapshot row inside a transaction".into());
        }
        let name = line.table.as_deref().ok_or("no table")?;
        let after = line.after.as_ref().ok_or("no row")?;
        if !line.unchanged.is_empty() {
            return Err("a snapshot row without a value".into());
        }
        if name == "ledger" {
            return self.ledger_row(after, point, false);
        }
        let table = Table::named(name).ok_or_else(|| format!("an unknown table {name}"))?;
        let key = key(table, after)?;
        if !self.seen_in_snapshot.insert(key.clone()) {
            self.counts.snapshot_rows_again += 1;
        }
        let row = row(table, after)?;
        check_big(&row)?;
        self.rows.insert(key, row);
        Ok(())
    }

    /// `at`: its transaction, where it comes as a change, else the snapshot's point.
    fn ledger_row(&mut self, cells: &Cells, at: u64, as_change: bool) -> Result<(), String> {
        let get = |cell: Option<i64>| cell.ok_or("an incomplete ledger line");
        let (writer, seq) = (get(cells.writer)?, get(cells.seq)?);
        let seen = self.ledger.entry((writer, seq)).or_default();
        if !as_change {
            seen.point = Some(seen.point.map_or(at, |point| point.min(at)));
            return Ok(());
        }
        if std::mem::replace(&mut seen.as_change, true) {
            return Err(format!("transaction {writer}/{seq} for the second time"));
        }
        if seen.point.is_some_and(|point| at >= point) {
            return Err("a row of the snapshot that was committed after it".into());
        }
        let last = self.last_seq.insert(writer, seq);
        if last.is_some_and(|last| last >= seq) {
            return Err(format!("transaction {writer}/{seq} after {last:?}"));
        }
        let open = self.open.get_or_insert_default();
        if open.ledger.replace((writer, seq, get(cells.ops)?, get(cells.digest)?)).is_some() {
            return Err("two transactions in one".into());
        }
        Ok(())
    }

    fn end_of_transaction(&mut self) -> Result<(), String> {
        let Some(open) = self.open.take() else { return Ok(()) };
        self.counts.transactions += 1;
        match open.ledger {
            Some((_, _, ops, digest)) if (ops, digest) == (open.ops, open.digest) => Ok(()),
            Some((writer, seq, ops, _)) => Err(format!(
                "transaction {writer}/{seq} at {:X} is not as it was committed: {} changes here, {ops} there",
                open.pos, open.ops
            )),
            None => Err(format!("the transaction at {:X} is torn: {} changes without its end", open.pos, open.ops)),
        }
    }

    /// Against the tables.
    fn compare(&self, db: &mut dyn Db) -> Result<(), String> {
        let mut rows = |sql: &str| db.rows(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let text = self.target.dialect().text;
        let get =
            |row: &[Option<String>], column: usize| row[column].clone().unwrap_or_else(|| panic!("NULL in {row:?}"));
        let committed: HashSet<(i64, i64)> = rows("select writer, seq from ledger")
            .iter()
            .map(|row| (number(row, 0).expect("a number"), number(row, 1).expect("a number")))
            .collect();
        let lost: Vec<_> = committed.iter().filter(|id| !self.ledger.contains_key(id)).take(5).collect();
        let ghosts: Vec<_> = self.ledger.keys().filter(|id| !committed.contains(id)).take(5).collect();
        if !lost.is_empty() || !ghosts.is_empty() {
            return Err(format!("transactions (writer, number) lost: {lost:?}, never committed: {ghosts:?}"));
        }
        let mut wrong = Vec::new();
        let mut there = 0;
        for table in Table::ALL {
            let sql = format!(
                "select id, cast(part as {text}), writer, seq, n, note, big, big_sum, sum from {}",
                table.name()
            );
            for row in rows(&sql) {
                let exact = |column| number(&row, column).expect("a number");
                let cells = Cells { id: number(&row, 0), part: row[1].clone().map(Into::into), ..Cells::default() };
                let expected = Row {
                    part: get(&row, 1),
                    writer: exact(2),
                    seq: exact(3),
                    n: exact(4),
                    note: get(&row, 5),
                    big: Some(row[6].clone()),
                    big_sum: number(&row, 7),
                    sum: exact(8),
                };
                there += 1;
                let key = key(table, &cells)?;
                match self.rows.get(&key) {
                    Some(folded) if *folded == expected => {}
                    Some(folded) => wrong.push(format!("{key:?}: {}", difference(folded, &expected))),
                    None => wrong.push(format!("{key:?} is missing")),
                }
            }
        }
        if there < self.rows.len() {
            let mut there: HashSet<Key> = HashSet::new();
            for table in Table::ALL {
                for row in rows(&format!("select id, cast(part as {text}) from {}", table.name())) {
                    let part = if matches!(table, Table::Pairs | Table::Parts) { get(&row, 1) } else { String::new() };
                    there.insert((table, number(&row, 0).expect("an id"), part));
                }
            }
            let more = self.rows.iter().filter(|(key, _)| !there.contains(key));
            wrong.extend(more.map(|(key, row)| format!("{key:?} was deleted, and stands at sequence {}", row.seq)));
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let (count, some) = (wrong.len(), wrong[..wrong.len().min(8)].join("\n  "));
        Err(format!("{count} rows are not as the tables have them:\n  {some}"))
    }
}

fn difference(folded: &Row, expected: &Row) -> String {
    if folded.big.is_none() {
        return "an unchanged value never came".into();
    }
    let short = |row: &Row| {
        let Row { part, writer, seq, n, big_sum, sum, .. } = row;
        format!("part {part} writer {writer} seq {seq} n {n} big_sum {big_sum:?} sum {sum}")
    };
    format!("{} (big agrees: {}), in the table {}", short(folded), folded.big == expected.big, short(expected))
}

/// The new row, its stamp checked.
fn row(table: Table, cells: &Cells) -> Result<Row, String> {
    let get = |cell: Option<i64>| cell.ok_or("a value is missing");
    let row = Row {
        part: cells.part.as_ref().map(text).ok_or("no part")?,
        writer: get(cells.writer)?,
        seq: get(cells.seq)?,
        n: get(cells.n)?,
        note: cells.note.clone().ok_or("no note")?,
        big: cells.big.clone(),
        big_sum: cells.big_sum,
        sum: get(cells.sum)?,
    };
    let Row { part, writer, seq, n, note, big_sum, sum, .. } = &row;
    if stamp(table, get(cells.id)?, part, [*writer, *seq, *n], note, *big_sum) != *sum {
        return Err("the row's checksum is wrong".into());
    }
    Ok(row)
}

fn check_big(row: &Row) -> Result<(), String> {
    let Some(big) = &row.big else { return Err("the large value is not known".into()) };
    if big.as_ref().map(|big| i64::from(crc32fast::hash(big.as_bytes()))) != row.big_sum {
        return Err("the large value's checksum is wrong".into());
    }
    Ok(())
}
