use std::sync::Mutex;

use async_trait::async_trait;
use proptest::prelude::*;

use super::super::super::error::MySqlError;
use super::*;

/// A server whose writer goes on before every statement, as far as the tape says. A transaction is flushed to the log, then
/// committed in the engine, then in the executed set.
struct Model {
    flavor: Flavor,
    flushed: u64,
    committed: u64,
    executed: u64,
    tape: Vec<u8>,
    /// Statements that are denied.
    denied: Vec<&'static str>,
    /// How a lock ends that cannot be had.
    late: bool,
    locked: bool,
    /// Most that was locked at a time; statements under a lock.
    under_lock: Vec<String>,
    prepared: u32,
    /// One is prepared, and stays so, just before the log's end is asked for.
    prepares_late: bool,
    /// Seconds for which a query has run.
    long_query: u32,
}

#[derive(Clone)]
struct Fake {
    model: Arc<Mutex<Model>>,
    /// What this connection's view sees.
    view: u64,
}

const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

impl Model {
    fn go_on(&mut self) {
        for _ in 0..3 {
            if self.locked {
                // The lock waits for commits under way and lets none begin.
                (self.committed, self.executed) = (self.flushed, self.flushed);
                return;
            }
            match self.tape.pop() {
                Some(0) => self.flushed += 1,
                Some(1) if self.committed < self.flushed => self.committed += 1,
                Some(2) if self.executed < self.committed => self.executed += 1,
                Some(_) => {}
                // At the tape's end all comes to rest.
                None => (self.committed, self.executed) = (self.flushed, self.flushed),
            }
        }
    }
}

#[async_trait]
impl Ask for Fake {
    async fn rows(&mut self, sql: &str, doing: &str) -> Result<Vec<TextRow>> {
        let mut model = self.model.lock().unwrap();
        model.go_on();
        if model.locked {
            model.under_lock.push(sql.to_owned());
        }
        let row = |columns: &[&str]| columns.iter().map(|column| Some(column.to_string())).collect::<TextRow>();
        if model.denied.iter().any(|denied| sql.starts_with(denied)) {
            let code = if sql.starts_with("XA") { 1401 } else { 1227 };
            return Err(MySqlError { code, ..MySqlError::default() }.into_error(doing));
        }
        match sql {
            VIEW => {
                self.view = model.committed;
                Ok(Vec::new())
            }
            "FLUSH TABLES WITH READ LOCK" | "BACKUP STAGE BLOCK_COMMIT" if model.late => {
                Err(MySqlError { code: 1205, ..MySqlError::default() }.into_error(doing))
            }
            "BACKUP STAGE START" => Ok(Vec::new()),
            "FLUSH TABLES WITH READ LOCK" | "BACKUP STAGE BLOCK_COMMIT" => {
                (model.locked, model.committed, model.executed) = (true, model.flushed, model.flushed);
                Ok(Vec::new())
            }
            "UNLOCK TABLES" | "BACKUP STAGE END" => {
                model.locked = false;
                Ok(Vec::new())
            }
            "SHOW BINARY LOG STATUS" | "SHOW MASTER STATUS" => {
                if model.prepares_late {
                    model.prepared = u32::MAX;
                }
                let executed = if model.executed == 0 { String::new() } else { format!("{UUID}:1-{}", model.executed) };
                Ok(vec![row(&["binlog.000001", &model.flushed.to_string(), "", "", &executed])])
            }
            "SELECT @@GLOBAL.gtid_owned" => {
                let owned =
                    if model.executed < model.flushed { format!("{UUID}:{}#7", model.flushed) } else { String::new() };
                Ok(vec![row(&[&owned])])
            }
            "SHOW PROCESSLIST" => {
                let seconds = model.long_query.to_string();
                Ok(vec![
                    row(&["5", "u", "h", "d", "Query", &seconds, "", "select"]),
                    row(&["6", "u", "h", "d", "Sleep", "99"]),
                ])
            }
            "XA RECOVER CONVERT XID" | "XA RECOVER FORMAT='SQL'" => {
                let some = model.prepared.min(1);
                model.prepared -= some;
                let name = if sql.ends_with("XID") { "0x78" } else { "'x'" };
                Ok(vec![row(&["1", "1", "0", name]); some as usize])
            }
            _ if sql.starts_with("LOCK TABLES") => {
                (model.locked, model.committed, model.executed) = (true, model.flushed, model.flushed);
                Ok(Vec::new())
            }
            _ if sql.starts_with("SHOW STATUS") => Ok(vec![
                row(&["Binlog_snapshot_file", "binlog.000001"]),
                row(&["Binlog_snapshot_position", &self.view.to_string()]),
            ]),
            _ if sql.starts_with("SELECT BINLOG_GTID_POS('binlog.000001', ") => Ok(vec![row(&["0-1-5"])]),
            _ => panic!("{sql}"),
        }
    }
}

