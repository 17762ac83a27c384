//! Generates `walbrook::proto` from `proto/`, in Rust alone: nobody who builds needs `protoc`.

use std::{env, error, fs, path};

use prost::Message as _;

const FILES: [&str; 3] = ["walbrook/v1/types.proto", "walbrook/v1/stream.proto", "walbrook/v1/admin.proto"];

fn main() -> Result<(), Box<dyn error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = path::PathBuf::from(env::var("OUT_DIR")?);
    // What reflection serves; its comments are the documentation, so they stay in it.
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // Bytes of a message are parts of the buffer it was read from.
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
