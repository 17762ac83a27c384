//! Schema history against the servers: after every statement the tables are what information_schema says, from the log alone.

mod keys;
mod random;

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

use walbrook::record::{BinlogPosition, Seen};
use walbrook::source::mysql::NAMES;
use walbrook::source::mysql::catalog::Catalog;
use walbrook::source::mysql::connection::Connection;
use walbrook::source::mysql::schema::{Definition, Effect, History, Host, Statement, TableDef};
use walbrook::source::mysql::server::Server as Described;
use walbrook::source::mysql::url::ConnInfo;
use walbrook::source::tables::Selection;
use walbrook::wire::mysql::event::{Body, Flavor, Format};

use crate::support::mysql::{Server, Version};

/// Files begin with as many bytes of their own.
const MAGIC_BYTES: u64 = 4;
const HEADER_BYTES: usize = 19;

/// A server, its log as read so far, and the history of what was read.
struct Follower<'s> {
    server: &'s Server,
    connection: Connection,
    described: Described,
    runtime: tokio::runtime::Runtime,
    history: History,
    log: PathBuf,
    at: u64,
    format: Format,
    /// The definitions that TABLE_MAPs without names were matched with.
    maps: usize,
    /// The key that the last TABLE_MAP of a table names; of `binlog_row_metadata=FULL`.
    logged: BTreeMap<String, Vec<u16>>,
    /// It does not hear of statements: what it knows of tables it has from TABLE_MAPs alone, or is no longer so.
    deaf: bool,
    wrong: Vec<String>,
}

impl<'s> Follower<'s> {
    fn new(server: &'s Server) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let info = ConnInfo::from_process(&server.url_as("root")).unwrap();
        let (connection, described) = runtime.block_on(async {
            use walbrook::source::mysql::ask::Ask;
            let mut connection = Connection::connect(&info).await.unwrap();
            let rows = connection.rows(&Described::variables_statement(), "asking").await.unwrap();
            let pair = |mut row: Vec<Option<String>>| (row.remove(0).unwrap(), row.remove(0).unwrap_or_default());
            (connection, Described::from_rows(rows.into_iter().map(pair)).unwrap())
        });
        let mut client = server.session("");
        client.sql("create database w_a character set latin1");
        client.sql("flush binary logs");
        let name = client.sql("show binary logs").pop().unwrap().split('|').next().unwrap().to_owned();
        let log = server.file(&format!("data/{name}"));
        let flavor = if server.version().is_mariadb() { Flavor::MariaDb } else { Flavor::MySql };
        let mut history = History::new(Host::of(&described));
        history.prime_database("w_a", "latin1_swedish_ci");
        let format = Format::unknown(flavor);
        Follower {
            server,
            connection,
            described,
            runtime,
            history,
            log,
            at: MAGIC_BYTES,
            format,
            maps: 0,
            logged: BTreeMap::new(),
            deaf: false,
            wrong: Vec::new(),
        }
    }

    fn position(&self) -> Arc<BinlogPosition> {
        Arc::new(BinlogPosition {
            server: 1,
            file: "binlog.000002".into(),
            offset: self.at,
            file_created_unix_s: 1,
            seen: Seen::Nothing,
        })
    }

