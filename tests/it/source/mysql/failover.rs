//! Another server takes over while a stream runs.

use super::{MySql, ids_of, last_id_of};
use crate::source::Subject;
use crate::source::program::{Stream, eventually};
use crate::support::mysql::{Server, Version};

const T: &str = "create table t (id int primary key, v varchar(200))";

/// One URL of both, in this order.
fn either(first: &Server, second: &Server) -> String {
    let (one, other) = (first.url_as("root"), format!(",127.0.0.1:{}/", second.port()));
    format!("{}{other}", one.trim_end_matches('/'))
}

/// Of two domains by turns, where the server has them: their GTIDs are not of one sequence.
fn write(server: &Server, database: &str, rows: std::ops::Range<u64>) {
    let insert = |id: u64| {
        let domain = format!("set session gtid_domain_id = {};", 1 + id % 2);
        let domain = if server.version().is_mariadb() { &*domain } else { "" };
        format!("{domain} insert into t values ({id}, repeat('x', 100));")
    };
    server.sql(database, &rows.map(insert).collect::<String>());
}

#[test]
fn a_replica_takes_over_within_one_run() {
    for version in Version::ALL {
        let Some(primary) = Server::own(version, &[]) else { continue };
        let replica = primary.replica();
        let db = MySql::new(primary.database("taken_over"));
        // So that files and offsets differ.
        db.execute(&format!("flush binary logs; {T}; flush binary logs"));
        let stream = Stream::new(&db, &[]);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("out.ndjson");
        let command = || stream.command(&either(&primary, &replica), &["--output", file.to_str().unwrap()]);
        let program = crate::source::program::Program::start(command());
        let has = |last: u64| replica.sql(db.name(), "select coalesce(max(id), 0) from t") == last.to_string();
        write(&primary, db.name(), 1..50);
        eventually("the first rows are there", || ids_of(&file).len() == 49);
        eventually("the replica has them", || has(49));
        // Rows that the replica has and we have not: they wait in the socket, and further ones nowhere.
        program.signal("STOP");
        write(&primary, db.name(), 50..100);
        eventually("the replica has these too", || has(99));
        primary.stop("kill");
        replica.sql(
            "",
            if version.is_mariadb() { "stop slave; reset slave all" } else { "stop replica; reset replica all" },
        );
        // A connection there with the number that ours had on the server that is gone is somebody else's.
        let mut others: Vec<_> = (0..40).map(|_| replica.session(db.name())).collect();
        others.iter_mut().for_each(|other| assert_eq!(other.sql("select 1"), ["1"]));
        program.signal("CONT");
        write(&replica, db.name(), 100..150);
        eventually("those of the new server are there", || last_id_of(&file) == Some(149));
        assert_eq!(ids_of(&file), (1..150).collect::<Vec<_>>(), "{}: {}", version.name(), program.log());
        program.stop().ok();
        others.iter_mut().for_each(|other| assert_eq!(other.sql("select 1"), ["1"], "nobody else was disturbed"));
        write(&replica, db.name(), 150..160);
        let again = crate::source::program::Program::start(command());
        eventually("the next run goes on", || last_id_of(&file) == Some(159));
        again.stop().ok();
        assert_eq!(ids_of(&file), (1..160).collect::<Vec<_>>(), "{}", version.name());
    }
}

/// Nothing tells where on the other server the stream would have to go on.
#[test]
fn without_gtids_another_server_is_no_way_on() {
    let settings = ["gtid-mode=OFF", "enforce-gtid-consistency=OFF"];
    let (Some(one), Some(other)) = (Server::own(Version::MySql97, &settings), Server::own(Version::MySql97, &settings))
    else {
        return;
    };
    let db = MySql::new(one.database("not_taken_over"));
    db.execute(T);
    other.sql("", &format!("create database {}", db.name()));
    other.sql(db.name(), &format!("{T}; insert into t values (1, '')"));
    let stream = Stream::new(&db, &[]);
    let url = either(&one, &other);
    let program = crate::source::program::Program::start(stream.command(&url, &[]));
    write(&one, db.name(), 1..4);
    program.wait_for(3);
    one.stop("kill");
    let log = program.end().failed(3);
    assert!(log.contains("another server") && log.contains("without GTIDs"), "{log}");
    // The first one is the one that is needed.
    one.start();
    write(&one, db.name(), 4..6);
    let found: Vec<u64> = stream.changes().iter().map(|record| record["after"]["id"].as_u64().unwrap()).collect();
    assert_eq!(found, [4, 5]);
}
