//! Walbrook as the replica that commits wait for.

use std::path::Path;

use super::MySql;
use crate::source::Subject;
use crate::source::program::{Program, eventually};
use crate::support::mysql::{Server, Version};
use crate::support::walbrook;

const T: &str = "create table t (id int primary key); create table other (id int primary key);
    create table first (id int auto_increment primary key)";
/// Commits of each kind.
const COMMITS: usize = 20;

/// The names of the server's half differ.
fn side(version: Version) -> &'static str {
    if version.is_mariadb() { "master" } else { "source" }
}

fn status(server: &Server, name: &str) -> String {
    let name = format!("Rpl_semi_sync_{}_{name}", side(server.version()));
    let row = server.sql("", &format!("show global status like '{name}'"));
    row.split_once('|').expect("a status").1.to_owned()
}

/// A server whose commits wait for a replica where there is one, for 50 s.
fn waiting_server(version: Version) -> Option<Server> {
    let plugin = if version.is_mariadb() { &[][..] } else { &["plugin-load-add=semisync_source.so"] };
    let server = Server::own(version, plugin)?;
    let side = side(version);
    let replicas = if version.is_mariadb() { "slave" } else { "replica" };
    server.sql(
        "",
        &format!(
            "set global rpl_semi_sync_{side}_wait_no_{replicas} = OFF; set global rpl_semi_sync_{side}_timeout = 50000;
             set global rpl_semi_sync_{side}_enabled = ON"
        ),
    );
    Some(server)
}

/// Streams the table `t` and acknowledges. `interval`: see `commit_interval`.
fn acknowledging(db: &MySql<'_>, dir: &Path, interval: &str) -> Program {
    let config = format!(
        "source: {{ url: '{}', tables: ['{}.t'], snapshot: never, semi_sync: true }}
commit_interval: {interval}
state_dir: {}
sinks: [{{ type: stdout }}]
",
        db.url(),
        db.name(),
        dir.join("state").display()
    );
    let path = dir.join("walbrook.yaml");
    std::fs::write(&path, config).unwrap();
    let mut command = walbrook();
    command.args(["run", "--config"]).arg(path);
    let program = Program::start(command);
    eventually("it is a replica", || status(db.server(), "clients") == "1");
    // It is waited for when it has caught up.
    eventually("it is waited for", || {
        db.execute("insert into first values ()");
        status(db.server(), "status") == "ON"
    });
    program
}

/// Positions are stored once a minute: whatever waited for that would not be acknowledged in the time that the server waits.
#[test]
fn what_nobody_wants_is_acknowledged_at_once() {
    for version in Version::ALL {
        let Some(server) = waiting_server(version) else { continue };
        let db = MySql::new(server.database("semi"));
        db.execute(T);
        let dir = tempfile::tempdir().unwrap();
        let program = acknowledging(&db, dir.path(), "1m");
        let before: usize = status(&server, "yes_tx").parse().unwrap();
        let mut session = db.session();
        for id in 0..COMMITS {
            session.execute(&format!("insert into other values ({id})"));
        }
        let after: usize = status(&server, "yes_tx").parse().unwrap();
        assert_eq!((after - before, &*status(&server, "status")), (COMMITS, "ON"), "{version:?}");
        assert!(program.stop().ok().is_empty());
    }
}

/// What is wanted is acknowledged when it is in the sink and the position is stored.
#[test]
fn what_is_wanted_is_acknowledged_when_it_is_held() {
    for version in Version::ALL {
        let Some(server) = waiting_server(version) else { continue };
        let db = MySql::new(server.database("semi"));
        db.execute(T);
        let dir = tempfile::tempdir().unwrap();
        let program = acknowledging(&db, dir.path(), "1ms");
        let before: usize = status(&server, "yes_tx").parse().unwrap();
        let mut session = db.session();
        for id in 0..COMMITS {
            session.execute(&format!("insert into t values ({id}); insert into other values ({id})"));
        }
        let after: usize = status(&server, "yes_tx").parse().unwrap();
        assert_eq!((after - before, &*status(&server, "status")), (2 * COMMITS, "ON"), "{version:?}");
        assert_eq!(program.stop().ok().len(), COMMITS);
    }
}
