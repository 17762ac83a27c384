//! Keys that are no PRIMARY KEY, where the log names the key of every table.

use super::Follower;
use crate::support::mysql::{Server, Version};

/// `n` stands before `b`, where MariaDB leaves it: `b` became NOT NULL by the primary key alone. It then logs no key, MySQL
/// logs `b`.
const BEHIND: &str = "(n date unique, b varbinary(9) unique, k int, primary key (b, k))";

impl Follower<'_> {
    fn take(&mut self, sql: &str) {
        assert!(self.execute(sql), "{sql}");
    }

    fn names_of_key(&self, name: &str) -> Vec<&str> {
        let table = &self.history.table("w_a", name).unwrap_or_else(|| panic!("{name} is not known")).table;
        table.key.iter().map(|at| &*table.columns[usize::from(*at)].name).collect()
    }
}

fn keys(version: Version) {
    let Some(server) = Server::own(version, &["binlog-row-metadata=FULL"]) else { return };
    let mut follower = Follower::new(&server);
    let behind = format!("create table behind {BEHIND}");
    for sql in [
        "use w_a",
        &behind,
        "insert into behind (b, k) values ('a', 1)",
        "alter table behind drop primary key",
        "insert into behind (b, k) values ('b', 1)",
        "create table two (a int not null unique, b int not null unique)",
        "insert into two values (1, 1)",
        "alter table two drop index a",
        "insert into two values (2, 2)",
    ] {
        follower.take(sql);
    }
    assert_eq!(follower.names_of_key("behind"), ["b"]);
    assert_eq!(follower.names_of_key("two"), ["b"]);
    // As the catalog has it at a start.
    follower.begin_anew();
    follower.take("insert into behind (b, k) values ('c', 1)");
    assert_eq!(follower.names_of_key("behind"), ["b"]);

    let unheard = format!("create table unheard {BEHIND}");
    for sql in [&unheard, "create table first (a int not null unique, b int not null unique)"] {
        follower.take(sql);
    }
    assert_eq!(follower.names_of_key("unheard"), ["b", "k"]);
    assert_eq!(follower.names_of_key("first"), ["a"]);
    follower.deaf = true;
    for sql in [
        "alter table unheard drop primary key",
        "insert into unheard (b, k) values ('b', 1)",
        "alter table first drop index a",
        "insert into first values (1, 1)",
    ] {
        follower.take(sql);
    }
    // Whether `b` is left MariaDB's log does not say.
    let known: &[&str] = if version.is_mariadb() { &[] } else { &["b"] };
    assert_eq!(follower.names_of_key("unheard"), known);
    assert_eq!(follower.names_of_key("first"), ["b"]);
    assert!(follower.wrong.is_empty(), "{}: {}", version.name(), follower.wrong.join("\n"));
    assert!(follower.maps >= 6, "{} maps", follower.maps);
}

#[test]
fn mysql_9_7() {
    keys(Version::MySql97);
}

#[test]
fn mariadb_10_5() {
    keys(Version::MariaDb105);
}

#[test]
fn mariadb_10_11() {
    keys(Version::MariaDb1011);
}

#[test]
fn mariadb_11_8() {
    keys(Version::MariaDb118);
}