    /// Reads the log to its end.
    fn follow(&mut self) -> Vec<Effect> {
        let mut file = std::fs::File::open(&self.log).expect("the server's log");
        file.seek(SeekFrom::Start(self.at)).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        let mut rest = &bytes[..];
        let mut effects = Vec::new();
        while rest.len() >= HEADER_BYTES {
            let size = u32::from_le_bytes(rest[9..13].try_into().unwrap()) as usize;
            let Some((event, behind)) = rest.split_at_checked(size) else { break };
            rest = behind;
            let event = self.format.open(event).unwrap();
            let at = self.position();
            self.at += size as u64;
            match event.parse(&self.format).unwrap() {
                Body::FormatDescription(description) => self.format = description.format,
                Body::Query(query) if !self.deaf => {
                    let statement = Statement {
                        database: query.database,
                        sql: std::str::from_utf8(query.statement).unwrap(),
                        variables: query.variables().unwrap(),
                    };
                    effects.extend(self.history.apply(&statement, &at));
                }
                // A sequence is a table to MariaDB's log.
                Body::TableMap(map) if map.database != "mysql" && map.table != "sq" => {
                    self.maps += 1;
                    let key = map.describe().unwrap().key.iter().map(|part| part.column as u16).collect();
                    self.logged.insert(format!("{}.{}", map.database, map.table), key);
                    match self.history.reconcile(&map, &at) {
                        Ok(seen) if self.deaf || seen.previous.is_none() => {}
                        other => self.wrong.push(format!("a TABLE_MAP of {}.{}: {other:?}", map.database, map.table)),
                    }
                }
                _ => {}
            }
        }
        effects
    }

    /// The tables of the test's databases, as information_schema has them.
    fn catalog(&mut self) -> BTreeMap<String, TableDef> {
        let none: [&str; 0] = [];
        let selection = Selection::new(&NAMES, &["w_*.*"], &none, &none, &none).unwrap();
        let catalog = Catalog::survey(&mut self.connection, &self.described, &selection);
        let catalog = self.runtime.block_on(catalog).unwrap();
        catalog.tables.iter().map(|table| (table.def.to_string(), TableDef::clone(&table.def).canonical())).collect()
    }

    /// Runs a statement; what the server refuses changes nothing. Where the history is not the catalog then, it is said and
    /// made so.
    fn run(&mut self, sql: &str) -> Result<Vec<Effect>, String> {
        let client = self.server.client("127.0.0.1", "root", "w_a");
        let outcome = self.server.try_sql(client, sql);
        let effects = self.follow();
        let wrong = self.compare();
        let shown = format!("after {sql}\n{}", wrong.join("\n"));
        self.wrong.extend((!wrong.is_empty()).then_some(shown));
        outcome.map(|_| effects)
    }

    /// The same on the test's own connection, in its default database; whether the server took it.
    fn execute(&mut self, sql: &str) -> bool {
        let taken = self.runtime.block_on(self.connection.execute(sql)).is_ok();
        let before = self.at;
        self.follow();
        // What is not logged has changed no table, refused or not.
        if self.at != before && !self.deaf {
            let wrong = self.compare();
            let shown = format!("after {sql}\n{}", wrong.join("\n"));
            self.wrong.extend((!wrong.is_empty()).then_some(shown));
        }
        taken
    }

    /// Forgets all, and takes the tables as the catalog has them.
    fn begin_anew(&mut self) {
        self.history = History::new(Host::of(&self.described));
        let names = "select schema_name, default_collation_name from information_schema.schemata";
        for line in self.server.sql("", names).lines() {
            let (name, collation) = line.split_once('|').unwrap();
            self.history.prime_database(name, collation);
        }
        for table in self.catalog().values() {
            self.history.prime(table);
        }
    }

    fn compare(&mut self) -> Vec<String> {
        let catalog = self.catalog();
        let mut wrong = Vec::new();
        for (name, expected) in &catalog {
            match self.history.table(&expected.database, &expected.name) {
                None => {
                    let why = self.history.doubt(&expected.database, &expected.name);
                    wrong.push(format!("{name} is not known: {why:?}"));
                }
                Some(known) if by_name(&known.table) == by_name(&named_alone(&known.table, expected)) => {
                    continue;
                }
                Some(known) => wrong.push(format!("{name}\n{}", differences(&known.table, expected))),
            }
            self.history.prime(expected);
        }
        let others = self.history.tables().map(|known| known.table.to_string());
        let stale = others.filter(|name| name.starts_with("w_") && !catalog.contains_key(name));
        wrong.extend(stale.map(|name| format!("{name} is gone and known")));
        wrong
    }
}

