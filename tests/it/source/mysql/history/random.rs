//! Statements at random, many of which the server refuses: what it takes the history follows.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use walbrook::source::mysql::schema::{ColumnDef, Kind, TableDef};

use super::Follower;
use crate::support::mysql::{Server, Version};

/// Of each seed; the server takes a quarter of them or so. Another number by `WALBROOK_DDL_STATEMENTS`.
const STATEMENTS: usize = 100;
/// Others by `WALBROOK_DDL_SEED`, divided by commas.
const SEEDS: [u64; 3] = [1, 2, 3];
const TABLES: [&str; 4] = ["a", "b", "`c d`", "w_b.e"];
const COLUMNS: [&str; 8] = ["id", "Name", "v", "`a b`", "k", "x1", "ünï", "z"];
const TYPES: [&str; 24] = [
    "int",
    "bigint unsigned",
    "tinyint(1)",
    "smallint zerofill",
    "decimal(10,3)",
    "float",
    "double(9,2)",
    "bit(5)",
    "date",
    "time(2)",
    "datetime(6)",
    "timestamp null",
    "year",
    "char(5)",
    "varchar(20)",
    "varchar(30) character set utf8mb4",
    "text",
    "tinytext",
    "binary(3)",
    "varbinary(9)",
    "enum('a','b')",
    "set('x','y''z')",
    "text(300) collate utf8mb4_bin",
    "bool",
];

struct Random(StdRng);

impl Random {
    fn one<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.0.random_range(0..of.len())]
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.0.random_range(0..one_in) == 0
    }

    fn column(&mut self) -> String {
        let (name, kind) = (self.one(&COLUMNS), self.one(&TYPES));
        let null = self.one(&["", " null", " not null", " comment 'a, (b'"]);
        let key = if self.chance(9) { " unique" } else { "" };
        format!("{name} {kind}{null}{key}")
    }

    fn place(&mut self) -> String {
        match self.0.random_range(0..4) {
            0 => " first".to_owned(),
            1 => format!(" after {}", self.one(&COLUMNS)),
            _ => String::new(),
        }
    }

    fn key(&mut self) -> String {
        let (one, other) = (self.one(&COLUMNS), self.one(&COLUMNS));
        let kind = self.one(&["primary key", "unique", "unique key named", "index", "unique index `named 2`"]);
        if one == other { format!("{kind} ({one})") } else { format!("{kind} ({one}, {other})") }
    }

    fn action(&mut self) -> String {
        let (one, other) = (self.one(&COLUMNS), self.one(&COLUMNS));
        match self.0.random_range(0..13) {
            0..3 => format!("add column {}{}", self.column(), self.place()),
            3 => format!("drop column {one}"),
            4..6 => format!("modify {}{}", self.column(), self.place()),
            6 => format!("change {one} {}{}", self.column(), self.place()),
            7 => format!("rename column {one} to {other}"),
            8 => format!("add {}", self.key()),
            9 => format!("drop index {}", self.one(&["named", "`named 2`", "id", "Name", "v_2", "k"])),
            10 => "drop primary key".to_owned(),
            11 => self
                .one(&["convert to character set utf8mb4", "default charset latin1", "comment 'x'", "engine=InnoDB"])
                .to_owned(),
            _ => format!("add ({}, {})", self.column(), self.column()),
        }
    }

    fn statement(&mut self) -> String {
        let (table, other) = (self.one(&TABLES), self.one(&TABLES));
        match self.0.random_range(0..20) {
            0..4 => {
                let columns: Vec<String> = (0..self.0.random_range(1..5)).map(|_| self.column()).collect();
                let key = if self.chance(2) { format!(", {}", self.key()) } else { String::new() };
                let options = self.one(&["", " charset utf8mb4", " engine=InnoDB collate latin1_bin"]);
                format!("create table {table} ({}{key}){options}", columns.join(", "))
            }
            4 => format!("create table {table} like {other}"),
            5 => format!("rename table {table} to w_b.swapped, {other} to {table}, w_b.swapped to {other}"),
            6 => format!("rename table {table} to {other}"),
            7 if self.chance(2) => format!("drop table if exists {table}, {other}"),
            8 => format!("create unique index named on {table} ({})", self.one(&COLUMNS)),
            9 => format!("insert ignore into {table} values ()"),
            _ => {
                let actions: Vec<String> = (0..self.0.random_range(1..4)).map(|_| self.action()).collect();
                format!("alter table {table} {}", actions.join(", "))
            }
        }
    }
}

/// The environment's seeds, divided by commas, or these.
fn seeds() -> Vec<u64> {
    std::env::var("WALBROOK_DDL_SEED")
        .map_or(SEEDS.to_vec(), |seeds| seeds.split(',').map(|seed| seed.trim().parse().unwrap()).collect())
}

fn statements() -> usize {
    std::env::var("WALBROOK_DDL_STATEMENTS").map_or(STATEMENTS, |count| count.parse().unwrap())
}

