use walbrook::error::{Class, Level};
use walbrook::source::postgres::connection::{Connection, Role};
use walbrook::source::postgres::conninfo::ConnInfo;
use walbrook::source::postgres::publication::{Ownership, Publication, drop_abandoned, drop_temporary, prepare};
use walbrook::source::postgres::slot::{self, CreateSlot, Created, SlotState};

use super::{connect, load, publish};
use crate::source::PATIENCE;
use crate::support::Server;

#[tokio::test]
async fn ours_grows_and_theirs_is_left_alone() {
    for server in Server::all() {
        let database = server.database("publication");
        database
            .psql("create table a (id int primary key); create table b (id int primary key) partition by hash (id)");
        let sql = connect(&database.url()).await;
        let version = sql.server_version_num();
        let read = async |name: &str| Publication::read(sql.client(), version, name).await.unwrap();

        assert!(publish(&sql, "ours", &load(&sql, "public.a").await.unwrap()).await.unwrap().created);
        let all = load(&sql, "").await.unwrap();
        let prepared = publish(&sql, "ours", &all).await.unwrap();
        assert!(!prepared.created);
        assert_eq!(prepared.added, [all.tables[1].oid]);
        assert_eq!(prepared.publication.missing(&all.tables).len(), 0);
        assert_eq!(read("ours").await.unwrap(), prepared.publication);
        drop_temporary(sql.client(), version, "ours").await.unwrap();
        assert!(read("ours").await.is_some());

        database.psql("create publication theirs for table a with (publish = 'insert')");
        let error = publish(&sql, "theirs", &all).await.unwrap_err();
        assert_eq!(error.class(), Class::Config);
        // The remedies are what mends it.
        for statement in error.remedy_text().unwrap().split("; ") {
            database.psql(statement);
        }
        let theirs = publish(&sql, "theirs", &all).await.unwrap();
        assert_eq!(theirs.publication.ownership, Ownership::Foreign);
        let findings = theirs.publication.findings(&all.tables);
        assert_eq!(findings.iter().map(|f| f.level).collect::<Vec<_>>(), [Level::Warning]);
        database.psql(findings[0].remedy.as_deref().unwrap());
        let theirs = read("theirs").await.unwrap();
        assert!(theirs.updates && theirs.deletes && theirs.truncates && theirs.via_root);

        database.psql("create publication everything for all tables with (publish_via_partition_root)");
        assert!(publish(&sql, "everything", &all).await.unwrap().publication.all_tables);
    }
}

#[tokio::test]
async fn a_temporary_one_goes_and_one_left_behind_too() {
    for server in Server::all() {
        let database = server.database("temporary");
        database.psql("create table a (id int primary key)");
        let sql = connect(&database.url()).await;
        let version = sql.server_version_num();
        let catalog = load(&sql, "").await.unwrap();
        let temporary = |slot: &str| Ownership::Temporary { slot: slot.into() };
        let exists =
            |name: &str| database.psql(&format!("select count(*) from pg_publication where pubname = '{name}'"));

        prepare(sql.client(), version, "tmp_mine", &temporary("tmp_mine"), &catalog).await.unwrap();
        let other = connect(&database.url()).await;
        assert!(drop_abandoned(other.client()).await.unwrap().is_empty(), "its session lives");
        drop_temporary(sql.client(), version, "tmp_mine").await.unwrap();
        assert_eq!(exists("tmp_mine"), "0");

        let dead = connect(&database.url()).await;
        prepare(dead.client(), version, "tmp_dead", &temporary("tmp_dead"), &catalog).await.unwrap();
        drop(dead);
        let mut dropped = Vec::new();
        let deadline = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < deadline {
            dropped = drop_abandoned(other.client()).await.unwrap();
            if !dropped.is_empty() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert_eq!(dropped, ["tmp_dead"]);
        assert_eq!(exists("tmp_dead"), "0");
    }
}

#[tokio::test]
async fn without_privileges_the_owners_statement_is_named() {
    for server in Server::all() {
        let database = server.database("privileges");
        let role = format!("reader_{}", database.name());
        database.psql(&format!(
            "create table a (id int primary key); create role {role} login password 'secret'; grant select on a to {role}"
        ));
        let sql = connect(&server.url_as(&role, database.name())).await;
        let error = publish(&sql, "p", &load(&sql, "").await.unwrap()).await.unwrap_err();
        let remedy = error.remedy_text().unwrap();
        assert_eq!(error.class(), Class::Config);
        database.psql(remedy.split_once("run: ").unwrap().1);
        publish(&sql, "p", &load(&sql, "").await.unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn slots_are_made_seen_and_dropped() {
    for server in Server::all() {
        let database = server.database("slots");
        let sql = connect(&database.url()).await;
        let version = sql.server_version_num();
        let info = ConnInfo::from_process(&database.url()).unwrap();
        let mut replication = Connection::connect(&info, Role::Replication).await.unwrap();
        let name = database.name();
        for (temporary, export_snapshot) in [(true, true), (true, false), (false, true)] {
            let slot = CreateSlot { name, temporary, export_snapshot, failover: true };
            let rows = replication.simple_query(&slot::create_command(version, &slot)).await.unwrap();
            let text = |column| rows[0].text(0, column).unwrap();
            let created = Created::from_columns(text("consistent_point"), text("snapshot_name")).unwrap();
            assert_eq!(created.snapshot.is_some(), export_snapshot);
            let state = SlotState::read(sql.client(), version, name).await.unwrap().unwrap();
            assert_eq!(state.confirmed_flush_lsn, Some(created.consistent_point));
            assert_eq!((state.temporary, state.failover), (temporary, !temporary && version >= 170_000));
            assert_eq!((state.foreign(name), state.invalidated()), (None, None));
            assert!(state.foreign("postgres").is_some());
            replication.simple_query(&slot::drop_command(name)).await.unwrap();
            assert_eq!(SlotState::read(sql.client(), version, name).await.unwrap(), None);
        }
    }
}
