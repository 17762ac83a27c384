//! The load: writers whose every row and transaction can be checked afterwards.
//!
//! - Each table has the columns `id, part, writer, seq, n, note, big, big_sum, sum`; `sum` covers all but `big`, `big_sum`
//!   covers `big`. A row belongs to the writer `id % WRITERS`.
//! - Each transaction ends with its line in `ledger`: how many changes it made and a digest of them. What is in the ledger
//!   afterwards was committed, also where the server died before it could say so.
//! - A transaction is one or two scripts; after any error the writer connects again and reads what is there.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::target::{Cells, Connect, Db, Dialect, Failed};

pub const WRITERS: i64 = 3;
/// Sometimes a transaction is this large.
const LARGE_TRANSACTION_ROWS: usize = 5_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    Orders,
    Pairs,
    Loose,
    Parts,
    Side,
}

impl Table {
    pub const ALL: [Table; 5] = [Table::Orders, Table::Pairs, Table::Loose, Table::Parts, Table::Side];

    pub fn name(self) -> &'static str {
        match self {
            Table::Orders => "orders",
            Table::Pairs => "pairs",
            Table::Loose => "loose",
            Table::Parts => "parts",
            Table::Side => "side",
        }
    }

    pub fn named(name: &str) -> Option<Table> {
        Table::ALL.into_iter().find(|table| table.name() == name)
    }

    /// How many rows the writers keep it at.
    fn target_rows(self) -> usize {
        match self {
            Table::Orders => 15_000,
            Table::Pairs | Table::Loose | Table::Parts => 2_500,
            Table::Side => 150,
        }
    }

    /// The text of `part` in this table.
    pub fn part(self, part: i32) -> String {
        if self == Table::Pairs { format!("p'{part}") } else { part.to_string() }
    }
}

/// The stamp of a row; `numbers`: writer, seq, n.
pub fn stamp(table: Table, id: i64, part: &str, numbers: [i64; 3], note: &str, big_sum: Option<i64>) -> i64 {
    let [writer, seq, n] = numbers;
    let text = format!("{}|{id}|{part}|{writer}|{seq}|{n}|{note}|{big_sum:?}", table.name());
    i64::from(crc32fast::hash(text.as_bytes()))
}

/// What one change adds to its transaction's digest; `sum` of the new row, 0 where there is none.
pub fn digest(table: Table, op: &str, id: i64, sum: i64) -> i64 {
    i64::from(crc32fast::hash(format!("{}|{op}|{id}|{sum}", table.name()).as_bytes()))
}

/// What a writer knows of a row: enough to change it and to stamp the result.
#[derive(Clone, Copy)]
struct Known {
    part: i32,
    big_sum: Option<i64>,
}

#[derive(Default)]
struct Keys {
    rows: HashMap<i64, Known>,
    /// The keys of `rows`, to pick one at random; may hold some that are gone.
    ids: Vec<i64>,
    /// Keys that were used once: taken again now and then.
    free: Vec<i64>,
}

impl Keys {
    fn pick(&mut self, rng: &mut StdRng) -> Option<i64> {
        while !self.ids.is_empty() {
            let at = rng.random_range(0..self.ids.len());
            if self.rows.contains_key(&self.ids[at]) {
                return Some(self.ids[at]);
            }
            self.ids.swap_remove(at);
        }
        None
    }

    fn put(&mut self, id: i64, known: Known) {
        if self.rows.insert(id, known).is_none() {
            self.ids.push(id);
        }
    }

    fn take(&mut self, id: i64) -> Option<Known> {
        self.free.push(id);
        self.rows.remove(&id)
    }
}

pub struct Writer {
    id: i64,
    dialect: Dialect,
    rng: StdRng,
    tables: HashMap<Table, Keys>,
    next: i64,
    seq: i64,
    script: String,
    ops: i64,
    digest: i64,
    /// To be put back when a savepoint is rolled back: the rows as they were.
    undo: Vec<(Table, i64, Option<Known>)>,
}

