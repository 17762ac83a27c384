//! What a sink can be configured as. A new sink is one file (or folder) and two lines here: a variant, and its arm in
//! [`SinkConfig::build`].

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::null::{NullConfig, NullSink};
use super::stdout::{StdoutConfig, StdoutSink};
use super::{Batching, Sink};
use crate::encode::{JsonEncoder, JsonOptions};
use crate::error::Result;
use crate::quantity::{ByteSize, Span};

/// Where the records go.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", remote = "Self")]
pub enum SinkConfig {
    Stdout(StdoutConfig),
    Null(NullConfig),
}

impl<'de> Deserialize<'de> for SinkConfig {
    /// As derived, but that `type: null`, which YAML reads as no value at all, is the null sink.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let mut keys = serde_json::Map::deserialize(deserializer)?;
        if let Some(kind) = keys.get_mut("type").filter(|kind| kind.is_null()) {
            *kind = "null".into();
        }
        SinkConfig::deserialize(serde_json::Value::Object(keys)).map_err(D::Error::custom)
    }
}

impl SinkConfig {
    /// Builds the sink; `name` is what errors and findings call it. Errors: `Config`.
    pub fn build(&self, name: &str) -> Result<Box<dyn Sink>> {
        Ok(match self {
            SinkConfig::Stdout(config) => {
                let encoder = JsonEncoder::new(JsonOptions { transactions: config.transactions });
                Box::new(StdoutSink::new(name, config, encoder))
            }
            SinkConfig::Null(config) => Box::new(NullSink::new(config)),
        })
    }
}

/// Sinks whose flush costs nothing: it follows every write while nothing more is queued, and under load it comes once for
/// 4 MiB (a sixteenth of the default memory budget, so that what waits for a flush never holds it) or for as many small
/// records as these are in practice.
pub(super) const DEFAULT_BATCHING: Batching =
    Batching { max_records: 100_000, max_bytes: 4 << 20, max_delay_ms: 200, flush_when_idle: true };

/// `default` with what the config says; a zero counts as one, so that every limit is one.
pub(super) fn batching_of(
    default: Batching,
    records: Option<usize>,
    bytes: Option<ByteSize>,
    delay: Option<Span>,
) -> Batching {
    Batching {
        max_records: records.unwrap_or(default.max_records).max(1),
        max_bytes: bytes.map_or(default.max_bytes, |size| usize::try_from(size.0).unwrap_or(usize::MAX)).max(1),
        max_delay_ms: delay.map_or(default.max_delay_ms, Span::as_millis),
        flush_when_idle: default.flush_when_idle,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the config file holds it: the sink's keys beside its name.
    #[derive(Debug, Deserialize)]
    struct Named {
        name: String,
        #[serde(flatten)]
        sink: SinkConfig,
    }

    #[test]
    fn a_sink_reads_from_yaml_beside_its_name() {
        let named: Named =
            serde_saphyr::from_str("{ name: eyes, type: null, batch_bytes: 1MiB, batch_delay: 5ms }").unwrap();
        assert_eq!(named.name, "eyes");
        let batching = named.sink.build("eyes").unwrap().batching();
        assert_eq!((batching.max_bytes, batching.max_delay_ms), (1 << 20, 5));
        assert_eq!(batching.max_records, DEFAULT_BATCHING.max_records);
    }

    #[test]
    fn an_unknown_key_or_type_is_an_error_that_names_it() {
        for (yaml, word) in [
            ("{ name: a, type: null, rotat: 1GiB }", "rotat"),
            ("{ name: a, type: kafak }", "kafak"),
            ("{ name: a, type: null, batch_delay: 5 }", "duration"),
        ] {
            let error = serde_saphyr::from_str::<Named>(yaml).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn every_key_is_documented_in_the_schema() {
        fn walk(value: &serde_json::Value, undocumented: &mut Vec<String>) {
            if let Some(properties) = value.get("properties").and_then(|properties| properties.as_object()) {
                for (key, property) in properties {
                    if key != "type" && property.get("description").is_none() {
                        undocumented.push(key.clone());
                    }
                }
            }
            match value {
                serde_json::Value::Object(map) => map.values().for_each(|value| walk(value, undocumented)),
                serde_json::Value::Array(list) => list.iter().for_each(|value| walk(value, undocumented)),
                _ => {}
            }
        }
        let schema = serde_json::to_value(schemars::schema_for!(SinkConfig)).unwrap();
        let mut undocumented = Vec::new();
        walk(&schema, &mut undocumented);
        assert_eq!(undocumented, Vec::<String>::new(), "{schema:#}");
        assert!(schema.to_string().contains("batch_delay"));
    }
}
