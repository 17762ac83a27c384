use proptest::prelude::*;

use super::*;
use crate::record::Seen;

fn host(flavor: Flavor) -> Host {
    let version = if flavor == Flavor::MariaDb { (11, 8, 6) } else { (9, 7, 4) };
    Host { flavor, version, lower_case_table_names: 0 }
}

fn at(offset: u64) -> Arc<BinlogPosition> {
    let file = "binlog.000001".into();
    Arc::new(BinlogPosition { server: 1, file, offset, file_created_unix_s: 1, seen: Seen::Nothing })
}

fn statement(sql: &str) -> Statement<'_> {
    // 8: latin1_swedish_ci is the server's.
    let variables = QueryVariables { charsets: Some([45, 45, 8]), ..QueryVariables::default() };
    Statement { database: "db", sql, variables }
}

struct Test {
    history: History,
    offset: u64,
}

impl Test {
    fn new() -> Test {
        Test { history: History::new(host(Flavor::MySql)), offset: 0 }
    }

    fn apply(&mut self, sql: &str) -> Vec<Effect> {
        self.offset += 100;
        self.history.apply(&statement(sql), &at(self.offset))
    }

    /// Columns with their types, the key in parentheses.
    fn shape(&self, name: &str) -> String {
        shape(&self.history, name)
    }
}

fn shape(history: &History, name: &str) -> String {
    let Some(definition) = history.table("db", name) else { return "unknown".to_owned() };
    let table = &definition.table;
    let columns: Vec<String> = table.columns.iter().map(|c| format!("{} {}", c.name, c.column_type.text)).collect();
    let key: Vec<&str> = table.key.iter().map(|at| &*table.columns[usize::from(*at)].name).collect();
    format!("{} ({})", columns.join(", "), key.join(","))
}

#[test]
fn names_are_exchanged() {
    let mut test = Test::new();
    test.apply("create table a (x int primary key)");
    test.apply("create table b (y varchar(5))");
    let ids = |test: &Test| ["a", "b"].map(|name| test.history.table("db", name).map(|known| known.id));
    let before = ids(&test);
    let effects = test.apply("rename table a to tmp, b to a, tmp to b");
    assert_eq!(effects.len(), 3);
    assert_eq!((test.shape("a"), test.shape("b")), ("y varchar(5) ()".to_owned(), "x int (x)".to_owned()));
    assert_eq!(test.shape("tmp"), "unknown");
    let after = ids(&test);
    assert_eq!((after[0], after[1]), (before[1], before[0]));
}

#[test]
fn the_key_is_the_one_innodb_chooses() {
    let mut test = Test::new();
    test.apply(
        "create table t (a int, b int not null, c varchar(9) not null, unique (a), unique (c(3)), unique (c, b))",
    );
    assert_eq!(test.shape("t"), "a int, b int, c varchar(9) (c,b)");
    test.apply("alter table t modify a int not null");
    // It stood behind the other, which had no NULL before it.
    assert_eq!(test.shape("t"), "a int, b int, c varchar(9) (c,b)");
    test.apply("alter table t drop column b");
    assert_eq!(test.shape("t"), "a int, c varchar(9) (c)");
    test.apply("alter table t drop index c_2");
    assert_eq!(test.shape("t"), "a int, c varchar(9) (a)");
    test.apply("alter table t drop index a, add primary key (c)");
    assert_eq!(test.shape("t"), "a int, c varchar(9) (c)");
    test.apply("drop index `PRIMARY` on t");
    assert_eq!(test.shape("t"), "a int, c varchar(9) ()");
}