impl Writer {
    pub fn new(id: i64, dialect: Dialect, seed: u64) -> Writer {
        Writer {
            id,
            dialect,
            rng: StdRng::seed_from_u64(seed * WRITERS as u64 + id as u64),
            tables: HashMap::new(),
            next: 0,
            seq: 0,
            script: String::new(),
            ops: 0,
            digest: 0,
            undo: Vec::new(),
        }
    }

    /// Reads what is there.
    fn load(&mut self, db: &mut dyn Db) -> Result<(), Failed> {
        let mut highest = 0;
        self.tables.clear();
        for table in Table::ALL {
            let owner = if table == Table::Side { "0".to_owned() } else { format!("id % {WRITERS}") };
            let sql = format!(
                "select id, right(cast(part as {}), 1), big_sum from {} where {owner} = {}",
                self.dialect.text,
                table.name(),
                self.id
            );
            let mut keys = Keys::default();
            for row in db.rows(&sql)? {
                let id = number(&row, 0).expect("an id");
                highest = highest.max(id);
                keys.put(id, Known { part: number(&row, 1).expect("a part") as i32, big_sum: number(&row, 2) });
            }
            self.tables.insert(table, keys);
        }
        self.next = self.next.max(highest / WRITERS + 1);
        let last = db.rows(&format!("select coalesce(max(seq), 0) from ledger where writer = {}", self.id))?;
        self.seq = number(&last[0], 0).expect("a number");
        Ok(())
    }

    fn keys(&mut self, table: Table) -> &mut Keys {
        self.tables.entry(table).or_default()
    }

    fn text(&mut self, bytes: usize) -> String {
        const LETTERS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ _-";
        (0..bytes).map(|_| char::from(LETTERS[self.rng.random_range(0..LETTERS.len())])).collect()
    }

    fn fresh(&mut self, table: Table) -> i64 {
        if self.rng.random_bool(0.3)
            && let Some(id) = self.keys(table).free.pop()
            && !self.keys(table).rows.contains_key(&id)
        {
            return id;
        }
        self.next += 1;
        self.next * WRITERS + self.id
    }

    fn big(&mut self, table: Table) -> Option<String> {
        let share = if table == Table::Orders { 0.08 } else { 0.2 };
        let bytes = self.rng.random_range(8_200..10_500);
        (table != Table::Side && self.rng.random_bool(share)).then(|| self.text(bytes))
    }

    fn remember(&mut self, table: Table, id: i64) {
        let known = self.keys(table).rows.get(&id).copied();
        self.undo.push((table, id, known));
    }

    fn insert(&mut self, table: Table, small: bool) {
        let (id, part, n) = (self.fresh(table), self.rng.random_range(0..4), self.rng.random_range(0..1_000_000));
        let bytes = if small { 20 } else { self.rng.random_range(300..1000) };
        let (note, big) = (self.text(bytes), if small { None } else { self.big(table) });
        let big_sum = big.as_ref().map(|big| i64::from(crc32fast::hash(big.as_bytes())));
        let sum = stamp(table, id, &table.part(part), [self.id, self.seq, n], &note, big_sum);
        let big = big.map_or("null".to_owned(), |big| format!("'{big}'"));
        let _ = write!(
            self.script,
            "insert into {} values ({id}, '{}', {}, {}, {n}, '{note}', {big}, {}, {sum});",
            table.name(),
            table.part(part).replace('\'', "''"),
            self.id,
            self.seq,
            sql(big_sum)
        );
        self.remember(table, id);
        self.keys(table).put(id, Known { part, big_sum });
        self.count(table, "c", id, sum);
    }

