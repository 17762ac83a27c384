//! Snapshots without a program around them: chunks of a few rows, several workers, interrupted wherever it may be.

mod waits;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use walbrook::error::{Class, Error, Result};
use walbrook::flow::{Budget, Deliver, Draft, Outlet, Progress};
use walbrook::record::{Change, Identity, Position, Scratch, Seq, TableSchema, Value};
use walbrook::source::mysql::NAMES;
use walbrook::source::mysql::ask::{Ask, text};
use walbrook::source::mysql::catalog::Catalog;
use walbrook::source::mysql::connection::Connection;
use walbrook::source::mysql::schema::TableDef;
use walbrook::source::mysql::server::Server;
use walbrook::source::mysql::snapshot::{self, Snapshot, Views, Wanted};
use walbrook::source::mysql::types::snapshot_column;
use walbrook::source::mysql::url::ConnInfo;
use walbrook::source::tables::Selection;
use walbrook::source::{SnapshotSettings, State};

use super::snapshot::{Keyed, keys};
use super::{MySql, numbers, on_every_version};
use crate::source::{Subject, eventually};
use crate::support::AtEnd;
use crate::support::mysql::Server as Private;

on_every_version!(
    every_row_once_by_every_key,
    goes_on_where_it_was_interrupted,
    all_views_and_the_log_are_at_one_point,
    altered_tables_ask_for_a_new_point,
    gaps_and_skew,
    tables_of_every_kind,
    a_table_is_given_back_between_chunks,
    a_killed_connection_is_transient,
);

/// Keeps what is delivered, and the state as a store would have it that is `behind` so many batches.
struct Kept {
    batches: Mutex<Vec<walbrook::record::Batch>>,
    stored: watch::Sender<Seq>,
    idle: Notify,
    /// Told of every batch.
    more: Notify,
    /// How long each takes.
    pause: Duration,
    /// With so many it waits for [`Kept::go_on`].
    halts_at: usize,
    goes_on: (Mutex<bool>, Condvar),
}

impl Deliver for Kept {
    fn deliver(&self, draft: Draft) -> Seq {
        std::thread::sleep(self.pause);
        if self.len() >= self.halts_at {
            let (goes_on, told) = &self.goes_on;
            drop(told.wait_while(goes_on.lock().unwrap(), |goes_on| !*goes_on).unwrap());
        }
        let mut batches = self.batches.lock().unwrap();
        let seq = Seq(batches.len() as u64 + 1);
        batches.push(draft.number(seq));
        self.stored.send_replace(seq);
        self.more.notify_one();
        seq
    }
    fn stored(&self) -> watch::Receiver<Seq> {
        self.stored.subscribe()
    }
    fn is_idle(&self) -> bool {
        true
    }
    fn idle(&self) -> &Notify {
        &self.idle
    }
}

/// Rows of tables, by how often each came.
type Rows = BTreeMap<String, BTreeMap<String, usize>>;

impl Kept {
    fn new() -> Arc<Kept> {
        Self::halting(Duration::ZERO, usize::MAX)
    }

    fn halting(pause: Duration, halts_at: usize) -> Arc<Kept> {
        Arc::new(Kept {
            batches: Mutex::default(),
            stored: watch::channel(Seq(0)).0,
            idle: Notify::new(),
            more: Notify::new(),
            pause,
            halts_at,
            goes_on: Default::default(),
        })
    }

    fn go_on(&self) {
        *self.goes_on.0.lock().unwrap() = true;
        self.goes_on.1.notify_all();
    }

    fn outlet(self: &Arc<Self>) -> Outlet {
        Outlet::new(Budget::new(1 << 30), self.clone(), Arc::new(Progress::default()))
    }

    fn len(&self) -> usize {
        self.batches.lock().unwrap().len()
    }

