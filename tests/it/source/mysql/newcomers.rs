//! Tables that are selected when the log has been read for some time without them: a value never comes under a wrong name.

use super::MySql;
use crate::source::Subject;
use crate::source::program::{Stream, brief};
use crate::support::mysql::{Server, Version};

/// Servers whose log names no columns.
fn nameless() -> impl Iterator<Item = Server> {
    Version::ALL.into_iter().filter_map(|version| Server::own(version, &["binlog-row-metadata=MINIMAL"]))
}

const TABLES: &str = "create table old (id int primary key); create table late (id int primary key, a int, b int)";
/// Columns of the same type change places, and then their names.
const ALTERED: &str = "insert into late values (1, 10, 20); alter table late modify b int after id;
    insert into late values (2, 20, 10); alter table late rename column a to x; insert into late values (3, 20, 10);
    insert into old values (1)";

/// The rows of `late` as each was written.
const EXPECTED: [&str; 3] =
    [r#"c late {"id":1,"a":10,"b":20}"#, r#"c late {"id":2,"b":20,"a":10}"#, r#"c late {"id":3,"b":20,"x":10}"#];

fn selected(db: &MySql<'_>, tables: &[&str]) -> String {
    tables.iter().map(|table| format!("{}.{table}", db.name())).collect::<Vec<_>>().join(",")
}

fn rows(records: &[serde_json::Value]) -> Vec<String> {
    brief(records).into_iter().filter(|record| record.starts_with("c late")).collect()
}

/// A user who can see one table of the database, and his URL.
fn see_only_old(db: &MySql<'_>) {
    let pattern = db.name().replace('_', "\\_");
    db.execute(&format!(
        "revoke select on `{pattern}`.* from {user}; grant select on {name}.old to {user}",
        user = db.user(),
        name = db.name()
    ));
}

/// The history has all that the account could see, selected or not.
#[test]
fn a_table_that_could_be_seen_has_its_own_names() {
    for server in nameless() {
        let db = MySql::new(server.database("seen"));
        db.execute(TABLES);
        let stream = Stream::new(&db, &["--tables", &selected(&db, &["old"])]);
        db.execute(ALTERED);
        let records = stream.run(&["--until", "current", "--tables", &selected(&db, &["old", "late"])]).ok();
        assert_eq!(rows(&records), EXPECTED, "{:?}", server.version());
    }
}

/// Nothing is known of it before, and it was altered: nothing of it comes, and that is an error.
#[test]
fn a_table_that_could_not_be_seen_and_was_altered_stops() {
    for server in nameless() {
        let db = MySql::new(server.database("unseen"));
        db.execute(TABLES);
        see_only_old(&db);
        let stream = Stream::new(&db, &["--tables", &selected(&db, &["old"])]);
        db.execute(ALTERED);
        db.execute(&format!("grant select on {}.late to {}", db.name(), db.user()));
        let ended = stream.run(&["--until", "current", "--tables", &selected(&db, &["old", "late"])]);
        assert_eq!(brief(&ended.records), [r#"c old {"id":1}"#], "{:?}", server.version());
        let log = ended.failed(1);
        assert!(log.contains("late") && log.contains("altered in between"), "{log}");
    }
}

/// Nothing in the log is about it: it always was what it is now. And one that was made meanwhile tells what it is.
#[test]
fn a_table_that_could_not_be_seen_and_was_not_altered_comes() {
    for server in nameless() {
        let db = MySql::new(server.database("same"));
        db.execute(TABLES);
        see_only_old(&db);
        let stream = Stream::new(&db, &["--tables", &selected(&db, &["old"])]);
        db.execute(
            "insert into late values (1, 10, 20); create table made (id int primary key, b int); alter table old add n int;
             insert into made values (1, 2); alter table made add column a int after id; insert into made values (2, 3, 4)",
        );
        db.execute(&format!(
            "grant select on {name}.late to {user}; grant select on {name}.made to {user}",
            user = db.user(),
            name = db.name()
        ));
        let all = selected(&db, &["old", "late", "made"]);
        let records = stream.run(&["--until", "current", "--tables", &all]).ok();
        let found: Vec<String> = brief(&records).into_iter().filter(|record| record.starts_with("c ")).collect();
        let expected =
            [r#"c late {"id":1,"a":10,"b":20}"#, r#"c made {"id":1,"b":2}"#, r#"c made {"id":2,"a":3,"b":4}"#];
        assert_eq!(found, expected, "{:?}", server.version());
        // From now on it is known as every other.
        db.execute("alter table late modify b int after id; insert into late values (5, 50, 5)");
        let records = stream.run(&["--until", "current", "--tables", &all]).ok();
        assert_eq!(rows(&records), [r#"c late {"id":5,"b":50,"a":5}"#], "{:?}", server.version());
    }
}
