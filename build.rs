//! Generates `walbrook::proto` from `proto/`, in Rust alone: nobody who builds needs `protoc`.

use std::{env, error, fs, path, process};

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
    link_cxx_statically();
    Ok(())
}

/// The little that RocksDB uses of the C++ library goes into the program: as a library of its own it takes 1 MiB of an idle
/// process, and has to be there. Where the compiler has no static one, or the linker wants it behind its users, it stays
/// a library.
fn link_cxx_statically() {
    const LIBRARY: &str = "libstdc++.a";
    if env::var("TARGET").ok() != env::var("HOST").ok() {
        return;
    }
    let found = process::Command::new("g++").arg(format!("-print-file-name={LIBRARY}")).output();
    let path = found.ok().and_then(|found| String::from_utf8(found.stdout).ok()).unwrap_or_default();
    // One that is not found is printed as it was asked for.
    if let Some(folder) = path::Path::new(path.trim()).parent().filter(|folder| folder.is_absolute()) {
        println!("cargo::rustc-link-search=native={}", folder.display());
        println!("cargo::rustc-link-lib=static:-bundle=stdc++");
        // Nobody else is to find it in the program: what is not used of it is left out.
        println!("cargo::rustc-link-arg-bins=-Wl,--exclude-libs={LIBRARY}");
    }
}