    /// What a store and its sinks hold that came as far as this many batches.
    fn first(&self, batches: usize, state: &mut State) -> Rows {
        let (mut rows, mut scratch) = (Rows::new(), Scratch::default());
        for batch in &self.batches.lock().unwrap()[..batches] {
            for record in batch.records() {
                let Change::Insert { table, after } = record.change else { panic!("not a row of a snapshot") };
                let row: Vec<String> = (0..table.columns.len())
                    .map(|at| match after.value(at, &mut scratch).unwrap() {
                        Value::Text(text) if text.len() > 100 => format!("{} bytes", text.len()),
                        value => format!("{value:?}"),
                    })
                    .collect();
                *rows.entry(table.name.to_string()).or_default().entry(row.join(" ")).or_default() += 1;
            }
            for entry in &batch.mark.state {
                match &entry.value {
                    Some(value) => drop(state.insert(entry.key.clone(), value.clone())),
                    None => drop(state.remove(&entry.key)),
                }
            }
        }
        rows
    }
}

/// Who takes a snapshot, of what.
struct Taker {
    info: ConnInfo,
    server: Server,
    selection: Selection,
    settings: SnapshotSettings,
}

impl Taker {
    async fn new(url: &str, database: &str, workers: usize, chunk_bytes: u64) -> Taker {
        let info = ConnInfo::from_process(&format!("{url}?ssl-mode=DISABLED&get-server-public-key=true")).unwrap();
        let mut connection = Connection::connect(&info).await.unwrap();
        let rows = connection.rows(&Server::variables_statement(), "asking").await.unwrap();
        let server = Server::from_rows(rows.iter().map(|row| (text(row, 0).into(), text(row, 1).into()))).unwrap();
        let none: [String; 0] = [];
        let selection = Selection::new(&NAMES, &[format!("{database}.*")], &none, &none, &none).unwrap();
        Taker { info, server, selection, settings: SnapshotSettings { workers, chunk_bytes } }
    }

    async fn wanted(&self) -> Vec<Wanted> {
        let mut connection = Connection::connect(&self.info).await.unwrap();
        let catalog = Catalog::load(&mut connection, &self.server, &self.selection).await.unwrap();
        catalog.tables.iter().map(|table| Wanted { def: table.def.clone(), schema: schema(&table.def) }).collect()
    }

    async fn views(&self, tables: &[Wanted]) -> Result<Views> {
        let names: Vec<_> = tables.iter().map(Wanted::name).collect();
        Views::open(&self.info, &self.server, self.settings.workers, &names).await
    }

    async fn take(&self, tables: Vec<Wanted>, views: Views, state: &State, kept: &Arc<Kept>) -> Result<Position> {
        let progress = snapshot::Progress::from_state(walbrook::source::Rows::All, state).unwrap();
        let (outlet, anew) = (kept.outlet(), BTreeSet::new());
        let snapshot = Snapshot {
            rows: walbrook::source::Rows::All,
            settings: &self.settings,
            tables,
            outlet: &outlet,
            progress,
            state,
            staged: Vec::new(),
            anew,
        };
        snapshot.run(views).await
    }

    async fn all(&self) -> (Position, Rows) {
        let (kept, tables) = (Kept::new(), self.wanted().await);
        let views = self.views(&tables).await.unwrap();
        let position = self.take(tables, views, &State::new(), &kept).await.unwrap();
        let mut state = State::new();
        let rows = kept.first(kept.len(), &mut state);
        assert!(state.is_empty(), "{:?}", state.keys().map(|key| String::from_utf8_lossy(key)).collect::<Vec<_>>());
        let last = kept.batches.lock().unwrap().pop().unwrap();
        assert_eq!(last.mark.position.as_ref(), Some(&position));
        (position, rows)
    }
}

