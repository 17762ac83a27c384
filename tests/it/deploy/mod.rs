//! What is deployed: as far as tools can be had, the files under `deploy/` are checked by those who will read them.

mod examples;
mod image;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{project, skip, walbrook};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn passes(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = text(&stdout) + &text(&stderr);
    assert!(status.success(), "{command:?}: {said}");
    said
}

/// The programs of a Python with these packages; none, and a skip, where they cannot be had.
pub fn python(requirements: &str, what: &str) -> Option<PathBuf> {
    let output = Command::new(project("tests/env/python")).arg(project(requirements)).output().expect("it runs");
    if !output.status.success() {
        skip(&format!("{what}: {}", text(&output.stderr).trim()));
        return None;
    }
    Some(text(&output.stdout).trim().into())
}

fn linter(name: &str, what: &str) -> Option<Command> {
    Some(Command::new(python("tests/env/linters.txt", what)?.join(name)))
}

fn has(program: &str, what: &str) -> bool {
    let here = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().expect("a shell").status;
    if !here.success() {
        skip(&format!("{what}: {program} is not here"));
    }
    here.success()
}

#[test]
fn the_image_is_made_as_hadolint_would() {
    let Some(mut hadolint) = linter("hadolint", "the Dockerfile") else { return };
    passes(hadolint.arg(project("deploy/Dockerfile")));
}

#[test]
fn the_compose_file_is_one() {
    let Some(mut check) = linter("check-jsonschema", "the compose file") else { return };
    passes(check.args(["--builtin-schema", "vendor.compose-spec"]).arg(project("deploy/compose.yaml")));
}

#[test]
fn the_kubernetes_manifests_are_valid() {
    let Some(mut validate) = linter("kubernetes-validate", "the Kubernetes manifests") else { return };
    passes(validate.arg("--strict").arg(project("deploy/kubernetes/sidecar.yaml")));
}

/// `systemd-analyze security` counts from 0 (all that can be taken away is) to 100.
const EXPOSURE_MAX: &str = "15";

#[test]
fn the_unit_is_valid_and_hardened() {
    if !has("systemd-analyze", "the systemd unit") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("walbrook.service");
    let shipped = std::fs::read_to_string(project("deploy/systemd/walbrook.service")).unwrap();
    // Its program is installed nowhere here.
    std::fs::write(&unit, shipped.replace("/usr/local/bin/walbrook", env!("CARGO_BIN_EXE_walbrook"))).unwrap();
    passes(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit));
    passes(
        Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--threshold", EXPOSURE_MAX])
            .arg(&unit)
            .env("PAGER", "cat"),
    );
}

/// Exit code 2 is that of a wrong configuration; that no server answers is another matter.
fn accepted(command: &mut Command) {
    let Output { status, stderr, .. } = command.output().expect("it runs");
    assert_ne!(status.code(), Some(2), "{command:?}: {}", text(&stderr));
    assert!(status.code().is_some(), "{command:?}");
}

#[test]
fn the_shipped_configurations_are_accepted() {
    let manifests = std::fs::read_to_string(project("deploy/kubernetes/sidecar.yaml")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("walbrook.yaml");
    let map: Value = serde_saphyr::from_str(manifests.split("\n---").next().unwrap()).unwrap();
    let yaml = map["data"]["walbrook.yaml"].as_str().expect("a file in the ConfigMap");
    let tls = dir.path().to_str().unwrap();
    certificate(dir.path());
    std::fs::write(&config, yaml.replace("/etc/walbrook-tls", tls).replace(":5432", ":1")).unwrap();
    let mut check = walbrook();
    accepted(check.arg("check").arg("--config").arg(&config).env("TOKEN", "0123456789abcdef"));

    let compose: Value =
        serde_saphyr::from_str(&std::fs::read_to_string(project("deploy/compose.yaml")).unwrap()).unwrap();
    let mut sidecars = 0;
    for (name, service) in compose["services"].as_object().unwrap() {
        let Some(environment) = service["environment"].as_object() else { continue };
        let settings = environment.iter().chain(environment.get("<<").and_then(Value::as_object).into_iter().flatten());
        let settings: Vec<_> = settings.filter(|(key, _)| key.starts_with("WALBROOK_")).collect();
        if settings.is_empty() {
            continue;
        }
        sidecars += 1;
        let mut check = walbrook();
        check.arg("check").envs(settings.iter().map(|(key, value)| (key, value.as_str().expect("a text"))));
        check.env("WALBROOK_STATE_DIR", dir.path().join(name));
        accepted(&mut check);
    }
    assert_eq!(sidecars, 2, "one next to each database");
}

fn certificate(dir: &Path) {
    passes(
        Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"])
            .args(["-subj", "/CN=walbrook", "-keyout", "tls.key", "-out", "tls.crt"])
            .current_dir(dir),
    );
}