    fn update(&mut self, table: Table) {
        let Some(id) = ({
            let mut rng = StdRng::seed_from_u64(self.rng.random());
            self.keys(table).pick(&mut rng)
        }) else {
            return;
        };
        let Known { part, big_sum } = self.keys(table).rows[&id];
        let (mut new_id, mut new_part, mut new_big_sum) = (id, part, big_sum);
        let mut set = String::new();
        match self.rng.random_range(0..100) {
            0..12 => new_id = self.fresh(table),
            12..22 => new_part = self.rng.random_range(0..4),
            22..38 => {
                let big = self.big(table);
                new_big_sum = big.as_ref().map(|big| i64::from(crc32fast::hash(big.as_bytes())));
                set = format!(", big = {}", big.map_or("null".to_owned(), |big| format!("'{big}'")));
            }
            _ => {}
        }
        let (n, bytes) = (self.rng.random_range(0..1_000_000), self.rng.random_range(300..1000));
        let note = self.text(bytes);
        let sum = stamp(table, new_id, &table.part(new_part), [self.id, self.seq, n], &note, new_big_sum);
        let quoted = |part| table.part(part).replace('\'', "''");
        let _ = write!(
            self.script,
            "update {} set id = {new_id}, part = '{}', writer = {}, seq = {}, n = {n}, note = '{note}', big_sum = {}, sum = {sum}{set} \
             where id = {id} and part = '{}';",
            table.name(),
            quoted(new_part),
            self.id,
            self.seq,
            sql(new_big_sum),
            quoted(part)
        );
        self.remember(table, id);
        self.keys(table).take(id);
        self.remember(table, new_id);
        self.keys(table).put(new_id, Known { part: new_part, big_sum: new_big_sum });
        let partition = |part: i32| part.max(1);
        if self.dialect.partition_moves && table == Table::Parts && partition(part) != partition(new_part) {
            self.count(table, "d", id, 0);
            self.count(table, "c", new_id, sum);
        } else {
            self.count(table, "u", new_id, sum);
        }
    }

    fn delete(&mut self, table: Table) {
        let mut rng = StdRng::seed_from_u64(self.rng.random());
        let Some(id) = self.keys(table).pick(&mut rng) else { return };
        self.remember(table, id);
        let Some(Known { part, .. }) = self.keys(table).take(id) else { return };
        let part = table.part(part).replace('\'', "''");
        let _ = write!(self.script, "delete from {} where id = {id} and part = '{part}';", table.name());
        self.count(table, "d", id, 0);
    }

    fn truncate(&mut self) {
        self.script.push_str("truncate side;");
        let ids: Vec<i64> = self.keys(Table::Side).rows.keys().copied().collect();
        for id in ids {
            self.remember(Table::Side, id);
            self.keys(Table::Side).take(id);
        }
        self.count(Table::Side, "t", 0, 0);
    }

    fn count(&mut self, table: Table, op: &str, id: i64, sum: i64) {
        self.ops += 1;
        self.digest += digest(table, op, id, sum);
    }

    fn change(&mut self) {
        let table = match self.rng.random_range(0..100) {
            0..55 => Table::Orders,
            55..67 => Table::Pairs,
            67..79 => Table::Loose,
            79..94 => Table::Parts,
            _ if self.id == 0 => Table::Side,
            _ => Table::Orders,
        };
        let writers = if table == Table::Side { 1 } else { WRITERS as usize };
        let full = self.keys(table).rows.len() > table.target_rows() / writers;
        match self.rng.random_range(0..100) {
            0..60 => self.update(table),
            60..64 => self.insert(table, false),
            64..68 => self.delete(table),
            68 if table == Table::Side && self.dialect.truncates => self.truncate(),
            _ if full => self.delete(table),
            _ => self.insert(table, false),
        }
    }

