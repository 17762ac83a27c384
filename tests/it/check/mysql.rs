//! MySQL and MariaDB: settings, rights, tables, and what the catalog says of them.

use serde_json::{Value, json};
use walbrook::error::{Finding, Level};
use walbrook::source::mysql::NAMES;
use walbrook::source::mysql::ask::{Ask, text};
use walbrook::source::mysql::catalog::Catalog;
use walbrook::source::mysql::check::{Wanted, check};
use walbrook::source::mysql::connection::Connection;
use walbrook::source::mysql::discover::discover;
use walbrook::source::mysql::server::Server as Facts;
use walbrook::source::mysql::url::ConnInfo;
use walbrook::source::tables::Selection;

use crate::support::mysql::{Server, Version};

async fn connect(url: &str) -> (Connection, Facts) {
    let mut connection = Connection::connect(&ConnInfo::from_process(url).unwrap()).await.unwrap();
    let rows = connection.rows(&Facts::variables_statement(), "asking").await.unwrap();
    let facts = Facts::from_rows(rows.iter().map(|row| (text(row, 0).into(), text(row, 1).into()))).unwrap();
    (connection, facts)
}

fn select(tables: &str) -> Selection {
    Selection::new(&NAMES, &[tables], &[], &[], &[]).unwrap()
}

async fn run(url: &str, tables: &str, server_id: Option<u32>) -> Vec<Finding> {
    let (mut connection, facts) = connect(url).await;
    let selection = select(tables);
    let wanted = Wanted { selection: &selection, server_id, snapshot: true };
    let findings = check(&mut connection, "it", &facts, &wanted, None).await.unwrap();
    for finding in &findings {
        assert_eq!(finding.level == Level::Ok, finding.remedy.is_none(), "{finding:?}");
    }
    connection.close().await;
    findings
}

fn of<'f>(findings: &'f [Finding], subject: &str) -> &'f Finding {
    let found = findings.iter().find(|finding| finding.subject == subject);
    found.unwrap_or_else(|| panic!("nothing about {subject:?} in {findings:#?}"))
}

fn not_ok(findings: &[Finding]) -> Vec<&Finding> {
    findings.iter().filter(|finding| finding.level != Level::Ok).collect()
}

/// The statements of a remedy, without its prose.
fn statements(remedy: &str) -> String {
    let sql = remedy.split(", and the same").next().unwrap_or(remedy);
    sql.split("; then let").next().unwrap_or(sql).to_owned() + ";"
}

#[tokio::test]
async fn a_good_server_passes() {
    for server in Server::all() {
        let database = server.database("good");
        database.sql("create table t (id int primary key, v int)");
        let findings = run(&database.url(), &format!("{}.*", database.name()), Some(77)).await;
        let lock = server.version() == Version::MySql97;
        assert!(not_ok(&findings).is_empty(), "{lock} {:#?}", not_ok(&findings));
        assert_eq!(of(&findings, "tables").message, "1 table");
    }
}

#[tokio::test]
async fn each_setting_is_broken_and_its_remedy_mends_it() {
    for version in [Version::MySql97, Version::MariaDb1011, Version::MariaDb118] {
        let Some(server) = Server::own(version, &[]) else { continue };
        server.sql("", "create database x; create table x.t (id int primary key)");
        let mut broken = vec![
            ("binlog_format", "set global binlog_format = 'MIXED'", Level::Problem),
            ("binlog_format", "set global binlog_format = 'STATEMENT'", Level::Problem),
            ("binlog_row_image", "set global binlog_row_image = 'MINIMAL'", Level::Warning),
            ("binlog_row_image", "set global binlog_row_image = 'NOBLOB'", Level::Warning),
            ("binlog_row_metadata", "set global binlog_row_metadata = 'MINIMAL'", Level::Warning),
            ("binlog_expire_logs_seconds", "set global binlog_expire_logs_seconds = 3600", Level::Warning),
        ];
        if !version.is_mariadb() {
            let off = "set global gtid_mode = ON_PERMISSIVE; set global gtid_mode = OFF_PERMISSIVE; set global gtid_mode = OFF;
                       set global enforce_gtid_consistency = OFF";
            broken.push((
                "binlog_row_value_options",
                "set global binlog_row_value_options = 'PARTIAL_JSON'",
                Level::Warning,
            ));
            broken.push(("gtid_mode", off, Level::Warning));
        }
        let url = server.url_as("cdc");
        for (subject, sql, level) in broken {
            server.sql("", sql);
            let findings = run(&url, "x.*", None).await;
            let finding = of(&findings, subject);
            assert_eq!(finding.level, level, "{version:?} {sql}: {finding:?}");
            server.sql("", &statements(finding.remedy.as_deref().unwrap()));
            let findings = run(&url, "x.*", None).await;
            let mended = findings.iter().filter(|finding| finding.subject == subject);
            assert!(mended.into_iter().all(|finding| finding.level == Level::Ok), "{version:?} {sql}: {findings:#?}");
        }
        let own = run(&url, "x.*", Some(1)).await;
        assert!(of(&own, "server_id").message.contains("the server's own"));
    }
}

