//! A backend's stream of messages, and what is in its CopyData.
#![no_main]

use libfuzzer_sys::fuzz_target;
use walbrook_fuzz::wire::pg::{frame, replication};

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Ok(Some(message)) = frame::next(rest) {
        assert!(message.total_bytes >= frame::HEADER_BYTES && message.total_bytes <= rest.len());
        if message.tag == frame::tag::COPY_DATA {
            let _ = replication::parse(message.body);
        }
        rest = &rest[message.total_bytes..];
    }
    let _ = replication::parse(bytes);
});
