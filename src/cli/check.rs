//! `check` and `discover`: what the server and the sinks say, without streaming.

use std::path::Path;

use serde_json::{Value, json};

use super::{build, offsets, report};
use crate::config::Config;
use crate::error::{Error, Finding, Level, Result};
use crate::offset::{Checkpoint, OffsetStore, RocksStore};
use crate::record::{Lineage, Position};
use crate::source::tables::Added;
use crate::source::{Rows, Source, Stored, Verdict};

/// Every prerequisite of source, sinks and store, a line each. The exit code: 0 when all hold, else 1.
pub async fn check(config: &Config, as_json: bool) -> Result<u8> {
    let mut findings = source_findings(config).await?;
    for spec in build::sinks(config)? {
        let mut sink = spec.sink;
        let guarantee = sink.capabilities().guarantee;
        findings.push(Finding::ok(format!("sink {}", spec.name), format!("delivers {guarantee}")));
        findings.extend(sink.check().await);
    }
    if let Some(dir) = &config.state_dir {
        findings.push(store_finding(dir));
    }
    let problems = findings.iter().filter(|finding| finding.level == Level::Problem).count();
    if as_json {
        let findings: Vec<Value> = findings.iter().map(to_json).collect();
        report::answer_json(&json!({ "ok": problems == 0, "findings": findings }))?;
    } else {
        let lines: Vec<String> = findings.iter().map(line).collect();
        let verdict = match problems {
            0 => "every prerequisite holds".to_owned(),
            1 => "1 problem".to_owned(),
            many => format!("{many} problems"),
        };
        report::answer(&format!("{}{verdict}\n", lines.concat()))?;
    }
    Ok(u8::from(problems > 0))
}

async fn source_findings(config: &Config) -> Result<Vec<Finding>> {
    let checkpoint = config.state_dir.as_deref().map_or_else(Checkpoint::default, checkpoint);
    let added = Added::default();
    added.set(&checkpoint.orders.added);
    let mut source = build::source(&config.source, &added)?;
    // What cannot be read of it is found again, and said, by the one who goes on from there.
    let interrupted = source.interrupted(Rows::All, &checkpoint.state).unwrap_or_default();
    let needed = offsets::needed(&checkpoint, interrupted);
    let stored = checkpoint.lineage.as_ref().map(|lineage| Stored {
        lineage,
        needed: needed.as_ref(),
        state: &checkpoint.state,
    });
    let mut findings = match source.check(stored).await {
        Ok(findings) => findings,
        Err(error) => return Ok(vec![unreachable_source(&error)]),
    };
    if let (Some(lineage), Some(position)) = (&checkpoint.lineage, &needed) {
        findings.push(stored_position(&mut *source, lineage, position).await);
    }
    if let Err(error) = source.close(None).await {
        tracing::debug!(?error, "leaving the source");
    }
    Ok(findings)
}

/// What the store holds, if there is one that can be read.
fn checkpoint(dir: &Path) -> Checkpoint {
    if !dir.join("offsets").exists() {
        return Checkpoint::default();
    }
    RocksStore::open_read_only(dir).and_then(|store| store.load()).unwrap_or_default()
}

/// Whether the next start can go on.
async fn stored_position(source: &mut dyn Source, lineage: &Lineage, position: &Position) -> Finding {
    let subject = "stored position";
    let verdict = async {
        source.lineage().await?;
        source.retention(lineage, position).await
    };
    match verdict.await {
        Ok(Verdict::Valid) => Finding::ok(subject, format!("the server covers {position}")),
        Ok(lost) => {
            let remedy = "on_lost_position: resnapshot starts over with a snapshot; or bring the log back";
            Finding::problem(subject, lost.to_string(), remedy)
        }
        Err(error) => {
            let message = report::explain(&error).trim_start_matches("error: ").to_owned();
            Finding::warning(subject, message, "the server could not be asked whether it covers it; see above")
        }
    }
}

/// Not even a connection: the sinks are still worth checking.
fn unreachable_source(error: &Error) -> Finding {
    let explained = report::explain(error);
    let message = explained.split("\n  remedy: ").next().unwrap_or(&explained).trim_start_matches("error: ");
    let remedy = error.remedy_text().unwrap_or("check host, port and network from here to the server");
    Finding::problem("connection", message, remedy)
}

fn store_finding(dir: &Path) -> Finding {
    let subject = "state_dir";
    if dir.join("offsets").exists() {
        return match RocksStore::open_read_only(dir) {
            Ok(_) => Finding::ok(subject, format!("{} holds a store that can be read", dir.display())),
            Err(error) => {
                let remedy = error.remedy_text().unwrap_or("see `walbrook offsets show`").to_owned();
                Finding::problem(subject, format!("{error:?}"), remedy)
            }
        };
    }
    let existing = dir.ancestors().map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path });
    match existing.filter_map(|path| Some((path, path.metadata().ok()?))).next() {
        Some((path, metadata)) if !metadata.is_dir() => {
            Finding::problem(subject, format!("{} is not a directory", path.display()), "name another state_dir")
        }
        Some((path, metadata)) if metadata.permissions().readonly() => {
            let message = format!("{} may not be written", path.display());
            Finding::problem(subject, message, "name a state_dir that this user may write")
        }
        _ => Finding::ok(subject, format!("{} is new: the first start is a cold one", dir.display())),
    }
}

fn level(finding: &Finding) -> &'static str {
    match finding.level {
        Level::Ok => "ok",
        Level::Warning => "warning",
        Level::Problem => "problem",
    }
}

fn to_json(finding: &Finding) -> Value {
    let Finding { subject, message, remedy, .. } = finding;
    json!({ "level": level(finding), "subject": subject, "message": message, "remedy": remedy })
}

fn line(finding: &Finding) -> String {
    let message = finding.message.replace('\n', "\n           ");
    let mut line = format!("{:<8} {}: {message}\n", level(finding), finding.subject);
    if let Some(remedy) = &finding.remedy {
        line += &format!("{:<8} -> {}\n", "", remedy.replace('\n', "\n            "));
    }
    line
}

pub async fn discover(config: &Config) -> Result<()> {
    let mut source = build::source(&config.source, &Added::default())?;
    let found = source.discover().await?;
    if let Err(error) = source.close(None).await {
        tracing::debug!(?error, "leaving the source");
    }
    report::answer_json(&found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_and_its_remedy() {
        let problem = Finding::problem("wal_level", "is replica", "ALTER SYSTEM SET wal_level = logical;");
        assert_eq!(
            line(&problem),
            "problem  wal_level: is replica\n         -> ALTER SYSTEM SET wal_level = logical;\n"
        );
        assert_eq!(line(&Finding::ok("version", "17.2")), "ok       version: 17.2\n");
        assert_eq!(to_json(&problem)["remedy"], "ALTER SYSTEM SET wal_level = logical;");
    }

    #[test]
    fn an_unreachable_server_is_a_problem_with_its_chain() {
        let error = Error::transient("connecting to db:5432").because("refused").remedy("start it");
        let finding = unreachable_source(&error);
        assert_eq!((finding.level, finding.remedy.as_deref()), (Level::Problem, Some("start it")));
        assert_eq!(finding.message, "connecting to db:5432\n  because: refused");
    }

    #[test]
    fn a_state_dir_below_a_file_is_a_problem() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert_eq!(store_finding(&dir.path().join("file/state")).level, Level::Problem);
        assert_eq!(store_finding(&dir.path().join("new/state")).level, Level::Ok);
    }
}