#[tokio::test]
async fn a_server_without_a_log_says_so() {
    for version in [Version::MySql97, Version::MariaDb118] {
        let Some(server) = Server::own(version, &["skip-log-bin"]) else { continue };
        server.sql("", "create database x; create table x.t (id int primary key)");
        let findings = run(&server.url_as("cdc"), "x.*", None).await;
        assert_eq!(of(&findings, "log_bin").level, Level::Problem);
        assert_eq!(of(&findings, "tables").level, Level::Ok, "the rest is looked at");
    }
}

#[tokio::test]
async fn rights_that_are_missing_are_granted_by_the_remedies() {
    for server in Server::all() {
        let database = server.database("rights");
        let (name, user) = (database.name().to_owned(), format!("poor_{}", database.name()));
        let user = &user[..user.len().min(32)];
        database.sql(&format!(
            "create table a (id int primary key, secret int); create table b (id int primary key);
             create user {user} identified by 'secret'; grant select (id) on {name}.a to {user};
             grant insert on {name}.b to {user}"
        ));
        let findings = run(&server.url_as(user), &format!("{name}.*"), None).await;
        let problems: Vec<&str> =
            findings.iter().filter(|f| f.level == Level::Problem).map(|f| f.subject.as_str()).collect();
        let client = if server.version().is_mariadb() { "BINLOG MONITOR right" } else { "REPLICATION CLIENT right" };
        let table = |table: &str| format!("table {name}.{table}");
        let (a, b) = (table("a"), table("b"));
        // Of a table with a right on one column, MySQL lists that column alone.
        for expected in ["REPLICATION SLAVE right", client, b.as_str()] {
            assert!(problems.contains(&expected), "{expected} is not in {problems:?}");
        }
        assert!(
            problems.iter().all(|problem| ["REPLICATION SLAVE right", client, &a, &b].contains(problem)),
            "{problems:?}"
        );
        assert_eq!(of(&findings, "snapshot lock").level, Level::Warning);
        for finding in not_ok(&findings) {
            database.sql(&statements(finding.remedy.as_deref().unwrap()));
        }
        let findings = run(&server.url_as(user), &format!("{name}.*"), None).await;
        assert!(not_ok(&findings).is_empty(), "{:?} {:#?}", server.version(), not_ok(&findings));
        // A table that nothing is granted of is not there.
        database.sql(&format!("revoke all privileges, grant option from {user}"));
        let findings = run(&server.url_as(user), &format!("{name}.b"), None).await;
        let tables = of(&findings, "tables");
        assert!(
            tables.level == Level::Problem && tables.remedy.as_deref().unwrap().contains("GRANT SELECT"),
            "{tables:?}"
        );
        database.sql(&format!("drop user {user}"));
    }
}

#[tokio::test]
async fn rights_by_a_role_count() {
    for server in Server::all() {
        let database = server.database("role");
        let (name, role) = (database.name().to_owned(), format!("r_{}", database.user()));
        let user = format!("u_{}", database.user());
        let (more, default) = match server.version().is_mariadb() {
            true => ("", format!("set default role {role} for {user}")),
            false => (", xa_recover_admin", format!("set default role {role} to {user}")),
        };
        database.sql(&format!(
            "create table t (id int primary key); create role {role}; create user {user} identified by 'secret';
             grant select, reload, process, replication slave, replication client{more} on *.* to {role}; grant {role} to {user};
             {default}"
        ));
        let findings = run(&server.url_as(&user), &format!("{name}.*"), None).await;
        assert!(not_ok(&findings).is_empty(), "{:?} {:#?}", server.version(), not_ok(&findings));
        database.sql(&format!("drop user {user}; drop role {role}"));
    }
}

