use super::*;
use proptest::prelude::*;
use tokio::net::UnixStream;

use crate::wire::mysql::protocol::packet::MAX_PAYLOAD_BYTES;

fn pair() -> (Transport, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    (Transport::new(Stream::Unix(near), 0), far)
}

fn body(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 + seed) as u8).collect()
}

/// Packets of these lengths, one exchange.
fn packets(lengths: &[usize]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut sequence = 0;
    for (i, length) in lengths.iter().enumerate() {
        sequence = packet::write(&body(*length, i), sequence, &mut bytes);
    }
    bytes
}

/// How a long payload is taken.
#[derive(Clone, Copy, Debug)]
enum Long {
    Whole,
    Parts,
}

/// Sends payloads of these lengths in pieces of this size, and reads them back in frames, which are kept until the end.
async fn through(lengths: Vec<usize>, piece_bytes: usize, long: Long) {
    let (mut transport, mut far) = pair();
    let sent = packets(&lengths);
    let writer = tokio::spawn(async move {
        for piece in sent.chunks(piece_bytes) {
            far.write_all(piece).await.unwrap();
        }
        far
    });
    let (mut found, mut pending, mut kept) = (0, Vec::new(), Vec::new());
    let take = |transport: &mut Transport, pending: &mut Vec<(usize, Range<usize>)>, kept: &mut Vec<(usize, Bytes)>| {
        let frame = transport.take_frame();
        kept.extend(pending.drain(..).map(|(i, at)| (i, frame.slice(at))));
    };
    while found < lengths.len() {
        match transport.scan().unwrap() {
            Scanned::Payload(at) => {
                assert_eq!(transport.input()[at.clone()], body(lengths[found], found));
                pending.push((found, at));
                found += 1;
            }
            Scanned::Dry => {
                take(&mut transport, &mut pending, &mut kept);
                transport.fill().await.unwrap();
            }
            Scanned::Long(at) => {
                assert!(at.len() >= LONG_HEAD_BYTES);
                assert_eq!(transport.input()[at.clone()], body(at.len(), found));
                take(&mut transport, &mut pending, &mut kept);
                // As if three bytes before an event were ours alone.
                let whole = match long {
                    Long::Whole => transport.whole(3, lengths[found]).await.unwrap(),
                    Long::Parts => {
                        let mut whole = Vec::new();
                        while let Some(part) = transport.part(3).await.unwrap() {
                            assert!(!part.is_empty() && part.len() <= READ_BUFFER_BYTES);
                            whole.extend_from_slice(&part);
                        }
                        whole.into()
                    }
                };
                assert!(whole == body(lengths[found], found)[3..], "{} bytes", lengths[found]);
                assert!(transport.input.capacity() <= READ_BUFFER_BYTES);
                found += 1;
            }
        }
    }
    take(&mut transport, &mut pending, &mut kept);
    // What was kept did not change under later reads.
    for (i, payload) in kept {
        assert_eq!(payload, body(lengths[i], i));
    }
    drop(writer.await.unwrap());
    assert!(transport.fill().await.unwrap_err().is_transient(), "the end of the stream");
}

#[tokio::test]
async fn payloads_of_several_packets_are_joined() {
    let limit = MAX_PAYLOAD_BYTES;
    for long in [Long::Whole, Long::Parts] {
        through(vec![10, limit, 7, limit + 1, 5, limit - 1, 2 * limit + 9, 1], 1 << 20, long).await;
        through(vec![LONG_PAYLOAD_BYTES - 1, LONG_PAYLOAD_BYTES, LONG_PAYLOAD_BYTES + 1, 0, 1], 77_777, long).await;
    }
}

#[tokio::test]
async fn a_cancelled_read_loses_nothing() {
    let (mut transport, mut far) = pair();
    let lengths = [100, MAX_PAYLOAD_BYTES + 500_000, 8];
    let sent = packets(&lengths);
    let writer = tokio::spawn(async move {
        for (i, piece) in sent.chunks(1 << 20).enumerate() {
            if i % 4 == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            far.write_all(piece).await.unwrap();
        }
        far
    });
    let mut cancelled = 0;
    for (i, length) in lengths.into_iter().enumerate() {
        let payload = loop {
            match timeout(Duration::from_millis(3), transport.payload()).await {
                Ok(payload) => break payload.unwrap(),
                Err(_) => cancelled += 1,
            }
        };
        assert!(payload == body(length, i), "{length} bytes");
    }
    assert!(cancelled > 2);
    drop(writer.await.unwrap());
}

#[tokio::test]
async fn a_packet_out_of_order_ends_it() {
    let (mut transport, mut far) = pair();
    far.write_all(&[1, 0, 0, 0, 0, 1, 0, 0, 2, 0]).await.unwrap();
    transport.payload().await.unwrap();
    let error = transport.payload().await.unwrap_err();
    assert!(error.is_transient() && format!("{error:?}").contains("out of order"), "{error:?}");
}

#[tokio::test]
async fn a_server_that_speaks_before_tls_is_not_believed() {
    let (mut transport, mut far) = pair();
    far.write_all(&[1, 0, 0, 0, 0, 9]).await.unwrap();
    transport.payload().await.unwrap();
    assert!(transport.into_stream().err().unwrap().is_transient());
}

#[tokio::test]
async fn memory_is_taken_as_bytes_come() {
    let (mut transport, mut far) = pair();
    // Says that 16 MB follow, and stops.
    let writer = tokio::spawn(async move {
        far.write_all(&[0xff, 0xff, 0xff, 0]).await.unwrap();
        far.write_all(&body(400_000, 0)).await.unwrap();
        far
    });
    assert!(timeout(Duration::from_millis(100), transport.payload()).await.is_err());
    drop(writer.await.unwrap());
    let long = transport.long.as_ref().unwrap();
    assert_eq!(long.joined.len(), 400_000);
    assert!(long.joined.capacity() <= 2 * FIRST_LONG_ROOM_BYTES, "{}", long.joined.capacity());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_byte_arrives(
        lengths in prop::collection::vec(prop_oneof![8 => 0usize..300, 2 => 0usize..70_000, 1 => 0usize..600_000], 1..60),
        piece_bytes in 1_000usize..400_000,
        parts: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(through(lengths, piece_bytes, if parts { Long::Parts } else { Long::Whole }));
    }
}
