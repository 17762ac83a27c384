use proptest::prelude::*;

use super::*;

fn session(mariadb: bool) -> Session {
    Session::new(mariadb, if mariadb { 11_08_06 } else { 9_07_04 }, 0, "db")
}

fn mysql(sql: &str) -> Ddl {
    parse(sql, &session(false))
}

fn mariadb(sql: &str) -> Ddl {
    parse(sql, &session(true))
}

fn table(name: &str) -> TableName {
    let (database, name) = name.split_once('.').unwrap_or(("db", name));
    TableName { database: database.to_owned(), name: name.to_owned() }
}

fn words(sql: &str, dialect: Dialect) -> Result<Vec<Token<'_>>, lexer::Broken> {
    let mut lexer = Lexer::new(sql, dialect);
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next()? {
        tokens.push(token);
    }
    Ok(tokens)
}

/// Names of columns, of unique keys.
fn shape(ddl: &Ddl) -> (Vec<String>, Vec<String>) {
    let Ddl::CreateTable { body: Body::Items { columns, keys, .. }, .. } = ddl else { panic!("{ddl:?}") };
    let key = |key: &KeySpec| {
        let parts: Vec<&str> = key.parts.iter().map(|part| part.column.as_deref().unwrap_or("()")).collect();
        let name = if key.primary { "PRIMARY" } else { key.name.as_deref().unwrap_or("?") };
        format!("{name}({})", parts.join(","))
    };
    (columns.iter().map(|column| column.name.clone()).collect(), keys.iter().map(key).collect())
}

#[test]
fn words_are_the_servers() {
    let plain = Dialect { version: 9_07_04, ..Dialect::default() };
    let text = |text: &'static str| Token::Text(text.into());
    assert_eq!(words(r"'a''b\n\'\%' ", plain).unwrap(), [text("a'b\n'\\%")]);
    assert_eq!(
        words(r"'a\' x", Dialect { no_backslash_escapes: true, ..plain }).unwrap(),
        [text("a\\"), Token::Word("x")]
    );
    assert_eq!(words("\"a\" n'b' _utf8'c'", plain).unwrap(), [text("a"), text("b"), Token::Word("_utf8"), text("c")]);
    assert_eq!(words("\"a\"\"b\"", Dialect { ansi_quotes: true, ..plain }).unwrap(), [Token::Name("a\"b".into())]);
    assert_eq!(words("`a``b` 1a 12 $x é", plain).unwrap().len(), 5);
    assert_eq!(words("x'41' 0x4142 b'01000001' 0x4", plain).unwrap().len(), 4);
    assert_eq!(words("x'41'", plain).unwrap(), [Token::Bits(Some(b"A".to_vec()))]);
    assert_eq!(words("a--b", plain).unwrap().len(), 4, "two minus signs");
    for comment in
        ["a -- x", "a --", "a # x\n", "a /* x */", "a /* ' */", "/*!99999 b */ a", "/*!99999 b /* c */ d */ a"]
    {
        assert_eq!(words(comment, plain).unwrap(), [Token::Word("a")], "{comment}");
    }
    for run in ["/*! a */", "/*!50000a*/", "/*!090704 a */", "/*!40000 /* x */ a */"] {
        assert_eq!(words(run, plain).unwrap(), [Token::Word("a")], "{run}");
    }
    let maria = Dialect { mariadb: true, version: 11_08_06, ..plain };
    assert_eq!(words("/*M! a */ /*M!120000 b */ /*!50701 c */ /*!100100 d */", maria).unwrap().len(), 2);
    for broken in ["'a", "`a", "\"a", "/* a", "/*! a", "'a\\", "x'4"] {
        assert_eq!(words(broken, plain), Err(lexer::Broken), "{broken}");
    }
}