#[tokio::test]
async fn tables_that_say_less_are_named() {
    for server in Server::all() {
        let database = server.database("less");
        let name = database.name();
        database.sql(
            "create table keyless (a int); create table isam (a int primary key) engine = myisam;
             create table nullable (a int, unique (a)); create view v as select 1",
        );
        let findings = run(&database.url(), &format!("{name}.*,nowhere.*"), None).await;
        let found = not_ok(&findings);
        let says = |text: &str| found.iter().any(|finding| finding.message.contains(text));
        assert!(says(&format!("{name}.keyless, {name}.nullable: without a primary key")), "{found:#?}");
        assert!(says(&format!("{name}.isam: of engine MyISAM")), "{found:#?}");
        assert!(says("\"nowhere.*\" matches no table"), "{found:#?}");
        let findings = run(&database.url(), &format!("{name}.v"), None).await;
        assert!(of(&findings, "tables").message.contains("it is a view"));
    }
}

#[tokio::test]
async fn a_replica_that_does_not_log_what_it_replicates() {
    for (version, setting, start) in [
        (
            Version::MySql97,
            "log-replica-updates=OFF",
            "change replication source to source_host = '127.0.0.1', source_user = 'x', source_auto_position = 1",
        ),
        (Version::MariaDb118, "log-slave-updates=OFF", "change master to master_host = '127.0.0.1', master_user = 'x'"),
    ] {
        let Some(server) = Server::own(version, &[setting]) else { continue };
        server.sql("", "create database x; create table x.t (id int primary key)");
        let alone = run(&server.url_as("root"), "x.*", None).await;
        assert!(not_ok(&alone).iter().all(|finding| finding.level != Level::Problem), "{:#?}", not_ok(&alone));
        server.sql("", start);
        let findings = run(&server.url_as("root"), "x.*", None).await;
        let replica = findings.iter().find(|finding| finding.message.contains("is a replica"));
        assert_eq!(replica.map(|finding| finding.level), Some(Level::Problem), "{findings:#?}");
    }
}

async fn discovered(url: &str, tables: &str) -> Value {
    let (mut connection, facts) = connect(url).await;
    let found = discover(&mut connection, &facts, &select(tables)).await.unwrap();
    connection.close().await;
    found
}

#[tokio::test]
async fn discover_lists_what_there_is() {
    for server in Server::all() {
        let mariadb = server.version().is_mariadb();
        let database = server.database("discover");
        let name = database.name();
        database.sql(
            "create table t (id bigint unsigned auto_increment primary key, v varchar(9) not null, g int as (v + 1) stored,
                             h int as (v + 2) virtual invisible);
             create table `odd ``.name` (`we ird` int, b text, unique (`we ird`)) engine = innodb;
             create table parts (id int not null primary key) partition by hash (id) partitions 3;
             insert into t (v) values ('1'), ('2'); analyze table t; create view v as select 1",
        );
        let url = database.url();
        let mut found = discovered(&url, &format!("{name}.*")).await;
        assert_eq!(found["source"], if mariadb { "mariadb" } else { "mysql" });
        assert_eq!(found["left_out"], json!([{ "schema": name, "table": "v", "why": "a view" }]));
        let tables = found["tables"].as_array_mut().unwrap();
        let kinds: Vec<(&str, &str, &Value)> =
            tables.iter().map(|t| (t["table"].as_str().unwrap(), t["kind"].as_str().unwrap(), &t["key"])).collect();
        let (none, id) = (json!([]), json!(["id"]));
        assert_eq!(kinds, [("odd `.name", "table", &none), ("parts", "partitioned", &id), ("t", "table", &id)]);
        assert_eq!(tables[2]["rows_estimate"], 2);
        let int = if mariadb { "int(11)" } else { "int" };
        let id = if mariadb { "bigint(20) unsigned" } else { "bigint unsigned" };
        let column = |name: &str, kind: &str, nullable, generated: Option<&str>, invisible| json!({ "name": name, "type": kind, "nullable": nullable, "generated": generated, "invisible": invisible });
        assert_eq!(
            tables[2]["columns"],
            json!([
                column("id", id, false, None, false),
                column("v", "varchar(9)", false, None, false),
                column("g", int, true, Some("stored"), false),
                column("h", int, true, Some("virtual"), true),
            ])
        );
    }
}

