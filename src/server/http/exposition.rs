//! The page of metrics: OpenMetrics text, made anew at every scrape.
//!
//! Invariants:
//! - Nothing is registered anywhere: each family says how its samples are read off [`Progress`].
//! - A family without samples is not there.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::{Registry, Unit as MetricUnit};

use super::families::{Family, Kind, Value, View, families};
use crate::flow::{Progress, Unit};

/// # Errors
/// Those of writing to a text, that is none.
pub fn render(progress: &Arc<Progress>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page(View::of(progress))));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Page(View);

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for family in families() {
            let samples = (family.samples)(&self.0);
            if samples.is_empty() {
                continue;
            }
            let unit = family.unit.map(|unit| match unit {
                Unit::Bytes => MetricUnit::Bytes,
                Unit::Seconds => MetricUnit::Seconds,
            });
            let mut metric = encoder.encode_descriptor(&family.name, &family.help, unit.as_ref(), of(family.kind))?;
            for (values, value) in samples {
                debug_assert_eq!(values.len(), family.labels.len(), "{}", family.name);
                encode_sample(&mut metric, &family, &values, &value)?;
            }
        }
        Ok(())
    }
}

fn of(kind: Kind) -> MetricType {
    match kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
        Kind::Info => MetricType::Info,
    }
}

fn encode_sample(metric: &mut MetricEncoder, family: &Family, values: &[String], value: &Value) -> fmt::Result {
    let labels: Vec<(&str, &str)> = family.labels.iter().copied().zip(values.iter().map(String::as_str)).collect();
    if family.kind == Kind::Info {
        return metric.encode_info(&labels);
    }
    if labels.is_empty() {
        return encode_value(metric, family.kind, value);
    }
    encode_value(&mut metric.encode_family(&labels)?, family.kind, value)
}

fn encode_value(metric: &mut MetricEncoder, kind: Kind, value: &Value) -> fmt::Result {
    const NO_EXEMPLAR: Option<&Exemplar<NoLabelSet, f64>> = None;
    match (kind, value) {
        (Kind::Counter, Value::Count(count)) => metric.encode_counter(count, NO_EXEMPLAR),
        (Kind::Counter, Value::Number(number)) => metric.encode_counter(number, NO_EXEMPLAR),
        (_, Value::Count(count)) => metric.encode_gauge(count),
        (_, Value::Number(number)) => metric.encode_gauge(number),
        (_, Value::Histogram { sum, buckets }) => {
            let count = buckets.iter().map(|(_, count)| count).sum();
            metric.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)
        }
    }
}