/// Without the indexes that the server makes of foreign keys, which nothing of ours follows.
fn named_alone(known: &TableDef, expected: &TableDef) -> TableDef {
    let is_known = |name: &str| known.plain.iter().any(|index| &*index.name == name);
    let plain = expected.plain.iter().filter(|index| is_known(&index.name)).cloned().collect();
    TableDef { plain, ..expected.clone() }
}

/// Indexes that let rows be equal have no order that matters.
fn by_name(table: &TableDef) -> TableDef {
    let mut table = table.clone();
    table.plain.sort_by(|a, b| a.name.cmp(&b.name));
    table
}

fn differences(known: &TableDef, expected: &TableDef) -> String {
    let mut lines = Vec::new();
    for at in 0..known.columns.len().max(expected.columns.len()) {
        let (known, expected) = (known.columns.get(at), expected.columns.get(at));
        if known != expected {
            lines.push(format!("known    {known:?}\nexpected {expected:?}"));
        }
    }
    let rest = |table: &TableDef| {
        let TableDef { key, unique, plain, collation, engine, system_versioned, .. } = table;
        format!("{key:?} {unique:?} {plain:?} {collation} {engine} {system_versioned}")
    };
    if rest(known) != rest(expected) {
        lines.push(format!("known    {}\nexpected {}", rest(known), rest(expected)));
    }
    lines.join("\n")
}

/// Statements both servers have; a line each.
const BOTH: &str = include_str!("history/both.sql");
const MYSQL: &str = include_str!("history/mysql.sql");
const MARIADB: &str = include_str!("history/mariadb.sql");

fn script(version: Version) {
    let Some(server) = Server::own(version, &["binlog-row-metadata=MINIMAL"]) else { return };
    let mut follower = Follower::new(&server);
    let own = if version.is_mariadb() { MARIADB } else { MYSQL };
    let mut count = 0;
    for sql in BOTH.lines().chain(own.lines()).filter(|line| !line.is_empty() && !line.starts_with("-- ")) {
        count += 1;
        // `10.11: …` is for that version on.
        let (since, sql) = match sql.split_once(": ") {
            Some((since, sql)) if since.chars().all(|c| c.is_ascii_digit() || c == '.') => (Some(since), sql),
            _ => (None, sql),
        };
        match follower.run(sql) {
            Ok(effects) => {
                let unknown = effects.iter().find(|effect| matches!(effect, Effect::Unknown { .. }));
                let unknown = unknown.map(|effect| format!("{sql}: {effect:?}"));
                follower.wrong.extend(unknown);
            }
            Err(error) if since.is_none() => follower.wrong.push(format!("refused: {sql}\n    {error}")),
            Err(_) => {}
        }
    }
    let wrong = &follower.wrong;
    assert!(wrong.is_empty(), "{}: {} differences\n{}", version.name(), wrong.len(), wrong.join("\n"));
    assert!(count > 100 && follower.maps > 10, "{count} statements, {} maps", follower.maps);
    survives_its_bytes(&mut follower);
}

/// What is stored is what is known, here and at an earlier position.
fn survives_its_bytes(follower: &mut Follower<'_>) {
    let state =
        follower.history.take_entries().into_iter().filter_map(|entry| Some((entry.key, entry.value?))).collect();
    let host = Host::of(&follower.described);
    let restored = History::load(host.clone(), &state, &follower.position()).unwrap();
    let sorted = |history: &History| {
        let mut tables: Vec<Arc<Definition>> = history.tables().cloned().collect();
        tables.sort_by_key(|definition| definition.table.to_string());
        tables
    };
    assert_eq!(sorted(&restored), sorted(&follower.history));
}

#[test]
fn mysql_9_7_follows_the_script() {
    script(Version::MySql97);
}

#[test]
fn mariadb_10_5_follows_the_script() {
    script(Version::MariaDb105);
}

#[test]
fn mariadb_10_11_follows_the_script() {
    script(Version::MariaDb1011);
}

#[test]
fn mariadb_11_8_follows_the_script() {
    script(Version::MariaDb118);
}
