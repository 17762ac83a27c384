//! Postgres: versions, settings, rights, slots, publications, tables.

use serde_json::json;
use walbrook::error::{Finding, Level};
use walbrook::source::postgres::check::{Wanted, check};
use walbrook::source::postgres::conninfo::ConnInfo;
use walbrook::source::postgres::discover::discover;
use walbrook::source::postgres::sql::Sql;
use walbrook::source::tables::Selection;

use crate::support::{Database, Server, Version};

async fn run(url: &str, tables: &str, slot: Option<&str>, publication: Option<&str>) -> Vec<Finding> {
    let selection = Selection::new(&walbrook::source::postgres::NAMES, &[tables], &[], &[], &[]).unwrap();
    let wanted = Wanted { selection: &selection, slot, publication, snapshot: true };
    let findings = check(&ConnInfo::from_process(url).unwrap(), &wanted).await.unwrap();
    for finding in &findings {
        assert_eq!(finding.level == Level::Ok, finding.remedy.is_none(), "{finding:?}");
    }
    findings
}

fn of<'f>(findings: &'f [Finding], subject: &str) -> &'f Finding {
    let found = findings.iter().find(|finding| finding.subject == subject);
    found.unwrap_or_else(|| panic!("nothing about {subject:?} in {findings:#?}"))
}

fn problems(findings: &[Finding]) -> Vec<&str> {
    findings.iter().filter(|f| f.level == Level::Problem).map(|f| f.subject.as_str()).collect()
}

/// A role of the test's own, with a password and REPLICATION.
fn role(database: &Database<'_>, rights: &str) -> String {
    let role = format!("role_{}", database.name());
    database.psql(&format!("create role {role} login password 'secret' {rights}"));
    role
}

#[tokio::test]
async fn a_good_server_passes() {
    for server in Server::all() {
        let database = server.database("good");
        database.psql("create table t (id int primary key)");
        for (slot, publication) in [(None, None), (Some("good"), Some("good"))] {
            let findings = run(&database.url(), "", slot, publication).await;
            assert_eq!(problems(&findings), [""; 0], "{findings:#?}");
        }
        // Nothing was made.
        assert_eq!(database.psql("select count(*) from pg_publication"), "0");
    }
}

#[tokio::test]
async fn every_right_is_missed_and_its_remedy_gives_it() {
    for server in Server::all() {
        let database = server.database("rights");
        database.psql(
            "create schema shop; create table shop.t (id int primary key, secret text);
             create table shop.p (id int primary key) partition by hash (id);
             create table shop.p0 partition of shop.p for values with (modulus 1, remainder 0);
             create table shop.hidden (id int primary key); alter table shop.hidden enable row level security",
        );
        let role = role(&database, "");
        let url = server.url_as(&role, database.name());
        let findings = run(&url, "shop.*", Some("s"), Some("p")).await;
        let expected = [
            "REPLICATION privilege",
            "replication connection",
            "publication p",
            "SELECT privilege on shop.hidden",
            "SELECT privilege on shop.p0",
            "SELECT privilege on shop.t",
            "row security of shop.hidden",
        ];
        assert_eq!(problems(&findings), expected);
        for finding in findings.iter().filter(|f| f.level == Level::Problem) {
            let remedy = finding.remedy.as_deref().unwrap();
            let statement = remedy.rsplit_once("primary: ").map_or(remedy, |(_, sql)| sql);
            if finding.subject != "replication connection" {
                database.psql(statement);
            }
        }
        assert_eq!(problems(&run(&url, "shop.*", Some("s"), Some("p")).await), [""; 0]);

        // One column is not readable: no problem unless it is wanted.
        database.psql(&format!("revoke select on shop.t from {role}; grant select (id) on shop.t to {role}"));
        assert_eq!(problems(&run(&url, "shop.t", Some("s"), Some("p")).await), ["SELECT privilege on shop.t"]);
        let selection =
            Selection::new(&walbrook::source::postgres::NAMES, &["shop.t"], &[], &[], &["shop.t.secret"]).unwrap();
        let wanted = Wanted { selection: &selection, slot: Some("s"), publication: Some("p"), snapshot: true };
        assert_eq!(problems(&check(&ConnInfo::from_process(&url).unwrap(), &wanted).await.unwrap()), [""; 0]);
    }
}

