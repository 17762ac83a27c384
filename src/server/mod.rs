//! What others reach of a running pipeline.
//!
//! Invariants:
//! - It reads the pipeline and asks it; the pipeline knows nothing of it and never waits for it.
//! - Whatever a client sends, it costs no more than the limits named beside it, and no other client notices.

pub mod grpc;
pub mod http;