#[test]
fn what_is_not_understood_is_doubtful_until_it_is_made_anew() {
    let mut test = Test::new();
    test.apply("create table t (a int)");
    let effects = test.apply("alter table t reticulate splines");
    assert!(matches!(&effects[..], [Effect::Unknown { tables, .. }] if tables[0].to_string() == "db.t"), "{effects:?}");
    assert!(test.history.table("db", "t").is_none());
    assert!(test.history.doubt("db", "t").unwrap().contains("reticulate"));
    test.apply("rename table t to u");
    assert!(test.history.doubt("db", "u").unwrap().contains("reticulate"));
    test.apply("drop table u");
    test.apply("create table u (b int)");
    assert_eq!(test.shape("u"), "b int ()");
    // What does not fit what is known is no better.
    let effects = test.apply("alter table u modify nope int");
    assert!(matches!(&effects[..], [Effect::Unknown { why, .. }] if why.contains("nope")), "{effects:?}");
    assert!(matches!(&test.apply("create table v like nothing")[..], [Effect::Unknown { .. }]));
}

#[test]
fn a_position_before_meets_the_shape_of_its_time() {
    let mut test = Test::new();
    test.apply("create table t (a int)");
    test.apply("alter table t add b int");
    test.apply("create table u (x int)");
    test.apply("alter table t drop a");
    test.apply("drop table u");
    let state: State = test.history.take_entries().into_iter().map(|e| (e.key, e.value.unwrap())).collect();
    let at_offset = |offset| {
        let history = History::load(host(Flavor::MySql), &state, &at(offset)).unwrap();
        ["t", "u"].map(|name| shape(&history, name))
    };
    assert_eq!(at_offset(501), ["b int ()", "unknown"]);
    assert_eq!(at_offset(500), ["b int ()", "x int ()"]);
    assert_eq!(at_offset(350), ["a int, b int ()", "x int ()"]);
    assert_eq!(at_offset(200), ["a int ()", "unknown"]);
    // Before what is kept nothing is known, and that is said.
    for number in 0..10 {
        test.apply(&format!("alter table t add c{number} int"));
    }
    let state: State = test.history.take_entries().into_iter().map(|e| (e.key, e.value.unwrap())).collect();
    let history = History::load(host(Flavor::MySql), &state, &at(350)).unwrap();
    assert!(history.doubt("db", "t").is_some());
    assert_eq!(
        History::load(host(Flavor::MySql), &state, &at(9000)).unwrap().table("db", "t").unwrap().table.columns.len(),
        11
    );
}

#[test]
fn an_answer_again_is_the_same() {
    let mut test = Test::new();
    test.apply("create table t (a int)");
    let before = test.history.clone();
    let once = test.apply("alter table t add b int");
    test.history = before;
    test.offset -= 100;
    assert_eq!(test.apply("alter table t add b int"), once);
}

#[test]
fn tables_of_a_catalog_keep_their_number_while_they_are_the_same() {
    let mut test = Test::new();
    test.apply("create table t (a int)");
    let def = TableDef::clone(&test.history.table("db", "t").unwrap().table);
    let first = test.history.prime(&def);
    assert_eq!((first.id, first.version), (1, 1));
    let other = test.history.prime(&TableDef { engine: "MyISAM".into(), ..def });
    assert_eq!((other.id, other.version), (1, 2));
}

#[test]
fn names_without_case() {
    let mut history = History::new(Host { lower_case_table_names: 1, ..host(Flavor::MySql) });
    history.apply(&statement("create table Db.Tab (A int)"), &at(1));
    assert_eq!(history.table("dB", "TAB").unwrap().table.to_string(), "db.tab");
    let mut history = History::new(host(Flavor::MySql));
    history.apply(&statement("create table db.Tab (A int)"), &at(1));
    assert!(history.table("db", "tab").is_none() && history.table("db", "Tab").is_some());
}

#[test]
fn databases_give_their_character_set() {
    let mut test = Test::new();
    test.apply("create database d charset utf8mb4");
    let collation = |test: &Test, name: &str| {
        let table = &test.history.table("d", name).unwrap().table;
        table.columns[0].column_type.collation.as_deref().unwrap().to_owned()
    };
    test.apply("create table d.t (a char)");
    assert_eq!(collation(&test, "t"), "utf8mb4_0900_ai_ci");
    test.apply("alter database d collate latin1_bin");
    test.apply("create table d.u (a char)");
    assert_eq!(collation(&test, "u"), "latin1_bin");
    let dropped = test.apply("drop database d");
    assert!(matches!(&dropped[..], [Effect::Dropped { .. }, Effect::Dropped { .. }]), "{dropped:?}");
    let keys: Vec<_> = test.history.take_entries().into_iter().map(|e| (e.key, e.value.is_some())).collect();
    assert!(keys.contains(&(b"database/d".to_vec(), false)) && keys.contains(&(b"table/d/t".to_vec(), true)));
}

