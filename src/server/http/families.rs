//! Every family of metrics: its name, unit, labels and help, and how its samples are read.
//!
//! Invariants:
//! - Names are Prometheus': `walbrook_`, lower case, base units (seconds, bytes) as the last word, counters end with
//!   `_total`.
//! - How many series there are is bounded: a table, a sink and a consumer each add a fixed number, and of tables there are
//!   [`crate::flow::TABLES_MAX`] at most.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::health;
use super::process::{self, Figures};
use crate::error::Class;
use crate::flow::{ByClass, Failures, Histogram, Measure, Member, Observed, Phase, Progress, Role, Totals, Unit};
use crate::record::{ByOperation, Counted, Lineage, Operation};
use crate::source;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
    Info,
}

pub enum Value {
    Count(u64),
    Number(f64),
    /// Each bound with how many are in its bucket.
    Histogram {
        sum: f64,
        buckets: Vec<(f64, u64)>,
    },
}

/// The values of the family's labels, and the sample.
type Samples = Vec<(Vec<String>, Value)>;

pub struct Family {
    /// Without the unit and `_total`.
    pub name: Cow<'static, str>,
    pub kind: Kind,
    pub unit: Option<Unit>,
    pub labels: Vec<&'static str>,
    pub help: Cow<'static, str>,
    pub samples: Box<dyn Fn(&View) -> Samples>,
}

/// What a family is called in full, for documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    pub name: String,
    pub kind: &'static str,
    pub labels: Vec<&'static str>,
    pub help: String,
}

/// All families there can be, in the order of the page.
pub fn described() -> Vec<Described> {
    let described = families().into_iter().map(|family| {
        let unit = match family.unit {
            None => "",
            Some(Unit::Bytes) => "_bytes",
            Some(Unit::Seconds) => "_seconds",
        };
        let (kind, end) = match family.kind {
            Kind::Counter => ("counter", "_total"),
            Kind::Gauge => ("gauge", ""),
            Kind::Histogram => ("histogram", ""),
            Kind::Info => ("info", "_info"),
        };
        let name = format!("{}{unit}{end}", family.name);
        Described { name, kind, labels: family.labels, help: family.help.into_owned() }
    });
    described.collect()
}

/// What is read once a scrape, for all families.
#[derive(Debug)]
pub struct View {
    progress: Arc<Progress>,
    members: Vec<Arc<Member>>,
    totals: Totals,
    lineage: Option<Lineage>,
    seen: Option<Observed>,
    figures: Figures,
    now_unix_micros: u64,
}

impl View {
    pub fn of(progress: &Arc<Progress>) -> View {
        View {
            progress: progress.clone(),
            members: progress.members(),
            totals: progress.traffic.totals(),
            lineage: progress.lineage(),
            seen: progress.observation(),
            figures: process::figures(),
            now_unix_micros: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_micros() as u64),
        }
    }
}

impl Family {
    fn new(
        name: impl Into<Cow<'static, str>>,
        kind: Kind,
        unit: Option<Unit>,
        labels: Vec<&'static str>,
        help: impl Into<Cow<'static, str>>,
        samples: impl Fn(&View) -> Samples + 'static,
    ) -> Family {
        Family { name: name.into(), kind, unit, labels, help: help.into(), samples: Box::new(samples) }
    }
}

/// A family without labels.
fn plain(
    name: &'static str,
    kind: Kind,
    unit: Option<Unit>,
    help: &'static str,
    value: fn(&View) -> Option<Value>,
) -> Family {
    let samples = move |view: &View| value(view).map(|value| (Vec::new(), value)).into_iter().collect();
    Family::new(name, kind, unit, Vec::new(), help, samples)
}

fn count(value: u64) -> Option<Value> {
    Some(Value::Count(value))
}

fn flag(is: bool) -> Value {
    Value::Count(u64::from(is))
}

const BYTES: Option<Unit> = Some(Unit::Bytes);
const SECONDS: Option<Unit> = Some(Unit::Seconds);