#[tokio::test]
async fn replica_identities_are_warned_about_table_by_table() {
    for server in Server::all() {
        let database = server.database("identity");
        database.psql(
            r#"create table good (id int primary key);
               create table no_key (id int);
               create table "odd ""one""" (id int);
               create table nothing (id int primary key); alter table nothing replica identity nothing;
               create table deferred (id int primary key deferrable);
               create table by_index (id int not null); create unique index gone on by_index (id);
               alter table by_index replica identity using index gone; drop index gone;
               create table fully (id int); alter table fully replica identity full;
               create table root (id int primary key) partition by hash (id);
               create table leaf partition of root for values with (modulus 1, remainder 0);
               alter table leaf replica identity nothing"#,
        );
        let findings = run(&database.url(), "", None, None).await;
        assert_eq!(problems(&findings), [""; 0]);
        let warned = findings.iter().filter_map(|f| f.subject.strip_prefix("replica identity of public."));
        let mut warned: Vec<&str> = warned.collect();
        warned.sort_unstable();
        assert_eq!(warned, ["by_index", "deferred", "leaf", "no_key", "nothing", "odd \"one\""]);
        // They are right: the server refuses, until the remedy is there.
        let refused = |table: &str| server.try_psql(&database.url(), &format!("delete from {table}")).is_err();
        database.psql("create publication all_of_them for all tables");
        for finding in &findings {
            let Some(table) = finding.subject.strip_prefix("replica identity of public.") else { continue };
            let table = format!("\"{}\"", table.replace('"', "\"\""));
            database.psql(&format!("insert into {} values (1)", if table == "\"leaf\"" { "root" } else { &table }));
            assert!(refused(&table), "{table}");
            database.psql(finding.remedy.as_deref().unwrap().split(", or").next().unwrap());
            assert!(!refused(&table), "{table}");
        }
        let findings = run(&database.url(), "", None, None).await;
        assert!(!findings.iter().any(|f| f.subject.starts_with("replica identity of")), "{findings:#?}");
    }
}

#[tokio::test]
async fn slots_and_publications_of_others() {
    for server in Server::all() {
        let database = server.database("others");
        let (ours, theirs) = (database.name(), format!("{}_decoding", database.name()));
        database.psql(&format!(
            "create table a (id int primary key, x int, y int); create table b (id int primary key);
             select pg_create_logical_replication_slot('{ours}', 'pgoutput');
             select pg_create_logical_replication_slot('{theirs}', 'test_decoding');
             create publication p for table a (x, y) with (publish = 'insert, delete')"
        ));
        let findings = run(&database.url(), "", Some(ours), Some("p")).await;
        assert_eq!(of(&findings, &format!("slot {ours}")).level, Level::Ok);
        let publication: Vec<_> = findings.iter().filter(|f| f.subject == "publication p").map(|f| f.level).collect();
        assert_eq!(publication, [Level::Problem, Level::Warning, Level::Warning]);
        let findings = run(&database.url(), "", Some(&theirs), None).await;
        assert!(of(&findings, &format!("slot {theirs}")).message.contains("test_decoding"));
        let other = server.database("elsewhere");
        other.psql("create table a (id int primary key)");
        let findings = run(&other.url(), "", Some(ours), None).await;
        assert_eq!(of(&findings, &format!("slot {ours}")).level, Level::Problem);
        let findings = run(&database.url(), "", Some("Not a name"), None).await;
        assert_eq!(problems(&findings), ["slot Not a name"]);
        let findings = run(&database.url(), "public.nope", Some(ours), None).await;
        assert!(of(&findings, "tables").message.contains("public.nope"));
    }
}