fn server(flavor: Flavor, gtids: bool) -> Server {
    let version = if flavor == Flavor::MariaDb { "11.8.6-MariaDB" } else { "9.7.4" };
    let rows = [("version", version), ("gtid_mode", if gtids { "ON" } else { "OFF" })];
    Server::from_rows(rows.map(|(name, value)| (name.to_owned(), value.to_owned()))).unwrap()
}

fn fake(flavor: Flavor, tape: Vec<u8>, denied: &[&'static str]) -> Fake {
    let model = Model {
        flavor,
        flushed: 0,
        committed: 0,
        executed: 0,
        tape,
        denied: denied.to_vec(),
        late: false,
        locked: false,
        under_lock: Vec::new(),
        prepared: 0,
        prepares_late: false,
        long_query: 0,
    };
    Fake { model: Arc::new(Mutex::new(model)), view: 0 }
}

async fn opened(fake: &Fake, gtids: bool, workers: usize) -> Result<(BinlogPosition, &'static str, Vec<u64>)> {
    let (opened, views) = opened_with(fake, gtids, workers).await?;
    Ok((opened.point, opened.way, views))
}

async fn opened_with(fake: &Fake, gtids: bool, workers: usize) -> Result<(Opened, Vec<u64>)> {
    let flavor = fake.model.lock().unwrap().flavor;
    let mut views = vec![fake.clone(); workers];
    let tables = [("d".into(), "t".into())];
    let opened = open(&server(flavor, gtids), &mut fake.clone(), &mut views, &tables).await?;
    assert!(!fake.model.lock().unwrap().locked, "the lock was not given back");
    Ok((opened, views.iter().map(|view| view.view).collect()))
}

const FTWRL: &str = "FLUSH TABLES";
const LOCK: &str = "LOCK TABLES";
const STAGE: &str = "BACKUP STAGE";

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

fn executed(point: &BinlogPosition) -> String {
    point.executed().unwrap().to_string()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// However the writer's steps fall between ours, the views see what the point says, no more and no less.
    #[test]
    fn views_and_point_are_one(
        tape in prop::collection::vec(0u8..8, 0..600),
        mariadb: bool,
        allowed in 0usize..3,
        workers in 1usize..5,
    ) {
        let flavor = if mariadb { Flavor::MariaDb } else { Flavor::MySql };
        let denied = [&[][..], &[FTWRL, STAGE], &[FTWRL, STAGE, LOCK]][allowed];
        let fake = fake(flavor, tape, denied);
        let (point, way, views) = match run(opened(&fake, true, workers)) {
            Ok(opened) => opened,
            Err(busy) => {
                prop_assert!(busy.is_transient(), "{:?}", busy);
                return Ok(());
            }
        };
        prop_assert!(!views.is_empty());
        prop_assert!(views.iter().all(|view| *view == point.offset), "{} {:?} {:?}", way, views, point);
        if !mariadb {
            let set = if point.offset == 0 { String::new() } else { format!("{UUID}:1-{}", point.offset) };
            let whole = set.parse().map(GtidSet::MySql).unwrap();
            prop_assert_eq!(executed(&point), whole.to_string());
        }
    }
}

#[test]
fn without_a_privilege_and_without_gtids_there_is_no_proof() {
    let none = fake(Flavor::MySql, Vec::new(), &[FTWRL, LOCK]);
    let error = run(opened(&none, false, 2)).unwrap_err();
    assert_eq!(error.class(), crate::error::Class::Config);
    assert!(error.remedy_text().unwrap().contains("RELOAD"), "{error:?}");
    let (_, way, _) = run(opened(&none, true, 2)).unwrap();
    assert_eq!(way, "a window without commits");
}

/// A commit before every statement.
fn busy() -> Vec<u8> {
    [2, 1, 0].repeat(20_000)
}

#[test]
fn a_lock_that_is_not_had_in_time_is_given_up() {
    let late = fake(Flavor::MySql, busy(), &[LOCK]);
    late.model.lock().unwrap().late = true;
    assert!(run(opened(&late, false, 3)).unwrap_err().is_transient(), "the server may be less busy later");
}

#[test]
fn a_lock_of_all_is_not_asked_for_behind_a_long_query() {
    let fake = fake(Flavor::MySql, busy(), &[LOCK]);
    assert_eq!(run(opened(&fake, false, 2)).unwrap().1, READ_LOCK);
    fake.model.lock().unwrap().long_query = 3;
    assert!(run(opened(&fake, false, 2)).unwrap_err().is_transient());
}

#[test]
fn under_a_lock_nothing_is_done_but_what_must_be() {
    for (denied, wanted) in [(&[][..], LOCK_TABLES), (&[LOCK], READ_LOCK)] {
        let fake = fake(Flavor::MySql, busy(), denied);
        let (point, way, views) = run(opened(&fake, true, 3)).unwrap();
        assert_eq!((way, views.len()), (wanted, 3));
        assert!(views.iter().all(|view| *view == point.offset));
        let under_lock = &fake.model.lock().unwrap().under_lock;
        assert_eq!(
            under_lock[..],
            ["XA RECOVER CONVERT XID", VIEW, VIEW, VIEW, "SHOW BINARY LOG STATUS", "UNLOCK TABLES"]
        );
    }
}

#[test]
fn a_busy_mariadb_is_locked_or_read_by_one() {
    let tape = busy();
    let allowed = fake(Flavor::MariaDb, tape.clone(), &[]);
    let (point, way, views) = run(opened(&allowed, true, 3)).unwrap();
    assert_eq!((way, views.len()), ("BACKUP STAGE BLOCK_COMMIT", 3));
    assert!(views.iter().all(|view| *view == point.offset));
    let denied = fake(Flavor::MariaDb, tape, &[FTWRL, STAGE, LOCK]);
    let (point, _, views) = run(opened(&denied, true, 3)).unwrap();
    assert_eq!(views, [point.offset]);
}

#[test]
fn prepared_transactions_are_waited_for_and_told() {
    for flavor in [Flavor::MySql, Flavor::MariaDb] {
        let prepared = |fake: &Fake| run(opened_with(fake, true, 2)).unwrap().0.prepared;
        let soon = fake(flavor, Vec::new(), &[]);
        soon.model.lock().unwrap().prepared = 5;
        assert!(prepared(&soon).is_empty());
        let never = fake(flavor, Vec::new(), &[]);
        never.model.lock().unwrap().prepared = u32::MAX;
        assert_eq!(prepared(&never), HashSet::from([XidKey::of(1, b"x", b"")]));
        let unknown = fake(flavor, Vec::new(), &["XA"]);
        assert!(prepared(&unknown).is_empty(), "an account that may not know goes on");
    }
}

/// Its rows are in the log before the point and in no view.
#[test]
fn a_transaction_prepared_just_before_the_window_is_told() {
    for flavor in [Flavor::MySql, Flavor::MariaDb] {
        let late = fake(flavor, Vec::new(), &[FTWRL, STAGE, LOCK]);
        late.model.lock().unwrap().prepares_late = true;
        let opened = run(opened_with(&late, true, 2)).unwrap().0;
        assert_eq!(opened.prepared.len(), 1, "{opened:?}");
    }
}

#[test]
fn answers_of_servers() {
    let row = |columns: &[&str]| columns.iter().map(|column| Some(column.to_string())).collect::<TextRow>();
    let mysql = row(&["binlog.000002", "1138", "", "", "u1:1-4,\nu2:1"]);
    let expected = End { file: "binlog.000002".into(), offset: 1138, executed: "u1:1-4,u2:1".into() };
    assert_eq!(end(&[mysql]), Some(expected));
    assert_eq!(end(&[row(&["b.1", "4", "", ""])]).unwrap().executed, "");
    assert_eq!(end(&[]), None);
    let off = [row(&["Binlog_snapshot_file", ""]), row(&["Binlog_snapshot_position", "0"])];
    assert_eq!(point(&off), None);
}
