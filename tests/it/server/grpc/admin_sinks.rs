//! Sinks under an operator's hand: paused, resumed, put elsewhere, begun anew.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use tonic::{Code, Status};
use walbrook::proto::v1::admin_client::AdminClient;
use walbrook::proto::v1::{self, member};

use super::{Db, Sidecar, on_each};
use crate::source::eventually;
use crate::support::free_port;

/// An operator of a running sidecar.
struct Operator {
    runtime: Runtime,
    admin: AdminClient<Channel>,
}

fn sink(name: &str) -> Option<v1::Member> {
    Some(v1::Member { member: Some(member::Member::Sink(name.to_owned())) })
}

impl Operator {
    fn of(sidecar: &Sidecar) -> Operator {
        let (runtime, channel) = sidecar.connect();
        Operator { runtime, admin: AdminClient::new(channel) }
    }

    fn pause(&mut self, name: &str) {
        self.runtime.block_on(self.admin.pause(v1::PauseRequest { member: sink(name) })).expect("a pause");
    }

    fn resume(&mut self, name: &str) {
        self.runtime.block_on(self.admin.resume(v1::ResumeRequest { member: sink(name) })).expect("to go on");
    }

    fn state(&mut self, name: &str) -> v1::SinkState {
        let status = self.runtime.block_on(self.admin.get_status(v1::GetStatusRequest {})).expect("a status");
        status.into_inner().sinks.into_iter().find(|sink| sink.name == name).expect("the sink").state()
    }

    /// Everything before is stored of both sinks.
    fn confirmed(&mut self) -> Option<v1::Position> {
        let status = self.runtime.block_on(self.admin.get_status(v1::GetStatusRequest {})).expect("a status");
        status.into_inner().source.expect("a source").confirmed
    }

    fn position(&mut self, name: &str) -> Option<v1::Position> {
        let asked = self.admin.get_offsets(v1::GetOffsetsRequest { verify: false });
        let offsets = self.runtime.block_on(asked).expect("offsets").into_inner().offsets;
        offsets.into_iter().find(|offset| offset.member == sink(name)).expect("the sink").position
    }

    fn set(
        &mut self,
        name: &str,
        position: &Option<v1::Position>,
        expected: &Option<v1::Position>,
    ) -> Result<(), Status> {
        let (member, position, expected) = (sink(name), position.clone(), expected.clone());
        let request = v1::SetOffsetRequest { member, position, expected };
        self.runtime.block_on(self.admin.set_offset(request)).map(drop)
    }

    fn reset(&mut self, name: &str, expected: &Option<v1::Position>) -> Result<(), Status> {
        let request = v1::ResetOffsetRequest { member: sink(name), expected: expected.clone() };
        self.runtime.block_on(self.admin.reset_offset(request)).map(drop)
    }
}

/// A sidecar with the file sinks `a` and `b`.
fn start(db: &Db, port: u16, dir: tempfile::TempDir) -> Sidecar {
    let file = |name: &str| format!("  - {{ name: {name}, type: file, path: {:?} }}\n", path(dir.path(), name));
    let sinks = format!("sinks:\n{}{}", file("a"), file("b"));
    Sidecar::start_with(db, &format!("  tables: ['{}']\n", db.tables), &sinks, port, dir)
}

fn path(dir: &Path, sink: &str) -> PathBuf {
    dir.join(format!("{sink}.ndjson"))
}

/// The operation and the id of each whole record in a sink's file.
fn held(sidecar: &Sidecar, sink: &str) -> Vec<(String, i64)> {
    let text = std::fs::read_to_string(path(sidecar.dir.path(), sink)).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let record = |line: &str| {
        let record: Value = serde_json::from_str(line).expect("a record");
        Some((record["op"].as_str()?.to_owned(), record["key"]["id"].as_i64()?))
    };
    whole.lines().filter_map(record).collect()
}

fn ids(sidecar: &Sidecar, sink: &str) -> Vec<i64> {
    held(sidecar, sink).into_iter().map(|(_, id)| id).collect()
}

fn insert(db: &Db, id: i64) {
    db.sql(&format!("insert into t values ({id}, 'x')"));
}

