//! What is exported, without a database: every family, by the rules, and as the README says.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use walbrook::error::{Class, Error};
use walbrook::flow::{
    BatchWriter, Budget, Deliver, Draft, Extent, Observation, Outlet, Phase, Progress, Reading, Role,
};
use walbrook::record::{Cell, Identity, Lineage, Lsn, Origin, Position, Seq, StateEntry, TableSchema, Txn};
use walbrook::server::http::{described, render};

use super::openmetrics::Page;
use crate::support::project;

struct Lsns;

impl Extent for Lsns {
    fn bytes(&self, position: &Position) -> Option<u64> {
        position.lsn().ok().map(|lsn| lsn.0)
    }
}

/// Gives every batch to its members at once.
struct Instantly {
    progress: Arc<Progress>,
    idle: tokio::sync::Notify,
}

#[async_trait]
impl Deliver for Instantly {
    fn deliver(&self, draft: Draft) -> Seq {
        let batch = draft.number(Seq(1));
        self.progress.members().iter().for_each(|member| member.durable(&batch, &self.progress));
        Seq(1)
    }
    fn stored(&self) -> tokio::sync::watch::Receiver<Seq> {
        tokio::sync::watch::channel(Seq(1)).1
    }
    fn is_idle(&self) -> bool {
        true
    }
    fn idle(&self) -> &tokio::sync::Notify {
        &self.idle
    }
}

const NAME: &str = "with \"quotes\", \\ and\nlines";

/// A pipeline's numbers, none of them absent.
async fn everything() -> Arc<Progress> {
    let progress = Arc::new(Progress::default());
    progress.watch();
    let lineage = Lineage {
        kind: "postgres".into(),
        system: "7".into(),
        timeline: "1".into(),
        database: "shop".into(),
        stream: "walbrook".into(),
    };
    let budget = Budget::new(1 << 20);
    let (_confirmed, receiver) = tokio::sync::watch::channel(Some(Position::Postgres(Lsn(100))));
    progress.begins(&lineage, budget.clone(), receiver);
    progress.extent_is(Arc::new(Lsns));
    progress.enter(Phase::Stream);
    progress.member(Role::Sink, "files").begins(Some(Position::Postgres(Lsn(100))));
    progress.member(Role::Consumer, "audit").begins(Some(Position::Postgres(Lsn(90))));
    let readings = walbrook::source::measures().map(|measure| {
        let label = if measure.label.is_some() { "lost" } else { "" };
        Reading { measure, label, value: 7.0 }
    });
    progress.observed(Observation { end_bytes: Some(500), readings: readings.collect(), trouble: None });
    let failure = Error::transient("a failure");
    progress.source.add(&failure);
    progress.tries_again(&progress.source, &failure);
    progress.connected();
    progress.member(Role::Sink, "files").failures.add(&Error::data("a value"));
    let lane = progress.beside(Some(&progress.member(Role::Consumer, "audit")));
    lane.source.add(&failure);
    lane.tries_again(&lane.source, &failure);
    progress.read_end_bytes.set(400);
    let deliver = Arc::new(Instantly { progress: progress.clone(), idle: tokio::sync::Notify::new() });
    let mut writer = BatchWriter::new(Outlet::new(budget, deliver, progress.clone()), Origin::Stream);
    let table = TableSchema {
        id: 1,
        version: 1,
        database: "shop".into(),
        namespace: "public".into(),
        name: NAME.into(),
        columns: Box::default(),
        key: Box::default(),
        identity: Identity::Default,
    };
    progress.committed(1_700_000_000_000_000);
    writer.begin(Txn {
        commit: Position::Postgres(Lsn(150)),
        id: None,
        commit_unix_micros: Some(1_700_000_000_000_000),
    });
    let table = writer.batch().table(&Arc::new(table));
    writer.batch().truncate(table, false, false, 1);
    let cells = writer.batch().cells_start();
    writer.batch().cells_mut().extend([Cell::at(0, 3), Cell::at(3, 5)]);
    writer.batch().message(cells, true, 2);
    writer.batch().frame("abcdefgh".into());
    writer.commit(3, Position::Postgres(Lsn(200)));
    writer.stage(StateEntry { key: vec![1], value: None });
    let permit = writer.permit().await;
    writer.send(permit);
    progress
}

