//! One writer whose transactions are numbered and each as large as the other, at a steady rate; and what a reader makes of
//! the lines.
//!
//! - Transaction `t` inserts the rows `t * SPACE + n` of `n` below [`INSERTS`], in order; updates the first [`UPDATES`] of
//!   transaction `t - 1`; deletes all of transaction `t - KEPT`. The column `written_by` of a row is the transaction that wrote it last,
//!   `sum` covers `id` and `note`.
//! - So a line alone says of which transaction it is, and what a whole transaction is needs no other source.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::crash::target::{Connect, Db, Target};

/// Of rows a transaction, in the numbers that are their keys.
const SPACE: i64 = 1000;
const INSERTS: i64 = 100;
const UPDATES: i64 = 50;
/// The table holds the rows of so many transactions.
const KEPT: i64 = 200;
const CHANGES: i64 = 2 * INSERTS + UPDATES;

const SCHEMA: &str = "create table stamped (id bigint primary key, written_by bigint, sum bigint, note varchar(100))";

fn note(id: i64) -> String {
    let mixed = (id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{mixed:016x}{:016x}{:016x}", mixed.rotate_left(23), !mixed)
}

fn sum(id: i64, note: &str) -> i64 {
    i64::from(crc32fast::hash(format!("{id}|{note}").as_bytes()))
}

fn script(t: i64) -> String {
    let mut sql = String::from("begin; insert into stamped values ");
    for n in 0..INSERTS {
        let id = t * SPACE + n;
        let note = note(id);
        let comma = if n == 0 { "" } else { ", " };
        let _ = write!(sql, "{comma}({id}, {t}, {}, '{note}')", sum(id, &note));
    }
    let (previous, oldest) = ((t - 1) * SPACE, (t - KEPT) * SPACE);
    let _ = write!(
        sql,
        "; update stamped set written_by = {t} where id between {previous} and {}; \
         delete from stamped where id between {oldest} and {}; commit",
        previous + UPDATES - 1,
        oldest + INSERTS - 1
    );
    sql
}

/// For each reader that the writer waits for the last transaction that it has whole, 0 before the first.
type Readers = Arc<Mutex<Vec<Arc<AtomicI64>>>>;

fn slowest(readers: &Readers) -> Option<i64> {
    let readers = readers.lock().expect("nobody panics");
    readers.iter().map(|whole| whole.load(Ordering::Relaxed)).filter(|whole| *whole > 0).min()
}

/// The writer at work.
pub struct Writer {
    stop: Arc<AtomicBool>,
    last: Arc<AtomicI64>,
    readers: Readers,
    thread: JoinHandle<()>,
    since: Instant,
}

impl Writer {
    /// Makes the table with its first rows: those of transactions 1 to [`KEPT`], of which nothing is deleted.
    pub fn prepare(target: &dyn Target) {
        let mut db = target.connect()().expect("a connection");
        db.run(SCHEMA).expect("the table");
        for t in 1..=KEPT {
            db.run(&script(t)).expect("the first rows");
        }
    }

    /// `max_ahead`: on a machine too slow for the rate it waits for the readers when so many transactions ahead.
    pub fn start(connect: &Connect, changes_per_s: u32, max_ahead: i64) -> Writer {
        let readers = Readers::default();
        let waits_for = readers.clone();
        let stop = Arc::new(AtomicBool::new(false));
        let last = Arc::new(AtomicI64::new(KEPT));
        let (stopped, written, connect) = (stop.clone(), last.clone(), connect.clone());
        let pause = Duration::from_secs_f64(CHANGES as f64 / f64::from(changes_per_s));
        let thread = std::thread::spawn(move || {
            let mut db: Box<dyn Db> = connect().expect("a connection");
            let mut due = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                let t = written.load(Ordering::Relaxed) + 1;
                if slowest(&waits_for).is_some_and(|slowest| t - slowest > max_ahead) {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                db.run(&script(t)).expect("a transaction");
                written.store(t, Ordering::Relaxed);
                // What was missed is not made up for: a burst would be another rate.
                due = (due + pause).max(Instant::now());
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        Writer { stop, last, readers, thread, since: Instant::now() }
    }

    /// From now on this reader is waited for.
    pub fn wait_for(&self, whole: Arc<AtomicI64>) {
        self.readers.lock().expect("nobody panics").push(whole);
    }

    /// The last transaction that is committed.
    pub fn last(&self) -> i64 {
        self.last.load(Ordering::Relaxed)
    }

    /// The last transaction, and the changes a second that there were in the mean.
    pub fn stop(self) -> (i64, f64) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the writer ends well");
        let last = self.last.load(Ordering::Relaxed);
        (last, ((last - KEPT) * CHANGES) as f64 / self.since.elapsed().as_secs_f64())
    }
}

/// What one consumer has seen, held against what a transaction is.
#[derive(Default)]
pub struct Seen {
    /// The rows as they stand: the transaction that wrote each last.
    rows: HashMap<i64, i64>,
    /// The order key of the last change: transaction and `ord`.
    last: (i64, u64),
    /// That of the last line; lower than `last` where what came comes again.
    line: (i64, u64),
    open: Option<Open>,
    /// The last transaction that is whole, 0 before the first.
    pub whole: i64,
    pub snapshot_rows: u64,
    pub changes: u64,
    /// Changes that came again.
    pub again: u64,
    /// How often the lines went back.
    pub rewinds: u32,
    /// The transaction with which the last rewind began.
    rewound_to: i64,
}

/// A transaction of which not every change is there yet: a bit a row.
struct Open {
    t: i64,
    inserts: u128,
    updates: u128,
    deletes: u128,
}

const fn all(rows: i64) -> u128 {
    (1 << rows) - 1
}

impl Open {
    fn is_whole(&self) -> bool {
        (self.inserts, self.updates, self.deletes) == (all(INSERTS), all(UPDATES), all(INSERTS))
    }
}

/// The integer behind `name` in a line, and the rest of the line.
fn number<'l>(line: &'l str, name: &str) -> Result<(i64, &'l str), String> {
    let at = line.find(name).ok_or_else(|| format!("no {name}"))?;
    let rest = &line[at + name.len()..];
    let end = rest.find([',', '}']).ok_or("a torn line")?;
    let number = rest[..end].parse().map_err(|error| format!("{name}{:?}: {error}", &rest[..end]))?;
    Ok((number, &rest[end..]))
}

impl Seen {
    /// The next line; an error is what is wrong with it.
    pub fn line(&mut self, line: &str) -> Result<(), String> {
        let op = line.strip_prefix("{\"op\":\"").and_then(|rest| rest.bytes().next()).ok_or("not one of our lines")?;
        if !line.ends_with('}') {
            return Err("a torn line".into());
        }
        let (id, rest) = number(line, "\"key\":{\"id\":")?;
        let by = match op {
            b'd' => id / SPACE + KEPT,
            _ => {
                let (_, after) = rest.split_once("\"after\":{").ok_or("no row")?;
                self.check_row(id, after)?
            }
        };
        if op == b'r' {
            return self.snapshot_row(id, by);
        }
        let ord = line.rfind("\"ord\":").ok_or("no ord")?;
        let (ord, _) = number(&line[ord..], "\"ord\":")?;
        let key = (by, ord as u64);
        if key <= self.line {
            self.rewind(op, id, by)?;
        }
        self.line = key;
        if key <= self.last {
            self.again += 1;
            return Ok(());
        }
        self.last = key;
        self.change(op, id, by)
    }

    /// The transaction that wrote the row.
    fn check_row(&self, id: i64, after: &str) -> Result<i64, String> {
        let (of, rest) = number(after, "\"id\":")?;
        let (by, rest) = number(rest, "\"written_by\":")?;
        let (sum_there, rest) = number(rest, "\"sum\":")?;
        let note = rest.split_once("\"note\":\"").and_then(|(_, rest)| rest.split_once('"')).ok_or("no note")?.0;
        if of != id || sum(id, note) != sum_there {
            return Err("the row's checksum is wrong".into());
        }
        Ok(by)
    }

    fn snapshot_row(&mut self, id: i64, by: i64) -> Result<(), String> {
        if self.last.0 != 0 {
            return Err("a row of the snapshot behind a change".into());
        }
        self.snapshot_rows += 1;
        if self.rows.insert(id, by).is_some() {
            return Err("a row of the snapshot for the second time".into());
        }
        Ok(())
    }

    /// What came comes again: from the beginning of a transaction, and never from before where it last came again.
    fn rewind(&mut self, op: u8, id: i64, by: i64) -> Result<(), String> {
        self.rewinds += 1;
        if op != b'c' || id % SPACE != 0 {
            return Err(format!("what comes again begins inside transaction {by}"));
        }
        if by < std::mem::replace(&mut self.rewound_to, by) {
            return Err(format!("what comes again begins with {by}, and once began later"));
        }
        Ok(())
    }

    fn change(&mut self, op: u8, id: i64, t: i64) -> Result<(), String> {
        self.changes += 1;
        if self.open.as_ref().is_none_or(|open| open.t != t) {
            self.begin(t)?;
        }
        let open = self.open.as_mut().ok_or("no transaction")?;
        let bit = 1 << (id % SPACE);
        let (of, set) = match op {
            b'c' => (t, &mut open.inserts),
            b'u' => (t - 1, &mut open.updates),
            b'd' => (t - KEPT, &mut open.deletes),
            _ => return Err("not a change that the writer makes".into()),
        };
        if id / SPACE != of || *set & bit != 0 {
            return Err(format!("transaction {t} changes this row once more, or never did"));
        }
        if op == b'c' && *set != bit - 1 {
            return Err("rows are not in the order in which they were inserted".into());
        }
        *set |= bit;
        let knew = match op {
            b'd' => self.rows.remove(&id).is_some(),
            _ => self.rows.insert(id, t).is_some(),
        };
        // Without a snapshot the rows of before are not known.
        if self.snapshot_rows > 0 && knew == (op == b'c') {
            return Err(if knew { "an insert of a row that is there" } else { "a change of a row that is not" }.into());
        }
        if open.is_whole() {
            self.whole = t;
            self.open = None;
        }
        Ok(())
    }

    fn begin(&mut self, t: i64) -> Result<(), String> {
        if let Some(open) = &self.open {
            return Err(format!("transaction {} is torn: {t} begins", open.t));
        }
        if self.whole != 0 && t != self.whole + 1 {
            return Err(format!("transaction {t} comes after {}", self.whole));
        }
        if self.whole == 0 && self.snapshot_rows > 0 {
            // The first change follows exactly on the snapshot's point, and the rows are those of that point.
            if self.rows != rows_after(t - 1) {
                return Err(format!("{} rows are not those before transaction {t}", self.rows.len()));
            }
        }
        self.open = Some(Open { t, inserts: 0, updates: 0, deletes: 0 });
        Ok(())
    }

    /// That everything up to a transaction is here, and the rows are as the table has them.
    pub fn finish(&self, last: i64) -> Result<(), String> {
        if self.whole != last || self.open.is_some() {
            return Err(format!("it is at {} of {last}", self.whole));
        }
        if self.snapshot_rows > 0 && self.rows != rows_after(last) {
            return Err("the rows are not those of the table".into());
        }
        Ok(())
    }
}

/// What the table holds behind a transaction.
fn rows_after(last: i64) -> HashMap<i64, i64> {
    let of = |t: i64| (0..INSERTS).map(move |n| (t * SPACE + n, if n < UPDATES && t < last { t + 1 } else { t }));
    (last - KEPT + 1..=last).flat_map(of).collect()
}

/// That the table is what the readers were held against.
pub fn check_table(target: &dyn Target, last: i64) {
    let mut db = target.connect()().expect("a connection");
    let rows = db.rows("select id, written_by from stamped").expect("the table");
    let number = |cell: &Option<String>| cell.as_ref().and_then(|cell| cell.parse().ok()).expect("a number");
    let there: HashMap<i64, i64> = rows.iter().map(|row| (number(&row[0]), number(&row[1]))).collect();
    assert!(there == rows_after(last), "the table is not what the writer made of it");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(t: i64) -> Vec<String> {
        let row = |id: i64, by: i64| {
            let note = note(id);
            format!("{{\"id\":{id},\"written_by\":{by},\"sum\":{},\"note\":\"{note}\"}}", sum(id, &note))
        };
        let line = |op: &str, id: i64, after: String, ord: i64| {
            format!(
                "{{\"op\":\"{op}\",\"table\":\"stamped\",\"key\":{{\"id\":{id}}},\"before\":null,\"after\":{after},\
                 \"pos\":\"{t}\",\"ord\":{ord},\"ts\":\"\"}}"
            )
        };
        let inserts = (0..INSERTS).map(|n| line("c", t * SPACE + n, row(t * SPACE + n, t), n));
        let updates = (0..UPDATES).map(|n| line("u", (t - 1) * SPACE + n, row((t - 1) * SPACE + n, t), INSERTS + n));
        let deletes = (0..INSERTS).map(|n| line("d", (t - KEPT) * SPACE + n, "null".into(), INSERTS + UPDATES + n));
        inserts.chain(updates).chain(deletes).collect()
    }

    fn all_of(seen: &mut Seen, lines: &[String]) -> Result<(), String> {
        lines.iter().try_for_each(|line| seen.line(line))
    }

    #[test]
    fn what_is_lost_torn_or_out_of_order_is_found() {
        let after = |first: &[String], then: &[String]| {
            let mut seen = Seen::default();
            all_of(&mut seen, &lines(300)).and_then(|()| all_of(&mut seen, first)).expect("good lines");
            all_of(&mut seen, then).map(|()| seen)
        };
        let (next, second) = (lines(301), lines(302));
        let seen = after(&next, &second).expect("whole");
        assert_eq!((seen.whole, seen.again, seen.rewinds), (302, 0, 0));
        let again = after(&next[..120], &next).expect("again from the beginning of the transaction");
        assert_eq!((again.whole, again.again, again.rewinds), (301, 120, 1));
        let error = |first: &[String], then: &[String]| after(first, then).err().expect("an error");
        assert!(error(&[], &second).contains("comes after 300"));
        assert!(error(&next[..240], &second).contains("torn"));
        assert!(error(&next[..120], &next[60..]).contains("inside transaction 301"));
        assert!(error(&[], &next[1..]).contains("order"));
        let mut wrong = next.clone();
        wrong[7] = wrong[7].replace("\"sum\":", "\"sum\":1");
        assert!(error(&[], &wrong).contains("checksum"));
    }
}
