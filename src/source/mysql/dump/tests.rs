use super::*;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::error::Class;
use crate::source::mysql::error::code;
use crate::source::tls::Stream;
use crate::wire::mysql::protocol::packet;

/// A dump that has begun, and the server's end of it.
fn dump(semi_sync: bool) -> (Dump, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    let mut transport = Transport::new(Stream::Unix(near), 0);
    if semi_sync {
        transport.ignore_sequence();
    }
    let silence = Duration::from_millis(200);
    (Dump { transport, connection_id: 1, silence, semi_sync, skipped_bytes: 0, expected_bytes: 0 }, far)
}

fn event(length: usize) -> Vec<u8> {
    let mut event: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
    event[EVENT_LENGTH_AT..][..4].copy_from_slice(&(length as u32).to_le_bytes());
    event
}

async fn send(far: &mut UnixStream, payloads: &[Vec<u8>]) {
    let (mut bytes, mut sequence) = (Vec::new(), 0);
    for payload in payloads {
        sequence = packet::write(payload, sequence, &mut bytes);
    }
    far.write_all(&bytes).await.unwrap();
}

#[tokio::test]
async fn events_lie_where_they_are_said_to_in_the_frame() {
    for before in [vec![0], vec![0, command::SEMI_SYNC, 1]] {
        let (mut dump, mut far) = dump(before.len() == 3);
        let events = [event(30), event(19), event(4000)];
        send(&mut far, &events.clone().map(|event| [before.clone(), event].concat())).await;
        let mut at = Vec::new();
        while at.len() < 3 {
            match dump.next().unwrap() {
                Next::Event(found) => {
                    assert_eq!((found.bytes, found.wants_ack), (&events[at.len()][..], before.len() == 3));
                    at.push((found.offset, found.bytes.len()));
                }
                Next::Dry => drop(dump.fill().await.unwrap()),
                Next::Long(_) => panic!("a long event"),
            }
        }
        let frame = dump.take_frame();
        for (i, (offset, length)) in at.into_iter().enumerate() {
            assert_eq!(frame[offset..offset + length], events[i]);
        }
        assert_eq!(dump.next().unwrap(), Next::Dry);
        let error = dump.fill().await.unwrap_err();
        assert!(error.is_transient() && error.to_string().contains("not even a heartbeat"), "{error:?}");
    }
}

#[tokio::test]
async fn a_long_event_comes_whole_or_in_parts() {
    for whole in [true, false] {
        for before in [vec![0], vec![0, command::SEMI_SYNC, 0]] {
            let (mut dump, far) = dump(before.len() == 3);
            let long = event(20_000_000);
            let sent = [before, long.clone()].concat();
            let writer = tokio::spawn(async move {
                let mut far = far;
                send(&mut far, &[sent]).await;
                far
            });
            loop {
                match dump.next().unwrap() {
                    Next::Dry => drop(dump.fill().await.unwrap()),
                    Next::Event(_) => panic!("a short event"),
                    Next::Long(found) => {
                        assert!(found.head.len() >= 19 && long.starts_with(found.head) && !found.wants_ack);
                        break;
                    }
                }
            }
            assert!(dump.take_frame().is_empty());
            let found = if whole {
                dump.whole_event().await.unwrap().to_vec()
            } else {
                let mut found = Vec::new();
                while let Some(part) = dump.event_part().await.unwrap() {
                    found.extend_from_slice(&part);
                    if found.len() < long.len() {
                        assert!(dump.next().is_err(), "in the middle of an event");
                    }
                }
                found
            };
            assert!(found == long);
            drop(writer.await.unwrap());
            assert_eq!(dump.next().unwrap(), Next::Dry);
        }
    }
}

#[tokio::test]
async fn ends_of_a_dump() {
    for (payload, class, number) in [
        (
            b"\xff\xd4\x04#HY000Could not find first log file name in binary log index file".to_vec(),
            Class::Lost,
            Some(1236),
        ),
        (b"\xff\x87\x07#70100Connection was killed".to_vec(), Class::Transient, Some(1927)),
        (vec![0xfe, 0, 0, 2, 0], Class::Transient, None),
        (vec![0xfe], Class::Transient, None),
        (vec![7, 7, 7], Class::Transient, None),
        (Vec::new(), Class::Transient, None),
    ] {
        for semi_sync in [false, true] {
            let (mut dump, mut far) = dump(semi_sync);
            send(&mut far, std::slice::from_ref(&payload)).await;
            dump.fill().await.unwrap();
            let error = dump.next().unwrap_err();
            assert_eq!((error.class(), code(&error)), (class, number), "{error:?}");
        }
    }
}

#[test]
fn a_server_of_each_kind_is_told_who_we_are() {
    let replica = Replica { server_id: 7, uuid: "u-u".into() };
    let options = DumpOptions { heartbeat: Duration::from_secs(10), semi_sync: true };
    let [mysql, mariadb] =
        [Flavor::MySql, Flavor::MariaDb].map(|flavor| settings(flavor, &replica, &options, true).join(";"));
    for sql in [&mysql, &mariadb] {
        assert!(sql.contains("@master_heartbeat_period = 10000000000, @source_heartbeat_period = 10000000000"));
        assert!(
            sql.contains("@slave_uuid = 'u-u', @replica_uuid = 'u-u'") && sql.contains("@rpl_semi_sync_replica = 1")
        );
    }
    assert!(mariadb.contains("@mariadb_slave_capability = 4") && !mysql.contains("mariadb"));
}