#[test]
fn a_paused_sink_takes_nothing_and_goes_on_where_it_was_also_behind_a_crash() {
    on_each("pauses", |db| {
        db.sql("create table t (id int primary key, v varchar(40)); insert into t values (1, 'a')");
        let sidecar = start(db, free_port(), tempfile::tempdir().expect("a folder"));
        let mut operator = Operator::of(&sidecar);
        insert(db, 2);
        eventually("both have it", || ids(&sidecar, "a") == [1, 2] && ids(&sidecar, "b") == [1, 2]);
        eventually("the end of the snapshot is stored", || operator.confirmed().is_some());
        operator.pause("a");
        assert_eq!(operator.state("a"), v1::SinkState::Paused);
        assert_eq!(operator.state("b"), v1::SinkState::Running);
        let at = operator.position("a");
        insert(db, 3);
        eventually("the other goes on", || ids(&sidecar, "b") == [1, 2, 3]);
        eventually("the position of the other moves", || operator.position("b") != at);
        assert_eq!((ids(&sidecar, "a"), operator.position("a")), (vec![1, 2], at));
        drop(operator);
        let (port, dir) = sidecar.killed();
        insert(db, 4);
        let sidecar = start(db, port, dir);
        let mut operator = Operator::of(&sidecar);
        eventually("the other goes on", || ids(&sidecar, "b") == [1, 2, 3, 4]);
        assert_eq!((operator.state("a"), ids(&sidecar, "a")), (v1::SinkState::Paused, vec![1, 2]));
        operator.resume("a");
        eventually("it has all of it, once", || ids(&sidecar, "a") == [1, 2, 3, 4]);
        assert_eq!(operator.state("a"), v1::SinkState::Running);
        // Paused, it does not hold up the end.
        operator.pause("a");
        insert(db, 5);
        sidecar.program.stop().ok();
    });
}

#[test]
fn a_sink_is_put_elsewhere_and_begun_anew_while_the_stream_goes_on() {
    on_each("moves", |db| {
        db.sql("create table t (id int primary key, v varchar(40)); insert into t values (1, 'a')");
        let sidecar = start(db, 0, tempfile::tempdir().expect("a folder"));
        let mut operator = Operator::of(&sidecar);
        insert(db, 2);
        eventually("both have it", || ids(&sidecar, "a") == [1, 2] && ids(&sidecar, "b") == [1, 2]);
        operator.pause("b");
        let early = operator.position("b");
        insert(db, 3);
        insert(db, 4);
        eventually("one has it", || ids(&sidecar, "a") == [1, 2, 3, 4]);
        eventually("its position moves", || operator.position("a") != early);
        // One that runs is not moved, nor one that is not where it is thought to be.
        let now = operator.position("a");
        assert_eq!(operator.set("a", &early, &now).unwrap_err().code(), Code::FailedPrecondition);
        operator.pause("a");
        let late = operator.position("a");
        assert_eq!(operator.set("a", &early, &early).unwrap_err().code(), Code::FailedPrecondition);
        assert_eq!(operator.set("a", &early, &None).unwrap_err().code(), Code::FailedPrecondition);
        let elsewhere =
            v1::Position { token: Default::default(), text: NOWHERE[usize::from(db.is_mysql())].to_owned() };
        let refused = operator.set("a", &Some(elsewhere), &late).unwrap_err();
        assert!(matches!(refused.code(), Code::OutOfRange | Code::InvalidArgument), "{refused:?}");
        assert_eq!(operator.position("a"), late, "nothing is changed");
        // Back: what the other one holds the log for comes again. Forward: it is skipped.
        operator.set("a", &early, &late).expect("to be set");
        operator.set("b", &late, &early).expect("to be set");
        assert_eq!((operator.position("a"), operator.position("b")), (early.clone(), late.clone()));
        assert_eq!(operator.state("a"), v1::SinkState::Paused);
        operator.resume("a");
        operator.resume("b");
        insert(db, 5);
        eventually("it comes again", || ids(&sidecar, "a") == [1, 2, 3, 4, 3, 4, 5]);
        eventually("it is skipped", || ids(&sidecar, "b") == [1, 2, 5]);
        // Begun anew, with the rows as they are; nobody has to resume it.
        operator.pause("b");
        let stored = operator.position("b");
        operator.reset("b", &stored).expect("to be reset");
        eventually("its snapshot comes", || {
            let mut again = held(&sidecar, "b").split_off(3);
            again.sort();
            again == [1, 2, 3, 4, 5].map(|id| ("r".to_owned(), id))
        });
        insert(db, 6);
        eventually("both go on", || {
            ids(&sidecar, "a").ends_with(&[5, 6]) && held(&sidecar, "b").last() == Some(&("c".to_owned(), 6))
        });
        assert_eq!(operator.state("b"), v1::SinkState::Running);
        sidecar.program.stop().ok();
    });
}

/// Positions that no log covers: of Postgres, of the others.
const NOWHERE: [&str; 2] = ["0/10", "walbrook-bin.999999:4"];