#[test]
fn what_is_no_table_is_nothing() {
    for sql in [
        "BEGIN",
        "",
        ";",
        "-- x",
        "insert into t values (1)",
        "create view v as select 1",
        "CREATE TEMPORARY TABLE t (a int)",
        "create or replace algorithm = merge definer = `a`@`b` sql security invoker view v as select 1",
        "create definer=`root`@`%` procedure p() begin create table t (a int); end",
        "drop temporary table if exists t",
        "create user u",
        "drop user u",
        "alter user u",
        "rename user a to b",
        "drop view v",
        "create sequence s",
        "create function f() returns int return 1",
        "alter view v as select 1",
        "create spatial reference system 1 name 'x'",
        "create role r",
        "alter event e disable",
        "drop trigger t",
        "create aggregate function f returns int soname 'x'",
        "alter instance rotate innodb master key",
        "create 'not closed",
    ] {
        let ddl = mysql(sql);
        let broken = sql.contains("not closed");
        assert_eq!(matches!(ddl, Ddl::Unknown { .. }), broken, "{sql}: {ddl:?}");
        assert_eq!(ddl == Ddl::Nothing, !broken, "{sql}");
    }
}

#[test]
fn tables_are_made() {
    let ddl = mysql(
        "create table if not exists other.t (id serial, `a b` varchar(10) not null default 'x, (' comment 'c)', \
         b int primary key, c int unique key, key (b), unique k2 (c desc, id), constraint k3 unique (c(3)), \
         fulltext (a), check ((a > 0) and b < (1)), foreign key (b) references x (y) on delete set null) engine = InnoDB",
    );
    assert_eq!(shape(&ddl).0, ["id", "a b", "b", "c"]);
    assert_eq!(shape(&ddl).1, ["?(id)", "PRIMARY(b)", "?(c)", "?(b)", "k2(c,id)", "k3(c)", "?(a)"]);
    let Ddl::CreateTable { table: name, if_not_exists, .. } = &ddl else { panic!() };
    assert_eq!((name, *if_not_exists), (&table("other.t"), true));

    let like =
        Ddl::CreateTable { table: table("t"), replace: false, if_not_exists: false, body: Body::Like(table("x.u")) };
    assert_eq!(mysql("create table t like x.u"), like);
    assert_eq!(mysql("create table t (like x . u)"), like);
    for sql in [
        "create table t (a int) select 1",
        "create table t as select 1",
        "create table t (a int) partition by hash (a) as select 1",
    ] {
        assert!(matches!(mysql(sql), Ddl::Unknown { tables, .. } if tables == [table("t")]), "{sql}");
    }
    let partitioned =
        "create table t (a int) partition by range (a) (partition p values less than (1) comment 'select')";
    assert_eq!(shape(&mysql(partitioned)).0, ["a"]);
    assert_eq!(
        shape(&mariadb("create or replace table t (a int, period for p (x, y), b json check (json_valid(b)))")).0,
        ["a", "b"]
    );
}

#[test]
fn defaults_of_every_kind_end_where_they_end() {
    for value in [
        "1",
        "-1",
        "+1.5",
        ".5",
        "-.5",
        "1.",
        "1.5e3",
        "1.5e-3",
        "1e5",
        "1e-5",
        "1.e5",
        "'a' 'b'",
        "_latin1'a'",
        "_utf8mb4 x'41'",
        "n'x'",
        "x'41'",
        "b'1'",
        "0x41",
        "null",
        "true",
        "now()",
        "current_timestamp(6)",
        "(uuid())",
        "(1 + (2))",
        "date '2020-01-01'",
        "{d '2020-01-01'}",
        "next value for s.q",
        "db.f(1)",
        "'x' collate utf8mb4_bin",
    ] {
        let ddl = mariadb(&format!("create table t (a int default {value} not null, b int)"));
        assert_eq!(shape(&ddl).0, ["a", "b"], "{value}");
        let Ddl::CreateTable { body: Body::Items { columns, .. }, .. } = ddl else { panic!() };
        assert_eq!(columns[0].nullable, Some(false), "{value}");
    }
}

