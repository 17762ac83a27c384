//! The messages and services of `proto/walbrook/v1`, generated at build time.
//!
//! Invariants:
//! - The `.proto` files are the source; a test holds the numbers of their fields still.
//! - What is sent in bulk is encoded by [`crate::encode`] by hand, and read with these types in its tests.

/// The files with their comments, as a serialized `google.protobuf.FileDescriptorSet`: for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Package `walbrook.v1`.
#[expect(clippy::all, clippy::pedantic, reason = "generated")]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/walbrook.v1.rs"));
}