pub fn families() -> Vec<Family> {
    use Kind::{Counter, Gauge, Info};
    let mut all = vec![
        Family::new("walbrook_build", Info, None, vec!["version"], "What is running", |_| {
            vec![(vec![env!("CARGO_PKG_VERSION").to_owned()], Value::Count(1))]
        }),
        Family::new(
            "walbrook_source",
            Info,
            None,
            vec!["kind", "system", "timeline", "database", "stream"],
            "Whose log is read",
            |view| {
                let whose = view.lineage.iter();
                let labels =
                    whose.map(|l| [&l.kind, &l.system, &l.timeline, &l.database, &l.stream].map(String::clone));
                labels.map(|labels| (labels.to_vec(), Value::Count(1))).collect()
            },
        ),
        plain("walbrook_ready", Gauge, None, "1 when /readyz answers 200", |view| {
            Some(flag(health::readiness(&view.progress).yes))
        }),
        Family::new(
            "walbrook_phase",
            Gauge,
            None,
            vec!["phase"],
            "1 for what the pipeline does: starting, snapshot, stream, draining",
            |view| {
                let now = view.progress.phase();
                Phase::ALL.map(|phase| (vec![phase.name().to_owned()], flag(phase == now))).into()
            },
        ),
        traffic("walbrook_events", None, "Records read, by table and operation", |counted| counted.records),
        traffic(
            "walbrook_event_row",
            BYTES,
            "Bytes of rows read, as they lie in the log, by table and operation",
            |counted| counted.bytes,
        ),
        plain("walbrook_transactions", Counter, None, "Transactions read", |view| count(view.totals.transactions)),
    ];
    all.extend(source_families());
    all.extend(source::measures().map(measured));
    all.extend(snapshot_families());
    all.extend(member_families(Role::Sink, "sink"));
    all.extend(member_families(Role::Consumer, "consumer"));
    all.extend([
        plain("walbrook_budget", Gauge, BYTES, "What all rows in flight may take", |view| {
            count(view.progress.budget()?.total_bytes() as u64)
        }),
        plain("walbrook_budget_used", Gauge, BYTES, "What rows in flight take; at the budget, reading waits", |view| {
            count(view.progress.budget()?.used_bytes() as u64)
        }),
        by_class("walbrook_store_errors", "Failed writes of the offset store, by class", |view| {
            &view.progress.store.errors
        }),
        plain("walbrook_store_failing", Gauge, None, "1 while the offset store cannot be written", |view| {
            Some(flag(view.progress.store.current().is_some()))
        }),
    ]);
    all.extend(process_families());
    all
}

fn traffic(name: &'static str, unit: Option<Unit>, help: &'static str, value: fn(Counted) -> u64) -> Family {
    let samples = move |view: &View| {
        let source = view.lineage.as_ref().map_or("", |lineage| lineage.kind.as_str());
        let sample = |table: &str, operation: Operation, counted: Counted| {
            let labels = [source, table, operation.name()].map(str::to_owned).to_vec();
            (counted.records > 0).then(|| (labels, Value::Count(value(counted))))
        };
        let of_table = |(table, counts): &(String, ByOperation)| -> Samples {
            let by_operation = Operation::ALL.into_iter().zip(counts);
            by_operation.filter_map(|(operation, counted)| sample(table, operation, *counted)).collect()
        };
        let mut samples: Samples = view.totals.tables.iter().flat_map(of_table).collect();
        samples.extend(sample("", Operation::Message, view.totals.messages));
        samples
    };
    Family::new(name, Kind::Counter, unit, vec!["source", "table", "operation"], help, samples)
}

fn by_class(name: &'static str, help: &'static str, counts: fn(&View) -> &ByClass) -> Family {
    let samples = move |view: &View| -> Samples {
        let counts = counts(view);
        Class::ALL.map(|class| (vec![class.name().to_owned()], Value::Count(counts.of(class)))).into()
    };
    Family::new(name, Kind::Counter, None, vec!["class"], help, samples)
}

fn known(bytes: u64) -> Option<Value> {
    (bytes > 0).then_some(Value::Count(bytes))
}