fn schema(def: &TableDef) -> Arc<TableSchema> {
    let columns = def.columns.iter().filter(|column| !column.hidden);
    Arc::new(TableSchema {
        id: 1,
        version: 1,
        database: def.database.clone(),
        namespace: def.database.clone(),
        name: def.name.clone(),
        columns: columns.map(|column| snapshot_column(column).unwrap()).collect(),
        key: def.key.clone(),
        identity: Identity::Full,
    })
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

const ROWS: u32 = 700;

/// A table of each kind of key, its rows some 100 bytes long.
fn fill(db: &MySql<'_>) -> usize {
    for (at, Keyed { columns, key, values }) in keys(db.version()).enumerate() {
        db.execute(&format!(
            "set sql_mode = ''; create table t{at} ({columns}, n int, padding varchar(1000), {key});
             insert into t{at} select {values}, n, repeat('x', 70) from ({}) numbers",
            numbers(ROWS)
        ));
    }
    db.execute("create table no_rows (id int primary key); create table nothing (v int)");
    keys(db.version()).count()
}

fn each_once(rows: &Rows, tables: usize) {
    for at in 0..tables {
        let found = &rows[&format!("t{at}")];
        assert!(found.values().all(|times| *times == 1), "t{at}: {:?}", found.iter().find(|(_, times)| **times > 1));
        assert_eq!(found.len(), ROWS as usize, "t{at}");
    }
    assert_eq!(rows.len(), tables);
}

fn every_row_once_by_every_key(db: &MySql<'_>) {
    let tables = fill(db);
    for (workers, chunk_bytes) in [(1, 1 << 20), (1, 3000), (4, 3000)] {
        let (_, rows) = block_on(async { Taker::new(&db.url(), db.name(), workers, chunk_bytes).await.all().await });
        each_once(&rows, tables);
    }
}

/// Cut off after any batch, with a store that is behind by any number of them; then again; then to the end.
fn goes_on_where_it_was_interrupted(db: &MySql<'_>) {
    let tables = fill(db);
    let whole = block_on(async { Taker::new(&db.url(), db.name(), 3, 3000).await.all().await }).1;
    block_on(async {
        let taker = Taker::new(&db.url(), db.name(), 3, 3000).await;
        for (cuts, behind) in [(vec![3], 0), (vec![40], 7), (vec![200], 3), (vec![90, 1, 130], 1), (vec![150, 30], 20)]
        {
            let (mut state, mut seen) = (State::new(), Rows::new());
            let mut add = |rows: Rows| {
                for (table, rows) in rows {
                    for (row, times) in rows {
                        *seen.entry(table.clone()).or_default().entry(row).or_default() += times;
                    }
                }
            };
            for cut in &cuts {
                let (kept, wanted) = (Kept::new(), taker.wanted().await);
                let views = taker.views(&wanted).await.unwrap();
                let before = state.clone();
                let ended = tokio::select! {
                    biased;
                    () = async { while kept.len() < *cut { kept.more.notified().await } } => None,
                    ended = taker.take(wanted, views, &before, &kept) => Some(ended),
                };
                assert!(ended.is_none(), "{} batches, to be cut at {cuts:?}", kept.len());
                add(kept.first(kept.len().saturating_sub(behind), &mut state));
            }
            let (kept, wanted) = (Kept::new(), taker.wanted().await);
            let views = taker.views(&wanted).await.unwrap();
            taker.take(wanted, views, &state.clone(), &kept).await.unwrap();
            let last = kept.first(kept.len(), &mut state);
            assert!(state.is_empty());
            let again: usize = last.values().map(|rows| rows.len()).sum();
            assert!(cuts[0] < 100 || again < tables * ROWS as usize, "finished chunks were read again");
            add(last);
            let names = |rows: &Rows| -> BTreeMap<String, BTreeSet<String>> {
                rows.iter().map(|(table, rows)| (table.clone(), rows.keys().cloned().collect())).collect()
            };
            assert!(names(&seen) == names(&whole), "cut at {cuts:?}, {behind} behind: other rows");
        }
    });
}

/// Transactions insert into four tables at once, from several connections, as fast as they can.
/// Writers that are at it all the time, but for moments without a commit, which grow longer: on a slow machine too one of
/// them is long enough for a point to be found where nothing may be locked.
struct Writers {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Writers {
    /// `first`: the first id.
    fn start(server: &'static Private, database: &str, first: u64) -> Writers {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let turns = Arc::new(RwLock::new(()));
        let (done, gate) = (stop.clone(), turns.clone());
        let pauses = std::thread::spawn(move || {
            for n in 1.. {
                std::thread::sleep(Duration::from_millis(100));
                if done.load(Ordering::Relaxed) {
                    break;
                }
                let _nobody = gate.write().unwrap();
                std::thread::sleep(Duration::from_millis(n));
            }
        });
        let threads = (0..4u64).map(|writer| {
            let (stop, written, mut session) = (stop.clone(), written.clone(), server.session(database));
            let turns = turns.clone();
            std::thread::spawn(move || {
                for n in 0u64.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let id = first + 4 * n + writer;
                    let inserts = (0..4).map(|table| format!("insert into w{table} values ({id})")).collect::<Vec<_>>();
                    let turn = turns.read().unwrap();
                    session.sql(&format!("begin; {}; commit", inserts.join("; ")));
                    drop(turn);
                    written.fetch_add(1, Ordering::Relaxed);
                    // Now and then there is a moment without a commit.
                    if n % 8 == 0 {
                        std::thread::sleep(Duration::from_millis(3));
                    }
                }
            })
        });
        Writers { threads: threads.chain([pauses]).collect(), stop, written }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        self.written.load(Ordering::Relaxed)
    }
}

/// The names of the log's files.
fn log_files(server: &Private) -> Vec<String> {
    let logs = server.sql("", "show binary logs");
    logs.lines().map(|line| line.split('|').next().unwrap().to_owned()).collect()
}

/// The ids that the log has inserted into `w0` from a file on and before a position, as the server's own reader says.
fn logged(server: &Private, database: &str, from: &str, file: &str, offset: u64) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    // All tests on the server write to its log.
    for name in log_files(server).iter().skip_while(|name| *name != from) {
        let mut reader: Command = server.program("mysqlbinlog");
        reader.args(["-R", "--protocol=tcp", "-h127.0.0.1", "-uroot", "--base64-output=decode-rows", "-v"]);
        reader.args(["-P", &server.port().to_string()]).env("MYSQL_PWD", "secret");
        if name.as_str() == file {
            reader.arg(format!("--stop-position={offset}"));
        }
        let output = reader.arg(name).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout);
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if line == format!("### INSERT INTO `{database}`.`w0`") {
                let value = lines.nth(1).and_then(|line| line.strip_prefix("###   @1=")).unwrap();
                found.insert(value.split(' ').next().unwrap().parse().unwrap());
            }
        }
        if name.as_str() == file {
            break;
        }
    }
    found
}