#[tokio::test]
async fn every_family_is_exported_by_the_rules() {
    let progress = everything().await;
    let text = render(&progress).unwrap();
    let page = Page::read(&text).unwrap_or_else(|why| panic!("{why}\n{text}"));
    let exported: BTreeSet<String> = page.families.iter().map(|family| family.name.clone()).collect();
    let plain = |name: &str| name.trim_end_matches("_total").trim_end_matches("_info").to_owned();
    let wanted: BTreeSet<String> = described().iter().map(|family| plain(&family.name)).collect();
    assert_eq!(exported, wanted);
    let table = format!("public.{NAME}");
    let value =
        |name: &str, labels: &[(&str, &str)]| page.value(name, labels).unwrap_or_else(|| panic!("{name}\n{text}"));
    assert_eq!(
        value("walbrook_events_total", &[("table", &table), ("operation", "truncate"), ("source", "postgres")]),
        1.0
    );
    assert_eq!(value("walbrook_event_row_bytes_total", &[("operation", "message")]), 8.0);
    assert_eq!(value("walbrook_transactions_total", &[]), 1.0);
    for (noun, name) in [("sink", "files"), ("consumer", "audit")] {
        let of = |what: &str| value(&format!("walbrook_{noun}_{what}"), &[(noun, name)]);
        assert_eq!((of("position_bytes"), of("lag_bytes")), (200.0, 300.0));
        assert_eq!((of("commit_to_durable_seconds_count"), of("durable_lag_bytes_count")), (1.0, 1.0));
        assert_eq!(of("durable_lag_bytes_sum"), 300.0);
        assert!(of("lag_seconds") > 1e6 && of("commit_to_durable_seconds_sum") > 1e6, "committed long ago");
    }
    assert_eq!(value("walbrook_sink_errors_total", &[("sink", "files"), ("class", Class::Data.name())]), 1.0);
    let transient = ("class", "transient");
    assert_eq!(value("walbrook_source_errors_total", &[transient]), 1.0);
    assert_eq!(value("walbrook_source_reconnects_total", &[transient]), 1.0);
    for errors in ["errors", "reconnects"] {
        assert_eq!(value(&format!("walbrook_consumer_{errors}_total"), &[("consumer", "audit"), transient]), 1.0);
    }
    assert_eq!(value("walbrook_reconnects_total", &[transient]), 2.0);
    assert_eq!(value("walbrook_reconnects_total", &[("class", "data")]), 0.0, "it was not tried again");
    assert_eq!((value("walbrook_source_lag_bytes", &[]), value("walbrook_source_log_end_bytes", &[])), (400.0, 500.0));
    assert_eq!((value("walbrook_ready", &[]), value("walbrook_sink_failing", &[("sink", "files")])), (0.0, 1.0));
    assert_eq!(value("walbrook_phase", &[("phase", "stream")]), 1.0);
}

#[test]
fn what_is_not_known_is_absent() {
    let text = render(&Arc::new(Progress::default())).unwrap();
    let page = Page::read(&text).unwrap_or_else(|why| panic!("{why}\n{text}"));
    for name in ["walbrook_source_lag_bytes", "walbrook_source_log_end_bytes", "walbrook_source_look_age_seconds"] {
        assert_eq!(page.value(name, &[]), None, "{name}");
    }
    assert_eq!(
        (page.value("walbrook_ready", &[]), page.value("walbrook_phase", &[("phase", "starting")])),
        (Some(0.0), Some(1.0))
    );
}

/// The rows of the README: `walbrook_sink_…` stands for `walbrook_consumer_…` too.
#[test]
fn the_readme_lists_what_is_exported() {
    let readme = std::fs::read_to_string(project("README.md")).unwrap();
    let is_row = |line: &&str| line.starts_with("| `walbrook_") || line.starts_with("| `process_");
    let listed: Vec<&str> = readme.lines().filter(is_row).collect();
    let families = described().into_iter().filter(|family| !family.name.starts_with("walbrook_consumer_"));
    let rows: Vec<String> = families
        .map(|family| {
            format!("| `{}` | {} | {} | {} |", family.name, family.kind, family.labels.join(", "), family.help)
        })
        .collect();
    assert!(listed == rows, "the README's table of metrics should be:\n{}", rows.join("\n"));
    let of = |noun: &str| {
        let prefix = format!("walbrook_{noun}_");
        let names =
            described().into_iter().filter_map(move |family| family.name.strip_prefix(&prefix).map(str::to_owned));
        names.collect::<Vec<_>>()
    };
    assert_eq!(of("sink"), of("consumer"));
}