fn source_families() -> Vec<Family> {
    use Kind::{Counter, Gauge};
    vec![
        plain("walbrook_source_log_read", Counter, BYTES, "Bytes of log read", |view| {
            count(view.progress.stream_bytes.get())
        }),
        plain("walbrook_source_log_end", Gauge, BYTES, "Where the server's log ends, as a byte position", |view| {
            known(view.progress.end_bytes())
        }),
        plain("walbrook_source_log_position", Gauge, BYTES, "How far the log has been read", |view| {
            known(view.progress.read_end_bytes.get())
        }),
        plain(
            "walbrook_source_confirmed",
            Gauge,
            BYTES,
            "Up to where every sink is durable and the position is stored, as a byte position of the log",
            |view| known(view.progress.bytes_of(&view.progress.confirmed()?)?),
        ),
        plain(
            "walbrook_source_lag",
            Gauge,
            BYTES,
            "Bytes of log that the server has and that are not confirmed",
            |view| {
                let confirmed = view.progress.bytes_of(&view.progress.confirmed()?)?;
                count(view.progress.end_bytes().saturating_sub(confirmed))
            },
        ),
        plain(
            "walbrook_source_last_commit_timestamp",
            Gauge,
            SECONDS,
            "When the transaction read last was committed, by the server's clock",
            |view| Some(Value::Number(view.progress.last_commit_unix_micros()? as f64 / 1e6)),
        ),
        plain(
            "walbrook_source_look_age",
            Gauge,
            SECONDS,
            "How long ago the server was asked about its log; every second when all is well",
            |view| Some(Value::Number(view.seen.as_ref()?.age_ms() as f64 / 1e3)),
        ),
        plain("walbrook_source_connected", Gauge, None, "0 while the source fails and is tried again", |view| {
            let failing = view.progress.source.current().is_some() || view.progress.phase() == Phase::Starting;
            Some(flag(!failing))
        }),
        by_class(
            "walbrook_source_errors",
            "Failures of the source, by class; each is followed by a reconnect or the end",
            |view| &view.progress.source.errors,
        ),
        by_class("walbrook_source_reconnects", "Failures of the source that were tried again, by class", |view| {
            &view.progress.source.reconnects
        }),
        by_class("walbrook_look_errors", "Failures to ask the server about its log, by class", |view| {
            &view.progress.observer.errors
        }),
        by_class(
            "walbrook_reconnects",
            "Failures of the source, of sinks and of consumers' lanes that were tried again, all together, by class",
            |view| &view.progress.reconnects,
        ),
    ]
}

/// What only the source knows the meaning of.
fn measured(measure: &'static Measure) -> Family {
    let samples = move |view: &View| -> Samples {
        let seen = view.seen.iter().flat_map(|seen| &seen.observation.readings);
        let readings = seen.filter(|reading| std::ptr::eq(reading.measure, measure) || reading.measure == measure);
        let labels = |label: &str| measure.label.map(|_| label.to_owned()).into_iter().collect();
        readings.map(|reading| (labels(reading.label), Value::Number(reading.value))).collect()
    };
    let labels = measure.label.into_iter().collect();
    Family::new(format!("walbrook_source_{}", measure.name), Kind::Gauge, measure.unit, labels, measure.help, samples)
}

fn snapshot_families() -> Vec<Family> {
    use Kind::{Counter, Gauge};
    vec![
        plain("walbrook_snapshot_tables", Gauge, None, "Tables to snapshot in this run", |view| {
            count(view.progress.snapshot_tables.get())
        }),
        plain("walbrook_snapshot_tables_done", Gauge, None, "Tables whose rows are all read", |view| {
            count(view.progress.snapshot_tables_done.get())
        }),
        plain(
            "walbrook_snapshot_rows_estimate",
            Gauge,
            None,
            "Rows that the tables hold, by the server's statistics",
            |view| count(view.progress.snapshot_rows_estimate.get()),
        ),
        plain("walbrook_snapshot_rows", Counter, None, "Rows of snapshots read", |view| {
            count(view.progress.snapshot_rows.get())
        }),
        plain("walbrook_snapshot_read", Counter, BYTES, "Bytes of snapshots read", |view| {
            count(view.progress.snapshot_bytes.get())
        }),
    ]
}

