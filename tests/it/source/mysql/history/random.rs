//! Statements at random, many of which the server refuses: what it takes the history follows.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::Follower;
use crate::support::mysql::{Server, Version};

/// The server takes a quarter of them or so. Another number by `WALBROOK_DDL_STATEMENTS`.
const STATEMENTS: usize = 150;
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

fn follows(version: Version) {
    let Some(server) = Server::own(version, &["binlog-row-metadata=MINIMAL"]) else { return };
    let mut follower = Follower::new(&server);
    let seed = rand::random::<u64>();
    let mut random = Random(StdRng::seed_from_u64(seed));
    let count = std::env::var("WALBROOK_DDL_STATEMENTS").map_or(STATEMENTS, |count| count.parse().unwrap());
    let mut taken = 0;
    follower.run("create database w_b character set utf8mb4").unwrap();
    for _ in 0..count {
        let sql = random.statement();
        taken += usize::from(follower.run(&sql).is_ok());
    }
    let wrong = &follower.wrong;
    assert!(wrong.is_empty(), "{}, seed {seed}: {} differences\n{}", version.name(), wrong.len(), wrong.join("\n"));
    assert!(taken > count / 30, "only {taken} of {count} were taken");
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