/// The order of SHOW INDEX decides between several.
#[tokio::test]
async fn the_key_is_what_the_server_clusters_by() {
    for server in Server::all() {
        let database = server.database("keys");
        let name = database.name();
        database.sql(
            "create table several (a int not null, b varchar(10) not null, c int not null, d int,
                                   unique y (d), unique z (b), unique x (c, a));
             create table prefixes (a varchar(99) not null, b int not null, unique p (a(3)), unique q (b));
             create table late (a int not null, b int not null, unique k (b), primary key (a))",
        );
        let found = discovered(&database.url(), &format!("{name}.*")).await;
        let keys: Vec<(&str, &Value)> =
            found["tables"].as_array().unwrap().iter().map(|t| (t["table"].as_str().unwrap(), &t["key"])).collect();
        assert_eq!(keys, [("late", &json!(["a"])), ("prefixes", &json!(["b"])), ("several", &json!(["b"]))]);
    }
}

/// Columns that the log has and a `SELECT *` has not: as many as the server says there are in its rows events.
#[tokio::test]
async fn hidden_columns_are_where_the_log_has_them() {
    for server in Server::all() {
        let database = server.database("hidden");
        let name = database.name();
        let (tables, expected): (&str, &[(&str, &[&str])]) = match server.version().is_mariadb() {
            true => (
                "create table plain (a int, b text, unique (b));
                 create table versioned (a int primary key, b text, c text, unique (b), unique (c)) with system versioning;
                 create table named (a int primary key, s timestamp(6) generated always as row start,
                                     e timestamp(6) generated always as row end, period for system_time (s, e))
                     with system versioning",
                &[
                    ("named", &["a", "s", "e"]),
                    ("plain", &["a", "b", "DB_ROW_HASH_1"]),
                    ("versioned", &["a", "b", "c", "row_start", "row_end", "DB_ROW_HASH_1", "DB_ROW_HASH_2"]),
                ],
            ),
            false => (
                "set sql_generate_invisible_primary_key = on; create table gipk (a int);
                 create table functional (a int not null primary key, unique ((a + 1)))",
                &[("functional", &["a"]), ("gipk", &["my_row_id", "a"])],
            ),
        };
        database.sql(tables);
        let (mut connection, facts) = connect(&database.url()).await;
        let catalog = Catalog::load(&mut connection, &facts, &select(&format!("{name}.*"))).await.unwrap();
        let names: Vec<(&str, Vec<&str>)> = catalog
            .tables
            .iter()
            .map(|table| (&*table.def.name, table.def.columns.iter().map(|column| &*column.name).collect()))
            .collect();
        let expected: Vec<(&str, Vec<&str>)> =
            expected.iter().map(|(name, columns)| (*name, columns.to_vec())).collect();
        assert_eq!(names, expected, "{:?}", server.version());
    }
}

#[tokio::test]
async fn names_are_compared_as_the_server_compares_them() {
    for version in [Version::MariaDb1011, Version::MariaDb118] {
        let Some(server) = Server::own(version, &["lower-case-table-names=1"]) else { continue };
        server.sql("", "create database Shop; create table Shop.Orders (Id int primary key, Secret int)");
        let (mut connection, facts) = connect(&server.url_as("cdc")).await;
        let selection = Selection::new(&NAMES, &["SHOP.orders"], &[], &[], &["shop.ORDERS.secret"]).unwrap();
        let catalog = Catalog::load(&mut connection, &facts, &selection).await.unwrap();
        assert!(catalog.ignores_table_case && catalog.warnings.is_empty(), "{:?}", catalog.warnings);
        assert_eq!(catalog.tables[0].def.to_string(), "shop.orders");
    }
}