/// Sinks and consumers have the same series, each under its own name.
fn member_families(role: Role, noun: &'static str) -> Vec<Family> {
    use Kind::{Counter, Gauge};
    let whose = match role {
        Role::Sink => "the sink",
        // A client's own are not known here.
        Role::Consumer => "what catches the consumer up",
    };
    let family = |name: &str, kind, unit, help: &str, value: fn(&View, &Member) -> Option<Value>| {
        let samples = move |view: &View| -> Samples {
            let members = view.members.iter().filter(|member| member.role == role);
            members.filter_map(|member| Some((vec![member.name.clone()], value(view, member)?))).collect()
        };
        Family::new(format!("walbrook_{noun}_{name}"), kind, unit, vec![noun], help.replace("{}", noun), samples)
    };
    let by_class = |name: &str, help: &str, counts: fn(&Failures) -> &ByClass| {
        let samples = move |view: &View| -> Samples {
            let members = view.members.iter().filter(|member| member.role == role);
            let classes = members.flat_map(|member| Class::ALL.map(|class| (member, class)));
            let sample = |(member, class): (&Arc<Member>, Class)| {
                let labels = vec![member.name.clone(), class.name().to_owned()];
                (labels, Value::Count(counts(&member.failures).of(class)))
            };
            classes.map(sample).collect()
        };
        let (name, help) = (format!("walbrook_{noun}_{name}"), help.replace("{}", whose));
        Family::new(name, Counter, None, vec![noun, "class"], help, samples)
    };
    vec![
        family("records", Counter, None, "Records given to the {}", |_, member| count(member.records.get())),
        family("queue_batches", Gauge, None, "Batches that wait for the {} or are being written", |_, member| {
            count(member.queued() as u64)
        }),
        family(
            "position",
            Gauge,
            BYTES,
            "Up to where the {} is durable, as a byte position of the log",
            |view, member| count(view.progress.bytes_of(&member.position()?)?),
        ),
        family(
            "lag",
            Gauge,
            BYTES,
            "Bytes of log that the server has and the {} does not hold durably",
            |view, member| count(member.lag(&view.progress)?),
        ),
        family(
            "lag",
            Gauge,
            SECONDS,
            "Age of the commit that the {} got durable last, 0 when it has all of the log",
            |view, member| {
                if member.lag(&view.progress) == Some(0) {
                    return Some(Value::Number(0.0));
                }
                let age = view.now_unix_micros.saturating_sub(member.last_commit_unix_micros()?);
                Some(Value::Number(age as f64 / 1e6))
            },
        ),
        family(
            "commit_to_durable",
            Kind::Histogram,
            SECONDS,
            match role {
                Role::Sink => {
                    "Of each transaction: from its commit, by the server's clock, until it was durable at the {}, by ours"
                }
                Role::Consumer => {
                    "Of each transaction: from its commit, by the server's clock, until the {} had acknowledged it, by \
                     ours; the sum is exact, a bucket may hold one that took half as long as it says"
                }
            },
            |_, member| Some(histogram(&member.commit_to_durable_micros, 1e6)),
        ),
        family(
            "durable_lag",
            Kind::Histogram,
            BYTES,
            "Bytes of log behind it that the server had whenever something became durable at the {}",
            |_, member| Some(histogram(&member.lag_bytes, 1.0)),
        ),
        family("paused", Gauge, None, "1 while an operator has the {} paused", |_, member| {
            Some(flag(member.is_paused()))
        }),
        family("failing", Gauge, None, "1 while the {} fails and is tried again", |_, member| {
            Some(flag(member.failures.current().is_some()))
        }),
        by_class("errors", "Failures of {}, by class; each is followed by a reconnect or the end", |failures| {
            &failures.errors
        }),
        by_class("reconnects", "Failures of {} that were tried again, by class", |failures| &failures.reconnects),
    ]
}

/// `per_unit`: how many of what was observed make a base unit.
fn histogram(histogram: &Histogram, per_unit: f64) -> Value {
    let scaled = |bound: Option<u64>| bound.map_or(f64::INFINITY, |bound| bound as f64 / per_unit);
    let buckets = histogram.buckets().map(|(bound, count)| (scaled(bound), count)).collect();
    Value::Histogram { sum: histogram.sum() as f64 / per_unit, buckets }
}

/// As Prometheus' own clients name them.
fn process_families() -> Vec<Family> {
    use Kind::{Counter, Gauge};
    vec![
        plain("process_cpu", Counter, SECONDS, "User and system time", |view| {
            view.figures.cpu_seconds.map(Value::Number)
        }),
        plain("process_resident_memory", Gauge, BYTES, "Resident memory", |view| {
            view.figures.resident_bytes.map(Value::Number)
        }),
        plain("process_virtual_memory", Gauge, BYTES, "Virtual memory", |view| {
            view.figures.virtual_bytes.map(Value::Number)
        }),
        plain("process_open_fds", Gauge, None, "Open file descriptors", |view| {
            view.figures.open_fds.map(Value::Number)
        }),
        plain("process_max_fds", Gauge, None, "How many there may be", |view| view.figures.max_fds.map(Value::Number)),
        plain("process_start_time", Gauge, SECONDS, "When the process was started, since 1970-01-01 UTC", |view| {
            view.figures.start_unix_s.map(Value::Number)
        }),
    ]
}