/// Under each set of privileges, with writers beside it: every view has exactly what the log has before the point.
fn all_views_and_the_log_are_at_one_point(db: &MySql<'_>) {
    for table in 0..4 {
        db.execute(&format!("create table w{table} (id bigint primary key)"));
    }
    let server = Private::get(db.version()).unwrap();
    let begun = log_files(server).pop().unwrap();
    let grants = [("all", "reload, lock tables, "), ("lock", "lock tables, "), ("none", "")];
    let mut first = 0;
    for (name, rights) in grants {
        let user = format!("{}_{name}", db.user());
        db.execute(&format!(
            "create user {user} identified by 'secret';
             grant select, {rights}replication slave, replication client on *.* to {user}"
        ));
        for round in 0..3 {
            first += 1_000_000;
            let writers = Writers::start(server, db.name(), first);
            std::thread::sleep(Duration::from_millis(100));
            let (position, rows) =
                block_on(async { Taker::new(&server.url_as(&user), db.name(), 4, 3000).await.all().await });
            let written = writers.stop();
            let Position::MySql(point) = position else { panic!("{position}") };
            let expected = logged(server, db.name(), &begun, &point.file, point.offset);
            for table in 0..4 {
                let of_table = rows.get(&format!("w{table}")).map(|rows| {
                    rows.keys().map(|row| row.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()).collect()
                });
                let found: BTreeSet<u64> = of_table.unwrap_or_default();
                let (missing, more): (Vec<_>, Vec<_>) =
                    (expected.difference(&found).collect(), found.difference(&expected).collect());
                assert!(
                    missing.is_empty() && more.is_empty(),
                    "{name}, round {round}, w{table}, {written} written: {missing:?} missing, {more:?} of after {point}"
                );
            }
            db.execute("flush local binary logs");
        }
        db.execute(&format!("drop user {user}"));
    }
}