    /// The next transaction as one or two scripts.
    fn transaction(&mut self) -> Vec<String> {
        self.seq += 1;
        (self.ops, self.digest, self.script) = (0, 0, "begin;".to_owned());
        self.undo.clear();
        let mut scripts = Vec::new();
        let spare = self.keys(Table::Loose).rows.len();
        if spare > LARGE_TRANSACTION_ROWS {
            (0..LARGE_TRANSACTION_ROWS).for_each(|_| self.delete(Table::Loose));
        } else if self.rng.random_ratio(1, 600) {
            (0..LARGE_TRANSACTION_ROWS).for_each(|_| self.insert(Table::Loose, true));
        } else {
            let rows =
                if self.rng.random_bool(0.1) { self.rng.random_range(1..=50) } else { self.rng.random_range(1..=6) };
            (0..rows).for_each(|_| self.change());
        }
        if self.rng.random_bool(0.15) {
            let (ops, digest) = (self.ops, self.digest);
            self.undo.clear();
            self.script.push_str("savepoint s;");
            let rows = self.rng.random_range(1..8);
            (0..rows).for_each(|_| self.change());
            self.script.push_str("rollback to s;");
            for (table, id, known) in std::mem::take(&mut self.undo).into_iter().rev() {
                match known {
                    Some(known) => self.keys(table).put(id, known),
                    None => {
                        self.keys(table).rows.remove(&id);
                    }
                }
            }
            (self.ops, self.digest) = (ops, digest);
        }
        if self.rng.random_bool(0.05) {
            scripts.push(std::mem::take(&mut self.script));
        }
        let rows = self.rng.random_range(0..3);
        (0..rows).for_each(|_| self.change());
        let _ = write!(
            self.script,
            "insert into ledger values ({}, {}, {}, {}); commit",
            self.id, self.seq, self.ops, self.digest
        );
        scripts.push(std::mem::take(&mut self.script));
        scripts
    }

    /// Rows to begin with: in no ledger.
    pub fn fill(&mut self, db: &mut dyn Db) {
        for table in Table::ALL {
            let writers = if table == Table::Side { 1 } else { WRITERS as usize };
            if table == Table::Side && self.id != 0 {
                continue;
            }
            let mut left = table.target_rows() / writers;
            while left > 0 {
                let rows = left.min(500);
                (0..rows).for_each(|_| self.insert(table, false));
                db.run(&format!("begin; {} commit", std::mem::take(&mut self.script))).expect("the first rows");
                left -= rows;
            }
        }
    }

    fn write(&mut self, connect: &Connect, stop: &AtomicBool, committed: &AtomicU64, pause_ms: u64) {
        while !stop.load(Ordering::Relaxed) {
            let result = (|| {
                let mut db = connect()?;
                self.load(db.as_mut())?;
                while !stop.load(Ordering::Relaxed) {
                    let scripts = self.transaction();
                    for (n, script) in scripts.iter().enumerate() {
                        if n > 0 {
                            std::thread::sleep(Duration::from_millis(self.rng.random_range(10..200)));
                        }
                        db.run(script)?;
                    }
                    committed.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(self.rng.random_range(0..=2 * pause_ms)));
                }
                Ok::<(), Failed>(())
            })();
            if let Err(Failed { passes, message }) = result {
                assert!(passes, "writer {}: {message}", self.id);
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

/// A cell as a number; none for NULL.
pub fn number(row: &Cells, column: usize) -> Option<i64> {
    row[column].as_ref().map(|text| text.parse().unwrap_or_else(|_| panic!("no number: {text:?}")))
}

fn sql(value: Option<i64>) -> String {
    value.map_or("null".to_owned(), |value| value.to_string())
}

/// The writers at work, and beside them what tidies the tables up.
pub struct Load {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub fn start(connect: &Connect, dialect: Dialect, pause_ms: u64, seed: u64) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let committed = Arc::new(AtomicU64::new(0));
        let mut threads: Vec<_> = (0..WRITERS)
            .map(|id| {
                let (connect, stop, committed) = (connect.clone(), stop.clone(), committed.clone());
                std::thread::spawn(move || Writer::new(id, dialect, seed).write(&connect, &stop, &committed, pause_ms))
            })
            .collect();
        if let Some(tidy) = dialect.tidy {
            let (connect, stop) = (connect.clone(), stop.clone());
            threads.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Ok(mut db) = connect() {
                        for table in Table::ALL {
                            let _ = db.run(&format!("{tidy} {}", table.name()));
                        }
                    }
                    std::thread::sleep(Duration::from_millis(400));
                }
            }));
        }
        Load { stop, committed, threads }
    }

    /// Ends the writers, each after its transaction; gives the number of transactions. A writer's panic is one here.
    pub fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a writer ends well");
        }
        self.committed.load(Ordering::Relaxed)
    }
}
