//! The crash tests on Postgres.

use std::sync::Arc;

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::target::{Cells, Connect, Db, Dialect, Failed, Target};
use crate::support::Database;

const SCHEMA: &str = "
    create table orders (id bigint primary key, part int, writer int, seq bigint, n int, note text, big text, big_sum bigint, sum bigint) with (fillfactor = 95);
    create table pairs (id bigint, part text, writer int, seq bigint, n int, note text, big text, big_sum bigint, sum bigint, primary key (part, id));
    create table loose (id bigint, part int, writer int, seq bigint, n int, note text, big text, big_sum bigint, sum bigint);
    alter table loose replica identity full;
    create index on loose (id);
    create table parts (id bigint, part int, writer int, seq bigint, n int, note text, big text, big_sum bigint, sum bigint, primary key (id, part)) partition by list (part);
    create table parts_0 partition of parts for values in (0, 1);
    create table parts_1 partition of parts for values in (2);
    create table parts_2 partition of parts for values in (3);
    create table side (id bigint primary key, part int, writer int, seq bigint, n int, note text, big text, big_sum bigint, sum bigint);
    create table ledger (writer int, seq bigint, ops int, digest bigint, primary key (writer, seq));
    alter table orders alter big set storage external;
    alter table pairs alter big set storage external;
    alter table loose alter big set storage external;
    alter table parts alter big set storage external;
    alter table parts_0 alter big set storage external;
    alter table parts_1 alter big set storage external;
    alter table parts_2 alter big set storage external;
";

impl Target for Database<'_> {
    fn name(&self) -> String {
        self.name().to_owned()
    }
    fn version(&self) -> String {
        format!("PostgreSQL {}", self.server().version().number())
    }
    fn dialect(&self) -> Dialect {
        Dialect {
            schema: SCHEMA,
            partition_moves: true,
            truncates: true,
            text: "text",
            // What VACUUM frees in early pages is where later rows move to.
            tidy: Some("vacuum"),
        }
    }
    fn source(&self, round: &str) -> String {
        format!("url: {}\n  tables: [public.*]\n  slot: {round}\n  publication: {round}", self.url())
    }
    fn connect(&self) -> Connect {
        let url = self.url();
        Arc::new(move || connect(&url))
    }
    fn filled(&self) {
        self.psql("vacuum analyze");
    }
    fn end_of_log(&self) -> u64 {
        self.place(&self.psql("select pg_current_wal_lsn()")).expect("an LSN")
    }
    fn place(&self, position: &str) -> Result<u64, String> {
        let (high, low) = position.split_once('/').ok_or_else(|| format!("no LSN: {position:?}"))?;
        let part = |text| u64::from_str_radix(text, 16).map_err(|error| format!("{position:?}: {error}"));
        Ok(part(high)? << 32 | part(low)?)
    }
    fn released(&self, round: &str) -> Option<u64> {
        let slot = format!("select confirmed_flush_lsn from pg_replication_slots where slot_name = '{round}'");
        Some(self.place(&self.psql(&slot)).expect("an LSN"))
    }
    fn crash(&self) {
        self.server().stop("immediate");
    }
    fn start(&self) {
        self.server().start();
    }
    fn close(&self, round: &str) {
        self.psql(&format!("select pg_drop_replication_slot('{round}'); drop publication {round}"));
    }
}

struct Connection {
    runtime: tokio::runtime::Runtime,
    client: Client,
}

fn connect(url: &str) -> Result<Box<dyn Db>, Failed> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let (client, connection) = runtime.block_on(tokio_postgres::connect(url, NoTls)).map_err(failed)?;
    runtime.spawn(connection);
    Ok(Box::new(Connection { runtime, client }))
}

/// Class 57 is operator intervention, 08 a connection exception, 40 a deadlock; without a code the connection broke.
fn failed(error: tokio_postgres::Error) -> Failed {
    let passing = |code: &str| ["57", "08", "40"].iter().any(|class| code.starts_with(class));
    let passes = error.as_db_error().is_none_or(|error| passing(error.code().code()));
    Failed { passes, message: error.to_string() }
}

impl Db for Connection {
    fn run(&mut self, sql: &str) -> Result<(), Failed> {
        self.runtime.block_on(self.client.batch_execute(sql)).map_err(failed)
    }
    fn rows(&mut self, sql: &str) -> Result<Vec<Cells>, Failed> {
        let messages = self.runtime.block_on(self.client.simple_query(sql)).map_err(failed)?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|n| row.get(n).map(str::to_owned)).collect()),
            _ => None,
        });
        Ok(rows.collect())
    }
}
