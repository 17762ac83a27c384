//! The image's last stage without Docker: the program, its C library, a folder for its state, and nothing else; read-only,
//! as the image's user, and with no way back to more rights.

use std::process::Command;

use tempfile::TempDir;

use super::{passes, text};
use crate::source::{Program, eventually};
use crate::support::{Server, Version, free_port, skip};

/// What `gcr.io/distroless/cc` has besides certificates and time zones, and our program may need.
const IMAGE_LIBRARIES: [&str; 8] = [
    "linux-vdso.so.1",
    "libc.so.6",
    "libm.so.6",
    "libgcc_s.so.1",
    "libstdc++.so.6",
    "libpthread.so.0",
    "libdl.so.2",
    "ld-linux-x86-64.so.2",
];

struct Root(TempDir);

impl Root {
    /// None, and a skip, where nothing can be mounted.
    fn new() -> Option<Root> {
        let program = env!("CARGO_BIN_EXE_walbrook");
        let libraries = passes(Command::new("ldd").arg(program));
        let root = tempfile::tempdir().unwrap();
        let place = |path: &str| {
            let to = root.path().join(path.trim_start_matches('/'));
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            to
        };
        for line in libraries.lines() {
            let mut words = line.split_whitespace();
            let name = words.next().expect("a library");
            let short = name.rsplit('/').next().unwrap_or(name);
            assert!(IMAGE_LIBRARIES.contains(&short), "the image has no {short}");
            if let Some(path) = line.split_whitespace().find(|word| word.starts_with('/')) {
                std::fs::copy(path, place(path)).unwrap();
            }
        }
        std::fs::copy(program, place("/usr/local/bin/walbrook")).unwrap();
        std::fs::create_dir_all(root.path().join("var/lib/walbrook")).unwrap();
        if !Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success()) {
            skip("the image's root: mounting wants root");
            return None;
        }
        Some(Root(root))
    }

    /// The process that starts becomes the program. Its mounts end with it.
    fn enter(&self, arguments: &str) -> Command {
        let script = format!(
            "set -e; mount --bind {0} {0}; mount -t tmpfs -o uid=65532,mode=0700 tmpfs {0}/var/lib/walbrook
             mount -o remount,bind,ro {0}
             exec setpriv --no-new-privs \\
               chroot --userspec=65532:65532 {0} /usr/local/bin/walbrook {arguments}",
            self.0.path().display()
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script]).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command
    }
}

#[test]
fn the_program_runs_in_an_empty_read_only_root() {
    let Some(root) = Root::new() else { return };
    let enters = |arguments: &str| root.enter(arguments).output().expect("unshare runs");
    let version = enters("--version");
    assert_eq!(text(&version.stdout).trim(), concat!("walbrook ", env!("CARGO_PKG_VERSION")), "{version:?}");
    // It makes its store, which is all that it writes; then nobody answers.
    let tail = enters("tail postgres://nobody@127.0.0.1:1/none --state-dir /var/lib/walbrook/state --slot s");
    assert_eq!(tail.status.code(), Some(1), "{tail:?}");
    assert!(text(&tail.stderr).contains("127.0.0.1:1"), "{tail:?}");
    let health = enters("health 127.0.0.1:1");
    assert_eq!(health.status.code(), Some(1), "{health:?}");
    assert!(text(&health.stderr).contains("http.listen"), "{health:?}");
}

/// As the compose file does it: all settings in the environment, a consumer in a container of its own, the health check
/// of the image, and a stop.
#[test]
fn a_sidecar_and_its_consumer_live_in_that_root() {
    let Some(root) = Root::new() else { return };
    let Some(server) = Server::get(Version::V17) else { return };
    let database = server.database("image");
    database.psql("create table t (id int primary key); insert into t values (1)");
    let [grpc, http] = [(); 2].map(|()| format!("127.0.0.1:{}", free_port()));
    let mut run = root.enter("run");
    run.env("WALBROOK_SOURCE__URL", database.url()).env("WALBROOK_SOURCE__SLOT", database.name());
    run.env("WALBROOK_STATE_DIR", "/var/lib/walbrook");
    run.env("WALBROOK_GRPC__LISTEN", &grpc).env("WALBROOK_HTTP__LISTEN", &http);
    let sidecar = Program::start(run);
    let health = |option: &str| root.enter(&format!("health {option} {http}")).output().expect("unshare runs");
    eventually("it is ready", || health("--ready").status.success());
    let alive = health("");
    assert_eq!((alive.status.code(), text(&alive.stdout).as_str()), (Some(0), "alive\n"), "{alive:?}");
    let consumer = format!("subscribe {grpc} --consumer printer --from snapshot --limit 1");
    let rows = Program::start(root.enter(&consumer)).end().ok();
    assert_eq!(rows[0]["after"]["id"], 1, "{rows:?}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", sidecar.id())).unwrap();
    for line in ["Uid:\t65532\t65532\t65532\t65532", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{line:?} in {status}");
    }
    sidecar.stop().ok();
    assert_eq!(health("").status.code(), Some(1));
}