/// What was altered after the point cannot be read under it; a new point reads it.
fn altered_tables_ask_for_a_new_point(db: &MySql<'_>) {
    db.execute(&format!(
        "create table a (id int primary key, v int); insert into a select n, n from ({}) numbers",
        numbers(50)
    ));
    let alterations = [
        "alter table a engine = innodb",
        "alter table a add column w int first",
        "alter table a drop column v",
        "alter table a rename column w to u",
        "rename table a to b",
        "truncate table b",
        "drop table b",
    ];
    block_on(async {
        let taker = Taker::new(&db.url(), db.name(), 2, 3000).await;
        for alteration in alterations {
            if db.version() == crate::support::mysql::Version::MariaDb105 && alteration.contains("rename column") {
                db.execute("alter table a change w u int");
                continue;
            }
            let (kept, tables) = (Kept::new(), taker.wanted().await);
            let views = taker.views(&tables).await.unwrap();
            db.execute(alteration);
            let error: Error = taker.take(tables, views, &State::new(), &kept).await.expect_err(alteration);
            assert_eq!(error.class(), Class::Transient, "{alteration}: {error:?}");
        }
    });
}

/// One giant among small keys, and rows of very different sizes.
fn gaps_and_skew(db: &MySql<'_>) {
    db.execute(&format!(
        "create table t0 (k bigint unsigned primary key, v mediumblob);
         insert into t0 select n, repeat('a', 100) from ({0}) numbers where n < 699;
         insert into t0 values (18446744073709551615, repeat('b', 3000000));
         create table t1 (a int, b bigint, primary key (a, b), v longtext);
         insert into t1 select 7, n * 1000000007, repeat('ü', if(n % 100, 10, 100000)) from ({0}) numbers",
        numbers(ROWS)
    ));
    let (_, rows) = block_on(async { Taker::new(&db.url(), db.name(), 4, 2000).await.all().await });
    each_once(&rows, 2);
}

fn tables_of_every_kind(db: &MySql<'_>) {
    let mariadb = db.version().is_mariadb();
    let mut kinds = vec![
        "(id int primary key, n int) engine = myisam",
        "(id int primary key, n int) engine = memory",
        "(id int, n int, primary key (id)) partition by hash (id) partitions 5",
        "(id int primary key, v int generated always as (n + 1) virtual, s int generated always as (n + 2) stored, n int)",
        "(id int primary key, n int) character set utf16",
        "(`i``d` int primary key, `select` int, n int)",
    ];
    if mariadb {
        kinds.push("(id int primary key, n int) engine = aria");
        kinds.push("(id int primary key, n int) with system versioning");
        kinds.push("(id int primary key, n int invisible)");
    } else {
        kinds.push("(id int, n int) engine = archive");
        kinds.push("(id int, n int invisible, primary key (id))");
        kinds.push("(n int)");
    }
    for (at, kind) in kinds.iter().enumerate() {
        let gipk = if *kind == "(n int)" { "set sql_generate_invisible_primary_key = on; " } else { "" };
        let id = if kind.contains("`i``d`") {
            "`i``d`, "
        } else if gipk.is_empty() {
            "id, "
        } else {
            ""
        };
        let value = if id.is_empty() { "" } else { "n, " };
        db.execute(&format!(
            "{gipk}create table t{at} {kind}; insert into t{at} ({id}n) select {value}n from ({}) numbers",
            numbers(ROWS)
        ));
        if kind.contains("versioning") {
            // Old versions of rows are no rows.
            db.execute(&format!(
                "update t{at} set n = n + 1; delete from t{at} where id = 5; insert into t{at} (id, n) values (5, 1)"
            ));
        }
    }
    let (_, rows) = block_on(async { Taker::new(&db.url(), db.name(), 3, 2000).await.all().await });
    each_once(&rows, kinds.len());
    if !mariadb {
        let hidden = rows[&format!("t{}", kinds.len() - 1)].keys().next().unwrap();
        assert_eq!(hidden.matches("nt(").count(), 2, "the generated key comes too: {hidden}");
    }
}