#[tokio::test]
async fn a_server_that_is_not_set_up() {
    let settings = [
        "wal_level=replica",
        "max_replication_slots=1",
        "max_wal_senders=0",
        "max_slot_wal_keep_size=16MB",
        "wal_sender_timeout=0",
    ];
    for version in Version::ALL {
        let Some(server) = Server::own(version, &settings) else { continue };
        server.psql("postgres", "create table t (id int primary key); select pg_create_physical_replication_slot('x')");
        let findings = run(&server.url("postgres"), "", Some("s"), Some("p")).await;
        let expected = ["wal_level", "replication slots", "wal senders", "replication connection"];
        assert_eq!(problems(&findings), expected, "{findings:#?}");
        assert_eq!(of(&findings, "max_slot_wal_keep_size").level, Level::Warning);
        assert_eq!(of(&findings, "wal_sender_timeout").level, Level::Warning);
    }
}

#[tokio::test]
async fn a_lost_slot_and_a_standby() {
    for version in Version::ALL {
        let Some(server) =
            Server::own(version, &["max_slot_wal_keep_size=1MB", "max_wal_size=32MB", "min_wal_size=32MB"])
        else {
            continue;
        };
        server.psql("postgres", "create table t (id int primary key, x text)");
        server.psql("postgres", "select pg_create_logical_replication_slot('s', 'pgoutput')");
        for _ in 0..6 {
            server.psql("postgres", "insert into t select 1 + coalesce((select max(id) from t), 0), 'x'");
            server.psql("postgres", "select pg_switch_wal(); checkpoint");
        }
        let findings = run(&server.url("postgres"), "", Some("s"), Some("p")).await;
        let lost = of(&findings, "slot s");
        assert_eq!(lost.level, Level::Problem, "{lost:?}");
        assert!(lost.message.contains("invalidated"), "{lost:?}");

        server.stop("fast");
        std::fs::write(server.file("data/standby.signal"), "").unwrap();
        server.start();
        let findings = run(&server.url("postgres"), "", None, Some("p")).await;
        let level = if version.number() < 16 { Level::Problem } else { Level::Warning };
        assert_eq!(of(&findings, "standby").level, level);
        assert!(of(&findings, "publication p").message.contains("standby"));
    }
}

#[tokio::test]
async fn discover_lists_what_there_is() {
    for server in Server::all() {
        let database = server.database("discover");
        let sql = Sql::connect(&ConnInfo::from_process(&database.url()).unwrap()).await.unwrap();
        let found = discover(&sql, &Selection::default()).await.unwrap();
        assert_eq!((&found["tables"], &found["database"]), (&json!([]), &json!(database.name())));

        database.psql(
            "create table t (a int, b numeric(5,2) not null, g int generated always as (a + 1) stored, primary key (b, a));
             insert into t select n, 1 from generate_series(1, 100) n; analyze t;
             create table p (id int primary key) partition by hash (id);
             create table p0 partition of p for values with (modulus 1, remainder 0);
             create unlogged table u (a int); create view v as select 1 as x",
        );
        let found = discover(&sql, &Selection::default()).await.unwrap();
        let tables = found["tables"].as_array().unwrap();
        assert_eq!(tables.iter().map(|t| t["table"].as_str().unwrap()).collect::<Vec<_>>(), ["p", "t"]);
        let column = |name, source_type, generated: Option<&str>, nullable: bool| json!({ "name": name, "type": source_type, "nullable": nullable, "generated": generated });
        assert_eq!(
            tables[1],
            json!({
                "schema": "public", "table": "t", "kind": "table", "key": ["b", "a"], "replica_identity": "default",
                "updates": true, "rows_estimate": 100, "bytes": tables[1]["bytes"], "partitions": [],
                "columns": [
                    column("a", "integer", None, false),
                    column("b", "numeric(5,2)", None, false),
                    column("g", "integer", Some("stored"), true),
                ],
            })
        );
        assert!(tables[1]["bytes"].as_u64().unwrap() >= 8192);
        assert_eq!(tables[0]["partitions"][0]["table"], "p0");
        let left_out = found["left_out"].as_array().unwrap();
        assert_eq!(left_out.iter().map(|t| t["table"].as_str().unwrap()).collect::<Vec<_>>(), ["u", "v"]);
    }
}
