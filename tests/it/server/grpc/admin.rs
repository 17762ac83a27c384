//! What an operator sees and does.

use tonic::Code;
use tonic::transport::Channel;
use walbrook::proto::v1::admin_client::AdminClient;
use walbrook::proto::v1::{self, member};

use super::{Sidecar, on_each};
use crate::source::eventually;

fn consumer(name: &str) -> Option<v1::Member> {
    Some(v1::Member { member: Some(member::Member::Consumer(name.to_owned())) })
}

async fn status_of(admin: &mut AdminClient<Channel>, name: &str) -> Option<v1::ConsumerStatus> {
    let status = admin.get_status(v1::GetStatusRequest {}).await.expect("a status").into_inner();
    status.consumers.into_iter().find(|consumer| consumer.name == name)
}

#[test]
fn status_offsets_pause_and_reset() {
    on_each("admin", |db| {
        db.sql("create table t (id int primary key, v varchar(40)); insert into t values (1, 'a')");
        let sidecar = Sidecar::start(db, &[]);
        let reader = sidecar.subscribe(&["--consumer", "audit"]);
        reader.wait_for_log("subscribed");
        let (runtime, channel) = sidecar.connect();
        let mut admin = AdminClient::new(channel);
        let status = runtime.block_on(admin.get_status(v1::GetStatusRequest {})).expect("a status").into_inner();
        assert_eq!(status.source.as_ref().expect("a source").state(), v1::SourceState::Streaming, "{status:?}");
        assert!(!status.server.expect("a server").system.is_empty());
        assert!(status.sinks.is_empty());
        let tables =
            runtime.block_on(admin.list_tables(v1::ListTablesRequest::default())).expect("tables").into_inner();
        let t = tables.tables[0].schema.as_ref().expect("a shape");
        assert_eq!((tables.tables.len(), t.name.as_str(), t.columns.len(), &t.key[..]), (1, "t", 2, &[0][..]));
        let before = runtime.block_on(status_of(&mut admin, "audit")).expect("the consumer");
        assert!(before.peer.starts_with("127.0.0.1:"), "{before:?}");
        db.sql("insert into t values (2, 'b')");
        reader.wait_for(1);
        eventually("it is acknowledged", || {
            let now = runtime.block_on(status_of(&mut admin, "audit")).expect("the consumer");
            now.unacknowledged == 0 && now.position != before.position
        });

        // A consumer that is attached is not moved; a paused one has no client.
        let offsets = |admin: &mut AdminClient<Channel>, verify| {
            let found = runtime.block_on(admin.get_offsets(v1::GetOffsetsRequest { verify }));
            found.expect("offsets").into_inner().offsets.into_iter().find(|offset| offset.member == consumer("audit"))
        };
        let set = |admin: &mut AdminClient<Channel>, position: Option<v1::Position>, expected| {
            let request = v1::SetOffsetRequest { member: consumer("audit"), position, expected };
            runtime.block_on(admin.set_offset(request)).map_err(|status| status.code())
        };
        let start = offsets(&mut admin, false).expect("an offset").position;
        assert_eq!(set(&mut admin, start.clone(), start.clone()).unwrap_err(), Code::FailedPrecondition);
        runtime.block_on(admin.pause(v1::PauseRequest { member: consumer("audit") })).expect("a pause");
        let log = reader.end().failed(2);
        assert!(log.contains("FailedPrecondition"), "{log}");
        let refused = sidecar.subscribe(&["--consumer", "audit"]).end().failed(2);
        assert!(refused.contains("paused"), "{refused}");
        runtime.block_on(admin.resume(v1::ResumeRequest { member: consumer("audit") })).expect("to go on");
        eventually("nobody is attached", || {
            let found = runtime.block_on(status_of(&mut admin, "audit")).expect("the consumer");
            found.state() == v1::ConsumerState::Parked
        });

        // The guard holds, and a position that is set is where it goes on.
        let known = offsets(&mut admin, true).expect("an offset");
        assert_eq!(known.coverage(), v1::Coverage::Valid, "{known:?}");
        let other = Some(v1::Position { token: Default::default(), text: "0/10".to_owned() });
        assert_eq!(set(&mut admin, known.position.clone(), other).unwrap_err(), Code::FailedPrecondition);
        assert_eq!(set(&mut admin, known.position.clone(), None).unwrap_err(), Code::FailedPrecondition);
        set(&mut admin, known.position.clone(), known.position.clone()).expect("to be set");
        let reader = sidecar.subscribe(&["--consumer", "audit"]);
        reader.wait_for_log("subscribed");
        db.sql("insert into t values (3, 'c')");
        let came = reader.wait_for(1);
        assert_eq!(came.last().expect("a record")["key"]["id"], 3);
        reader.stop().ok();

        // Forgotten, it is unknown.
        eventually("it can be reset", || {
            let expected = offsets(&mut admin, false).and_then(|offset| offset.position);
            let request = v1::ResetOffsetRequest { member: consumer("audit"), expected };
            runtime.block_on(admin.reset_offset(request)).is_ok()
        });
        assert!(runtime.block_on(status_of(&mut admin, "audit")).is_none());
        let pause = runtime.block_on(admin.pause(v1::PauseRequest { member: consumer("audit") }));
        assert_eq!(pause.unwrap_err().code(), Code::NotFound);
        let sink = Some(v1::Member { member: Some(member::Member::Sink("audit".to_owned())) });
        assert_eq!(
            runtime.block_on(admin.pause(v1::PauseRequest { member: sink })).unwrap_err().code(),
            Code::NotFound
        );
        runtime.block_on(admin.shutdown(v1::ShutdownRequest::default())).expect("to begin to stop");
        sidecar.program.end().ok();
    });
}