/// Whoever wants to alter a table waits for a chunk, not for the snapshot: here for none, as nobody reads.
fn a_table_is_given_back_between_chunks(db: &MySql<'_>) {
    db.execute(&format!(
        "create table t (id int primary key, v varchar(1000)); insert into t select n, repeat('v', 900) from ({}) numbers",
        numbers(20_000)
    ));
    block_on(async {
        let taker = Taker::new(&db.url(), db.name(), 1, 20_000).await;
        let (kept, tables) = (Kept::halting(Duration::from_millis(3), usize::MAX), taker.wanted().await);
        let views = taker.views(&tables).await.unwrap();
        let state = State::new();
        let taken = taker.take(tables, views, &state, &kept);
        let altered = async {
            while kept.len() < 20 {
                kept.more.notified().await;
            }
            let server = Private::get(db.version()).unwrap();
            let name = db.name().to_owned();
            let alter = move || server.sql(&name, "set lock_wait_timeout = 120; alter table t add index (v(10))");
            tokio::task::spawn_blocking(alter).await.unwrap();
            kept.len()
        };
        let (taken, after) = tokio::join!(taken, altered);
        // InnoDB cannot use the new index under the old view, but it does not have to.
        let rows: usize = kept.first(kept.len(), &mut State::new()).values().map(|rows| rows.len()).sum();
        match taken {
            Ok(_) => assert_eq!(rows, 20_000),
            Err(error) => assert!(error.is_transient(), "{error:?}"),
        }
        assert!(after > 20, "the alteration did not meet a running snapshot");
    });
}

fn a_killed_connection_is_transient(db: &MySql<'_>) {
    db.execute(&format!(
        "create table t (id int primary key, v varchar(1000)); insert into t select n, repeat('v', 900) from ({}) numbers",
        numbers(20_000)
    ));
    block_on(async {
        let taker = Taker::new(&db.url(), db.name(), 2, 20_000).await;
        // It reads on when they are killed: most of the rows are still at the server.
        let (kept, tables) = (Kept::halting(Duration::ZERO, 5), taker.wanted().await);
        let views = taker.views(&tables).await.unwrap();
        let (connections, server, halted) = (db.connections(false), Private::get(db.version()).unwrap(), kept.clone());
        let killed = tokio::task::spawn_blocking(move || {
            let _end = AtEnd(|| halted.go_on());
            eventually("it halts", || halted.len() >= 5);
            for id in connections {
                let _ = server.try_sql(server.client("127.0.0.1", "root", ""), &format!("kill {id}"));
            }
        });
        let taken = taker.take(tables, views, &State::new(), &kept).await;
        killed.await.unwrap();
        let error = taken.expect_err("every connection was killed");
        assert!(error.is_transient(), "{error:?}");
        // What was stored by then is where it goes on.
        let mut state = State::new();
        let mut rows = kept.first(kept.len(), &mut state);
        let (rest, tables) = (Kept::new(), taker.wanted().await);
        let views = taker.views(&tables).await.unwrap();
        taker.take(tables, views, &state.clone(), &rest).await.unwrap();
        let second = rest.first(rest.len(), &mut state);
        rows.get_mut("t").unwrap().extend(second["t"].clone());
        assert_eq!(rows["t"].len(), 20_000);
    });
}