#[test]
fn several_tables_in_one_statement() {
    let renames = vec![(table("a"), table("tmp")), (table("x.b"), table("a")), (table("tmp"), table("x.b"))];
    assert_eq!(mysql("RENAME TABLE a TO tmp, x.b TO a, tmp TO x.b"), Ddl::Rename(renames.clone()));
    assert_eq!(mariadb("rename tables if exists a wait 5 to tmp, x.b nowait to a, tmp to x.b"), Ddl::Rename(renames));
    let dropped = Ddl::Drop(vec![table("a"), table("x.b")]);
    assert_eq!(mysql("drop table if exists `a`,x . `b` /* generated by server */"), dropped);
    assert_eq!(mariadb("drop tables a, x.b wait 1 cascade;"), dropped);
    assert_eq!(mysql("truncate a"), Ddl::Truncate(table("a")));
    assert_eq!(mysql("truncate table x.1a"), Ddl::Truncate(table("x.1a")));
    assert_eq!(mysql("drop schema if exists `a b`"), Ddl::DropDatabase("a b".to_owned()));
}

#[test]
fn tables_are_altered() {
    let actions = |ddl: Ddl| match ddl {
        Ddl::AlterTable { table: name, actions } if name == table("t") => actions,
        other => panic!("{other:?}"),
    };
    let names = |sql: &str| -> Vec<String> {
        actions(mariadb(sql))
            .into_iter()
            .map(|action| match action {
                Action::AddColumn { column, place, .. } => format!("+{} {place:?}", column.name),
                Action::Change { old, column, place, .. } => format!("{old}>{} {place:?}", column.name),
                Action::DropColumn(name) => format!("-{name}"),
                Action::RenameColumn { old, new } => format!("{old}>{new}"),
                Action::AddKey(key) => format!("key {}", key.parts.len()),
                other => format!("{other:?}"),
            })
            .collect()
    };
    assert_eq!(
        names("alter table t add a int first, add column b int after a, add (c int, d int)"),
        ["+a First", "+b After(\"a\")", "+c Last", "+d Last"]
    );
    assert_eq!(
        names("alter table t modify a int after b, change c d int not null first"),
        ["a>a After(\"b\")", "c>d First"]
    );
    assert_eq!(
        names("alter table t drop a, drop column if exists b cascade, rename column c to d"),
        ["-a", "-b", "c>d"]
    );
    assert_eq!(
        names("alter table t add primary key (a, b), add unique (c), add index (d), add constraint u unique key (e)"),
        ["key 2", "key 1", "key 1", "key 1"]
    );
    assert_eq!(
        names("alter online ignore table if exists t wait 3 add if not exists a int unique"),
        ["+a Last", "key 1"]
    );
    assert_eq!(names("alter table t drop primary key, drop key k"), ["DropPrimary", "DropIndex(\"k\")"]);
    for nothing in [
        "engine",
        "algorithm=inplace, lock=none",
        "auto_increment 5 comment 'x, y'",
        "order by a, b desc",
        "force",
        "enable keys",
        "add partition (partition p values in (1, 2))",
        "alter a set default (1 + 2), alter column b drop default",
        "drop foreign key f",
        "add constraint c check (a > 0)",
        "add foreign key (a) references b (c) on delete cascade",
        "alter index i invisible",
        "row_format=compressed key_block_size 8",
        "partition by key (a) partitions 4",
        "coalesce partition 2",
    ] {
        let sql = format!("alter table t {}", if nothing == "engine" { "engine = aria" } else { nothing });
        let left: Vec<Action> =
            actions(mariadb(&sql)).into_iter().filter(|a| !matches!(a, Action::Options(_))).collect();
        assert_eq!(left, [], "{sql}");
    }
    for unknown in [
        "alter table t frobnicate the widgets",
        "alter table t add column a int bogus",
        "alter table t modify",
        "alter table t add (a int",
    ] {
        assert!(matches!(mysql(unknown), Ddl::Unknown { tables, .. } if tables == [table("t")]), "{unknown}");
    }
}