impl Follower<'_> {
    /// No tables, in databases with the character sets of [`Follower::new`] and another one.
    fn clear(&mut self) {
        self.execute("drop database if exists w_b");
        for sql in [
            "drop database w_a",
            "create database w_a character set latin1",
            "create database w_b character set utf8mb4",
            "use w_a",
        ] {
            assert!(self.execute(sql), "{sql}");
        }
    }

    /// A row into every table, so that the log describes it.
    fn touch(&mut self) {
        for table in self.catalog().into_values() {
            let name = format!("`{}`.`{}`", table.database, table.name);
            // So that no unique index is in the way.
            for sql in [format!("delete from {name}"), format!("insert ignore into {name} values ()")] {
                assert!(self.execute(&sql), "{sql}");
            }
        }
    }
}

fn follows(version: Version) {
    let Some(server) = Server::own(version, &["binlog-row-metadata=MINIMAL"]) else { return };
    let mut follower = Follower::new(&server);
    let mut wrong = Vec::new();
    let (mut count, mut taken) = (0, 0);
    for seed in seeds() {
        let mut random = Random(StdRng::seed_from_u64(seed));
        follower.clear();
        for number in 0..statements() {
            let sql = random.statement();
            count += 1;
            taken += usize::from(follower.execute(&sql));
            wrong.extend(follower.wrong.drain(..).map(|wrong| format!("seed {seed}, statement {number}: {wrong}")));
        }
    }
    assert!(wrong.is_empty(), "{}: {} differences\n{}", version.name(), wrong.len(), wrong.join("\n"));
    assert!(taken > count / 30, "only {taken} of {count} were taken");
}

/// With all that the log can say: what is known by statements is what it says, and where nobody heard of a statement the
/// events say it.
fn reconciles(version: Version) {
    let Some(server) = Server::own(version, &["binlog-row-metadata=FULL"]) else { return };
    let mut follower = Follower::new(&server);
    let mut wrong = Vec::new();
    let mut unheard = 0;
    for seed in seeds() {
        let mut random = Random(StdRng::seed_from_u64(seed));
        follower.clear();
        for number in 0..statements() {
            follower.deaf = random.chance(3);
            let sql = random.statement();
            if follower.execute(&sql) {
                follower.touch();
            }
            if follower.deaf {
                let catalog = follower.catalog();
                for (name, table) in &catalog {
                    let known = follower.history.table(&table.database, &table.name).map(|known| said(&known.table));
                    let logged = follower.logged.get(name);
                    let expected = said(table);
                    let right = known.as_ref().is_some_and(|(columns, key)| {
                        // Which key it has, if it has one, the log does not tell then: that there is one may not be known.
                        let unsaid = logged.is_some_and(Vec::is_empty) && key.is_empty();
                        *columns == expected.0 && (*key == expected.1 || unsaid)
                    });
                    if !right || logged.is_some_and(|logged| *logged != named_key(table, version.is_mariadb())) {
                        wrong.push(format!(
                            "seed {seed}, statement {number}: after {sql}\n{name}\nknown    {known:?}\n\
                             expected {expected:?}\nlogged   {logged:?}"
                        ));
                    }
                }
                unheard += catalog.len();
                follower.begin_anew();
                follower.deaf = false;
            }
            wrong.extend(follower.wrong.drain(..).map(|wrong| format!("seed {seed}, statement {number}: {wrong}")));
        }
    }
    assert!(wrong.is_empty(), "{}: {} differences\n{}", version.name(), wrong.len(), wrong.join("\n"));
    assert!(unheard > 20, "{unheard} tables, {} maps", follower.maps);
}

/// The key that a server's log names: MariaDB takes no other index than the first for one.
fn named_key(table: &TableDef, mariadb: bool) -> Vec<u16> {
    let asked = if mariadb { table.unique.len().min(1) } else { table.unique.len() };
    TableDef::chosen_key(&table.columns, &table.unique[..asked]).to_vec()
}

/// What an event tells of a table: its columns with what their values depend on, and its key.
fn said(table: &TableDef) -> (Vec<String>, Vec<u16>) {
    let column = |column: &ColumnDef| {
        let of = &column.column_type;
        // The width of a number is not logged.
        let shown = match of.kind {
            Kind::TinyInt
            | Kind::SmallInt
            | Kind::MediumInt
            | Kind::Int
            | Kind::BigInt
            | Kind::Float
            | Kind::Double
            | Kind::Year => format!("{:?}{}", of.kind, if of.unsigned { " unsigned" } else { "" }),
            _ => of.text.to_string(),
        };
        let charset = of.collation.as_deref().map(|collation| collation.split('_').next());
        format!("{} {shown} {charset:?} {}", column.name, column.nullable)
    };
    (table.columns.iter().map(column).collect(), table.key.to_vec())
}

#[test]
fn mysql_9_7() {
    follows(Version::MySql97);
}

#[test]
fn mariadb_10_5() {
    follows(Version::MariaDb105);
}

#[test]
fn mariadb_10_11() {
    follows(Version::MariaDb1011);
}

#[test]
fn mariadb_11_8() {
    follows(Version::MariaDb118);
}

#[test]
fn mysql_9_7_says_all() {
    reconciles(Version::MySql97);
}

#[test]
fn mariadb_10_5_says_all() {
    reconciles(Version::MariaDb105);
}

#[test]
fn mariadb_10_11_says_all() {
    reconciles(Version::MariaDb1011);
}

#[test]
fn mariadb_11_8_says_all() {
    reconciles(Version::MariaDb118);
}