#[test]
fn rows_that_move_without_events_are_said() {
    let mut test = Test::new();
    test.apply("create table t (a int)");
    for sql in
        ["alter table t truncate partition p", "alter table t drop partition p", "alter table t import tablespace"]
    {
        assert!(matches!(&test.apply(sql)[..], [Effect::RowsMoved { .. }]), "{sql}");
    }
    assert_eq!(test.apply("alter table t exchange partition p with table u").len(), 2);
    assert!(matches!(&test.apply("truncate t")[..], [Effect::Truncated { table: Some(_), .. }]));
}

#[test]
fn bytes_that_are_none_are_an_error() {
    let mut test = Test::new();
    test.apply(
        "create table t (a int, b enum('x','y') not null, c point srid 4326 not null, primary key (a), unique (b))",
    );
    let entry = test.history.take_entries().pop().unwrap();
    let (key, value) = (entry.key, entry.value.unwrap());
    let load = |key: &[u8], value: &[u8]| {
        let state = State::from([(key.to_vec(), value.to_vec())]);
        History::load(host(Flavor::MySql), &state, &at(9000))
    };
    assert!(load(&key, &value).is_ok());
    for end in 0..value.len() {
        assert!(load(&key, &value[..end]).is_err(), "{end}");
    }
    assert!(load(&key, &[&value[..], &[0]].concat()).is_err());
    let newer = load(&key, &[3]).err().unwrap();
    assert!(format!("{newer:?}").contains("table/db/t"), "{newer:?}");
    assert!(load(b"table/none", &value).is_err());
    let definition = test.history.table("db", "t").unwrap();
    assert_eq!(Definition::from_bytes(&definition.to_bytes()).unwrap(), **definition);
}

proptest! {
    #[test]
    fn stored_bytes_never_panic(bytes: Vec<u8>) {
        let _ = (stored::decode(&bytes), Definition::from_bytes(&bytes));
        let _ = (stored::decode(&[&[2, 1, 0, 1], &bytes[..]].concat()), unescape(&bytes));
    }

    #[test]
    fn keys_are_unambiguous(database in "[a/%25f]{1,5}", name in "[a/%25f]{1,5}") {
        let key = (Box::from(database), Box::from(name));
        prop_assert_eq!(unescape(&state_key(&key)[STATE_PREFIX.len()..]), Some(key));
    }
}

/// What 10,000 tables of 20 columns take, by the sizes of their parts and allocations rounded up to 16 bytes with 8 of the
/// allocator's own.
#[test]
fn a_table_takes_little_memory() {
    let mut test = Test::new();
    let columns: Vec<String> =
        (0..20).map(|n| format!("column_{n:02} {}", ["int", "varchar(40)", "text", "datetime(6)"][n % 4])).collect();
    for number in 0..100 {
        test.apply(&format!("create table table_{number} (id int primary key, {})", columns.join(", ")));
    }
    assert_eq!(test.history.types.len(), 4, "types are shared");
    let allocated = |bytes: usize| (bytes + 8).next_multiple_of(16);
    let definition = test.history.table("db", "table_7").unwrap();
    let table = &definition.table;
    let names: usize = table.columns.iter().map(|column| allocated(column.name.len())).sum();
    let columns = allocated(std::mem::size_of_val(&*table.columns)) + names;
    let rest = allocated(std::mem::size_of::<TableDef>() + 16)
        + allocated(std::mem::size_of::<Definition>() + 16)
        + allocated(std::mem::size_of::<Version>())
        + 2 * (std::mem::size_of::<Key>() + std::mem::size_of::<Vec<Version>>())
        + 8 * 32;
    let bytes = columns + rest;
    assert!(bytes < 2200, "{bytes} bytes, of which {columns} are columns");
}