/// MariaDB logs SET STATEMENT as it was sent; a comment that the server runs is part of its statement, or all of it.
#[test]
fn statements_in_others_are_read() {
    let plain = mariadb("alter table t add column n int first, add unique k (n)");
    assert!(matches!(&plain, Ddl::AlterTable { actions, .. } if actions.len() == 2));
    for sql in [
        "SET STATEMENT max_statement_time = 10 FOR alter table t add column n int first, add unique k (n)",
        "set statement sql_mode = 'ANSI,for', lock_wait_timeout=(1 + 2) for\nalter table t add column n int first, add unique k (n)",
        "/* x */ set /* for */ statement a = 1 for /*! alter table t */ add column n int first, add unique k (n)",
        "/*!50001 alter table t add column n int first, add unique k (n) */",
        "/*M!100100 alter table t add column n int first */ , /*! add unique k (n) */",
        "alter table t /*!120000 drop a, */ add column n int /*!40000 first, add */ unique k (n)",
    ] {
        assert_eq!(mariadb(sql), plain, "{sql}");
    }
    assert_eq!(mysql("/*!50001 alter table t add column n int first, add unique k (n) */"), plain);
    assert_eq!(mysql("/*!99999 drop table t */"), Ddl::Nothing);
    for nothing in [
        "set statement max_statement_time = 10 for insert into t values (1)",
        "set statement a = 'for drop table t' for select 1",
        "set statement a = 1",
        "set global for = 1",
    ] {
        assert_eq!(mariadb(nothing), Ddl::Nothing, "{nothing}");
    }
    for sql in ["set statement a = 1 for drop table t, u", "/*! drop table */ t, u"] {
        assert_eq!(mariadb(sql), Ddl::Drop(vec![table("t"), table("u")]), "{sql}");
    }
}

#[test]
fn a_statement_of_too_many_words_is_not_read() {
    let sql = format!("create table t (a enum({}'x'))", "'x',".repeat(1 << 18));
    assert!(matches!(mysql(&sql), Ddl::Unknown { why, .. } if why.contains("words")));
    let deep = format!("create table t (a int default {}1{})", "(".repeat(100_000), ")".repeat(100_000));
    assert_eq!(shape(&mysql(&deep)).0, ["a"]);
}

const SAMPLES: [&str; 6] = [
    "create table t (a int not null default 1, b varchar(10) character set latin1, primary key (a)) engine=innodb",
    "alter table t add column c enum('a','b') after b, drop a, change b bb text first, add unique (c(3))",
    "rename table a to b, b to c",
    "drop table if exists a, b.c",
    "create /*!50000 or replace */ table t (g int generated always as (a + 1) stored, unique k ((a + 1)))",
    "create database d character set = latin1 collate latin1_bin",
];

proptest! {
    #[test]
    fn nothing_panics(sql in ".*", mariadb: bool, mode: u64) {
        let _ = parse(&sql, &Session::new(mariadb, 10_05_00, mode, "db"));
        let _ = words(&sql, Dialect { mariadb, version: 80_000, ..Dialect::default() });
    }

    #[test]
    fn changed_statements_do_not_panic(
        sample in prop::sample::select(&SAMPLES[..]),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), "[a-z `'\"(),/*!#;\\\\0-9é-]{0,3}"), 1..6),
        mariadb: bool,
    ) {
        let mut sql: Vec<char> = sample.chars().collect();
        for (at, put) in cuts {
            let at = at.index(sql.len() + 1);
            let end = (at + put.len() % 3).min(sql.len());
            sql.splice(at..end, put.chars());
        }
        let _ = parse(&String::from_iter(sql), &session(mariadb));
    }

    #[test]
    fn words_may_go_or_change_places(
        sample in prop::sample::select(&SAMPLES[..]),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let parts: Vec<&str> = sample.split_inclusive([' ', '(', ')', ',']).collect();
        let sql: String = order.iter().map(|at| parts[at.index(parts.len())]).collect();
        for sql in [sql.clone(), format!("create table t ({sql}"), format!("alter table t {sql}")] {
            let _ = (parse(&sql, &session(true)), parse(&sql, &session(false)));
        }
    }
}
